"""What is kept of a predicted volume: boxes in a trunk, and each thing that is no lung by itself."""

import numpy as np
import pytest

from lungct.segmentation.body import find_body
from lungct.segmentation.cleanup import clean_volume

SPACING_MM = (5.0, 3.0, 4.0)


def clean(lung: np.ndarray, ct_hu: np.ndarray) -> np.ndarray:
    return clean_volume(lung, ct_hu, SPACING_MM, find_body(ct_hu, SPACING_MM))


@pytest.fixture
def chest() -> tuple[np.ndarray, np.ndarray]:
    """A trunk in air with two lungs: (ct_hu, lung), (10, 80, 100)."""
    ct_hu = np.full((10, 80, 100), -1000, np.int16)
    ct_hu[:, 8:62, 6:94] = 40
    lung = np.zeros(ct_hu.shape, bool)
    lung[2:8, 20:50, 12:42] = lung[2:8, 20:50, 58:88] = True
    ct_hu[lung] = -850
    return ct_hu, lung


def test_both_lungs_stay_as_they_are(chest):
    ct_hu, lung = chest
    np.testing.assert_array_equal(clean(lung, ct_hu), lung)


@pytest.mark.parametrize(
    ("z", "rows", "cols"),
    [
        (4, slice(30, 31), slice(25, 26)),  # a vessel
        (slice(3, 8), slice(40, 43), slice(20, 23)),  # one that leaves the lung at its end, and so is open in 3-D
        (slice(4, 6), slice(28, 42), slice(17, 29)),  # a mass of 42 by 48 mm, enclosed on all sides
    ],
    ids=["vessel", "vessel to the end", "mass"],
)
def test_what_lung_surrounds_is_filled(chest, z, rows, cols):
    ct_hu, lung = chest
    predicted = lung.copy()
    predicted[z, rows, cols] = False
    ct_hu[z, rows, cols] = 40
    np.testing.assert_array_equal(clean(predicted, ct_hu), lung)


def test_lung_that_was_left_out_is_taken_in_where_it_adjoins(chest):
    ct_hu, lung = chest
    predicted = lung.copy()
    predicted[3:6, 40:50, 30:42] = predicted[6:, 20:50, 12:20] = False
    np.testing.assert_array_equal(clean(predicted, ct_hu), lung)


def test_a_mass_with_a_broad_base_on_the_chest_wall_is_taken_in(chest):
    ct_hu, lung = chest
    predicted = lung.copy()
    predicted[3:6, 30:34, 12:14] = False  # 12 mm wide, 8 mm deep, at the side
    ct_hu[3:6, 30:34, 12:14] = 40
    np.testing.assert_array_equal(clean(predicted, ct_hu), lung)


def test_a_nodule_that_reaches_the_wall_in_the_next_slice_is_taken_in(chest):
    """As a dome does, it gets wider below; unlike a dome, it fills a dent."""
    ct_hu, lung = chest
    nodule = np.zeros(lung.shape, bool)
    nodule[4, 28:34, 13:18] = nodule[5, 28:34, 12:18] = True  # 18 x 20 mm, 18 x 24 mm
    ct_hu[nodule] = 40
    found = clean(lung & ~nodule, ct_hu)
    assert found[nodule].mean() > 0.8
    np.testing.assert_array_equal(found | nodule, lung)


@pytest.mark.parametrize("lungs", [np.s_[..., :50], np.s_[..., 50:], np.s_[...]], ids=["right", "left", "both"])
def test_a_vessel_along_the_mediastinum_stays_out_beside_one_lung_too(chest, lungs):
    """A lung that is not there, as behind a mass or after its removal, does not move the middle of the trunk."""
    ct_hu, lung = chest
    for cols in (slice(40, 42), slice(58, 60)):
        lung[:, 30:34, cols] = False
        ct_hu[:, 30:34, cols] = 40
    predicted = np.zeros_like(lung)
    predicted[lungs] = lung[lungs]
    ct_hu[lung & ~predicted] = 40
    spacing_mm = (10.0, 3.0, 4.0)  # the vessel is 60 mm long
    np.testing.assert_array_equal(clean_volume(predicted, ct_hu, spacing_mm, find_body(ct_hu, spacing_mm)), predicted)


def test_a_small_piece_is_dropped(chest):
    ct_hu, lung = chest
    predicted = lung.copy()
    predicted[0, 12:15, 12:15] = True
    np.testing.assert_array_equal(clean(predicted, ct_hu), lung)


@pytest.mark.parametrize(("hu", "is_lung"), [(-1000, False), (-956, False), (-954, True), (-850, True)])
def test_a_piece_of_pure_air_that_is_much_smaller_than_a_lung_is_gas(chest, hu, is_lung):
    ct_hu, lung = chest
    gas = np.s_[0:3, 52:60, 44:57]  # 312 voxels; each lung has 5,400
    predicted = lung.copy()
    predicted[gas] = True
    ct_hu[gas] = hu
    lung[gas] = is_lung
    np.testing.assert_array_equal(clean(predicted, ct_hu), lung)


@pytest.mark.parametrize(("rows", "is_lung"), [(27, True), (26, False)])
def test_a_piece_of_a_twentieth_of_the_largest_stays(chest, rows, is_lung):
    ct_hu, lung = chest
    lung[2:8, 20:50, 58:88] = False
    piece = np.s_[4, 20 : 20 + rows, 70:80]  # 270 voxels; the lung has 5,400
    ct_hu[2:8, 20:50, 58:88], ct_hu[piece] = 40, -850
    predicted = lung.copy()
    predicted[piece] = True
    lung[piece] = is_lung
    np.testing.assert_array_equal(clean(predicted, ct_hu), lung)


def test_pieces_that_touch_at_an_edge_are_two(chest):
    ct_hu, lung = chest
    predicted = lung.copy()
    predicted[4, 50, 42] = True  # a voxel of tissue at the corner of a lung
    np.testing.assert_array_equal(clean(predicted, ct_hu), lung)


def test_a_large_lung_of_pure_air_stays(chest):
    ct_hu, lung = chest
    ct_hu[2:8, 20:50, 58:88] = -980  # emphysema, 1.3 litres where slices are 20 mm apart
    spacing_mm = (20.0, 3.0, 4.0)
    np.testing.assert_array_equal(clean_volume(lung, ct_hu, spacing_mm, find_body(ct_hu, spacing_mm)), lung)


@pytest.mark.parametrize(("z", "is_lung"), [(6, True), (0, False)])
def test_a_small_piece_of_lung_stays_where_it_is_as_high_as_the_upper_half(chest, z, is_lung):
    ct_hu, lung = chest
    apex = np.s_[z : z + 2, 22:30, 44:50]  # 5.8 ml, a hundredth of a lung, cut off by 12 mm of tissue
    ct_hu[2:8, 20:50, 42:44] = 40
    predicted = lung.copy()
    predicted[apex] = True
    ct_hu[apex] = -800
    found = clean(predicted, ct_hu)
    lung[apex] = is_lung
    between = np.s_[z - 2 :, 20:50, 42:44]  # taken in as a nodule, the thin layer beside the piece that stays
    lung[between] = found[between] = False
    np.testing.assert_array_equal(found, lung)


@pytest.mark.parametrize(("open_to", "is_lung"), [(slice(30), False), (slice(8), True)], ids=["fold", "no fold"])
def test_air_in_a_fold_of_the_skin_that_is_open_in_the_next_slice_is_dropped(chest, open_to, is_lung):
    ct_hu, lung = chest
    ct_hu[8, open_to, 44:56] = -1000  # from the frame
    ct_hu[9, 20:30, 44:56], lung[9, 20:30, 44:56] = -850, True  # as dark as lung, 7 ml
    assert clean(lung, ct_hu)[9, 22:28, 46:54].all() == is_lung


def test_a_mass_on_the_wall_that_the_network_left_out_is_lung(chest):
    ct_hu, lung = chest
    mass, neck = np.s_[3:7, 32:42, 16:26], np.s_[4:6, 36:38, 12:16]
    ct_hu[mass] = ct_hu[neck] = 40
    predicted = lung.copy()
    predicted[mass] = predicted[neck] = False
    assert clean(predicted, ct_hu)[mass].all()


def test_air_of_the_room_and_foam_of_the_table_are_dropped(chest):
    ct_hu, lung = chest
    predicted = lung.copy()
    predicted[:, :6] = True
    ct_hu[:, 66:68, 4:96] = ct_hu[:, 76:78, 4:96] = ct_hu[:, 66:78, 4:6] = ct_hu[:, 66:78, 94:96] = 150
    ct_hu[:, 68:76, 6:94], predicted[:, 68:76, 6:94] = -900, True
    np.testing.assert_array_equal(clean(predicted, ct_hu), lung)


def test_a_lung_that_the_field_of_view_cuts_stays():
    ct_hu = np.full((8, 80, 100), 40, np.int16)
    lung = np.zeros(ct_hu.shape, bool)
    lung[:, 5:75, :40] = lung[:, 20:70, 60:90] = True  # one touches most of the left edge
    ct_hu[lung] = -850
    np.testing.assert_array_equal(clean(lung, ct_hu), lung)


@pytest.mark.parametrize("offset_hu", [-100, 0, 50])
def test_a_lung_that_the_field_of_view_cuts_stays_where_the_scanner_is_off(offset_hu):
    """Of the room, too, there is a part in the picture; CT is clipped at -1024."""
    ct_hu = np.full((8, 80, 100), 40, np.int16)
    lung = np.zeros(ct_hu.shape, bool)
    lung[:, 5:75, :40] = lung[:, 20:70, 60:90] = True
    ct_hu[lung] = -870
    ct_hu[:, :3, 45:] = -1000
    ct_hu = np.maximum(ct_hu + offset_hu, -1024).astype(np.int16)
    np.testing.assert_array_equal(clean(lung, ct_hu), lung)


def test_the_air_of_the_room_is_dropped_where_it_is_less_dark():
    """A scanner that is 60 HU too high, a room of -940."""
    ct_hu = np.full((8, 80, 100), -940, np.int16)
    ct_hu[:, 8:62, 6:94] = 100
    lung = np.zeros(ct_hu.shape, bool)
    lung[2:8, 20:50, 12:42] = lung[2:8, 20:50, 58:88] = True
    ct_hu[lung] = -790
    predicted = lung.copy()
    predicted[:, :4, 20:80] = True
    np.testing.assert_array_equal(clean(predicted, ct_hu), lung)


@pytest.mark.parametrize(("dark_hu", "is_lung"), [(-975, True), (-1015, False)], ids=["lung", "gas"])
def test_a_large_lung_that_is_darker_than_the_other_stays_where_the_scanner_is_off(chest, dark_hu, is_lung):
    """1.3 litres on the right, of -850 HU, as much on the left; the room of -1100 is clipped."""
    ct_hu, lung = chest
    ct_hu[ct_hu == -1000] = -1024
    ct_hu[2:8, 20:50, 59:88] = dark_hu
    lung[..., 58] = False  # smaller than the right one
    ct_hu[..., 58][ct_hu[..., 58] < -400] = 40
    predicted = lung.copy()
    lung[..., 50:] &= is_lung
    spacing_mm = (20.0, 3.0, 4.0)
    np.testing.assert_array_equal(clean_volume(predicted, ct_hu, spacing_mm, find_body(ct_hu, spacing_mm)), lung)


def test_nothing_stays_nothing():
    nothing = np.zeros((3, 5, 7), bool)
    assert not clean(nothing, np.zeros((3, 5, 7), np.int16)).any()
    assert not clean(~nothing, np.full((3, 5, 7), -1000, np.int16)).any()


@pytest.mark.parametrize("off", [-1, 0, 1], ids=["too small", "right", "too large"])
def test_an_edge_that_is_off_by_a_pixel_is_drawn_where_air_meets_tissue(chest, off):
    ct_hu, lung = chest
    predicted = np.zeros(lung.shape, bool)
    for cols in (slice(12 - off, 42 + off), slice(58 - off, 88 + off)):
        predicted[2:8, 20 - off : 50 + off, cols] = True
    np.testing.assert_array_equal(clean(predicted, ct_hu), lung)


def test_the_edge_of_a_mass_at_the_wall_stays_where_the_network_drew_it(chest):
    ct_hu, lung = chest
    ct_hu[2:8, 20:34, 12:30] = 40  # no neck, 42 by 72 mm of the front wall
    np.testing.assert_array_equal(clean(lung, ct_hu)[2:8, 20:32, 12:28], lung[2:8, 20:32, 12:28])


def test_the_edge_does_not_grow_into_gas_behind_a_thin_wall(chest):
    ct_hu, lung = chest
    ct_hu[2:8, 20:50, 42:44] = -600  # the wall between them, blurred
    ct_hu[2:8, 20:50, 44:56] = -1000
    found = clean(lung, ct_hu)
    assert not found[..., 44:56].any()


@pytest.mark.parametrize(("columns", "is_lung"), [(14, True), (11, False)])
def test_of_little_lung_beside_much_gas_nothing_stays(columns, is_lung):
    ct_hu = np.full((10, 80, 100), -1000, np.int16)
    ct_hu[:, 8:62, 6:94] = 40
    ct_hu[2:8, 20:50, 12:32] = -1000  # gas, 216 ml
    predicted = np.zeros(ct_hu.shape, bool)
    predicted[2:8, 20:30, 60 : 60 + columns] = True  # 50 ml, or 40
    ct_hu[predicted] = -850
    assert clean(predicted, ct_hu).any() == is_lung


@pytest.mark.parametrize(("columns", "is_lung"), [(7, True), (6, False)])
def test_a_volume_whose_largest_piece_is_as_small_as_stool_holds_no_lung(columns, is_lung):
    ct_hu = np.full((10, 80, 100), -1000, np.int16)
    ct_hu[:, 8:62, 6:94] = 40
    predicted = np.zeros(ct_hu.shape, bool)
    predicted[2:8, 20:26, 60 : 60 + columns] = True  # 504 mm2 in a slice, or 432
    ct_hu[predicted] = -850
    assert clean(predicted, ct_hu).any() == is_lung
