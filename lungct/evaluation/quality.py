"""What makes a predicted pair of lungs worth a look, a few words each, with the slices.

Z slices, H rows, W columns; row 0 is the front, column 0 the patient's right, slice 0 the lowest.
"""

from collections.abc import Iterator

import cc3d
import numpy as np
from scipy import ndimage

from lungct.evaluation.metrics import litres
from lungct.segmentation.body import find_body
from lungct.segmentation.morphology import IN_SLICE_8
from lungct.slices import slice_pixels

USUAL_LITRES = (2.0, 8.0)  # of an adult, breathed in or out
ONE_LUNG = 0.15  # share of the smaller side
TISSUE_HU = -300
LOW = 0.1  # share of the lungs that lies below a piece that is taken for gas under the diaphragm
STEP = 4  # every so many rows and columns are looked at
END_SHARE = 0.05  # of the largest area: so much in the first or last slice means that the scan ends in the lung
JUMP = 0.5  # of a lung's area, from slice to slice; in seven reference scans at most 0.39, in slices of 8 mm
LARGE_SHARE = 0.4  # of a lung's largest area; smaller slices, at base and apex, change faster
MISSED_ML, MISSED_HU = 50, (-930, -500)  # what is left of such air without its blurred rim
MISSED_GRID_MM = 3.2


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
    area = slice_pixels(lung)
    is_cut = area[[0, -1]] > END_SHARE * area.max()
    if is_cut.sum() == 1:
        flags.append("the scan ends in the lung")
    coarse = np.ascontiguousarray(lung[:, ::STEP, ::STEP])
    if not is_cut.any():  # of a part of the lungs neither says anything
        if not USUAL_LITRES[0] <= litres(lung, spacing_mm, extents_mm) <= USUAL_LITRES[1]:
            flags.append("outside the usual 2 to 8 litres")
        if smaller_side_share(ct_hu[:, ::STEP, ::STEP], coarse) < ONE_LUNG:
            flags.append("one lung only")
    if has_piece_below_lung(coarse):
        flags.append("gas below the diaphragm")
    flags += [f"a lung changes by half from slice {z} to {z + 1}" for z in find_jumps(coarse)]
    missed = find_missed(ct_hu, lung, spacing_mm)
    return flags + [f"{ml:.0f} ml like lung not in the mask, slices {low} to {high}" for ml, low, high in missed]


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


def find_jumps(lung: np.ndarray) -> list[int]:
    """The slices after which the area in one half of the picture changes by JUMP, where it is large."""
    columns = np.count_nonzero(lung, axis=(0, 1))
    middle = int(np.searchsorted(np.cumsum(columns), columns.sum() / 2))
    found = set()
    for half in (lung[..., :middle], lung[..., middle:]):
        area = np.count_nonzero(half, axis=(1, 2))
        larger = np.maximum(area[1:], area[:-1])
        sudden = np.abs(np.diff(area)) > JUMP * larger
        inside = np.logical_or.accumulate(area > 0)[:-1] & np.logical_or.accumulate(area[::-1] > 0)[::-1][1:]
        found |= set(np.flatnonzero(sudden & inside & (larger > LARGE_SHARE * area.max())).tolist())
    return sorted(found)


def find_missed(ct_hu: np.ndarray, lung: np.ndarray, spacing_mm: tuple) -> Iterator[tuple[float, int, int]]:
    """(ml, first slice, last slice) of each large piece in the trunk that is like lung and not in the mask."""
    body = find_body(ct_hu, spacing_mm, MISSED_GRID_MM)
    rows, cols = body.steps
    like_lung = body.air & body.hull & (body.coarse_hu > MISSED_HU[0]) & (body.coarse_hu < MISSED_HU[1])
    left_out = ndimage.binary_erosion(like_lung & ~lung[:, ::rows, ::cols], IN_SLICE_8)
    label = cc3d.connected_components(left_out, connectivity=6)
    volume_ml = np.bincount(label.ravel()) * np.prod(body.spacing_mm) / 1e3
    for number, box in enumerate(ndimage.find_objects(label), start=1):
        if volume_ml[number] > MISSED_ML:
            yield float(volume_ml[number]), box[0].start, box[0].stop - 1
