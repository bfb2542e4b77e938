"""Gas of stomach and bowel beside lungs: boxes in a trunk."""

import numpy as np
import pytest

from lungct.segmentation.body import find_body
from lungct.segmentation.gas import find_gas, gas_limit_hu, lung_level_hu, pure_limit_hu

SPACING_MM = (4.0, 1.5, 1.5)


def trunk(room_hu: int = -1000, lung_hu: int = -850) -> tuple[np.ndarray, np.ndarray]:
    """(ct_hu, lung), (8, 120, 150): a trunk in air with one lung of 60 by 60 mm."""
    ct_hu = np.full((8, 120, 150), room_hu, np.int16)
    ct_hu[:, 12:108, 10:140] = 40
    lung = np.zeros(ct_hu.shape, bool)
    lung[:, 30:70, 20:60] = True
    ct_hu[lung] = lung_hu
    return ct_hu, lung


def test_limit_lies_between_the_air_of_the_room_and_lung():
    assert gas_limit_hu(-1000, -850) == pytest.approx(-955)
    assert gas_limit_hu(-960, -790) == pytest.approx(-909)
    assert gas_limit_hu(-1000, -900) == pytest.approx(-958)  # as for lung of -860 HU
    assert gas_limit_hu(-1000, -930) == pytest.approx(-965)  # half-way
    assert gas_limit_hu(-1024, -984) == pytest.approx(-1004)


def test_the_air_of_the_room_itself_is_darker_than_that():
    assert pure_limit_hu(-1000, -860) == pytest.approx(-979)
    assert pure_limit_hu(-1020, -980) == pytest.approx(-1014)


@pytest.mark.parametrize("side", [6, 20, 50], ids=["9 mm", "30 mm", "75 mm"])
def test_gas_of_any_size_is_found_to_its_edge(side):
    ct_hu, lung = trunk()
    gas = np.zeros(lung.shape, bool)
    gas[:, 35 : 35 + side, 80 : 80 + side] = True
    ct_hu[gas] = -990
    np.testing.assert_array_equal(find_gas(find_body(ct_hu, SPACING_MM), -850), gas)


@pytest.mark.parametrize(("room_hu", "is_gas"), [(-960, True), (-1000, False)])
def test_gas_is_as_dark_as_the_air_of_this_scan(room_hu, is_gas):
    ct_hu, _ = trunk(room_hu, -790)
    ct_hu[:, 35:55, 80:100] = -930
    assert find_gas(find_body(ct_hu, SPACING_MM), -790)[:, 40:50, 85:95].all() == is_gas


def test_a_bulla_in_the_lung_is_no_gas():
    ct_hu, _ = trunk()
    ct_hu[:, 30:45, 20:35] = -1000  # 22 mm, at the front and at the side of the lung, half of its border is tissue
    assert not find_gas(find_body(ct_hu, SPACING_MM), -850).any()


@pytest.mark.parametrize(
    ("slice_mm", "hu", "level_hu"),
    [(4.0, -850, -850), (4.0, -950, -860), (20.0, -950, -950), (4.0, -600, -700), (20.0, -600, -700)],
    ids=["usual", "little and dark: it may be gas", "much and dark: emphysema", "dense", "much and dense"],
)
def test_the_level_of_lung_is_its_median_where_that_can_be_lung(slice_mm, hu, level_hu):
    ct_hu, lung = trunk(lung_hu=hu)  # 8 slices of 36 cm2: 115 ml at 4 mm, 576 ml at 20 mm
    assert lung_level_hu(find_body(ct_hu, (slice_mm, 1.5, 1.5)), lung) == level_hu


def test_lungs_nearly_as_dark_as_the_room_are_no_gas():
    ct_hu, lung = trunk(room_hu=-1024, lung_hu=-985)  # a scanner that is off by -100 HU
    body = find_body(ct_hu, (20.0, 1.5, 1.5))
    assert not find_gas(body, lung_level_hu(body, lung)).any()


def test_a_lung_of_pure_air_is_no_gas():
    ct_hu, _ = trunk(lung_hu=-985)
    spacing_mm = (80.0, 1.5, 1.5)  # 2.3 litres
    assert not find_gas(find_body(ct_hu, spacing_mm), -985).any()


def test_gas_that_partial_volume_joins_to_the_lung_is_found():
    ct_hu, lung = trunk()
    ct_hu[:, 50:65, 63:90] = -990
    ct_hu[:, 52:58, 60:63] = -600  # a bridge of 4.5 mm
    gas = find_gas(find_body(ct_hu, SPACING_MM), -850)
    assert gas[:, 50:65, 63:90].all()
    assert not gas[lung].any()
