"""Right and left lung, where they are apart, where they touch, and where there is one."""

import numpy as np
import pytest
from conftest import small_patient

from lungct.segmentation.left_right import find_cores, split_left_right
from lungct.slices import LEFT, RIGHT

SHAPE = (30, 90, 131)
SPACING_MM = (5.0, 2.0, 1.5)
MIDDLE = 62  # between the two boxes
STEP_MM = (5.0, 1.0)  # of slices and columns


@pytest.fixture
def lungs() -> np.ndarray:
    """Labels of two boxes, the right one larger, 15 mm apart."""
    sides = np.zeros(SHAPE, np.uint8)
    sides[4:26, 20:70, 10:58] = RIGHT
    sides[6:26, 20:70, 68:110] = LEFT
    return sides


def test_lungs_that_are_apart(lungs):
    np.testing.assert_array_equal(split_left_right(lungs > 0, SPACING_MM, MIDDLE), lungs)


def test_pixels_larger_than_the_grid_are_taken_as_they_are():
    sides = np.zeros((8, 20, 40), np.uint8)
    sides[2:6, 4:16, 4:16], sides[2:6, 4:16, 22:36] = RIGHT, LEFT
    np.testing.assert_array_equal(split_left_right(sides > 0, (6.0, 6.0, 6.0), 19), sides)


def test_lungs_that_touch_are_cut_at_the_bridge(lungs):
    bridge = np.zeros(SHAPE, bool)
    bridge[10:20, 22:28, 58:68] = True
    sides = split_left_right((lungs > 0) | bridge, SPACING_MM, MIDDLE)
    np.testing.assert_array_equal(sides > 0, (lungs > 0) | bridge)
    np.testing.assert_array_equal(sides[~bridge], lungs[~bridge])
    assert set(np.unique(sides[bridge])) <= {RIGHT, LEFT}


def test_a_small_piece_goes_to_the_nearer_lung(lungs):
    lung = lungs > 0
    lung[15:18, 76:80, 100:104] = True
    assert (split_left_right(lung, SPACING_MM, MIDDLE)[15:18, 76:80, 100:104] == LEFT).all()


@pytest.mark.parametrize("side", [RIGHT, LEFT])
def test_one_lung_alone(lungs, side):
    np.testing.assert_array_equal(split_left_right(lungs == side, SPACING_MM, MIDDLE), np.where(lungs == side, side, 0))


def test_no_lung():
    assert not split_left_right(np.zeros(SHAPE, bool), SPACING_MM, MIDDLE).any()


def cores_of(depth_mm: np.ndarray, middle: float) -> np.ndarray:
    return find_cores(depth_mm, middle, STEP_MM)[0]


@pytest.mark.parametrize("sizes", [(100, 50), (50, 100), (100, 16), (16, 100)])
def test_of_two_cores_the_one_in_lower_columns_is_the_right_lung(sizes):
    """Both in one corner of the slices, so that the background lies to their left."""
    depth_mm = np.zeros((1, 20, 80))
    expected = np.zeros(depth_mm.shape, int)
    for side, first, pixels in zip((RIGHT, LEFT), (2, 20), sizes, strict=True):
        here = np.s_[0, 2:12, first : first + 10]
        depth_mm[here] = (np.arange(100) < pixels).reshape(10, 10)
        expected[here] = side * (depth_mm[here] > 0)
    np.testing.assert_array_equal(cores_of(depth_mm, middle=15), expected)


@pytest.mark.parametrize(("first", "side"), [(34, RIGHT), (35, LEFT), (36, LEFT)])
def test_one_lung_lies_on_the_side_of_its_mean_column(first, side):
    """The middle of ten columns from the 35th is at 39.5, and so is that of 80 columns."""
    depth_mm = np.zeros((1, 20, 80))
    depth_mm[0, 2:12, first : first + 10] = 1
    np.testing.assert_array_equal(cores_of(depth_mm, middle=39.5), side * (depth_mm > 0))


@pytest.mark.parametrize(("pixels", "is_cut"), [(2, False), (3, True), (15, True)])
def test_a_small_core_is_a_lung_where_there_is_no_larger_one(pixels, is_cut):
    """Of 100 pixels, with a bridge 1 mm deep between them, which one step of shrinking cuts."""
    depth_mm = np.zeros((1, 10, 40))
    depth_mm[0, :, :10] = 20
    depth_mm[0, 0, 10:31] = 1
    depth_mm[0, 0, 31 : 31 + min(pixels, 9)] = depth_mm[0, 1, 31 : 31 + max(0, pixels - 9)] = 20
    cores = cores_of(depth_mm, middle=25)
    assert (cores[0, :, :10] == RIGHT).all()
    assert ((cores == LEFT).sum() == pixels) == is_cut


def test_a_small_core_gives_way_to_two_large_ones():
    """A fragment on the left, 3 % of all; the lungs come apart at the second step."""
    depth_mm = np.zeros((1, 10, 60))
    depth_mm[0, :, :20] = 5
    depth_mm[0, :, 5:15] = 1
    depth_mm[0, 0, 40:46] = 5
    cores = cores_of(depth_mm, middle=10)
    assert (cores[0, :, :5] == RIGHT).all()
    assert (cores[0, :, 15:20] == LEFT).all()


def test_lungs_that_touch_are_shrunk_until_they_are_two():
    """The bridge is 20 mm deep: eight steps of 2.5 mm leave it, and at 22.5 mm the cores stay."""
    depth_mm = np.zeros((1, 10, 30))
    depth_mm[0, :, :] = 21
    depth_mm[0, :, :10] = depth_mm[0, :, 20:] = 24
    cores = cores_of(depth_mm, middle=14.5)
    assert (cores[0, :, :10] == RIGHT).all()
    assert (cores[0, :, 20:] == LEFT).all()
    assert not cores[0, :, 10:20].any()
    depth_mm[0, :, 10:20] = 22.6  # deeper than the last step
    assert len(np.unique(cores_of(depth_mm, middle=14.5))) == 1


@pytest.mark.parametrize(("column", "side"), [(49, RIGHT), (51, LEFT)])
def test_a_piece_beside_the_lungs_goes_to_the_one_whose_middle_is_nearer(column, side):
    lung = np.zeros((3, 30, 101), bool)
    lung[:, 2:22, 10:31] = lung[:, 2:22, 70:91] = True  # middles at columns 20 and 80
    lung[:, 26:28, column] = True
    assert (split_left_right(lung, (5.0, 2.5, 2.5), 50)[:, 26:28, column] == side).all()


@pytest.mark.parametrize(("middle", "side"), [(-30, LEFT), (130, RIGHT)], ids=["left", "right"])
def test_a_picture_of_one_lung_holds_the_side_that_its_place_says(middle, side):
    """A lone lung in the middle of its picture, and the patient's middle outside."""
    lung = np.zeros((20, 60, 100), bool)
    lung[2:18, 10:50, 20:80] = True
    assert (split_left_right(lung, SPACING_MM, middle)[lung] == side).all()


@pytest.mark.parametrize(("middle", "side"), [(29.6, RIGHT), (29.4, LEFT)])
def test_the_middle_is_that_of_the_columns_that_were_given(middle, side):
    """Of a lung in columns 20 to 39, in blocks of two columns."""
    lung = np.zeros((6, 30, 70), bool)
    lung[:, 5:25, 20:40] = True
    assert (split_left_right(lung, SPACING_MM, middle)[lung] == side).all()


def test_two_pieces_of_a_lung_at_its_base_are_of_that_lung():
    """Two on the right, 40 columns apart, and a small one on the left; each lies apart."""
    sides = np.zeros((4, 60, 130), np.uint8)
    sides[:, 10:50, 5:15] = sides[:, 10:40, 45:55] = RIGHT
    sides[1:3, 30:34, 100:104] = LEFT
    np.testing.assert_array_equal(split_left_right(sides > 0, SPACING_MM, MIDDLE), sides)


@pytest.mark.parametrize("rows", [4, 2, 1])
def test_a_collapsed_lung_of_some_per_cent_that_lies_apart_is_the_other_lung(lungs, rows):
    """20 slices of 10 columns, of 52,800 pixels of the right lung: 1.5, 0.8 and 0.4 %."""
    lungs[lungs == LEFT] = 0
    lungs[6:26, 30 : 30 + rows, 80:90] = LEFT
    np.testing.assert_array_equal(split_left_right(lungs > 0, SPACING_MM, MIDDLE), lungs)


@pytest.mark.parametrize("side", [RIGHT, LEFT])
def test_a_lung_with_a_waist_is_one_lung(side):
    """In thick slices an upper and a lower part that a few pixels join, both on one side of the middle."""
    lung = np.zeros((12, 60, 130), bool)
    lung[1:6, 10:50, 10:40] = lung[6:11, 10:50, 20:55] = True
    lung[6, :, :] = False
    lung[6, 28:32, 25:30] = True
    lung = lung if side == RIGHT else lung[..., ::-1]
    found = split_left_right(lung, (8.0, 2.0, 1.5), 62 if side == RIGHT else 129 - 62)
    np.testing.assert_array_equal(found, side * lung)


def test_two_whole_lungs_are_both_there_however_far_the_middle_is_off():
    """40 slices, their mean columns 110 mm apart; low ones are pieces of one lung, and so are nearer ones."""
    sides = np.zeros((40, 30, 120), np.uint8)
    sides[:, 5:25, 10:40], sides[:, 5:25, 65:95] = RIGHT, LEFT
    np.testing.assert_array_equal(split_left_right(sides > 0, (5.0, 2.0, 2.0), 110), sides)
    assert set(np.unique(split_left_right(sides > 0, (1.75, 2.0, 2.0), 110))) == {0, RIGHT}
    assert set(np.unique(split_left_right(sides > 0, (5.0, 2.0, 1.8), 110))) == {0, RIGHT}
    sides[:, 7:25, 65:95] = 0  # a tenth is left
    assert set(np.unique(split_left_right(sides > 0, (5.0, 2.0, 2.0), 110))) == {0, RIGHT}


def test_lungs_of_a_phantom_lie_on_their_sides_of_the_spine():
    patient = small_patient(3)
    sides = split_left_right(patient.lung, patient.spacing_mm, (patient.lung.shape[2] - 1) / 2)
    middle = patient.lung.shape[2] // 2
    right, left = sides[..., : middle - 12], sides[..., middle + 12 :]
    assert (right[right > 0] == RIGHT).mean() > 0.99
    assert (left[left > 0] == LEFT).mean() > 0.99
