"""The folders between the steps: names, the manifest, HU as stored, and reading them back.

`<root>/ct/<scan>/<slice>.npy` and `<root>/lung/<scan>/<slice>.npy` are a pair when scan and slice are the
same; `<root>/manifest.csv` has a row for each. Steps read the manifest, never a directory listing.
"""

import csv
import math
import re
from pathlib import Path

import numpy as np

from lungct import LungError
from lungct.files import csv_bytes, read_npy, replace_file

CT_RANGE_HU = (-1024, 3071)  # as most scanners store it; padding below becomes air
HU_WINDOW = (-1024, 600)  # air to dense contrast: what a network sees by default, and the "wide" display window
OUTSIDE_LUNG_HU = -2048  # in lung slices; no CT value is so low, so lung is `!= OUTSIDE_LUNG_HU`, exactly
COLUMNS = {
    "patient_id": str,
    "scan": str,
    "series_uid": str,
    "slice_name": str,
    "z_index": int,
    "x_mm": float,  # where the slice's first pixel lies
    "y_mm": float,
    "z_mm": float,
    "axes": str,  # directions in which columns and rows are counted, six numbers
    "slice_mm": float,
    "row_mm": float,
    "col_mm": float,
    "lung_px": int,  # -1 where there is no lung slice
    "label_source": str,
    "selection": str,  # which slices were asked for; another wish makes the scan again
}
SCAN_NAME = 60  # longest name of a scan: its slices' names are longer, and must fit, too
RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # no file names on Windows


def safe_name(text: str, most: int = 80) -> str:
    """A folder or file name out of a DICOM header field: letters, digits, `.`, `_` and `-`, `most` of them."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._")[:most] or "unknown"
    return f"_{name}" if RESERVED.fullmatch(name) else name


def slice_name(scan: str, z_index: int) -> str:
    """LIDC-IDRI-0001, 7 -> 0001_slice007."""
    return f"{scan.removeprefix('LIDC-IDRI-')}_slice{z_index:03d}"


def middle_indices(total: int, wanted: int) -> range:
    """The middle `wanted` of `total` slices, all where there are fewer."""
    start = max(0, (total - wanted) // 2)
    return range(start, min(total, start + wanted))


def clip_ct(ct_hu: np.ndarray) -> np.ndarray:
    """CT as stored: int16 within CT_RANGE_HU."""
    return np.clip(ct_hu, *CT_RANGE_HU).astype(np.int16)


def lung_image(ct_hu: np.ndarray, lung: np.ndarray) -> np.ndarray:
    """HU inside the lung, OUTSIDE_LUNG_HU elsewhere (int16); not binarised."""
    return np.where(lung, clip_ct(ct_hu), np.int16(OUTSIDE_LUNG_HU))


def is_lung(image: np.ndarray) -> np.ndarray:
    """The binary mask of a lung image."""
    return image != OUTSIDE_LUNG_HU


def manifest_path(ct_root: Path) -> Path:
    """The manifest that belongs to a folder of CT slices."""
    return ct_root.parent / "manifest.csv"


def lung_root(ct_root: Path) -> Path:
    """The folder of lung slices beside a folder of test CT slices."""
    return ct_root.parent / "lung"


def write_manifest(path: Path, rows: list[dict]) -> None:
    """All rows, sorted by scan and slice, so that the file does not depend on who finished first."""
    replace_file(path, csv_bytes(sorted(rows, key=lambda r: (r["scan"], r["z_index"])), COLUMNS))


def read_manifest(path: Path, next_step: str = "python prepare_lung_image.py") -> list[dict]:
    """Typed rows of a manifest. Raises LungError where it is missing or not ours."""
    if not path.is_file():
        raise LungError(f"no {path}; run first: {next_step}")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != list(COLUMNS):
                raise LungError(f"{path}: columns are not those of this version; make it again: {next_step}")
            return [{key: kind(row[key]) for key, kind in COLUMNS.items()} for row in reader]
    except (ValueError, TypeError, csv.Error) as error:
        raise LungError(f"{path}: damaged ({error}); make it again: {next_step}") from error


def by_scan(rows: list[dict]) -> dict[str, list[dict]]:
    """The rows of each scan in ascending z."""
    scans: dict[str, list[dict]] = {}
    for row in sorted(rows, key=lambda r: (r["scan"], r["z_index"])):
        scans.setdefault(row["scan"], []).append(row)
    return scans


def slice_path(root: Path, row: dict) -> Path:
    """Where the slice of a manifest row lies below a `ct` or `lung` folder."""
    return root / safe_name(row["scan"]) / f"{safe_name(row['slice_name'])}.npy"


def read_stack(root: Path, rows: list[dict]) -> np.ndarray:
    """The slices of some rows of one scan: (Z, H, W). Raises LungError where they do not go together."""
    first = read_npy(slice_path(root, rows[0]))
    stack = np.empty((len(rows), *first.shape), first.dtype)
    for place, row in zip(stack, rows, strict=True):
        image = read_npy(slice_path(root, row))
        if image.ndim != 2 or image.shape != first.shape or image.dtype != first.dtype:
            raise LungError(
                f"{slice_path(root, row)}: {image.dtype} {image.shape}, its neighbours {first.dtype} {first.shape}"
            )
        place[:] = image
    return stack


def spacing_mm(row: dict) -> tuple[float, float, float]:
    """Slice, row and column spacing of a manifest row."""
    return row["slice_mm"], row["row_mm"], row["col_mm"]


def pixel_mm(spacing: tuple[float, ...]) -> float:
    """Side of the square that is as large as a pixel."""
    return math.sqrt(spacing[-2] * spacing[-1])
