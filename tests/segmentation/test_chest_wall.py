"""Dents of round lungs in a round trunk, pixels of 1 mm."""

import numpy as np
import pytest

from lungct.segmentation.body import Body
from lungct.segmentation.chest_wall import fill_dents

SIZE, MIDDLE = 241, 120
Y, X = np.mgrid[:SIZE, :SIZE]
TRUNK = np.hypot(Y - MIDDLE, X - MIDDLE) < 118


def body(slices: int = 1) -> Body:
    tissue = np.zeros((slices, SIZE, SIZE), np.float32)
    hull = np.broadcast_to(TRUNK, tissue.shape)
    return Body(tissue, ~hull, hull, (MIDDLE, MIDDLE), (1, 1), (2.0, 1.0, 1.0), -1000.0)


def disc(row: int, column: int, radius: float) -> np.ndarray:
    return np.hypot(Y - row, X - column) <= radius


LUNG = np.hypot(Y - MIDDLE, X - MIDDLE) <= 105
LUNG &= np.hypot(Y - MIDDLE, X - MIDDLE) > 45  # a ring: what it holds is the mediastinum
AT_SIDE, AT_BACK = disc(MIDDLE, 15, 7), disc(218, 160, 7)  # 14 mm, half of it in the lung


def dents(lung: np.ndarray) -> np.ndarray:
    return fill_dents(lung[None], body())[0]


@pytest.mark.parametrize("nodule", [AT_SIDE, AT_BACK, AT_SIDE[:, ::-1], AT_BACK[::-1]])
def test_a_nodule_on_the_chest_wall_is_filled(nodule):
    """A disc of 10 mm reaches 2.9 mm, and with the curve of the wall 3.1, into a mouth of 14 mm."""
    found = dents(LUNG & ~nodule)
    depth_mm = 105 - np.hypot(Y - MIDDLE, X - MIDDLE)
    np.testing.assert_array_equal(found[nodule & (depth_mm > 4)], True)
    assert not found[~(nodule & LUNG)].any()


def test_a_mass_wider_than_the_disc_is_not():
    mass = disc(MIDDLE, 15, 25)
    assert dents(LUNG & ~mass)[mass].mean() < 0.1


@pytest.mark.parametrize("dent", [disc(MIDDLE, 75, 7), disc(75, MIDDLE - 32, 7)], ids=["beside", "oblique"])
def test_dents_at_the_mediastinum_stay(dent):
    assert (LUNG & dent).any()
    assert not dents(LUNG & ~dent)[dent].any()


def test_nothing_is_filled_between_the_lungs_in_front_and_behind():
    for row in (18, 222):
        gap = disc(row, MIDDLE, 7)
        assert not dents(LUNG & ~gap)[gap].any()


def test_a_lung_without_dents_gains_nothing_not_even_where_the_image_ends():
    assert not dents(LUNG).any()
    box = (slice(None), slice(15, -15), slice(15, -15))
    assert not fill_dents(LUNG[None][box], body().crop(box)).any()


def test_each_slice_by_itself():
    lung = np.stack([LUNG, LUNG & ~AT_SIDE, np.zeros_like(LUNG)])
    found = fill_dents(lung, body(3))
    assert not found[[0, 2]].any()
    assert found[1].any()
