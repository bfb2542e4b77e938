"""Tissue that lung encloses: masses and consolidation with lung above and below them, which either are holes in a slice
or lie between lung and chest wall. Domes of the diaphragm, heart and free effusion have no lung below.

Z slices, h and w rows and columns of the coarse grid, or of every so many of it; n and m rows and columns, or columns
and rows.
"""

import cc3d
import fill_voids
import numpy as np
from scipy import ndimage

from lungct.segmentation.body import AIR_TISSUE_HU, Body
from lungct.segmentation.chest_wall import fill_dents
from lungct.segmentation.morphology import enlarge, grow_slices, shrink_slices

BONE_HU = 200  # ribs
RIB_MM = 10  # they run obliquely, and are looked for so far above and below
GAP_MM = 15  # between lung and ribs; less is pleura and muscle between them
MIDDLE_MM = 40  # from the middle of the trunk: the spine, whose bone lies behind the mediastinum
GRID_MM = 3.2  # what is less than three pixels wide is no mass at the wall, and no lung in front of one
MIN_ML = 3  # two tumours have 23 and 26, and what else is found in thirteen scans 1.7; smaller ones are dents of a lung
WIDE_MM = 25  # radius of a disc that rolls along the chest wall where a mass was found; with 40 hardly more is taken in
HOLE_SHARE = 0.5  # of a hole that has lung above and below: in thirteen real scans 0 of the domes, 1 of all others


def take_in_enclosed(lung: np.ndarray, body: Body) -> np.ndarray:
    """A lung, bool (Z, H, W), with what it encloses; `body` is that of the whole volume."""
    rows, cols = body.steps
    found = find_enclosed(lung[:, ::rows, ::cols], body)
    return lung | enlarge(found, body.steps, lung.shape) if found.any() else lung


def find_enclosed(lung: np.ndarray, body: Body) -> np.ndarray:
    """What of the body is not lung, but enclosed by it, bool (Z, h, w).

    lung: bool (Z, h, w)
    """
    between = between_slices(lung)
    found = find_wall_masses(lung, between & (body.coarse_hu > AIR_TISSUE_HU), body)
    whole = lung | found
    for z in np.flatnonzero(between.any(axis=(1, 2))):
        holes = fill_voids.fill(whole[z]) & ~whole[z]
        if holes.any():
            label, _ = ndimage.label(holes)
            size, enclosed = np.bincount(label.ravel()), np.bincount(label[between[z]], minlength=label.max() + 1)
            found[z] |= holes & (enclosed > HOLE_SHARE * size)[label]
    return found


def between_slices(lung: np.ndarray) -> np.ndarray:
    """What has lung in some slice above and in some slice below, bool, same shape."""
    below, above = np.zeros(lung.shape, bool), np.zeros(lung.shape, bool)
    for z in range(1, len(lung)):
        below[z] = below[z - 1] | lung[z - 1]
    for z in range(len(lung) - 2, -1, -1):
        above[z] = above[z + 1] | lung[z + 1]
    return below & above & ~lung


def find_wall_masses(lung: np.ndarray, tissue: np.ndarray, body: Body) -> np.ndarray:
    """Masses between lung and chest wall, bool (Z, h, w): what of the tissue lies there, and what it dents beside.

    lung:   bool (Z, h, w)
    tissue: what can be a mass, same shape
    """
    steps = 1, *(max(1, round(GRID_MM / mm)) for mm in body.spacing_mm[1:])
    coarse = np.s_[:, :: steps[1], :: steps[2]]
    thick = np.zeros(lung.shape, bool)
    thick[coarse] = grow_slices(shrink_slices(lung[coarse]))
    seen = between_lung_and_wall(thick, body, steps) & tissue[coarse]
    cores = enlarge(grow_slices(shrink_slices(seen)), steps[1:], lung.shape)
    if not cores.any():  # as in most scans
        return cores
    found = cores & tissue
    found[..., abs(np.arange(lung.shape[2]) - body.middle[1]) * body.spacing_mm[2] < MIDDLE_MM] = False
    found = cc3d.dust(found, threshold=MIN_ML * 1e3 / np.prod(body.spacing_mm), connectivity=6)
    label = cc3d.connected_components(fill_dents(lung | found, body, WIDE_MM), connectivity=6)
    adjoining = np.unique(label[grow_slices(found)])
    return found | np.isin(label, adjoining[adjoining > 0])


def between_lung_and_wall(lung: np.ndarray, body: Body, steps: tuple[int, int, int]) -> np.ndarray:
    """What lies between the last lung and the first rib, behind and beside the lungs, where these are GAP_MM apart.

    lung:  bool (Z, h, w), on the grid of the body; rows run to the back
    steps: every so many slices, rows and columns are looked at
    Returns bool, of the slices, rows and columns that are looked at.
    """
    slices, in_slice = slice(None, None, steps[0]), np.s_[:, :: steps[1], :: steps[2]]
    mm = [step * spacing for step, spacing in zip(steps, body.spacing_mm, strict=True)]
    bone = near_bone(body.coarse_hu[in_slice], steps[0], max(1, round(RIB_MM / body.spacing_mm[0])))
    lung = lung[in_slice][slices]
    middle, near = round(body.middle[1] / steps[2]), round(MIDDLE_MM / mm[2])
    found = behind(lung, bone, mm[1])
    found[..., max(0, middle - near) : middle + near] = False
    for side in (slice(middle, None), slice(middle - 1, None, -1) if middle else slice(0)):  # outwards
        across = (part[..., side].swapaxes(1, 2) for part in (lung, bone))
        found[..., side] |= behind(*across, mm[2]).swapaxes(1, 2)
    return found


def near_bone(hu: np.ndarray, step: int, reach: int) -> np.ndarray:
    """Whether there is bone in a slice or in one of the next above and below: bool, every so many slices."""
    return np.stack([hu[max(0, z - reach) : z + reach + 1].max(0) > BONE_HU for z in range(0, len(hu), step)])


def behind(lung: np.ndarray, bone: np.ndarray, mm: float) -> np.ndarray:
    """What lies between the last lung and the first bone behind it, along axis 1 of (Z, n, m), if GAP_MM apart."""
    place = np.arange(lung.shape[1], dtype=np.int16)[None, :, None]
    last = np.where(lung, place, -1).max(axis=1, keepdims=True)
    first = np.where(bone & (place > last), place, lung.shape[1]).min(axis=1, keepdims=True)
    is_wide = (last >= 0) & (first < lung.shape[1]) & ((first - last) * mm > GAP_MM)
    return is_wide & (place > last) & (place < first)
