"""The kinds of error that go unseen, and the project's own tests of each; a section of benchmarks/RELIABILITY.md.

Run     python -m benchmarks.reliability
"""

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

from benchmarks.report import ROOT, table, write_section

PAGE = ROOT / "benchmarks" / "RELIABILITY.md"
KINDS = {  # tests of each, files or folders below tests/
    "a result is done when it was made from this input with these options": ("test_done.py", "training/test_resume.py"),
    "slices, series and patients that belong together": ("scans/test_series.py", "scans/test_lidc.py"),
    "labels lie on their scan and mark lung": ("masks",),
    "geometry: spacing, order, orientation, units": ("scans/test_geometry.py", "scans/test_dicom.py"),
    "values: stored bits, HU or not": ("scans/test_hu.py", "test_predict.py"),
    "one scan's failure leaves the others": ("test_parallel.py", "test_bad_scans.py"),
    "settings, console, missing packages": ("test_settings.py", "test_packages.py", "test_preflight.py"),
    "finding and writing files": (
        "test_files.py",
        "scans/test_find.py",
        "scans/test_layouts.py",
        "scans/test_headers.py",
    ),
    "small and real: hostile names, odd files, unusual results": (
        "test_hostile.py",
        "evaluation",
        "scans/test_nifti.py",
    ),
}


def run_tests(places: tuple[str, ...]) -> Counter[str]:
    """How many tests pass, fail and are skipped: of files or folders below tests/."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            f"--junitxml={report}",
            *(f"tests/{place}" for place in places),
        ]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
        return count_outcomes(ET.parse(report).getroot())


def count_outcomes(report: ET.Element) -> Counter[str]:
    """The same from pytest's own report; an error in what a test needs counts as failed."""
    outcomes = Counter()
    for case in report.iter("testcase"):
        tags = {child.tag for child in case}
        outcomes["failed" if tags & {"failure", "error"} else "skipped" if "skipped" in tags else "passed"] += 1
    return outcomes


def main() -> None:
    """Run the tests kind by kind and write the table."""
    rows = []
    for kind, places in KINDS.items():
        outcomes = run_tests(places)
        rows.append((kind, outcomes.total(), outcomes["passed"], outcomes["failed"], outcomes["skipped"]))
        print(f"{rows[-1]}", flush=True)
    lines = ["Cases that must not go unseen, by kind. Each case is a test of this project, whose answer is known."]
    lines += ["Skipped are those that this machine cannot do. `python -m benchmarks.reliability` makes this table.", ""]
    lines += table(("kind", "cases", "passed", "failed", "skipped"), rows)
    write_section("Errors that go unseen, by kind", lines, PAGE)


if __name__ == "__main__":
    main()
