"""Enhanced CT: many slices in one file, read as if each had its own."""

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage

from lungct import LungError
from lungct.phantom.lidc_tree import write_series
from lungct.scans.dicom import find_parts, find_series, open_series
from lungct.scans.find import dicom_jobs, open_job
from lungct.scans.lidc import LidcScan
from lungct.scans.multiframe import FRAME, read_frame_headers

WHO = LidcScan("P1", "1.2.3", "1.2.3.4")
SPACING_MM = (2.5, 0.7, 0.9)
CT_HU = np.random.default_rng(1).integers(-1024, 1000, (6, 8, 10)).astype(np.int16)
PLAIN_TAGS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "RescaleSlope")


def item(**tags) -> Sequence:
    dataset = Dataset()
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    return Sequence([dataset])


def write_enhanced(path, ct_hu=CT_HU, order=None, orientation=(1, 0, 0, 0, 1, 0), phases=1, slopes=(1, 1)):
    """One file; `order` gives the slice in each frame, `slopes` those of even and odd frames."""
    write_series(path.parent / "one", WHO, ct_hu[:1], SPACING_MM)
    dataset = pydicom.dcmread(path.parent / "one" / "1-001.dcm")
    (path.parent / "one" / "1-001.dcm").unlink()
    for tag in (*PLAIN_TAGS, "RescaleIntercept"):
        delattr(dataset, tag)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    shared = Dataset()
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=list(orientation))
    shared.PixelMeasuresSequence = item(PixelSpacing=list(SPACING_MM[1:]), SliceThickness=SPACING_MM[0])
    shared.CTImageFrameTypeSequence = item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    frames, pixels = [], []
    for number, k in enumerate(list(order or range(len(ct_hu))) * phases):
        own, slope = Dataset(), slopes[number % 2]
        own.PlanePositionSequence = item(ImagePositionPatient=[0, 0, SPACING_MM[0] * k])
        own.PixelValueTransformationSequence = item(RescaleSlope=slope, RescaleIntercept=-1024)
        own.FrameContentSequence = item(TemporalPositionIndex=1 + number // len(ct_hu))
        frames.append(own)
        pixels.append((ct_hu[k].astype(int) + 1024) // slope)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    dataset.NumberOfFrames = len(frames)
    dataset.PixelData = np.stack(pixels).astype("<i2").tobytes()
    dataset.save_as(path)


def open_one(folder):
    (files,) = find_series(folder).values()
    return open_series(files)


def test_frames_are_sorted_by_their_places_and_in_hu(tmp_path):
    write_enhanced(tmp_path / "a.dcm", order=[3, 0, 5, 1, 4, 2])
    scan = open_one(tmp_path)
    np.testing.assert_array_equal(scan.read(), CT_HU)
    np.testing.assert_array_equal(scan.read([4]), CT_HU[4:5])
    np.testing.assert_array_equal(scan.frame.z_mm, 2.5 * np.arange(6))
    assert (scan.frame.spacing_mm, scan.patient_id, scan.series_uid) == (SPACING_MM, "P1", "1.2.3.4")
    assert scan.warnings == ()


def test_headers_of_frames_count_from_one_and_places_in_the_file_from_zero(tmp_path):
    write_enhanced(tmp_path / "a.dcm")
    headers = read_frame_headers(tmp_path / "a.dcm")
    assert [header.integer("InstanceNumber") for header in headers] == [1, 2, 3, 4, 5, 6]
    assert [header.text(FRAME) for header in headers] == list("012345")
    assert {header.text("NumberOfFrames") for header in headers} == {"1"}


def test_each_frame_has_its_own_slope(tmp_path):
    even = CT_HU // 2 * 2
    write_enhanced(tmp_path / "a.dcm", even, slopes=(1, 2))
    np.testing.assert_array_equal(open_one(tmp_path).read(), even)


def test_frames_of_a_prone_patient_are_turned(tmp_path):
    write_enhanced(tmp_path / "a.dcm", CT_HU[:, ::-1, ::-1], orientation=(-1, 0, 0, 0, -1, 0))
    np.testing.assert_array_equal(open_one(tmp_path).read(), CT_HU)


def test_phases_in_a_file_are_apart(tmp_path):
    write_enhanced(tmp_path / "a.dcm", phases=2)
    (files,) = find_series(tmp_path).values()
    assert [len(part) for part in find_parts(files)] == [6, 6]
    assert "TemporalPositionIdentifier 2, not 1" in open_series(files).warnings[0]


def test_it_is_a_scan_like_any_other(tmp_path):
    write_enhanced(tmp_path / "a.dcm")
    (job,), skipped = dicom_jobs(tmp_path)
    assert (job.scan, skipped, set(job.files)) == ("P1", [], {tmp_path / "a.dcm"})
    np.testing.assert_array_equal(open_job(job).read(), CT_HU)


def test_a_file_that_does_not_place_its_frames_is_refused(tmp_path):
    write_enhanced(tmp_path / "a.dcm")
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    del dataset.PerFrameFunctionalGroupsSequence
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(LungError, match=r"a\.dcm: a multi-frame file that does not say"):
        open_one(tmp_path)
    write_enhanced(tmp_path / "a.dcm")
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    del dataset.SharedFunctionalGroupsSequence
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(LungError, match=r"a\.dcm: no ImageOrientationPatient, PixelSpacing in the header"):
        open_one(tmp_path)
