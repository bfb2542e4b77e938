"""Dense tissue where lung would be expected: between the lung of a mask and the chest wall beside or behind it.

Consolidation, collapse, effusion and masses lie there; heart and liver do not, since lung reaches the ribs around them.

Z slices, h and w rows and columns of the grid of the body; n and m those of a part of it.
"""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from lungct.segmentation.body import Body
from lungct.segmentation.enclosed import between_lung_and_wall
from lungct.segmentation.morphology import IN_SLICE_8, large_pieces

# benchmarks/flags.py: the largest piece in seven scans and their variants has 37 ml, and 72 in those that lie upside
# down; where 166 to 687 ml were made dense, 166 to 543 ml are found, in one scan at the base only 15
DENSE_ML = 75
DENSE_HU = (-30, 150)  # muscle, fluid and lung without air, not fat
EVERY_MM = (10, 3.2, 3.2)  # slices, rows and columns that are looked at
LUNG_SHARE = 0.1  # of the largest area of lung; slices with less are bases and apices


def find_left_out(lung: np.ndarray, body: Body) -> Iterator[tuple[float, int, int]]:
    """(ml, first slice, last slice) of each large piece; lung is bool (Z, h, w), on the grid of the body."""
    steps = body.steps_of(EVERY_MM)
    spacing_mm = body.every(steps).spacing_mm
    found = find_dense(lung, body, steps)
    if np.count_nonzero(found) * np.prod(spacing_mm) <= 1e3 * DENSE_ML:  # as in nearly all scans
        return
    for ml, box, _ in large_pieces(ndimage.binary_opening(found, IN_SLICE_8), spacing_mm, DENSE_ML, connectivity=26):
        yield ml, box[0].start * steps[0], (box[0].stop - 1) * steps[0]


def find_dense(lung: np.ndarray, body: Body, steps: tuple[int, int, int]) -> np.ndarray:
    """Dense tissue behind the lungs and beside them, bool, on every so many slices, rows and columns."""
    area = np.count_nonzero(lung[:, :: steps[1], :: steps[2]], axis=(1, 2))
    lung = lung & (area > LUNG_SHARE * area.max())[:, None, None]
    hu = body.coarse_hu[:: steps[0], :: steps[1], :: steps[2]]
    return between_lung_and_wall(lung, body, steps) & (hu > DENSE_HU[0]) & (hu < DENSE_HU[1])
