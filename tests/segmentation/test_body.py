"""Open air, padding, trunk, and a lung that the field of view cuts: boxes counted by hand."""

import numpy as np
import pytest

from lungct.segmentation.body import coarsen, find_body, find_outside, find_padding, trunk_hull

SPACING_MM = (5.0, 1.6, 1.6)  # as the coarse grid, whose pixels are those of the volume
NO_PADDING = np.zeros((4, 100, 120), bool)


def block_in_air() -> np.ndarray:
    """A trunk of 60 rows and 80 columns in air: (4, 100, 120) HU."""
    ct_hu = np.full((4, 100, 120), -1000, np.float32)
    ct_hu[:, 20:80, 20:100] = 40
    return ct_hu


def test_pixels_become_blocks_of_about_the_grid():
    ct_hu = np.full((2, 10, 9), 100, np.int16)
    ct_hu[0, :2, :3] = -1000
    coarse_hu, padding, steps, coarse_mm = coarsen(ct_hu, (3.0, 0.8, 0.5))
    assert steps == (2, 3)
    assert coarse_mm == (3.0, 1.6, 1.5)
    assert coarse_hu.shape == (2, 5, 3)
    assert coarse_hu[0, 0].tolist() == [-1000, 100, 100]
    assert not padding.any()


def test_air_around_the_trunk_is_open_and_air_in_it_is_not():
    ct_hu = block_in_air()
    ct_hu[:, 40:60, 30:50] = -850
    body = find_body(ct_hu, SPACING_MM)
    np.testing.assert_array_equal(body.open_air, ct_hu == -1000)
    np.testing.assert_array_equal(body.air, ct_hu == -850)


@pytest.mark.parametrize(("hu", "is_air"), [(-401, True), (-400, False)])
def test_air_is_below_400_hu(hu, is_air):
    ct_hu = block_in_air()
    ct_hu[:, 40:60, 30:50] = hu
    assert find_body(ct_hu, SPACING_MM).air.any() == is_air


def test_the_grid_is_of_1_6_mm_where_nothing_else_is_asked_for():
    assert find_body(block_in_air(), (5.0, 0.8, 0.53)).steps == (2, 3)
    assert find_body(block_in_air(), (5.0, 3.0, 4.0)).steps == (1, 1)


def test_every_third_slice_and_second_row_of_a_body():
    ct_hu = np.full((7, 60, 80), -1000, np.int16)
    ct_hu[:, 10:50, 10:70] = np.arange(7)[:, None, None]
    body = find_body(ct_hu, (2.0, 1.5, 1.5))
    assert body.steps_of((5.0, 3.2, 0.1)) == (2, 2, 1)  # 2.5 slices, 2.1 rows, 0.07 columns
    some = body.every((3, 2, 1))
    assert some.coarse_hu[:, 15, 40].tolist() == [0, 3, 6]
    assert some.hull.shape == some.open_air.shape == some.air.shape == (3, 30, 80)
    assert (some.spacing_mm, some.steps, some.room_hu) == ((6.0, 3.0, 1.5), (2, 1), body.room_hu)
    assert (body.middle, some.middle) == ((29.5, 39.5), (14.75, 39.5))


def test_crop_is_the_body_of_a_box():
    ct_hu = block_in_air()
    ct_hu[1, 40:60, 30:50] = -850
    body = find_body(ct_hu, SPACING_MM)
    assert body.air.sum() == 400
    part = body.crop(np.s_[1:3, 50:70, 10:40])
    assert part.coarse_hu.shape == part.hull.shape == (2, 20, 30)
    assert part.air.sum() == 10 * 10
    assert part.open_air.sum() == 2 * 20 * 10
    assert (part.steps, part.spacing_mm) == (body.steps, body.spacing_mm)


def test_the_middle_is_that_of_the_whole_trunk_in_a_part_of_it_too():
    body = find_body(block_in_air(), SPACING_MM)
    assert body.middle == (49.5, 59.5)
    assert body.crop(np.s_[1:3, 20:80, 20:50]).crop(np.s_[:, 5:, 10:]).middle == (24.5, 29.5)


def test_hull_holds_the_trunk_with_its_lungs_and_leaves_the_table_out():
    tissue = np.zeros((4, 100, 120), bool)
    tissue[:, 20:80, 20:100] = True
    tissue[:, 30:60, 30:90] = False  # lungs
    tissue[:, 90:92, 10:110] = True  # table, a pixel of the hull's grid thick
    expected = np.zeros(tissue.shape, bool)
    expected[:, 20:80, 20:100] = True
    np.testing.assert_array_equal(trunk_hull(tissue, SPACING_MM), expected)


def test_hull_holds_what_lies_between_trunk_and_trunk_in_a_row_or_in_a_column():
    tissue = np.zeros((3, 60, 80), bool)
    tissue[:, 10:50, 10:70] = True
    tissue[:, 10:30, 30:50] = False  # a bay from the front: closed in its rows, open in its columns
    tissue[:, 36:44, 50:70] = False  # one from the side
    expected = np.zeros(tissue.shape, bool)
    expected[:, 10:50, 10:70] = True
    np.testing.assert_array_equal(trunk_hull(tissue, SPACING_MM), expected)
    tissue[:, 10:30, 50:] = False  # with a corner
    expected[:, 10:30, 30:70] = False
    np.testing.assert_array_equal(trunk_hull(tissue, SPACING_MM), expected)


def test_blocks_of_the_hull_are_tissue_where_three_of_four_pixels_are():
    tissue = np.zeros((2, 60, 80), bool)
    tissue[:, 10:50, 10:70] = True
    tissue[:, 50, 10:70] = True  # half of the next blocks
    assert not trunk_hull(tissue, SPACING_MM)[:, 50:].any()
    tissue[:, 51, 10:70:2] = True  # and another quarter
    assert trunk_hull(tissue, SPACING_MM)[:, 50:52, 10:70].all()


def test_without_a_trunk_everything_may_be_one():
    assert trunk_hull(np.zeros((2, 30, 30), bool), SPACING_MM).all()


def in_circle(value: float) -> np.ndarray:
    """(2, 101, 101) HU: padding around a circle, of which rows and columns are a fiftieth of the radius apart."""
    y, x = np.ogrid[-1:1:101j, -1:1:101j]
    return np.broadcast_to(np.where(y * y + x * x <= 0.9, -990.0, value), (2, 101, 101)).astype(np.float32)


def test_padding_reaches_a_little_into_the_circle():
    padding = find_padding(in_circle(-1024))
    assert padding[:, [0, 1, -2, -1], 50].all()  # 0.98 of the radius from its middle
    assert padding[:, 50, [0, 1, -2, -1]].all()
    assert not padding[:, [2, -3], 50].any()  # 0.96
    assert not padding[:, 50, [2, -3]].any()


@pytest.mark.parametrize("corner", [(0, 0), (1, 1), (0, -1), (1, -2), (-1, 0), (-2, 1), (-1, -1), (-2, -2)])
def test_padding_is_one_value_in_all_corners(corner):
    ct_hu = in_circle(-1024)
    assert find_padding(ct_hu).any()
    ct_hu[1, corner[0], corner[1]] = -1023
    assert not find_padding(ct_hu).any()


def test_padding_is_no_trunk():
    """A trunk of 20 x 20 pixels is smaller than each of the four corners outside the circle."""
    y, x = np.ogrid[-1:1:101j, -1:1:101j]
    ct_hu = np.broadcast_to(np.where(y * y + x * x <= 1, -1000, -2048), (3, 101, 101)).astype(np.int16)
    ct_hu[:, 40:60, 40:60] = 40
    body = find_body(ct_hu, SPACING_MM)
    np.testing.assert_array_equal(body.hull, ct_hu == 40)
    np.testing.assert_array_equal(body.open_air, ct_hu != 40)


def test_padding_is_at_or_below_air():
    assert find_padding(in_circle(-1000)).any()
    assert not find_padding(in_circle(-999)).any()


@pytest.mark.parametrize("value", [-1000, -1024, -2048])
def test_padding_is_the_constant_outside_the_circle(value):
    y, x = np.ogrid[-1:1:100j, -1:1:100j]
    circle = np.broadcast_to(y * y + x * x <= 1, (3, 100, 100))
    ct_hu = np.where(circle, -990.0, value).astype(np.float32)
    ct_hu[:, 50, 50] = value  # inside, the same value is air
    np.testing.assert_array_equal(find_padding(ct_hu), ~circle)


def test_corners_of_noise_or_of_tissue_are_no_padding():
    noise = np.random.default_rng(0).normal(-1000, 10, (2, 50, 50)).astype(np.float32)
    assert not find_padding(noise).any()
    assert not find_padding(np.full((2, 50, 50), 40, np.float32)).any()


def lung_at_the_frame(rows: slice, hu: float, cols: int = 30) -> np.ndarray:
    """A slice of tissue, as after a field of view that cuts the trunk, with air at its left edge."""
    ct_hu = np.full((4, 100, 120), 40, np.float32)
    ct_hu[:, rows, :cols] = hu
    return ct_hu


@pytest.mark.parametrize(
    ("rows", "hu", "is_open"),
    [
        (slice(35, 65), -850, False),
        (slice(20, 80), -850, False),  # along much of the frame
        (slice(0, 20), -850, False),  # before the trunk
        (slice(35, 65), -1000, True),  # as dark as the room
        (slice(35, 65), -930, True),
        (slice(35, 65), -929, False),
    ],
)
def test_air_at_the_frame_is_lung_where_it_is_lighter_than_the_room(rows, hu, is_open):
    ct_hu = lung_at_the_frame(rows, hu)
    outside = find_outside(ct_hu, NO_PADDING, SPACING_MM)
    assert outside[ct_hu == hu].all() == outside.any() == is_open
