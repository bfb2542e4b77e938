"""Scores of boxes, sheets and spheres whose distances are known by hand, and beside those of surface-distance."""

import math

import numpy as np
import pytest
import surface_distance
from scipy import ndimage

from lungct.evaluation.metrics import compare, dice, iou, litres

SPACING_MM = (3.0, 2.0, 1.5)
FLAT_MM = (10.0, 1.0, 1.0)  # an upright element has ten times the area of one that lies in a slice


def box(z=slice(2, 8), y=slice(5, 15), x=slice(4, 24)) -> np.ndarray:
    mask = np.zeros((12, 26, 34), bool)
    mask[z, y, x] = True
    return mask


def ball(centre_mm: tuple, radius_mm: float, spacing_mm: tuple, shape: tuple) -> np.ndarray:
    grid = np.indices(shape) * np.reshape(spacing_mm, (3, 1, 1, 1))
    return ((grid - np.reshape(centre_mm, (3, 1, 1, 1))) ** 2).sum(0) <= radius_mm**2


def test_equal_masks_are_perfect():
    scores = compare(box(), box(), SPACING_MM)
    assert (scores.dice, scores.iou, scores.hd95_mm, scores.surface_dice_1mm) == (1, 1, 0, 1)


def test_half_overlap():
    a, b = box(x=slice(4, 24)), box(x=slice(14, 34))
    assert dice(a, b) == pytest.approx(0.5)
    assert iou(a, b) == pytest.approx(1 / 3)


def test_a_wall_moved_by_two_rows_is_four_mm_away():
    a, b = box(y=slice(5, 15)), box(y=slice(5, 17))
    scores = compare(a, b, SPACING_MM)
    assert scores.hd95_mm == pytest.approx(4.0)
    assert 0.5 < scores.surface_dice_2mm < 1


@pytest.mark.parametrize("slice_mm", [0.5, 3.0])
def test_a_wall_moved_by_a_slice_is_a_slice_spacing_away(slice_mm):
    assert compare(box(), box(z=slice(2, 9)), (slice_mm, 2.0, 1.5)).hd95_mm == pytest.approx(slice_mm)


@pytest.mark.parametrize(
    ("axis", "apart", "hd95_mm", "near_1mm", "near_2mm"),
    [(0, 1, 3.0, 0.5, 0.5), (1, 1, 2.0, 0.5, 1), (2, 1, 1.5, 0.5, 1), (2, 2, 3.0, 0, 0.5), (0, 2, 6.0, 0, 0)],
)
def test_two_parallel_sheets(axis, apart, hd95_mm, near_1mm, near_2mm):
    """One voxel thick: the sides that face away from each other are `apart` voxels away, the others one fewer."""
    sides = [slice(2, 10)] * 3
    sheets = [box(*sides[:axis], slice(at, at + 1), *sides[axis + 1 :]) for at in (4, 4 + apart)]
    scores = compare(*sheets, SPACING_MM)
    assert scores.hd95_mm == pytest.approx(hd95_mm)
    assert scores.surface_dice_1mm == pytest.approx(near_1mm)
    assert scores.surface_dice_2mm == pytest.approx(near_2mm)


def test_a_ball_beside_a_ball():
    """The distance of a point to the other sphere is nearly 9 mm times the cosine of its angle, which is uniform."""
    spacing_mm, shape = (1.25, 0.8, 0.7), (50, 76, 86)
    balls = [ball((31, 30 + shift, 30), 25, spacing_mm, shape) for shift in (-4.5, 4.5)]
    scores = compare(*balls, spacing_mm)
    assert scores.hd95_mm == pytest.approx(0.95 * 9, abs=0.7)
    assert scores.surface_dice_2mm == pytest.approx(2 / 9, abs=0.05)


def test_a_ball_around_a_ball():
    spacing_mm, shape = (1.25, 0.8, 0.7), (50, 76, 86)
    scores = compare(*(ball((30, 30, 30), radius, spacing_mm, shape) for radius in (22, 27)), spacing_mm)
    assert scores.hd95_mm == pytest.approx(5, abs=0.7)
    assert scores.surface_dice_2mm == 0


def test_a_speck_far_away_is_among_the_five_percent():
    """And so HD95 is not the largest distance."""
    speck = box()
    speck[10, 24, 32] = True
    for pair in ((box(), speck), (speck, box())):
        scores = compare(*pair, SPACING_MM)
        assert scores.hd95_mm == 0
        assert 0.98 < scores.surface_dice_1mm < 1


def test_the_worse_direction_counts():
    """A piece too many is 8 % of one surface's area, and less than 5 % of both surfaces together."""
    piece = box()
    piece[2:6, 20:22, 30:34] = True
    for pair in ((box(), piece), (piece, box())):
        scores = compare(*pair, SPACING_MM)
        assert scores.hd95_mm > 10
        assert 0.93 < scores.surface_dice_2mm < 0.97


def test_surfaces_count_by_area_not_by_element():
    """A plate that lies in a slice adds 8 % of the elements to an upright wall, and 3 % of the area."""
    wall = box(slice(1, 11), slice(2, 26), slice(2, 3))
    with_plate = wall | box(slice(5, 6), slice(8, 12), slice(20, 24))
    scores = compare(wall, with_plate, FLAT_MM)
    assert scores.hd95_mm == 0
    assert scores.surface_dice_2mm > 0.98


def test_a_mask_that_fills_the_volume_has_its_surface_at_the_faces():
    """Three of the columns are missing: that face is 4.5 mm away."""
    whole = np.ones((6, 10, 8), bool)
    less = whole.copy()
    less[..., 5:] = False
    scores = compare(whole, less, SPACING_MM)
    assert scores.hd95_mm == pytest.approx(4.5)
    assert scores.surface_dice_2mm < 0.9
    assert compare(whole, whole, SPACING_MM).hd95_mm == 0


def test_a_distance_that_equals_the_tolerance_is_within_it():
    """Ten columns of 0.1 mm, which is no number that 32 or 64 bits hold."""
    sheets = [box(slice(0, 1), slice(2, 20), slice(at, at + 1)) for at in (4, 14)]
    assert compare(*sheets, (5.0, 5.0, 0.1)).surface_dice_1mm == 1


def test_empty_masks():
    nothing = np.zeros_like(box())
    both = compare(nothing, nothing, SPACING_MM)
    assert (both.dice, both.iou, both.hd95_mm, both.surface_dice_1mm, both.surface_dice_2mm) == (1, 1, 0, 1, 1)
    for pair in ((box(), nothing), (nothing, box())):
        one = compare(*pair, SPACING_MM)
        assert (one.dice, one.iou, one.hd95_mm, one.surface_dice_1mm, one.surface_dice_2mm) == (0, 0, math.inf, 0, 0)


def test_worst_slice_is_named():
    b = box()
    b[6] = False
    scores = compare(box(), b, SPACING_MM)
    assert (scores.worst_slice, scores.worst_slice_dice) == (6, 0)
    assert type(scores.worst_slice) is int


def test_litres():
    assert litres(np.ones((10, 100, 100), bool), (5.0, 2.0, 1.0)) == pytest.approx(1.0)


def test_litres_of_slices_at_unequal_distances():
    lung = np.zeros((3, 100, 100), bool)
    lung[1:, :50] = True
    assert litres(lung, (5.0, 2.0, 1.0), np.array([7.0, 5.0, 15.0])) == pytest.approx(0.2)


def blobs(seed: int) -> np.ndarray:
    """Smooth pieces of any form, some of which the volume cuts."""
    noise = np.random.default_rng(seed).normal(size=(14, 30, 36))
    return ndimage.gaussian_filter(noise, (1, 2.5, 2.5)) > 0.03


def one_voxel(*place: int) -> np.ndarray:
    mask = np.zeros((14, 30, 36), bool)
    mask[place] = True
    return mask


PAIRS = {
    "pieces": (blobs(1), blobs(2)),
    "pieces, a row further": (blobs(3), np.roll(blobs(3), 1, axis=1)),
    "every other voxel": tuple(np.random.default_rng(s).random((14, 30, 36)) > 0.5 for s in (4, 5)),
    "the whole volume": (np.ones((14, 30, 36), bool), blobs(6)),
    "a voxel in a corner": (one_voxel(0, 0, 0), blobs(7)),
    "voxels in opposite corners": (one_voxel(0, 0, 0), one_voxel(13, 29, 35)),
    "the same voxel": (one_voxel(5, 6, 7), one_voxel(5, 6, 7)),
    "one is empty": (blobs(8), np.zeros((14, 30, 36), bool)),
    "the other is empty": (np.zeros((14, 30, 36), bool), blobs(8)),
}


@pytest.mark.filterwarnings("ignore:Please:DeprecationWarning")
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), SPACING_MM, (2.5, 0.703125, 0.703125), (0.4, 0.1, 0.2)])
@pytest.mark.parametrize("name", PAIRS)
def test_scores_are_those_of_surface_distance(name, spacing_mm, monkeypatch):
    monkeypatch.setattr(np, "Inf", np.inf, raising=False)  # as NumPy 1 called it; surface-distance still does
    predicted, lung = PAIRS[name]
    theirs = surface_distance.compute_surface_distances(lung, predicted, spacing_mm)
    ours = compare(predicted, lung, spacing_mm)
    near = [surface_distance.compute_surface_dice_at_tolerance(theirs, tolerance_mm) for tolerance_mm in (1, 2)]
    assert ours.hd95_mm == pytest.approx(surface_distance.compute_robust_hausdorff(theirs, 95), abs=1e-3)
    assert [ours.surface_dice_1mm, ours.surface_dice_2mm] == pytest.approx(near, abs=1e-3)
