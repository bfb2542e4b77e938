"""What the values of a mask are: their names, colours and codes, the same in every format that masks are written to.

Z slices, H rows, W columns.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lungct import LungError
from lungct.slices import LEFT, RIGHT

NRRD_FIELD = re.compile(rb"(?m)^Segment(\d+)_(Name|LabelValue):=(.*?)\r?$")
MAX_HEADER = 1 << 20  # bytes


class Code(NamedTuple):
    """A term of a coding scheme, as pydicom's class of that name, which takes a third of a second to import."""

    value: str
    scheme_designator: str
    meaning: str


CATEGORY, LUNG = Code("123037004", "SCT", "Anatomical Structure"), Code("39607008", "SCT", "Lung")  # as in 3D Slicer


@dataclass(frozen=True)
class Segment:
    """One value of a mask.

    value:    in the mask; the number of a segment or structure in DICOM
    name:     for people; `masks/read_dicom.py` knows a lung by it
    roi_name: in radiotherapy, by AAPM TG-263
    rgb:      recommended colour, 0 to 255
    side:     in SNOMED CT; None for both lungs
    """

    value: int
    name: str
    roi_name: str
    rgb: tuple[int, int, int]
    side: Code | None = None


WHOLE = (Segment(1, "Lung", "Lungs", (197, 165, 145)),)  # 3D Slicer's colour of a lung
SIDES = (  # 3D Slicer gives both the same colour; these can be told apart, also by the colour blind
    Segment(RIGHT, "Right lung", "Lung_R", (110, 170, 220), Code("24028007", "SCT", "Right")),
    Segment(LEFT, "Left lung", "Lung_L", (240, 175, 105), Code("7771000", "SCT", "Left")),
)


def check_values(labels: np.ndarray, segments: tuple[Segment, ...]) -> None:
    """Raises LungError where a mask (Z, H, W), bool or uint8, holds a value above those of its segments."""
    highest, known = int(labels.max(initial=0)), [segment.value for segment in segments]
    if highest > max(known):
        raise LungError(f"a mask with the value {highest}, but only {known} have a name; does it tell right from left?")


def nrrd_names(path: Path) -> dict[int, str]:
    """The names of the segments of a .seg.nrrd, by their values."""
    with path.open("rb") as file:
        header = file.read(MAX_HEADER).split(b"\n\n")[0]
    fields = {(number, field): text.decode(errors="replace") for number, field, text in NRRD_FIELD.findall(header)}
    return {
        int(value): fields.get((number, b"Name"), "")
        for (number, field), value in fields.items()
        if field == b"LabelValue" and value.strip().isdecimal()
    }
