"""Scans of 250 slices from DICOM to masks on disk, as a user runs it: one, and twenty; lungmask beside it.

Run     python -m benchmarks.whole_scan                     ours alone
        python -m benchmarks.whole_scan --lungmask PYTHON   also lungmask, of the environment of that PYTHON
"""

import argparse
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.data import many_scans, whole_scan
from benchmarks.report import (
    WORK,
    copy_gb_s,
    medians_s,
    multiply_adds,
    multiply_adds_g_s,
    run,
    step,
    table,
    write_section,
)
from lungct.files import npy_bytes, replace_folder
from lungct.predict import Predictor, load_predictor, predict_slices, segment
from lungct.scans.dicom import find_series, open_series
from lungct.segmentation.body import find_body
from lungct.segmentation.cleanup import clean_volume
from lungct.slices import clip_ct

SLICES = 250
ROUNDS, SCANS = 5, 20
STAGES = (  # key, what, what sets the minimum, what takes the time
    ("start", "Python and torch", "", "importing torch; step 5 only"),
    ("headers", "of all slices", "", "opening each file; parsing numbers"),
    ("pixels", "DICOM to HU", "CT", "pydicom parses each header again"),
    ("write CT", "slices to .npy", "CT", "one file per slice, with a copy in memory"),
    ("read CT", "slices from .npy", "CT", "one file per slice"),
    ("body", "on the coarse grid", "CT", "labelling air; memory allocation"),
    ("network", "whole slices", "network", "layers of 16 channels; memory traffic between layers"),
    ("clean-up", "in three dimensions", "masks", "connected components; memory allocation"),
    ("segment", "body, network near air only, clean-up", "", "the network"),
    ("write masks", "to .npy", "masks", "one file per slice"),
)
PEER = Path(__file__).with_name("lungmask_peer.py")


def ours(commands: list[tuple], folder: Path) -> list[float]:
    """Seconds of each command, one after the other in a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return [step(*command, cwd=folder)[0] for command in commands]


def peak_gib(script: str, *flags: object, cwd: Path) -> float:
    """Peak memory of one step, measured by a process of its own."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=2);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20)"
    )
    command = [sys.executable, "-c", code, sys.executable, str(Path(__file__).parent.parent / script), *map(str, flags)]
    return float(subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout)


def stage_functions(scan: Path, folder: Path, predictor: Predictor) -> dict[str, Callable]:
    """What runs inside the two steps, by the keys of STAGES; each leaves in `seen` what the next ones need."""
    seen: dict = {}

    def read_headers() -> None:
        (files,) = find_series(scan).values()
        seen["scan"] = open_series(files)

    def write(name: str, images: np.ndarray) -> None:
        replace_folder(folder / name, {f"{z}.npy": npy_bytes(image) for z, image in enumerate(images)})

    def spacing() -> tuple:
        return seen["scan"].frame.spacing_mm

    return {
        "headers": read_headers,
        "pixels": lambda: seen.update(ct=seen["scan"].read()),
        "write CT": lambda: write("ct", clip_ct(seen["ct"])),
        "read CT": lambda: [np.load(folder / "ct" / f"{z}.npy") for z in range(len(seen["ct"]))],
        "body": lambda: seen.update(body=find_body(seen["ct"], spacing())),
        "network": lambda: seen.update(found=predict_slices(predictor.network, seen["ct"], predictor.model.window_hu)),
        "clean-up": lambda: clean_volume(seen["found"], seen["ct"], spacing(), seen["body"]),
        "segment": lambda: seen.update(lung=segment(seen["ct"], spacing(), predictor)),
        "write masks": lambda: write("masks", seen["lung"].astype(np.uint8)),
        "start": lambda: run(sys.executable, "-c", "import torch", cwd=folder),
    }


def stage_rows(scan: Path, folder: Path) -> list[tuple]:
    """(stage, seconds, minimum seconds, what takes the time): medians of a few passes in one process."""
    predictor = load_predictor(device="cpu")
    times = medians_s(stage_functions(scan, folder, predictor), ROUNDS)
    kind = torch.bfloat16 if predictor.amp else torch.float32
    count = SLICES * multiply_adds(predictor.network, torch.zeros(1, 1, 512, 512, dtype=kind))
    least = {
        "CT": SLICES * 512 * 512 * 2 / copy_gb_s() / 1e9,
        "masks": SLICES * 512 * 512 / copy_gb_s() / 1e9,
        "network": count / multiply_adds_g_s(kind) / 1e9,
    }
    return [
        (f"{key}: {what}", f"{times[key]:.2f}", f"{least[limit]:.2f}" if limit else "", why)
        for key, what, limit, why in STAGES
    ]


def command_rows(root: Path, many: Path, folder: Path, lungmask: str | None) -> list[tuple]:
    """(what, measured) of one scan and of many, as commands; lungmask: python of its environment."""
    one_command, step_4, step_5, twenty = (
        ("model_test.py", "--dicom", root, "--png", "none"),
        ("prepare_lung_image.py", "--test", "--dicom", root),
        ("model_test.py", "--png", "none"),
        ("model_test.py", "--dicom", many, "--png", "none"),
    )
    ours([one_command], folder)  # once before, so that all read from the system's cache
    times = [ours([one_command], folder) + ours([step_4, step_5], folder) for _ in range(ROUNDS)]
    alone, prepare, predict = (statistics.median(part) for part in zip(*times, strict=True))
    both = statistics.median(sum(row[1:]) for row in times)
    rows = [
        ("from a DICOM folder to masks by `model_test.py --dicom` (target: under 3.5 s)", f"**{alone:.2f} s**"),
        ("the same by steps 4 and 5", f"{both:.2f} s"),
        ("step 4, `prepare_lung_image.py --test --dicom`", f"{prepare:.2f} s"),
        ("step 5, `model_test.py`", f"{predict:.2f} s"),
    ]
    if lungmask:
        seconds, _ = run(lungmask, PEER, root, folder / "lungmask.nii.gz", cwd=WORK)
        rows.append(("lungmask, from the same folder to a mask file", f"{seconds:.1f} s"))
        rows.append(("ratio to the first row (target: 60)", f"**{seconds / alone:.1f}**"))
    else:
        rows.append(("lungmask", "not measured: no `--lungmask PYTHON` given"))
    together = ours([twenty], folder)[0] / SCANS
    rows.append((f"{SCANS} scans in one command, seconds a scan (target: under 2.2 s)", f"**{together:.2f} s**"))
    for what, command in (("step 4", step_4), ("step 5", step_5), (f"one command with {SCANS} scans", twenty)):
        shutil.rmtree(folder / "predictions", ignore_errors=True)
        rows.append((f"peak memory of {what} (target: 1.5 GiB)", f"{peak_gib(*command, cwd=folder):.2f} GiB"))
    return rows


def main() -> None:
    """Measure, compare, write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lungmask", metavar="PYTHON", help="python of an environment with lungmask and torch")
    flags = parser.parse_args()
    root, many, folder = WORK / "scan", WORK / "twenty", WORK / "whole"
    whole_scan(root, SLICES)
    many_scans(many, SCANS, SLICES)
    rows = command_rows(root, many, folder, flags.lungmask)
    gb = sum(p.stat().st_size for p in root.rglob("*.dcm")) / 1e9
    cache = f"{SLICES} slices of 512x512 pixels, {gb:.2f} GB of DICOM in the file cache"
    lines = [
        *table(("what", "measured"), rows),
        "",
        f"{cache}; medians of {ROUNDS} runs without",
        f"earlier results, in turn; {SCANS} scans once. This machine copies memory at {copy_gb_s():.1f} GB per second.",
        "lungmask ran once. Its weights could not be downloaded, so it ran with random weights, and its",
        "post-processing on two ovals instead of the random output.",
        "",
        "The stages of both steps, in one process, in seconds. The minimum is the time to copy the data in memory,",
        "or the time for the multiply-adds at the rate of a large convolution.",
        "",
        *table(("stage", "measured", "minimum", "what takes the time"), stage_rows(root, folder)),
    ]
    write_section("A whole scan, and twenty", lines)


if __name__ == "__main__":
    main()
