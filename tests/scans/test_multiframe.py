"""Enhanced CT: many slices in one file, read as if each had its own."""

import numpy as np
import pydicom
import pytest
from placed import CT_HU, SPACING_MM, write_enhanced

from lungct import LungError
from lungct.scans.dicom import find_parts, find_series, open_series
from lungct.scans.find import dicom_jobs, open_job
from lungct.scans.hu import PADDING_HU
from lungct.scans.multiframe import FRAME, read_frame_headers


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


def test_high_padding_is_below_air(tmp_path):
    padded = CT_HU.copy()
    padded[:, 0] = 32767 - 1024
    write_enhanced(tmp_path / "a.dcm", padded)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    dataset.add_new("PixelPaddingValue", "SS", 32767)
    dataset.save_as(tmp_path / "a.dcm")
    padded[:, 0] = PADDING_HU
    np.testing.assert_array_equal(open_one(tmp_path).read(), padded)


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
