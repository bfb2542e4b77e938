"""What is kept of a predicted volume, and what it is filled up with: by what a piece is, not by its size alone.

Z slices, H rows, W columns.
"""

import cc3d
import numpy as np

from lungct.segmentation.adjoining import find_adjoining
from lungct.segmentation.airway import find_airway
from lungct.segmentation.body import AIR_TISSUE_HU, Body
from lungct.segmentation.chest_wall import fill_dents
from lungct.segmentation.enclosed import take_in_enclosed
from lungct.segmentation.gas import SURE_ML, find_gas, gas_limit_hu, lung_level_hu, pure_limit_hu
from lungct.segmentation.juxtapleural import find_juxtapleural
from lungct.segmentation.masses import find_masses
from lungct.segmentation.morphology import (
    HOLE_MM2,
    bounding_box,
    count_labels,
    enlarge,
    fill_slices,
    fill_volume,
    fine_box,
    grow_slices,
    shrink_slices,
    slices_beside,
)
from lungct.segmentation.threshold import EDGE_HU
from lungct.slices import slice_pixels

MIN_PIECE_SHARE = 0.05  # of the largest piece of lung; smaller pieces are bowel gas, noise and the like,
MIN_APEX_ML = 1.0  # but for those as high as the upper half of the lungs, where no bowel is
APEX_TRUNK_SHARE = 0.99
# and less than half of it below or above open air, as in a fold of the skin: 0.66 in one, 0.00 in lungs
BELLY_SHARE = 0.2  # of the gas: where the largest piece is smaller, all pieces are blurred bowel
MIN_LUNG_MM2 = 500  # of the largest piece, in its largest slice; less is stool, or the last tip of a lung
# both chosen on 75 single slices and stacks of belly: all but one have 411 or fewer, or at most 0.17 of the gas; and on
# seven references cut off where their lungs have 7 cm2 or more: all have 534 or more, and all but one 0.25 of the gas


def clean_volume(lung: np.ndarray, ct_hu: np.ndarray, spacing_mm: tuple[float, float, float], body: Body) -> np.ndarray:
    """Keep what can be lung of a predicted volume (Z, H, W), and fill what it encloses.

    Out: the air of the room, gas of stomach and bowel, airway that is in for a few slices, pieces beside the trunk
    (table, blanket), small pieces in the lower half, and all of a volume where no piece is larger than stool. In: lung
    that adjoins without a wall between, a hole in a slice as small as a nodule, any hole on all sides, a mass that
    hangs on the wall by a neck, nodules in dents of the surface, and what lies between lung and chest wall.
    """
    rows, cols = body.steps
    clean = np.zeros(lung.shape, bool)
    sample = lung[:, ::rows, ::cols]  # a pixel of each block tells well enough where a piece lies
    if not sample.any():
        return clean
    lung_hu = lung_level_hu(body, sample)
    gas = find_gas(body, lung_hu)
    gas_ml, voxel_ml = np.count_nonzero(gas) * np.prod(body.spacing_mm) / 1e3, np.prod(spacing_mm) / 1e3
    box = bounding_box(sample, body.spacing_mm, margin_mm=0)
    fine = fine_box(box, body.steps)
    whole_body = body
    lung, ct_hu, body, gas = lung[fine], ct_hu[fine], body.crop(box), gas[box]
    pure_hu = pure_limit_hu(body.room_hu, lung_hu)
    like_lung = (body.coarse_hu > pure_hu) & (body.coarse_hu < AIR_TISSUE_HU)
    room = body.open_air & ~like_lung  # a lung that the field of view cuts is open to its frame, too
    may_be_lung = ~enlarge(room | gas, body.steps, lung.shape)
    label = cc3d.connected_components(lung & may_be_lung, connectivity=6)
    size = count_labels(label)
    gas_hu = np.where(size * voxel_ml > SURE_ML, pure_hu, gas_limit_hu(body.room_hu, lung_hu))
    pieces = choose_pieces(label, size, ct_hu, voxel_ml, body, gas_hu)
    largest = int(np.argmax(size * pieces))
    area_mm2 = slice_pixels(label[:, ::rows, ::cols] == largest).max() * np.prod(body.spacing_mm[1:])
    if area_mm2 < MIN_LUNG_MM2 or size[largest] * voxel_ml < BELLY_SHARE * gas_ml:
        return clean
    kept = pieces[label]
    airway = find_airway(kept[:, ::rows, ::cols], body)
    if airway.any():
        kept &= ~enlarge(airway, body.steps, kept.shape)
    added = find_adjoining(kept[:, ::rows, ::cols], body, gas, lung_hu)
    if added.any():
        kept |= enlarge(grow_slices(added), body.steps, kept.shape) & (ct_hu < EDGE_HU) & may_be_lung
    whole = take_in_tissue(kept, ct_hu, may_be_lung, body)
    clean[fine] = fill_volume(fill_slices(whole, HOLE_MM2, spacing_mm[1] * spacing_mm[2]))
    return take_in_enclosed(clean, whole_body)


def take_in_tissue(lung: np.ndarray, ct_hu: np.ndarray, may_grow: np.ndarray, body: Body) -> np.ndarray:
    """A lung, (Z, H, W) bool, with its edge drawn anew, and masses and nodules on its wall."""
    rows, cols = body.steps
    aerated = lung[:, ::rows, ::cols] & (body.coarse_hu < AIR_TISSUE_HU)
    lung = redraw_edge(lung, ct_hu, may_grow)
    lung |= enlarge(find_masses(aerated, body.spacing_mm), body.steps, lung.shape)
    for find in (fill_dents, find_juxtapleural):
        lung |= enlarge(find(lung[:, ::rows, ::cols], body), body.steps, lung.shape)
    return lung


def redraw_edge(lung: np.ndarray, ct_hu: np.ndarray, may_grow: np.ndarray) -> np.ndarray:
    """The outermost pixel, where lung with air in it meets tissue, drawn at EDGE_HU as in the labels.

    A network sees patches of several pixels, and its edge is off by a part of one. Where no air is near, as at a mass
    on the wall, its edge stays.
    """
    air = ct_hu < EDGE_HU
    inner = shrink_slices(lung)
    near_air = grow_slices(grow_slices(lung & air))
    return inner | (lung & (air | ~near_air)) | (grow_slices(lung) & air & may_grow)


def choose_pieces(
    label: np.ndarray, size: np.ndarray, ct_hu: np.ndarray, voxel_ml: float, body: Body, gas_hu: np.ndarray
) -> np.ndarray:
    """Whether the piece of each number is lung, bool; 0 is not.

    size:   voxels of each
    gas_hu: what is darker is gas, for each
    """
    rows, cols = body.steps
    size = size.copy()
    size[0] = 0
    sample = label[:, ::rows, ::cols]
    inside, sampled = (np.bincount(part.ravel(), minlength=len(size)) for part in (sample[body.hull], sample))
    size[2 * inside < sampled] = 0
    keep = size >= max(1, MIN_PIECE_SHARE * size.max())
    for number in np.flatnonzero(keep & (size < size.max())):
        keep[number] = np.median(ct_hu[label == number]) > gas_hu[number]
    slices = np.flatnonzero(keep[label].any(axis=(1, 2)))
    if not len(slices):
        return keep
    at_room = np.bincount(sample[slices_beside(body.open_air)], minlength=len(size))
    for number in np.flatnonzero(~keep & (size * voxel_ml >= MIN_APEX_ML)):
        here = label == number
        is_high = np.flatnonzero(here.any(axis=(1, 2)))[0] > slices.mean()
        in_trunk = inside[number] >= APEX_TRUNK_SHARE * sampled[number] and at_room[number] < sampled[number] / 2
        keep[number] = is_high and in_trunk and np.median(ct_hu[here]) > gas_hu[number]
    return keep
