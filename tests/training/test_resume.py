"""A command goes on with a training only where it asks for that training."""

import json
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


def test_a_setting_that_the_checkpoint_does_not_know_was_at_its_default():
    assert find_differences(made_from(), made_from(settings={"folds": 0})) == []
    assert find_differences(made_from(), made_from(settings={"folds": 5})) == ["folds was 0 and is 5 now"]


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
    assert "nothing to do: this training ended after 1 epoch;" in text
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


def card(folder: Path) -> dict:
    """What stands beside the weights of a run."""
    return json.loads((folder / "unet_model.json").read_text())


def fold_flags(fold: int, folds: int = 2) -> list[str]:
    return ["--folds", str(folds), "--fold", str(fold)]


def test_folds_lie_beside_each_other_validate_each_patient_once_and_are_summed_up(trained, tmp_path, capsys):
    before = (tmp_path / "run/unet_model.pth").read_bytes()
    step.main([*trained, *fold_flags(0)])
    text = capsys.readouterr().out
    assert "fold 0 of folds 0 to 1; to check on: P" in text
    assert "warning: 2 patients to check on, fewer than 3" in text
    assert "   1              -      -  not trained yet\n" in text
    assert "over 1 of 2 folds" in text
    assert "run/fold_0; next: python Lung_segmentation.py --folds 2 --fold 1 --conf " in text
    step.main([*trained, *fold_flags(1)])
    text = capsys.readouterr().out
    cards = [card(tmp_path / f"run/fold_{fold}") for fold in range(2)]
    assert sorted(name for one in cards for name in one["patients"]["val"]) == ["P0", "P1", "P2", "P3"]
    assert [(one["settings"]["folds"], one["settings"]["fold"]) for one in cards] == [(2, 0), (2, 1)]
    first, second = (one["validation"]["val_dice"] for one in cards)
    assert f"   0  {first:13.4f}      1\n   1  {second:13.4f}      1\n" in text
    assert f"mean {(first + second) / 2:.4f} over 2 of 2 folds, worst {min(first, second):.4f}" in text
    assert (tmp_path / "run/unet_model.pth").read_bytes() == before


def test_folds_of_another_number_or_other_settings_are_refused_and_not_summed_up(trained, capsys):
    step.main([*trained, *fold_flags(0)])
    with pytest.raises(LungError, match=r"fold_0/checkpoint.pth is of another training: folds was 2 and is 3 now"):
        step.main([*trained, *fold_flags(0, folds=3)])
    capsys.readouterr()
    step.main([*trained, *fold_flags(1), "--learning-rate", "0.001"])
    text = capsys.readouterr().out
    assert "   0              -      -  trained with other settings, patients, slices or first weights\n" in text
    assert "over 1 of 2 folds" in text


def test_a_fold_that_is_not_finished_is_not_summed_up(trained, capsys):
    step.main([*trained, *fold_flags(0)])
    step.main([*trained, *fold_flags(1), "--epochs", "2"])
    text = capsys.readouterr().out
    assert "   0              -      -  not finished: 1 epochs\n" in text
    assert "next: python Lung_segmentation.py --folds 2 --fold 0 --conf " in text


def test_fewer_patients_are_another_training_with_the_same_validation(trained, tmp_path, capsys):
    with pytest.raises(LungError, match=r"train_patients was 0 and is 2 now; missing patients.*--run-path another"):
        step.main([*trained, "--train-patients", "2"])
    step.main([*trained, "--train-patients", "2", "--run-path", str(tmp_path / "two")])
    text = capsys.readouterr().out
    assert "train_patients = 2: 1 patient not used" in text
    assert "to train on: 2 patients, 4 slices; to check on: 1, 2" in text
    both, all_of_them = card(tmp_path / "two"), card(tmp_path / "run")
    assert both["patients"]["val"] == all_of_them["patients"]["val"]
    assert set(both["patients"]["train"]) < set(all_of_them["patients"]["train"])
    assert both["settings"]["train_patients"] == 2


def test_the_command_for_step_5_names_weights_that_it_would_not_take_by_itself(tmp_path):
    conf = tmp_path / "lung.conf"
    prepare = f"python prepare_lung_image.py --test --conf {conf}"
    write_conf(conf, {**default_values(), "weights_path": "runs/lung/unet_model.pth"})
    assert step.next_commands(tmp_path / "runs" / "lung", str(conf)) == prepare
    assert step.next_commands(tmp_path / "runs" / "other", str(conf)) == (
        f"{prepare}, then, since weights_path is {tmp_path / 'runs/lung/unet_model.pth'}: "
        f"python model_test.py --weights-path {tmp_path / 'runs/other/unet_model.pth'} --conf {conf}"
    )
