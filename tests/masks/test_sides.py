"""What is said of right and left where one lung is there, or perhaps one."""

import numpy as np
import pytest

from lungct.masks.sides import doubt_sides
from lungct.scans.geometry import BY_PICTURE, BY_SCANNER, GUESS, Middle


@pytest.mark.parametrize("side", [0, 1], ids=["right", "left"])
@pytest.mark.parametrize(
    ("source", "off_mm", "flags"),
    [
        (BY_PICTURE, 30.5, []),
        (BY_PICTURE, 29.5, ["one lung only, right or left is a guess"]),
        (BY_SCANNER, 30.5, ["one lung only, right or left by its place in the scanner"]),
        (BY_SCANNER, 29.5, ["one lung only, right or left is a guess"]),
        (GUESS, 80, ["one lung only, right or left is a guess"]),
    ],
)
def test_of_one_lung_the_flag_says_how_its_side_is_known(side, source, off_mm, flags):
    """The mean column of the lung is 19.5, of 2 mm; nothing of the other, or a hundredth less a little."""
    columns = np.zeros((2, 50), int)
    columns[side, 10:30] = 1000
    middle = Middle(19.5 + (off_mm if side == 0 else -off_mm) / 2, source)
    assert doubt_sides(columns, 2.0, middle) == flags
    columns[1 - side, 40] = 200
    assert doubt_sides(columns, 2.0, middle) == flags
    columns[1 - side, 40] = 210  # of 20,210 pixels
    assert doubt_sides(columns, 2.0, Middle(35, BY_SCANNER)) == []


@pytest.mark.parametrize(
    ("source", "apart", "is_flagged"), [(GUESS, 44, True), (GUESS, 45, False), (BY_SCANNER, 9, False)]
)
def test_of_a_picture_without_a_place_two_pieces_may_be_of_one_lung(source, apart, is_flagged):
    columns = np.zeros((2, 80), int)
    columns[0, 10] = columns[1, 10 + apart] = 500  # 88 and 90 mm apart
    flags = ["right or left is a guess"] if is_flagged else []
    assert doubt_sides(columns, 2.0, Middle(20, source)) == flags
