"""What lungs are segmented for: volume, density, mass and the extent of emphysema. docs/measures.md has the sources.

Z slices, H rows, W columns. Each slice counts with its own extent, so that unequal steps change nothing.
"""

from dataclasses import dataclass

import numpy as np

from lungct.slices import LEFT, RIGHT

HU_SPAN = 1 << 16  # of int16
LOWEST_HU = -(1 << 15)
PERC = 0.15  # share of the lung's volume at or below the 15th percentile
EMPHYSEMA_HU = -950
AIR_HU, HU_PER_G_ML = -1000, 1000  # air weighs nothing, water at 0 HU 1 g/ml


@dataclass(frozen=True)
class Measures:
    """Of a pair of lungs in a CT; what has no value without a lung is None.

    perc15_hu: the lowest HU at or below which 15 % of the volume lies
    laa950:    share of the volume below -950 HU, 0 to 1 (low attenuation area)
    mass_g:    of tissue, blood and air
    """

    litres: float
    litres_right: float
    litres_left: float
    mean_hu: float | None
    perc15_hu: float | None
    laa950: float | None
    mass_g: float
    lung_slices: int


def measure(
    ct_hu: np.ndarray, sides: np.ndarray, spacing_mm: tuple[float, float, float], extents_mm: np.ndarray
) -> Measures:
    """Of a CT (Z, H, W) int16 HU and its lungs (Z, H, W) uint8, right 1, left 2; extents_mm (Z,) of `Frame`."""
    voxel_ml = extents_mm * spacing_mm[1] * spacing_mm[2] / 1e3  # (Z,)
    ml = np.zeros(HU_SPAN)  # of lung, by HU
    side_ml = np.zeros(3)
    slices = 0
    for ct, side, each_ml in zip(ct_hu, sides, voxel_ml, strict=True):
        inside = side > 0
        if inside.any():
            slices += 1
            hu = ct[inside].astype(np.int64) - LOWEST_HU
            low = int(hu.min())
            counts = np.bincount(hu - low)
            ml[low : low + len(counts)] += counts * each_ml
            side_ml += np.bincount(side[inside], minlength=3) * each_ml
    litres, by_side = float(ml.sum()) / 1e3, (float(side_ml[RIGHT]) / 1e3, float(side_ml[LEFT]) / 1e3)
    if not slices:
        return Measures(0.0, 0.0, 0.0, None, None, None, 0.0, 0)
    return Measures(litres, *by_side, *density(ml), mass_g(ml), slices)


def density(ml: np.ndarray) -> tuple[float, float, float]:
    """(mean HU, 15th percentile, share below -950 HU) of a volume by HU, (HU_SPAN,) ml from LOWEST_HU."""
    hu = np.arange(HU_SPAN) + LOWEST_HU
    below = np.cumsum(ml) / ml.sum()
    mean = float((ml * hu).sum() / ml.sum())
    perc15 = float(hu[np.searchsorted(below, PERC * (1 - 1e-9))])  # a sum of shares is off in its last digits
    return mean, perc15, float(ml[hu < EMPHYSEMA_HU].sum() / ml.sum())


def mass_g(ml: np.ndarray) -> float:
    """Of the same: each ml weighs (HU + 1000) / 1000 g."""
    hu = np.arange(HU_SPAN) + LOWEST_HU
    return float((ml * (hu - AIR_HU)).sum() / HU_PER_G_ML)
