"""scores.csv: a row for each scan, then, of two scans and more, a row of means and one of standard deviations."""

import csv
import io
import statistics
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from lungct import LungError
from lungct.evaluation.cases import Volume
from lungct.evaluation.measures import measure
from lungct.evaluation.metrics import compare
from lungct.evaluation.quality import find_flags, unsure_share
from lungct.files import array_checksum, read_table, table_bytes
from lungct.masks.write import LungMask, mask_checksum
from lungct.parallel import count
from lungct.scans.geometry import frame_of
from lungct.segmentation.body import Body

DIGITS = {"litres": 3, "litres_right": 3, "litres_left": 3, "mean_hu": 1, "perc15_hu": 1, "mass_g": 1}  # others: 4
SETS = {"train": "training", "val": "validation"}  # by what stands in seen_in_training
MEAN, DEVIATION = "mean", "standard deviation"  # in place of a scan's name, in rows without patient and fingerprint


@dataclass(frozen=True)
class ScanScore:
    """A row of scores.csv. What needs a reference, or a lung, is None (an empty cell) where there is none.

    slices, lung_slices: of the scan; of them, those with lung
    slice_mm, row_mm, col_mm: the voxel
    litres to mass_g: as `Measures` of evaluation/measures.py has them
    worst_slice: name of the slice with the lowest Dice
    unsure:      area where the network was unsure, over that of the mask
    nodules:     rows of nodules.csv
    flags:       why the result needs a look, of mask and scan, separated by semicolons
    seen_in_training: no, train, val, or unknown
    weights:     first digits of their SHA-256
    version:     of this project
    png, save:   the pictures and the masks that were asked for so far
    mask:        checksum of the mask
    files:       of its files when they were written, as `files_stamp` of evaluation/results.py has it
    ct, reference: checksums of the CT and of the reference, which tell whether two rows can be compared
    fingerprint: of all that the mask was made from, then of all that the row was made from
    """

    scan: str
    patient_id: str
    slices: int
    litres: float
    litres_right: float | None = None
    litres_left: float | None = None
    mean_hu: float | None = None
    perc15_hu: float | None = None
    laa950: float | None = None
    mass_g: float | None = None
    lung_slices: int | None = None
    slice_mm: float | None = None
    row_mm: float | None = None
    col_mm: float | None = None
    dice: float | None = None
    iou: float | None = None
    hd95_mm: float | None = None
    surface_dice_1mm: float | None = None
    surface_dice_2mm: float | None = None
    worst_slice: str = ""
    worst_slice_dice: float | None = None
    unsure: float | None = None
    nodules: int = 0
    flags: str = ""
    seen_in_training: str = "no"
    weights: str = ""
    precision: str = ""
    version: str = ""
    png: str = ""
    save: str = ""
    mask: str = ""
    files: str = ""
    ct: str = ""
    reference: str = ""
    fingerprint: str = ""


AGREEMENT = {  # the columns in the terminal, by what they show
    "slices": "slices",
    "litres": "litres",
    "Dice": "dice",
    "HD95 mm": "hd95_mm",
    "surf 1mm": "surface_dice_1mm",
    "surf 2mm": "surface_dice_2mm",
}
MEASURED = {
    "slices": "slices",
    "litres": "litres",
    "right": "litres_right",
    "left": "litres_left",
    "mean HU": "mean_hu",
    "perc15": "perc15_hu",
    "<-950 HU": "laa950",
    "mass g": "mass_g",
}
NUMBERS = [field.name for field in fields(ScanScore) if field.type not in (str, "str")]


def score_volume(volume: Volume, mask: LungMask, body: Body | None = None) -> ScanScore:
    """The row of a scan, but for what it says of weights and files."""
    rows, spacing_mm, extents_mm = volume.rows, volume.rows[0].spacing_mm, frame_of(volume.rows).extents_mm
    numbers = asdict(measure(volume.ct_hu, mask.sides, spacing_mm, extents_mm))
    if volume.truth is not None:
        numbers |= asdict(compare(mask.lung, volume.truth, spacing_mm))
        numbers["reference"] = mask_checksum(volume.truth)
        numbers["worst_slice"] = rows[numbers["worst_slice"]].slice_name
    slice_mm, row_mm, col_mm = spacing_mm
    flags = find_flags(volume.ct_hu, mask.sides, spacing_mm, extents_mm, mask.unsure_cm2, body, mask.frame.middle)
    unsure = unsure_share(mask.lung, mask.unsure_cm2, spacing_mm)
    return ScanScore(
        scan=rows[0].scan,
        patient_id=rows[0].patient_id,
        slices=len(rows),
        **{name: round(v, DIGITS.get(name, 4)) if isinstance(v, float) else v for name, v in numbers.items()},
        slice_mm=slice_mm,
        row_mm=row_mm,
        col_mm=col_mm,
        unsure=None if unsure is None else round(unsure, 4),
        flags="; ".join(with_warnings(flags, volume.warnings)),
        mask=mask_checksum(mask.lung),
        ct=array_checksum(volume.ct_hu),
    )


def with_warnings(flags: list[str], warnings: tuple[str, ...]) -> list[str]:
    """The flags of a mask, and what was said of its scan, unless a flag says so; semicolons part flags."""
    said = [warning.replace("; ", ", ") for warning in warnings]
    return flags + [text for text in dict.fromkeys(said) if not any(text.startswith(flag) for flag in flags)]


def scores_bytes(scores: list[ScanScore]) -> bytes:
    """The file for some scans."""
    content = table_bytes(scores, ScanScore)
    if len(scores) < 2:
        return content
    buffer = io.StringIO(newline="")
    names = [field.name for field in fields(ScanScore)]
    writer = csv.DictWriter(buffer, names, restval="", lineterminator="\n")
    columns = {name: [value for s in scores if (value := getattr(s, name)) is not None] for name in NUMBERS}
    for label, summarise in ((MEAN, mean), (DEVIATION, deviation)):
        writer.writerow({"scan": label, **{name: summarise(values) for name, values in columns.items()}})
    return content + buffer.getvalue().encode()


def mean(values: list[float]) -> float | str:
    """Rounded; an empty cell where there is no value."""
    return round(statistics.fmean(values), 4) if values else ""


def deviation(values: list[float]) -> float | str:
    """The standard deviation of a sample (divided by n - 1), rounded; an empty cell where it has no value."""
    if len(values) < 2 or float("inf") in values:  # an empty mask is infinitely far from its reference
        return ""
    return round(statistics.stdev(values), 4)


def is_scan(row: dict[str, str]) -> bool:
    """Whether a row of the file is of a scan: one may be called like the two last rows."""
    return row["scan"] not in (MEAN, DEVIATION) or bool(row["fingerprint"])


def read_scores(path: Path) -> list[ScanScore]:
    """The rows of the scans. Raises LungError where the file is damaged or of another version."""
    return read_table(path, ScanScore, is_scan)


def read_earlier_scores(path: Path) -> list[ScanScore]:
    """The same of an earlier run; empty where there is none. Says so where it is damaged or of another version."""
    try:
        return read_scores(path) if path.is_file() else []
    except LungError as error:
        print(f"{error}; all scans are predicted again")
        return []


def print_scores(scores: list[ScanScore]) -> None:
    """A line for each scan: how well it agrees with its reference, or, where no scan has one, what was measured."""
    scored = [score.dice for score in scores if score.dice is not None]
    columns = AGREEMENT if scored else MEASURED
    width = max([23, *(len(score.scan) for score in scores)])
    print(f"{'scan':{width}s} " + "".join(f" {head:>8s}" for head in columns) + "  worst slice" * bool(scored))
    for score in scores:
        values = [getattr(score, name) for name in columns.values()]
        cells = "".join(f" {'-' if value is None else value!s:>8s}" for value in values)
        print(f"{score.scan:{width}s} {cells}{worst_slice(score) if scored else ''}{notes(score)}")
    if scored:
        seen = sum(score.seen_in_training in SETS for score in scores if score.dice is not None)
        no_test = f"; no test: {seen} of them, of patients in the {' or '.join(SETS.values())} set" if seen else ""
        mean_dice = f"mean Dice {statistics.fmean(scored):.4f} over {count(len(scored), 'scan')}"
        print(f"{mean_dice}, worst {min(scored):.4f}{no_test}")


def worst_slice(score: ScanScore) -> str:
    """The slice that agrees least with the reference, behind a scan's numbers."""
    return "  -" if score.dice is None else f"  {score.worst_slice} ({score.worst_slice_dice:.3f})"


def notes(score: ScanScore) -> str:
    """What stands behind a scan's numbers: its flags, and whether it was trained on."""
    part = score.seen_in_training
    seen = f"  patient was in the {SETS[part]} set" if part in SETS else ""
    return (f"  {score.flags}" if score.flags else "") + seen
