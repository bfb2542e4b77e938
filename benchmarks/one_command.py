"""From DICOM files to masks by one command, `model_test.py --dicom`: one scan of 250 slices, and several.

Run     python -m benchmarks.one_command
"""

import shutil
import statistics
from pathlib import Path

from benchmarks.data import many_scans, whole_scan
from benchmarks.report import WORK, step, table, write_section
from benchmarks.whole_scan import SLICES, ours, peak_gib

ROUNDS, SCANS = 5, 20


def predict(scans: Path, folder: Path) -> float:
    """Seconds of one command, without earlier results."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return step("model_test.py", "--dicom", scans, "--png", "none", cwd=folder)[0]


def main() -> None:
    """Measure in turn, write the section."""
    one, many, folder = WORK / "scan", WORK / "twenty", WORK / "one_command"
    whole_scan(one, SLICES)
    many_scans(many, SCANS, SLICES)
    times = [(predict(one, folder), sum(ours(one, folder))) for _ in range(ROUNDS)]
    alone, two_steps = (statistics.median(part) for part in zip(*times, strict=True))
    together = predict(many, folder) / SCANS
    shutil.rmtree(folder)
    folder.mkdir()
    peak = peak_gib("model_test.py", "--dicom", many, "--png", "none", cwd=folder)
    rows = [
        ("one scan, `model_test.py --dicom` (target: under 3.5 s)", f"**{alone:.2f} s**"),
        ("the same by steps 4 and 5", f"{two_steps:.2f} s"),
        (f"{SCANS} scans in one command, seconds a scan (target: under 2.2 s)", f"**{together:.2f} s**"),
        (f"peak memory with {SCANS} scans", f"{peak:.2f} GiB"),
    ]
    lines = [*table(("what", "measured"), rows), "", f"Scans of {SLICES} slices of 512x512 pixels, in the file cache;"]
    write_section("One command", [*lines, f"medians of {ROUNDS} runs, in turn; the {SCANS} scans once."])


if __name__ == "__main__":
    main()
