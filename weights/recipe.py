"""How the shipped weights are made: our five scripts on synthetic patients and on real slices.

First without a fold of the real scans, which `benchmarks.accuracy` then judges; the same network goes on with all.

Run     python -m weights.recipe --real DIR             trains, puts weights/lung_unet.pth and .json in place
        python -m weights.recipe --real DIR --fold 1    leaves another fold out, for benchmarks.accuracy alone
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
MODEL = Path("demo/runs/lung/unet_model.pth")  # in the folder of a training
PATIENTS, SLICES, EPOCHS = 16, 48, 12
LAST = ("--epochs", 5, "--learning-rate", 1e-3)  # of the network that has seen one fold, with all scans


def train(folder: Path, real: Path, without: int | None = None, init: Path | None = None) -> float:
    """Steps 1 to 3 in a folder, with every fold of the real scans but one; returns the seconds of step 3.

    init: weights to go on from, for LAST epochs
    """
    folder.mkdir(parents=True, exist_ok=True)
    flags = ("--slices-per-patient", SLICES, "--epochs", EPOCHS)
    step("config_file_create.py", "--demo", PATIENTS, *flags, cwd=folder)
    conf = ("--conf", "demo/lung.conf")
    step("prepare_lung_image.py", *conf, cwd=folder)
    for number, sources in enumerate(FOLDS):
        for source in sources:
            if number != without:
                step("prepare_lung_image.py", "--all-slices", "--add", "--dicom", real / source, *conf, cwd=folder)
    more = ("--init", init, *LAST) if init else ()
    return step("Lung_segmentation.py", *conf, *more, cwd=folder)[0]


def fold_weights(fold: int, real: Path) -> Path:
    """The weights of a training without a fold; trains where there are none."""
    folder = WORK / f"without_fold_{fold}"
    weights = folder / MODEL
    if not weights.is_file():
        print(f"{folder}: trained in {train(folder, real, fold):.0f} s", flush=True)
    return weights


def main() -> None:
    """Train, and put the weights in place where nothing was left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, default=REAL, help="folder with the real scans (default: %(default)s)")
    parser.add_argument("--fold", type=int, choices=range(len(FOLDS)), help="leave this fold out, and do no more")
    flags = parser.parse_args()
    real = flags.real.resolve()
    first = fold_weights(flags.fold or 0, real)
    if flags.fold is not None:
        print(f"wrote {first}; next: python -m benchmarks.accuracy --folds {flags.fold}")
        return
    seconds = train(WORK / "weights", real, init=first)
    for ending in ("pth", "json"):
        shutil.copy((WORK / "weights" / MODEL).with_suffix(f".{ending}"), ROOT / f"weights/lung_unet.{ending}")
    print(f"trained in {seconds:.0f} s; wrote weights/lung_unet.pth and .json")


if __name__ == "__main__":
    main()
