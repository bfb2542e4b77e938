"""Volume, density and mass of lungs of known HU, counted by hand."""

import numpy as np
import pytest

from lungct.evaluation.measures import measure

SPACING_MM = (5.0, 2.0, 1.0)  # a voxel of 10 microlitres
EQUAL_MM = np.full(2, 5.0)


def lungs(*values: int) -> tuple[np.ndarray, np.ndarray]:
    """Two slices of 10 x 20 pixels of 40 HU; the right lung, 10 columns of both, has these HU in turn."""
    ct_hu, sides = np.full((2, 10, 20), 40, np.int16), np.zeros((2, 10, 20), np.uint8)
    sides[:, :, :10] = 1
    ct_hu[:, :, :10] = np.resize(values, (2, 10, 10))
    return ct_hu, sides


def test_volume_density_and_mass_of_one_known_density():
    found = measure(*lungs(-800), SPACING_MM, EQUAL_MM)
    assert found.litres == found.litres_right == pytest.approx(0.002)  # 200 voxels of 0.01 ml
    assert (found.litres_left, found.lung_slices) == (0, 2)
    assert (found.mean_hu, found.perc15_hu, found.laa950) == pytest.approx((-800, -800, 0))
    assert found.mass_g == pytest.approx(0.4)  # 2 ml of 0.2 g/ml


def test_right_and_left_are_counted_apart_and_slices_without_lung_are_not():
    ct_hu, sides = lungs(-800)
    sides[0] = 0
    sides[1, 0, 15:18] = 2
    ct_hu[1, 0, 15:18] = -1000  # weighs nothing
    found = measure(ct_hu, sides, SPACING_MM, EQUAL_MM)
    assert found.litres_right == pytest.approx(100 * 1e-5)
    assert found.litres_left == pytest.approx(3 * 1e-5)
    assert found.litres == pytest.approx(103 * 1e-5)
    assert found.mass_g == pytest.approx(1.0 * 0.2)
    assert found.lung_slices == 1


def test_share_below_950_leaves_950_itself_out():
    found = measure(*lungs(-951, -950, -949, -800), SPACING_MM, EQUAL_MM)
    assert found.laa950 == pytest.approx(0.25)


@pytest.mark.parametrize(("dark", "perc15"), [(2, -800), (3, -980), (4, -980)])
def test_15th_percentile_is_where_15_percent_of_the_volume_is_reached(dark, perc15):
    values = [-980] * dark + [-800] * (20 - dark)  # 10, 15 and 20 %
    assert measure(*lungs(*values), SPACING_MM, EQUAL_MM).perc15_hu == perc15


def test_it_is_numpys_percentile_on_many_values():
    ct_hu = np.random.default_rng(1).normal(-850, 60, (3, 40, 50)).round().astype(np.int16)
    found = measure(ct_hu, np.ones(ct_hu.shape, np.uint8), SPACING_MM, np.full(3, 5.0))
    assert found.perc15_hu == pytest.approx(np.percentile(ct_hu, 15, method="inverted_cdf"))
    assert found.mean_hu == pytest.approx(ct_hu.mean())
    assert found.laa950 == pytest.approx((ct_hu < -950).mean())
    assert found.mass_g == pytest.approx(0.01 * (ct_hu.astype(float) + 1000).sum() / 1000)


def test_each_slice_counts_with_its_own_extent():
    ct_hu, sides = lungs(-800)
    ct_hu[1, sides[1] > 0] = -900
    found = measure(ct_hu, sides, SPACING_MM, np.array([5.0, 15.0]))  # 1 ml of 0.2 g, 3 ml of 0.1 g
    assert found.litres == pytest.approx(0.004)
    assert found.mean_hu == pytest.approx(-875)
    assert found.mass_g == pytest.approx(0.5)
    assert found.perc15_hu == -900


def test_values_at_the_ends_of_int16_are_counted():
    found = measure(*lungs(-32768, 32767), SPACING_MM, EQUAL_MM)
    assert found.mean_hu == pytest.approx(-0.5)
    assert found.laa950 == pytest.approx(0.5)


def test_without_a_lung_nothing_is_measured():
    ct_hu, sides = lungs(-800)
    found = measure(ct_hu, sides * 0, SPACING_MM, EQUAL_MM)
    assert (found.litres, found.mass_g, found.lung_slices) == (0, 0, 0)
    assert (found.mean_hu, found.perc15_hu, found.laa950) == (None, None, None)
