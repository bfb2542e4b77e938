"""Where a mask and the label maker disagree: boxes of lung in a trunk with ribs, on a grid of 3 x 3 mm."""

import numpy as np
import pytest
from chest import chest_with_ribs

from lungct.evaluation.disagreement import find_disagreement
from lungct.evaluation.quality import find_flags
from lungct.segmentation.body import find_body

SPACING_MM = (5.0, 3.0, 3.0)  # a voxel is 0.045 ml


@pytest.fixture
def chest() -> tuple[np.ndarray, np.ndarray]:
    """(ct_hu, lung), (40, 90, 120): two lungs of 40 columns, slices 4 to 35."""
    return chest_with_ribs()


def pieces(ct_hu: np.ndarray, lung: np.ndarray, spacing_mm: tuple = SPACING_MM) -> list:
    return list(find_disagreement(lung, find_body(ct_hu, spacing_mm)))


def test_they_agree_about_lungs_and_their_edges(chest):
    ct_hu, lung = chest
    assert pieces(ct_hu, lung) == []
    lung[4:36, 16:18, 14:54] = False  # two rows, 115 ml: an edge
    assert pieces(ct_hu, lung) == []


def test_liver_in_the_mask(chest):
    ct_hu, lung = chest
    lung[0:4, 30:50, 20:40] = True  # 72 ml of soft tissue below the lung
    assert pieces(ct_hu, lung) == [(pytest.approx(72), 0, 3)]
    flags = find_flags(ct_hu, lung.astype(np.uint8), SPACING_MM)
    assert "network and segment_lung disagree about 72 ml, slices 0 to 3" in flags


def test_lung_that_is_not_in_the_mask(chest):
    ct_hu, lung = chest
    lung[20:26, 30:50, 70:90] = False  # 108 ml
    assert pieces(ct_hu, lung) == [(pytest.approx(108), 20, 25)]


def test_two_places_of_less_than_50_ml_are_not_named(chest):
    ct_hu, lung = chest
    lung[10:12, 30:50, 70:90] = lung[20:22, 30:50, 70:90] = False  # 36 ml each
    assert pieces(ct_hu, lung) == []


def test_of_thin_slices_every_third_is_looked_at(chest):
    ct_hu, lung = (part.repeat(3, axis=0) for part in chest)
    lung[60:78, 30:50, 70:90] = False  # 108 ml
    assert pieces(ct_hu, lung, (5 / 3, 3.0, 3.0)) == [(pytest.approx(108), 60, 75)]


def test_a_child_is_labelled_as_a_grown_up_of_that_shape(chest):
    ct_hu, lung = chest
    spacing_mm = (2.5, 1.5, 1.5)  # the trunk is 155 mm wide
    assert pieces(ct_hu, lung, spacing_mm) == []
    lung[8:32, 25:45, 70:100] = False  # 81 ml
    ((ml, low, high),) = pieces(ct_hu, lung, spacing_mm)
    assert (ml, low, high) == (pytest.approx(81, rel=0.05), 8, 30)


def test_a_scan_without_a_lung(chest):
    ct_hu, lung = chest
    ct_hu[ct_hu == -850] = 40
    lung[:] = False
    assert pieces(ct_hu, lung) == []
