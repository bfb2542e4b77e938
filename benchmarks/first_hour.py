"""What a newcomer waits for: installation, demo and tests of a fresh clone.

Run     python -m benchmarks.first_hour
"""

import shutil
import statistics
import sys

from benchmarks.report import ROOT, WORK, run, table, write_section
from lungct.evaluation.scores import read_scores


def main() -> None:
    """Clone, install, run, write the section."""
    clone = WORK / "clone"
    shutil.rmtree(clone, ignore_errors=True)
    run("git", "clone", "--quiet", ROOT, clone, cwd=WORK.parent)
    make = ("make", f"PYTHON={sys.executable}")
    install_s, demo_s, test_s = (run(*make, goal, cwd=clone)[0] for goal in (".venv/installed", "demo", "test"))
    dice = statistics.mean(score.dice for score in read_scores(clone / "demo/predictions/scores.csv"))
    rows = [
        ("installation, packages from the nearest index", f"{install_s:.0f} s"),
        ("`make demo` after it (target: under 150 s)", f"**{demo_s:.0f} s**"),
        ("mean Dice of the demo (target: 0.98)", f"**{dice:.3f}**"),
        ("`make test`, installation included (target: under 300 s)", f"**{install_s + test_s:.0f} s**"),
    ]
    write_section("A fresh clone", [*table(("what", "measured"), rows), "", "Once, from `git clone` on."])
    shutil.rmtree(clone)


if __name__ == "__main__":
    main()
