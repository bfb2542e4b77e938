"""Where a CT scan lies: its frame in millimetres, its orientation (LPS), its gaps.

Z slices, H rows, W columns.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from lungct import LungError
from lungct.parallel import count
from lungct.slices import SliceRow

SAME_PLACE_MM = 0.01
AXIAL_COSINE = 0.8  # a gantry tilts by up to 30 degrees; anything steeper is no axial slice
GAP_FACTOR = 1.5  # a step this much longer than the usual one means that a slice is missing
UNEQUAL = 0.1  # of the usual step; less is rounding
GUESSED = "?"
PIXEL_LIMITS_MM, SLICE_LIMITS_MM = (0.05, 10.0), (0.05, 20.0)  # micro-CT to a coarse localising scan, and then some
SLICE_MM_DIGITS = 6  # positions are written with fewer
WIDE_MM = 300  # the lungs of seven adults are 246 to 279 mm wide; a narrower picture may be of one lung
SCANNER_MM = 350  # no scanner sees farther from its middle; a narrow picture beyond says nothing of its place
BY_PICTURE, BY_SCANNER, GUESS = "picture", "scanner", "guess"
MAX_VOXELS = 2**31  # 2,048 slices of 1,024 x 1,024; a file that claims more is damaged or means harm


@dataclass(frozen=True)
class Middle:
    """Where the patient's middle lies.

    column: of the slices, 0 at the middle of the first; may lie outside
    source: BY_PICTURE, the middle of a picture that is wide enough for both lungs; BY_SCANNER, x = 0 of the scanner,
            where a narrower picture may be of one lung; GUESS, of such a picture, whose file says nothing of its place
    """

    column: float
    source: str


def picture_middle(columns: int, source: str = BY_PICTURE) -> Middle:
    """The middle of slices of so many columns."""
    return Middle((columns - 1) / 2, source)


@dataclass(frozen=True)
class Frame:
    """Where the slices of a volume lie, in LPS: slices run to the head, rows to the back, columns to the left.

    corners_mm:  (Z, 3) float64, the first pixel of each slice: x to the left, y to the back, z to the head, ascending
    axes:        (2, 3) float64, unit vectors along a row and down a column
    spacing_mm:  slice, row and column spacing; slices are as far apart as their planes, also in an oblique stack and
                 with a tilted gantry, so that the product is the volume of a voxel
    shape:       rows and columns of a slice
    source_axes: where the axes of the file ran before they were turned to LPS, a letter each as nibabel writes them:
                 L or R, A or P, I or S; of DICOM columns, rows and slices, of NIfTI the array's own order; followed
                 by GUESSED where the file does not say it
    nifti_forms: what the header of a NIfTI file says of its place, as `read_forms` of nifti_forms.py has it; empty
                 for all other formats
    """

    corners_mm: np.ndarray
    axes: np.ndarray
    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int]
    source_axes: str = "LPS"
    nifti_forms: str = ""

    def __len__(self) -> int:
        return len(self.corners_mm)

    @property
    def is_guessed(self) -> bool:
        """Whether the file says nothing of its orientation."""
        return self.source_axes.endswith(GUESSED)

    @property
    def source_shape(self) -> tuple[int, ...]:
        """The sizes of the file's own array, in the order of source_axes."""
        (rows, cols), slices = self.shape, len(self)
        sizes = {"L": cols, "R": cols, "P": rows, "A": rows, "S": slices, "I": slices}
        return tuple(sizes[code] for code in self.source_axes[:3])

    @property
    def middle(self) -> Middle:
        """Where the patient's middle lies: the one place where this is decided.

        A patient may lie beside the scanner's middle, but a picture of both lungs is taken about the patient. A corner
        at x = 0 is what files have whose place was lost.
        """
        columns, col_mm = self.shape[1], self.spacing_mm[2]
        if columns * col_mm >= WIDE_MM:
            return picture_middle(columns)
        first_mm, step_mm = float(np.median(self.corners_mm[:, 0])), self.axes[0, 0] * col_mm
        ends_mm = abs(first_mm), abs(first_mm + (columns - 1) * step_mm)
        if self.is_guessed or min(ends_mm) < SAME_PLACE_MM or max(ends_mm) > SCANNER_MM:
            return picture_middle(columns, GUESS)
        down_mm = self.axes[1, 0] * self.spacing_mm[1] * (self.shape[0] - 1) / 2
        return Middle(-(first_mm + down_mm) / step_mm, BY_SCANNER)

    @property
    def z_mm(self) -> np.ndarray:
        """(Z,) float64, ascending."""
        return self.corners_mm[:, 2]

    @property
    def normal(self) -> np.ndarray:
        """Across the slices, towards the head: (3,) unit vector; with a tilted gantry not the way of the table."""
        return normal_of(self.axes)

    @property
    def places_mm(self) -> np.ndarray:
        """(Z,) float64, ascending: how far up each slice lies, across the slices; of upright slices their z_mm."""
        return self.corners_mm @ self.normal

    @property
    def extents_mm(self) -> np.ndarray:
        """(Z,) float64: how much of the body each slice stands for, half-way to its neighbours, across the slices."""
        if len(self) < 2:
            return np.full(len(self), self.spacing_mm[0])
        steps = np.diff(self.places_mm)
        return (np.append(steps[0], steps) + np.append(steps, steps[-1])) / 2


@dataclass(frozen=True)
class Scan:
    """A CT volume whose pixels are still on disk; `warnings` say what was unusual about its files, a phrase each."""

    patient_id: str
    series_uid: str
    files: tuple[Path, ...]
    frame: Frame
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frame)

    def read(self, z_indices: Iterable[int] | None = None) -> np.ndarray:
        """Decode the slices asked for (all when None): (Z, H, W) int16 in HU, not clipped."""
        wanted = range(len(self)) if z_indices is None else list(z_indices)
        ct_hu = np.empty((len(wanted), *self.frame.shape), np.int16)
        for place, z in enumerate(wanted):
            ct_hu[place] = self._read_slice(z)
        return ct_hu

    def _read_slice(self, z_index: int) -> np.ndarray:
        raise NotImplementedError


def normal_of(axes: np.ndarray) -> np.ndarray:
    """Across a slice whose axes (2, 3) go to the left and to the back: (3,) unit vector towards the head."""
    normal = np.cross(*axes)
    return normal / np.linalg.norm(normal)


def lps_flips(orientation: Iterable[float]) -> tuple[bool, bool, bool]:
    """What brings an axial slice of some ImageOrientationPatient to LPS, in this order.

    (rows and columns change places, columns are counted from the other end, rows are counted from the other end)
    """
    along_row, along_col = np.reshape([float(c) for c in orientation], (2, 3))
    swapped = bool(abs(along_row[1]) > abs(along_row[0]))
    if swapped:
        along_row, along_col = along_col, along_row
    return swapped, bool(along_row[0] < 0), bool(along_col[1] < 0)


def to_lps(image: np.ndarray, orientation: Iterable[float]) -> np.ndarray:
    """Turn an axial slice by its ImageOrientationPatient so that rows go to the back, columns to the left.

    image (H, W); a prone or lateral patient comes out as if supine to the reader.
    """
    swapped, mirrored, upturned = lps_flips(orientation)
    image = image.T if swapped else image
    image = image[:, ::-1] if mirrored else image
    return image[::-1] if upturned else image


def from_lps(image: np.ndarray, orientation: Iterable[float]) -> np.ndarray:
    """Undo `to_lps`: a slice (H, W) as its file has it."""
    swapped, mirrored, upturned = lps_flips(orientation)
    image = image[::-1] if upturned else image
    image = image[:, ::-1] if mirrored else image
    return image.T if swapped else image


def frame_to_lps(orientation: np.ndarray, span_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `to_lps` does to the frame of a slice: (axes afterwards (2, 3), shift of its first pixel (3,)).

    orientation: (2, 3), along a row and down a column; span_mm: (2,) from the first to the last pixel of each
    """
    swapped, *counted_back = lps_flips(orientation.ravel())
    order = [1, 0] if swapped else [0, 1]
    axes, span_mm = orientation[order], span_mm[order]
    shift = np.zeros(3)
    for n in np.flatnonzero(counted_back):
        shift += axes[n] * span_mm[n]
        axes[n] = -axes[n]
    return axes, shift


def contiguous_runs(z_mm: np.ndarray) -> list[slice]:
    """Cut ascending positions where a slice is missing: runs inside which 3-D steps make sense."""
    steps = np.diff(z_mm)
    if not len(steps):
        return [slice(0, len(z_mm))]
    cuts = np.flatnonzero(steps > GAP_FACTOR * np.median(steps)) + 1
    edges = [0, *cuts.tolist(), len(z_mm)]
    return [slice(a, b) for a, b in pairwise(edges)]


def frame_warnings(frame: Frame) -> list[str]:
    """What is unusual about where the slices of a whole scan lie, a phrase each."""
    warnings = ["the file says nothing of left and right: sides may be swapped"] if frame.is_guessed else []
    steps, gaps = np.diff(frame.places_mm), len(contiguous_runs(frame.places_mm)) - 1
    if gaps > 0:
        gap = f"{'the longest ' if gaps > 1 else ''}gap of {steps.max():.4g} mm after slice {steps.argmax()}"
        warnings.append(f"slices missing in {count(gaps, 'place')}: {gap}")
    elif len(steps) and np.ptp(steps) > UNEQUAL * np.median(steps):
        warnings.append(f"unequal slice spacing, {steps.min():.2f} to {steps.max():.2f} mm")
    return warnings


def even_slices(places_mm: np.ndarray, step_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """The nearest slice for each place at equal distances, -1 where slices are missing: (N,) int, (N,) places in mm.

    places_mm: (Z,) as `Frame` has them
    """
    even_mm = places_mm[0] + step_mm * np.arange(round((places_mm[-1] - places_mm[0]) / step_mm) + 1)
    off_mm = np.abs(even_mm[:, None] - places_mm)
    return np.where(off_mm.min(1) < step_mm * GAP_FACTOR / 2, off_mm.argmin(1), -1), even_mm


def check_size(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse what no scan can be, before memory is asked for it. Raises LungError."""
    if math.prod(shape) > MAX_VOXELS:
        raise LungError(f"{path}: {' x '.join(map(str, shape))} voxels are no scan; is the file damaged?")


def check_spacing(where: Path, spacing_mm: tuple[float, float, float]) -> None:
    """Refuse slice, row and column spacing that no CT has, such as metres. Raises LungError that names the number."""
    limits = (SLICE_LIMITS_MM, PIXEL_LIMITS_MM, PIXEL_LIMITS_MM)
    for what, mm, (least, most) in zip(("slices", "rows", "columns"), spacing_mm, limits, strict=True):
        if not least <= mm <= most:
            raise LungError(
                f"{where}: {what} {mm:g} mm apart, where CT has {least:g} to {most:g} mm; is its unit another one?"
            )


def as_in_rows(frame: Frame) -> Frame:
    """A frame with its slice spacing as manifests have it, so that masks do not depend on the way that a CT takes."""
    slice_mm, *pixel_mm = frame.spacing_mm
    return replace(frame, spacing_mm=(round(slice_mm, SLICE_MM_DIGITS), *pixel_mm))


def row_fields(frame: Frame, z_index: int) -> dict:
    """What a row of the manifest says of where its slice lies; `frame_of` reads it back."""
    x_mm, y_mm, z_mm = np.round(frame.corners_mm[z_index], 4).tolist()
    slice_mm, row_mm, col_mm = as_in_rows(frame).spacing_mm
    return {
        "x_mm": x_mm,
        "y_mm": y_mm,
        "z_mm": z_mm,
        "axes": " ".join(f"{c:.6g}" for c in frame.axes.ravel()),
        "source_axes": frame.source_axes,
        "nifti_forms": frame.nifti_forms,
        "rows": frame.shape[0],
        "columns": frame.shape[1],
        "slice_mm": slice_mm,
        "row_mm": row_mm,
        "col_mm": col_mm,
    }


def frame_of(rows: list[SliceRow]) -> Frame:
    """The frame of the slices of one scan, of their rows of the manifest in ascending z."""
    first = rows[0]
    corners_mm = np.array([[row.x_mm, row.y_mm, row.z_mm] for row in rows])
    axes = np.reshape([float(c) for c in first.axes.split()], (2, 3))
    shape = (first.rows, first.columns)
    return Frame(corners_mm, axes, first.spacing_mm, shape, first.source_axes, first.nifti_forms)


def axis_codes(orientation: Iterable[float]) -> str:
    """`Frame.source_axes` of axial slices of some ImageOrientationPatient, sorted in ascending z."""
    swapped, mirrored, upturned = lps_flips(orientation)
    codes = ("R" if mirrored else "L") + ("A" if upturned else "P")
    return (codes[::-1] if swapped else codes) + "S"
