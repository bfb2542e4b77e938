"""One CT scan from DICOM: headers first, pixels only when asked for, always in HU.

Every array leaves here in one orientation (LPS): slices in ascending z (feet first), rows from
anterior to posterior, columns from the patient's right to the left, however the patient lay.
Z slices, H rows, W columns.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
from tqdm import tqdm

from lungct import LungError
from lungct.scans.geometry import (
    AXIAL_COSINE,
    SAME_PLACE_MM,
    Frame,
    Scan,
    axis_codes,
    check_size,
    contiguous_runs,
    frame_to_lps,
    lps_flips,
    to_lps,
)
from lungct.scans.headers import DECODE_ERRORS, NEEDED_TAGS, Header, first_line, read_header
from lungct.scans.hu import stored_values, to_hu

UNEQUAL = 0.1  # of the usual step; less is rounding


class DicomScan(Scan):
    """One file a slice."""

    def _read_slice(self, z_index: int) -> np.ndarray:
        path = self.files[z_index]
        try:
            dataset = pydicom.dcmread(path)
            hu = to_hu(stored_values(dataset), float(dataset.RescaleSlope), float(dataset.RescaleIntercept))
            hu = to_lps(hu, dataset.ImageOrientationPatient)
        except DECODE_ERRORS as error:
            raise LungError(f"{path}: cannot decode the pixels ({first_line(error)})") from error
        if hu.shape != self.frame.shape:
            raise LungError(f"{path}: {hu.shape[0]} x {hu.shape[1]} pixels, but its header says {self.frame.shape}")
        return hu


def is_ct_slice(header: Header) -> bool:
    """CT with a place in space: no X-ray, segmentation, report or localiser."""
    return header.text("Modality") == "CT" and "LOCALIZER" not in header.text("ImageType").split("\\")


def find_series(
    folder: Path, progress: tqdm | None = None, unreadable: list[LungError] | None = None
) -> dict[str, list[tuple[Path, Header]]]:
    """The CT series below `folder` by SeriesInstanceUID, each a list of (path, header).

    What is not DICOM is passed over. A damaged header raises LungError, or is noted in `unreadable` where given.
    """
    series: dict[str, list] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            header = read_header(path)
        except LungError as error:
            if unreadable is None:
                raise
            unreadable.append(error)
            continue
        if header is None:
            continue
        if progress is not None:
            progress.update()
        if is_ct_slice(header):
            series.setdefault(header.text("SeriesInstanceUID"), []).append((path, header))
    return series


def find_series_folder(patient_folder: Path, study_uid: str, series_uid: str) -> Path | None:
    """The folder of one series: the old LIDC layout by name, any other by one header a folder."""
    by_name = patient_folder / study_uid / series_uid
    if by_name.is_dir():
        return by_name
    folders = sorted({p.parent for p in patient_folder.rglob("*") if p.is_file()})
    for folder in folders:
        for path in sorted(p for p in folder.iterdir() if p.is_file()):
            header = read_header(path)
            if header is None:
                continue
            if header.text("SeriesInstanceUID").strip() == series_uid:
                return folder
            break
    return None


def open_series(files: list[tuple[Path, Header]]) -> DicomScan:
    """Sort the slices of one series by position and check that they make a volume.

    Raises LungError where a slice lacks what HU and millimetres need, or is not axial.
    """
    try:
        return _open_series(files)
    except DECODE_ERRORS as error:
        raise LungError(f"{files[0][0].parent}: a header holds no usable numbers ({first_line(error)})") from error


def _open_series(files: list[tuple[Path, Header]]) -> DicomScan:
    for path, header in files:
        if header.integer("NumberOfFrames") > 1:
            raise LungError(f"{path}: a multi-frame file; split it into one file a slice first")
        missing = [tag for tag in NEEDED_TAGS if not header.text(tag)]
        if missing:
            raise LungError(f"{path}: no {', '.join(missing)} in the header")
    warnings: list[str] = []
    files = _keep_commonest_shape(files, warnings)
    first = files[0][1]
    rows, cols = first.integer("Rows"), first.integer("Columns")
    check_size(files[0][0], (len(files), rows, cols))
    files = _keep_one_per_position(files, warnings)
    first = files[0][1]
    orientation = first.numbers("ImageOrientationPatient")
    along_row, along_col = np.reshape(orientation, (2, 3))
    if abs(np.cross(along_row, along_col)[2]) < AXIAL_COSINE:
        raise LungError(f"{files[0][0].parent}: the slices are not axial; export an axial series")
    corners_mm = np.array([header.numbers("ImagePositionPatient") for _, header in files])
    z_mm = corners_mm[:, 2]
    row_mm, col_mm = first.numbers("PixelSpacing")
    span_mm = np.array([(cols - 1) * col_mm, (rows - 1) * row_mm])
    axes, shift = frame_to_lps(np.stack([along_row, along_col]), span_mm)
    shape = (rows, cols)
    if lps_flips(orientation)[0]:
        row_mm, col_mm, shape = col_mm, row_mm, shape[::-1]
    slice_mm = float(np.median(np.diff(z_mm))) if len(z_mm) > 1 else float(first.text("SliceThickness") or 1.0)
    gaps = len(contiguous_runs(z_mm)) - 1
    if gaps:
        warnings.append(f"slices missing in {gaps} place{'s' * (gaps > 1)}")
    steps = np.diff(z_mm)
    if len(steps) and not gaps and np.ptp(steps) > UNEQUAL * slice_mm:
        warnings.append(f"unequal steps between slices, {steps.min():.2f} to {steps.max():.2f} mm")
    return DicomScan(
        patient_id=first.text("PatientID").strip() or "unknown",
        series_uid=first.text("SeriesInstanceUID"),
        files=tuple(path for path, _ in files),
        frame=Frame(corners_mm + shift, axes, (slice_mm, row_mm, col_mm), shape, axis_codes(orientation)),
        warnings=tuple(warnings),
    )


def _z_mm(header: Header) -> float:
    return header.numbers("ImagePositionPatient")[2]


def _geometry(header: Header) -> tuple:
    orientation = tuple(round(c, 3) for c in header.numbers("ImageOrientationPatient"))
    return header.text("Rows"), header.text("Columns"), orientation


def _keep_commonest_shape(files: list, warnings: list[str]) -> list:
    """Drop the odd scout or reformat that shares the series UID."""
    commonest, count = Counter(_geometry(h) for _, h in files).most_common(1)[0]
    if count < len(files):
        warnings.append(f"{len(files) - count} slices of another size or direction left out")
    return [(p, h) for p, h in files if _geometry(h) == commonest]


def _keep_one_per_position(files: list, warnings: list[str]) -> list:
    """Sort by z; of slices at one place keep the lowest InstanceNumber, as pylidc does."""
    ordered = sorted(files, key=lambda f: (_z_mm(f[1]), f[1].integer("InstanceNumber"), f[0].name))
    kept: list = []
    for path, header in ordered:
        if not kept or _z_mm(header) - _z_mm(kept[-1][1]) > SAME_PLACE_MM:
            kept.append((path, header))
    if len(kept) < len(files):
        warnings.append(f"{len(files) - len(kept)} slices at a place already taken left out")
    return kept
