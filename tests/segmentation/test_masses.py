"""Masses on a neck at the wall of a lung: boxes with answers known by hand."""

import numpy as np
import pytest

from lungct.segmentation.masses import face_labels, find_masses

SPACING_MM = (2.0, 1.5, 1.5)


def chest(shape: tuple = (40, 100, 100)) -> np.ndarray:
    """A lung in tissue, bool: 60 mm high, 105 by 105 mm."""
    lung = np.zeros(shape, bool)
    lung[5:35, 15:85, 15:85] = True
    return lung


def with_mass(lung: np.ndarray, rows: int, neck_rows: int) -> np.ndarray:
    """The mass that was cut out: a box `rows` high, 30 mm wide and 24 mm deep, on a neck of 9 mm to the front wall."""
    mass = np.zeros(lung.shape, bool)
    mass[14:26, 21 : 21 + rows, 40:60] = True
    middle = slice(50 - neck_rows // 2, 50 + neck_rows // 2)
    neck = np.s_[18:22, 15:21, middle]
    lung[mass] = lung[neck] = False
    return mass


@pytest.mark.parametrize("rows", [8, 14, 20], ids=["12 mm", "21 mm", "30 mm"])
def test_a_mass_on_a_neck_is_found_whole(rows):
    lung = chest()
    mass = with_mass(lung, rows, neck_rows=6)
    found = find_masses(lung, SPACING_MM)
    assert found[mass].mean() > 0.97
    assert np.count_nonzero(found & ~mass) < 0.1 * np.count_nonzero(mass)


def test_a_mass_without_a_neck_is_left_to_the_body():
    lung = chest()
    lung[14:26, 15:35, 35:65] = False  # 45 mm of its 45 x 30 mm lie at the wall
    assert not find_masses(lung, SPACING_MM).any()


def test_what_the_first_or_last_slice_cuts_is_not_known():
    lung = chest()
    lung[:20, 40:60, 40:60] = False  # a dome that rises from below
    assert not find_masses(lung[5:35], SPACING_MM).any()


def test_tissue_that_hangs_on_a_neck_but_has_little_lung_around_it_is_none():
    lung = chest()
    lung[:, :, :60] = False
    lung[10:30, 30:70, 30:32] = True  # thin air behind a piece of the wall
    assert not find_masses(lung, SPACING_MM).any()


def test_numbers_at_each_of_the_six_faces_are_told():
    label = np.zeros((5, 6, 7), int)
    ends = [(0, 2, 2), (-1, 2, 2), (2, 0, 2), (2, -1, 2), (2, 2, 0), (2, 2, -1)]
    for number, place in enumerate(ends, start=1):
        label[place] = number
    label[1, 1, 1], label[-2, -2, -2] = 7, 8  # beside them
    assert face_labels(label) == set(range(7))


def test_no_lung_has_no_mass():
    assert not find_masses(np.zeros((3, 20, 20), bool), SPACING_MM).any()
