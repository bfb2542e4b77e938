"""The lung label maker: `segment_lung`, a threshold method without learning.

`segment_lung` works coarse to fine: all decisions (what is outside the body, airway, bowel gas, lung)
are taken on a grid of about 1.6 mm, and only the edge is drawn again at full resolution.

Z slices, H rows, W columns; h and w are rows and columns of the coarse grid.
"""

from dataclasses import replace

import cc3d
import numpy as np
from scipy import ndimage

from lungct import LungError
from lungct.segmentation.body import BODY_GRID_MM, Body, find_body
from lungct.segmentation.enclosed import find_enclosed, take_in_enclosed
from lungct.segmentation.gas import find_gas, gas_limit_hu, lung_level_hu
from lungct.segmentation.juxtapleural import find_juxtapleural
from lungct.segmentation.masses import find_masses
from lungct.segmentation.morphology import (
    HOLE_MM2,
    IN_SLICE,
    bounding_box,
    close_slices,
    distance_mm,
    enlarge,
    fill_slices,
    fine_box,
    grow_slices,
    shrink_slices,
)

EDGE_HU = -430  # where the edge is drawn: on phantoms whose lungs are known better than -400, -450 and -500
SMALL_TRUNK_MM, ADULT_TRUNK_MM = 180.0, 250.0  # `trunk_size_mm` is 207 to 339 in 117 scans and slices of adults

# What a rule brings stands beside it after "off:", measured without the rule: the change in mean Dice of seven real
# scans, or of their slices as single slices, or ml of gas taken for lung (benchmarks/label_rules.py, RESULTS.md).
BLOB_AREA_MM2 = (
    40,
    1500,
)  # a trachea, bronchus or bowel loop cut across; off: slices -0.0003, scans -0.56
BLOB_EDGE_HU = -600  # surrounded by what is denser; off: slices -0.0010, 4 ml in the belly
AIRWAY_HU = -900  # the darker half of such a blob; at -600: scans -0.0027
MIDDLE_MM = (45, 35)  # rows and columns from the trunk's centre: no lung lies alone there; off: the worst scan -0.0006
LONE_SHARE = 0.5  # of a pocket in 3-D; a blob off the middle that is less is the tip of a lung; off: scans -0.0030

TRUNK_SHARE = 0.5  # of a pocket that lies within the trunk; less is table, cover, room; off: scans -0.063
MIN_POCKET_SHARE = 0.004  # of the largest lung; smaller pockets are noise; off: scans -0.0001, the worst -0.0007
BELLY_SHARE = 0.2  # of the gas; less lung than that is the blurred edge of bowel; off: slices -0.0017
SMALL_SHARE = 0.05  # of the largest lung; so small a pocket is lung only
NEAR_MM = 20  # so near to a large one; off: 20 ml in the belly of ACRIN-FLT-Breast-001; at 0: slices -0.0004
HULL_MARGIN_MM = 20  # a thin chest wall does not count as trunk; the lung may reach so far beyond; off: slices -0.0098

VESSEL_MM = 6.0  # closing radius: takes in vessels and wall nodules of up to 12 mm; off: scans -0.0022
PATCH_MM = 18.0  # closing radius for patchy consolidation; off: slices -0.0005, a consolidated phantom -0.0037
PATCH_HU = -200  # which is darker than this on average over 8 mm, as fat is not; off: scans -0.018
PATCH_OPENING = np.ones((1, 5, 5), bool)  # what is thinner is the blurred edge of a lung; off: scans -0.0054


def segment_lung(ct_hu: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Both lungs, with vessels, wall nodules and masses that they enclose; no trachea, main bronchi and bowel gas.

    ct_hu:      (H, W) or (Z, H, W), any real dtype, HU, not clipped; slices in ascending z
    spacing_mm: (row, column) or (slice, row, column)
    returns     bool, same shape; all False where there is no lung
    raises      LungError where shape and spacing do not fit together, or there is no pixel

    The method is ours; its parts are the field's: threshold, connected components and closing, as
    in Hu, Hoffman and Reinhardt, IEEE Trans Med Imaging 20 (2001) 490-498.
    """
    if ct_hu.ndim not in (2, 3) or len(spacing_mm) != ct_hu.ndim or not ct_hu.size:
        raise LungError(f"segment_lung: CT of shape {ct_hu.shape} does not go with spacing {spacing_mm}")
    if ct_hu.ndim == 2:
        return segment_lung(ct_hu[None], (1.0, *spacing_mm))[0]  # its thickness plays no part

    body = find_body(ct_hu, spacing_mm)
    scale = adult_scale(body)
    if scale > 1:
        return segment_lung(ct_hu, tuple(mm * scale for mm in spacing_mm))
    fine = np.zeros(ct_hu.shape, bool)
    box = box_of_lungs(body)
    if not box:
        return fine
    whole = fine_box(box, body.steps)
    fine[whole] = refine(ct_hu[whole], *find_lungs(body.crop(box)), body.steps)
    return take_in_enclosed(fine, body)


def label_coarsely(body: Body) -> np.ndarray:
    """What `segment_lung` makes of a volume, on the grid of its body and without a finer edge: bool (Z, h, w)."""
    body = replace(body, spacing_mm=tuple(mm * adult_scale(body) for mm in body.spacing_mm))
    lung = np.zeros(body.hull.shape, bool)
    box = box_of_lungs(body)
    if not box:
        return lung
    _, lung[box], _ = find_lungs(body.crop(box))
    return lung | find_enclosed(lung, body)


def box_of_lungs(body: Body) -> tuple[slice, slice, slice] | None:
    """Where lung can be, on the grid of a body; None where the trunk holds no air."""
    inside = body.air & body.hull
    return bounding_box(inside, body.spacing_mm, margin_mm=HULL_MARGIN_MM) if inside.any() else None


def find_lungs(body: Body) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """On the grid of a body, bool (Z, h, w): lung as far as it is air, both lungs whole, and where these may grow."""
    airway = grow_slices(find_blobs(body))  # with its wall
    lung_hu = lung_level_hu(body, largest_pocket(body, label_pockets(body.air & ~airway)))
    airway |= find_gas(body, lung_hu)
    pockets = label_pockets(body.air & ~airway)
    lungs = choose_lungs(body, airway, pockets, gas_limit_hu(body.room_hu, lung_hu))
    return *close_lungs(body, airway, pockets, lungs), ~airway & ~body.open_air


def segment_runs(ct_hu: np.ndarray, runs: list[slice], spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """`segment_lung` of slices (Z, H, W) with gaps, each of `contiguous_runs` by itself: bool, same shape."""
    lung = np.zeros(ct_hu.shape, bool)
    for run in runs:
        lung[run] = segment_lung(ct_hu[run], spacing_mm)
    return lung


def adult_scale(body: Body) -> float:
    """By how much a child is smaller than the adults for whom the lengths here are; 1 for what is no child."""
    trunk_mm = trunk_size_mm(body)
    return ADULT_TRUNK_MM / trunk_mm if 0 < trunk_mm < SMALL_TRUNK_MM else 1.0


def trunk_size_mm(body: Body) -> float:
    """Side of the square that is as large as the trunk in its larger slices."""
    area_mm2 = np.count_nonzero(body.hull, axis=(1, 2)) * body.spacing_mm[1] * body.spacing_mm[2]
    return float(np.sqrt(np.percentile(area_mm2, 90)))


def find_blobs(body: Body) -> np.ndarray:
    """Trachea, main bronchi and bowel loops, each a patch of pure air with tissue around it in its slice.

    A patch that is the tip of a lung in its neighbours is none.
    """
    mm = body.spacing_mm[1:]
    thin = body.air & (body.coarse_hu < BLOB_EDGE_HU)
    label, count = ndimage.label(thin, IN_SLICE)
    area_mm2 = np.bincount(label.ravel(), minlength=count + 1) * mm[0] * mm[1]
    fits = (area_mm2 > BLOB_AREA_MM2[0]) & (area_mm2 < BLOB_AREA_MM2[1])
    central, lateral = np.zeros(count + 1, bool), np.zeros(count + 1, bool)
    for number, box in enumerate(ndimage.find_objects(label), start=1):
        if fits[number]:
            hu = np.sort(body.coarse_hu[box][label[box] == number])
            if hu[: max(1, len(hu) // 2)].mean() < AIRWAY_HU:
                off_mm = [abs((box[n + 1].start + box[n + 1].stop) / 2 - body.middle[n]) * mm[n] for n in (0, 1)]
                central[number] = off_mm[0] < MIDDLE_MM[0] and off_mm[1] < MIDDLE_MM[1]
                lateral[number] = not central[number]
    pocket = cc3d.connected_components(thin, connectivity=6)
    share = np.bincount(pocket.ravel(), weights=lateral[label].ravel()) / np.bincount(pocket.ravel())
    return central[label] | (lateral[label] & (share > LONE_SHARE)[pocket])


def label_pockets(air: np.ndarray) -> np.ndarray:
    """Number the pockets of air that stay apart when one-voxel bridges (partial volume) are cut: (Z, h, w).

    Off: the worst scan -0.0005, 5 ml of gas in slices of the belly.
    """
    return cc3d.connected_components(ndimage.binary_erosion(air, IN_SLICE, border_value=1), connectivity=6)


def largest_pocket(body: Body, pockets: np.ndarray) -> np.ndarray:
    """The pocket with most voxels in the trunk, bool (Z, h, w); empty where there is none."""
    size = np.bincount(pockets[body.hull], minlength=2)
    size[0] = 0
    return pockets == size.argmax() if size.any() else np.zeros(pockets.shape, bool)


def choose_lungs(body: Body, airway: np.ndarray, pockets: np.ndarray, gas_hu: float) -> list[int]:
    """The numbers of those pockets that are lung, the largest first: in the trunk, no gas, not small and far away."""
    boxes = ndimage.find_objects(pockets)
    size = np.bincount(pockets.ravel())
    inside = np.bincount(pockets.ravel(), weights=body.hull.ravel())
    size[0], size[inside < TRUNK_SHARE * size] = 0, 0
    lungs, gas_size = [], np.count_nonzero(airway)
    for number in sorted(np.flatnonzero(size >= max(1, MIN_POCKET_SHARE * size.max())), key=lambda n: -size[n]):
        box = boxes[number - 1]
        if np.median(body.coarse_hu[box][pockets[box] == number]) < gas_hu:
            gas_size += size[number]
        else:
            lungs.append(int(number))
    if sum(size[lungs]) < BELLY_SHARE * gas_size:
        return []
    large = [n for n in lungs if size[n] >= SMALL_SHARE * size[lungs[0]]]
    if len(large) == len(lungs):
        return lungs
    near = np.unique(pockets[distance_mm(~np.isin(pockets, large), body.spacing_mm) <= NEAR_MM])
    return [n for n in lungs if n in near]


def close_lungs(body: Body, airway: np.ndarray, pockets: np.ndarray, lungs: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Each lung grown back to its edge (first result), then closed over vessels and filled (second).

    One side at a time, so that the closing never bridges the mediastinum (off: phantoms -0.0011).
    """
    air, spacing_mm = body.air & ~airway, body.spacing_mm
    aerated, closed = np.zeros(air.shape, bool), np.zeros(air.shape, bool)
    pixel_mm2 = spacing_mm[1] * spacing_mm[2]
    for side in group_by_side(body, pockets, lungs):
        pocket = np.isin(pockets, side)
        box = bounding_box(pocket, spacing_mm, margin_mm=VESSEL_MM + 2 * BODY_GRID_MM)
        lung = air[box] & grow_slices(pocket[box])
        closed_over, widely = close_slices(lung, spacing_mm, (VESSEL_MM, PATCH_MM))
        gained = ~lung & closed_over
        gained |= consolidated(body.coarse_hu[box], lung, widely)
        aerated[box] |= lung
        closed[box] |= fill_slices(lung | gained, HOLE_MM2, pixel_mm2)
    lung = (closed & ~airway) | find_masses(aerated, spacing_mm)
    return aerated, lung | find_juxtapleural(lung, body)


def consolidated(coarse_hu: np.ndarray, lung: np.ndarray, closed: np.ndarray) -> np.ndarray:
    """What a much wider closing of the lung gains, as far as there is still air in it: patchy consolidation."""
    patch = closed & ~lung & (ndimage.uniform_filter(coarse_hu, (1, 5, 5)) < PATCH_HU)
    many = np.count_nonzero(patch, axis=(1, 2)) >= PATCH_OPENING.sum()
    patch[many] = ndimage.binary_opening(patch[many], PATCH_OPENING)
    patch[~many] = False
    return patch


def group_by_side(body: Body, pockets: np.ndarray, lungs: list[int]) -> list[list[int]]:
    """The pockets right and left of the middle of the trunk; lungs that touch each other are one pocket."""
    boxes = ndimage.find_objects(pockets)
    is_right = [boxes[n - 1][2].start + boxes[n - 1][2].stop < 2 * body.middle[1] for n in lungs]
    sides = [[n for n, r in zip(lungs, is_right, strict=True) if r == side] for side in (True, False)]
    return [side for side in sides if side]


def refine(
    ct_hu: np.ndarray, aerated: np.ndarray, closed: np.ndarray, may_grow: np.ndarray, steps: tuple
) -> np.ndarray:
    """Draw the edge against air at full resolution; keep the coarse edge where the closing made it."""
    sure = closed & (shrink_slices(closed) | ~aerated)
    rim = grow_slices(closed) & may_grow
    sure, rim = (enlarge(mask, steps, ct_hu.shape) for mask in (sure, rim))
    return sure | (rim & (ct_hu < EDGE_HU))
