"""Air that is the room's, not the lung's: gas in stomach and bowel, of any size and shape.

Z slices, h and w rows and columns of the coarse grid.
"""

import cc3d
import numpy as np
from scipy import ndimage

from lungct.segmentation.body import Body
from lungct.segmentation.morphology import IN_SLICE_8, bounding_box

DENSE_LUNG_HU = -700  # diseased lung is denser, and tells no limit
USUAL_LUNG_HU, SURE_ML = -860, 500  # less than that may all be gas, and counts as no darker than usual lung
GAS_MIX = 0.3  # gas is darker than a mixture of the room's air with so much of lung
PURE_MIX = 0.15  # the same of the room itself, and of much gas, so that no rim counts
ROOM_GAP_HU = 30  # a room less dark beside lung is a cut lung itself; 35 in a scan that is 100 HU too low
GAS_ML = (0.3, 1000)  # smaller is noise; larger is a lung with emphysema everywhere
LUNG_AROUND = 0.35  # of what surrounds gas; of 95 bullae and dark parts of the lungs in ten scans, 94 have 0.48 or more
AERATED_HU = -600
RIM = 2  # rows and columns of partial volume


def lung_level_hu(body: Body, lung: np.ndarray) -> float:
    """The HU of this scan's lung: the median of what is taken for lung so far, bool (Z, h, w)."""
    if not lung.any():
        return USUAL_LUNG_HU
    level_hu = float(np.median(body.coarse_hu[lung]))
    is_sure = np.count_nonzero(lung) * np.prod(body.spacing_mm) / 1e3 > SURE_ML
    return min(DENSE_LUNG_HU, level_hu if is_sure else max(USUAL_LUNG_HU, level_hu))


def gas_limit_hu(room_hu: float, lung_hu: float) -> float:
    """What is darker is air without lung; both limits are the scan's own, which also holds where a scanner is off.

    Never nearer to the lung than to the room: in emphysema they lie close together.
    """
    return min(room_hu + GAS_MIX * (max(USUAL_LUNG_HU, lung_hu) - room_hu), (room_hu + lung_hu) / 2)


def pure_limit_hu(room_hu: float, lung_hu: float) -> float:
    """What is darker is air like the room's through and through; keeps further away from the lung than `gas_limit_hu`.

    CT is clipped at -1024: of a scanner that is 100 HU too low, the room comes near to the lung. Seven scans cut at the
    sides of the lungs have Dice 0.62 to 0.97 there with a fixed limit of -950, and 0.86 to 0.97 with this one.
    """
    room_hu = min(room_hu, lung_hu - ROOM_GAP_HU)
    return room_hu + PURE_MIX * (lung_hu - room_hu)


def find_gas(body: Body, lung_hu: float) -> np.ndarray:
    """Air like the room's with tissue around it, and its rim: bool (Z, h, w).

    lung_hu: as `lung_level_hu` gives it
    Trachea and main bronchi are such air too. A bulla is not: most of what surrounds it is lung.
    """
    gas, inside = np.zeros(body.coarse_hu.shape, bool), body.air & body.hull
    if inside.any():
        box = bounding_box(inside, body.spacing_mm, (RIM + 2) * max(body.spacing_mm[1:]))
        gas[box] = find_gas_in(body.crop(box), lung_hu)
    return gas


def find_gas_in(body: Body, lung_hu: float) -> np.ndarray:
    """`find_gas` in the box around the air of a body."""
    smooth_hu = ndimage.uniform_filter(body.coarse_hu, (1, 3, 3))
    pure = body.air & body.hull & (smooth_hu < gas_limit_hu(body.room_hu, lung_hu))
    label = cc3d.connected_components(pure, connectivity=6)
    voxel_ml = np.prod(body.spacing_mm) / 1e3
    volume_ml = np.bincount(label.ravel()) * voxel_ml
    gas = np.zeros(pure.shape, bool)
    for number, box in enumerate(ndimage.find_objects(label), start=1):
        if not GAS_ML[0] < volume_ml[number] < GAS_ML[1]:
            continue
        near = box[0], *(slice(max(0, b.start - RIM - 1), b.stop + RIM + 1) for b in box[1:])
        grown = ndimage.binary_dilation(label[near] == number, IN_SLICE_8, iterations=RIM)
        around = ndimage.binary_dilation(grown, IN_SLICE_8) & ~grown
        if np.mean(body.coarse_hu[near][around] < AERATED_HU) < LUNG_AROUND:
            gas[near] |= grown
    return gas & body.air
