"""scores.csv and nodules.csv of step 5, which go together: a scan is done where both hold all of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lungct import LungError
from lungct.evaluation.nodules import NoduleScore
from lungct.evaluation.scores import ScanScore, read_earlier_scores, scores_bytes
from lungct.files import read_table, replace_file, table_bytes
from lungct.masks.predicted import SCORES

NODULES = "nodules.csv"


@dataclass(frozen=True)
class Result:
    """The rows of a scan in both tables."""

    score: ScanScore
    nodules: list[NoduleScore]

    @property
    def is_whole(self) -> bool:
        """Whether nodules.csv holds as many nodules as scores.csv counts."""
        return len(self.nodules) == self.score.nodules


def read_results(out: Path) -> dict[str, Result]:
    """What earlier commands left in both tables, by scan. Says so where one is damaged or of another version."""
    scores, nodules = read_earlier_scores(out / SCORES), read_earlier_nodules(out / NODULES)
    return {score.scan: Result(score, [row for row in nodules if row.scan == score.scan]) for score in scores}


def read_earlier_nodules(path: Path) -> list[NoduleScore]:
    """The rows of nodules.csv; none where it is not there. Says so where it is damaged or of another version."""
    try:
        return read_table(path, NoduleScore) if path.is_file() else []
    except LungError as error:
        print(f"{error}; it is made again")
        return []


def write_results(out: Path, results: Iterable[Result], with_empty: bool) -> None:
    """Write both tables; nodules.csv without a nodule only where there is one, or `with_empty`. Raises LungError."""
    results = list(results)
    nodules = [row for result in results for row in result.nodules]
    replace_file(out / SCORES, scores_bytes([result.score for result in results]))
    if nodules or with_empty or (out / NODULES).is_file():
        replace_file(out / NODULES, table_bytes(nodules, NoduleScore))
