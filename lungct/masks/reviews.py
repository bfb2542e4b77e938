"""Reviews of predicted masks: what was accepted or rejected in report.html, as reviews.csv holds it."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from lungct import LungError
from lungct.files import read_text

REVIEWS = "reviews.csv"  # in the folder of the predictions
ACCEPT, REJECT, NONE = "accept", "reject", ""
NOT_REVIEWED = "not reviewed"


@dataclass(frozen=True)
class Review:
    """A row of reviews.csv: what was thought of one prediction of a scan.

    fingerprint: of the masks, as in their slices.csv: other masks of the same scan need another review
    weights:     first digits of their SHA-256
    verdict:     accept, reject, or empty where there is none (yet, or any more)
    """

    scan: str
    patient_id: str
    fingerprint: str
    weights: str
    verdict: str
    comment: str

    @property
    def key(self) -> tuple[str, str]:
        """What it is a review of."""
        return self.scan, self.fingerprint


COLUMNS = [field.name for field in fields(Review)]


def read_reviews(path: Path) -> dict[tuple[str, str], Review]:
    """The reviews of a reviews.csv by scan and fingerprint, also after a spreadsheet saved it. Raises LungError."""
    if not path.is_file():
        raise LungError(f"no {path}; review the scans in report.html and save reviews.csv there")
    lines = read_text(path).splitlines(keepends=True)
    delimiter = max(",;\t", key=(lines or [""])[0].count)
    reader = csv.DictReader(lines, delimiter=delimiter)
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise LungError(f"{path}: no column {missing[0]}; save reviews.csv again in report.html")
    found: dict[tuple[str, str], Review] = {}
    for cells in reader:
        if None in cells.values():
            raise LungError(f"{path}: {cells['scan']}: the row is cut off; save reviews.csv again in report.html")
        review = Review(**{name: cells[name].strip() for name in COLUMNS})
        review = replace(review, verdict=review.verdict.lower())
        if review.verdict not in (ACCEPT, REJECT, NONE):
            raise LungError(f"{path}: {review.scan}: verdict {review.verdict!r}; it is accept, reject or empty")
        if found.get(review.key, review).verdict != review.verdict:
            raise LungError(f"{path}: {review.scan} is there twice, with different verdicts; leave one of them")
        found[review.key] = review
    return found


def earlier_reviews(place: Path) -> dict[tuple[str, str], Review]:
    """Those that are kept beside the predictions; none where there is no such file. Raises LungError."""
    path = place / REVIEWS
    return read_reviews(path) if path.is_file() else {}


def status_of(reviews: dict[tuple[str, str], Review], scan: str, fingerprint: str) -> tuple[str, str]:
    """The verdict on a prediction, and it in words."""
    review = reviews.get((scan, fingerprint))
    if review and review.verdict:
        words = "accepted" if review.verdict == ACCEPT else "rejected"
        return review.verdict, f"{words}: {review.comment}" if review.comment else words
    outdated = not review and any(other.scan == scan and other.verdict for other in reviews.values())
    return NONE, "predicted again since its review" if outdated else NOT_REVIEWED


def print_reviews(reviews: dict[tuple[str, str], Review], predicted: Iterable[tuple[str, str]]) -> None:
    """Count the verdicts over all predictions, (scan, fingerprint) each; list what is rejected and what is outdated."""
    predicted = list(predicted)
    verdicts = {ACCEPT: 0, REJECT: 0, NONE: 0}
    for scan, fingerprint in predicted:
        verdict, words = status_of(reviews, scan, fingerprint)
        verdicts[verdict] += 1
        if verdict == REJECT or (verdict == NONE and words != NOT_REVIEWED):
            print(f"{scan:24s} {words}")
    for scan in sorted({review.scan for review in reviews.values()} - {scan for scan, _ in predicted}):
        print(f"{scan:24s} reviewed, but there is no prediction of it here")
    print(f"{verdicts[ACCEPT]} accepted, {verdicts[REJECT]} rejected, {verdicts[NONE]} without a verdict")
