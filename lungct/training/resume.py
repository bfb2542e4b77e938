"""What a training is made from, and whether a command goes on with an earlier one or asks for another."""

from dataclasses import asdict
from pathlib import Path

import torch

from lungct import LungError, __version__
from lungct.code_hash import TRAINING_CODE
from lungct.files import fingerprint
from lungct.parallel import some_of
from lungct.scans.nifti import dicom_series
from lungct.settings import BY_ATTRIBUTE, default_values
from lungct.slices import StoredSlice
from lungct.training.trainer import Progress, Trainer, TrainSettings
from lungct.weights import Model, all_who_took_part, read_torch

# what may change from run to run
MAY_CHANGE = ("epochs", "patience", "device", "run_path", "lung_ct_path", "lung_image_path")


def training_input(
    settings: TrainSettings, split: dict[str, list[str]], rows: list[StoredSlice], amp: bool, first_card: dict
) -> dict:
    """All that decides how a training goes, as plain values that a checkpoint can hold.

    split: patient IDs by part, `train` and `val`; rows: the slices of all patients
    first_card: of the weights that it started from, empty where there are none
    """
    chosen = {name: value for name, value in asdict(settings).items() if name not in MAY_CHANGE}
    slices = fingerprint(
        sorted((row.scan, row.z_mm, row.spacing_mm, row.ct_checksum, row.lung_checksum) for row in rows)
    )
    taking_part = {*split["train"], *split["val"]}
    by_file = {row.patient_id for row in rows if not dicom_series(row)} & taking_part
    return {
        "settings": {**chosen, "amp": amp},
        "split": split,
        "slices": slices,
        "init_sha256": first_card.get("sha256", ""),
        "patients": all_who_took_part(split, first_card, by_file),
        "version": __version__,
        "code": TRAINING_CODE,
    }


def check_first_model(settings: TrainSettings, model: Model, weights: Path) -> None:
    """Raises LungError where the settings ask for another network than the weights to start from have."""
    low, high = model.window_hu
    has = {"width": model.width, "depth": model.depth, "patch": model.patch}
    has |= {"window_low_hu": low, "window_high_hu": high}
    other = {name: value for name, value in has.items() if getattr(settings, name) != value}
    if other:
        asked = ", ".join(f"{name} = {getattr(settings, name)}" for name in other)
        flags = " ".join(f"{BY_ATTRIBUTE[name].flag} {value}" for name, value in other.items())
        raise LungError(f"--init {weights} is of another network than {asked}; give {flags}, or train without --init")


def find_differences(before: dict, now: dict) -> list[str]:
    """In what two training inputs differ, a phrase each; empty where they are the same."""
    found = []
    earlier = {**default_values(), **before["settings"]}  # a setting that is new since then was at its default
    for name, value in now["settings"].items():
        old = earlier[name]
        if old != value:
            found.append(f"{name} was {old} and is {value} now")
    found += split_differences(before["split"], now["split"])
    if before["init_sha256"] != now["init_sha256"]:
        found.append("it started from other weights (--init)")
    if not found and before["slices"] != now["slices"]:
        found.append("slices or labels were made again with other input, options or code")
    if before.get("code") != now["code"]:
        found.append(f"its code was that of version {before.get('version', '0.4.0 or earlier')} and has changed since")
    return found


def split_differences(before: dict[str, list[str]], now: dict[str, list[str]]) -> list[str]:
    """Patients that came, went, or would move between training and validation."""
    part_before = {patient: part for part, patients in before.items() for patient in patients}
    part_now = {patient: part for part, patients in now.items() for patient in patients}
    new = sorted(part_now.keys() - part_before.keys())
    gone = sorted(part_before.keys() - part_now.keys())
    moved = sorted(name for name in part_now.keys() & part_before.keys() if part_now[name] != part_before[name])
    phrases = (("new patients", new), ("missing patients", gone), ("moved between training and validation", moved))
    return [f"{phrase}: {some_of(patients)}" for phrase, patients in phrases if patients]


def read_folds(trainer: Trainer) -> list[Progress | LungError]:
    """How far each fold of a cross-validation is, or why it does not count beside this training's own fold."""
    return [read_fold(trainer, fold) for fold in range(trainer.settings.folds)]


def read_fold(trainer: Trainer, fold: int) -> Progress | LungError:
    """One of them, from its checkpoint."""
    settings, path = trainer.settings, trainer.settings.fold_folder(fold) / "checkpoint.pth"
    if not path.is_file():
        return LungError("not trained yet")
    try:
        state = read_torch(path, torch.device("cpu"))
        if without_fold(state["made_from"]) != without_fold(trainer.made_from):
            return LungError("trained with other settings, patients, slices, first weights or code")
        progress = Progress.from_state(state["progress"])
    except (LungError, KeyError, TypeError) as error:
        return LungError(f"{path}: not readable ({error})")
    return progress if progress.is_over(settings) else LungError(f"not finished: {progress.epoch} epochs")


def without_fold(made_from: dict) -> dict:
    """What the trainings of all folds were made from alike."""
    own = dict.fromkeys(("split", "patients", "version"))
    return {**made_from, **own, "settings": {**made_from["settings"], "fold": None}}
