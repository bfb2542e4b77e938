"""Which slices get disease and gas: as often as said, by the seed, and never lung where there was none."""

import numpy as np
import pytest
from chest import MM, chest

from lungct.training import disease
from lungct.training.disease import CHANCES, add_disease, pick


def batch(size: int, lungs: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ct_hu, lung and pixel_mm of some equal slices."""
    ct_hu, lung = chest(lungs)
    return np.repeat(ct_hu[None], size, 0), np.repeat(lung[None], size, 0), np.full(size, MM)


@pytest.fixture
def calm(monkeypatch):
    """No disease, no domes, no gas."""
    for name, value in (("P_GAS", 0), ("CHANCES", ())):
        monkeypatch.setattr(disease, name, value)


def test_nothing_changes_at_probability_0(calm):
    ct_hu, lung, mm = batch(20)
    add_disease(ct_hu, lung, mm, np.random.default_rng(0))
    assert np.array_equal(ct_hu, batch(20)[0])
    assert np.array_equal(lung, batch(20)[1])


def test_the_seed_decides():
    results = []
    for seed in (1, 1, 2):
        ct_hu, lung, mm = batch(8)
        add_disease(ct_hu, lung, mm, np.random.default_rng(seed))
        results.append(ct_hu)
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_lung_never_grows_and_a_slice_without_lung_gets_none():
    for lungs in (True, False):
        ct_hu, lung, mm = batch(40, lungs)
        before = lung.copy()
        add_disease(ct_hu, lung, mm, np.random.default_rng(3))
        assert not (lung & ~before).any()
        assert (ct_hu.dtype, lung.dtype) == (np.int16, bool)
        assert ct_hu.min() >= -1024
        assert ct_hu.max() <= 3071


def test_about_one_slice_in_eight_loses_its_lungs():
    ct_hu, lung, mm = batch(150)
    add_disease(ct_hu, lung, mm, np.random.default_rng(4))
    assert 9 <= (~lung.any((1, 2))).sum() <= 30


def test_slices_whose_lungs_were_filled_get_gas(calm, monkeypatch):
    monkeypatch.setattr(disease, "CHANCES", ((1, disease.fill_lungs),))
    ct_hu, lung, mm = batch(10)
    before = ct_hu.copy()
    add_disease(ct_hu, lung, mm, np.random.default_rng(5))
    assert not lung.any()
    in_body = (before > -200) | batch(10)[1]
    assert (((ct_hu < -600) & in_body).sum((1, 2)) > 5).sum() >= 7


def test_chances_are_shares_of_one_number():
    total = sum(chance for chance, _ in CHANCES)
    assert total < 0.7
    picked = [pick(number) for number in np.arange(0.0005, 1, 0.001)]
    for chance, change in CHANCES:
        assert picked.count(change) == pytest.approx(1000 * chance, abs=2)
    assert picked.count(None) == pytest.approx(1000 * (1 - total), abs=2)


def test_tiny_and_odd_slices_are_no_error():
    rng = np.random.default_rng(6)
    for shape in ((4, 5), (9, 40), (31, 17)):
        for _ in range(15):
            ct_hu = rng.integers(-1000, 200, (4, *shape)).astype(np.int16)
            add_disease(ct_hu, ct_hu < -700, np.full(4, 0.7), rng)
