"""Right and left lung of masks that tell them apart: as marked, in every format; and none where a file does not say."""

import nibabel
import numpy as np
import pytest
from placed import write_scan

from lungct.masks.read_sides import read_sides, side_of
from lungct.masks.segments import SIDES
from lungct.masks.source import DicomMask
from lungct.masks.write_dicom import seg_bytes
from lungct.masks.write_nifti import nifti_bytes
from lungct.masks.write_nrrd import nrrd_bytes
from lungct.masks.write_rtstruct import rtstruct_bytes
from lungct.scans.dicom import find_series, open_series
from lungct.slices import LEFT, RIGHT

WRITE = {
    "a_sides.nii.gz": lambda labels, scan: nifti_bytes(labels, scan.frame, SIDES),
    "a.seg.nrrd": lambda labels, scan: nrrd_bytes(labels, scan.frame, SIDES),
    "a.seg.dcm": lambda labels, scan: seg_bytes(DicomMask(labels, scan, "0", SIDES)),
    "a.rtstruct.dcm": lambda labels, scan: rtstruct_bytes(DicomMask(labels, scan, "0", SIDES)),
}
WHOLE = {
    "a.nii.gz": lambda lung, scan: nifti_bytes(lung, scan.frame),
    "a.seg.nrrd": lambda lung, scan: nrrd_bytes(lung, scan.frame),
    "a.seg.dcm": lambda lung, scan: seg_bytes(DicomMask(lung, scan, "0")),
    "a.rtstruct.dcm": lambda lung, scan: rtstruct_bytes(DicomMask(lung, scan, "0")),
}


@pytest.fixture
def scan(tmp_path):
    write_scan(tmp_path / "ct", "prone")
    return open_series(*find_series(tmp_path / "ct").values())


def two_lungs(scan) -> np.ndarray:
    """A right and a left lung of different places and sizes."""
    labels = np.zeros((len(scan), *scan.frame.shape), np.uint8)
    labels[:-1, 3:20, 2:9] = RIGHT
    labels[1:, 5:18, 11:22] = LEFT
    return labels


@pytest.mark.parametrize("name", WRITE)
@pytest.mark.parametrize("kept", [(RIGHT, LEFT), (LEFT,)])
def test_sides_come_back_as_they_were_written(scan, tmp_path, name, kept):
    labels = two_lungs(scan)
    labels[~np.isin(labels, kept)] = 0
    (tmp_path / name).write_bytes(WRITE[name](labels, scan))
    found, warnings = read_sides(tmp_path / name, scan)
    np.testing.assert_array_equal(found, labels)
    assert (found.dtype, warnings) == (np.uint8, ())


@pytest.mark.parametrize("name", WHOLE)
def test_a_mask_of_one_lung_has_no_sides(scan, tmp_path, name):
    (tmp_path / name).write_bytes(WHOLE[name](two_lungs(scan) > 0, scan))
    assert read_sides(tmp_path / name, scan) is None


@pytest.mark.parametrize("name", WRITE)
def test_an_empty_mask_has_no_sides(scan, tmp_path, name):
    (tmp_path / name).write_bytes(WRITE[name](np.zeros_like(two_lungs(scan)), scan))
    assert read_sides(tmp_path / name, scan) is None


def test_values_without_names_are_not_taken_for_sides(scan, tmp_path):
    labels = two_lungs(scan)
    (tmp_path / "a.nii.gz").write_bytes(nifti_bytes(labels, scan.frame, SIDES))  # 1 and 2 may be anything
    assert read_sides(tmp_path / "a.nii.gz", scan) is None
    image = nibabel.load(tmp_path / "a.nii.gz")
    lobes = nibabel.Nifti1Image(np.asarray(image.dataobj) * 2, image.affine)  # 2 and 4
    nibabel.save(lobes, tmp_path / "lobes_sides.nii.gz")
    assert read_sides(tmp_path / "lobes_sides.nii.gz", scan) is None
    content = nrrd_bytes(labels, scan.frame, SIDES)
    for change in ((b"Name:=Left lung", b"Name:=Left tumour"), (b"1_LabelValue:=2", b"1_LabelValue:=7")):
        assert change[0] in content
        (tmp_path / "a.seg.nrrd").write_bytes(content.replace(*change))
        assert read_sides(tmp_path / "a.seg.nrrd", scan) is None


@pytest.mark.parametrize(
    ("name", "side"),
    [
        *(("Right lung", RIGHT), ("Lung_R", RIGHT), ("R Lung", RIGHT), ("lung_upper_lobe_right", RIGHT)),
        *(("Left lung", LEFT), ("Lung_L", LEFT), ("Lung-Left", LEFT), ("lung_lower_lobe_left", LEFT)),
        *(("Lungs", None), ("Lung", None), ("left and right lung", None), ("Lung R+L", None), ("Right kidney", None)),
        ("Right lung nodule", None),
    ],
)
def test_names_of_sides(name, side):
    assert side_of(name) == side
