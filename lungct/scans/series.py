"""Which slices make one scan: of one patient, study and series, on one grid, of one pass over the patient.

A series UID alone does not say it: exports put two fields of view, several phases, or a dose picture under one.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lungct.files import short_hash
from lungct.scans.geometry import AXIAL_COSINE, SAME_PLACE_MM
from lungct.scans.headers import NEEDED_TAGS, PASS_TAGS, Header

Slices = list[tuple[Path, Header]]

NEVER_A_SCAN = re.compile(
    r"LOCALI[ZS]ER|SCOUT|TOPOGRAM|\bM(AX|IN)?IP\b|PROJECTION|VOLREN|\bVRT?\b|\bSSD\b|RENDER|SCREEN ?SAVE|DOSE"
)
REFORMAT = re.compile(r"\bMPR|REFORMAT|CURVED")
CAPTURES = "1.2.840.10008.5.1.4.1.1.7"  # SOP classes of secondary captures: pictures, not CT
SAME_SPACING = 1e-3  # relative
SAME_DIRECTION = 5e-3  # in a cosine: 0.3 degrees
MAX_SHIFT_PX = 0.5  # of a slice off the line of the others
MAX_OVERLAP = 0.5  # share of the shorter pass that may overlap another pass of the same scan


class SeriesKey(NamedTuple):
    """Whose CT it is. `patient_id` is that of `patient_of`."""

    patient_id: str
    study_uid: str
    series_uid: str


def identifies(patient_id: str) -> bool:
    """Whether an ID can be that of one person: a word without a digit is what an anonymiser writes for everybody."""
    return any(c.isdigit() for c in patient_id) and patient_id.strip("0 ") != ""


def patient_of(header: Header) -> str:
    """Who is on a slice: the PatientID, and where it identifies nobody the study as well."""
    patient_id = header.text("PatientID").strip()
    if identifies(patient_id):
        return patient_id
    return f"{patient_id or 'unknown'}-{short_hash(header.text('StudyInstanceUID'))}"


def key_of(header: Header) -> SeriesKey:
    """The series that a slice belongs to."""
    return SeriesKey(
        patient_of(header), header.text("StudyInstanceUID").strip(), header.text("SeriesInstanceUID").strip()
    )


def never_a_scan(header: Header) -> str:
    """What a CT image shows when its pixels are no slice in HU; empty where they may be."""
    kind = header.text("ImageType").upper()
    if header.text("SOPClassUID").startswith(CAPTURES):
        return "a secondary capture, a picture and not CT"
    return f"ImageType {kind}, no slices in HU" if NEVER_A_SCAN.search(kind) else ""


def second_choice(header: Header) -> str:
    """What makes a series a reformat or copy of another one; empty where it is an original."""
    kind = header.text("ImageType").upper()
    parts = kind.split("\\")
    if "AXIAL" in parts or not (REFORMAT.search(kind) or "SECONDARY" in parts):
        return ""
    return f"ImageType {kind}, made from another series"


def rank(files: Slices) -> int:
    """0 for an original, 1 for what is taken where there is none, 2 for what is never a scan."""
    header = files[0][1]
    return 2 if never_a_scan(header) else 1 if second_choice(header) else 0


def missing_tags(header: Header) -> list[str]:
    """What HU and millimetres need and a header lacks."""
    return [tag for tag in NEEDED_TAGS if not header.text(tag)]


def split_series(files: Slices) -> list[Slices]:
    """The scans that the slices of one series UID make, the one to use first: an original before others, then the most.

    Slices without a place are not told apart. Raises ValueError where a header holds no usable numbers.
    """
    kinds: dict[tuple[str, str], Slices] = {}
    for path, header in files:
        kinds.setdefault((never_a_scan(header), second_choice(header)), []).append((path, header))
    parts = []
    for kind in kinds.values():
        if rank(kind) == 2 or any(missing_tags(header) or header.integer("NumberOfFrames") > 1 for _, header in kind):
            parts.append(kind)
            continue
        split = [kind]
        for cut in (split_by_grid, split_by_line, *(lambda s, tag=tag: split_by_pass(s, tag) for tag in PASS_TAGS)):
            split = [piece for part in split for piece in cut(part)]
        parts += split
    return sorted(parts, key=lambda part: (rank(part), -len(part), min(path for path, _ in part)))


def split_by_grid(files: Slices) -> list[Slices]:
    """By rows, columns, direction and pixel spacing."""
    grids: list[tuple[list[float], Slices]] = []
    for path, header in files:
        grid = grid_of(header)
        same = next((part for other, part in grids if is_same_grid(grid, other)), None)
        if same is None:
            grids.append((grid, same := []))
        same.append((path, header))
    return [part for _, part in grids]


def grid_of(header: Header) -> list[float]:
    """Rows, columns, row and column spacing, six cosines."""
    size = [header.integer("Rows"), header.integer("Columns")]
    spacing_mm, cosines = header.numbers("PixelSpacing"), header.numbers("ImageOrientationPatient")
    if len(spacing_mm) != 2 or len(cosines) != 6:
        raise ValueError("PixelSpacing or ImageOrientationPatient does not have the right number of values")
    return [*size, *spacing_mm, *cosines]


def is_same_grid(one: list[float], other: list[float]) -> bool:
    return (
        one[:2] == other[:2]
        and all(abs(a - b) <= SAME_SPACING * abs(b) for a, b in zip(one[2:4], other[2:4], strict=True))
        and all(abs(a - b) <= SAME_DIRECTION for a, b in zip(one[4:], other[4:], strict=True))
    )


def place_of(header: Header) -> list[float]:
    """x, y and z of the first pixel in mm."""
    place_mm = header.numbers("ImagePositionPatient")
    if len(place_mm) != 3:
        raise ValueError("ImagePositionPatient does not have three values")
    return place_mm


def split_by_line(files: Slices) -> list[Slices]:
    """By the line on which the first pixels lie: straight up, or along a tilted gantry, or as most steps go."""
    _, _, *spacing_and_cosines = grid_of(files[0][1])
    along_row, along_col = np.reshape(spacing_and_cosines[2:], (2, 3))
    normal = np.cross(along_row, along_col)
    if len(files) == 1 or abs(normal[2]) < AXIAL_COSINE:
        return [files]
    corners_mm = np.array([place_of(header) for _, header in files])
    slopes = [np.zeros(2), normal[:2] / normal[2]]
    steps = np.diff(corners_mm[np.argsort(corners_mm[:, 2])], axis=0)
    steps = steps[steps[:, 2] > SAME_PLACE_MM]
    if len(steps) > 1:  # two slices lie on a line of any slope
        slopes.append(np.median(steps[:, :2] / steps[:, 2:], axis=0))
    max_gap_mm = MAX_SHIFT_PX * min(spacing_and_cosines[:2])
    labels = [label_lines(corners_mm[:, :2] - corners_mm[:, 2:] * slope, max_gap_mm) for slope in slopes]
    best = max(labels, key=lambda label: np.bincount(label).max())
    return [[f for f, n in zip(files, best, strict=True) if n == label] for label in range(best.max() + 1)]


def label_lines(places_mm: np.ndarray, max_gap_mm: float) -> np.ndarray:
    """A number for each place (N, 2): the same for those without a gap of more than `max_gap_mm` in x or y."""
    labels = np.zeros(places_mm.shape, int)
    for axis in (0, 1):
        order = np.argsort(places_mm[:, axis])
        labels[order, axis] = np.cumsum(np.diff(places_mm[order, axis], prepend=places_mm[order[0], axis]) > max_gap_mm)
    return np.unique(labels, axis=0, return_inverse=True)[1].ravel()


def split_by_pass(files: Slices, tag: str) -> list[Slices]:
    """By phase, acquisition or kernel where these went over the same places; parts that follow in z stay together."""
    by_value: dict[str, Slices] = {}
    for path, header in files:
        by_value.setdefault(header.text(tag), []).append((path, header))
    if len(by_value) == 1:
        return [files]
    scans: list[tuple[Slices, list[tuple[float, float]]]] = []  # and from where to where in z each of its passes goes
    for _, part in sorted(by_value.items(), key=lambda item: (min(map(z_of, item[1])), natural_order(item[0]))):
        z_mm = [z_of(file) for file in part]
        home = next(
            (one for one in scans if count_within(z_mm, one[1]) <= MAX_OVERLAP * min(len(part), len(one[0]))), None
        )
        if home is None:
            scans.append(home := ([], []))
        home[0].extend(part)
        home[1].append((min(z_mm), max(z_mm)))
    return [scan for scan, _ in scans]


def count_within(z_mm: list[float], ranges: list[tuple[float, float]]) -> int:
    """How many places lie within some ranges."""
    return sum(any(low - SAME_PLACE_MM <= z <= high + SAME_PLACE_MM for low, high in ranges) for z in z_mm)


def z_of(file: tuple[Path, Header]) -> float:
    return place_of(file[1])[2]


def natural_order(value: str) -> tuple[float, str]:
    """Sorts numbers as numbers, before words."""
    return (float(value), "") if re.fullmatch(r"\d+", value) else (float("inf"), value)


def tell_difference(part: Slices, main: Slices) -> str:
    """What sets a part of a series apart from the part that is used, in a phrase."""
    one, other = part[0][1], main[0][1]
    kind = never_a_scan(one) or second_choice(one)
    if kind and kind != (never_a_scan(other) or second_choice(other)):
        return kind
    if missing_tags(one):
        return f"no {', '.join(missing_tags(one))} in the header"
    (rows, cols, row_mm, col_mm, *cosines), grid = grid_of(one), grid_of(other)
    if [rows, cols] != grid[:2]:
        return f"{rows} x {cols} pixels, not {grid[0]} x {grid[1]}"
    if not is_same_grid([*grid[:4], *cosines], grid):
        return "another direction"
    if not is_same_grid([*grid[:2], row_mm, col_mm, *grid[4:]], grid):
        return f"pixels of {row_mm:g} x {col_mm:g} mm, not {grid[2]:g} x {grid[3]:g} mm"
    for tag in PASS_TAGS:
        values = [{header.text(tag) for _, header in files} for files in (part, main)]
        if values[0].isdisjoint(values[1]):
            mine, its = (", ".join(sorted(v or "none" for v in found)) for found in values)
            return f"{tag} {mine}, not {its}, at the same places"
    here, there = ("x {:.1f}, y {:.1f} mm".format(*place_of(header)[:2]) for header in (one, other))
    return f"shifted in the plane, begin at {here}, not {there}"


def describe_part(part: Slices) -> str:
    """What follows from a part's slices alone and tells it from the other parts of its series: for its name."""
    header = part[0][1]
    if missing_tags(header):
        return ""
    x_mm, y_mm, _ = place_of(min(part, key=z_of)[1])
    passes = (min(header.text(tag) for _, header in part) for tag in PASS_TAGS)
    return f"{header.text('ImageType')} {grid_of(header)} {x_mm:.1f} {y_mm:.1f} {' '.join(passes)}"
