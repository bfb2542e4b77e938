"""A scan of 250 slices from its DICOM folder to masks on disk, as a user runs it; lungmask beside it.

Run     python -m benchmarks.whole_scan                     ours alone
        python -m benchmarks.whole_scan --lungmask PYTHON   also lungmask, of the environment of that PYTHON
"""

import argparse
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.data import whole_scan
from benchmarks.report import WORK, copy_gb_s, run, step, table, write_section

SLICES = 250
ROUNDS = 5
PEER = Path(__file__).with_name("lungmask_peer.py")


def ours(scan: Path, run_folder: Path) -> tuple[float, float]:
    """Seconds of steps 4 and 5, from nothing."""
    shutil.rmtree(run_folder, ignore_errors=True)
    run_folder.mkdir(parents=True)
    step("config_file_create.py", cwd=run_folder)
    prepare, _ = step("prepare_lung_image.py", "--test", "--dicom", scan, cwd=run_folder)
    predict, _ = step("model_test.py", "--png", "none", cwd=run_folder)
    return prepare, predict


def peak_gib(script: str, *flags: object, cwd: Path) -> float:
    """Peak memory of one step, measured by a process of its own."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=2);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20)"
    )
    command = [sys.executable, "-c", code, sys.executable, str(Path(__file__).parent.parent / script), *map(str, flags)]
    return float(subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Measure, compare, write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lungmask", metavar="PYTHON", help="python of an environment with lungmask and torch")
    flags = parser.parse_args()
    root, folder = WORK / "scan", WORK / "whole"
    whole_scan(root, SLICES)
    ours(root, folder)  # once before, so that both read from the system's cache
    times = [ours(root, folder) for _ in range(ROUNDS)]
    prepare, predict = (statistics.median(part) for part in zip(*times, strict=True))
    whole = statistics.median(sum(pair) for pair in times)
    rows = [
        ("step 4, `prepare_lung_image.py --test --dicom`", f"{prepare:.2f} s"),
        ("step 5, `model_test.py --png none`", f"{predict:.2f} s"),
        ("both: DICOM folder to masks on disk (wanted: under 6 s)", f"**{whole:.2f} s**"),
    ]
    if flags.lungmask:
        seconds, _ = run(flags.lungmask, PEER, root, folder / "lungmask.nii.gz", cwd=WORK)
        rows.append(("lungmask, the same folder to a mask file", f"{seconds:.1f} s"))
        rows.append(("times faster (wanted: 30)", f"**{seconds / whole:.1f}**"))
    else:
        rows.append(("lungmask", "not measured: no `--lungmask PYTHON` given"))
    shutil.rmtree(folder / "predictions")
    shutil.rmtree(folder / "mydata")
    for script, *options in (("prepare_lung_image.py", "--test", "--dicom", root), ("model_test.py", "--png", "none")):
        rows.append(
            (f"peak memory of `{script}` (wanted: 1.5 GiB)", f"{peak_gib(script, *options, cwd=folder):.2f} GiB")
        )
    gb = sum(p.stat().st_size for p in root.rglob("*.dcm")) / 1e9
    lines = [*table(("what", "measured"), rows), ""]
    lines.append(
        f"{SLICES} slices of 512x512, {gb:.2f} GB of DICOM in the system's cache; medians of {ROUNDS} runs, each from"
    )
    lines.append(
        f"nothing; two interpreters start within them. Memory is copied at {copy_gb_s():.1f} GB a second here."
    )
    lines.append("lungmask ran once, with random weights (its own cannot be had offline) and two ovals in place of")
    lines.append("their answer, so that its clean-up meets no noise.")
    write_section("A whole scan", lines)


if __name__ == "__main__":
    main()
