"""Dense tissue where lung would be expected: between the lung of a mask and the chest wall beside or behind it.

Consolidation, collapse, effusion and masses lie there; heart and liver do not, since lung reaches the ribs around them.

Z slices, h and w rows and columns of the grid of the body; n and m those of a part of it, or columns and rows.
"""

from collections.abc import Iterator

import cc3d
import numpy as np
from scipy import ndimage

from lungct.segmentation.body import Body
from lungct.segmentation.morphology import IN_SLICE_8

# the largest piece in nine scans has 55 ml; parts of 166 to 687 ml that were made dense have 166 to 543, but for one
# at the base, which has 15 (benchmarks/flags.py)
DENSE_ML = 100
DENSE_HU, BONE_HU = (-30, 150), 200  # muscle, fluid and lung without air, not fat; ribs
GAP_MM = 15  # between lung and bone; less is pleura and muscle between the ribs
EVERY_MM = (10, 3.2, 3.2)  # slices, rows and columns that are looked at
RIB_MM = 10  # ribs run obliquely, and are looked for so far above and below
MIDDLE_MM = 40  # from the middle of the trunk: the spine, whose bone lies behind the mediastinum
LUNG_SHARE = 0.1  # of the largest area of lung; slices with less are bases and apices


def find_left_out(lung: np.ndarray, body: Body) -> Iterator[tuple[float, int, int]]:
    """(ml, first slice, last slice) of each large piece; lung is bool (Z, h, w), on the grid of the body."""
    steps = tuple(max(1, round(every / mm)) for every, mm in zip(EVERY_MM, body.spacing_mm, strict=True))
    spacing_mm = tuple(mm * step for mm, step in zip(body.spacing_mm, steps, strict=True))
    voxel_ml = np.prod(spacing_mm) / 1e3
    found = find_dense(lung, body, steps, spacing_mm)
    if np.count_nonzero(found) * voxel_ml <= DENSE_ML:  # as in nearly all scans
        return
    label = cc3d.connected_components(ndimage.binary_opening(found, IN_SLICE_8), connectivity=26)
    volume_ml = np.bincount(label.ravel()) * voxel_ml
    for number, box in enumerate(ndimage.find_objects(label), start=1):
        if volume_ml[number] > DENSE_ML:
            yield float(volume_ml[number]), box[0].start * steps[0], (box[0].stop - 1) * steps[0]


def find_dense(lung: np.ndarray, body: Body, steps: tuple[int, int, int], spacing_mm: tuple) -> np.ndarray:
    """Dense tissue behind the lungs and beside them, bool, on every so many slices, rows and columns."""
    slices, in_slice = slice(None, None, steps[0]), np.s_[:, :: steps[1], :: steps[2]]
    lung, hu, hull = lung[in_slice][slices], body.coarse_hu[in_slice], body.hull[in_slice][slices]
    bone, hu = near_bone(hu, steps[0], max(1, round(RIB_MM / body.spacing_mm[0]))), hu[slices]
    dense = (hu > DENSE_HU[0]) & (hu < DENSE_HU[1])
    area = np.count_nonzero(lung, axis=(1, 2))
    lung = lung & (area > LUNG_SHARE * area.max())[:, None, None]
    columns = np.cumsum(np.count_nonzero(hull, axis=(0, 1)))  # of lungs of unequal size the middle lies in one
    middle, near = int(np.searchsorted(columns, columns[-1] / 2)), round(MIDDLE_MM / spacing_mm[2])
    found = between(lung, bone, dense, spacing_mm[1])
    found[..., max(0, middle - near) : middle + near] = False
    for side in (slice(middle, None), slice(middle - 1, None, -1) if middle else slice(0)):  # outwards
        across = (part[..., side].swapaxes(1, 2) for part in (lung, bone, dense))
        found[..., side] |= between(*across, spacing_mm[2]).swapaxes(1, 2)
    return found


def near_bone(hu: np.ndarray, step: int, reach: int) -> np.ndarray:
    """Whether there is bone in a slice or in one of the next above and below: bool, every so many slices."""
    return np.stack([hu[max(0, z - reach) : z + reach + 1].max(0) > BONE_HU for z in range(0, len(hu), step)])


def between(lung: np.ndarray, bone: np.ndarray, dense: np.ndarray, mm: float) -> np.ndarray:
    """What is dense between the last lung and the first bone behind it, along axis 1 of (Z, n, m), if GAP_MM apart."""
    place = np.arange(lung.shape[1], dtype=np.int16)[None, :, None]
    last = np.where(lung, place, -1).max(axis=1, keepdims=True)
    first = np.where(bone & (place > last), place, lung.shape[1]).min(axis=1, keepdims=True)
    is_wide = (last >= 0) & (first < lung.shape[1]) & ((first - last) * mm > GAP_MM)
    return dense & is_wide & (place > last) & (place < first)
