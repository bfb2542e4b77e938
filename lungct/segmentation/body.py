"""Where the body lies in a CT volume, on a coarse grid: open air, table, the trunk and what it surrounds.

Z slices, H rows, W columns; h and w are rows and columns of the coarse grid.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import cc3d
import numpy as np
from scipy import ndimage

from lungct.segmentation.morphology import (
    IN_SLICE,
    IN_SLICE_8,
    block_mean,
    count_labels,
    enlarge,
    grow_slices,
    shrink_slices,
    sum_labels,
)

AIR_TISSUE_HU = -400  # half-way between aerated lung (-850) and soft tissue (50): the wall where a reader draws it
PADDING_HU = -1000  # outside the reconstruction circle scanners write a constant at or below air
BODY_GRID_MM = 1.6
BESIDE_MM = 30  # from the middle; with 0, dents cost Dice 0.0003, and of a scan at half resolution the trachea is lung
AIR_HU = -1000.0
ROOM_HU, ROOM_STEP_HU = (-1125, -850), 10
HULL_GRID_MM = 3.2  # on which the trunk is told from the table

# mean HU of air at the edge of the image; above it, the air is a lung that the field of view cuts. The limit falls with
# a darker room. Without this rule, Dice of single slices falls by 0.086, of cut scans by 0.18 (benchmarks/label_rules)
CUT_LUNG_HU = -930


@dataclass(frozen=True)
class Body:
    """A volume on the coarse grid.

    coarse_hu:  (Z, h, w) float32, padding as tissue
    open_air:   bool, air that is not in the body, and padding
    hull:       bool, the trunk and what it surrounds
    middle:     row and column of the middle of the whole trunk; a part of the body may lie beside it
    steps:      rows and columns of the volume that make one of the grid
    spacing_mm: of the grid
    room_hu:    of the air around the body
    """

    coarse_hu: np.ndarray
    open_air: np.ndarray
    hull: np.ndarray
    middle: tuple[float, float]
    steps: tuple[int, int]
    spacing_mm: tuple[float, float, float]
    room_hu: float

    @cached_property
    def air(self) -> np.ndarray:
        """Air that is not open: lung, airway and gas, bool (Z, h, w)."""
        return (self.coarse_hu < AIR_TISSUE_HU) & ~self.open_air

    @cached_property
    def air_in_trunk(self) -> np.ndarray:
        """Air in the trunk, and where it reaches the frame, as a dark lung that the field of view cuts: (Z, h, w)."""
        is_air = self.coarse_hu < AIR_TISSUE_HU
        return self.hull & is_air & (~self.open_air | view_edge(self.open_air & ~is_air))

    @cached_property
    def beside(self) -> np.ndarray:
        """Columns beside the middle of the trunk, where airway and great vessels lie and the lungs meet: bool (w,)."""
        return abs(np.arange(self.hull.shape[2]) - self.middle[1]) * self.spacing_mm[2] > BESIDE_MM

    def crop(self, box: tuple[slice, slice, slice]) -> "Body":
        """The part of it that lies in a box on the coarse grid."""
        at = tuple(here - part.start for here, part in zip(self.middle, box[1:], strict=True))
        return replace(self, coarse_hu=self.coarse_hu[box], open_air=self.open_air[box], hull=self.hull[box], middle=at)

    def steps_of(self, every_mm: tuple[float, float, float]) -> tuple[int, int, int]:
        """How many slices, rows and columns of it are about so many mm; one at least."""
        return tuple(max(1, round(every / mm)) for every, mm in zip(every_mm, self.spacing_mm, strict=True))

    def every(self, steps: tuple[int, int, int]) -> "Body":
        """Every so many slices, rows and columns of it."""
        some = tuple(slice(None, None, step) for step in steps)
        hu, open_air, hull = (part[some] for part in (self.coarse_hu, self.open_air, self.hull))
        middle = tuple(at / step for at, step in zip(self.middle, steps[1:], strict=True))
        in_volume = tuple(here * step for here, step in zip(self.steps, steps[1:], strict=True))
        spacing_mm = tuple(mm * step for mm, step in zip(self.spacing_mm, steps, strict=True))
        return Body(hu, open_air, hull, middle, in_volume, spacing_mm, self.room_hu)


def find_body(ct_hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> Body:
    """Look at a volume (Z, H, W) in HU on a grid of about BODY_GRID_MM."""
    coarse_hu, padding, steps, coarse_mm = coarsen(ct_hu, spacing_mm)
    open_air = find_outside(coarse_hu, padding, coarse_mm)
    hull = trunk_hull((coarse_hu >= AIR_TISSUE_HU) & ~padding, coarse_mm)
    room_hu = find_room_hu(coarse_hu[open_air & ~padding])
    middle = ndimage.center_of_mass(np.count_nonzero(hull, axis=0))
    return Body(coarse_hu, open_air, hull, middle, steps, coarse_mm, room_hu)


def find_room_hu(room: np.ndarray) -> float:
    """The most frequent HU of room air, which foam and blankets do not move; that of pure air where none is seen."""
    counts, edges = np.histogram(room, np.arange(*ROOM_HU, ROOM_STEP_HU))
    most = int(counts.argmax())
    return float(edges[most : most + 2].mean()) if counts[most] else AIR_HU


def coarsen(ct_hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray, tuple, tuple]:
    """(coarse HU (Z, h, w) with padding as tissue, padding, rows and columns a block, coarse spacing)."""
    steps = tuple(max(1, round(BODY_GRID_MM / mm)) for mm in spacing_mm[1:])
    coarse_mm = (spacing_mm[0], spacing_mm[1] * steps[0], spacing_mm[2] * steps[1])
    coarse_hu = np.stack([block_mean(ct, steps) for ct in ct_hu])
    padding = find_padding(coarse_hu)
    coarse_hu[padding] = 0
    return coarse_hu, padding, steps, coarse_mm


def find_padding(coarse_hu: np.ndarray) -> np.ndarray:
    """The constant outside the scanner's reconstruction circle (bool, same shape); counts as tissue later."""
    value = coarse_hu[:, :1, :1]
    ends = (slice(2), slice(-2, None))
    corners = [coarse_hu[:, rows, cols] for rows in ends for cols in ends]
    if value.max() > PADDING_HU or not all((corner == value).all() for corner in corners):
        return np.zeros(coarse_hu.shape, bool)
    y, x = np.ogrid[-1 : 1 : coarse_hu.shape[1] * 1j, -1 : 1 : coarse_hu.shape[2] * 1j]
    return (coarse_hu == value) & (y * y + x * x > 0.95)


def find_outside(coarse_hu: np.ndarray, padding: np.ndarray, spacing_mm: tuple) -> np.ndarray:
    """Air that is not in the body: what reaches the frame of its slice.

    A lung cut by the field of view reaches the frame too; it is told from room air by its HU.
    """
    label, count = ndimage.label(coarse_hu < AIR_TISSUE_HU, IN_SLICE)
    frame = view_edge(padding)
    is_open = np.zeros(count + 1, bool)
    is_open[label[frame]] = True
    is_open[0] = False
    limit_hu = min(CUT_LUNG_HU, find_room_hu(coarse_hu[is_open[label]]) + CUT_LUNG_HU - AIR_HU)
    is_open[sum_labels(label, coarse_hu) > limit_hu * count_labels(label)] = False
    return is_open[label] | padding


def view_edge(padding: np.ndarray) -> np.ndarray:
    """The outermost pixels of each slice, and those beside the padding, bool, same shape."""
    frame = np.ones(padding.shape, bool)
    frame[:, 1:-1, 1:-1] = False
    if padding.any():  # a circle, the same in every slice
        frame |= ndimage.binary_dilation(padding.any(axis=0), IN_SLICE_8[0])
    return frame


def trunk_hull(tissue: np.ndarray, spacing_mm: tuple) -> np.ndarray:
    """Per slice, what lies between trunk and trunk in its row or in its column; leaves the table out."""
    step = max(1, round(HULL_GRID_MM / spacing_mm[1])), max(1, round(HULL_GRID_MM / spacing_mm[2]))
    solid = np.stack([np.pad(block_mean(slice_, step) > 0.6, 1, mode="edge") for slice_ in tissue])
    solid = grow_slices(shrink_slices(solid))  # opened by a pixel
    trunk = cc3d.largest_k(solid[:, 1:-1, 1:-1], k=1, connectivity=6) > 0
    if not trunk.any():
        return np.ones(tissue.shape, bool)
    hull = np.zeros(trunk.shape, bool)
    for axis in (1, 2):
        before = np.logical_or.accumulate(trunk, axis)
        after = np.flip(np.logical_or.accumulate(np.flip(trunk, axis), axis), axis)
        hull |= before & after
    return enlarge(hull, step, tissue.shape)
