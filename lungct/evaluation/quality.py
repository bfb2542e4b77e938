"""What makes a predicted pair of lungs worth a look, a few words each.

Z slices, H rows, W columns; row 0 is the front, column 0 the patient's right, slice 0 the lowest.
"""

import cc3d
import numpy as np

from lungct.evaluation.metrics import litres
from lungct.segmentation.morphology import slice_pixels

USUAL_LITRES = (2.0, 8.0)  # of an adult, breathed in or out
ONE_LUNG = 0.15  # share of the smaller side
TISSUE_HU = -300
LOW = 0.1  # share of the lungs that lies below a piece that is taken for gas under the diaphragm
STEP = 4  # every so many rows and columns are looked at
END_SHARE = (
    0.5  # of the largest area in a slice: so much in the first or last slice means that the scan ends in the lung
)


def find_flags(
    ct_hu: np.ndarray,
    lung: np.ndarray,
    spacing_mm: tuple[float, float, float],
    extents_mm: np.ndarray | None = None,
) -> list[str]:
    """ct_hu (Z, H, W) in HU, lung (Z, H, W) bool; extents_mm (Z,) as `litres` takes it."""
    if not lung.any():
        return ["no lung"]
    flags = []
    volume = litres(lung, spacing_mm, extents_mm)
    if not USUAL_LITRES[0] <= volume <= USUAL_LITRES[1]:
        flags.append("outside the usual 2 to 8 litres")
    coarse = np.ascontiguousarray(lung[:, ::STEP, ::STEP])
    if smaller_side_share(ct_hu[:, ::STEP, ::STEP], coarse) < ONE_LUNG:
        flags.append("one lung only")
    if has_piece_below_lung(coarse):
        flags.append("gas below the diaphragm")
    area = slice_pixels(lung)
    if max(area[0], area[-1]) > END_SHARE * area.max():
        flags.append("the scan ends in the lung")
    return flags


def smaller_side_share(ct_hu: np.ndarray, lung: np.ndarray) -> float:
    """The share of the lung that lies on the side of the body's middle where less of it lies."""
    tissue = np.count_nonzero(ct_hu > TISSUE_HU, axis=(0, 1)) + np.count_nonzero(lung, axis=(0, 1))
    middle = np.searchsorted(np.cumsum(tissue), tissue.sum() / 2)
    left = np.count_nonzero(lung[..., middle:]) / np.count_nonzero(lung)
    return min(left, 1 - left)


def has_piece_below_lung(lung: np.ndarray) -> bool:
    """Whether a piece of its own lies below nearly all of the largest piece."""
    label, count = cc3d.connected_components(lung, connectivity=26, return_N=True)
    if count < 2:
        return False
    by_slice = np.stack([np.bincount(slice_.ravel(), minlength=count + 1)[1:] for slice_ in label])  # (Z, count)
    largest = int(by_slice.sum(0).argmax())
    below = np.cumsum(by_slice[:, largest]) / by_slice[:, largest].sum()
    tops = [np.flatnonzero(by_slice[:, number])[-1] for number in range(count) if number != largest]
    return any(below[top] < LOW for top in tops)
