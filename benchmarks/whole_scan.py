"""A scan of 250 slices from its DICOM folder to masks on disk, as a user runs it; lungmask beside it.

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

from benchmarks.data import whole_scan
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
ROUNDS = 5
STAGES = (  # key, what, what sets the minimum, what takes the time
    ("start", "Python and torch", "", "importing torch; step 5 only"),
    ("headers", "of all slices", "", "opening each file; parsing numbers"),
    ("pixels", "DICOM to HU", "CT", "pydicom parses each header again"),
    ("write CT", "slices to .npy", "CT", "one file per slice, with a copy in memory"),
    ("read CT", "slices from .npy", "CT", "one file per slice"),
    ("body", "on the coarse grid", "CT", "labelling air; memory allocation"),
    ("network", "whole slices", "network", "layers of 16 channels; memory traffic between layers"),
    ("clean-up", "in three dimensions", "masks", "connected components; memory allocation"),
    ("segment", "body, network on the trunk only, clean-up", "", "the network"),
    ("write masks", "to .npy", "masks", "one file per slice"),
)
PEER = Path(__file__).with_name("lungmask_peer.py")


def ours(scan: Path, run_folder: Path) -> tuple[float, float]:
    """Seconds of steps 4 and 5, from nothing."""
    shutil.rmtree(run_folder, ignore_errors=True)
    run_folder.mkdir(parents=True)
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
        ("both: from a DICOM folder to masks on disk (target: under 6 s)", f"**{whole:.2f} s**"),
    ]
    if flags.lungmask:
        seconds, _ = run(flags.lungmask, PEER, root, folder / "lungmask.nii.gz", cwd=WORK)
        rows.append(("lungmask, from the same folder to a mask file", f"{seconds:.1f} s"))
        rows.append(("ratio (target: 30)", f"**{seconds / whole:.1f}**"))
    else:
        rows.append(("lungmask", "not measured: no `--lungmask PYTHON` given"))
    shutil.rmtree(folder / "predictions")
    shutil.rmtree(folder / "mydata")
    for script, *options in (("prepare_lung_image.py", "--test", "--dicom", root), ("model_test.py", "--png", "none")):
        rows.append(
            (f"peak memory of `{script}` (target: 1.5 GiB)", f"{peak_gib(script, *options, cwd=folder):.2f} GiB")
        )
    gb = sum(p.stat().st_size for p in root.rglob("*.dcm")) / 1e9
    cache = f"{SLICES} slices of 512x512 pixels, {gb:.2f} GB of DICOM in the file cache"
    lines = [
        *table(("what", "measured"), rows),
        "",
        f"{cache}; medians of {ROUNDS} runs without",
        f"earlier results. A run starts Python twice. This machine copies memory at {copy_gb_s():.1f} GB per second.",
        "lungmask ran once. Its weights could not be downloaded, so it ran with random weights, and its",
        "post-processing on two ovals instead of the random output.",
        "",
        "The stages of both steps, in one process, in seconds. The minimum is the time to copy the data in memory,",
        "or the time for the multiply-adds at the rate of a large convolution.",
        "",
        *table(("stage", "measured", "minimum", "what takes the time"), stage_rows(root, folder)),
    ]
    write_section("A whole scan", lines)


if __name__ == "__main__":
    main()
