"""A mask as one array on a regular grid, for the file formats that hold nothing else (NIfTI, NRRD).

Z slices, H rows, W columns; I, J, K the axes of the scan's own array.
"""

from collections.abc import Callable

import numpy as np

from lungct import LungError
from lungct.masks.segments import Segment, check_values
from lungct.parallel import count
from lungct.scans.geometry import Frame

MAX_OFF = 0.25  # of a step, between a slice's place and the one that the grid gives it
MAX_SHIFT = 0.5  # of a pixel, sideways
MAX_MISSING = 0.1  # of the slices; more are not slices that got lost


def as_volume(labels: np.ndarray, frame: Frame, segments: tuple[Segment, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A mask (Z, H, W) on the grid and in the axis order of its scan: ((I, J, K) uint8, affine (4, 4)).

    affine: to millimetres in LPS; sheared where the gantry was tilted

    A missing slice becomes an empty one. Raises LungError where the slices do not lie on one regular grid, and for
    values that are none of the segments'.
    """
    from nibabel import orientations  # here: DICOM users never need it

    check_values(labels, segments)
    places, step_mm = regular_places(frame)
    volume = np.zeros((places[-1] + 1, *labels.shape[1:]), np.uint8)
    volume[places] = labels
    volume = volume.transpose(2, 1, 0)
    affine = np.eye(4)
    sides = frame.axes[0] * frame.spacing_mm[2], frame.axes[1] * frame.spacing_mm[1]
    affine[:3] = np.column_stack([*sides, step_mm, frame.corners_mm[0]])
    turn = orientations.ornt_transform(*[orientations.axcodes2ornt(codes) for codes in ("LPS", frame.source_axes[:3])])
    affine = affine @ orientations.inv_ornt_aff(turn, volume.shape)
    return orientations.apply_orientation(volume, turn), affine


def regular_places(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Where the slices lie on a regular grid: (places (Z,) int, step (3,) in mm from place to place).

    A few missing slices leave places out, each hole by itself. Raises LungError where the steps are of two sizes or
    more, or the slices are shifted sideways.
    """
    if len(frame) < 2:
        return np.zeros(len(frame), int), frame.normal * frame.spacing_mm[0]
    steps = np.diff(frame.z_mm)
    usual_mm = np.percentile(steps, 50, method="lower")  # of two, the one without a hole
    holes = np.rint(steps / usual_mm).astype(int) - 1
    places = np.append(0, np.cumsum(holes + 1))
    step_mm = (frame.corners_mm[-1] - frame.corners_mm[0]) / places[-1]
    off_mm = np.abs(frame.corners_mm - frame.corners_mm[0] - places[:, None] * step_mm).max(0)
    uneven = max(off_mm[2], np.abs(steps - (holes + 1) * usual_mm).max()) > MAX_OFF * usual_mm
    side_by_side = np.any((holes[1:] > 0) & (holes[:-1] > 0))
    if uneven or side_by_side or holes.min() < 0 or holes.sum() > max(1, MAX_MISSING * len(frame)):
        raise LungError("slices at unequal distances fit no regular grid, take the .npy masks or dicom-seg")
    if max(off_mm[:2]) > MAX_SHIFT * min(frame.spacing_mm[1:]):
        raise LungError("slices that are shifted sideways fit no regular grid, take the .npy masks or dicom-seg")
    return places, step_mm


def write_or_flag(
    write: Callable, find_flags: Callable, ending: str, labels: np.ndarray, frame: Frame, segments: tuple[Segment, ...]
) -> tuple[bytes | None, list[str]]:
    """What `nifti_bytes` or `nrrd_bytes` write, None where the slices are on no regular grid; and flags, a phrase each.

    find_flags: `nifti_flags` or `nrrd_flags`
    ending:     .nii.gz or .seg.nrrd
    """
    try:
        places, _ = regular_places(frame)
    except LungError as error:
        return None, [f"no {ending}: {error}"]
    missing = int(places[-1]) + 1 - len(places)
    flags = [f"{count(missing, 'missing slice')} empty in the {ending}"] if missing else []
    content = write(labels, frame, segments)
    return content, flags + find_flags(frame, content, ending)
