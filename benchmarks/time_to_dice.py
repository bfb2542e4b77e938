"""Seconds until the validation Dice is 0.98, on the middle ten slices of 220 synthetic patients and the real slices.

Run     python -m benchmarks.time_to_dice
"""

import argparse
import csv
from pathlib import Path

import torch

from benchmarks.data import training_scans
from benchmarks.peers import first_network, first_step
from benchmarks.report import REAL, WORK, medians_s, step, table, write_section

SOURCES = (  # the same as ever, so that times compare; `weights.recipe` has more
    "LIDC-IDRI",
    "ct/RIDER-0117",
    "ct/TCGA-single-slices",
    "ct/CPTAC-LSCC-C3N-00247",
    "ct/LungFCP-01-0001",
)

PATIENTS, EPOCHS, WANTED_DICE = 220, 4, 0.98
FIRST_EPOCHS, FIRST_BATCH, ROUNDS, TRAIN_SHARE = 20, 4, 2, 0.8


def first_version_step_s() -> float:
    """Seconds of one of its steps, four slices of 512x512."""
    network = first_network()
    adam = torch.optim.Adam(network.parameters(), lr=1e-4)
    image, target = torch.rand(FIRST_BATCH, 1, 512, 512), torch.zeros(FIRST_BATCH, 1, 512, 512)
    return medians_s({"step": lambda: first_step(network, adam, image, target)}, ROUNDS)["step"]


def read_csv(path: Path) -> list[dict]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def train(folder: Path, sources: list[Path]) -> tuple[float, float]:
    """Steps 1 to 3, every slice of every source; returns seconds and peak memory in GiB of step 3."""
    step("config_file_create.py", "--epochs", EPOCHS, cwd=folder)
    for source in sources:
        step("prepare_lung_image.py", "--all-slices", "--add", "--dicom", source, cwd=folder)
    return step("Lung_segmentation.py", "--fresh", cwd=folder)


def compare(slices: int, all_s: float, reached_s: float | None) -> list[tuple]:
    """Rows: our time to the wanted Dice, the first version's, and their ratio; `all_s` is that of all our epochs."""
    step_s = first_version_step_s()
    steps = round(FIRST_EPOCHS * TRAIN_SHARE * slices / FIRST_BATCH)
    ours = f"**{reached_s:.0f}**" if reached_s else "**not reached**"
    rows = [(f"seconds to validation Dice {WANTED_DICE} (target: under 100)", ours)]
    rows.append((f"first version, one step of {FIRST_BATCH} slices, measured", f"{step_s:.1f} s"))
    hours = f"{steps * step_s / 3600:.0f} hours"
    rows.append((f"first version, {FIRST_EPOCHS} epochs = {steps} steps, **extrapolated**", hours))
    what = "ratio (target: 1,000)" if reached_s else f"ratio of its epochs to all {EPOCHS} of ours"
    rows.append((what, f"**{steps * step_s / (reached_s or all_s):,.0f}**"))
    return rows


def main() -> None:
    """Make the slices, train, read the history, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, default=REAL, help="folder with the real scans (default: %(default)s)")
    real = parser.parse_args().real.resolve()
    folder = WORK / "time_to_dice"
    training_scans(folder / "scans", PATIENTS)
    real_sources = [real / source for source in SOURCES if (real / source).is_dir()]
    whole_s, gib = train(folder, [folder / "scans", *real_sources])
    epochs, so_far, reached_s = [], 0.0, None
    for row in read_csv(folder / "runs/lung/history.csv"):
        so_far += float(row["seconds"])
        epochs.append((row["epoch"], f"{so_far:.0f}", f"{float(row['val_dice']):.4f}"))
        if reached_s is None and float(row["val_dice"]) >= WANTED_DICE:
            reached_s = so_far
    slices = len(read_csv(folder / "mydata/Image/manifest.csv"))
    rows = [("slices; one fifth of the patients for validation", slices), *compare(slices, so_far, reached_s)]
    rows.append(("step 3 in total, with start, reading and pictures", f"{whole_s:.0f} s"))
    rows.append(("peak memory of step 3 (target: under 4 GiB)", f"{gib:.2f} GiB"))
    lines = [*table(("epoch", "seconds so far", "validation Dice"), epochs), "", *table(("what", "measured"), rows)]
    if not real_sources:
        lines += ["", f"The real slices were not found in {real}; synthetic ones only."]
    write_section("Time to validation Dice 0.98", lines)


if __name__ == "__main__":
    main()
