"""Masses that lung encloses: boxes in a chest of 40 slices of 5 mm, on a grid of 3 x 3 mm, with ribs around."""

from dataclasses import replace

import numpy as np
import pytest
from chest import chest_with_ribs

from lungct.segmentation.body import find_body
from lungct.segmentation.cleanup import clean_volume
from lungct.segmentation.enclosed import find_beside, find_enclosed, lung_above
from lungct.segmentation.threshold import segment_lung

SPACING_MM = (5.0, 3.0, 3.0)


@pytest.fixture
def chest() -> tuple[np.ndarray, np.ndarray]:
    """(ct_hu, lung), (40, 90, 120): two lungs of 40 columns, each 6 mm from the ribs beside and behind it."""
    return chest_with_ribs()


def enclosed(ct_hu: np.ndarray, lung: np.ndarray) -> np.ndarray:
    return find_enclosed(lung, find_body(ct_hu, SPACING_MM))


def make_dense(chest: tuple[np.ndarray, np.ndarray], box: tuple) -> tuple[np.ndarray, np.ndarray]:
    """The chest with a box without air that its lung leaves out."""
    ct_hu, lung = chest
    ct_hu[box], lung[box] = 40, False
    return ct_hu, lung


AT_WALL = {
    "behind": np.s_[14:24, 55:70, 82:100],
    "beside": np.s_[14:24, 30:50, 90:106],
    "behind, on the right": np.s_[14:24, 55:70, 20:38],
}


@pytest.mark.parametrize("box", AT_WALL.values(), ids=AT_WALL)
def test_a_mass_with_a_broad_base_at_the_chest_wall_is_enclosed(chest, box):
    ct_hu, lung = make_dense(chest, box)
    found = enclosed(ct_hu, lung)
    assert np.mean(found[box]) > 0.95
    found[box] = False
    assert not found.any()


def test_a_rim_of_two_pixels_of_lung_behind_it_does_not_matter(chest):
    box = np.s_[14:24, 55:70, 82:100]
    ct_hu, lung = make_dense(chest, box)
    ct_hu[14:24, 68:70, 84:100], lung[14:24, 68:70, 84:100] = -850, True  # open at 82 and 83: no hole
    assert np.mean(enclosed(ct_hu, lung)[14:24, 55:68, 84:98]) > 0.95


def test_ribs_of_every_fourth_slice_and_a_gap_in_them_are_enough(chest):
    ct_hu, lung = make_dense(chest, AT_WALL["behind"])
    ct_hu[2::4][ct_hu[2::4] == 500] = 40
    ct_hu[:, 72:74, 89:92] = 40
    assert np.mean(enclosed(ct_hu, lung)[AT_WALL["behind"]]) > 0.95


def test_where_the_lung_above_and_below_is_narrower_a_mass_is_filled_up_to_the_wall(chest):
    ct_hu, lung = make_dense(chest, np.s_[14:24, 39:50, 90:106])
    for z in (slice(14), slice(24, None)):
        ct_hu[z, 16:70, 98:106], lung[z, 16:70, 98:106] = 40, False
    found = enclosed(ct_hu, lung)
    assert np.mean(found[14:24, 39:50, 90:98]) > 0.95  # lung lies above and below these
    assert np.mean(found[14:24, 39:50, 98:106]) > 0.6  # and neither above nor below these


@pytest.mark.parametrize(("rows", "share"), [(3, 1), (1, 0)])
def test_a_mass_may_stand_on_the_diaphragm(chest, rows, share):
    ct_hu, lung = make_dense(chest, AT_WALL["behind"])  # 15 rows
    box = np.s_[:14, 55 + rows : 70, 66:106]  # no lung below but for some rows
    ct_hu[box], lung[box] = 40, False
    assert np.mean(enclosed(ct_hu, lung)[AT_WALL["behind"]]) == pytest.approx(share, abs=0.1)


def test_the_side_of_a_mass_that_faces_the_hilum_is_in(chest):
    ct_hu, lung = make_dense(chest, np.s_[14:24, 55:70, 68:100])
    ct_hu[14:24, 40:44, 48:54], lung[14:24, 40:44, 48:54] = 40, False  # a dent of the other lung
    found = enclosed(ct_hu, lung)
    assert np.mean(found[14:24, 56:64, 71:74]) > 0.95  # nearer to the middle than bone is looked for
    assert not found[:, :54].any()


def test_air_between_a_mass_and_lung_stays_out():
    lung, found, tissue = np.zeros((1, 20, 20), bool), np.zeros((1, 20, 20), bool), np.ones((1, 20, 20), bool)
    lung[:, 5:15, 2:8], found[:, 5:15, 12:18], tissue[:, 9, 10] = True, True, False
    beside = find_beside(found, lung, tissue, SPACING_MM)
    assert beside[0, 8, 8:12].all()
    assert not beside[0, 9, 10]


def test_the_middle_itself_stays_out_beside_a_mass(chest):
    ct_hu, lung = make_dense(chest, np.s_[14:24, 55:70, 66:100])
    lung[14:24, 55:70, 60:62] = True
    assert not enclosed(ct_hu, lung)[..., 62:70].any()  # 30 mm from the middle


def test_what_has_no_lung_below_or_above_is_not(chest):
    for z in (slice(4, 20), slice(20, 36)):
        ct_hu, lung = make_dense((chest[0].copy(), chest[1].copy()), np.s_[z, 55:70, 82:100])
        assert not enclosed(ct_hu, lung).any()


def test_heart_is_not_though_lung_lies_above_and_below(chest):
    ct_hu, lung = make_dense(chest, np.s_[14:24, 16:45, 66:90])  # in front, and at the middle
    assert not enclosed(ct_hu, lung).any()


def test_three_ml_are_needed_at_the_wall(chest):
    ct_hu, lung = make_dense(chest, np.s_[14:15, 62:70, 84:90])  # 48 voxels of 0.045 ml
    assert not enclosed(ct_hu, lung).any()
    ct_hu, lung = make_dense(chest, np.s_[14:16, 62:70, 84:90])
    assert enclosed(ct_hu, lung)[14:16, 62:70, 84:90].any()


def test_what_is_thinner_than_three_pixels_or_has_no_rib_behind_is_no_mass(chest):
    ct_hu, lung = make_dense(chest, np.s_[14:24, 68:70, 70:106])
    assert not enclosed(ct_hu, lung).any()
    ct_hu, lung = make_dense(chest, AT_WALL["behind"])
    ct_hu[ct_hu == 500] = 40
    assert not enclosed(ct_hu, lung).any()


def test_air_that_a_mask_left_out_is_none(chest):
    ct_hu, lung = chest
    box = AT_WALL["behind"]
    lung[box] = False
    assert not enclosed(ct_hu, lung)[box].any()


@pytest.mark.parametrize(("z", "is_mass"), [(slice(14, 24), True), (slice(4, 14), False)], ids=["mass", "dome"])
def test_a_hole_of_any_size_is_filled_where_lung_lies_below(chest, z, is_mass):
    box = np.s_[z, 25:45, 75:95]  # 36 cm2
    ct_hu, lung = make_dense(chest, box)
    assert enclosed(ct_hu, lung)[box].all() == is_mass
    assert enclosed(ct_hu, lung).any() == is_mass


def test_a_hole_is_judged_by_most_of_it(chest):
    ct_hu, lung = make_dense(chest, np.s_[20:24, 25:45, 75:95])
    for columns, is_mass in ((slice(75, 84), True), (slice(75, 86), False)):  # no lung below 45 and 55 % of it
        below = lung.copy()
        below[:20, 25:45, columns] = False
        assert enclosed(ct_hu, below)[22, 35, 93] == is_mass


def test_lung_above_means_some_slice_above():
    lung = np.zeros((4, 1, 2), bool)
    lung[0, 0, 0] = lung[3, 0, 1] = True
    assert lung_above(lung)[:, 0].tolist() == [[False, True], [False, True], [False, True], [False, False]]


def test_a_volume_is_cleaned_with_its_masses_in(chest):
    ct_hu, lung = make_dense(chest, AT_WALL["beside"])
    assert np.mean(clean_volume(lung, ct_hu, SPACING_MM, find_body(ct_hu, SPACING_MM))[AT_WALL["beside"]]) > 0.95


def test_the_middle_of_the_trunk_counts_not_that_of_the_image(chest):
    ct_hu, lung = make_dense(chest, np.s_[14:24, 55:70, 82:100])
    body = find_body(ct_hu, SPACING_MM)
    near = replace(body, middle=(body.middle[0], 91.0))  # the mass lies within 40 mm of it
    assert not find_enclosed(lung, near).any()


def test_labels_hold_such_a_mass_too(chest):
    ct_hu, _ = make_dense(chest, AT_WALL["behind"])
    assert np.mean(segment_lung(ct_hu, SPACING_MM)[AT_WALL["behind"]]) > 0.9
