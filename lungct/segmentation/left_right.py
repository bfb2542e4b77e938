"""Which of the lungs is which.

Z slices, H rows, W columns; column 0 is the patient's right.
"""

import cc3d
import edt
import numpy as np

from lungct.segmentation.morphology import block_mean, bounding_box, enlarge
from lungct.slices import LEFT, RIGHT

SPLIT_GRID_MM = 2.5  # the lungs touch along a few millimetres at most
MAX_MM, STEP_MM = 25, 2.5  # how far the lungs are shrunk to come apart, and in which steps
CORE_SHARE = 0.15  # of the larger core; two such are lungs
SMALL_SHARE = 0.02  # as much has a collapsed lung, where no shrinking gives two larger ones
FAR_MM, HIGH_MM = 100, 70  # two cores so far apart and so high are both lungs, wherever the middle is said to be: in
# seven scans the mean columns of the lungs are 119 to 136 mm apart; those of two pieces of one base can be more than 90


def split_left_right(lung: np.ndarray, spacing_mm: tuple[float, float, float], middle: float) -> np.ndarray:
    """The right lung as 1 and the left as 2, of a mask (Z, H, W) bool: (Z, H, W) uint8.

    middle: column of the patient's middle, as `Frame.middle` has it

    The mask is shrunk until it falls apart in two cores, one on each side of the middle; from these a watershed grows
    back over the distance to its surface (Beucher and Lantuejoul, 1979), so that lungs that touch are cut where they
    are thinnest. Pieces of their own go to the nearer core. Where there are no two such cores, all that there is may
    be of one lung: each piece lies on the side of its mean column.
    """
    sides = np.zeros(lung.shape, np.uint8)
    if not lung.any():
        return sides
    box = bounding_box(lung, spacing_mm, margin_mm=0)
    lung = lung[box]
    steps = tuple(max(1, round(SPLIT_GRID_MM / mm)) for mm in spacing_mm[1:])
    coarse = np.stack([block_mean(slice_, steps) > 0 for slice_ in lung])
    depth_mm = edt.edt(coarse, anisotropy=(spacing_mm[0], spacing_mm[1] * steps[0], spacing_mm[2] * steps[1]))
    at = (middle - box[2].start - (steps[1] - 1) / 2) / steps[1]  # on the coarse grid
    cores, are_whole = find_cores(depth_mm, at, (spacing_mm[0], spacing_mm[2] * steps[1]))
    grown = cores if are_whole else grow_back(cores, depth_mm)
    lost = coarse & (grown == 0)
    if lost.any():
        middles = [np.nonzero(cores == side)[2].mean() if (cores == side).any() else np.inf for side in (RIGHT, LEFT)]
        columns = np.nonzero(lost)[2]
        is_left = np.abs(columns - middles[1]) < np.abs(columns - middles[0])
        grown = grown.copy()
        grown[lost] = np.where(is_left, LEFT, RIGHT)
    sides[box] = enlarge(grown, steps, lung.shape) * lung
    return sides


def grow_back(cores: np.ndarray, depth_mm: np.ndarray) -> np.ndarray:
    """Cores and what of the mask hangs together with them, uint8 (Z, h, w), by the watershed."""
    from skimage.segmentation import watershed  # takes a while to import; lungs that lie apart do without

    return watershed(-depth_mm, cores, mask=depth_mm > 0).astype(np.uint8)


def find_cores(depth_mm: np.ndarray, middle: float, step_mm: tuple[float, float]) -> tuple[np.ndarray, bool]:
    """What is left of each lung when the mask is shrunk just enough: 1 on the patient's right, 2 on the left.

    depth_mm: (Z, h, w), distance to the surface
    middle:   column of the patient's middle
    step_mm:  from slice to slice and from column to column

    Also returns whether nothing was shrunk: the lungs lie apart, or each piece has the side on which it lies.
    """
    small = None
    for limit_mm in np.arange(0, MAX_MM, STEP_MM):
        label, count = cc3d.largest_k(depth_mm > limit_mm, k=2, connectivity=6, return_N=True)
        if count < 2:
            continue
        sizes = np.bincount(label.ravel())[1:]
        share = min(sizes) / max(sizes)
        if share <= (SMALL_SHARE if small is None else CORE_SHARE):
            continue
        columns = mean_columns(label, 2)
        is_beside = min(columns) < middle <= max(columns)
        if not is_beside and (share <= CORE_SHARE or not are_far(label, columns, step_mm)):
            continue
        cores = np.array([0, RIGHT, LEFT] if columns[0] < columns[1] else [0, LEFT, RIGHT], np.uint8)[label]
        if share > CORE_SHARE:
            return cores, limit_mm == 0
        small = cores, limit_mm == 0
    return small or (by_middle(depth_mm > 0, middle), True)


def mean_columns(label: np.ndarray, count: int) -> np.ndarray:
    """Of each of the pieces 1 to count of a label image (Z, h, w), none empty: (count,)."""
    columns = np.nonzero(label)[2]
    pieces = label[label > 0]
    return np.bincount(pieces, columns, count + 1)[1:] / np.bincount(pieces, minlength=count + 1)[1:]


def are_far(label: np.ndarray, columns: np.ndarray, step_mm: tuple[float, float]) -> bool:
    """Whether two cores (1 and 2), whose mean columns are given, are too far apart and too high for one lung."""
    slice_mm, col_mm = step_mm
    heights = [np.count_nonzero((label == number).any(axis=(1, 2))) for number in (1, 2)]
    return np.ptp(columns) * col_mm > FAR_MM and min(heights) * slice_mm > HIGH_MM


def by_middle(lung: np.ndarray, middle: float) -> np.ndarray:
    """Each piece of a mask (Z, h, w) on the side of its mean column: 1 on the patient's right, 2 on the left, uint8."""
    label, count = cc3d.connected_components(lung, connectivity=6, return_N=True)
    return np.append(0, np.where(mean_columns(label, count) < middle, RIGHT, LEFT)).astype(np.uint8)[label]
