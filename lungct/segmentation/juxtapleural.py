"""Nodules on the surface of a lung: soft tissue that fills a dent of it and has lung around.

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
# 0.86 is in; with 14 mm 0.04 less, with 22 mm 0.01 less
MAX_MM = 2 * RADIUS_MM  # what is longer is a groove: aorta, cava, vessels of the hilum. Without it, the labels of
# phantoms hold up to 28 ml of vessels more, and of one scan 50 ml
FAT_HU = -50  # beside the heart; without it, the mean Dice of seven scans is 0.0009 lower
AROUND_MM, MIN_LUNG_SHARE = 4, 0.4  # of lung in a layer so thick. With 0.5, of painted nodules 0.83 is in; with 0.3
# 0.86, but the mean Dice is 0.0006 lower
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
    box = np.s_[:], *bounding_box(lung, body.spacing_mm, margin_mm=AROUND_MM)[1:]
    sides = split_left_right(lung[box], body.spacing_mm, body.middle[1] - box[2].start)
    hu = body.coarse_hu[box]
    tissue = ~lung[box] & (hu > AIR_TISSUE_HU)
    for side in (RIGHT, LEFT):
        one = sides == side
        if one.any():
            part = np.s_[:], *bounding_box(one, body.spacing_mm, margin_mm=AROUND_MM)[1:]
            found[box][part] |= find_in_dents(one[part], tissue[part], hu[part], body.spacing_mm)
    return found


def find_in_dents(lung: np.ndarray, tissue: np.ndarray, hu: np.ndarray, spacing_mm: tuple) -> np.ndarray:
    """What of the tissue is a nodule in a dent of one lung; all (Z, h, w) of one box, bool but for the HU."""
    dents = close_volume(lung, spacing_mm, RADIUS_MM) & tissue
    label = cc3d.connected_components(dents & (hu > FAT_HU), connectivity=6)
    found, around_mm = np.zeros(lung.shape, bool), max(AROUND_MM, min(spacing_mm))
    for number, inner in enumerate(ndimage.find_objects(label), start=1):
        if is_groove(inner, lung.shape, spacing_mm):
            continue
        part = add_margin(inner, label.shape, spacing_mm, around_mm)
        nodule = label[part] == number
        away_mm = edt.edt(~nodule, anisotropy=spacing_mm)
        around = lung[part][(away_mm > 0) & (away_mm <= around_mm)]
        if around.mean() > MIN_LUNG_SHARE:
            found[part] |= dents[part] & (away_mm <= EDGE_MM)
    return found


def is_groove(box: tuple[slice, slice, slice], shape: tuple[int, int, int], spacing_mm: tuple) -> bool:
    """Whether what fills a box is longer than a dent can be wide, or runs through all slices of a short stack."""
    ends_mm = (box[0].start * spacing_mm[0], (shape[0] - box[0].stop) * spacing_mm[0])
    longest_mm = max((part.stop - part.start) * mm for part, mm in zip(box, spacing_mm, strict=True))
    return longest_mm > MAX_MM or max(ends_mm) < AROUND_MM
