"""The lung label maker, and the directory check that every step starts with.

`segment_lung` works coarse to fine: all decisions (what is outside the body, airway, bowel gas, lung)
are taken on a grid of about 1.6 mm, and only the edge is drawn again at full resolution.

Z slices, H rows, W columns; h and w are rows and columns of the coarse grid.
"""

import cc3d
import numpy as np
from scipy import ndimage

from lungct import LungError
from lungct.segmentation.body import BODY_GRID_MM, Body, find_body
from lungct.segmentation.morphology import (
    IN_SLICE,
    IN_SLICE_8,
    bounding_box,
    close_slices,
    distance_mm,
    enlarge,
    fill_slices,
    fine_box,
    middle,
)

EDGE_HU = -430  # where the edge is drawn: on phantoms whose lungs are known better than -400, -450 and -500
SMALL_TRUNK_MM, ADULT_TRUNK_MM = 180.0, 250.0  # `trunk_size_mm` is 207 to 339 in 117 scans and slices of adults
SINGLE_SLICE_MM = 5.0  # thickness assumed for a slice that comes alone

BLOB_AREA_MM2 = (40, 1500)  # a trachea, a bronchus or a bowel loop cut across, surrounded by tissue
BLOB_HU = (-975, -900)  # the darker half of such a blob is BLOB_DARKER_HU below this patient's air as a whole,
BLOB_EDGE_HU = -600
BLOB_DARKER_HU = 70  # or in the middle of the trunk, where no lung lies alone, just below the upper limit
LINE_HU = -850  # ... of a blob before or behind the middle: stomach, colon
MIDDLE_MM = (45, 35)  # rows and columns from the trunk's centre
AIRWAY_REACH_MM = 15  # how far the airway is followed into the lung from where it lay free in tissue
AIRWAY_MIX = 0.35  # the airway is followed through air whose HU lies so far from lumen to lung
AIRWAY_RADIUS_MM = 2.0  # thinner branches belong to the lung
POCKET_PURE_AIR_HU = (-965, -985)  # median, and darkest tenth, that no lung has
LUNG_MM2 = 2000  # ... but for a large one in a pneumothorax
GAS_HU = -945
GAS_DARKER_HU = 35  # the darkest tenth of gas in the bowel is darker than that of this patient's lung
POCKET_GAS_SHARE = 0.3  # of the largest lung; no bowel loop that separates from the lung is larger
MIN_POCKET_SHARE = 0.004  # of the largest lung; smaller pockets are noise
BELLY_SHARE = 0.2  # of the gas; less lung than that is partial volume at the edge of bowel
SMALL_SHARE = 0.05  # so small a pocket is lung only when it lies deep, and near a large one
NEAR_MM = 20
HULL_MARGIN_MM = 20  # a thin chest wall does not count as trunk; the lung may reach so far beyond it
VESSEL_MM = 6.0  # closing radius: takes in vessels and wall nodules of up to 12 mm
PATCH_MM = 18.0  # closing radius for patchy consolidation,
PATCH_HU = -200  # which is darker than this on average over 8 mm; fat is not
HOLE_MM2 = 800  # a nodule or vessel of up to 32 mm, surrounded by lung

SQUARE, PATCH_OPENING = np.ones((1, 2, 2), bool), np.ones((1, 5, 5), bool)


def segment_lung(ct_hu: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Both lungs, with their vessels and wall nodules, without trachea, main bronchi and bowel gas.

    ct_hu:      (H, W) or (Z, H, W), any real dtype, HU, not clipped; slices in ascending z
    spacing_mm: (row, column) or (slice, row, column)
    returns     bool, same shape; all False where there is no lung
    raises      LungError where shape and spacing do not fit together

    The method is ours; its parts are the field's: threshold, connected components, region growing of the
    airway and closing, as in Hu, Hoffman and Reinhardt, IEEE Trans Med Imaging 20 (2001) 490-498.
    """
    if ct_hu.ndim not in (2, 3) or len(spacing_mm) != ct_hu.ndim:
        raise LungError(f"segment_lung: CT of shape {ct_hu.shape} does not go with spacing {spacing_mm}")
    if ct_hu.ndim == 2:
        return segment_lung(ct_hu[None], (SINGLE_SLICE_MM, *spacing_mm))[0]

    body = find_body(ct_hu, spacing_mm)
    trunk_mm = trunk_size_mm(body)
    if 0 < trunk_mm < SMALL_TRUNK_MM:  # a child: the lengths here are an adult's
        return segment_lung(ct_hu, tuple(mm * ADULT_TRUNK_MM / trunk_mm for mm in spacing_mm))
    fine = np.zeros(ct_hu.shape, bool)
    inside = body.air & body.hull
    if not inside.any():
        return fine
    box = bounding_box(inside, body.spacing_mm, margin_mm=HULL_MARGIN_MM)
    body = body.crop(box)

    airway = find_airway(body)
    pockets = label_pockets(body.air & ~airway)
    lungs = choose_lungs(body, airway, pockets)
    aerated, closed = close_lungs(body, airway, pockets, lungs)

    whole = fine_box(box, body.steps)
    fine[whole] = refine(ct_hu[whole], aerated, closed, ~airway & ~body.open_air, body.steps)
    return fine


def trunk_size_mm(body: Body) -> float:
    """Side of the square that is as large as the trunk in its larger slices."""
    area_mm2 = np.count_nonzero(body.hull, axis=(1, 2)) * body.spacing_mm[1] * body.spacing_mm[2]
    return float(np.sqrt(np.percentile(area_mm2, 90)))


def find_airway(body: Body) -> np.ndarray:
    """Lumen and wall of trachea and main bronchi, and other blobs of pure air that lie free in tissue.

    Seeds are such blobs, slice by slice; from there the airway is followed through air darker than lung
    to where it has entered the lung.
    """
    blobs = find_blobs(body)
    if not blobs.any():
        return blobs
    box = bounding_box(blobs, body.spacing_mm, margin_mm=AIRWAY_REACH_MM)
    near, seeds, spacing_mm = body.crop(box), blobs[box], body.spacing_mm
    smooth = ndimage.uniform_filter(near.coarse_hu, (1, 3, 3))
    lung = near.air & ~seeds
    lung_hu = np.median(near.coarse_hu[lung]) if lung.any() else -850
    lumen_hu = np.median(smooth[seeds])
    dark = near.air & (smooth < min(lumen_hu + AIRWAY_MIX * (lung_hu - lumen_hu), BLOB_HU[1]))
    thick = distance_mm(dark, spacing_mm) > AIRWAY_RADIUS_MM
    tube = dark & (distance_mm(~thick, spacing_mm) <= AIRWAY_RADIUS_MM + 0.5) if thick.any() else thick
    tube = (tube | seeds) & (distance_mm(~seeds, spacing_mm) <= AIRWAY_REACH_MM)
    label = cc3d.connected_components(tube, connectivity=6)
    seeded = np.zeros(label.max() + 1, bool)
    seeded[np.unique(label[seeds])] = True
    seeded[0] = False
    airway = np.zeros(blobs.shape, bool)
    airway[box] = seeded[label]
    return ndimage.binary_dilation(airway, IN_SLICE_8)


def find_blobs(body: Body) -> np.ndarray:
    """Patches of pure air, each surrounded by tissue in its slice, and no tip of a lung in its neighbours."""
    coarse_hu, hull, spacing_mm = body.coarse_hu, body.hull, body.spacing_mm
    limit = np.clip(np.median(coarse_hu[body.air & hull]) - BLOB_DARKER_HU, *BLOB_HU)
    centre = [middle(hull, axis) for axis in (1, 2)]
    thin = body.air & (coarse_hu < BLOB_EDGE_HU)
    label, count = ndimage.label(thin, IN_SLICE)
    area = np.bincount(label.ravel(), minlength=count + 1) * spacing_mm[1] * spacing_mm[2]
    fits = (area > BLOB_AREA_MM2[0]) & (area < BLOB_AREA_MM2[1])
    central, lateral = np.zeros(count + 1, bool), np.zeros(count + 1, bool)
    for number, box in enumerate(ndimage.find_objects(label), start=1):
        if fits[number]:
            hu = np.sort(coarse_hu[box][label[box] == number])
            core_hu = hu[: max(1, len(hu) // 2)].mean()
            off_mm = [
                abs((b.start + b.stop) / 2 - c) * mm for b, c, mm in zip(box[1:], centre, spacing_mm[1:], strict=True)
            ]
            central[number] = off_mm[0] < MIDDLE_MM[0] and off_mm[1] < MIDDLE_MM[1] and core_hu < BLOB_HU[1]
            in_line = off_mm[1] < MIDDLE_MM[1] and core_hu < LINE_HU
            lateral[number] = not central[number] and (core_hu < limit or in_line)
    pocket = cc3d.connected_components(thin, connectivity=6)
    share = np.bincount(pocket.ravel(), weights=lateral[label].ravel()) / np.bincount(pocket.ravel())
    return central[label] | (lateral[label] & (share > 0.5)[pocket])


def label_pockets(air: np.ndarray) -> np.ndarray:
    """Number the pockets of air that stay apart when one-voxel bridges (partial volume) are cut: (Z, h, w)."""
    return cc3d.connected_components(ndimage.binary_erosion(air, IN_SLICE, border_value=1), connectivity=6)


def choose_lungs(body: Body, airway: np.ndarray, pockets: np.ndarray) -> list[int]:
    """The numbers of those pockets that are lung: in the trunk, no gas; a small one deep, and near a large one."""
    boxes = ndimage.find_objects(pockets)
    size = np.bincount(pockets.ravel())
    inside = np.bincount(pockets.ravel(), weights=body.hull.ravel())
    size[0], size[inside < size / 2] = 0, 0
    darkest = {}  # tenth of a pocket's voxels, HU
    lungs, gas_size = [], np.count_nonzero(airway)
    for number in sorted(np.flatnonzero(size >= max(1, MIN_POCKET_SHARE * size.max())), key=lambda n: -size[n]):
        box = boxes[number - 1]
        hu = body.coarse_hu[box][pockets[box] == number]
        darkest[number], median = np.percentile(hu, (10, 50))
        area_mm2 = hu.size / (box[0].stop - box[0].start) * body.spacing_mm[1] * body.spacing_mm[2]
        is_pure = median < POCKET_PURE_AIR_HU[0] or (darkest[number] < POCKET_PURE_AIR_HU[1] and area_mm2 < LUNG_MM2)
        main = lungs[0] if lungs else number
        is_gas = (
            darkest[number] < min(GAS_HU, darkest[main] - GAS_DARKER_HU)
            and size[number] < POCKET_GAS_SHARE * size[main]
        )
        if is_pure or is_gas:
            gas_size += size[number]
        else:
            lungs.append(int(number))
    if sum(size[lungs]) < BELLY_SHARE * gas_size:
        return []
    large = [n for n in lungs if size[n] >= SMALL_SHARE * size[lungs[0]]]
    if len(large) == len(lungs):
        return lungs
    skin = ndimage.binary_dilation(body.open_air, IN_SLICE_8, iterations=2)
    near = distance_mm(~np.isin(pockets, large), body.spacing_mm) <= NEAR_MM
    well_placed = np.setdiff1d(np.unique(pockets[near]), np.unique(pockets[skin]))
    return [n for n in lungs if n in large or n in well_placed]


def close_lungs(body: Body, airway: np.ndarray, pockets: np.ndarray, lungs: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Each lung grown back to its edge (first result), then closed over vessels and filled (second).

    One side at a time, so that the closing never bridges the mediastinum.
    """
    air, spacing_mm = body.air & ~airway, body.spacing_mm
    aerated, closed = np.zeros(air.shape, bool), np.zeros(air.shape, bool)
    pixel_mm2 = spacing_mm[1] * spacing_mm[2]
    for side in group_by_side(body.hull, pockets, lungs):
        pocket = np.isin(pockets, side)
        box = bounding_box(pocket, spacing_mm, margin_mm=VESSEL_MM + 2 * BODY_GRID_MM)
        lung = air[box] & ndimage.binary_dilation(pocket[box], IN_SLICE_8)
        gained = ~lung & close_slices(lung, spacing_mm, VESSEL_MM)
        gained |= consolidated(body.coarse_hu[box], lung, spacing_mm)
        aerated[box] |= lung
        gained = ndimage.binary_opening(gained, SQUARE)  # no stairs at a smooth edge
        closed[box] |= fill_slices(lung | gained, HOLE_MM2, pixel_mm2)
    return aerated, closed & ~airway


def consolidated(coarse_hu: np.ndarray, lung: np.ndarray, spacing_mm: tuple) -> np.ndarray:
    """What a much wider closing gains, as far as there is still air in it: patchy consolidation."""
    patch = ~lung & (ndimage.uniform_filter(coarse_hu, (1, 5, 5)) < PATCH_HU)
    patch &= close_slices(lung, spacing_mm, PATCH_MM)
    many = np.count_nonzero(patch, axis=(1, 2)) >= PATCH_OPENING.sum()
    patch[many] = ndimage.binary_opening(patch[many], PATCH_OPENING)
    patch[~many] = False
    return patch


def group_by_side(hull: np.ndarray, pockets: np.ndarray, lungs: list[int]) -> list[list[int]]:
    """The pockets right and left of the middle of the trunk; lungs that touch each other are one pocket."""
    boxes = ndimage.find_objects(pockets)
    is_right = [boxes[n - 1][2].start + boxes[n - 1][2].stop < 2 * middle(hull, 2) for n in lungs]
    sides = [[n for n, r in zip(lungs, is_right, strict=True) if r == side] for side in (True, False)]
    return [side for side in sides if side]


def refine(
    ct_hu: np.ndarray, aerated: np.ndarray, closed: np.ndarray, may_grow: np.ndarray, steps: tuple
) -> np.ndarray:
    """Draw the edge against air at full resolution; keep the coarse edge where the closing made it."""
    sure = closed & (ndimage.binary_erosion(closed, IN_SLICE_8, border_value=1) | ~aerated)
    rim = ndimage.binary_dilation(closed, IN_SLICE_8) & may_grow
    sure, rim = (enlarge(mask, steps, ct_hu.shape) for mask in (sure, rim))
    return sure | (rim & (ct_hu < EDGE_HU))
