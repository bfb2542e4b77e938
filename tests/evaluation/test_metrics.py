"""Scores of boxes whose distances are known, with three different spacings."""

import math

import numpy as np
import pytest

from lungct.evaluation.metrics import compare, dice, iou, litres, surface

SPACING_MM = (3.0, 2.0, 1.5)


def box(z=slice(2, 8), y=slice(5, 15), x=slice(4, 24)) -> np.ndarray:
    mask = np.zeros((12, 26, 34), bool)
    mask[z, y, x] = True
    return mask


def test_equal_masks_are_perfect():
    scores = compare(box(), box(), SPACING_MM)
    assert (scores["dice"], scores["iou"], scores["hd95_mm"], scores["surface_dice_1mm"]) == (1, 1, 0, 1)


def test_half_overlap():
    a, b = box(x=slice(4, 24)), box(x=slice(14, 34))
    assert dice(a, b) == pytest.approx(0.5)
    assert iou(a, b) == pytest.approx(1 / 3)


def test_a_wall_moved_by_two_rows_is_four_mm_away():
    a, b = box(y=slice(5, 15)), box(y=slice(5, 17))
    scores = compare(a, b, SPACING_MM)
    assert scores["hd95_mm"] == pytest.approx(4.0)
    assert 0.5 < scores["surface_dice_2mm"] < 1


def test_surface_dice_counts_the_wall_that_moved():
    a, b = box(), box(x=slice(4, 25))  # one column, 1.5 mm
    scores = compare(a, b, SPACING_MM)
    assert scores["surface_dice_2mm"] == 1
    assert scores["surface_dice_1mm"] < 1


def test_surface_of_a_box_is_its_hull():
    assert surface(box()).sum() == 6 * 10 * 20 - 4 * 8 * 18


def test_empty_masks():
    nothing = np.zeros_like(box())
    both = compare(nothing, nothing, SPACING_MM)
    assert (both["dice"], both["hd95_mm"], both["surface_dice_1mm"]) == (1, 0, 1)
    one = compare(box(), nothing, SPACING_MM)
    assert (one["dice"], one["hd95_mm"], one["surface_dice_2mm"]) == (0, math.inf, 0)


def test_worst_slice_is_named():
    b = box()
    b[6] = False
    scores = compare(box(), b, SPACING_MM)
    assert (scores["worst_slice"], scores["worst_slice_dice"]) == (6, 0)


def test_litres():
    assert litres(np.ones((10, 100, 100), bool), (5.0, 2.0, 1.0)) == pytest.approx(1.0)
