"""What is kept of a predicted volume.

Z slices, H rows, W columns.
"""

import cc3d
import numpy as np

from lungct.segmentation.body import AIR_TISSUE_HU, Body
from lungct.segmentation.morphology import (
    HOLE_MM2,
    bounding_box,
    count_labels,
    enlarge,
    fill_slices,
    fill_volume,
    fine_box,
)

MIN_PIECE_SHARE = 0.05  # of the largest piece of lung; smaller pieces are bowel gas, noise and the like
MAX_GAS_SHARE = 0.3
PIECE_PURE_AIR_HU = -950  # no lung has a median like this


def clean_volume(lung: np.ndarray, ct_hu: np.ndarray, spacing_mm: tuple[float, float, float], body: Body) -> np.ndarray:
    """Keep what can be lung of a predicted volume (Z, H, W), and fill what it encloses.

    Out: the air of the room, small pieces, pieces beside the trunk (table, blanket), and pieces of pure air that are
    much smaller than a lung (stomach and bowel). In: a hole in a slice as small as a nodule, any hole on all sides.
    """
    rows, cols = body.steps
    clean = np.zeros(lung.shape, bool)
    sample = lung[:, ::rows, ::cols]  # a pixel of each block tells well enough where a piece lies
    if not sample.any():
        return clean
    coarse = bounding_box(sample, body.spacing_mm, margin_mm=0)
    fine = fine_box(coarse, body.steps)
    lung, ct_hu = lung[fine], ct_hu[fine]
    like_lung = (body.coarse_hu[coarse] > PIECE_PURE_AIR_HU) & (body.coarse_hu[coarse] < AIR_TISSUE_HU)
    room = body.open_air[coarse] & ~like_lung  # a lung that the field of view cuts is open to its frame, too
    label = cc3d.connected_components(lung & ~enlarge(room, body.steps, lung.shape), connectivity=6)
    size = count_labels(label)
    size[0] = 0
    sample = label[:, ::rows, ::cols]
    inside, sampled = (np.bincount(part.ravel(), minlength=len(size)) for part in (sample[body.hull[coarse]], sample))
    size[2 * inside < sampled] = 0
    keep = size >= max(1, MIN_PIECE_SHARE * size.max())
    for number in np.flatnonzero(keep & (size < MAX_GAS_SHARE * size.max())):
        keep[number] = np.median(ct_hu[label == number]) > PIECE_PURE_AIR_HU
    clean[fine] = fill_volume(fill_slices(keep[label], HOLE_MM2, spacing_mm[1] * spacing_mm[2]))
    return clean
