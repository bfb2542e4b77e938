"""Stored values to HU, and what cannot be HU."""

import numpy as np
import pydicom
import pytest
from conftest import small_patient
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from lungct.phantom.lidc_tree import write_series
from lungct.scans.hu import check_hu_range, stored_values, to_hu
from lungct.scans.lidc import LidcScan

WHO = LidcScan("LIDC-IDRI-0001", "1.2.3", "1.2.3.4")
SPACING_MM = (2.5, 0.7, 0.9)


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


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize(("signed", "bits"), [(0, 12), (0, 16), (1, 12), (1, 16)])
def test_pixels_taken_as_they_lie_are_those_that_pydicom_decodes(tmp_path, syntax, signed, bits):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    stored = np.random.default_rng(2).integers(low, high, (1, 24, 32))
    tags = {
        "PixelRepresentation": signed,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelData": stored.astype("<i4").astype("<i2").tobytes(),
    }
    write_series(tmp_path, WHO, stored.astype(np.int16), SPACING_MM, **tags)
    dataset = pydicom.dcmread(tmp_path / "1-001.dcm")
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(tmp_path / "again.dcm", implicit_vr=syntax == ImplicitVRLittleEndian)
    dataset = pydicom.dcmread(tmp_path / "again.dcm")
    np.testing.assert_array_equal(stored_values(dataset), stored[0])
    np.testing.assert_array_equal(dataset.pixel_array, stored[0])


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of the bits that are not used
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize(("bits", "high"), [(12, 11), (13, 12), (15, 14), (12, 15)])
def test_bits_that_are_not_stored_do_not_count(tmp_path, signed, bits, high):
    dirty = np.random.default_rng(3).integers(0, 2**16, (24, 32)).astype("<u2")  # an overlay, or no copy of the sign
    tags = {"PixelRepresentation": signed, "BitsStored": bits, "HighBit": high, "PixelData": dirty.tobytes()}
    write_series(tmp_path, WHO, np.zeros((1, 24, 32), np.int16), SPACING_MM, **tags)
    found = stored_values(pydicom.dcmread(tmp_path / "1-001.dcm"))
    np.testing.assert_array_equal(found, pydicom.dcmread(tmp_path / "1-001.dcm").pixel_array)
    if high == bits - 1:
        value = dirty.astype(int) % 2**bits
        np.testing.assert_array_equal(found, np.where(signed and value >= 2 ** (bits - 1), value - 2**bits, value))


def chest() -> np.ndarray:
    """(2, 40, 60) HU: a third each of air, lung and soft tissue."""
    return np.repeat([-1000, -850, 40], 20).astype(np.int16) * np.ones((2, 40, 1), np.int16)


def test_a_chest_can_be_hu():
    assert check_hu_range(chest()) == ""


@pytest.mark.parametrize(
    ("ct_hu", "looks_like"),
    [
        (np.full((2, 40, 60), 7), "every value is 7"),
        ((chest() > 0).astype(np.int16), "values from 0 to 1"),
        (np.clip((chest() + 1000) // 4, 0, 255), "8-bit grey levels"),
        (chest() + 1024, "stored values to which the intercept of -1024 was not added"),
        (np.where(chest() == 40, 3000, chest()), "0.0% soft tissue"),
    ],
)
def test_what_cannot_be_hu_is_said_to_look_like_something(ct_hu, looks_like):
    assert check_hu_range(ct_hu) == looks_like


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
    "the intercept twice": (lambda v: v - 1024, "taken twice"),
    "a mediastinal window": (lambda v: np.clip(v, -160, 240), "values from -160 to 240, no air at all"),
    "12 bits": (lambda v: np.clip((v + 200) * 2, 0, 4095), "no air at all"),
    "constant": (lambda v: np.full_like(v, 40), "every value is 40"),
    "not finite": (lambda v: np.full_like(v, np.nan), "no finite value"),
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
    assert "no air at all" in check_hu_range(belly[:, 8:])


def test_air_alone_has_no_soft_tissue():
    assert "soft tissue" in check_hu_range(np.random.default_rng(1).normal(-900, 60, (2, 64, 64)))
