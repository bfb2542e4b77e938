"""One CT scan from DICOM: headers first, pixels only when asked for, always in HU.

Every array leaves here in one orientation (LPS): slices in ascending z (feet first), rows from
anterior to posterior, columns from the patient's right to the left, however the patient lay.
Z slices, H rows, W columns.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from tqdm import tqdm

from lungct import LungError
from lungct.headers import DAMAGE, NEEDED_TAGS, Header, one_line, read_header

AXIAL_COSINE = 0.8  # a gantry tilts by up to 30 degrees; anything steeper is no axial slice
SAME_PLACE_MM = 0.01
GAP_FACTOR = 1.5  # a step this much longer than the usual one means that a slice is missing
UNEQUAL = 0.1  # of the usual step; less is rounding
MOST_VOXELS = 2**31  # 2,048 slices of 1,024 x 1,024; a file that claims more is damaged or means harm


@dataclass(frozen=True)
class Scan:
    """A CT volume whose pixels are still on disk.

    corners_mm: (Z, 3) float64, where the first pixel of each slice lies: x to the left, y to the back, z to the head
    axes:       (2, 3) float64, the directions in which columns and rows are counted
    spacing_mm: slice, row and column spacing
    shape:      rows and columns of a slice, after it is turned to LPS
    remarks:    what was odd about the files, one phrase each
    """

    patient_id: str
    series_uid: str
    files: tuple[Path, ...]
    corners_mm: np.ndarray
    axes: np.ndarray
    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int]
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.corners_mm)

    @property
    def z_mm(self) -> np.ndarray:
        """(Z,) float64, ascending."""
        return self.corners_mm[:, 2]

    def read(self, z_indices: Iterable[int] | None = None) -> np.ndarray:
        """Decode the slices asked for (all when None): (Z, H, W) int16 in HU, not clipped."""
        wanted = range(len(self)) if z_indices is None else list(z_indices)
        ct_hu = np.empty((len(wanted), *self.shape), np.int16)
        for place, z in enumerate(wanted):
            ct_hu[place] = self._read_slice(z)
        return ct_hu

    def _read_slice(self, z_index: int) -> np.ndarray:
        raise NotImplementedError


class DicomScan(Scan):
    """One file a slice."""

    def _read_slice(self, z_index: int) -> np.ndarray:
        path = self.files[z_index]
        try:
            dataset = pydicom.dcmread(path)
            hu = to_hu(stored_values(dataset), float(dataset.RescaleSlope), float(dataset.RescaleIntercept))
            hu = turn_to_lps(hu, dataset.ImageOrientationPatient)
        except DAMAGE as error:
            raise LungError(f"{path}: cannot decode the pixels ({one_line(error)})") from error
        if hu.shape != self.shape:
            raise LungError(f"{path}: {hu.shape[0]} x {hu.shape[1]} pixels, but its header says {self.shape}")
        return hu


def stored_values(dataset: pydicom.Dataset) -> np.ndarray:
    """The pixels of a slice before rescaling, (H, W).

    16-bit pixels that are not compressed are taken as they lie in the file: pydicom's decoder needs twice the time.
    """
    bare = dataset.file_meta.TransferSyntaxUID in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    layout = dataset.get("BitsAllocated"), dataset.get("SamplesPerPixel"), dataset.get("NumberOfFrames") or 1
    size = dataset.Rows * dataset.Columns
    if not bare or layout != (16, 1, 1) or len(dataset.PixelData) < 2 * size:
        return dataset.pixel_array
    kind = "<i2" if dataset.PixelRepresentation else "<u2"
    return np.frombuffer(dataset.PixelData, kind, size).reshape(dataset.Rows, dataset.Columns)


def to_hu(pixels: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Stored values to int16 HU, without a detour through float where slope and intercept allow."""
    if slope == 1 and intercept == int(intercept) and pixels.dtype.kind in "iu":
        ends = int(pixels.min()) + int(intercept), int(pixels.max()) + int(intercept)
        if fits_int16(*ends, intercept):
            return pixels.astype(np.int16) + np.int16(intercept)  # what overflows on the way comes back
        hu = np.add(pixels, int(intercept), dtype=np.int64)
    else:
        hu = np.rint(pixels * slope + intercept)
    return np.clip(hu, -32768, 32767).astype(np.int16)


def fits_int16(*values: float) -> bool:
    return all(-32768 <= value <= 32767 for value in values)


def turns(orientation: Iterable[float]) -> tuple[bool, bool, bool]:
    """What brings an axial slice of some ImageOrientationPatient to LPS, in this order.

    (rows and columns change places, columns are counted from the other end, rows are counted from the other end)
    """
    along_row, along_col = np.reshape([float(c) for c in orientation], (2, 3))
    swapped = bool(abs(along_row[1]) > abs(along_row[0]))
    if swapped:
        along_row, along_col = along_col, along_row
    return swapped, bool(along_row[0] < 0), bool(along_col[1] < 0)


def turn_to_lps(image: np.ndarray, orientation: Iterable[float]) -> np.ndarray:
    """Turn an axial slice by its ImageOrientationPatient so that rows go to the back, columns to the left.

    image (H, W); a prone or lateral patient comes out as if supine to the reader.
    """
    swapped, mirrored, upturned = turns(orientation)
    image = image.T if swapped else image
    image = image[:, ::-1] if mirrored else image
    return image[::-1] if upturned else image


def turn_back(image: np.ndarray, orientation: Iterable[float]) -> np.ndarray:
    """Undo `turn_to_lps`: a slice (H, W) as its file has it."""
    swapped, mirrored, upturned = turns(orientation)
    image = image[::-1] if upturned else image
    image = image[:, ::-1] if mirrored else image
    return image.T if swapped else image


def turn_frame(orientation: np.ndarray, span_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `turn_to_lps` does to the frame of a slice: (axes afterwards (2, 3), shift of its first pixel (3,)).

    orientation: (2, 3), along a row and down a column; span_mm: (2,) from the first to the last pixel of each
    """
    swapped, *counted_back = turns(orientation.ravel())
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
    except DAMAGE as error:
        raise LungError(f"{files[0][0].parent}: a header holds no usable numbers ({one_line(error)})") from error


def _open_series(files: list[tuple[Path, Header]]) -> DicomScan:
    for path, header in files:
        if header.whole("NumberOfFrames") > 1:
            raise LungError(f"{path}: a multi-frame file; split it into one file a slice first")
        missing = [tag for tag in NEEDED_TAGS if not header.text(tag)]
        if missing:
            raise LungError(f"{path}: no {', '.join(missing)} in the header")
    remarks: list[str] = []
    files = _keep_commonest_shape(files, remarks)
    first = files[0][1]
    rows, cols = first.whole("Rows"), first.whole("Columns")
    check_size(files[0][0], (len(files), rows, cols))
    files = _keep_one_per_position(files, remarks)
    first = files[0][1]
    orientation = first.numbers("ImageOrientationPatient")
    along_row, along_col = np.reshape(orientation, (2, 3))
    if abs(np.cross(along_row, along_col)[2]) < AXIAL_COSINE:
        raise LungError(f"{files[0][0].parent}: the slices are not axial; export an axial series")
    corners_mm = np.array([header.numbers("ImagePositionPatient") for _, header in files])
    z_mm = corners_mm[:, 2]
    row_mm, col_mm = first.numbers("PixelSpacing")
    span_mm = np.array([(cols - 1) * col_mm, (rows - 1) * row_mm])
    axes, shift = turn_frame(np.stack([along_row, along_col]), span_mm)
    shape = (rows, cols)
    if turns(orientation)[0]:
        row_mm, col_mm, shape = col_mm, row_mm, shape[::-1]
    slice_mm = float(np.median(np.diff(z_mm))) if len(z_mm) > 1 else float(first.text("SliceThickness") or 1.0)
    gaps = len(contiguous_runs(z_mm)) - 1
    if gaps:
        remarks.append(f"slices missing in {gaps} place{'s' * (gaps > 1)}")
    steps = np.diff(z_mm)
    if len(steps) and not gaps and np.ptp(steps) > UNEQUAL * slice_mm:
        remarks.append(f"unequal steps between slices, {steps.min():.2f} to {steps.max():.2f} mm")
    return DicomScan(
        patient_id=first.text("PatientID").strip() or "unknown",
        series_uid=first.text("SeriesInstanceUID"),
        files=tuple(path for path, _ in files),
        corners_mm=corners_mm + shift,
        axes=axes,
        spacing_mm=(slice_mm, row_mm, col_mm),
        shape=shape,
        remarks=tuple(remarks),
    )


def check_size(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse what no scan can be, before memory is asked for it. Raises LungError."""
    if math.prod(shape) > MOST_VOXELS:
        raise LungError(f"{path}: {' x '.join(map(str, shape))} voxels are no scan; is the file damaged?")


def _z_mm(header: Header) -> float:
    return header.numbers("ImagePositionPatient")[2]


def _geometry(header: Header) -> tuple:
    orientation = tuple(round(c, 3) for c in header.numbers("ImageOrientationPatient"))
    return header.text("Rows"), header.text("Columns"), orientation


def _keep_commonest_shape(files: list, remarks: list[str]) -> list:
    """Drop the odd scout or reformat that shares the series UID."""
    commonest, count = Counter(_geometry(h) for _, h in files).most_common(1)[0]
    if count < len(files):
        remarks.append(f"{len(files) - count} slices of another size or direction left out")
    return [(p, h) for p, h in files if _geometry(h) == commonest]


def _keep_one_per_position(files: list, remarks: list[str]) -> list:
    """Sort by z; of slices at one place keep the lowest InstanceNumber, as pylidc does."""
    ordered = sorted(files, key=lambda f: (_z_mm(f[1]), f[1].whole("InstanceNumber"), f[0].name))
    kept: list = []
    for path, header in ordered:
        if not kept or _z_mm(header) - _z_mm(kept[-1][1]) > SAME_PLACE_MM:
            kept.append((path, header))
    if len(kept) < len(files):
        remarks.append(f"{len(files) - len(kept)} slices at a place already taken left out")
    return kept
