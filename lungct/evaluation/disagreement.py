"""Where a mask and the label maker disagree: gas or liver in the mask, lung or a mass that it leaves out.

Z slices, h and w rows and columns of the grid of the body.
"""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from lungct.segmentation.body import Body
from lungct.segmentation.morphology import IN_SLICE_8, large_pieces
from lungct.segmentation.threshold import label_coarsely

DISAGREEMENT_ML = 50  # in one piece; at most 44 in 92 volumes with a Dice above 0.98, 51 and 965 in two below 0.97
EVERY_MM = (5, 3.2, 3.2)  # slices, rows and columns that are looked at


def find_disagreement(lung: np.ndarray, body: Body) -> Iterator[tuple[float, int, int]]:
    """(ml, first slice, last slice) of each large piece; lung is bool (Z, h, w), on the grid of the body.

    The label maker, `segment_lung`, has no share in the mask, so the two are seldom wrong together. Edges are one
    pixel apart and do not count.
    """
    steps = body.steps_of(EVERY_MM)
    body, lung = body.every(steps), lung[:: steps[0], :: steps[1], :: steps[2]]
    differing = ndimage.binary_opening(lung ^ label_coarsely(body), IN_SLICE_8)
    for ml, box, _ in large_pieces(differing, body.spacing_mm, DISAGREEMENT_ML, connectivity=6):
        yield ml, box[0].start * steps[0], (box[0].stop - 1) * steps[0]
