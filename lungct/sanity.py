"""Whether numbers can be HU: where the peaks of air and soft tissue lie."""

import numpy as np

SOFT_TISSUE_HU = (-200, 200)
LEAST_TISSUE = 0.02  # share of the pixels; a chest has some 40 %
AIR_HU = -200  # any picture of a chest has something below
DENSE_HU, MOST_DENSE = 700, 0.1  # bone is less than that
SAMPLE = 4  # every so many rows and columns


def why_not_hu(ct_hu: np.ndarray) -> str:
    """What the values of (Z, H, W) look like where they cannot be HU; empty where they can."""
    sample = np.ascontiguousarray(ct_hu[:, ::SAMPLE, ::SAMPLE])
    low, high = sample.min(), sample.max()
    if low == high:
        return f"every value is {low}"
    if low >= 0 and high <= 1:
        return "values from 0 to 1"
    if low >= 0 and high <= 255:
        return "8-bit grey levels"
    if low > AIR_HU and np.mean(sample > DENSE_HU) > MOST_DENSE:
        return "stored values to which the intercept of -1024 was not added"
    tissue = np.mean((sample > SOFT_TISSUE_HU[0]) & (sample < SOFT_TISSUE_HU[1]))
    if tissue < LEAST_TISSUE:
        return f"{tissue:.1%} soft tissue"
    return ""
