"""Whether flags tell the masks that are wrong: scans with a reference, as they are and changed, and scans without one.

Run     python -m benchmarks.flags             an hour; each scan by a network that was trained without it
        python -m benchmarks.flags --shipped   by the shipped weights, which have seen them all
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.accuracy import SINGLE_MM, variants
from benchmarks.real import (
    BELLY,
    BELLY_SLICES,
    NO_LUNG_SOURCES,
    covid_slices,
    has_references,
    references,
    slices_without_lung,
)
from benchmarks.report import REAL, table, write_section
from lungct.evaluation.metrics import dice, litres
from lungct.evaluation.quality import CUT_ONCE, CUT_TWICE, find_flags, unsure_share
from lungct.predict import Predictor, load_predictor, read_ct, segment_volume, shipped_predictor
from lungct.scans.geometry import picture_middle
from lungct.segmentation.left_right import split_left_right
from lungct.slices import clip_ct
from weights.recipe import FOLDS, fold_weights

WRONG, RIGHT = 0.97, 0.98  # Dice: below, a reader must be warned; above, should not be
DENSE_HU = 30  # of lung without air
OF_THE_SCAN = frozenset({CUT_ONCE, CUT_TWICE})
HEAD = ("volume", "Dice", "unsure", "flags")
METHOD = """
The limits (`lungct/evaluation/quality.py`, `left_out.py`) were chosen with the shipped weights, on these scans as they
are and changed; no other scans with a reference are at hand. What is held out, if anything, is the network, not the
limits. Unsure: area of blocks of 4x4 pixels of which four, in every second row and column, all have a probability
from 0.1 to 0.9, over the area of the mask.
"""


@dataclass(frozen=True)
class Judged:
    """A volume: Dice, None where it has no reference; unsure area over that of the mask; flags; ml of the mask."""

    name: str
    dice: float | None
    unsure: float
    flags: tuple[str, ...]
    ml: float


def judge(name: str, ct_hu: np.ndarray, truth: np.ndarray | None, spacing_mm: tuple, predictor: Predictor) -> Judged:
    """Predict a volume (Z, H, W) in HU and look at its flags."""
    ct_hu = clip_ct(np.ascontiguousarray(ct_hu))
    found = segment_volume(ct_hu, spacing_mm, predictor)
    sides = split_left_right(found.lung, spacing_mm, picture_middle(ct_hu.shape[2]).column)
    flags = find_flags(ct_hu, sides, spacing_mm, None, found.unsure_cm2, found.body)
    unsure = unsure_share(found.lung, found.unsure_cm2, spacing_mm) or 0.0
    agreement = None if truth is None else dice(found.lung, truth)
    judged = Judged(name, agreement, unsure, tuple(flags), litres(found.lung, spacing_mm) * 1e3)
    print(judged, flush=True)
    return judged


def judge_references(predictor: Predictor, real: Path, sources: tuple[str, ...] | None) -> Iterator[Judged]:
    """The scans with a reference, as they are and changed."""
    for scan in references(real, sources):
        for variant, *changed in variants(clip_ct(scan.ct_hu), scan.lung, scan.frame.spacing_mm):
            yield judge(f"{scan.name}, {variant}", *changed, predictor)


def consolidate(ct_hu: np.ndarray, lung: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A scan whose left lung holds no air in the back two fifths of its lower half, and a mask without them."""
    z, rows, cols = (np.flatnonzero(lung.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3))
    part = np.zeros(lung.shape, bool)
    back = int(rows[0] + 0.6 * (rows[-1] - rows[0]))
    part[z[0] : z[len(z) // 2], back:, cols[len(cols) // 2] :] = True
    part &= lung
    return np.where(part, np.int16(DENSE_HU), ct_hu), lung & ~part


def count_left_out(real: Path) -> tuple[int, int]:
    """Of how many scans with a reference a consolidated part that the mask leaves out is flagged; and of how many."""
    flagged = []
    for scan in references(real):
        ct_hu, lung = consolidate(clip_ct(scan.ct_hu), scan.lung)
        sides = split_left_right(lung, scan.frame.spacing_mm, scan.frame.middle.column)
        flags = find_flags(ct_hu, sides, scan.frame.spacing_mm, middle=scan.frame.middle)
        flagged.append(any("dense tissue" in flag for flag in flags))
        print(f"{scan.name}, consolidated: {flags}", flush=True)
    return sum(flagged), len(flagged)


def judge_others(predictor: Predictor, real: Path, sources: tuple[str, ...] | None) -> Iterator[Judged]:
    """Slices of COVID-19; slices of the belly and the neck, and the lower part of a scan, without any lung."""
    covid = covid_slices(real) if sources in (None, FOLDS[0]) else ()  # trained on by none
    for name, ct_hu, (row_mm, col_mm) in covid:
        yield judge(f"COVID-19, {name}", ct_hu[None], None, (SINGLE_MM, row_mm, col_mm), predictor)
    if sources is None or BELLY in sources:
        ct_hu, frame = read_ct(real / BELLY)
        belly = ct_hu[:BELLY_SLICES]
        yield judge(f"lowest of {Path(BELLY).name}", belly, np.zeros(belly.shape, bool), frame.spacing_mm, predictor)
        yield judge(Path(BELLY).name, ct_hu, None, frame.spacing_mm, predictor)
    if sources is None or set(sources) >= NO_LUNG_SOURCES:
        for number, (ct_hu, (row_mm, col_mm)) in enumerate(slices_without_lung(real)):
            nothing = np.zeros((1, *ct_hu.shape), bool)
            yield judge(f"no lung, {number}", ct_hu[None], nothing, (SINGLE_MM, row_mm, col_mm), predictor)


def is_flagged(judged: Judged) -> bool:
    """Whether a flag doubts the mask."""
    return bool(set(judged.flags) - OF_THE_SCAN)


def summary(whole: list[Judged]) -> list[str]:
    """How many of the wrong masks and of the right ones are flagged, and how many of those where there is no lung."""
    lines = []
    for text, some in (
        (f"Dice below {WRONG}", [j for j in whole if j.dice < WRONG]),
        (f"Dice from {WRONG} to {RIGHT}", [j for j in whole if WRONG <= j.dice <= RIGHT]),
        (f"Dice above {RIGHT}", [j for j in whole if j.dice > RIGHT]),
    ):
        flagged, unsure = sum(map(is_flagged, some)), [j.unsure for j in some]
        spread = f"; unsure {min(unsure):.3f} to {max(unsure):.3f}" if some else ""
        lines.append(f"- {text}: {len(some)} volumes, flagged {flagged}, not flagged {len(some) - flagged}{spread}")
    return [*lines, "", f'"{CUT_ONCE}" and "{CUT_TWICE}" are facts of a scan and do not count.', ""]


def rows(judged: list[Judged]) -> list[tuple]:
    """Rows of the table; of volumes whose mask is right and without a flag there are none."""
    return [
        (j.name, "-" if j.dice is None else f"{j.dice:.4f}", f"{j.unsure:.3f}", "; ".join(j.flags) or "none")
        for j in judged
        if j.dice is None or j.dice <= RIGHT or is_flagged(j)
    ]


def main() -> None:
    """Judge all volumes, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, default=REAL, help="folder with the real scans (default: %(default)s)")
    parser.add_argument("--shipped", action="store_true", help="the shipped weights, not those trained without a fold")
    flags = parser.parse_args()
    real = flags.real.resolve()
    if not has_references(real):
        return
    folds = [None] if flags.shipped else range(len(FOLDS))
    whole, others = [], []
    for fold in folds:
        predictor = shipped_predictor() if fold is None else load_predictor(fold_weights(fold, real), "cpu")
        sources = None if fold is None else FOLDS[fold]
        whole += judge_references(predictor, real, sources)
        others += judge_others(predictor, real, sources)
    empty = [judged for judged in others if judged.dice is not None]
    wrong = [judged for judged in empty if judged.ml > 0]
    seen = (
        "The shipped weights have seen these scans."
        if flags.shipped
        else "No network has seen the scan it is judged on."
    )
    lines = [*METHOD.strip().splitlines(), seen, "", *summary(whole), *table(HEAD, rows(whole)), ""]
    lines += [f"Without any lung: {len(empty)} slices and volumes, of which {len(wrong)} have a mask, of at most"]
    lines += [f"{max([j.ml for j in empty], default=0):.1f} ml, and {sum(map(is_flagged, wrong))} of these a flag.", ""]
    lines += table(HEAD, rows([judged for judged in others if judged.dice is None or judged.ml > 0]))
    found, total = count_left_out(real)
    lines += [
        "",
        "References from which the back two fifths of the lower half of the left lung are left out, made dense in the",
    ]
    lines += [f"CT: {found} of {total} are flagged as dense tissue that the mask leaves out."]
    write_section("Flags", lines)


if __name__ == "__main__":
    main()
