"""Masks in every format, and the kept mask that they are made from later."""

import gzip
from dataclasses import replace

import numpy as np
import pytest

from lungct import LungError
from lungct.masks.write import (
    ANONYMOUS,
    FORMATS,
    NPY,
    LungMask,
    encode_masks,
    keep_bytes,
    kept_checksum,
    kept_ct,
    kind_of,
    mask_checksum,
    read_kept,
    slice_checksums,
)
from lungct.phantom.lidc_tree import write_series
from lungct.scans.dicom import as_dicom, find_series, open_series
from lungct.scans.geometry import Frame
from lungct.scans.lidc import LidcScan
from lungct.scans.nifti import read_volume
from lungct.settings import BY_ATTRIBUTE

SHAPE = (5, 40, 60)
UNSURE_CM2 = np.arange(5, dtype=np.float32)
CT_HU = np.zeros(SHAPE, np.int16)


def no_dicom():
    raise LungError("no DICOM; none here")


@pytest.fixture
def mask() -> LungMask:
    """Two lungs, boxes on the right and on the left, of which the last slice has none."""
    lung = np.zeros(SHAPE, bool)
    lung[:4, 10:30, 5:25] = True
    lung[:4, 10:30, 35:55] = True
    corners_mm = np.array([[-110.0, -30.0, 2.5 * z] for z in range(5)])
    return LungMask(
        lung, Frame(corners_mm, np.eye(3)[:2], (2.5, 3.0, 4.0), SHAPE[1:]), no_dicom, "0123456789abcdef", UNSURE_CM2
    )


def test_the_setting_offers_what_there_is():
    assert BY_ATTRIBUTE["save"].choices == (NPY, *(kind for kind in FORMATS if kind not in ANONYMOUS.values()))


def test_right_and_left_lie_in_a_file_of_their_own(mask, tmp_path):
    files, flags, failed = encode_masks(mask, ["nifti", "sides"], "A")
    assert (list(files), flags, failed) == (["A.nii.gz", "A_sides.nii.gz"], [], ())
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    np.testing.assert_array_equal(read_volume(tmp_path / "A.nii.gz")[0], mask.lung)
    sides, frame = read_volume(tmp_path / "A_sides.nii.gz")
    assert set(np.unique(sides[..., :30])) == {0, 1}
    assert set(np.unique(sides[..., 30:])) == {0, 2}
    np.testing.assert_array_equal(sides > 0, mask.lung)
    np.testing.assert_allclose(frame.corners_mm, mask.frame.corners_mm)


def test_dicom_seg_refers_to_the_scan_and_says_where_there_is_none(mask, tmp_path):
    files, flags, failed = encode_masks(mask, ["dicom-seg", "nifti"], "A")
    assert (list(files), flags, failed) == (["A.nii.gz"], ["no .seg.dcm: no DICOM, none here"], ("dicom-seg",))
    write_series(tmp_path, LidcScan("P", "1.2", "1.2.3"), np.zeros(SHAPE, np.int16), mask.frame.spacing_mm)
    scan = open_series(*find_series(tmp_path).values())
    files, flags, failed = encode_masks(replace(mask, dicom=lambda: as_dicom(scan)), ["dicom-seg"], "A")
    assert (list(files), flags, failed) == (["A.seg.dcm"], [], ())
    assert files["A.seg.dcm"][128:132] == b"DICM"


def test_slices_at_unequal_steps_are_flagged_for_each_format_that_cannot_hold_them(mask):
    z_mm = [0, 2.5, 5, 9, 15]
    corners_mm = np.array([[0, 0, z] for z in z_mm])
    uneven = replace(mask, frame=replace(mask.frame, corners_mm=corners_mm))
    files, flags, failed = encode_masks(uneven, ["nifti", "sides"], "A")
    assert (files, failed) == ({}, ())
    assert [flag.split(":")[0] for flag in flags] == ["no .nii.gz", "no _sides.nii.gz"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.nii.gz", "nifti"),
        ("a.nii", "nifti"),
        ("A.NII.GZ", "nifti"),
        ("a_sides.nii.gz", "sides"),
        ("a_sides.nii", "sides"),
        ("a.seg.dcm", "dicom-seg"),
        ("a_anonymous.seg.dcm", "dicom-seg-anonymous"),
        ("a.rtstruct.dcm", "rtstruct"),
        ("a_anonymous.rtstruct.dcm", "rtstruct-anonymous"),
    ],
)
def test_the_ending_of_a_name_chooses_the_format(tmp_path, name, kind):
    assert kind_of(tmp_path / name) == kind


@pytest.mark.parametrize("name", ["a.dcm", "a.npy", "nii", "a"])
def test_other_endings_are_told_with_those_that_there_are(tmp_path, name):
    with pytest.raises(
        LungError, match=r"give one of \*\.nii, \*\.nii\.gz, \*_sides\.nii\.gz, \*\.seg\.nrrd, \*\.seg\.dcm"
    ):
        kind_of(tmp_path / name)


def test_a_kept_mask_is_read_back_and_the_same_for_the_same_mask(mask, tmp_path):
    path, checksum = tmp_path / "mask.npz", mask_checksum(mask.lung)
    path.write_bytes(keep_bytes(mask.lung, UNSURE_CM2, CT_HU))
    assert keep_bytes(mask.lung, UNSURE_CM2, CT_HU) == path.read_bytes()
    assert kept_checksum(path) == checksum
    lung, unsure_cm2 = read_kept(path, checksum)
    assert lung.dtype == bool
    np.testing.assert_array_equal(lung, mask.lung)
    np.testing.assert_array_equal(unsure_cm2, UNSURE_CM2)


def test_a_kept_mask_of_another_checksum_or_damaged_is_none(mask, tmp_path):
    path, checksum = tmp_path / "mask.npz", mask_checksum(mask.lung)
    content = keep_bytes(mask.lung, UNSURE_CM2, CT_HU)
    other = mask.lung.copy()
    other[0, 0, 0] = True
    path.write_bytes(keep_bytes(other, UNSURE_CM2, CT_HU))
    assert read_kept(path, checksum) is None
    for damaged in (b"", content[:100], content[:-60], gzip.compress(content), content.replace(b"packed", b"edited")):
        path.write_bytes(damaged)
        assert read_kept(path, checksum) is None
    path.unlink()
    assert read_kept(path, checksum) is None
    assert kept_checksum(path) == ""
    assert kept_ct(path) == []


def test_a_kept_mask_knows_its_ct_again_slice_by_slice(mask, tmp_path):
    path, other = tmp_path / "mask.npz", CT_HU.copy()
    path.write_bytes(keep_bytes(mask.lung, UNSURE_CM2, CT_HU))
    assert kept_ct(path) == slice_checksums(CT_HU)
    other[3, 7, 8] += 1
    same = [a == b for a, b in zip(kept_ct(path), slice_checksums(other), strict=True)]
    assert same == [True, True, True, False, True]
    assert slice_checksums(CT_HU[:1]) != slice_checksums(CT_HU.reshape(5, 60, 40)[:1])


def test_masks_of_another_shape_have_another_checksum(mask):
    assert mask_checksum(mask.lung) != mask_checksum(mask.lung.reshape(5, 60, 40))
