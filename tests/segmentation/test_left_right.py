"""Right and left lung, where they are apart, where they touch, and where there is one."""

import numpy as np
import pytest
from conftest import small_patient

from lungct.segmentation.left_right import LEFT, RIGHT, split_left_right

SHAPE = (30, 90, 131)
SPACING_MM = (5.0, 2.0, 1.5)


@pytest.fixture
def lungs() -> np.ndarray:
    """Labels of two boxes, the right one larger, 15 mm apart."""
    sides = np.zeros(SHAPE, np.uint8)
    sides[4:26, 20:70, 10:58] = RIGHT
    sides[6:26, 20:70, 68:110] = LEFT
    return sides


def test_lungs_that_are_apart(lungs):
    np.testing.assert_array_equal(split_left_right(lungs > 0, SPACING_MM), lungs)


def test_lungs_that_touch_are_cut_at_the_bridge(lungs):
    bridge = np.zeros(SHAPE, bool)
    bridge[10:20, 22:28, 58:68] = True
    sides = split_left_right((lungs > 0) | bridge, SPACING_MM)
    np.testing.assert_array_equal(sides > 0, (lungs > 0) | bridge)
    np.testing.assert_array_equal(sides[~bridge], lungs[~bridge])
    assert set(np.unique(sides[bridge])) <= {RIGHT, LEFT}


def test_a_small_piece_goes_to_the_nearer_lung(lungs):
    lung = lungs > 0
    lung[15:18, 76:80, 100:104] = True
    assert (split_left_right(lung, SPACING_MM)[15:18, 76:80, 100:104] == LEFT).all()


@pytest.mark.parametrize("side", [RIGHT, LEFT])
def test_one_lung_alone(lungs, side):
    np.testing.assert_array_equal(split_left_right(lungs == side, SPACING_MM), np.where(lungs == side, side, 0))


def test_no_lung():
    assert not split_left_right(np.zeros(SHAPE, bool), SPACING_MM).any()


def test_lungs_of_a_phantom_lie_on_their_sides_of_the_spine():
    patient = small_patient(3)
    sides = split_left_right(patient.lung, patient.spacing_mm)
    middle = patient.lung.shape[2] // 2
    right, left = sides[..., : middle - 12], sides[..., middle + 12 :]
    assert (right[right > 0] == RIGHT).mean() > 0.99
    assert (left[left > 0] == LEFT).mean() > 0.99
