"""Masks made elsewhere: file names, formats, codes and shapes."""

import nibabel
import numpy as np
import pytest
import SimpleITK

from lungct import LungError
from lungct.masks.read import find_label, read_label

SHAPE = (3, 5, 7)


@pytest.fixture
def mask() -> np.ndarray:
    return np.random.default_rng(1).random(SHAPE) > 0.5


def test_every_format_gives_the_same_mask(tmp_path, mask):
    np.save(tmp_path / "a.npy", mask.astype(np.uint8))
    np.savez(tmp_path / "b.npz", lung=mask, spacing_mm=(1, 2, 3))
    nifti = nibabel.Nifti1Image(mask.astype(np.uint8).transpose(2, 1, 0), np.diag([-1, -1, 2, 1]))
    nibabel.save(nifti, tmp_path / "c.nii.gz")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(mask.astype(np.uint8)), str(tmp_path / "d.mhd"))
    for name in ("a.npy", "b.npz", "c.nii.gz", "d.mhd"):
        np.testing.assert_array_equal(read_label(tmp_path / name, SHAPE), mask)


def test_nifti_stored_from_the_other_side_is_turned(tmp_path, mask):
    flipped = mask.astype(np.uint8).transpose(2, 1, 0)[::-1, :, ::-1]
    nibabel.save(nibabel.Nifti1Image(flipped, np.diag([1, -1, -2, 1])), tmp_path / "a.nii")
    np.testing.assert_array_equal(read_label(tmp_path / "a.nii", SHAPE), mask)


def test_codes_of_luna16_leave_the_trachea_out(tmp_path):
    codes = np.zeros(SHAPE, np.uint8)
    codes[0, 0, :4] = (3, 4, 5, 0)
    np.save(tmp_path / "a.npy", codes)
    assert read_label(tmp_path / "a.npy", SHAPE)[0, 0, :4].tolist() == [True, True, False, False]


def test_right_and_left_lung_as_1_and_2_are_both_lung(tmp_path):
    codes = np.zeros(SHAPE, np.uint8)
    codes[0, 0, :2] = (1, 2)
    np.save(tmp_path / "a.npy", codes)
    assert read_label(tmp_path / "a.npy", SHAPE).sum() == 2


def test_another_shape_is_told_with_both(tmp_path, mask):
    np.save(tmp_path / "a.npy", mask)
    with pytest.raises(LungError, match=r"shape \(3, 5, 7\), but the CT has \(3, 7, 5\)"):
        read_label(tmp_path / "a.npy", (3, 7, 5))


def test_file_is_found_by_patient_or_series(tmp_path):
    (tmp_path / "1.2.3.npy").touch()
    assert find_label(tmp_path, ("P", "P", "1.2.3")) == tmp_path / "1.2.3.npy"
    with pytest.raises(LungError, match=r"looked for P or 9\.9 with"):
        find_label(tmp_path, ("P", "P", "9.9"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half"])
def test_broken_file_is_told(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(LungError, match=r"a\.npz: no readable \.npz"):
        read_label(tmp_path / "a.npz", SHAPE)
