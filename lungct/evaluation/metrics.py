"""How well two masks agree. Masks are bool, (Z, H, W); spacing is slice, row, column in mm.

HD95 and surface Dice are those of google-deepmind's surface-distance (Nikolov et al., J Med Internet Res 23 (2021)
e26151): surfaces count by area, and the volume's faces are surface where mask touches them.
"""

import math
from dataclasses import dataclass

import numpy as np

from lungct.evaluation.surface import SurfaceElements, measure_surfaces

FLOAT32_SLACK = 1e-5  # relative: distances come in float32, and one that equals the tolerance is within it


@dataclass(frozen=True)
class Agreement:
    """Every score of a predicted volume against its reference; `worst_slice` is an index along Z."""

    dice: float
    iou: float
    hd95_mm: float
    surface_dice_1mm: float
    surface_dice_2mm: float
    worst_slice: int
    worst_slice_dice: float


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Twice the overlap over the sum of the sizes, 0 to 1; any shape."""
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return float(2 * np.count_nonzero(a & b) / total) if total else 1.0


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Overlap over union, 0 to 1; any shape."""
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 1.0


def hd95_mm(surfaces: tuple[SurfaceElements, SurfaceElements]) -> float:
    """The distance within which 95 % of a surface's area lies from the other surface; the larger of both directions.

    Huttenlocher et al., IEEE TPAMI 15 (1993) 850-863, call it the partial Hausdorff distance.
    """
    return max(distance_of_share(surface, 0.95) for surface in surfaces)


def distance_of_share(surface: SurfaceElements, share: float) -> float:
    """The least distance, mm, within which that share (0 to 1) of the surface's area lies."""
    area = np.cumsum(surface.area_mm2)
    return float(surface.distance_mm[np.searchsorted(area / area[-1], share)])


def surface_dice(surfaces: tuple[SurfaceElements, SurfaceElements], tolerance_mm: float) -> float:
    """Share of both surfaces' area that lies within a tolerance of the other surface, 0 to 1."""
    limit = tolerance_mm * (1 + FLOAT32_SLACK)
    near = sum(surface.area_mm2[surface.distance_mm <= limit].sum() for surface in surfaces)
    return float(near / sum(surface.area_mm2.sum() for surface in surfaces))


def compare(predicted: np.ndarray, lung: np.ndarray, spacing_mm: tuple[float, float, float]) -> Agreement:
    """Every score of two masks of the same shape.

    Where one mask is empty, overlap and surface Dice are 0 and HD95 is infinite. Where both are, the agreement is
    perfect: overlap and surface Dice 1, HD95 0. That is this project's convention; surface-distance leaves it open.
    """
    if predicted.any() and lung.any():
        surfaces = measure_surfaces(predicted, lung, spacing_mm)
        hd95, near = hd95_mm(surfaces), [surface_dice(surfaces, tolerance_mm) for tolerance_mm in (1, 2)]
    else:
        both_empty = predicted.any() == lung.any()
        hd95, near = 0.0 if both_empty else math.inf, [float(both_empty)] * 2
    by_slice = [dice(p, t) for p, t in zip(predicted, lung, strict=True)]
    worst = int(np.argmin(by_slice))
    return Agreement(dice(predicted, lung), iou(predicted, lung), hd95, *near, worst, by_slice[worst])


def litres(lung: np.ndarray, spacing_mm: tuple[float, float, float], extents_mm: np.ndarray | None = None) -> float:
    """Volume of a mask; extents_mm (Z,) where the slices lie at unequal distances (`Frame.extents_mm`)."""
    slice_mm, row_mm, col_mm = spacing_mm
    voxels = np.count_nonzero(lung, axis=(1, 2))
    return float(np.sum(voxels * (slice_mm if extents_mm is None else extents_mm)) * row_mm * col_mm / 1e6)
