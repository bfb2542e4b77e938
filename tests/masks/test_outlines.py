"""Outlines enclose the pixels of a mask and no others, whatever rule a program fills them by."""

import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from skimage.draw import polygon2mask

from lungct.masks.outlines import drop_straight, outline, signed_area


def by_even_odd(polygons: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Filled by scikit-image, a pixel in two polygons being in none."""
    filled = np.zeros(shape, bool)
    for points in polygons:
        filled ^= polygon2mask(shape, points)
    return filled


def by_union(polygons: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Filled by matplotlib, a pixel in any polygon being in."""
    pixels = np.stack(np.mgrid[: shape[0], : shape[1]], -1).reshape(-1, 2)
    inside = [Polygon(np.append(p, p[:1], axis=0)).contains_points(pixels) for p in polygons]
    return np.any(inside, axis=0).reshape(shape) if polygons else np.zeros(shape, bool)


def ring(shape=(20, 26)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[3:17, 4:22] = True
    mask[7:12, 8:15] = False
    return mask


def test_a_rectangle_has_the_corners_half_way_to_its_neighbours():
    mask = np.zeros((8, 9), bool)
    mask[2:5, 3:7] = True
    (points,) = outline(mask)
    assert len(points) == 8  # a corner is cut between the middles of two pixel edges
    assert set(map(tuple, points)) == {
        (1.5, 3), (1.5, 6), (2, 6.5), (4, 6.5), (4.5, 6), (4.5, 3), (4, 2.5), (2, 2.5),
    }  # fmt: skip
    assert signed_area(points) == pytest.approx(3 * 4 - 4 / 8)


def test_a_ring_is_one_polygon_with_a_keyhole():
    (points,) = outline(ring())
    for fill in (by_even_odd, by_union):
        np.testing.assert_array_equal(fill([points], (20, 26)), ring())
    assert signed_area(points) == pytest.approx(14 * 18 - 5 * 7)  # four corners cut outside, four inside
    assert len(points) == 8 + 8 + 4


def test_an_island_in_a_hole_is_a_polygon_of_its_own():
    mask = ring()
    mask[9, 10:13] = True
    outlines = outline(mask)
    assert len(outlines) == 2
    for fill in (by_even_odd, by_union):
        np.testing.assert_array_equal(fill(outlines, mask.shape), mask)


def test_a_hole_in_an_island_in_a_hole_belongs_to_the_island():
    mask = np.zeros((40, 44), bool)
    mask[2:38, 3:41] = True
    mask[5:35, 6:38] = False
    mask[10:30, 12:32] = True
    mask[15:25, 18:26] = False
    mask[3, 30] = False
    outlines = outline(mask)
    assert len(outlines) == 2
    for fill in (by_even_odd, by_union):
        np.testing.assert_array_equal(fill(outlines, mask.shape), mask)


def test_lungs_up_to_the_edges_of_the_slice_are_closed():
    mask = np.ones((6, 7), bool)
    (points,) = outline(mask)
    assert (points.min(), points[:, 0].max(), points[:, 1].max()) == (-0.5, 5.5, 6.5)
    np.testing.assert_array_equal(by_even_odd([points], mask.shape), mask)


def test_single_pixels_touching_at_a_corner_and_nothing():
    assert outline(np.zeros((5, 6), bool)) == []
    mask = np.zeros((5, 6), bool)
    mask[1, 1] = mask[2, 2] = True
    outlines = outline(mask)
    assert len(outlines) == 2
    np.testing.assert_array_equal(by_even_odd(outlines, mask.shape), mask)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_any_mask_comes_back_by_either_rule(seed, share):
    mask = np.random.default_rng(seed).random((24, 31)) < share
    outlines = outline(mask)
    for fill in (by_even_odd, by_union):
        np.testing.assert_array_equal(fill(outlines, mask.shape), mask)


def test_points_on_a_straight_line_are_left_out_but_not_where_it_turns_back():
    points = np.array([[0, 0], [0, 1], [0, 2], [2, 2], [2, 1], [2, 0]], float)
    assert drop_straight(points).tolist() == [[0, 0], [0, 2], [2, 2], [2, 0]]
    spike = np.array([[0, 0], [0, 4], [0, 2], [3, 2]], float)
    assert [0, 4] in drop_straight(spike).tolist()
