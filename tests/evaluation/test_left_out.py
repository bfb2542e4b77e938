"""Dense tissue that a mask leaves out: boxes of lung in a trunk with ribs, on a grid of 3 x 3 mm."""

import numpy as np
import pytest
from chest import chest_with_ribs

from lungct.evaluation.left_out import find_left_out
from lungct.evaluation.quality import find_flags
from lungct.segmentation.body import find_body

SPACING_MM = (5.0, 3.0, 3.0)


@pytest.fixture
def chest() -> tuple[np.ndarray, np.ndarray]:
    """(ct_hu, lung), (40, 90, 120): two lungs of 40 columns, each 6 mm from the ribs beside and behind it."""
    return chest_with_ribs()


def pieces(ct_hu: np.ndarray, lung: np.ndarray) -> list:
    return list(find_left_out(lung, find_body(ct_hu, SPACING_MM)))


@pytest.mark.parametrize("side", [slice(14, 40), slice(80, 106)], ids=["right", "left"])
@pytest.mark.parametrize("hu", [40, 0], ids=["consolidation", "effusion"])
def test_a_consolidated_part_of_a_lung_behind_lung_is_left_out(chest, side, hu):
    ct_hu, lung = chest
    left_out = np.s_[8:28, 45:70, side]  # 20 slices of 25 x 26 pixels, and 2 rows to the ribs
    ct_hu[left_out], lung[left_out] = hu, False
    ((ml, low, high),) = pieces(ct_hu, lung)
    assert ml == pytest.approx(632, rel=0.1)
    assert abs(low - 8) <= 2
    assert abs(high - 27) <= 2
    flags = find_flags(ct_hu, lung.astype(np.uint8), SPACING_MM)
    assert [flag for flag in flags if "dense tissue between lung and chest wall not in the mask" in flag]


def test_tissue_beside_a_lung_at_the_side_is_left_out(chest):
    ct_hu, lung = chest
    left_out = np.s_[8:28, 20:70, 94:106]
    ct_hu[left_out], lung[left_out] = 40, False
    assert pieces(ct_hu, lung)


def test_it_is_lung_where_the_mask_holds_it(chest):
    ct_hu, lung = chest
    ct_hu[8:28, 45:70, 80:106] = 40
    assert pieces(ct_hu, lung) == []


@pytest.mark.parametrize("hu", [-100, 300], ids=["fat", "metal"])
def test_neither_fat_nor_what_is_denser_than_tissue_counts(chest, hu):
    ct_hu, lung = chest
    left_out = np.s_[8:28, 45:70, 80:106]
    ct_hu[left_out], lung[left_out] = hu, False
    assert pieces(ct_hu, lung) == []


def test_heart_and_liver_lie_before_lung_and_the_mediastinum_between_the_lungs(chest):
    ct_hu, lung = chest
    heart, liver = np.s_[6:20, 16:50, 50:84], np.s_[4:14, 16:60, 14:54]
    for organ in (heart, liver):
        ct_hu[organ], lung[organ] = 40, False
    assert pieces(ct_hu, lung) == []


def test_little_is_no_reason_to_look(chest):
    ct_hu, lung = chest
    left_out = np.s_[8:14, 60:70, 80:100]  # 54 ml, and 11 to the ribs
    ct_hu[left_out], lung[left_out] = 40, False
    assert pieces(ct_hu, lung) == []


def test_muscle_of_15_mm_between_lung_and_ribs_is_none(chest):
    ct_hu, lung = chest
    ct_hu[4:36, 68:70, 14:106], lung[4:36, 68:70] = 40, False  # 460 ml, with the two rows to the ribs
    assert pieces(ct_hu, lung) == []
