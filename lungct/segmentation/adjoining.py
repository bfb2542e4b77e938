"""Lung that a network left out, told by what it adjoins: thin lung beside liver, gut and the edge of the image.

Z slices, h and w rows and columns of the coarse grid.
"""

import cc3d
import numpy as np

from lungct.segmentation.body import Body
from lungct.segmentation.gas import gas_limit_hu
from lungct.segmentation.morphology import grow_slices, open_slices, slices_beside

AERATED_HU = -500  # less than half of it tissue
MIN_ML = 0.3
# with both, seven reference scans, the middle of the trunk included, gain 35 ml, of which 32 are lung; with -400 HU
# 38 and 35, with 1 ml 27 and 26


def find_adjoining(lung: np.ndarray, body: Body, gas: np.ndarray, lung_hu: float) -> np.ndarray:
    """Air like this scan's lung that adjoins the lung without a wall between and is not in it, bool (Z, h, w).

    lung:    bool (Z, h, w), what is known of it
    gas:     as `find_gas` gives it, for the same body
    lung_hu: as `lung_level_hu` gives it

    What is one pixel wide is the blurred edge of lung, and left out, and so is the middle, where the airway is.
    """
    like_lung = body.air & (body.coarse_hu < AERATED_HU) & (body.coarse_hu > gas_limit_hu(body.room_hu, lung_hu))
    found = open_slices(like_lung & ~lung & ~gas & body.beside)
    if not found.any():
        return found
    label = cc3d.connected_components(found, connectivity=6)
    near = grow_slices(lung) | slices_beside(lung)
    voxels = np.bincount(label[found])
    adjoins = np.bincount(label[found & near], minlength=len(voxels)) > 0
    return (adjoins & (voxels * np.prod(body.spacing_mm) >= 1e3 * MIN_ML))[label]
