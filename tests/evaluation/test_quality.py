"""Each flag is raised where it is due, and none for a usual pair of lungs."""

import numpy as np
import pytest

from lungct.evaluation.quality import find_flags

SHAPE = (40, 80, 120)
SPACING_MM = (8.0, 3.0, 2.5)  # a voxel is 0.06 ml


@pytest.fixture
def chest() -> tuple[np.ndarray, np.ndarray]:
    """(ct_hu, lung): a trunk of soft tissue with two boxes of lung, 3.6 litres together."""
    ct_hu = np.full(SHAPE, -1000, np.int16)
    ct_hu[:, 10:70, 10:110] = 40
    lung = np.zeros(SHAPE, bool)
    lung[10:35, 20:60, 20:50] = lung[10:35, 20:60, 70:100] = True
    ct_hu[lung] = -850
    return ct_hu, lung


def test_usual_lungs_are_not_odd(chest):
    assert find_flags(*chest, SPACING_MM) == []


def test_one_lung(chest):
    ct_hu, lung = chest
    lung[..., 60:] = False
    ct_hu[..., 60:110] = np.where(ct_hu[..., 60:110] == -850, 40, ct_hu[..., 60:110])
    assert find_flags(ct_hu, lung, (16.0, 3.0, 2.5)) == ["one lung only"]


def test_litres(chest):
    assert find_flags(*chest, (4.0, 3.0, 2.5)) == ["outside the usual 2 to 8 litres"]
    assert find_flags(*chest, (20.0, 3.0, 2.5)) == ["outside the usual 2 to 8 litres"]


def test_litres_count_each_slice_by_its_own_extent(chest):
    """A step of 8 mm in the table, but the slices lie 4 mm apart."""
    assert find_flags(*chest, SPACING_MM, np.full(SHAPE[0], 8.0)) == []
    assert find_flags(*chest, SPACING_MM, np.full(SHAPE[0], 4.0)) == ["outside the usual 2 to 8 litres"]


def test_piece_below_the_lungs(chest):
    ct_hu, lung = chest
    lung[2:8, 30:45, 60:75] = True
    assert find_flags(ct_hu, lung, SPACING_MM)[0] == "gas below the diaphragm"


def test_scan_that_ends_in_the_lung(chest):
    ct_hu, lung = chest
    assert find_flags(ct_hu[12:], lung[12:], SPACING_MM) == ["the scan ends in the lung"]


def test_of_slices_from_the_middle_no_volume_is_expected(chest):
    ct_hu, lung = chest
    assert find_flags(ct_hu[15:25], lung[15:25], SPACING_MM) == []


def test_a_lung_that_changes_from_slice_to_slice(chest):
    ct_hu, lung = chest
    lung[20, 40:60, 20:50] = lung[20, 20:35, 20:50] = False  # seven eighths of the right lung
    jumps = ["a lung changes by half from slice 19 to 20", "a lung changes by half from slice 20 to 21"]
    assert find_flags(ct_hu, lung, SPACING_MM) == jumps


def test_a_piece_of_lung_that_the_mask_leaves_out(chest):
    ct_hu, lung = chest
    lung[10:16, 30:60, 20:50] = False  # 324 ml, 5 of 8 rows
    (flag,) = [text for text in find_flags(ct_hu, lung, SPACING_MM) if "ml" in text]
    assert flag.endswith("ml like lung not in the mask, slices 10 to 15")
    assert 200 < float(flag.split()[0]) <= 324


@pytest.mark.parametrize("hu", [-1000, -300], ids=["gas", "fat and stool"])
def test_air_and_tissue_that_are_unlike_lung_are_not_missed(chest, hu):
    ct_hu, lung = chest
    ct_hu[2:8, 20:60, 30:90] = hu
    assert find_flags(ct_hu, lung, SPACING_MM) == []


def test_nothing_found(chest):
    assert find_flags(chest[0], np.zeros(SHAPE, bool), SPACING_MM) == ["no lung"]
