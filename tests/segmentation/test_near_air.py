"""Which rows and columns a network sees: boxes counted by hand, on a coarse grid of 2 mm, two pixels each."""

import numpy as np
import pytest

from lungct.segmentation.body import Body
from lungct.segmentation.near_air import box_near_air, box_of_trunk, fill_up, reaches_edge

SHAPE = (200, 300)
TRUNK = (slice(20, 180), slice(0, 300))


def body(*air: tuple, rows: slice = slice(25, 75), cols: slice = slice(30, 120)) -> Body:
    """A trunk with air in it, its middle at column 150 of the image."""
    hull = np.zeros((3, 100, 150), bool)
    hull[:, rows, cols] = True
    coarse_hu = np.full(hull.shape, 40, np.float32)
    for place in air:
        coarse_hu[place] = -850
    return Body(coarse_hu, ~hull, hull, (49.5, 74.5), (2, 2), (5.0, 2.0, 2.0), -1000.0)


def near(seen: Body, multiple: int = 1, slices: slice = slice(0, 2)) -> tuple[slice, slice]:
    return box_near_air(seen, slices, TRUNK, multiple)


def test_the_trunk_has_a_margin_of_20_mm_and_ends_with_the_image():
    assert box_of_trunk(body(), SHAPE) == (slice(28, 172), slice(38, 262))  # ten pixels of the grid and one more
    at_end = body(rows=slice(95, 100), cols=slice(0, 5))
    assert box_of_trunk(at_end, (199, 300)) == (slice(168, 199), slice(0, 32))


def test_air_is_seen_with_30_mm_in_front_and_as_much_on_the_other_side_to_the_back():
    """From row 80; columns 120 to 140 and 160 to 180. A margin of 30 mm and a pixel of the grid: 32."""
    assert near(body(np.s_[1, 40:45, 60:70])) == (slice(48, 180), slice(88, 212))
    assert near(body(np.s_[1, 40:45, 60:70], np.s_[0, 30, 110])) == (slice(28, 180), slice(46, 254))


def test_air_of_other_slices_and_of_the_room_does_not_count():
    assert near(body(np.s_[1, 40:45, 60:70], np.s_[2, 26, 31], np.s_[1, 10, 10])) == (slice(48, 180), slice(88, 212))


def test_the_whole_trunk_is_seen_where_there_is_no_air():
    assert near(body(np.s_[2, 40:45, 60:70]), 64) == TRUNK


def test_a_dark_lung_that_the_frame_cuts_is_air():
    """It counts as open air, as that of the room does."""
    seen = body(np.s_[1, 40:45, 60:70], np.s_[1, 30:40, 0:20], cols=slice(0, 120))
    seen.open_air[1, 30:40, 0:20] = True
    assert near(seen) == (slice(28, 180), slice(0, 300))
    circle = body(np.s_[1, 40:45, 60:70], np.s_[1, 30:40, 10:20], cols=slice(0, 120))
    circle.open_air[1, 30:40, 10:20] = circle.open_air[:, :, :10] = True  # padding counts as tissue
    assert near(circle) == (slice(28, 180), slice(0, 300))
    inside = body(np.s_[1, 40:45, 60:70], np.s_[1, 30:40, 5:20], cols=slice(0, 120))
    inside.open_air[1, 30:40, 5:20] = True
    assert near(inside) == (slice(48, 180), slice(88, 212))


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
