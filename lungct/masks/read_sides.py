"""The right and the left lung of a mask file that tells them apart. Z slices, H rows, W columns."""

import re
from pathlib import Path

import numpy as np

from lungct.masks.read import read_values
from lungct.masks.read_dicom import is_lung_name, read_parts, series_of
from lungct.masks.segments import nrrd_names
from lungct.masks.write import NRRD, SIDES
from lungct.scans.geometry import Scan
from lungct.slices import LEFT, RIGHT

SIDE_NAMES = {  # Right lung, Lung_R, lung_upper_lobe_left
    RIGHT: re.compile(r"(?i)right|(?<![a-z])r(?![a-z])"),
    LEFT: re.compile(r"(?i)left|(?<![a-z])l(?![a-z])"),
}


def read_sides(path: Path, scan: Scan) -> tuple[np.ndarray, tuple[str, ...]] | None:
    """The right lung as 1, the left as 2, (Z, H, W) uint8, and warnings; None where the file does not say.

    It says so by the names of its segments or structures, or by the ending _sides.nii.gz. Raises LungError where it
    does not lie on the scan.
    """
    name = path.name.lower()
    if name.endswith((SIDES, SIDES.removesuffix(".gz"))):
        return take_values(path, scan, {RIGHT: RIGHT, LEFT: LEFT})
    if name.endswith(NRRD):
        return take_values(path, scan, {value: side_of(text) for value, text in nrrd_names(path).items()})
    return take_parts(path, scan) if series_of(path) else None


def side_of(name: str) -> int | None:
    """RIGHT or LEFT, of the name of a lung; None where it says neither, or is not that of a lung."""
    sides = [side for side, words in SIDE_NAMES.items() if words.search(name)]
    return sides[0] if len(sides) == 1 and is_lung_name(name) else None


def take_values(path: Path, scan: Scan, sides: dict[int, int | None]) -> tuple[np.ndarray, tuple[str, ...]] | None:
    """The sides of the values of a volume; None where one of them has none, or nothing is marked."""
    values = read_values(path, scan)
    present = set(np.unique(values).tolist()) - {0}
    if not present or any(sides.get(value) is None for value in present):
        return None
    labels = np.zeros(values.shape, np.uint8)
    for value in present:
        labels[values == value] = sides[value]
    return labels, ()


def take_parts(path: Path, scan: Scan) -> tuple[np.ndarray, tuple[str, ...]] | None:
    """The sides of the segments or structures of a DICOM file; None where one has none, or nothing is marked."""
    labels, warnings = np.zeros((len(scan), *scan.frame.shape), np.uint8), []
    for name, part, more in read_parts(path, scan):
        side = side_of(name)
        if side is None:
            return None
        labels[part] = side
        warnings += more
    return (labels, tuple(warnings)) if labels.any() else None
