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
    assert find_flags(ct_hu, lung, SPACING_MM) == ["gas below the diaphragm"]


def test_scan_that_ends_in_the_lung(chest):
    ct_hu, lung = chest
    assert find_flags(ct_hu[12:], lung[12:], SPACING_MM) == ["the scan ends in the lung"]


def test_nothing_found(chest):
    assert find_flags(chest[0], np.zeros(SHAPE, bool), SPACING_MM) == ["no lung"]
