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
MIN_CORE_SHARE = 0.15  # of the larger lung; a smaller core is no lung


def split_left_right(lung: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """The right lung as 1 and the left as 2, of a mask (Z, H, W) bool: (Z, H, W) uint8.

    The mask is shrunk until it falls apart in two cores; from these a watershed grows back over the distance to its
    surface (Beucher and Lantuejoul, 1979), so that lungs that touch are cut where they are thinnest. Pieces of their
    own go to the nearer core. A single lung goes to the side of the slice on which it lies.
    """
    sides = np.zeros(lung.shape, np.uint8)
    if not lung.any():
        return sides
    box = bounding_box(lung, spacing_mm, margin_mm=0)
    middle = lung.shape[2] / 2 - box[2].start
    lung = lung[box]
    steps = tuple(max(1, round(SPLIT_GRID_MM / mm)) for mm in spacing_mm[1:])
    coarse = np.stack([block_mean(slice_, steps) > 0 for slice_ in lung])
    depth_mm = edt.edt(coarse, anisotropy=(spacing_mm[0], spacing_mm[1] * steps[0], spacing_mm[2] * steps[1]))
    cores, are_whole = find_cores(depth_mm, middle / steps[1])
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


def find_cores(depth_mm: np.ndarray, middle: float) -> tuple[np.ndarray, bool]:
    """What is left of each lung when the mask is shrunk just enough: 1 on the patient's right, 2 on the left.

    depth_mm (Z, h, w), distance to the surface. Also returns whether nothing was shrunk: the lungs lie apart.
    """
    cores = np.zeros(depth_mm.shape, np.uint8)
    for limit_mm in np.arange(0, MAX_MM, STEP_MM):
        label, count = cc3d.largest_k(depth_mm > limit_mm, k=2, connectivity=6, return_N=True)
        sizes = np.bincount(label.ravel(), minlength=3)[1:]
        if count == 2 and min(sizes) > MIN_CORE_SHARE * max(sizes):
            middles = [np.nonzero(label == number)[2].mean() for number in (1, 2)]
            right = 1 + int(np.argmin(middles))
            cores[label == right], cores[label == 3 - right] = RIGHT, LEFT
            return cores, limit_mm == 0
    inside = depth_mm > 0
    if inside.any():
        cores[inside] = RIGHT if np.nonzero(inside)[2].mean() < middle else LEFT
    return cores, True
