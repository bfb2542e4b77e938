"""Whether numbers can be HU: where the peaks of air and soft tissue lie."""

import numpy as np

from lungct.slices import CT_RANGE_HU

PADDING_HU = -3024  # far below air, as most scanners write what lies outside the field of view; clipped it is air
MAX_AIR_HU = -200  # any picture of a chest has something below: room air, lung, gas
MIN_AIR = 0.001  # share of the pixels; real slices, of the belly too, have more than a quarter
SOFT_TISSUE_HU = (-200, 200)
MIN_TISSUE = 0.02  # share of the pixels; a chest has some 40 %
MAX_CUT_OFF = 0.05  # share of one lowest value that is not air: a window was applied
DENSE_HU, MAX_DENSE = 700, 0.1  # bone is less than that
BONE_HU, MAX_BONE = 300, 0.15  # share of the pixels; in 171 real slices of neck, chest and belly at most 0.08
BELOW_AIR_HU, MAX_BELOW_AIR = -1300, 0.1  # noise and streaks are less than that
MAX_GREY = 255  # span of 8 bits; from air to soft tissue there are some 1,000 HU
MAX_STANDARD = 100  # span of what was divided by its standard deviation, metal included
PADDING_GAP = 500  # a lowest value so far below all others stands for "outside the field of view"
SAMPLE = 4  # every so many rows and columns


def check_hu_range(ct_hu: np.ndarray) -> str:
    """What the values of (Z, H, W), any number type, look like where they cannot be HU; empty where they can.

    NaN, infinity and a lowest value far below all others are padding, which says nothing of the rest.
    """
    sample = np.ascontiguousarray(ct_hu[:, ::SAMPLE, ::SAMPLE])
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return "a volume without any finite value"
    inside = without_padding(sample)
    low, high = inside.min(), inside.max()
    if low == high:
        return f"a constant, {low:g} everywhere"
    if float(high) - float(low) <= MAX_GREY:
        return name_narrow_range(float(low), float(high))
    no_air = np.mean(inside < MAX_AIR_HU) < MIN_AIR
    if no_air and np.mean(inside > DENSE_HU) > MAX_DENSE:
        return "stored values to which the intercept of -1024 was not added"
    cut_off = np.mean(inside == low) > MAX_CUT_OFF
    if no_air and (cut_off or np.mean(sample < MAX_AIR_HU) < MIN_AIR):  # inside the body, padding is the only air
        return f"values from {low:g} to {high:g} without any air"
    if np.mean(inside < BELOW_AIR_HU) > MAX_BELOW_AIR:
        return "values from which the intercept's 1024 was subtracted twice"
    tissue = np.mean((inside > SOFT_TISSUE_HU[0]) & (inside < SOFT_TISSUE_HU[1]))
    if tissue < MIN_TISSUE:
        return f"a volume with only {tissue:.1%} soft tissue"
    bone = np.mean(inside > BONE_HU)
    return f"values of which {bone:.0%} lie above {BONE_HU} HU, as bone does" if bone > MAX_BONE else ""


def without_padding(sample: np.ndarray) -> np.ndarray:
    """The values (N,) without the lowest, where it lies far below all others."""
    low = sample.min()
    rest = sample[sample > low]
    return rest if rest.size and float(rest.min()) - float(low) > PADDING_GAP else sample


def name_narrow_range(low: float, high: float) -> str:
    """How values of at most 8 bits' span came about."""
    ends = f"values from {low:.4g} to {high:.4g}"
    if low >= 0 and high <= 1:
        return "values from 0 to 1"
    if low >= -1 and high <= 1:
        return "values from -1 to 1"
    if low < 0 < high <= MAX_STANDARD and high - low <= MAX_STANDARD:
        return f"z-scores, {ends}"
    if low >= 0 and high <= 255:
        return "8-bit grey levels"
    return f"8-bit grey levels around zero, {ends}" if low >= -128 and high <= 127 else ends


def to_hu(pixels: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Stored values to int16 HU, without a detour through float where slope and intercept allow."""
    if slope == 1 and intercept == int(intercept) and pixels.dtype.kind in "iu":
        ends = int(pixels.min()) + int(intercept), int(pixels.max()) + int(intercept)
        if fits_int16(*ends, intercept):
            return pixels.astype(np.int16) + np.int16(intercept)  # what overflows on the way comes back
        hu = np.add(pixels, int(intercept), dtype=np.int64)
    else:
        hu = np.rint(pixels * slope + intercept)
    return np.clip(hu, -32768, 32767).astype(np.int16)


def fits_int16(*values: float) -> bool:
    return all(-32768 <= value <= 32767 for value in values)


def lower_padding(hu: np.ndarray, pixels: np.ndarray, padding: tuple[int, int] | None) -> np.ndarray:
    """The same HU, of stored values `pixels`, with padding as dense as no tissue is set to PADDING_HU.

    padding: as `padding_of` of headers.py gives it

    Only what lies at the upper end of CT_RANGE_HU or above it is changed: low padding is air once it is clipped, and
    between the ends lies tissue that may have the same value, such as 0 where a scanner stores HU as they are.
    """
    if padding is None or hu.max() < CT_RANGE_HU[1]:
        return hu
    low, high = padding
    return np.where((pixels >= low) & (pixels <= high) & (hu >= CT_RANGE_HU[1]), np.int16(PADDING_HU), hu)
