"""A few predicted scans as report.html shows them, for the tests of the page."""

from pathlib import Path

import numpy as np
from conftest import make_row

from lungct.evaluation.report import THUMBNAIL, VIEW, ScanScore, report_row, result_files, thumbnail
from lungct.files import replace_folder

SLICES = [f"Bad_slice{z:03d}" for z in range(5)]
SHAPE = 5, 30, 40
HOSTILE = '<img src=x onerror="document.title=1"></script><script>document.title=2</script>'


def score(scan: str, **changes) -> ScanScore:
    return ScanScore(scan, patient_id=scan, slices=5, **{"litres": 4.5, **changes})


def write_folder(folder: Path, truth: np.ndarray | None = None, png: str = "all") -> None:
    """Five slices as step 5 writes them, each of one HU: -1000, -600, -200, 200, 600; most lung in slice 1."""
    ct_hu = np.repeat([-1000, -600, -200, 200, 600], 30 * 40).reshape(SHAPE).astype(np.int16)
    sides = np.zeros(SHAPE, np.uint8)
    sides[1:4, 10:20, 5:15], sides[1:4, 10:20, 25:35] = 1, 2
    sides[1, 20, 5:15] = 1
    rows = [make_row("Bad", z, rows=30, columns=40, z_mm=5.0 * z - 100) for z in range(5)]
    files = result_files(rows, ct_hu, sides, truth, png)
    replace_folder(folder, {**files, f"{VIEW}/{THUMBNAIL}": thumbnail(ct_hu, sides > 0)})


def make_rows(tmp_path: Path) -> list[dict]:
    """A good scan, a bad one, one with two flags and no Dice, one of a hostile name; the bad one has pictures."""
    write_folder(tmp_path / "patient_Bad")
    scores = [
        score("Good", dice=0.991, hd95_mm=1.2, weights="0a1b"),
        score(
            "Bad", dice=0.4, hd95_mm=30.0, flags="gas below the diaphragm; the area of a lung changes from slice 3 to 4"
        ),
        score("Flagged", flags="one lung only; volume outside the usual 2 to 8 litres", litres=1.1),
        score(HOSTILE, dice=0.98, hd95_mm=2.0, flags=HOSTILE),
    ]
    folders = [tmp_path / f"patient_{name}" for name in ("Good", "Bad", "Flagged", "Hostile")]
    pairs = zip(scores, folders, strict=True)
    rows = [report_row(s, 0.5 if s.scan == "Good" else None, f, SLICES) for s, f in pairs]
    return [{**row, "fingerprint": f"f-{row['scan']}"} for row in rows]
