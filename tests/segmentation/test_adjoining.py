"""Lung beside lung that is known: boxes in a trunk."""

import numpy as np
import pytest

from lungct.segmentation.adjoining import find_adjoining
from lungct.segmentation.body import Body, find_body

SPACING_MM = (4.0, 1.5, 1.5)  # a voxel of 9 mm3
STRIP = np.s_[2:6, 70:100, 20:24]  # 6 mm wide, behind the lung: 480 voxels, 4.3 ml


def chest(*parts: tuple[tuple, int]) -> tuple[np.ndarray, Body]:
    """(lung that is known, body), (8, 120, 150): a trunk with a lung of -850 HU, and parts of other HU."""
    ct_hu = np.full((8, 120, 150), -1000, np.int16)
    ct_hu[:, 12:108, 10:140] = 40
    lung = np.zeros(ct_hu.shape, bool)
    lung[1:7, 30:70, 14:50] = True
    ct_hu[lung] = -850
    for part, hu in parts:
        ct_hu[part] = hu
    body = find_body(ct_hu, SPACING_MM)
    assert body.steps == (1, 1)
    return lung, body


def adjoining(lung: np.ndarray, body: Body, gas: np.ndarray | None = None) -> np.ndarray:
    return find_adjoining(lung, body, np.zeros(lung.shape, bool) if gas is None else gas, -850)


@pytest.mark.parametrize(
    "part",
    [STRIP, np.s_[2:6, 40:60, 50:53], np.s_[7, 30:70, 14:50], np.s_[0, 30:70, 14:50]],
    ids=["behind", "beside", "above", "below"],
)
def test_what_adjoins_is_lung(part):
    lung, body = chest((part, -800))
    expected = np.zeros(lung.shape, bool)
    expected[part] = True
    np.testing.assert_array_equal(adjoining(lung, body), expected)


@pytest.mark.parametrize(("hu", "is_lung"), [(-960, False), (-950, True), (-510, True), (-490, False)])
def test_only_air_like_this_scans_lung(hu, is_lung):
    lung, body = chest((STRIP, hu))  # gas is darker than -955 HU: see the tests of gas
    assert adjoining(lung, body)[STRIP].all() == is_lung
    assert adjoining(lung, body).any() == is_lung


def test_a_wall_between_them_parts_them():
    lung, body = chest((STRIP, -800), (np.s_[:, 70, :], 40))
    assert not adjoining(lung, body).any()


def test_gas_is_not_taken_in():
    lung, body = chest((STRIP, -800))
    gas = np.zeros(lung.shape, bool)
    gas[STRIP] = True
    assert not adjoining(lung, body, gas).any()


def test_what_lies_in_the_middle_may_be_the_airway():
    lung, body = chest((np.s_[2:6, 70:90, 40:66], -800))
    expected = np.zeros(lung.shape, bool)
    expected[2:6, 70:90, 40:55] = True  # 30 mm from the middle, which is at 74.5
    np.testing.assert_array_equal(adjoining(lung, body), expected)


def test_the_edge_of_lung_one_pixel_wide_is_not_taken_in():
    lung, body = chest((np.s_[1:7, 29:71, 13:51], -600), (np.s_[1:7, 30:70, 14:50], -850))
    assert not adjoining(lung, body).any()


@pytest.mark.parametrize(("rows", "is_lung"), [(5, True), (4, False)])
def test_less_than_a_third_of_a_ml_is_noise(rows, is_lung):
    part = np.s_[3:5, 70 : 70 + rows, 20:24]  # 8 voxels a row, 0.072 ml
    lung, body = chest((part, -800))
    assert adjoining(lung, body).any() == is_lung


def test_nothing_is_found_where_all_is_known():
    lung, body = chest()
    assert not adjoining(lung, body).any()
