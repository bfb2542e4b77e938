"""Grids, distances, closing and filling on arrays small enough to count by hand."""

import numpy as np
import pytest
from scipy import ndimage

from lungct.segmentation.morphology import (
    IN_SLICE,
    IN_SLICE_8,
    all_in_blocks,
    block_mean,
    bounding_box,
    close_slices,
    close_volume,
    count_labels,
    distance_mm,
    enlarge,
    fill_slices,
    fill_volume,
    fine_box,
    open_slices,
    sum_labels,
)


def volume(*shape: int) -> np.ndarray:
    return np.zeros(shape, bool)


def test_neighbours_in_a_slice_touch_by_edges_or_by_corners_too():
    one = volume(3, 5, 5)
    one[1, 2, 2] = True
    by_edges, by_corners = (ndimage.binary_dilation(one, structure) for structure in (IN_SLICE, IN_SLICE_8))
    assert np.argwhere(by_edges).tolist() == [[1, 1, 2], [1, 2, 1], [1, 2, 2], [1, 2, 3], [1, 3, 2]]
    assert (by_corners.sum(), by_corners[1, 1:4, 1:4].all()) == (9, True)


def test_block_mean_repeats_the_edge_where_a_block_is_not_whole():
    image = np.array([[1, 3, 5], [5, 7, 9], [2, 4, 8]], np.int16)
    assert block_mean(image, (2, 2)).tolist() == [[4, 7], [3, 8]]


def test_a_block_counts_where_all_of_it_is_mask_and_a_part_of_a_block_does_not():
    mask = volume(2, 5, 9)
    mask[1, :4, 2:9] = True
    mask[1, 3, 5] = False
    assert np.argwhere(all_in_blocks(mask, 2)).tolist() == [[1, 0, 1], [1, 0, 2], [1, 0, 3], [1, 1, 1], [1, 1, 3]]
    assert all_in_blocks(mask, 2).shape == (2, 2, 4)


def test_enlarge_repeats_pixels_and_ends_with_the_fine_grid():
    mask = np.array([[[True, False], [False, True]]])
    assert enlarge(mask, (2, 3), (1, 3, 5)).astype(int).tolist() == [
        [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 1]]
    ]


def test_distance_counts_each_axis_in_mm_and_not_the_faces_of_the_volume():
    mask = ~volume(3, 5, 7)
    mask[0, 2, 3] = False
    distance = distance_mm(mask, (4.0, 2.0, 1.0))
    assert distance[0, 2, 3] == 0
    assert distance[2, 2, 3] == 8
    assert distance[0, 4, 3] == 4
    assert distance[0, 2, 0] == 3
    assert distance[0, 4, 0] == 5  # 4 rows and 3 columns of a right triangle


def test_closing_bridges_what_is_nearer_than_its_diameter():
    mask = volume(1, 30, 40)
    mask[:, 10:20, 5:15] = mask[:, 10:20, 19:30] = True  # four columns apart
    gap = np.s_[0, 13:17, 15:19]
    assert close_slices(mask, (1.0, 1.0, 1.0), (3.0,))[0][gap].all()
    assert not close_slices(mask, (1.0, 1.0, 1.0), (1.5,))[0][gap].any()
    assert not close_slices(mask, (1.0, 1.0, 2.0), (3.0,))[0][gap].any()  # 8 mm apart


def test_closing_takes_in_what_is_as_far_as_its_radius():
    mask = volume(1, 21, 21)
    mask[0, 8:13, :8] = mask[0, 8:13, 11:] = True  # three columns apart: the middle one is two columns from either
    assert close_slices(mask, (1.0, 1.0, 1.0), (2.0,))[0][0, 10, 9]
    assert not close_slices(mask, (1.0, 1.0, 1.0), (1.9,))[0][0, 10, 9]


def test_closing_does_not_bridge_slices():
    mask = ~volume(3, 20, 20)
    mask[1] = False
    np.testing.assert_array_equal(close_slices(mask, (1.0, 1.0, 1.0), (5.0,))[0], mask)


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["slices", "rows", "columns"])
@pytest.mark.parametrize(("gap_mm", "is_closed"), [(15, True), (20, False)])
def test_a_ball_bridges_what_is_nearer_than_its_diameter_along_each_axis(axis, gap_mm, is_closed):
    spacing_mm = (2.5, 2.0, 1.0)
    gap, mask = int(gap_mm / spacing_mm[axis]), ~volume(40, 40, 60)
    np.moveaxis(mask, axis, 0)[15 : 15 + gap] = False
    closed = np.moveaxis(close_volume(mask, spacing_mm, radius_mm=9.0), axis, 0)
    assert closed[15 + gap // 2, 20, 20] == is_closed


def test_a_ball_leaves_a_block_as_it_is():
    block = volume(30, 30, 40)
    block[10:20, 8:22, 12:30] = True
    np.testing.assert_array_equal(close_volume(block, (2.5, 2.0, 1.0), radius_mm=9.0), block)


def test_a_ball_rolls_over_the_faces_of_the_volume():
    """Into a hole of 8 x 8 mm in a face, a ball of 5 mm reaches 2 mm deep: 5 less the root of 25 - 16."""
    mask = ~volume(20, 20, 20)
    mask[6:14, 6:14, :8] = False
    closed = close_volume(mask, (1.0, 1.0, 1.0), radius_mm=5.0)
    assert not closed[9:11, 9:11, 0].any()
    assert closed[6:14, 6:14, 3:8].all()


@pytest.mark.parametrize("upside_down", [False, True])
@pytest.mark.parametrize(
    ("radii", "is_filled"),
    [
        ([18, 14, 9, 6, 0], [False, False, False, True, True]),  # a dome; a tip makes the next hole one, too
        ([9, 9, 9, 9, 0], [True, True, True, True, True]),  # a column: nothing wider below it
        ([18, 7, 0, 0, 0], [False, True, True, True, True]),  # a tip of 149 mm2 may be a vessel
    ],
    ids=["dome", "nodule", "small"],
)
def test_the_tip_of_something_wider_is_no_hole(radii, is_filled, upside_down):
    y, x = np.mgrid[-40:41, -40:41]
    mask = np.stack([np.hypot(y, x) >= radius for radius in radii])
    filled = fill_slices(mask[::-1] if upside_down else mask, 800, 1)
    assert filled.all(axis=(1, 2)).tolist() == (is_filled[::-1] if upside_down else is_filled)


def test_opening_keeps_squares_of_two_by_two():
    mask = volume(2, 9, 9)
    mask[0, 1:4, 1:3] = mask[0, 6, 1:8] = mask[0, 1:8, 6] = mask[1, 0, 0] = True
    mask[1, 7:, 7:] = True  # in a corner of the image
    kept = volume(2, 9, 9)
    kept[0, 1:4, 1:3] = kept[1, 7:, 7:] = True
    np.testing.assert_array_equal(open_slices(mask), kept)


def test_holes_of_a_slice_are_filled_up_to_an_area():
    mask = volume(1, 20, 20)
    mask[0, 2:18, 2:18] = True
    mask[0, 4:7, 4:8] = False  # 12 pixels of 2 mm2
    mask[0, 10:14, 4:10] = False  # 24 pixels
    mask[0, 10:12, 16:] = False  # a bay, no hole
    filled = fill_slices(mask, 48.0, 2.0)
    assert filled[0, 4:7, 4:8].all()
    assert not filled[0, 10:14, 4:10].any()
    assert not filled[0, 10:12, 16:].any()
    assert fill_slices(mask, 48.1, 2.0)[0, 10:14, 4:10].all()


def test_what_a_mask_encloses_on_all_sides_is_filled_whatever_its_size():
    mask = volume(12, 30, 30)
    mask[1:11, 2:28, 2:28] = True
    whole = mask.copy()
    mask[3:9, 6:24, 6:24] = False
    np.testing.assert_array_equal(fill_volume(mask), whole)


def test_holes_at_the_end_of_uneven_rows_and_columns_are_filled():
    mask = volume(7, 31, 33)
    mask[1:6, 3:30, 3:32] = True
    whole = mask.copy()
    mask[2:5, 24:28, 26:30] = False
    np.testing.assert_array_equal(fill_volume(mask), whole)


@pytest.mark.parametrize("odd", [0, 1])
def test_a_wall_of_one_pixel_closes_a_hole(odd):
    mask = volume(7, 30, 32)
    mask[1:6, 4 + odd : 25 + odd, 4 + odd : 27 + odd] = True
    whole = mask.copy()
    mask[2:5, 5 + odd : 24 + odd, 5 + odd : 26 + odd] = False
    np.testing.assert_array_equal(fill_volume(mask), whole)


def test_a_hole_that_opens_through_one_slice_is_not_filled():
    mask = volume(12, 30, 30)
    mask[1:11, 2:28, 2:28] = True
    mask[3:9, 6:24, 6:24] = mask[9:11, 10:14, 10:14] = False
    np.testing.assert_array_equal(fill_volume(mask), mask)


def test_counts():
    label = np.array([[[0, 1, 1]], [[3, 3, 1]]])
    assert count_labels(label).tolist() == [1, 3, 0, 2]
    assert sum_labels(label, label + 0.5).tolist() == [0.5, 4.5, 0, 7]


def test_box_has_a_margin_as_far_as_the_volume_goes():
    mask = volume(10, 20, 40)
    mask[2:4, 8, 10:30] = True
    assert (
        bounding_box(mask, (5.0, 1.0, 2.0), 5.0) == np.s_[0:6, 2:15, 6:34]
    )  # margin in voxels rounded up, and one more
    mask[9, 19, 39] = True
    assert bounding_box(mask, (5.0, 1.0, 2.0), 0)[0] == slice(1, 10)
    assert bounding_box(mask, (5.0, 1.0, 2.0), 11)[0] == slice(0, 10)
    assert fine_box(np.s_[0:6, 2:15, 6:34], (2, 3)) == np.s_[0:6, 4:30, 18:102]
