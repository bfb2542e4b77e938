"""Seconds until the validation Dice is 0.98, on the middle ten slices of 220 synthetic patients and the real slices.

Run     python -m benchmarks.time_to_dice
"""

import argparse
import csv
from pathlib import Path

import torch

from benchmarks.data import training_scans
from benchmarks.peers import first_network, first_step
from benchmarks.recipe import SOURCES
from benchmarks.report import REAL, WORK, medians_s, step, table, write_section

PATIENTS, EPOCHS, BATCH, WANTED_DICE = 220, 5, 8, 0.98
FIRST_EPOCHS, FIRST_BATCH, ROUNDS = 20, 4, 2


def first_version_step_s() -> float:
    """Seconds of one of its steps, four slices of 512x512."""
    network = first_network()
    adam = torch.optim.Adam(network.parameters(), lr=1e-4)
    image, target = torch.rand(FIRST_BATCH, 1, 512, 512), torch.zeros(FIRST_BATCH, 1, 512, 512)
    return medians_s({"step": lambda: first_step(network, adam, image, target)}, ROUNDS)["step"]


def main() -> None:
    """Make the slices, train, read the history, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, default=REAL, help="folder with the real scans (default: %(default)s)")
    real = parser.parse_args().real.resolve()
    folder = WORK / "time_to_dice"
    training_scans(folder / "scans", PATIENTS)
    step("config_file_create.py", "--epochs", EPOCHS, "--batch-size", BATCH, cwd=folder)
    sources = [folder / "scans", *(real / source for source in SOURCES if (real / source).is_dir())]
    for source in sources:
        step("prepare_lung_image.py", "--all-slices", "--dicom", source, cwd=folder)
    whole, gib = step("Lung_segmentation.py", "--fresh", cwd=folder)
    with (folder / "runs/lung/history.csv").open(newline="") as file:
        history = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    with (folder / "mydata/Image/manifest.csv").open(newline="") as file:
        slices = sum(1 for _ in csv.DictReader(file))
    there = next((n for n, row in enumerate(history) if row["val_dice"] >= WANTED_DICE), None)
    lines = table(
        ("epoch", "seconds so far", "validation Dice"),
        [
            (n + 1, f"{sum(row['seconds'] for row in history[: n + 1]):.0f}", f"{history[n]['val_dice']:.4f}")
            for n in range(len(history))
        ],
    )
    reached = sum(row["seconds"] for row in history[: there + 1]) if there is not None else None
    step_s = first_version_step_s()
    steps = round(FIRST_EPOCHS * 0.8 * slices / FIRST_BATCH)
    rows = [("slices, of which a fifth of the patients validates", slices)]
    rows.append(
        (
            f"seconds to validation Dice {WANTED_DICE} (wanted: under 300)",
            f"**{reached:.0f}**" if reached else "**not reached**",
        )
    )
    rows.append(("seconds of the whole step 3, with start, reading and pictures", f"{whole:.0f}"))
    rows.append(("peak memory (wanted: under 4 GiB)", f"{gib:.2f} GiB"))
    rows.append((f"first version, a step of {FIRST_BATCH} slices, measured", f"{step_s:.1f} s"))
    rows.append(
        (
            f"first version, {FIRST_EPOCHS} epochs = {steps} steps, **extrapolated**",
            f"{steps * step_s / 3600:.0f} hours",
        )
    )
    if reached:
        rows.append(("times faster (wanted: 1,000)", f"**{steps * step_s / reached:.0f}**"))
    lines += ["", *table(("what", "measured"), rows), ""]
    lines += ["" if len(sources) > 1 else "The real slices were not there: synthetic ones alone."]
    write_section("Time to validation Dice 0.98", lines)


if __name__ == "__main__":
    main()
