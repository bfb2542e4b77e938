"""Volumes of air and tissue: coarser and finer grids, distances, closing, filling, boxes.

Z slices, H rows, W columns; masks are bool (Z, H, W), spacing is slice, row and column in mm.
"""

import math
from collections.abc import Iterator

import cc3d
import edt
import fill_voids
import numpy as np
from scipy import ndimage

IN_SLICE = np.pad(ndimage.generate_binary_structure(2, 1)[None], ((1, 1), (0, 0), (0, 0)))  # neighbours by edges
IN_SLICE_8 = np.ones((1, 3, 3), bool)  # neighbours by corners too
TIP_MM2, TIP_SHARE = 200, 0.05  # all eight such tips, in five of thirteen scans, are domes; of the other holes of that
# size in them, 0.06 or more lies in the mask of the slices beside
HOLE_MM2 = 800  # a nodule or vessel of up to 32 mm, surrounded by lung; without it: Dice of single slices -0.0008


def block_mean(image: np.ndarray, steps: tuple[int, int]) -> np.ndarray:
    """Mean over blocks of rows and columns of (H, W), float32; the last block filled up by repeating the edge."""
    rows, cols = steps
    over = ((0, -image.shape[0] % rows), (0, -image.shape[1] % cols))
    if any(after for _, after in over):
        image = np.pad(image, over, mode="edge")
    in_rows = sum(image[row::rows].astype(np.float32) for row in range(rows))
    return sum(in_rows[:, col::cols] for col in range(cols)) / np.float32(rows * cols)


def all_in_blocks(mask: np.ndarray, step: int) -> np.ndarray:
    """Whether all of each block of so many rows and columns is mask, bool (Z, H // step, W // step)."""
    rows, cols = (size // step * step for size in mask.shape[1:])
    in_rows = np.logical_and.reduce([mask[:, at:rows:step, :cols] for at in range(step)])
    return np.logical_and.reduce([in_rows[..., at::step] for at in range(step)])


def enlarge(mask: np.ndarray, steps: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    """Repeat rows and columns: coarse grid to fine grid, of which `shape` tells where it ends."""
    return mask.repeat(steps[0], axis=1).repeat(steps[1], axis=2)[:, : shape[1], : shape[2]]


def distance_mm(mask: np.ndarray, spacing_mm: tuple) -> np.ndarray:
    """Distance of each True voxel to the nearest False one; the volume's own faces do not count."""
    return edt.edt(mask, anisotropy=spacing_mm)  # one thread is faster than two on a volume of this size


def close_slices(mask: np.ndarray, spacing_mm: tuple, radii_mm: tuple[float, ...]) -> np.ndarray:
    """Close each slice by discs of several radii R; what lies between two pieces nearer than a diameter becomes mask.

    Returns bool (R, Z, H, W).
    """
    closed = np.zeros((len(radii_mm), *mask.shape), bool)
    for z in np.flatnonzero(mask.any(axis=(1, 2))):
        box = bounding_box(mask[z : z + 1], spacing_mm, max(radii_mm))[1:]
        to_mask_mm = edt.edt(~mask[z][box], anisotropy=spacing_mm[1:])
        for number, radius_mm in enumerate(radii_mm):
            closed[number, z][box] = edt.edt(to_mask_mm <= radius_mm, anisotropy=spacing_mm[1:]) > radius_mm
    return closed


def close_volume(mask: np.ndarray, spacing_mm: tuple, radius_mm: float) -> np.ndarray:
    """Close a volume by a ball that rolls over its faces, too, since there is no mask beyond them: bool (Z, H, W)."""
    padded, inner = surround(mask, spacing_mm, radius_mm)
    near = edt.edt(~padded, anisotropy=spacing_mm) <= radius_mm
    return edt.edt(near, anisotropy=spacing_mm)[inner] > radius_mm


def surround(mask: np.ndarray, spacing_mm: tuple, radius_mm: float) -> tuple[np.ndarray, tuple[slice, ...]]:
    """A mask with room for a ball on all sides, and where it lies there; no room along an axis of infinite spacing."""
    pixels = [math.ceil(radius_mm / mm) + 1 if mm < math.inf else 0 for mm in spacing_mm]
    inner = tuple(slice(before, before + size) for before, size in zip(pixels, mask.shape, strict=True))
    return np.pad(mask, [(n, n) for n in pixels]), inner


def grow_slices(mask: np.ndarray) -> np.ndarray:
    """Each slice dilated by one pixel, by edges and corners; shifts take a fifth of the time of SciPy's dilation."""
    rows = mask.copy()
    rows[:, 1:] |= mask[:, :-1]
    rows[:, :-1] |= mask[:, 1:]
    both = rows.copy()
    both[..., 1:] |= rows[..., :-1]
    both[..., :-1] |= rows[..., 1:]
    return both


def slices_beside(mask: np.ndarray) -> np.ndarray:
    """What is mask in the slice above or below, bool (Z, H, W)."""
    beside = np.zeros(mask.shape, bool)
    beside[1:] = mask[:-1]
    beside[:-1] |= mask[1:]
    return beside


def shrink_slices(mask: np.ndarray) -> np.ndarray:
    """Each slice eroded by one pixel, by edges and corners; what lies beyond its frame counts as mask."""
    return ~grow_slices(~mask)


def open_slices(mask: np.ndarray) -> np.ndarray:
    """What consists of whole squares of two by two pixels in its slice."""
    rows = mask[:, 1:] & mask[:, :-1]
    whole = rows[..., 1:] & rows[..., :-1]
    opened = np.zeros(mask.shape, bool)
    for row in (slice(1, None), slice(-1)):
        for column in (slice(1, None), slice(-1)):
            opened[:, row, column] |= whole
    return opened


def fill_slices(mask: np.ndarray, max_mm2: float, pixel_mm2: float) -> np.ndarray:
    """Fill the holes of each slice that are smaller than `max_mm2`.

    But for tips of something wider, as of a dome of the diaphragm: holes of which the slice above or below has next to
    nothing in its mask. A nodule on the wall that looks so is found by its dent.
    """
    filled, tips = mask.copy(), []
    for z, slice_ in enumerate(mask):
        holes = fill_voids.fill(slice_) & ~slice_
        if holes.any():
            label, _ = ndimage.label(holes)
            area_mm2 = np.bincount(label.ravel()) * pixel_mm2
            small = area_mm2 < max_mm2
            small[0] = False
            filled[z] |= small[label]
            for number in np.flatnonzero(small & (area_mm2 > TIP_MM2)):
                tips.append((z, label == number))
    for beside, in_turn in ((-1, tips), (1, tips[::-1])):  # upwards, then downwards: a tip makes the next hole one, too
        for z, hole in in_turn:
            if 0 <= z + beside < len(mask) and np.mean(filled[z + beside][hole]) < TIP_SHARE:
                filled[z] &= ~hole
    return filled


def fill_volume(mask: np.ndarray) -> np.ndarray:
    """Fill what a mask encloses on all sides, but for holes of a few pixels.

    Looks for such holes where every block of 2x2 pixels with mask in it counts as mask, and goes to the whole
    volume only where there is one.
    """
    coarse = mask[:, : mask.shape[1] // 2 * 2, : mask.shape[2] // 2 * 2]
    coarse = coarse[:, ::2] | coarse[:, 1::2]
    coarse = coarse[:, :, ::2] | coarse[:, :, 1::2]
    has_holes = np.count_nonzero(fill_voids.fill(coarse)) > np.count_nonzero(coarse)
    return fill_voids.fill(mask) if has_holes else mask


def count_labels(label: np.ndarray) -> np.ndarray:
    """Voxels of each number in a volume of labels (Z, H, W); slice by slice, which spares a copy of the volume."""
    most = int(label.max()) + 1
    return sum(np.bincount(slice_.ravel(), minlength=most) for slice_ in label)


def large_pieces(
    mask: np.ndarray, spacing_mm: tuple, least_ml: float, connectivity: int
) -> Iterator[tuple[float, tuple[slice, ...], np.ndarray]]:
    """(ml, box, bool in that box) of each connected piece of a mask (Z, H, W) with more than so many ml."""
    label = cc3d.connected_components(mask, connectivity=connectivity)
    volume_ml = np.bincount(label.ravel()) * np.prod(spacing_mm) / 1e3
    for number, box in enumerate(ndimage.find_objects(label), start=1):
        if volume_ml[number] > least_ml:
            yield float(volume_ml[number]), box, label[box] == number


def sum_labels(label: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sum of the values (Z, H, W) over the voxels of each number in a volume of labels; slice by slice, too."""
    most = int(label.max()) + 1
    pairs = zip(label, values, strict=True)
    return sum(np.bincount(numbers.ravel(), weights=part.ravel(), minlength=most) for numbers, part in pairs)


def bounding_box(mask: np.ndarray, spacing_mm: tuple, margin_mm: float) -> tuple[slice, slice, slice]:
    """The box around a mask, enlarged by a margin as far as the volume goes."""
    box = []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return add_margin(tuple(box), mask.shape, spacing_mm, margin_mm)


def add_margin(
    box: tuple[slice, slice, slice], shape: tuple[int, int, int], spacing_mm: tuple, margin_mm: float
) -> tuple[slice, slice, slice]:
    """A box enlarged by a margin, rounded up to voxels and one more, as far as the volume goes."""
    margins = (math.ceil(margin_mm / mm) + 1 for mm in spacing_mm)
    return tuple(
        slice(max(0, part.start - margin), min(size, part.stop + margin))
        for part, margin, size in zip(box, margins, shape, strict=True)
    )


def fine_box(box: tuple[slice, slice, slice], steps: tuple[int, int]) -> tuple[slice, slice, slice]:
    """A box on the coarse grid, on the fine one."""
    return box[0], *(slice(b.start * n, b.stop * n) for b, n in zip(box[1:], steps, strict=True))
