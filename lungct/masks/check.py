"""Whether a mask lies on its scan, and whether what it marks can be lung.

Z slices, H rows, W columns; millimetres in LPS.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from lungct import LungError
from lungct.parallel import count
from lungct.scans.geometry import SAME_PLACE_MM, Frame

MAX_OFF = 0.5  # voxels of the scan
SAVED_WITHOUT_PLACE_MM = (1.0, 1.0, 1.0)  # spacing of a file whose writer was not given the CT's header

# Of right masks of seven whole scans (tumours, emphysema, contrast) 0.95 to 0.99 lies below AIRY_HU, in the middle ten
# slices as in all; of ten single slices with COVID-19 pneumonia 0.83 to 0.98. Turned or shifted by 20 pixels: 0.31 to
# 0.82; only reversed from head to feet, in the middle ten slices: 0.75 to 0.93. One limit cannot tell a turned mask
# from a lung that is half consolidated, but the other orientations can: those of right masks mark 0.05 less at least.
AIRY_HU = -300
MIN_AIRY, USUAL_AIRY = 0.7, 0.93
BETTER_BY = 0.03
MAX_SLICE_SHARE = 0.6  # of a slice's pixels: 0.33 in the narrowest field of view of those scans
ADVICE = "is it a lung mask of this scan? --label-values names the lung values; --any-values takes it as it is"


def nearest_planes(planes_mm: np.ndarray, scan: Frame) -> np.ndarray:
    """For each slice of a scan the plane that lies on it: (Z,) int, the nearest within half a slice spacing, else -1.

    planes_mm (N, 3): a point of each plane; planes parallel to the slices.
    """
    if not len(planes_mm):
        return np.full(len(scan), -1)
    off_mm = np.abs((planes_mm @ scan.normal)[:, None] - scan.places_mm)  # (N, Z)
    lies_on_it = off_mm.min(0) < MAX_OFF * scan.spacing_mm[0] - SAME_PLACE_MM
    return np.where(lies_on_it, off_mm.argmin(0), -1)


def off_voxels(mask: Frame, scan: Frame) -> float:
    """How far three corners of each slice of a mask lie from those of the scan's, along any axis, at most."""
    off_mm = _corners(mask) - _corners(scan)  # (Z, 3 corners, 3)
    slice_mm, row_mm, col_mm = scan.spacing_mm
    axes = np.stack([scan.normal / slice_mm, scan.axes[1] / row_mm, scan.axes[0] / col_mm])
    return float(np.abs(off_mm @ axes.T).max())


def _corners(frame: Frame) -> np.ndarray:
    """First pixel of each slice, end of its first row, end of its first column: (Z, 3, 3) mm."""
    (rows, cols), (_, row_mm, col_mm) = frame.shape, frame.spacing_mm
    ends = np.stack([np.zeros(3), (cols - 1) * col_mm * frame.axes[0], (rows - 1) * row_mm * frame.axes[1]])
    return frame.corners_mm[:, None] + ends


def take_slices(frame: Frame, places: np.ndarray) -> Frame:
    """The frame of some of the slices."""
    return replace(frame, corners_mm=frame.corners_mm[places])


def check_place(path: Path, mask: Frame, scan: Frame) -> np.ndarray:
    """The slice of a mask for each slice of its scan, (Z,) int; the mask may have more, where the scan has gaps.

    Raises LungError with the numbers of both where the mask does not lie on the scan.
    """
    places = nearest_planes(mask.corners_mm, scan)
    if mask.shape == scan.shape and (places >= 0).all() and off_voxels(take_slices(mask, places), scan) <= MAX_OFF:
        return places
    if np.allclose(mask.spacing_mm, SAVED_WITHOUT_PLACE_MM):
        advice = "it looks saved without the CT's position; save it with the CT's affine (header)"
    else:
        advice = "is it of another scan? if not, save it on the CT's own grid, with the CT's affine (header)"
    raise LungError(f"{path}: does not lie on the CT: {describe(mask)}; the CT: {describe(scan)}; {advice}")


def lies_on(mask: Frame, scan: Frame) -> bool:
    """Whether a mask has the very slices of a scan."""
    same_size = len(mask) == len(scan) and mask.shape == scan.shape
    return same_size and off_voxels(mask, scan) <= MAX_OFF


def describe(frame: Frame) -> str:
    """Where a volume lies, for a message."""
    corner = ", ".join(f"{mm:.1f}" for mm in frame.corners_mm[0])
    spacing = " x ".join(f"{mm:.4g}" for mm in frame.spacing_mm)
    axes = " ".join(f"{c:.2g}" for c in (frame.axes + 0.0).ravel())
    slices = f"{count(len(frame), 'slice')} of {frame.shape[0]} x {frame.shape[1]}"
    return f"{slices}, {spacing} mm, from ({corner}) mm along {axes}"


def check_is_lung(path: Path, lung: np.ndarray, wanted: range, ct_hu: np.ndarray) -> tuple[str, ...]:
    """Compare the mask of a whole scan with the CT of its `wanted` slices; returns warnings.

    lung (Z, H, W) bool, ct_hu (len(wanted), H, W) int16. Raises LungError where what is marked cannot be lung.
    """
    marked = lung[wanted.start : wanted.stop]
    if not marked.any():
        return (f"{path.name} marks no lung in the {count(len(wanted), 'slice')} taken",)
    largest = float(marked.mean((1, 2)).max())
    if largest > MAX_SLICE_SHARE:
        raise LungError(f"{path}: marks {largest:.0%} of a slice, a lung has {MAX_SLICE_SHARE:.0%} at most; {ADVICE}")
    airy = ct_hu < AIRY_HU
    share = _share(airy, marked)
    can_be_better = share + BETTER_BY < 1
    best, words = (
        _best_other_orientation(lung, wanted, airy, np.count_nonzero(marked) / 2) if can_be_better else (0, "")
    )
    if best > share + BETTER_BY:
        raise LungError(
            f"{path}: {share:.0%} of what it marks is below {AIRY_HU} HU, but {best:.0%} with {words}; store slices "
            "from feet to head, rows to the back, columns to the patient's left"
        )
    if share < MIN_AIRY:
        raise LungError(
            f"{path}: only {share:.0%} of what it marks is below {AIRY_HU} HU, where lung has nearly all; {ADVICE}"
        )
    warnings = []
    if share < USUAL_AIRY:
        warnings.append(
            f"only {share:.0%} of what {path.name} marks is below {AIRY_HU} HU: is it shifted, or the lung diseased?"
        )
    skipped = skipped_slices(lung)
    if skipped:
        warnings.append(
            f"{path.name} marks nothing in {count(skipped, 'slice')} between others with lung; was it finished?"
        )
    return tuple(warnings)


def skipped_slices(lung: np.ndarray) -> int:
    """Slices without lung between slices with it; lung (Z, H, W)."""
    filled = np.flatnonzero(lung.any((1, 2)))
    return int(filled[-1] - filled[0] + 1 - len(filled)) if len(filled) else 0


def _share(airy: np.ndarray, marked: np.ndarray) -> float:
    return np.count_nonzero(airy & marked) / np.count_nonzero(marked)


def _best_other_orientation(lung: np.ndarray, wanted: range, airy: np.ndarray, min_px: float) -> tuple[float, str]:
    """The share below AIRY_HU in the best of the other orientations that mark at least so much, and which it is."""
    best = (0.0, "")
    for words, turned in _other_orientations(lung):
        marked = turned[wanted.start : wanted.stop]
        if np.count_nonzero(marked) >= min_px:
            best = max(best, (_share(airy, marked), words))
    return best


def _other_orientations(lung: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """A mask in all ways in which its axes may have been mixed up, and what would be done to it."""
    names = "slices reversed", "rows reversed", "columns reversed"
    square = lung.shape[1] == lung.shape[2]
    for swapped, *reverse in product((False, True) if square else (False,), *[(False, True)] * 3):
        if not swapped and not any(reverse):
            continue
        words = [name for name, wanted in zip(names, reverse, strict=True) if wanted]
        turned = lung.transpose(0, 2, 1) if swapped else lung
        turned = turned[tuple(slice(None, None, -1) if wanted else slice(None) for wanted in reverse)]
        yield ", ".join([*(["rows and columns swapped"] if swapped else []), *words]), turned
