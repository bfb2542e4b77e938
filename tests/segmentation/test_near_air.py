"""Which rows and columns a network sees: boxes counted by hand, on a coarse grid of 2 mm, two pixels each."""

import numpy as np
import pytest

from lungct.segmentation.body import Body
from lungct.segmentation.near_air import box_of_air, box_of_trunk, fill_up, reaches_edge

SHAPE = (200, 300)
TRUNK = (slice(20, 180), slice(0, 300))


def body(rows: slice = slice(25, 75), cols: slice = slice(30, 120)) -> Body:
    hull = np.zeros((2, 100, 150), bool)
    hull[:, rows, cols] = True
    return Body(np.zeros(hull.shape, np.float32), ~hull, hull, (50, 75), (2, 2), (5.0, 2.0, 2.0), -1000.0)


def test_the_trunk_has_a_margin_of_20_mm_and_ends_with_the_image():
    assert box_of_trunk(body(), SHAPE) == (slice(28, 172), slice(38, 262))  # ten pixels of the grid and one more
    assert box_of_trunk(body(slice(95, 100), slice(0, 5)), (199, 300)) == (slice(168, 199), slice(0, 32))


def test_air_has_a_margin_of_30_mm_within_the_trunk():
    air = np.zeros((2, 100, 150), bool)
    air[1, 40:45, 60:70] = True  # rows 80 to 90, columns 120 to 140; fifteen pixels of the grid and one more
    assert box_of_air(air, body(), TRUNK, 1) == (slice(48, 122), slice(88, 172))
    air[0, 20, 10] = True
    assert box_of_air(air, body(), TRUNK, 1) == (slice(20, 122), slice(0, 172))


def test_the_whole_trunk_is_seen_where_there_is_no_air():
    assert box_of_air(np.zeros((2, 100, 150), bool), body(), TRUNK, 64) == TRUNK


@pytest.mark.parametrize(
    ("part", "multiple", "filled"),
    [
        (slice(40, 60), 16, slice(40, 72)),
        (slice(40, 72), 16, slice(40, 72)),
        (slice(80, 95), 32, slice(68, 100)),
        (slice(12, 95), 64, slice(10, 100)),
        (slice(0, 200), 64, slice(10, 100)),
    ],
    ids=["at its end", "fits", "at its start, too", "all", "more than all"],
)
def test_what_is_seen_is_as_long_as_a_multiple_where_the_trunk_is(part, multiple, filled):
    assert fill_up(part, slice(10, 100), multiple) == filled


@pytest.mark.parametrize(
    ("row", "col", "reaches"), [(0, 5, True), (9, 5, False), (5, 0, False), (5, 19, True), (5, 5, False)]
)
def test_only_an_edge_that_is_not_the_trunks_cuts_a_lung(row, col, reaches):
    lung = np.zeros((3, 10, 20), bool)
    lung[1, row, col] = True
    assert reaches_edge(lung, (slice(30, 40), slice(0, 20)), (slice(20, 40), slice(0, 50))) == reaches
