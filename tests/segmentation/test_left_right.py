"""Right and left lung, where they are apart, where they touch, and where there is one."""

import numpy as np
import pytest
from conftest import small_patient

from lungct.segmentation.left_right import find_cores, split_left_right
from lungct.slices import LEFT, RIGHT

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


def test_pixels_larger_than_the_grid_are_taken_as_they_are():
    sides = np.zeros((8, 20, 40), np.uint8)
    sides[2:6, 4:16, 4:16], sides[2:6, 4:16, 22:36] = RIGHT, LEFT
    np.testing.assert_array_equal(split_left_right(sides > 0, (6.0, 6.0, 6.0)), sides)


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


@pytest.mark.parametrize("sizes", [(100, 50), (50, 100), (100, 16), (16, 100)])
def test_of_two_cores_the_one_in_lower_columns_is_the_right_lung(sizes):
    """Both in one corner of the slices, so that the background lies to their left."""
    depth_mm = np.zeros((1, 20, 80))
    expected = np.zeros(depth_mm.shape, int)
    for side, first, pixels in zip((RIGHT, LEFT), (2, 20), sizes, strict=True):
        here = np.s_[0, 2:12, first : first + 10]
        depth_mm[here] = (np.arange(100) < pixels).reshape(10, 10)
        expected[here] = side * (depth_mm[here] > 0)
    np.testing.assert_array_equal(find_cores(depth_mm, middle=depth_mm.shape[2] / 2)[0], expected)


@pytest.mark.parametrize(("first", "side"), [(34, RIGHT), (35, RIGHT), (36, LEFT)])
def test_a_core_of_15_per_cent_is_none_and_one_lung_lies_on_its_side(first, side):
    """The middle of ten columns from the 35th is at 39.5, half of 80 is 40."""
    depth_mm = np.zeros((1, 20, 80))
    depth_mm[0, 2:12, first : first + 10] = 1
    np.testing.assert_array_equal(find_cores(depth_mm, middle=depth_mm.shape[2] / 2)[0], side * (depth_mm > 0))
    depth_mm[0, 15:18, first : first + 5] = 1  # 15 of 100 pixels
    assert set(np.unique(find_cores(depth_mm, middle=depth_mm.shape[2] / 2)[0])) <= {0, RIGHT, LEFT}
    assert len(np.unique(find_cores(depth_mm, middle=depth_mm.shape[2] / 2)[0])) == 2


def test_the_middle_of_an_odd_number_of_columns_is_half_a_column():
    depth_mm = np.zeros((1, 5, 81))
    depth_mm[..., 35:46] = 1  # its middle is 40, half of 81 is 40.5
    assert (find_cores(depth_mm, middle=depth_mm.shape[2] / 2)[0][depth_mm > 0] == RIGHT).all()


def test_lungs_that_touch_are_shrunk_until_they_are_two():
    """The bridge is 20 mm deep: eight steps of 2.5 mm leave it, and at 22.5 mm the cores stay."""
    depth_mm = np.zeros((1, 10, 30))
    depth_mm[0, :, :] = 21
    depth_mm[0, :, :10] = depth_mm[0, :, 20:] = 24
    cores = find_cores(depth_mm, middle=depth_mm.shape[2] / 2)[0]
    assert (cores[0, :, :10] == RIGHT).all()
    assert (cores[0, :, 20:] == LEFT).all()
    assert not cores[0, :, 10:20].any()
    depth_mm[0, :, 10:20] = 22.6  # deeper than the last step
    assert len(np.unique(find_cores(depth_mm, middle=depth_mm.shape[2] / 2)[0])) == 1


@pytest.mark.parametrize(("column", "side"), [(49, RIGHT), (51, LEFT)])
def test_a_piece_beside_the_lungs_goes_to_the_one_whose_middle_is_nearer(column, side):
    lung = np.zeros((3, 30, 101), bool)
    lung[:, 2:22, 10:31] = lung[:, 2:22, 70:91] = True  # middles at columns 20 and 80
    lung[:, 26:28, column] = True
    assert (split_left_right(lung, (5.0, 2.5, 2.5))[:, 26:28, column] == side).all()


def test_lungs_of_a_phantom_lie_on_their_sides_of_the_spine():
    patient = small_patient(3)
    sides = split_left_right(patient.lung, patient.spacing_mm)
    middle = patient.lung.shape[2] // 2
    right, left = sides[..., : middle - 12], sides[..., middle + 12 :]
    assert (right[right > 0] == RIGHT).mean() > 0.99
    assert (left[left > 0] == LEFT).mean() > 0.99
