"""How well two masks agree. Masks are bool, (Z, H, W); spacing is slice, row, column in mm.

Surfaces are the voxels of a mask that touch what is not mask, within the volume. Where both masks are empty
the overlap is perfect and the distance 0; where one is, the overlap is 0 and the distance infinite.
HD95: Huttenlocher et al., IEEE TPAMI 15 (1993) 850-863, at the 95th percentile of both directions together.
Surface Dice: Nikolov et al., J Med Internet Res 23 (2021) e26151, counted by voxels instead of by area.
"""

import math

import edt
import numpy as np
from scipy import ndimage


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Twice the overlap over the sum of the sizes, 0 to 1; any shape."""
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * np.count_nonzero(a & b) / total if total else 1.0


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Overlap over union, 0 to 1; any shape."""
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def surface_distances_mm(a: np.ndarray, b: np.ndarray, spacing_mm: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each surface voxel of `a` to the surface of `b`, and the other way round; both not empty."""
    union = a | b
    box = tuple(
        slice(hit[0], hit[-1] + 1)
        for hit in (np.flatnonzero(union.any(axis=tuple(o for o in range(3) if o != axis))) for axis in range(3))
    )
    surfaces = [surface(mask)[box] for mask in (a, b)]
    to_a, to_b = (edt.edt(~s, anisotropy=spacing_mm) for s in surfaces)
    return to_b[surfaces[0]], to_a[surfaces[1]]


def surface(mask: np.ndarray) -> np.ndarray:
    """The voxels of a mask that have a neighbour outside it; the volume's own faces do not count."""
    return mask & ~ndimage.binary_erosion(mask, border_value=1)


def hd95_mm(distances: tuple[np.ndarray, np.ndarray]) -> float:
    """95th percentile of the distances in both directions, mm; 0 without any surface."""
    both = np.concatenate(distances)
    return float(np.percentile(both, 95)) if len(both) else 0.0


def surface_dice(distances: tuple[np.ndarray, np.ndarray], tolerance_mm: float) -> float:
    """Share of both surfaces that lies within a tolerance of the other, 0 to 1."""
    both = np.concatenate(distances)
    return float((both <= tolerance_mm).mean()) if len(both) else 1.0


def compare(predicted: np.ndarray, lung: np.ndarray, spacing_mm: tuple) -> dict[str, float]:
    """Every score of a volume: dice, iou, hd95_mm, surface_dice_1mm and _2mm, worst slice and its Dice."""
    if predicted.any() and lung.any():
        distances = surface_distances_mm(predicted, lung, spacing_mm)
        hd95 = hd95_mm(distances)
        near = {mm: surface_dice(distances, mm) for mm in (1, 2)}
    else:
        perfect = predicted.any() == lung.any()
        hd95, near = 0.0 if perfect else math.inf, dict.fromkeys((1, 2), float(perfect))
    by_slice = [dice(p, t) for p, t in zip(predicted, lung, strict=True)]
    worst = int(np.argmin(by_slice))
    return {
        "dice": dice(predicted, lung),
        "iou": iou(predicted, lung),
        "hd95_mm": hd95,
        "surface_dice_1mm": near[1],
        "surface_dice_2mm": near[2],
        "worst_slice": worst,
        "worst_slice_dice": by_slice[worst],
    }


def litres(lung: np.ndarray, spacing_mm: tuple) -> float:
    """Volume of a mask."""
    return float(np.count_nonzero(lung) * np.prod(spacing_mm) / 1e6)
