"""Nodules on the surface of a lung: boxes with answers known by hand, slices of 2.5 mm and pixels of 2 mm."""

import numpy as np
import pytest
from chest import chest_with_ribs

from lungct.segmentation.body import Body, find_body
from lungct.segmentation.cleanup import clean_volume
from lungct.segmentation.juxtapleural import find_juxtapleural
from lungct.segmentation.threshold import segment_lung

SPACING_MM = (2.5, 2.0, 2.0)
SHAPE = (40, 60, 60)
LUNG = np.s_[5:35, 10:50, 10:50]
SIDES = {
    "in front": np.s_[17:23, 10:14, 27:33],
    "behind": np.s_[17:23, 46:50, 27:33],
    "at the left": np.s_[17:23, 27:33, 10:14],
    "at the right": np.s_[17:23, 27:33, 46:50],
    "on the diaphragm": np.s_[5:8, 27:33, 27:33],
    "at the apex": np.s_[32:35, 27:33, 27:33],
}  # 12 to 15 mm wide, 8 mm deep


def find(lung: np.ndarray, ct_hu: np.ndarray | float = 40) -> np.ndarray:
    """What is found in a body of some HU, or one for all tissue."""
    if np.isscalar(ct_hu):
        ct_hu = hu_of(lung, ct_hu)
    body = np.ones(lung.shape, bool)
    return find_juxtapleural(lung, Body(ct_hu, ~body, body, (30, 30), (1, 1), SPACING_MM, -1000.0))


def hu_of(lung: np.ndarray, tissue_hu: float = 40) -> np.ndarray:
    return np.where(lung, -850, tissue_hu).astype(np.float32)


def lung_without(*boxes: tuple) -> np.ndarray:
    """A lung of 75 x 80 x 80 mm without some boxes."""
    lung = np.zeros(SHAPE, bool)
    lung[LUNG] = True
    for box in boxes:
        lung[box] = False
    return lung


@pytest.mark.parametrize("nodule", SIDES.values(), ids=SIDES)
def test_a_nodule_at_any_wall_is_found_and_nothing_else(nodule):
    lung = lung_without(nodule)
    found = find(lung)
    assert found[nodule].mean() >= 0.7  # a ball of 18 mm reaches 1 to 2 mm into its mouth: a layer of voxels
    found[nodule] = False
    assert not found.any()


def test_all_that_are_there_are_found():
    found = find(lung_without(*SIDES.values()))
    assert all(found[nodule].any() for nodule in SIDES.values())


@pytest.mark.parametrize(("tissue_hu", "is_found"), [(-100, False), (-51, False), (-49, True), (800, True)])
def test_fat_is_not_but_chalk_is(tissue_hu, is_found):
    assert find(lung_without(SIDES["behind"]), tissue_hu).any() == is_found


@pytest.mark.parametrize(("slices", "is_found"), [(14, True), (15, False)], ids=["35 mm", "37.5 mm"])
def test_a_vessel_along_the_lung_is_not_which_is_longer_than_a_dent_can_be_wide(slices, is_found):
    vessel = np.s_[12 : 12 + slices, 10:14, 27:33]
    assert find(lung_without(vessel))[vessel].any() == is_found


def test_a_dome_is_not():
    z, y, x = (np.arange(size) * mm for size, mm in zip(SHAPE, SPACING_MM, strict=True))
    dome = (z[:, None, None] - 12) ** 2 + (y[:, None] - 60) ** 2 + (x - 60) ** 2 < 25**2
    lung = lung_without()
    found = find(lung & ~dome)
    assert np.count_nonzero(found) < 0.02 * np.count_nonzero(lung & dome)  # single pixels of its steps


@pytest.mark.parametrize(("slices", "is_found"), [(3, True), (8, False)])
def test_what_has_more_body_than_lung_around_it_is_not(slices, is_found):
    """Between two ends of a thin lung, 8 x 8 mm: 7.5 mm high, and 20 mm, with more body at its sides."""
    gap = np.s_[16 : 16 + slices, 30:34, 30:34]
    lung = np.zeros(SHAPE, bool)
    lung[10:30, 28:34, 30:34] = True
    lung[10:30, 24:36, 5:12] = True  # another lung beside it
    lung[gap] = False
    assert find(lung)[gap].any() == is_found


@pytest.mark.parametrize("columns", [4, 6])
def test_nothing_is_found_between_two_lungs(columns):
    """30 x 30 mm of tissue, 8 or 12 mm thick: less than a dent of one lung can be."""
    lung = np.zeros(SHAPE, bool)
    lung[14:26, 22:37, 10:50] = True
    lung[..., 30 - columns // 2 : 30 + columns // 2] = False
    assert not find(lung).any()


def test_a_vessel_that_runs_through_all_of_ten_slices_is_not_but_a_nodule_at_one_end_is():
    vessel, nodule = np.s_[:, 10:14, 27:33], np.s_[:5, 46:50, 27:33]
    lung = lung_without(np.s_[15:25, 10:14, 27:33], np.s_[15:20, 46:50, 27:33])[15:25]
    found = find(lung)
    assert not found[vessel].any()
    assert found[nodule].any()


def test_two_nodules_near_each_other_are_both_found_and_tissue_beside_them_that_is_fat_is_not():
    """Two of 12 x 8 mm with 4 mm of lung between; a dent of fat reaches 20 mm further from the second."""
    first, second, fat = (np.s_[17:22, 46:50, 18 + at : 18 + to] for at, to in ((0, 5), (7, 12), (12, 20)))
    lung = lung_without(first, second, fat)
    ct_hu = hu_of(lung)
    ct_hu[fat] = -100
    found = find(lung, ct_hu)
    assert found[first].any()
    assert found[second].any()
    assert not found[17:22, 46:50, 34:38].any()


def test_pixels_larger_than_the_layer_that_is_looked_at_around_a_nodule(recwarn):
    lung = np.zeros((20, 30, 30), bool)
    lung[3:17, 5:25, 5:25] = True
    lung[9:11, 5:7, 13:16] = False
    body = np.ones(lung.shape, bool)
    mm = (5.0, 4.07, 4.07)
    found = find_juxtapleural(lung, Body(hu_of(lung), ~body, body, (15, 15), (1, 1), mm, -1000.0))
    assert found[9:11, 5:7, 13:16].any()
    assert not recwarn.list


def test_the_edge_between_lung_and_nodule_is_found_with_it():
    lung = lung_without(SIDES["behind"])
    ct_hu, edge = hu_of(lung), np.s_[17:23, 46, 27:33]
    ct_hu[edge] = -300  # of which a third is lung
    assert find(lung, ct_hu)[edge].all()


def test_air_in_a_dent_stays_out():
    lung = lung_without(SIDES["behind"])
    ct_hu, air = hu_of(lung), np.s_[19:21, 47:49, 29:31]
    ct_hu[air] = -950
    found = find(lung, ct_hu)
    assert found[SIDES["behind"]].any()
    assert not found[air].any()


@pytest.mark.parametrize("lung", [lung_without(SIDES["behind"])[18:20], np.zeros(SHAPE, bool)], ids=["two", "no lung"])
def test_nothing_is_found_in_two_slices_nor_where_there_is_no_lung(lung):
    assert not find(lung).any()


CHEST_MM = (5.0, 3.0, 3.0)
AT_MEDIASTINUM = np.s_[17:21, 40:45, 50:54]  # 20 x 15 mm, 12 mm deep


@pytest.fixture
def chest() -> tuple[np.ndarray, np.ndarray]:
    """(ct_hu, lung), (40, 90, 120), with a nodule at the mediastinum that the lung leaves out."""
    ct_hu, lung = chest_with_ribs()
    ct_hu[AT_MEDIASTINUM], lung[AT_MEDIASTINUM] = 40, False
    return ct_hu, lung


def test_a_nodule_at_the_mediastinum_is_in_the_mask_that_a_network_left_it_out_of(chest):
    ct_hu, lung = chest
    clean = clean_volume(lung, ct_hu, CHEST_MM, find_body(ct_hu, CHEST_MM))
    assert clean[AT_MEDIASTINUM].mean() >= 0.75  # all but the layer at its mouth
    clean[AT_MEDIASTINUM] = lung[AT_MEDIASTINUM] = False
    assert np.count_nonzero(clean ^ lung) < 100


def test_and_in_the_label(chest):
    label = segment_lung(chest[0], CHEST_MM)
    assert label[AT_MEDIASTINUM].mean() >= 0.75  # all but the layer at its mouth
