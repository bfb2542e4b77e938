"""Which slices fit a regular grid, and what a missing one becomes."""

from dataclasses import replace

import numpy as np
import pytest
from placed import frame_at

from lungct import LungError
from lungct.masks.segments import SIDES, WHOLE
from lungct.masks.volume import as_volume, write_or_flag
from lungct.masks.write_nifti import nifti_bytes, nifti_flags
from lungct.scans.nifti import open_nifti


def flagged(mask, frame, ending: str = ".nii.gz") -> tuple[bytes | None, list[str]]:
    """A mask as NIfTI, and flags."""
    return write_or_flag(nifti_bytes, nifti_flags, ending, mask, frame, WHOLE)


@pytest.mark.parametrize(
    ("z_mm", "there"),
    [
        ([0, 2.5, 7.5], [1, 1, 0, 1]),
        ([0, 5, 7.5, 10], [1, 0, 1, 1, 1]),
        ([*range(10), *range(11, 20)], [1] * 10 + [0] + [1] * 9),
        ([0, 2.45, 5.05, 7.5], [1, 1, 1, 1]),
    ],
)
def test_a_missing_slice_becomes_an_empty_one(tmp_path, z_mm, there):
    frame = frame_at(z_mm)
    (tmp_path / "a.nii.gz").write_bytes(nifti_bytes(np.ones((len(z_mm), 6, 8), bool), frame))
    scan = open_nifti(tmp_path / "a.nii.gz")
    assert scan.read().any((1, 2)).tolist() == [bool(n) for n in there]
    np.testing.assert_allclose(scan.frame.z_mm[scan.read().any((1, 2))], z_mm, atol=0.1)
    flags = flagged(np.ones((len(z_mm), 6, 8), bool), frame)[1]
    assert flags == ["1 missing slice empty in the .nii.gz"] * there.count(0)


@pytest.mark.parametrize(
    "z_mm",
    [
        [*range(20), *range(20, 34, 3)],  # thin below, three times as far apart above
        [*range(0, 20, 2), *range(20, 40)],
        [*range(20), *np.arange(20, 30, 1.25)],
        [0, 2.5, 6.2],
        [*range(10), 30, 31, 32],  # more is missing than could have got lost
        [*range(10), 9.4, *range(10, 14)],
        [*range(10), 11, 13, *range(14, 25)],  # two holes side by side: a part with twice the step
    ],
)
def test_slices_on_no_regular_grid_are_no_volume(z_mm):
    with pytest.raises(LungError, match="unequal distances"):
        nifti_bytes(np.ones((len(z_mm), 6, 8), bool), frame_at(sorted(z_mm)))
    content, (flag,) = flagged(np.ones((len(z_mm), 6, 8), bool), frame_at(sorted(z_mm)))
    assert content is None
    assert flag.startswith("no .nii.gz: ")


def test_slices_that_are_shifted_sideways_are_no_volume():
    mask = np.ones((6, 6, 8), bool)
    with pytest.raises(LungError, match="shifted sideways"):
        nifti_bytes(mask, frame_at(range(6), x_mm=[0, 0, 0, 4, 4, 4]))
    assert nifti_bytes(mask, frame_at(range(6), x_mm=[0, 0.34, 0, 0.34, 0, 0]))  # half a pixel is 0.35 mm
    with pytest.raises(LungError, match="shifted sideways"):
        nifti_bytes(mask, frame_at(range(6), x_mm=[0, 0.36, 0, 0.36, 0, 0]))


@pytest.mark.parametrize(("slices", "taken"), [(22, True), (21, False)])
def test_a_tenth_of_the_slices_may_be_missing(slices, taken):
    """Two of 22 leave 20, of which they are a tenth."""
    z_mm = [z for z in range(slices) if z not in (3, 9)]
    content, (flag,) = flagged(np.ones((len(z_mm), 6, 8), bool), frame_at(z_mm))
    assert flag.startswith(
        "2 missing slices empty in the .nii.gz" if taken else "no .nii.gz: slices at unequal distances"
    )
    assert (content is not None) == taken


@pytest.mark.parametrize(("off_mm", "taken"), [(0.24, True), (0.26, False)])
def test_a_slice_may_lie_a_quarter_of_a_step_from_its_place(off_mm, taken):
    content, _ = flagged(np.ones((7, 6, 8), bool), frame_at([0, 1, 2, 3 + off_mm, 4, 5, 6]))
    assert (content is not None) == taken


def test_flags_name_the_file_that_they_are_of():
    holes = frame_at([0, 2.5, 7.5])
    assert flagged(np.ones((3, 6, 8), bool), holes, ".seg.nrrd")[1] == ["1 missing slice empty in the .seg.nrrd"]
    uneven = frame_at([0, 2.5, 6.2])
    assert flagged(np.ones((3, 6, 8), bool), uneven, ".seg.nrrd")[1][0].startswith("no .seg.nrrd: slices at")


def test_the_array_is_that_of_the_scan_and_its_affine_in_lps():
    labels = np.arange(3 * 6 * 8).reshape(3, 6, 8).astype(np.uint8) % 3
    frame = frame_at([0, 2.5, 5], x_mm=10.0)
    volume, affine = as_volume(labels, frame, SIDES)
    np.testing.assert_array_equal(volume, labels.T)
    np.testing.assert_allclose(affine, [[0.9, 0, 0, 10], [0, 0.7, 0, 0], [0, 0, 2.5, 0], [0, 0, 0, 1]])
    turned, affine = as_volume(labels, replace(frame, source_axes="SRP"), SIDES)  # slices, columns reversed, rows
    np.testing.assert_array_equal(turned, labels.transpose(0, 2, 1)[:, ::-1])
    np.testing.assert_allclose(affine[:3], [[0, -0.9, 0, 10 + 7 * 0.9], [0, 0, 0.7, 0], [2.5, 0, 0, 0]])


def test_right_and_left_are_not_written_as_one_lung():
    labels = np.ones((3, 6, 8), np.uint8)
    labels[1] = 2
    with pytest.raises(LungError, match=r"the value 2, but only \[1\]"):
        as_volume(labels, frame_at([0, 1, 2]), WHOLE)
