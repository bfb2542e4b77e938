"""How the shipped weights are made: our five scripts on synthetic patients and on real slices.

Run     python -m weights.recipe --real DIR             trains, puts weights/lung_unet.pth and .json in place
        python -m weights.recipe --real DIR --fold 0    leaves a fold of the real scans out, for benchmarks.accuracy
"""

import argparse
import shutil
from pathlib import Path

from benchmarks.report import REAL, ROOT, WORK, step

FOLDS = (  # real scans; what was trained without a fold is judged on it, and no patient is in two
    (
        "LIDC-IDRI",
        "LIDC-IDRI-whole/LIDC-IDRI-0001",
        "ct/RIDER-1129164940",
        "ct/Lung_Dx-A0001",
        "ct/LungFCP-01-0001",
        "ct/ACRIN-FLT-Breast-001",
    ),
    (
        "LIDC-IDRI-whole/LIDC-IDRI-0050",
        "ct/CPTAC-LSCC-C3N-00247",
        "ct/Lung_Dx-A0002",
        "ct/RIDER-0117",
        "ct/LungCT-Diagnosis-R_035",
        "ct/TCGA-single-slices",
        "ct/TCGA-abdomen-slices",
    ),
)
PATIENTS, SLICES, EPOCHS = 16, 48, 12


def train(folder: Path, real: Path, without: int | None = None) -> float:
    """Steps 1 to 3 in a folder, with every fold of the real scans but one; returns the seconds of step 3."""
    folder.mkdir(parents=True, exist_ok=True)
    flags = ("--slices-per-patient", SLICES, "--epochs", EPOCHS)
    step("config_file_create.py", "--demo", PATIENTS, *flags, cwd=folder)
    conf = ("--conf", "demo/lung.conf")
    step("prepare_lung_image.py", *conf, cwd=folder)
    for number, sources in enumerate(FOLDS):
        for source in sources:
            if number != without:
                step("prepare_lung_image.py", "--all-slices", "--add", "--dicom", real / source, *conf, cwd=folder)
    return step("Lung_segmentation.py", *conf, cwd=folder)[0]


def fold_folder(fold: int | None) -> Path:
    """Where a training without a fold, or with all of them, is kept."""
    return WORK / ("weights" if fold is None else f"without_fold_{fold}")


def main() -> None:
    """Train, and put the weights in place where nothing was left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, default=REAL, help="folder with the real scans (default: %(default)s)")
    parser.add_argument("--fold", type=int, choices=range(len(FOLDS)), help="leave this fold out")
    flags = parser.parse_args()
    folder = fold_folder(flags.fold)
    seconds = train(folder, flags.real.resolve(), flags.fold)
    if flags.fold is not None:
        print(f"trained in {seconds:.0f} s; wrote {folder}; next: python -m benchmarks.accuracy")
        return
    for ending in ("pth", "json"):
        shutil.copy(folder / f"demo/runs/lung/unet_model.{ending}", ROOT / f"weights/lung_unet.{ending}")
    print(f"trained in {seconds:.0f} s; wrote weights/lung_unet.pth and .json")


if __name__ == "__main__":
    main()
