"""Tissue that lung encloses: masses and consolidation with lung above and below some of them, which either are holes in
a slice or lie between lung and chest wall. Domes of the diaphragm, heart and free effusion have none below.

Z slices, h and w rows and columns of the coarse grid, or of every so many of it; n and m rows and columns, or columns
and rows.
"""

import math

import cc3d
import fill_voids
import numpy as np
from scipy import ndimage

from lungct.segmentation.body import AIR_TISSUE_HU, Body
from lungct.segmentation.chest_wall import fill_dents
from lungct.segmentation.morphology import close_slices, enlarge, grow_slices, shrink_slices

BONE_HU = 200  # ribs
RIB_MM = 10  # they run obliquely, and are looked for so far above and below
GAP_MM = 15  # between lung and ribs; less is pleura and muscle between them
MIDDLE_MM = 40  # from the middle of the trunk: the spine, whose bone lies behind the mediastinum
GRID_MM = 3.2  # what is less than three pixels wide is no mass at the wall, and no lung in front of one
MIN_ML = 3  # two tumours have 23 and 26, and what else is found in thirteen scans 1.7; smaller ones are dents of a lung
WIDE_MM = 25  # radius of a disc that rolls along the chest wall where a mass was found; with 40 hardly more is taken in
DISC_MM, CONTACT_MM = 18, 8  # radius, beside such a mass; 12 mm take in 0.004 less, 25 mm a quarter more of others
WALL_SHARE = 0.1  # of what lies at the wall in a slice: 0.07 or less of it in domes of thirteen scans, 0.13 or more in
# slices of three tumours; with 0.2, of 80 painted masses of 24 to 64 mm 0.49 is in on average, not 0.52
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
    above, below = lung_above(lung), lung_above(lung[::-1])[::-1]
    between = above & below
    found = find_wall_masses(lung, between, above | below, body)
    whole = lung | found
    for z in np.flatnonzero(between.any(axis=(1, 2))):
        holes = fill_voids.fill(whole[z]) & ~whole[z]
        if holes.any():
            found[z] |= keep_enclosed(holes, between[z], HOLE_SHARE)
    return found


def keep_enclosed(pieces: np.ndarray, between: np.ndarray, share: float) -> np.ndarray:
    """The pieces of a slice of which more than a share has lung above and below; all bool (h, w)."""
    label, count = ndimage.label(pieces)
    size, enclosed = np.bincount(label.ravel()), np.bincount(label[between], minlength=count + 1)
    return pieces & (enclosed > share * size)[label]


def lung_above(lung: np.ndarray) -> np.ndarray:
    """What has lung in some slice above, bool, same shape."""
    above = np.zeros(lung.shape, bool)
    for z in range(len(lung) - 2, -1, -1):
        above[z] = above[z + 1] | lung[z + 1]
    return above


def find_wall_masses(lung: np.ndarray, between: np.ndarray, inside: np.ndarray, body: Body) -> np.ndarray:
    """Masses between lung and chest wall, and what lies between these and lung: bool (Z, h, w) as all that is given.

    A mass may stand on the diaphragm: some lung below it is enough.
    between: what has lung above and below
    inside:  what has lung above or below; else it is chest wall
    """
    steps = 1, *(max(1, round(GRID_MM / mm)) for mm in body.spacing_mm[1:])
    coarse = np.s_[:, :: steps[1], :: steps[2]]
    thick, tissue = np.zeros(lung.shape, bool), body.coarse_hu > AIR_TISSUE_HU
    thick[coarse] = grow_slices(shrink_slices(lung[coarse]))
    seen = grow_slices(shrink_slices(between_lung_and_wall(thick, body, steps) & tissue[coarse]))
    for z in np.flatnonzero(seen.any(axis=(1, 2))):
        seen[z] = keep_enclosed(seen[z], between[coarse][z], WALL_SHARE)
    found = enlarge(seen, steps[1:], lung.shape) & tissue & inside
    if not found.any():  # as in most scans
        return found
    found[..., abs(np.arange(lung.shape[2]) - body.middle[1]) * body.spacing_mm[2] < MIDDLE_MM] = False
    found = cc3d.dust(found, threshold=MIN_ML * 1e3 / np.prod(body.spacing_mm), connectivity=6)
    label = cc3d.connected_components(fill_dents(lung | found, body, WIDE_MM), connectivity=6)
    adjoining = np.unique(label[grow_slices(found)])
    found |= np.isin(label, adjoining[adjoining > 0])
    return found | find_beside(found, lung, tissue & body.beside, body.spacing_mm)


def find_beside(found: np.ndarray, lung: np.ndarray, tissue: np.ndarray, spacing_mm: tuple) -> np.ndarray:
    """The tissue between masses at the wall and lung that is near to them, as on the side of the hilum.

    found: the masses; all bool (Z, h, w)
    """
    beside, pixel_mm = np.zeros(lung.shape, bool), math.sqrt(math.prod(spacing_mm[1:]))
    for z in np.flatnonzero(found.any(axis=(1, 2))):
        whole = (lung | found)[z : z + 1]
        near = close_slices(whole, spacing_mm, (DISC_MM,))[0, 0] & ~whole[0] & tissue[z]
        label, count = ndimage.label(near)
        contact_mm = np.bincount(label[grow_slices(found[z : z + 1])[0]], minlength=count + 1) * pixel_mm
        beside[z] = near & (contact_mm > CONTACT_MM)[label]
    return beside


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
