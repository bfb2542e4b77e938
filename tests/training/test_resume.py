"""A command goes on with a training only where it asks for that training."""

from pathlib import Path

import numpy as np
import pytest
from conftest import make_row

import Lung_segmentation as step
from lungct import LungError
from lungct.files import npy_bytes, replace_folder
from lungct.settings import default_values, write_conf
from lungct.slices import lung_image, write_manifest
from lungct.training.resume import find_differences, split_differences


def made_from(**changes) -> dict:
    settings = {"learning_rate": 0.003, "amp": False, **changes.pop("settings", {})}
    split = {"train": ["A", "B", "C"], "val": ["D"]}
    return {"settings": settings, "split": split, "slices": "1", "init_sha256": "", **changes}


def test_the_same_input_has_no_differences():
    assert find_differences(made_from(), made_from()) == []


def test_each_difference_is_named():
    assert find_differences(made_from(), made_from(settings={"learning_rate": 0.1})) == [
        "learning_rate was 0.003 and is 0.1 now"
    ]
    assert find_differences(made_from(), made_from(init_sha256="ab")) == ["it started from other weights (--init)"]
    (phrase,) = find_differences(made_from(), made_from(slices="2"))
    assert "made again" in phrase


def test_a_patient_who_would_move_into_validation_is_named():
    before = {"train": ["A", "B", "C"], "val": ["D"]}
    now = {"train": ["B", "D", "E"], "val": ["A"]}
    assert split_differences(before, now) == [
        "new patients: E",
        "missing patients: C",
        "moved between training and validation: A, D",
    ]


def write_slices(root: Path, patients: int) -> None:
    """A manifest of patients with two slices each, a bright body and a dark square as their lung."""
    rows = []
    lung = np.zeros((32, 32), bool)
    lung[10:20, 8:24] = True
    for patient in (f"P{n}" for n in range(patients)):
        ct_hu = np.where(lung, -800, 40).astype(np.int16)
        names = [f"{patient}_slice{z:03d}" for z in range(2)]
        replace_folder(root / "ct" / patient, {f"{name}.npy": npy_bytes(ct_hu) for name in names})
        replace_folder(root / "lung" / patient, {f"{name}.npy": npy_bytes(lung_image(ct_hu, lung)) for name in names})
        rows += [make_row(patient, z, lung_px=160, rows=32, columns=32, fingerprint=patient) for z in range(2)]
    write_manifest(root / "manifest.csv", rows)


@pytest.fixture
def trained(tmp_path, capsys) -> list[str]:
    """The flags of a training of one epoch on four patients that was run."""
    write_slices(tmp_path, 4)
    paths = {"lung_ct_path": "ct", "lung_image_path": "lung", "run_path": "run"}
    small = {"width": 4, "depth": 2, "device": "cpu", "amp": "off", "epochs": 1, "augment": False}
    write_conf(tmp_path / "lung.conf", {**default_values(), **paths, **small})
    flags = ["--conf", str(tmp_path / "lung.conf")]
    step.main(flags)
    assert "wrote unet_model.pth" in capsys.readouterr().out
    return flags


def test_a_finished_training_says_that_there_is_nothing_to_do(trained, tmp_path, capsys):
    before = (tmp_path / "run/checkpoint.pth").stat().st_mtime_ns
    step.main(trained)
    text = capsys.readouterr().out
    assert "nothing to do: this training ended after 1 epochs" in text
    assert "wrote" not in text
    assert (tmp_path / "run/checkpoint.pth").stat().st_mtime_ns == before


def test_more_epochs_go_on(trained, capsys):
    step.main([*trained, "--epochs", "2"])
    assert "from epoch 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--learning-rate", "0.1"], "learning_rate was 0.003 and is 0.1 now"),
        (["--batch-size", "2"], "batch_size was 4 and is 2 now"),
        (["--window-low-hu", "-500"], "window_low_hu was -1024 and is -500 now"),
        (["--augment", "yes"], "augment was False and is True now"),
        (["--seed", "8"], "moved between training and validation"),
    ],
)
def test_other_settings_are_refused_and_named(trained, flags, named):
    with pytest.raises(LungError, match=r"another training.*--fresh") as refused:
        step.main([*trained, "--epochs", "2", *flags])
    assert named in str(refused.value)


def test_new_patients_are_refused_until_the_training_starts_again(trained, tmp_path, capsys):
    write_slices(tmp_path, 6)
    with pytest.raises(LungError, match="new patients: P4, P5"):
        step.main([*trained, "--epochs", "2"])
    step.main([*trained, "--fresh"])
    assert "from epoch 1" in capsys.readouterr().out


def test_other_first_weights_are_refused_beside_a_checkpoint(trained, tmp_path):
    weights = tmp_path / "run/unet_model.pth"
    with pytest.raises(LungError, match="other weights"):
        step.main([*trained, "--epochs", "2", "--init", str(weights)])


def test_labels_that_were_made_again_are_refused(trained, tmp_path):
    rows = [
        make_row(f"P{n}", z, lung_px=160, rows=32, columns=32, fingerprint="new") for n in range(4) for z in range(2)
    ]
    write_manifest(tmp_path / "manifest.csv", rows)
    with pytest.raises(LungError, match="made again with other input"):
        step.main([*trained, "--epochs", "2"])
