"""The folders between the steps: names, the manifest, HU as stored.

`<root>/ct/<scan>/<slice>.npy` and `<root>/lung/<scan>/<slice>.npy` are a pair when scan and slice are the
same; `<root>/manifest.csv` has a row for each. Steps read the manifest, never a directory listing. Its checksums tell
whether rows and slices (`slice_files.py`) are still as steps 2 and 4 wrote them.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from lungct import LungError
from lungct.code_hash import SLICE_CODE
from lungct.files import fingerprint, read_table, replace_file, short_hash, table_bytes
from lungct.parallel import count, some_of

CT_RANGE_HU = (-1024, 3071)  # as most scanners store it; padding below becomes air
HU_WINDOW = (-1024, 600)  # air to dense contrast: what a network sees by default, and the "wide" display window
OUTSIDE_LUNG_HU = -2048  # in lung slices; no CT value is so low, so lung is `!= OUTSIDE_LUNG_HU`, exactly
RIGHT, LEFT = 1, 2  # values of a mask that tells the patient's right lung from the left one
STEP_2, STEP_4 = "python prepare_lung_image.py", "python prepare_lung_image.py --test"  # that write the slices
MAX_SCAN_NAME = 60  # longest name of a scan: its slices' names are longer, and must fit, too
DICOM_UID = re.compile(r"\d+(\.\d+)+")  # of a series; a volume without one is named after its file
RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # no file names on Windows


@dataclass(frozen=True)
class SliceRow:
    """One slice of a scan: a row of slices.csv beside a prediction, and the first columns of manifest.csv.

    x_mm, y_mm, z_mm: where its first pixel lies (LPS)
    axes:             directions along a row and down a column, six numbers
    source_axes, nifti_forms: how the slices lay in their file, as `Frame` says it
    lung_px:          -1 where there is no lung slice
    selection:        which slices of the scan were asked for
    source:           the folder or file that the scan came from, as seen from the manifest
    fingerprint:      of that input, the label, the options and the code: another one means that the scan is made again
    """

    patient_id: str
    scan: str
    series_uid: str
    slice_name: str
    z_index: int
    x_mm: float
    y_mm: float
    z_mm: float
    axes: str
    source_axes: str
    nifti_forms: str
    rows: int
    columns: int
    slice_mm: float
    row_mm: float
    col_mm: float
    lung_px: int
    label_source: str
    selection: str
    source: str
    fingerprint: str

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Slice, row and column spacing."""
        return self.slice_mm, self.row_mm, self.col_mm

    @property
    def has_label(self) -> bool:
        """Whether there is a lung slice beside the CT slice."""
        return self.lung_px >= 0


@dataclass(frozen=True)
class StoredSlice(SliceRow):
    """A row of manifest.csv: a slice in the folders between the steps, and what tells whether it was changed since.

    code:          the `SLICE_CODE` that it was made by
    warnings:      what was unusual about the scan, semicolons between them
    ct_checksum:   of the CT slice, by `array_checksum`
    lung_checksum: of the lung slice; empty where there is none
    scan_checksum: of all rows of its scan, without this column and the next; `write_manifest` fills both in
    scans:         how many scans the manifest lists, so that one whose rows are all gone is noticed
    """

    code: str
    warnings: str
    ct_checksum: str
    lung_checksum: str
    scan_checksum: str = ""
    scans: int = 0


Row = TypeVar("Row", bound=SliceRow)


def safe_name(text: str, most: int = 80) -> str:
    """A folder or file name out of a DICOM header field: letters, digits, `.`, `_` and `-`, `most` of them.

    Two texts never have one name: where letters are replaced or cut off, a hash of the text follows.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._") or "unknown"
    if name == text and len(name) <= most and not RESERVED.fullmatch(name):
        return name
    if RESERVED.fullmatch(name):
        name = name.replace(".", "_")
    suffix = f"-{short_hash(text)}"
    return name[: most - len(suffix)] + suffix


def slice_name(scan: str, z_index: int) -> str:
    """LIDC-IDRI-0001, 7 -> 0001_slice007."""
    return f"{scan.removeprefix('LIDC-IDRI-')}_slice{z_index:03d}"


def slice_order(name: str) -> tuple[str, int]:
    """Sorts the names of slices by their number, also where it has more than three digits."""
    scan, _, number = name.rpartition("_slice")
    return (scan, int(number)) if number.isdigit() else (name, 0)


def middle_indices(total: int, wanted: int) -> range:
    """The middle `wanted` of `total` slices, all where there are fewer."""
    start = max(0, (total - wanted) // 2)
    return range(start, min(total, start + wanted))


def clip_ct(ct_hu: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """CT as stored: int16 within CT_RANGE_HU; out: int16, takes the result, and may be ct_hu itself."""
    return np.clip(ct_hu, *CT_RANGE_HU, out=out).astype(np.int16, copy=False)


def slice_pixels(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask (Z, H, W) in each slice, (Z,); many times quicker than NumPy's count along axes."""
    return np.array([np.count_nonzero(slice_) for slice_ in mask])


def lung_image(ct_hu: np.ndarray, lung: np.ndarray) -> np.ndarray:
    """HU inside the lung, OUTSIDE_LUNG_HU elsewhere (int16); not binarised."""
    return np.where(lung, clip_ct(ct_hu), np.int16(OUTSIDE_LUNG_HU))


def is_lung(image: np.ndarray) -> np.ndarray:
    """The binary mask of a lung image."""
    return image != OUTSIDE_LUNG_HU


def manifest_path(ct_root: Path) -> Path:
    """The manifest that belongs to a folder of CT slices."""
    return ct_root.parent / "manifest.csv"


def unfinished_path(manifest: Path) -> Path:
    """A file that is there from before steps 2 and 4 change slices until the manifest lists all of them."""
    return manifest.with_name(".unfinished")


def lung_root(ct_root: Path) -> Path:
    """The folder of lung slices beside a folder of test CT slices."""
    return ct_root.parent / "lung"


def check_folders(ct_root: Path, lung_folder: Path, test_ct_root: Path) -> None:
    """Raises LungError where the folders of the settings would overwrite each other's slices or manifests."""
    if manifest_path(ct_root).resolve() == manifest_path(test_ct_root).resolve():
        raise LungError(
            f"Lung_CT_PATH = {ct_root} and Lung_CT_TEST_PATH = {test_ct_root} lie in one folder and would overwrite "
            "each other; put them in two, as mydata/Image/ct and mydata/Image_test/ct"
        )
    if ct_root.resolve() == lung_folder.resolve():
        raise LungError(f"Lung_CT_PATH and Lung_IMAGE_PATH are both {ct_root}; put them in two folders")


def rows_checksum(rows: list[StoredSlice]) -> str:
    """Of all that the rows of one scan say, as text: numbers are read back with all their digits."""
    names = [field.name for field in fields(StoredSlice) if field.name not in ("scan_checksum", "scans")]
    return fingerprint([[str(getattr(row, name)) for name in names] for row in rows])


def write_manifest(path: Path, rows: Iterable[StoredSlice]) -> None:
    """All rows, sorted by scan and slice, so that the file does not depend on which scan was ready first."""
    scans = [(scan, rows_checksum(scan)) for scan in by_scan(rows).values()]
    sealed = (replace(row, scan_checksum=checksum, scans=len(scans)) for scan, checksum in scans for row in scan)
    replace_file(path, table_bytes(sealed, StoredSlice))


def read_scans(path: Path) -> tuple[dict[str, list[StoredSlice]], list[str]]:
    """(The rows of each scan of a manifest as they were written, the scans whose rows were changed since).

    Raises LungError where the file is damaged or of another version.
    """
    scans = by_scan(read_table(path, StoredSlice))
    changed = [name for name, rows in scans.items() if {row.scan_checksum for row in rows} != {rows_checksum(rows)}]
    return {name: rows for name, rows in scans.items() if name not in changed}, changed


def read_done(path: Path) -> dict[str, list[StoredSlice]]:
    """The rows of each scan that an earlier command left; says so where some cannot be used."""
    try:
        scans, changed = read_scans(path) if path.is_file() else ({}, [])
    except LungError as error:
        print(f"{error}; every scan is prepared again")
        return {}
    if changed:
        print(f"{path}: rows of {some_of(changed)} were changed afterwards; not used")
    return scans


def read_manifest(path: Path, next_step: str = STEP_2) -> list[StoredSlice]:
    """The rows of a manifest, sorted by scan and slice.

    Raises LungError where it is missing, damaged, of another version, was changed since it was written, or does not
    list all scans, since rows were removed, or the step that writes it was stopped, or is at work.
    """
    if not path.is_file():
        raise LungError(f"no {path}; run first: {next_step}")
    if unfinished_path(path).exists():
        raise LungError(f"{path} lacks scans: prepare_lung_image.py was stopped, or is at work; run again: {next_step}")
    try:
        scans, changed = read_scans(path)
    except LungError as error:
        raise LungError(f"{error}; make it again: {next_step}") from error
    if changed:
        raise LungError(f"{path}: rows of {some_of(changed)} were changed afterwards; make it again: {next_step}")
    if not scans:
        raise LungError(f"{path} lists no slices; make it again: {next_step}")
    all_rows = [row for rows in scans.values() for row in rows]
    written = {row.scans for row in all_rows}
    if len(written) > 1:
        raise LungError(f"{path}: rows were changed afterwards (column scans); make it again: {next_step}")
    if written != {len(scans)}:
        listed = count(len(scans), "scan")
        raise LungError(f"{path} lists {listed}, but was written with {written.pop()}; make it again: {next_step}")
    return all_rows


def print_other_code(rows: Iterable[StoredSlice], ct_root: Path, next_step: str = STEP_2) -> None:
    """A warning where slices were made by other code than this: their HU or labels may be others today."""
    others = sorted({row.scan for row in rows if row.code != SLICE_CODE})
    if others:
        print(
            f"warning: {ct_root}: slices of {count(len(others), 'scan')} were prepared by other code than this: "
            f"{some_of(others)}; to make them again: {next_step}"
        )


def scan_order(row: SliceRow) -> tuple[str, int]:
    """Sorts rows by scan, then from feet to head."""
    return row.scan, row.z_index


def by_scan(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each scan in ascending z."""
    scans: dict[str, list[Row]] = {}
    for row in sorted(rows, key=scan_order):
        scans.setdefault(row.scan, []).append(row)
    return scans


def slice_path(root: Path, row: SliceRow) -> Path:
    """Where a slice lies below a `ct` or `lung` folder."""
    return root / safe_name(row.scan) / f"{safe_name(row.slice_name)}.npy"


def pixel_mm(spacing: tuple[float, ...]) -> float:
    """Side of the square that is as large as a pixel."""
    return math.sqrt(spacing[-2] * spacing[-1])
