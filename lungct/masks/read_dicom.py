"""Lungs that someone drew and stored as DICOM: segmentations (SEG) and radiotherapy structures (RTSTRUCT).

They say themselves which series they belong to and where in space they lie. Z slices, H rows, W columns.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from lungct import LungError
from lungct.files import files_below
from lungct.masks.check import check_place, nearest_planes, take_slices
from lungct.parallel import count
from lungct.scans.geometry import SAME_PLACE_MM, Frame, Scan, check_size, frame_to_lps, lps_flips, to_lps
from lungct.scans.headers import DECODE_ERRORS, first_line, read_header

LUNG = re.compile(r"(?i)lung|pulmo")
NOT_LUNG = re.compile(  # what lies in a lung or beside it
    r"(?i)nodul|neoplas|tumou?r|mass|lesion|cancer|gtv|ctv|itv|ptv|airway|bronch|trache|vessel|arter|vein|vena|trunk|trunc"
    r"|^[av][._ ]|valve|embol|effusion|hil(ar|um|us)|fissure|node"
)
MODALITIES = ("SEG", "RTSTRUCT", "")
Part = tuple[str, np.ndarray, list[str]]  # name of a segment or structure, (Z, H, W) bool, warnings
OPEN_KINDS = ("POINT", "OPEN_PLANAR", "OPEN_NONPLANAR")
IN_PLANE = 0.1  # of the slice spacing, between contours of one plane
SAME, INSIDE = 0.95, 0.9  # shares of pixels: a contour stored twice, perhaps rounded; a hole, perhaps drawn on the edge


def is_lung_name(name: str) -> bool:
    """Whether a segment or structure is a lung: Lung_L, Left Lung, Lungs; not Lung nodule, not Pulmonary artery."""
    return bool(LUNG.search(name)) and not NOT_LUNG.search(name)


@cache
def index_folder(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The SEG and RTSTRUCT files below a folder, whatever their names, by the UID of the series they belong to."""
    found: dict[str, tuple[Path, ...]] = {}
    for path in files_below(folder):
        for uid in series_of(path):
            found[uid] = (*found.get(uid, ()), path)
    return found


def series_of(path: Path) -> set[str]:
    """The series that a file marks something in; none where it is neither SEG nor RTSTRUCT."""
    try:
        header = read_header(path)
        if header is None or header.text("Modality") not in MODALITIES:
            return set()
        return referenced_series(pydicom.dcmread(path, stop_before_pixels=True, force=True))
    except (LungError, InvalidDicomError, *DECODE_ERRORS):  # another object, or none
        return set()


def referenced_series(header: pydicom.Dataset) -> set[str]:
    """The series that a SEG or RTSTRUCT belongs to. Raises LookupError for any other object."""
    if header.SOPClassUID == SegmentationStorage:
        return {str(series.SeriesInstanceUID) for series in header.ReferencedSeriesSequence}
    if header.SOPClassUID == RTStructureSetStorage:
        return {
            str(series.SeriesInstanceUID)
            for frame in header.ReferencedFrameOfReferenceSequence
            for study in frame.RTReferencedStudySequence
            for series in study.RTReferencedSeriesSequence
        }
    raise LookupError("neither SEG nor RTSTRUCT")


def read_dicom_label(path: Path, scan: Scan) -> tuple[np.ndarray, tuple[str, ...]]:
    """The lungs of a SEG or RTSTRUCT on the slices of its scan: ((Z, H, W) bool, warnings).

    Raises LungError as `read_parts` does.
    """
    lung, warnings = np.zeros((len(scan), *scan.frame.shape), bool), []
    for _, part, more in read_parts(path, scan):
        lung |= part
        warnings += more
    return lung, tuple(warnings)


def read_parts(path: Path, scan: Scan) -> Iterator[Part]:
    """Each lung of a SEG or RTSTRUCT on the slices of its scan.

    Raises LungError where it names no lung, lies elsewhere, or is damaged.
    """
    try:
        dataset = pydicom.dcmread(path, force=True)
        read = read_segments if dataset.SOPClassUID == SegmentationStorage else read_structures
        yield from read(path, dataset, scan)
    except (InvalidDicomError, *DECODE_ERRORS) as error:
        raise LungError(f"{path}: no readable lungs ({first_line(error)})") from error


def choose(path: Path, names: dict[int, str]) -> dict[int, str]:
    """Those that are lungs, by number. Raises LungError that lists what there is instead."""
    chosen = {number: name for number, name in names.items() if is_lung_name(name)}
    if not chosen:
        raise LungError(f"{path}: no lung among {', '.join(names.values()) or 'no names at all'}")
    return chosen


def choose_planes(path: Path, name: str, planes_mm: np.ndarray, scan: Scan) -> tuple[dict[int, int], list[str]]:
    """Which plane of a structure lies on which slice of its scan: ({slice: plane}, warnings of those that lie on none).

    planes_mm (N, 3): a point of each. Raises LungError where none lies on a slice.
    """
    nearest = nearest_planes(planes_mm, scan.frame)
    chosen = {int(z): int(plane) for z, plane in enumerate(nearest) if plane >= 0}
    heights_mm, slices_mm = planes_mm @ scan.frame.normal, scan.frame.places_mm
    if not chosen and len(planes_mm):
        raise LungError(
            f"{path}: {name} lies where the scan has no slice: it from {heights_mm.min():.1f} to "
            f"{heights_mm.max():.1f} mm, the scan from {slices_mm[0]:.1f} to {slices_mm[-1]:.1f} mm"
        )
    unused = np.setdiff1d(np.arange(len(planes_mm)), list(chosen.values()))
    beyond = (heights_mm[unused] < slices_mm[0]) | (heights_mm[unused] > slices_mm[-1])
    left_out = ((beyond.sum(), "above or below the scan"), ((~beyond).sum(), "between its slices"))
    return chosen, [f"{name}: {count(number, 'plane')} {where} not used" for number, where in left_out if number]


def read_structures(path: Path, dataset: pydicom.Dataset, scan: Scan) -> Iterator[Part]:
    """Closed contours in mm, filled plane by plane."""
    lungs = choose(path, {int(roi.ROINumber): str(roi.ROIName) for roi in dataset.StructureSetROISequence})
    for roi in dataset.ROIContourSequence:
        name = lungs.get(int(roi.ReferencedROINumber))
        if name is None:
            continue
        planes = group_by_plane(path, closed_contours(roi), scan)
        chosen, warnings = choose_planes(path, name, np.array([plane[0][0] for plane in planes]).reshape(-1, 3), scan)
        lung, outside = np.zeros((len(scan), *scan.frame.shape), bool), 0
        for z, plane in chosen.items():
            polygons = [to_pixels(points_mm, z, scan) for points_mm in planes[plane]]
            outside += sum(reaches_outside(points, scan.frame.shape) for points in polygons)
            lung[z] = fill(polygons, scan.frame.shape)
        if outside:
            warnings.append(f"{name}: {count(outside, 'contour')} partly beyond the edges of the slices")
        yield name, lung, warnings


def closed_contours(roi: pydicom.Dataset) -> list[np.ndarray]:
    """The outlines of a structure, (N, 3) mm each; points and lines have no inside. Raises ValueError over NaN."""
    contours = []
    for contour in roi.get("ContourSequence") or []:
        points_mm = np.array(contour.get("ContourData") or [], float).reshape(-1, 3)
        if len(points_mm) >= 3 and contour.get("ContourGeometricType", "").upper() not in OPEN_KINDS:
            if not np.isfinite(points_mm).all():
                raise ValueError("a contour with a coordinate that is no number")
            contours.append(points_mm)
    return contours


def group_by_plane(path: Path, contours: list[np.ndarray], scan: Scan) -> list[list[np.ndarray]]:
    """The contours of each plane. Raises LungError where one does not lie in a plane parallel to the slices."""
    normal = scan.frame.normal
    tolerance_mm = max(IN_PLANE * scan.frame.spacing_mm[0], 2 * SAME_PLACE_MM)
    planes: list[list[np.ndarray]] = []
    last_mm = -np.inf
    for points_mm in sorted(contours, key=lambda points_mm: float((points_mm @ normal).mean())):
        heights_mm = points_mm @ normal
        if np.ptp(heights_mm) > tolerance_mm:
            raise LungError(
                f"{path}: a contour runs from {heights_mm.min():.1f} to {heights_mm.max():.1f} mm across the slices; "
                "export contours that are drawn on the slices"
            )
        if heights_mm.mean() - last_mm > tolerance_mm:
            planes.append([])
            last_mm = heights_mm.mean()
        planes[-1].append(points_mm)
    return planes


def to_pixels(points_mm: np.ndarray, z_index: int, scan: Scan) -> np.ndarray:
    """Places (N, 3) in mm as (row, column) of a slice, (N, 2)."""
    away = points_mm - scan.frame.corners_mm[z_index]
    return np.stack(
        [away @ scan.frame.axes[1] / scan.frame.spacing_mm[1], away @ scan.frame.axes[0] / scan.frame.spacing_mm[2]], 1
    )


def reaches_outside(points: np.ndarray, shape: tuple[int, int]) -> bool:
    """Whether a contour, (row, column) each, leaves the slice by more than a pixel."""
    return bool((points < -1).any() or (points > np.array(shape)).any())


def fill(polygons: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """The inside of the contours of one plane, (H, W) bool: one inside another is a hole, one stored twice is one."""
    from skimage.draw import polygon2mask  # here: it takes a while to import

    filled, used = np.zeros(shape, bool), []
    for area in sorted((polygon2mask(shape, points) for points in polygons), key=np.count_nonzero, reverse=True):
        pixels = np.count_nonzero(area)
        if any(np.count_nonzero(area & other) >= SAME * np.count_nonzero(area | other) for other in used):
            continue
        is_hole = np.count_nonzero(area & filled) >= INSIDE * pixels
        filled = filled & ~area if is_hole else filled | area
        used.append(area)
    return filled


def read_segments(path: Path, dataset: pydicom.Dataset, scan: Scan) -> Iterator[Part]:
    """Frames, each a slice of one segment, put where they lie."""
    lungs = choose(path, {int(s.SegmentNumber): str(s.SegmentLabel) for s in dataset.SegmentSequence})
    groups = dataset.PerFrameFunctionalGroupsSequence
    check_size(path, (len(groups), dataset.Rows, dataset.Columns))
    images = dataset.pixel_array.reshape(len(groups), dataset.Rows, dataset.Columns)
    placed = [place_frame(dataset, group) for group in groups]
    for number, name in lungs.items():
        mine = [n for n, group in enumerate(groups) if segment_of(group) in (number, None)]
        planes_mm = np.array([placed[n][0].corners_mm[0] for n in mine]).reshape(-1, 3)
        chosen, warnings = choose_planes(path, name, planes_mm, scan)
        lung = np.zeros((len(scan), *scan.frame.shape), bool)
        for z, plane in chosen.items():
            frame, orientation = placed[mine[plane]]
            check_place(path, frame, take_slices(scan.frame, [z]))
            lung[z] = to_lps(is_marked(images[mine[plane]], dataset, number), orientation)
        yield name, lung, warnings


def segment_of(group: pydicom.Dataset) -> int | None:
    """The segment of a frame; None in a label map, where one frame holds all segments."""
    if "SegmentIdentificationSequence" not in group:
        return None
    return int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def is_marked(image: np.ndarray, dataset: pydicom.Dataset, number: int) -> np.ndarray:
    """Where a frame (H, W) marks a segment: its number in a label map, more than half in one of fractions."""
    kind = dataset.get("SegmentationType", "BINARY")
    if kind == "LABELMAP":
        return image == number
    return image > (dataset.MaximumFractionalValue / 2 if kind == "FRACTIONAL" else 0)


def place_frame(dataset: pydicom.Dataset, group: pydicom.Dataset) -> tuple[Frame, np.ndarray]:
    """Where a frame lies once it is turned to LPS, and its ImageOrientationPatient."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    plane, pixels, position = (
        (group if keyword in group else shared)[keyword][0]
        for keyword in ("PlaneOrientationSequence", "PixelMeasuresSequence", "PlanePositionSequence")
    )
    orientation = np.reshape([float(c) for c in plane.ImageOrientationPatient], (2, 3))
    row_mm, col_mm = (float(mm) for mm in pixels.PixelSpacing)
    shape = (dataset.Rows, dataset.Columns)
    axes, shift = frame_to_lps(orientation.copy(), np.array([(shape[1] - 1) * col_mm, (shape[0] - 1) * row_mm]))
    if lps_flips(orientation.ravel())[0]:
        row_mm, col_mm, shape = col_mm, row_mm, shape[::-1]
    corner_mm = np.array([float(c) for c in position.ImagePositionPatient]) + shift
    slice_mm = float(pixels.get("SpacingBetweenSlices") or pixels.get("SliceThickness") or 0)
    return Frame(corner_mm[None], axes, (slice_mm, row_mm, col_mm), shape), orientation.ravel()
