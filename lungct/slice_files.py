"""The slices between the steps as files: written with a checksum each, and checked whenever they are read.

The same names belong to other pixels once a scan or its labels are made again; the checksums in the rows of the
manifest tell which ones are meant. H rows, W columns, Z slices.
"""

import itertools
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np

from lungct import LungError
from lungct.files import array_checksum, npy_bytes, read_npy, replace_folder
from lungct.slices import STEP_2, SliceRow, StoredSlice, clip_ct, lung_image, safe_name, slice_path

Kind = Literal["ct", "lung"]


def write_scan(
    rows: list[SliceRow],
    ct_hu: np.ndarray,
    lung: np.ndarray | None,
    ct_root: Path,
    lung_root: Path | None,
    code: str,
    warnings: Iterable[str] = (),
) -> list[StoredSlice]:
    """Write the slices of one scan, and nothing else, into its folders; returns their rows of the manifest.

    ct_hu: (Z, H, W) HU; lung: the same, bool, where there are labels, else those of earlier ones are removed;
    code: the `SLICE_CODE` that made them; warnings: what was unusual about the scan
    Raises LungError where the disk does not take them.
    """
    ct_checksums, lung_checksums = write_slices(ct_root, rows, map(clip_ct, ct_hu)), [""] * len(rows)
    if lung is not None:
        lung_checksums = write_slices(lung_root, rows, map(lung_image, ct_hu, lung))
    elif lung_root:
        remove_scans([rows[0].scan], [lung_root])
    same = {"code": code, "warnings": "; ".join(text.replace("; ", ", ") for text in warnings)}
    marks = zip(rows, ct_checksums, lung_checksums, strict=True)
    return [StoredSlice(**{**vars(row), **same, "ct_checksum": ct, "lung_checksum": label}) for row, ct, label in marks]


def write_slices(root: Path, rows: list[SliceRow], images: Iterable[np.ndarray]) -> list[str]:
    """Make the folder of a scan hold these slices alone, int16 (H, W) each; returns the checksum of each."""
    files, checksums = {}, []
    for row, image in zip(rows, images, strict=True):
        files[slice_path(root, row).name] = npy_bytes(image)
        checksums.append(array_checksum(image))
    replace_folder(slice_path(root, rows[0]).parent, files)
    return checksums


def read_slice(root: Path, row: StoredSlice, kind: Kind) -> np.ndarray:
    """One slice below a `ct` or `lung` folder, int16 HU (H, W).

    Raises LungError where it is missing, damaged, or another than the one that the row was written for: changed by
    hand, of another patient, or made again since the manifest was read.
    """
    path = slice_path(root, row)
    image = read_npy(path)
    if array_checksum(image) != getattr(row, f"{kind}_checksum"):
        raise LungError(
            f"{path}: {image.dtype} {image.shape} is not the slice that manifest.csv lists; run the same {STEP_2} "
            "again (for test slices with --test)"
        )
    return image


def read_stack(root: Path, rows: list[StoredSlice], kind: Kind) -> np.ndarray:
    """The slices of some rows of one scan, int16 HU (Z, H, W). Raises LungError as `read_slice`."""
    first = read_slice(root, rows[0], kind)
    stack = np.empty((len(rows), *first.shape), first.dtype)
    stack[0] = first
    for place, row in zip(stack[1:], rows[1:], strict=True):
        place[:] = read_slice(root, row, kind)
    return stack


def is_intact(rows: list[StoredSlice], ct_root: Path, lung_root: Path | None = None) -> bool:
    """Whether the folders of one scan hold the slices of its rows as they were written, and nothing else."""
    for root, kind in ((ct_root, "ct"), (lung_root, "lung")):
        paths = {slice_path(root, row) for row in rows} if root else set()
        if root and set(next(iter(paths)).parent.glob("*")) != paths:
            return False
        try:
            for row in rows if root else []:
                read_slice(root, row, kind)
        except LungError:
            return False
    return True


def remove_scans(names: Iterable[str], roots: Iterable[Path]) -> None:
    """Remove the slices of some scans from `ct` and `lung` folders."""
    for root, name in itertools.product(roots, names):
        shutil.rmtree(root / safe_name(name), ignore_errors=True)
