"""One CT scan from DICOM: headers first, pixels only when asked for, always in HU.

Every array leaves here in one orientation (LPS): slices in ascending z (feet first), rows from
anterior to posterior, columns from the patient's right to the left, however the patient lay.
Z slices, H rows, W columns.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lungct import LungError
from lungct.files import files_below
from lungct.parallel import count
from lungct.scans.geometry import (
    AXIAL_COSINE,
    SAME_PLACE_MM,
    SLICE_LIMITS_MM,
    Frame,
    Scan,
    axis_codes,
    check_size,
    check_spacing,
    frame_to_lps,
    frame_warnings,
    lps_flips,
    normal_of,
    to_lps,
)
from lungct.scans.headers import DECODE_ERRORS, Header, first_line, padding_of, read_dataset, read_header
from lungct.scans.hu import lower_padding, to_hu
from lungct.scans.multiframe import FRAME, decode_frames, is_enhanced, read_frame_headers
from lungct.scans.series import (
    SeriesKey,
    Slices,
    key_of,
    missing_tags,
    never_a_scan,
    place_of,
    second_choice,
    split_series,
    tell_difference,
    z_of,
)

REFERS = "a DICOM segmentation refers to the DICOM files of its scan"  # and so does a structure set
SINGLE_SLICE_MM = 5.0  # of a slice that does not say how thick it is


@dataclass(frozen=True)
class DicomScan(Scan):
    """A file a slice, or a frame of a file.

    files:  of each slice; the same one for all where it holds them all
    part:   tells scans of one series UID apart, empty for the one to use first
    frames: of each slice, its place in its file; empty where a file is a slice
    """

    study_uid: str = ""
    part: str = ""
    frames: tuple[int, ...] = ()

    def _read_slice(self, z_index: int) -> np.ndarray:
        path = self.files[z_index]
        try:
            if self.frames:
                stored, headers, padding = decode_frames(path, path.stat().st_mtime_ns)
                header, pixels = headers[self.frames[z_index]], stored[self.frames[z_index]]
                (slope,), (intercept,) = header.numbers("RescaleSlope"), header.numbers("RescaleIntercept")
                orientation = header.numbers("ImageOrientationPatient")
            else:
                dataset = read_dataset(path)
                pixels, orientation = dataset.pixel_array, dataset.ImageOrientationPatient
                slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
                padding = padding_of(dataset, pixels.dtype)
            hu = to_lps(lower_padding(to_hu(pixels, slope, intercept), pixels, padding), orientation)
        except DECODE_ERRORS as error:
            raise LungError(f"{path}: cannot decode the pixels ({first_line(error)})") from error
        if hu.shape != self.frame.shape:
            raise LungError(f"{path}: {hu.shape[0]} x {hu.shape[1]} pixels, but its header says {self.frame.shape}")
        return hu


def as_dicom(scan: Scan) -> DicomScan:
    """The same scan. Raises LungError where it is no DICOM."""
    if not isinstance(scan, DicomScan):
        raise LungError(f"{REFERS}, and it is {scan.files[0].name}")
    return scan


def find_series(
    folder: Path, progress: tqdm | None = None, unreadable: list[LungError] | None = None
) -> dict[SeriesKey, Slices]:
    """The CT series below `folder`, as `sort_by_series` gives them. What cannot be read counts as a damaged header."""
    return sort_by_series(files_below(folder, unreadable), progress, unreadable)


def sort_by_series(
    paths: Iterable[Path], progress: tqdm | None = None, unreadable: list[LungError] | None = None
) -> dict[SeriesKey, Slices]:
    """The CT series that some files hold, by patient, study and series UID, each a list of (path, header).

    What is not DICOM is passed over. A damaged header raises LungError, or is noted in `unreadable` where given.
    """
    series: dict[SeriesKey, Slices] = {}
    for path in paths:
        try:
            headers = read_slices(path)
        except LungError as error:
            if unreadable is None:
                raise
            unreadable.append(error)
            continue
        if headers and progress is not None:
            progress.update()
        for header in headers:
            if header.text("Modality") == "CT":
                series.setdefault(key_of(header), []).append((path, header))
    return series


def read_slices(path: Path) -> list[Header]:
    """The header of each slice in a file, one but for enhanced CT; none where it is no DICOM. Raises LungError."""
    header = read_header(path)
    if header is None and path.suffix.lower() == ".dcm" and not path.stat().st_size:
        raise LungError(f"{path}: an empty file; get it again")
    if header is None or path.name.upper() == "DICOMDIR":  # the standard's name of a disc's table of contents
        return []
    if not header.text("Modality"):
        raise LungError(f"{path}: the header ends before it says what the file is: cut off; get it again")
    if not is_enhanced(header):
        return [header]
    try:
        return read_frame_headers(path) or [header]
    except DECODE_ERRORS as error:
        raise LungError(f"{path}: cannot read the places of its frames ({first_line(error)})") from error


def find_series_folders(patient_folder: Path, series_uid: str) -> tuple[Path, ...]:
    """The folders that hold files of one series, sorted; of most, one header is read.

    Empty where no file is of that series, such as after an interrupted download. Raises LungError where a folder cannot
    be looked into.
    """
    by_folder: dict[Path, list[Path]] = {}
    for path in files_below(patient_folder):
        by_folder.setdefault(path.parent, []).append(path)
    return tuple(
        folder for folder, paths in sorted(by_folder.items()) if series_uid in map(series_uid_of, _headers(paths))
    )


def series_uid_of(header: Header) -> str:
    return header.text("SeriesInstanceUID").strip()


def _headers(paths: list[Path]) -> Iterator[Header]:
    """Of the files that are DICOM and not damaged."""
    for path in paths:
        try:
            header = read_header(path)
        except LungError:
            continue
        if header is not None:
            yield header


def open_series(files: Slices) -> DicomScan:
    """Sort the slices of one series by position and check that they make a volume.

    Of several grids, passes or kinds of image the one with most slices is taken; warnings name the others. Raises
    LungError where a slice lacks what HU and millimetres need, or is not axial.
    """
    main, *others = find_parts(files)
    warnings = [f"{count(len(part), 'slice')} left out: {tell_difference(part, main)}" for part in others]
    return open_part(main, warnings)


def find_parts(files: Slices) -> list[Slices]:
    """`split_series`, raising LungError."""
    with _naming_the_folder(files):
        return split_series(files)


def open_part(files: Slices, warnings: Iterable[str] = (), part: str = "") -> DicomScan:
    """A scan of slices that go together, as `find_parts` gives them; `part` is the scan's. Raises LungError."""
    with _naming_the_folder(files):
        return _open_part(files, list(warnings), part)


@contextmanager
def _naming_the_folder(files: Slices) -> Iterator[None]:
    try:
        yield
    except DECODE_ERRORS as error:
        raise LungError(f"{files[0][0].parent}: a header holds no usable numbers ({first_line(error)})") from error


def _open_part(files: Slices, warnings: list[str], part: str) -> DicomScan:
    folder, first = files[0][0].parent, files[0][1]
    if never_a_scan(first):
        raise LungError(f"{folder}: {never_a_scan(first)}; export the axial series")
    for path, header in files:
        if header.integer("NumberOfFrames") > 1:
            raise LungError(f"{path}: a multi-frame file that does not say where its frames lie; export it again")
        if missing_tags(header):
            raise LungError(f"{path}: no {', '.join(missing_tags(header))} in the header")
    rows, cols = first.integer("Rows"), first.integer("Columns")
    check_size(files[0][0], (len(files), rows, cols))
    files = _keep_one_per_position(files, warnings)
    first = files[0][1]
    orientation = first.numbers("ImageOrientationPatient")
    directions = np.reshape(orientation, (2, 3))  # along a row, down a column
    if not abs(np.cross(*directions)[2]) >= AXIAL_COSINE:
        raise LungError(f"{folder}: the slices are not axial; export an axial series")
    if second_choice(first):
        warnings.append(f"{second_choice(first)}, as there is no original")
    corners_mm = np.array([place_of(header) for _, header in files])
    row_mm, col_mm = first.numbers("PixelSpacing")
    slice_mm = _slice_step(corners_mm @ normal_of(directions), first.text("SliceThickness"), warnings)
    check_spacing(folder, (slice_mm, row_mm, col_mm))
    span_mm = np.array([(cols - 1) * col_mm, (rows - 1) * row_mm])
    axes, shift = frame_to_lps(directions, span_mm)
    shape = (rows, cols)
    if lps_flips(orientation)[0]:
        row_mm, col_mm, shape = col_mm, row_mm, shape[::-1]
    key = key_of(first)
    frame = Frame(corners_mm + shift, axes, (slice_mm, row_mm, col_mm), shape, axis_codes(orientation))
    return DicomScan(
        patient_id=key.patient_id,
        series_uid=key.series_uid,
        files=tuple(path for path, _ in files),
        frame=frame,
        warnings=(*warnings, *frame_warnings(frame)),
        study_uid=key.study_uid,
        part=part,
        frames=tuple(header.integer(FRAME) for _, header in files) if first.text(FRAME) else (),
    )


def _slice_step(places_mm: np.ndarray, thickness: str, warnings: list[str]) -> float:
    """The distance of slices, by their places across them; of a single one its thickness, or what is usual."""
    if len(places_mm) > 1:
        return float(np.median(np.abs(np.diff(places_mm))))
    try:
        slice_mm = float(thickness)
    except ValueError:
        slice_mm = 0.0
    if SLICE_LIMITS_MM[0] <= slice_mm <= SLICE_LIMITS_MM[1]:
        return slice_mm
    warnings.append(f"a single slice of SliceThickness {thickness or 'unknown'}: taken as {SINGLE_SLICE_MM:g} mm thick")
    return SINGLE_SLICE_MM


def _keep_one_per_position(files: Slices, warnings: list[str]) -> Slices:
    """Sort by z; of slices at one place keep the lowest InstanceNumber, as pylidc does."""
    ordered = sorted(files, key=lambda f: (z_of(f), f[1].integer("InstanceNumber"), f[0].name))
    kept: Slices = []
    for file in ordered:
        if not kept or z_of(file) - z_of(kept[-1]) > SAME_PLACE_MM:
            kept.append(file)
    if len(kept) < len(files):
        warnings.append(f"{count(len(files) - len(kept), 'slice')} at a place already taken left out")
    return kept
