"""What a training was made from, and whether a command goes on with it or asks for another one."""

from dataclasses import asdict

import torch

from lungct import LungError
from lungct.files import fingerprint
from lungct.parallel import some_of
from lungct.settings import default_values
from lungct.slices import StoredSlice
from lungct.training.trainer import Progress, Trainer, TrainSettings
from lungct.weights import read_torch

FREE = ("epochs", "patience", "device", "run_path", "lung_ct_path", "lung_image_path")  # may change from run to run


def training_input(
    settings: TrainSettings, split: dict[str, list[str]], rows: list[StoredSlice], amp: bool, init_sha256: str
) -> dict:
    """All that decides how a training goes, as plain values that a checkpoint can hold.

    split: patient IDs by part, `train` and `val`; rows: the slices of all patients
    init_sha256: of the weights that it started from, or empty
    """
    chosen = {name: value for name, value in asdict(settings).items() if name not in FREE}
    slices = fingerprint(
        sorted((row.scan, row.z_index, row.fingerprint, row.ct_checksum, row.lung_checksum) for row in rows)
    )
    return {"settings": {**chosen, "amp": amp}, "split": split, "slices": slices, "init_sha256": init_sha256}


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
            return LungError("trained with other settings, patients, slices or first weights")
        progress = Progress.from_state(state["progress"])
    except (LungError, KeyError, TypeError) as error:
        return LungError(f"{path}: not readable ({error})")
    return progress if progress.is_over(settings) else LungError(f"not finished: {progress.epoch} epochs")


def without_fold(made_from: dict) -> dict:
    """What the trainings of all folds were made from alike."""
    return {**made_from, "split": None, "settings": {**made_from["settings"], "fold": None}}
