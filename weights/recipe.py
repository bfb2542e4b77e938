"""How the shipped weights are made: our five scripts on synthetic patients and on real slices.

Run     python -m weights.recipe --real DIR     trains, puts weights/lung_unet.pth and .json in place
"""

import argparse
import shutil
from pathlib import Path

from benchmarks.report import REAL, ROOT, WORK, step

SOURCES = (
    "LIDC-IDRI",
    "ct/RIDER-0117",
    "ct/TCGA-single-slices",
    "ct/CPTAC-LSCC-C3N-00247",
    "ct/LungFCP-01-0001",
)
PATIENTS, SLICES, EPOCHS = 24, 48, 16


def train(folder: Path, real: Path, leave_out: str | None = None) -> float:
    """Steps 1 to 3 in a folder, with every real source but one; returns the seconds of step 3."""
    folder.mkdir(parents=True, exist_ok=True)
    flags = ("--slices-per-patient", SLICES, "--epochs", EPOCHS)
    step("config_file_create.py", "--demo", PATIENTS, *flags, cwd=folder)
    conf = ("--conf", "demo/lung.conf")
    step("prepare_lung_image.py", *conf, cwd=folder)
    for source in SOURCES:
        if source != leave_out:
            step("prepare_lung_image.py", "--all-slices", "--add", "--dicom", real / source, *conf, cwd=folder)
    return step("Lung_segmentation.py", *conf, cwd=folder)[0]


def main() -> None:
    """Train on everything and put the weights in place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, default=REAL, help="folder with the real scans (default: %(default)s)")
    flags = parser.parse_args()
    seconds = train(WORK / "weights", flags.real.resolve())
    for ending in ("pth", "json"):
        shutil.copy(WORK / f"weights/demo/runs/lung/unet_model.{ending}", ROOT / f"weights/lung_unet.{ending}")
    print(f"trained in {seconds:.0f} s; wrote weights/lung_unet.pth and .json")


if __name__ == "__main__":
    main()
