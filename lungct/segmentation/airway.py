"""Airway that a network took for lung in a few slices: air that is not lung in the slices above and below.

Z slices, h and w rows and columns of the coarse grid.
"""

import numpy as np

from lungct.segmentation.body import Body
from lungct.segmentation.morphology import grow_slices, shrink_slices

RUN_MM = 10  # of slices in which it can be in; in thirteen real scans that is 1.3 cm2 of a trachea, and nothing else


def find_airway(lung: np.ndarray, body: Body) -> np.ndarray:
    """What of a lung is airway, bool (Z, h, w): its air is left out a little further up and a little further down.

    lung: bool (Z, h, w)

    What is less than three pixels wide is an edge that moves from slice to slice, and stays.
    """
    left_out = body.air & body.hull & ~lung
    reach = max(1, round(RUN_MM / 2 / body.spacing_mm[0]))
    found = lung & body.air & close_between_slices(left_out, reach)
    return found & grow_slices(shrink_slices(found))


def close_between_slices(mask: np.ndarray, reach: int) -> np.ndarray:
    """What lies between mask and mask at most twice `reach` slices apart, and these, bool (Z, h, w)."""
    grown = mask.copy()
    for step in range(1, reach + 1):
        grown[step:] |= mask[:-step]
        grown[:-step] |= mask[step:]
    closed = grown.copy()
    for step in range(1, reach + 1):
        closed[step:] &= grown[:-step]
        closed[:-step] &= grown[step:]
    closed[:reach] = closed[-reach:] = False  # what lies beyond the ends is not known
    return closed
