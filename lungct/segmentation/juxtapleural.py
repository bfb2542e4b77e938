"""Nodules on the surface of a lung: soft tissue that fills a dent of it and has more lung than body around.

Z slices, h and w rows and columns of the coarse grid.
"""

import cc3d
import edt
import numpy as np
from scipy import ndimage

from lungct.segmentation.body import AIR_TISSUE_HU, Body
from lungct.segmentation.left_right import split_left_right
from lungct.segmentation.morphology import add_margin, bounding_box, close_volume
from lungct.slices import LEFT, RIGHT

RADIUS_MM = 18  # of a ball that rolls over the lung; a dent is what it cannot reach. Of painted nodules of 6 to 30 mm
# 0.83 is in; with 14 mm 0.79, and with 22 mm 0.82
MAX_MM = 2 * RADIUS_MM  # what is longer is a groove: aorta, cava, vessels of the hilum. Without it, the labels of
# phantoms hold up to 28 ml of vessels more, and of one scan 50 ml
FAT_HU, VESSEL_HU = -50, 100  # fat beside the heart has less, vessels with contrast medium have more; without either
# limit, the mean Dice is 0.0016 and 0.0003 lower
AROUND_MM, LUNG_AROUND = 4, 0.5  # share of lung in a layer so thick; with 0.45 the worst scan is 0.0011 lower
EDGE_MM = 3  # between lung and tissue, where voxels hold some of both


def find_juxtapleural(lung: np.ndarray, body: Body) -> np.ndarray:
    """Nodules and small masses in dents of a lung, bool (Z, h, w).

    lung: bool (Z, h, w)
    One lung at a time, so that nothing between the two is found. A single slice does not tell a nodule at the wall
    from a vessel, a dome or the heart: nothing is found there.
    """
    found = np.zeros(lung.shape, bool)
    if len(lung) < 3 or not lung.any():
        return found
    box = bounding_box(lung, body.spacing_mm, margin_mm=0)
    sides = split_left_right(lung[box], body.spacing_mm)
    hu = body.coarse_hu[box]
    tissue = ~lung[box] & (hu > AIR_TISSUE_HU)
    for side in (RIGHT, LEFT):
        if (sides == side).any():
            part = bounding_box(sides == side, body.spacing_mm, margin_mm=0)
            found[box][part] |= find_in_dents(sides[part] == side, tissue[part], hu[part], body.spacing_mm)
    return found


def find_in_dents(lung: np.ndarray, tissue: np.ndarray, hu: np.ndarray, spacing_mm: tuple) -> np.ndarray:
    """What of the tissue is a nodule in a dent of one lung; all (Z, h, w) of one box, bool but for the HU."""
    dents = close_volume(lung, spacing_mm, RADIUS_MM) & tissue
    label = cc3d.connected_components(dents & (hu > FAT_HU), connectivity=6)
    found = np.zeros(lung.shape, bool)
    for number, inner in enumerate(ndimage.find_objects(label), start=1):
        if max((cut.stop - cut.start) * mm for cut, mm in zip(inner, spacing_mm, strict=True)) > MAX_MM:
            continue
        part = add_margin(inner, label.shape, spacing_mm, AROUND_MM)
        nodule = label[part] == number
        away_mm = edt.edt(~nodule, anisotropy=spacing_mm)
        around = lung[part][(away_mm > 0) & (away_mm <= AROUND_MM)]
        if around.mean() > LUNG_AROUND and np.median(hu[part][nodule]) < VESSEL_HU:
            found[part] |= dents[part] & (away_mm <= EDGE_MM)
    return found
