"""Two sets of predictions, A and B, compared patient by patient: what `model_test.py --compare A B` prints."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from lungct import LungError
from lungct.commands import quoted
from lungct.evaluation.scores import ScanScore, read_scores
from lungct.masks.predicted import SCORES
from lungct.parallel import count, some_of

CONFIDENCE, RESAMPLES, SEED = 0.95, 10_000, 1
MIN_PATIENTS = 10  # with fewer, the interval holds the true mean in less than 90 % of cases (simulated, normal numbers)
SHOWN = 10  # patients in the table
WEIGHTS = "unet_model.pth"


@dataclass(frozen=True)
class PatientPair:
    """A patient in both sets: means over the scans that both have. HD95 is infinite where a mask is empty."""

    patient_id: str
    dice_a: float
    dice_b: float
    hd95_a_mm: float
    hd95_b_mm: float

    @property
    def dice_difference(self) -> float:
        """Above 0 where B is better."""
        return self.dice_b - self.dice_a

    @property
    def hd95_difference_mm(self) -> float:
        """Below 0 where B is better."""
        return self.hd95_b_mm - self.hd95_a_mm


def read_set(place: Path) -> list[ScanScore]:
    """The scores of a folder of predictions, or of those right below it (folds), in which each scan comes once.

    Of several folders, the scans that their network has learned from are left out.
    Raises LungError where there is no table, a damaged one, or a scan in two of them.
    """
    paths = [place] if place.is_file() else [place / SCORES]
    if not paths[0].is_file():
        paths = sorted(place.glob(f"*/{SCORES}"))
    if not paths:
        given = f" --weights-path {quoted(place / WEIGHTS)}" if (place / WEIGHTS).is_file() else ""
        raise LungError(
            f"{place} holds no {SCORES}; give the folder of its predictions, which this makes: "
            f"python model_test.py{given} --predictions-path DIR"
        )
    try:
        scores = [score for path in paths for score in read_scores(path)]
    except LungError as error:
        raise LungError(f"{error}; make it again with model_test.py") from error
    if len(paths) > 1:
        scores = [score for score in scores if score.seen_in_training != "train"]
    names = [score.scan for score in scores]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise LungError(
            f"{place}: in more than one of its {len(paths)} tables: {some_of(twice)}; of folds, predict only patients "
            "of the cross-validation (--patients), or give one fold"
        )
    return scores


def pair_scans(a: list[ScanScore], b: list[ScanScore]) -> list[tuple[ScanScore, ScanScore]]:
    """The scans of both sets that have a Dice in both. Raises LungError where CT or reference are not the same."""
    of_b = {score.scan: score for score in b}
    pairs = [(one, of_b[one.scan]) for one in a if one.scan in of_b and one.dice is not None]
    pairs = [(one, other) for one, other in pairs if other.dice is not None]
    for what, of in (("CT", lambda score: score.ct), ("reference", lambda score: score.reference)):
        if differ := [one.scan for one, other in pairs if of(one) != of(other)]:
            raise LungError(
                f"the {what} of A and B is not the same: {some_of(differ)}; predict both from the same scans and labels"
            )
    return pairs


def pair_patients(pairs: list[tuple[ScanScore, ScanScore]]) -> list[PatientPair]:
    """Each patient once, the one for whom B loses most first."""
    patients: dict[str, list[tuple[ScanScore, ScanScore]]] = {}
    for pair in pairs:
        patients.setdefault(pair[0].patient_id, []).append(pair)

    def mean(scans: list, side: int, name: str) -> float:
        return fmean(getattr(pair[side], name) for pair in scans)

    found = [
        PatientPair(name, *(mean(scans, side, column) for column in ("dice", "hd95_mm") for side in range(2)))
        for name, scans in patients.items()
    ]
    return sorted(found, key=lambda pair: (pair.dice_difference, pair.patient_id))


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """The interval of the mean (N,) by the percentile bootstrap (Efron, Ann Stat 7 (1979) 1-26), seeded."""
    draws = np.random.default_rng(SEED).integers(len(values), size=(RESAMPLES, len(values)))
    outside = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(values[draws].mean(1), [outside, 100 - outside])
    return float(low), float(high)


def describe_sets(sets: dict[str, list[ScanScore]]) -> list[str]:
    """What is not compared, and whose score is no test, a line each; the sets by their letters, A and B."""
    lines = []
    for letter, other in (("A", "B"), ("B", "A")):
        scores, names = sets[letter], {score.scan for score in sets[other]}
        no_dice = [score.scan for score in scores if score.dice is None]
        for words, scans in (
            ("only in", [score.scan for score in scores if score.scan not in names]),
            ("not compared, no reference in", no_dice),
            ("in the training set, so not a test, in", [s.scan for s in scores if s.seen_in_training == "train"]),
            (
                "in the validation set, which chose the best epoch, in",
                [s.scan for s in scores if s.seen_in_training == "val"],
            ),
        ):
            lines += [f"{words} {letter}: {some_of(scans)}"] if scans else []
    return lines


def table_lines(pairs: list[PatientPair]) -> list[str]:
    """The patients for whom B loses most, a line each."""
    width = max([len("patient"), *(len(pair.patient_id) for pair in pairs[:SHOWN])])
    lines = [f"{'patient':{width}s}  Dice A  Dice B    B - A  HD95 A  HD95 B  B - A (mm)"]
    for pair in pairs[:SHOWN]:
        dice = f"{pair.dice_a:6.4f}  {pair.dice_b:6.4f}  {pair.dice_difference:+7.4f}"
        hd95 = f"{pair.hd95_a_mm:6.2f}  {pair.hd95_b_mm:6.2f}  {pair.hd95_difference_mm:+10.2f}"
        lines.append(f"{pair.patient_id:{width}s}  {dice}  {hd95}")
    rest = len(pairs) - SHOWN
    return lines + ([f"and {count(rest, 'patient')} for whom B - A of Dice is higher"] if rest > 0 else [])


def mean_line(pairs: list[PatientPair], name: str, value: Callable[[PatientPair], float], form: str, unit: str) -> str:
    """The mean difference with its interval."""
    values = np.array([value(pair) for pair in pairs])
    if not np.isfinite(values).all():
        empty = [pair.patient_id for pair in pairs if not math.isfinite(value(pair))]
        return f"mean {name}, B - A: none, a mask is empty: {some_of(empty)}"
    low, high = mean_interval(values)
    found = f"{values.mean():{form}}{unit}, {CONFIDENCE:.0%} interval {low:{form}} to {high:{form}}{unit}"
    return f"mean {name}, B - A: {found}; B higher for {(values > 0).sum()} of {len(values)} patients"


def comparison_lines(place_a: Path, place_b: Path) -> list[str]:
    """What is printed. Raises LungError where nothing can be compared."""
    sets = {"A": read_set(place_a), "B": read_set(place_b)}
    pairs = pair_patients(pair_scans(*sets.values()))
    if len(pairs) < 2:
        scored = [sum(score.dice is not None for score in scores) for scores in sets.values()]
        raise LungError(
            f"{count(len(pairs), 'patient')} with a Dice in both, at least 2 are needed; scans with a Dice: "
            f"{scored[0]} in {place_a}, {scored[1]} in {place_b}; a Dice needs references (--labels) "
            "and, in folds, a network that has not learned from the scan"
        )
    lines = []
    for (letter, scores), place in zip(sets.items(), (place_a, place_b), strict=True):
        weights = some_of(sorted({score.weights for score in scores}))
        lines.append(f"{letter}: {place}, {count(len(scores), 'scan')}, weights {weights}")
    lines += [*describe_sets(sets), *table_lines(pairs)]
    lines.append(mean_line(pairs, "Dice", lambda pair: pair.dice_difference, "+.4f", ""))
    lines.append(mean_line(pairs, "HD95", lambda pair: pair.hd95_difference_mm, "+.2f", " mm"))
    if len(pairs) < MIN_PATIENTS:
        lines.append(f"with fewer than {MIN_PATIENTS} patients, such an interval is too narrow")
    return lines
