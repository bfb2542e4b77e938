"""Lungs that someone drew and stored as DICOM: segmentations (SEG) and radiotherapy structures (RTSTRUCT).

They say themselves which series they belong to and where in space they lie. Z slices, H rows, W columns.
"""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from lungct import LungError
from lungct.scans.geometry import Scan, check_size, frame_to_lps, to_lps
from lungct.scans.headers import DECODE_ERRORS, first_line

LUNG = re.compile(r"(?i)lung|pulmo")
PART = re.compile(r"(?i)nodul|neoplas|tumou?r|mass|lesion|cancer|vessel|airway|gtv|ctv|ptv")  # in a lung, not the lung
MAX_OFF_PX = 0.5  # in its plane, between where a mask lies and where its scan does


def is_lung_name(name: str) -> bool:
    """Whether a segment or structure is a lung: Lung_L, Left Lung, Lungs; not Lung nodule."""
    return bool(LUNG.search(name)) and not PART.search(name)


@cache
def index_folder(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The SEG and RTSTRUCT files below a folder, by the UID of the series that they belong to."""
    found: dict[str, tuple[Path, ...]] = {}
    for path in sorted(folder.rglob("*.dcm")):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
            uid = str(referenced_series(header))
        except (InvalidDicomError, *DECODE_ERRORS):  # another object, or none: what is not found is told by scan
            continue
        found[uid] = (*found.get(uid, ()), path)
    return found


def referenced_series(header: pydicom.Dataset) -> str:
    """The series that a SEG or RTSTRUCT belongs to. Raises LookupError for any other object."""
    if header.SOPClassUID == SegmentationStorage:
        return header.ReferencedSeriesSequence[0].SeriesInstanceUID
    if header.SOPClassUID == RTStructureSetStorage:
        study = header.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
        return study.RTReferencedSeriesSequence[0].SeriesInstanceUID
    raise LookupError("neither SEG nor RTSTRUCT")


def read_dicom_label(path: Path, scan: Scan) -> np.ndarray:
    """The lungs of a SEG or RTSTRUCT on the slices of its scan, (Z, H, W) bool.

    Raises LungError where it names no lung, lies elsewhere, or is damaged.
    """
    try:
        dataset = pydicom.dcmread(path)
        read = read_segments if dataset.SOPClassUID == SegmentationStorage else read_structures
        return read(path, dataset, scan)
    except (InvalidDicomError, *DECODE_ERRORS) as error:
        raise LungError(f"{path}: no readable lungs ({first_line(error)})") from error


def choose(path: Path, names: dict[int, str]) -> set[int]:
    """The numbers of those that are lungs. Raises LungError that lists what there is instead."""
    chosen = {number for number, name in names.items() if is_lung_name(name)}
    if not chosen:
        raise LungError(f"{path}: no lung among {', '.join(names.values()) or 'no names at all'}")
    return chosen


def nearest_slice(path: Path, z_mm: float, scan: Scan) -> int:
    """The slice of a scan at a height. Raises LungError where there is none."""
    nearest = int(np.abs(scan.frame.z_mm - z_mm).argmin())
    if abs(scan.frame.z_mm[nearest] - z_mm) > scan.frame.spacing_mm[0] / 2:
        raise LungError(f"{path}: a contour at z = {z_mm:.1f} mm, where the scan has no slice")
    return nearest


def to_pixels(points_mm: np.ndarray, z_index: int, scan: Scan) -> np.ndarray:
    """Places (N, 3) in mm as (row, column) of a slice, (N, 2)."""
    away = points_mm - scan.frame.corners_mm[z_index]
    return np.stack(
        [away @ scan.frame.axes[1] / scan.frame.spacing_mm[1], away @ scan.frame.axes[0] / scan.frame.spacing_mm[2]], 1
    )


def read_structures(path: Path, dataset: pydicom.Dataset, scan: Scan) -> np.ndarray:
    """Closed contours in mm, filled; a contour inside another one is a hole."""
    from skimage.draw import polygon2mask  # here: it takes a while to import

    lungs = choose(path, {int(roi.ROINumber): str(roi.ROIName) for roi in dataset.StructureSetROISequence})
    lung = np.zeros((len(scan), *scan.frame.shape), bool)
    for roi in dataset.ROIContourSequence:
        if int(roi.ReferencedROINumber) not in lungs:
            continue
        one = np.zeros_like(lung)
        for contour in roi.get("ContourSequence", []):
            points_mm = np.array(contour.ContourData, float).reshape(-1, 3)
            z = nearest_slice(path, float(points_mm[:, 2].mean()), scan)
            one[z] ^= polygon2mask(scan.frame.shape, to_pixels(points_mm, z, scan))
        lung |= one
    return lung


def read_segments(path: Path, dataset: pydicom.Dataset, scan: Scan) -> np.ndarray:
    """Frames, each a slice of one segment, put where they lie."""
    lungs = choose(path, {int(s.SegmentNumber): str(s.SegmentLabel) for s in dataset.SegmentSequence})
    groups = dataset.PerFrameFunctionalGroupsSequence
    check_size(path, (len(groups), dataset.Rows, dataset.Columns))
    frames = dataset.pixel_array.reshape(len(groups), dataset.Rows, dataset.Columns)
    lung = np.zeros((len(scan), *scan.frame.shape), bool)
    for frame, group in zip(frames, groups, strict=True):
        if int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber) not in lungs:
            continue
        shared = dataset.SharedFunctionalGroupsSequence[0]
        plane = (group if "PlaneOrientationSequence" in group else shared).PlaneOrientationSequence[0]
        pixels = (group if "PixelMeasuresSequence" in group else shared).PixelMeasuresSequence[0]
        orientation = np.reshape([float(c) for c in plane.ImageOrientationPatient], (2, 3))
        row_mm, col_mm = (float(mm) for mm in pixels.PixelSpacing)
        span_mm = np.array([(dataset.Columns - 1) * col_mm, (dataset.Rows - 1) * row_mm])
        _, shift = frame_to_lps(orientation, span_mm)
        corner = np.array([float(c) for c in group.PlanePositionSequence[0].ImagePositionPatient]) + shift
        z = nearest_slice(path, corner[2], scan)
        image = to_lps(frame, orientation.ravel())
        if image.shape != scan.frame.shape or np.abs(to_pixels(corner[None], z, scan)).max() > MAX_OFF_PX:
            raise LungError(f"{path}: its frames do not lie on the slices of the scan")
        lung[z] |= image > 0
    return lung
