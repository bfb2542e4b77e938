"""Airway that is in a mask for a few slices: a trachea of 12 x 12 mm beside a lung, slices of 2.5 mm."""

import numpy as np
import pytest
from chest import chest_with_ribs

from lungct.segmentation.airway import find_airway
from lungct.segmentation.body import Body, find_body
from lungct.segmentation.cleanup import clean_volume

SPACING_MM = (2.5, 2.0, 2.0)
TRACHEA = np.s_[:, 27:33, 27:33]


def find(lung: np.ndarray, trachea: tuple = TRACHEA, slice_mm: float = 2.5) -> np.ndarray:
    ct_hu = np.where(lung, -850, 40).astype(np.float32)
    ct_hu[trachea] = -950
    body = np.ones(lung.shape, bool)
    return find_airway(lung, Body(ct_hu, ~body, body, (30, 30), (1, 1), (slice_mm, 2.0, 2.0), -1000.0))


@pytest.fixture
def lung() -> np.ndarray:
    lung = np.zeros((20, 60, 60), bool)
    lung[:, 20:50, 38:56] = True
    return lung


@pytest.mark.parametrize("slices", [slice(9, 10), slice(9, 12)], ids=["one", "three"])
def test_a_trachea_that_is_in_for_a_few_slices_is_airway(lung, slices):
    lung[slices, 27:33, 27:33] = True
    found = find(lung)
    assert found[slices, 27:33, 27:33].all()
    found[slices, 27:33, 27:33] = False
    assert not found.any()


@pytest.mark.parametrize("slices", [slice(0, 3), slice(8, 20), slice(6, 11)], ids=["at the end", "upwards", "five"])
def test_air_that_is_in_as_far_as_is_known_is_not(lung, slices):
    lung[slices, 27:33, 27:33] = True
    assert not find(lung).any()


def test_in_thick_slices_the_next_ones_count(lung):
    lung[9, 27:33, 27:33] = True
    assert find(lung, slice_mm=10)[9, 27:33, 27:33].all()


def test_an_edge_of_two_pixels_that_moves_is_not(lung):
    lung[9, 20:50, 36:38] = True
    assert not find(lung, trachea=np.s_[:, 20:50, 36:38]).any()


def test_tissue_is_not(lung):
    lung[9, 20:26, 27:33] = True
    ct_hu = np.where(lung, -850, 40).astype(np.float32)
    ct_hu[9, 20:26, 27:33] = 40
    body = np.ones(lung.shape, bool)
    assert not find_airway(lung, Body(ct_hu, ~body, body, (30, 30), (1, 1), SPACING_MM, -1000.0)).any()


def test_one_slice_has_none(lung):
    assert not find(lung[:1]).any()


def test_a_mask_does_without_it():
    ct_hu, lung = chest_with_ribs()
    trachea = np.s_[20:36, 40:45, 58:62]
    ct_hu[trachea] = -950
    predicted = lung.copy()
    predicted[25, 40:45, 58:62] = True
    clean = clean_volume(predicted, ct_hu, (5.0, 3.0, 3.0), find_body(ct_hu, (5.0, 3.0, 3.0)))
    assert not clean[trachea].any()
    assert np.count_nonzero(clean ^ lung) < 100
