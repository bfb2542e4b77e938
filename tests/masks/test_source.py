"""Which DICOM files a mask was made from, and what a SEG or RTSTRUCT takes over of them."""

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from placed import SPACING_MM, WHO

from lungct import LungError
from lungct.masks.segments import SIDES
from lungct.masks.source import DicomMask, copy_identity, find_scan, read_sources, series_below
from lungct.phantom.lidc_tree import write_series
from lungct.scans.dicom import find_series, open_series

SHAPE = (5, 24, 32)
NAMED = {
    "PatientName": "Müller^Jürgen",
    "PatientBirthDate": "19500131",
    "PatientSex": "M",
    "PatientAge": "070Y",
    "StudyDate": "20200229",
    "StudyTime": "101112",
    "StudyID": "S-77",
    "StudyDescription": "Thorax",
    "AccessionNumber": "A-1234",
    "ReferringPhysicianName": "House^G",
    "InstitutionName": "Somewhere General",
    "OtherPatientIDs": "999-secret",
    "SpecificCharacterSet": "ISO_IR 100",
}


def write_scan(folder, **tags):
    """A scan with names in its headers, or with `tags`."""
    write_series(folder, WHO, np.zeros(SHAPE, np.int16), SPACING_MM, **{**NAMED, **tags})
    return open_series(*find_series(folder).values())


def test_what_is_not_below_or_of_two_patients_is_told(tmp_path):
    write_series(tmp_path / "a", WHO, np.zeros(SHAPE, np.int16), SPACING_MM)
    frame = open_series(*find_series(tmp_path / "a").values()).frame
    with pytest.raises(
        LungError,
        match=r"holds no series 9\.9 any more; give the folder of its files: python model_test\.py --dicom DIR",
    ):
        find_scan(tmp_path / "a", "9.9", frame)
    write_series(tmp_path / "b", replace(WHO, patient_id="P2"), np.zeros(SHAPE, np.int16), SPACING_MM)
    with pytest.raises(LungError, match=r"series 1\.2\.3\.4 is of 2 patients or studies"):
        find_scan(tmp_path, WHO.series_uid, frame)


def test_of_two_grids_in_a_series_that_of_the_prediction_is_found(tmp_path):
    write_series(tmp_path / "whole", WHO, np.zeros(SHAPE, np.int16), SPACING_MM)
    whole = open_series(*find_series(tmp_path / "whole").values())
    write_series(tmp_path / "near", WHO, np.zeros(SHAPE, np.int16), (2.5, 0.4, 0.4))
    near = open_series(*find_series(tmp_path / "near").values())
    for scan in (whole, near):
        assert find_scan(tmp_path, WHO.series_uid, scan.frame).files == scan.files
    write_series(tmp_path / "again", WHO, np.ones(SHAPE, np.int16), (2.5, 0.4, 0.4), AcquisitionNumber=2)
    series_below.cache_clear()
    with pytest.raises(LungError, match=r"2 scans of series .* have the slices"):
        find_scan(tmp_path, WHO.series_uid, near.frame)
    elsewhere = replace(near.frame, corners_mm=near.frame.corners_mm + 50)
    with pytest.raises(LungError, match=r"0 scans of series .* have the slices"):
        find_scan(tmp_path, WHO.series_uid, elsewhere)


def test_the_patient_and_the_study_are_taken_over_in_utf_8(tmp_path):
    first = read_sources(write_scan(tmp_path), anonymous=False)[0]
    copied = copy_identity(first)
    assert copied.SpecificCharacterSet == "ISO_IR 192"
    assert str(copied.PatientName) == "Müller^Jürgen"
    for name in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyID", "AccessionNumber", "StudyDescription"):
        assert copied[name].value == NAMED[name]
    assert (copied.PatientID, copied.StudyInstanceUID) == (WHO.patient_id, WHO.study_uid)


def test_an_anonymous_header_keeps_the_id_and_the_study_and_no_more(tmp_path):
    scan = write_scan(tmp_path)
    for source in read_sources(scan, anonymous=True):
        shown = str(source)
        told = [name for name, value in NAMED.items() if value in shown and len(value) > 1]
        assert set(told) <= {"SpecificCharacterSet"}
        assert (source.PatientID, source.StudyInstanceUID) == (WHO.patient_id, WHO.study_uid)
        assert source.PatientSex == source.AccessionNumber == source.StudyDate == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [("PatientBirthDate", "19501399"), ("StudyDate", "yesterday"), ("StudyTime", "99:99"), ("PatientSex", "UNKNOWN")],
)
def test_what_an_archive_would_refuse_is_left_empty(tmp_path, name, value):
    write_scan(tmp_path)
    for path in tmp_path.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset[name] = pydicom.DataElement(name, dataset[name].VR, value, validation_mode=pydicom.config.IGNORE)
        with pydicom.config.disable_value_validation():
            dataset.save_as(path)
    sources = read_sources(open_series(*find_series(tmp_path).values()), anonymous=False)
    assert sources[0][name].value == ""
    assert sources[0].AccessionNumber == "A-1234"


def test_slices_with_a_frame_of_reference_each_get_one(tmp_path):
    """So are all scans of LIDC-IDRI."""
    write_scan(tmp_path)
    for number, path in enumerate(sorted(tmp_path.glob("*.dcm"))):
        dataset = pydicom.dcmread(path)
        dataset.FrameOfReferenceUID = f"1.9.{number}"
        dataset.save_as(path)
    sources = read_sources(open_series(*find_series(tmp_path).values()), anonymous=False)
    assert {source.FrameOfReferenceUID for source in sources} == {"1.9.0"}


def test_uids_follow_from_the_scan_the_mask_and_what_is_made(tmp_path):
    scan = write_scan(tmp_path)
    mask = np.zeros(SHAPE, bool)
    other = mask.copy()
    other[1, 2, 3] = True
    shifted = replace(scan, frame=replace(scan.frame, corners_mm=scan.frame.corners_mm + 1))
    uids = [
        DicomMask(mask, scan, "w").derive_uid("SEG"),
        DicomMask(other, scan, "w").derive_uid("SEG"),
        DicomMask(mask, scan, "w2").derive_uid("SEG"),
        DicomMask(mask, scan, "w").derive_uid("RTSTRUCT"),
        DicomMask(mask, shifted, "w").derive_uid("SEG"),
        DicomMask(mask, scan, "w", anonymous=True).derive_uid("SEG"),
    ]
    assert len(set(uids)) == 6
    assert DicomMask(mask.copy(), scan, "w").derive_uid("SEG") == uids[0]


def test_masks_of_another_scan_and_sides_as_one_lung_are_refused(tmp_path):
    scan = write_scan(tmp_path)
    with pytest.raises(LungError, match="5 slices of \\(24, 32\\), but the masks are \\(4, 24, 32\\)"):
        DicomMask(np.zeros((4, 24, 32), np.uint8), scan, "w")
    sides = np.full(SHAPE, 2, np.uint8)
    with pytest.raises(LungError, match="the value 2"):
        DicomMask(sides, scan, "w")
    DicomMask(sides, scan, "w", SIDES)
