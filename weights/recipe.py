"""How the shipped weights are made: our own scripts, on synthetic patients first, then on real slices.

The same second training without one fold of the real scans makes the network that `benchmarks.accuracy` judges on it.

Run     python -m weights.recipe --real DIR             trains, puts weights/lung_unet.pth and .json in place
        python -m weights.recipe --real DIR --fold 1    leaves a fold out, for benchmarks.accuracy alone
"""

import argparse
import shutil
from pathlib import Path

from benchmarks.report import REAL, WORK, step
from lungct.weights import SHIPPED, read_card, write_card

FOLDS = (  # real scans; what was trained without a fold is judged on it, and no patient is in two
    ("LIDC-IDRI", "LIDC-IDRI-whole/LIDC-IDRI-0001", "ct/ACRIN-FLT-Breast-001"),
    ("LIDC-IDRI-whole/LIDC-IDRI-0050", "ct/RIDER-0117"),
    ("ct/CPTAC-LSCC-C3N-00247", "ct/LungFCP-01-0001", "ct/LungCT-Diagnosis-R_035"),
    ("ct/RIDER-1129164940", "ct/Lung_Dx-A0001"),
    ("ct/Lung_Dx-A0002", "ct/TCGA-single-slices", "ct/TCGA-abdomen-slices"),
)
MODEL = Path("demo/runs/lung/unet_model.pth")  # in the folder of a training
PATIENTS, SLICES, EPOCHS = 16, 48, 12
SECOND = ("--epochs", 4, "--learning-rate", 2e-3)  # training, with real slices
CONF = ("--conf", "demo/lung.conf")


def train_synthetic(folder: Path) -> Path:
    """Steps 1 to 3 with synthetic patients alone; returns the weights, which stay for the next time."""
    if not (folder / MODEL).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        flags = ("--slices-per-patient", SLICES, "--epochs", EPOCHS)
        step("config_file_create.py", "--demo", PATIENTS, *flags, cwd=folder)
        step("prepare_lung_image.py", *CONF, cwd=folder)
        print(f"{folder}: trained in {step('Lung_segmentation.py', *CONF, cwd=folder)[0]:.0f} s", flush=True)
    return folder / MODEL


def train_real(folder: Path, real: Path, without: int | None = None) -> Path:
    """The second training, with the synthetic patients and all folds of the real scans but one; returns the weights."""
    if not (folder / MODEL).is_file():
        first = train_synthetic(WORK / "synthetic")
        shutil.copytree(WORK / "synthetic", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("runs"))
        for number, sources in enumerate(FOLDS):
            for source in sources:
                if number != without:
                    step("prepare_lung_image.py", "--all-slices", "--add", "--dicom", real / source, *CONF, cwd=folder)
        seconds, _ = step("Lung_segmentation.py", *CONF, "--init", first, *SECOND, cwd=folder)
        print(f"{folder}: trained in {seconds:.0f} s", flush=True)
    return folder / MODEL


def fold_weights(fold: int, real: Path) -> Path:
    """The weights of a training without a fold; trains where there are none."""
    return train_real(WORK / f"without_fold_{fold}", real, fold)


def name_synthetic(card: dict, first_card: dict) -> dict:
    """A card that says of the synthetic patients that they are: they bear the IDs of real ones, whom it has not seen.

    first_card: of the weights that were trained on these alone
    """
    synthetic = {name for names in first_card["patients"].values() for name in names}
    rename = {name: f"synthetic {name}" for name in synthetic}
    patients = {part: sorted(rename.get(name, name) for name in names) for part, names in card["patients"].items()}
    return {**card, "patients": patients}


def main() -> None:
    """Train, and put the weights in place where nothing was left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, default=REAL, help="folder with the real scans (default: %(default)s)")
    parser.add_argument("--fold", type=int, choices=range(len(FOLDS)), help="leave this fold out, and do no more")
    flags = parser.parse_args()
    real = flags.real.resolve()
    if flags.fold is not None:
        weights = fold_weights(flags.fold, real)
        print(f"wrote {weights}; next: python -m benchmarks.accuracy --folds {flags.fold}")
        return
    weights = train_real(WORK / "weights", real)
    _, card = read_card(weights)
    _, first_card = read_card(train_synthetic(WORK / "synthetic"))
    shutil.copy(weights, SHIPPED)
    write_card(SHIPPED, name_synthetic(card, first_card))
    print("wrote weights/lung_unet.pth and .json; next: python -m benchmarks.accuracy")


if __name__ == "__main__":
    main()
