"""Whether numbers can be HU: where the peaks of air and soft tissue lie."""

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

SOFT_TISSUE_HU = (-200, 200)
MIN_TISSUE = 0.02  # share of the pixels; a chest has some 40 %
AIR_PRESENT_HU = -200  # any picture of a chest has something below
DENSE_HU, MAX_DENSE = 700, 0.1  # bone is less than that
SAMPLE = 4  # every so many rows and columns


def check_hu_range(ct_hu: np.ndarray) -> str:
    """What the values of (Z, H, W) look like where they cannot be HU; empty where they can."""
    sample = np.ascontiguousarray(ct_hu[:, ::SAMPLE, ::SAMPLE])
    low, high = sample.min(), sample.max()
    if low == high:
        return f"every value is {low}"
    if low >= 0 and high <= 1:
        return "values from 0 to 1"
    if low >= 0 and high <= 255:
        return "8-bit grey levels"
    if low > AIR_PRESENT_HU and np.mean(sample > DENSE_HU) > MAX_DENSE:
        return "stored values to which the intercept of -1024 was not added"
    tissue = np.mean((sample > SOFT_TISSUE_HU[0]) & (sample < SOFT_TISSUE_HU[1]))
    if tissue < MIN_TISSUE:
        return f"{tissue:.1%} soft tissue"
    return ""


def stored_values(dataset: pydicom.Dataset) -> np.ndarray:
    """The pixels of a slice before rescaling, (H, W).

    16-bit pixels that are not compressed are taken as they lie in the file: pydicom's decoder needs twice the time.
    """
    bare = dataset.file_meta.TransferSyntaxUID in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    layout = dataset.get("BitsAllocated"), dataset.get("SamplesPerPixel"), dataset.get("NumberOfFrames") or 1
    size = dataset.Rows * dataset.Columns
    if not bare or layout != (16, 1, 1) or len(dataset.PixelData) < 2 * size:
        return dataset.pixel_array
    kind = "<i2" if dataset.PixelRepresentation else "<u2"
    return np.frombuffer(dataset.PixelData, kind, size).reshape(dataset.Rows, dataset.Columns)


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
