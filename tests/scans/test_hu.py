"""Stored values to HU, and what cannot be HU."""

import numpy as np
import pytest
from conftest import small_patient

from lungct.scans.hu import check_hu_range, name_narrow_range, to_hu, without_padding


def test_fractional_slope_is_rounded_to_the_nearest_hu():
    np.testing.assert_array_equal(to_hu(np.array([0, 1, 3]), 1.6, -1024.0), [-1024, -1022, -1019])


@pytest.mark.parametrize(
    ("stored", "kind", "intercept", "expected"),
    [
        ([0, 4095], np.uint16, -1024, [-1024, 3071]),
        ([40000, 65535], np.uint16, -32768, [7232, 32767]),
        ([40000, 65535], np.uint16, -1024, [32767, 32767]),
        ([-32768, 100], np.int16, -1024, [-32768, -924]),
        ([-5, 7], np.int16, 40000, [32767, 32767]),
        ([0, 70000], np.int32, -70000, [-32768, 0]),
    ],
)
def test_whole_intercepts_never_wrap_around(stored, kind, intercept, expected):
    found = to_hu(np.array(stored, kind), 1.0, float(intercept))
    assert found.dtype == np.int16
    assert found.tolist() == expected


def chest() -> np.ndarray:
    """(2, 40, 60) HU: a third each of air, lung and soft tissue."""
    return np.repeat([-1000, -850, 40], 20).astype(np.int16) * np.ones((2, 40, 1), np.int16)


def test_a_chest_can_be_hu():
    assert check_hu_range(chest()) == ""


@pytest.mark.parametrize(
    ("ct_hu", "looks_like"),
    [
        (np.full((2, 40, 60), 7), "a constant, 7 everywhere"),
        ((chest() > 0).astype(np.int16), "values from 0 to 1"),
        (np.clip((chest() + 1000) // 4, 0, 255), "8-bit grey levels"),
        (chest() + 1024, "stored values to which the intercept of -1024 was not added"),
        (np.where(chest() == 40, 3000, chest()), "a volume with only 0.0% soft tissue"),
    ],
)
def test_what_cannot_be_hu_is_said_to_look_like_something(ct_hu, looks_like):
    assert check_hu_range(ct_hu) == looks_like


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, "values from 0 to 1"),
        (0.2, 0.7, "values from 0 to 1"),
        (-1, 1, "values from -1 to 1"),
        (-1, -0.5, "values from -1 to 1"),
        (0, 1.5, "8-bit grey levels"),
        (-1.5, 1, "z-scores, values from -1.5 to 1"),
        (-0.5, 1.5, "z-scores, values from -0.5 to 1.5"),
        (-1, 99, "z-scores, values from -1 to 99"),
        (-1, 100, "8-bit grey levels around zero, values from -1 to 100"),
        (-50, -3, "8-bit grey levels around zero, values from -50 to -3"),
        (0, 255, "8-bit grey levels"),
        (5, 200, "8-bit grey levels"),
        (1, 256, "values from 1 to 256"),
        (-128, 127, "8-bit grey levels around zero, values from -128 to 127"),
        (-127, 128, "values from -127 to 128"),
        (-129, 100, "values from -129 to 100"),
    ],
)
def test_a_narrow_range_is_named_by_its_ends(low, high, expected):
    assert name_narrow_range(low, high) == expected


def test_a_lowest_value_more_than_500_below_all_others_is_padding():
    assert without_padding(np.array([-1500, -999, -1500, 40])).tolist() == [-999, 40]
    assert without_padding(np.array([-1500, -1000, -1500, 40])).tolist() == [-1500, -1000, -1500, 40]
    assert without_padding(np.array([7, 7])).tolist() == [7, 7]


LUNG_AND_WATER = {-850: 400, 10: 200, 300: 10}


@pytest.mark.parametrize(
    ("values", "others", "looks_like"),
    [
        ({-201: 1, 300: 1}, 40, ""),  # a thousandth is air
        ({-200: 1, 300: 1}, 40, "values from -200 to 300 without any air"),
        ({0: 1, 701: 100}, 40, "values from 0 to 701 without any air"),
        ({0: 1, 701: 101}, 40, "stored values to which the intercept of -1024 was not added"),
        ({0: 1, 700: 101}, 40, "values from 0 to 700 without any air"),
        ({-2000: 100, -150: 45, 300: 1}, 40, ""),  # of the 900 inside the padding a twentieth has the lowest value
        ({-2000: 100, -150: 46, 300: 1}, 40, "values from -150 to 300 without any air"),
        ({-1301: 100, **LUNG_AND_WATER}, -1000, ""),
        ({-1301: 101, **LUNG_AND_WATER}, -1000, "values from which the intercept's 1024 was subtracted twice"),
        ({-1300: 101, **LUNG_AND_WATER}, -1000, ""),
        ({199: 10, -199: 10}, -600, ""),  # a fiftieth is soft tissue
        ({199: 10, -199: 9}, -600, "a volume with only 1.9% soft tissue"),
        ({200: 100, -200: 100}, -600, "a volume with only 0.0% soft tissue"),
        ({301: 150, 10: 200}, -400, ""),
        ({301: 151, 10: 200}, -400, "values of which 15% lie above 300 HU, as bone does"),
        ({300: 151, 10: 200}, -400, ""),
        ({0: 1, 255: 1}, 40, "8-bit grey levels"),
        ({0: 1, 256: 1}, 40, "values from 0 to 256 without any air"),
    ],
)
def test_shares_at_their_limits(values, others, looks_like):
    """A thousand pixels, four times as wide each, since every fourth one is looked at."""
    pixels = [value for value, times in values.items() for _ in range(times)]
    pixels += [others] * (1000 - len(pixels))
    assert check_hu_range(np.repeat(pixels, 4).reshape(1, 1, 4000)) == looks_like


def test_metal_of_a_tenth_of_the_picture_is_no_missing_intercept():
    dense = np.full((2, 40, 60), 40)
    dense[:, :, :4] = 2000
    dense[0, 4, 56] = -100
    dense[:, 0] = -2000  # the padding is the only air
    assert check_hu_range(dense) == ""


@pytest.fixture(scope="module")
def ct_hu() -> np.ndarray:
    """A chest, float32 (Z, H, W)."""
    return small_patient(3).ct_hu.astype(np.float32)


NOT_HU = {
    "z-scores": (lambda v: (v - v.mean()) / v.std(), "z-scores, values from -"),
    "-1 to 1": (lambda v: np.clip((v + 1000) / 700 - 1, -1, 1), "values from -1 to 1"),
    "0 to 1": (lambda v: np.clip((v + 1000) / 1400, 0, 1), "values from 0 to 1"),
    "8 bits": (lambda v: np.clip((v + 1000) / 1400 * 255, 0, 255), "8-bit grey levels"),
    "8 bits around zero": (lambda v: np.clip((v + 1000) / 1400 * 255 - 128, -128, 127), "8-bit grey levels around"),
    "8 bits, and an intercept": (lambda v: np.clip((v + 1000) / 1400 * 255, 0, 255) - 1024, "values from -1024 to"),
    "thousands of HU": (lambda v: v / 1000, "z-scores"),
    "attenuation per cm": (lambda v: 0.19 * (1 + np.maximum(v, -1000) / 1000), "values from 0 to 1"),
    "the intercept forgotten": (lambda v: np.maximum(v, -1024) + 1024, "intercept of -1024 was not added"),
    "the intercept twice": (lambda v: v - 1024, "subtracted twice"),
    "a mediastinal window": (lambda v: np.clip(v, -160, 240), "values from -160 to 240 without any air"),
    "12 bits": (lambda v: np.clip((v + 200) * 2, 0, 4095), "without any air"),
    "500 too high": (lambda v: v + 500, "lie above 300 HU"),
    "inverted": (lambda v: -v, "lie above 300 HU"),
    "constant": (lambda v: np.full_like(v, 40), "a constant, 40 everywhere"),
    "not finite": (lambda v: np.full_like(v, np.nan), "without any finite value"),
}


@pytest.mark.parametrize("padding", [None, np.nan, np.inf, -2000])
@pytest.mark.parametrize("name", NOT_HU)
def test_what_cannot_be_hu_is_named_whatever_lies_around_it(ct_hu, name, padding):
    change, expected = NOT_HU[name]
    values = change(ct_hu)
    if padding is not None and name not in ("not finite", "the intercept twice"):
        values[:, :6] = padding
    assert expected in check_hu_range(values)


@pytest.mark.parametrize("name", [name for name in NOT_HU if name not in ("not finite", "attenuation per cm")])
def test_it_is_named_after_rounding_too_as_nifti_is_read(ct_hu, name):
    assert check_hu_range(np.rint(NOT_HU[name][0](ct_hu)).astype(np.int16))


HU = {
    "as it is": lambda v: v,
    "no value below -1024": lambda v: np.clip(v, -1024, 3071),
    "a lung window": lambda v: np.clip(v, -1000, 200),
    "a narrow window": lambda v: np.clip(v, -500, 500),
    "padding of -2000": lambda v: np.where(np.arange(v.shape[1])[:, None] < 6, -2000, v),
    "NaN around": lambda v: np.where(np.arange(v.shape[1])[:, None] < 6, np.nan, v),
}


@pytest.mark.parametrize("name", HU)
def test_hu_is_not_refused(ct_hu, name):
    assert check_hu_range(HU[name](ct_hu)) == ""


def test_a_field_of_view_inside_the_belly_has_its_air_as_padding():
    belly = np.random.default_rng(1).normal(40, 60, (2, 64, 64))
    belly[:, 28:36, 28:36] = 700
    belly[:, :6] = -1024
    assert check_hu_range(belly) == ""
    assert "without any air" in check_hu_range(belly[:, 8:])


def test_air_alone_has_no_soft_tissue():
    assert "soft tissue" in check_hu_range(np.random.default_rng(1).normal(-900, 60, (2, 64, 64)))
