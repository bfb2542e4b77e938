"""A command goes on with a training only where it asks for that training."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_row

import Lung_segmentation as step
from lungct import LungError
from lungct.code_hash import SLICE_CODE
from lungct.files import npy_bytes
from lungct.settings import default_values, write_conf
from lungct.slice_files import write_scan
from lungct.slices import read_manifest, write_manifest
from lungct.training.resume import find_differences, split_differences
from lungct.weights import seen_in_training


def made_from(**changes) -> dict:
    settings = {"learning_rate": 0.003, "amp": False, **changes.pop("settings", {})}
    split = {"train": ["A", "B", "C"], "val": ["D"]}
    return {"settings": settings, "split": split, "slices": "1", "init_sha256": "", "code": "1", **changes}


def test_the_same_input_has_no_differences():
    assert find_differences(made_from(), made_from()) == []


def test_each_difference_is_named():
    assert find_differences(made_from(), made_from(settings={"learning_rate": 0.1})) == [
        "learning_rate was 0.003 and is 0.1 now"
    ]
    assert find_differences(made_from(), made_from(init_sha256="ab")) == ["it started from other weights (--init)"]
    (phrase,) = find_differences(made_from(), made_from(slices="2"))
    assert "made again" in phrase
    assert find_differences(made_from(version="0.3.9"), made_from(code="2")) == [
        "its code was that of version 0.3.9 and has changed since"
    ]


def test_a_checkpoint_that_does_not_say_its_code_was_made_by_other_code():
    before = made_from()
    del before["code"]
    (phrase,) = find_differences(before, made_from())
    assert phrase == "its code was that of version 0.4.0 or earlier and has changed since"


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


def write_slices(root: Path, patients: int, first: str = "P", **changes) -> None:
    """A manifest of patients with two slices each, a bright body and a dark square as their lung.

    first: the letter that their IDs begin with; changes: of their rows
    """
    rows = []
    lung = np.zeros((32, 32), bool)
    lung[10:20, 8:24] = True
    for patient in (f"{first}{n}" for n in range(patients)):
        ct_hu = np.where(lung, -800, 40).astype(np.int16)
        scan = [
            make_row(patient, z, lung_px=160, rows=32, columns=32, fingerprint=patient, **changes) for z in range(2)
        ]
        rows += write_scan(scan, [ct_hu] * 2, [lung] * 2, root / "ct", root / "lung", SLICE_CODE)
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
    text = capsys.readouterr().out
    assert "wrote unet_model.pth" in text
    assert "warning: the same slices under two patient IDs: " in text
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


def test_a_training_goes_on_where_the_same_slices_were_made_again(trained, tmp_path):
    """As from scans that were copied, whose files have other times."""
    rows = [replace(row, fingerprint="new") for row in read_manifest(tmp_path / "manifest.csv")]
    write_manifest(tmp_path / "manifest.csv", rows)
    step.main([*trained, "--epochs", "2"])
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) == 3


def test_slices_of_another_pixel_spacing_are_refused(trained, tmp_path):
    rows = [replace(row, row_mm=9.0) for row in read_manifest(tmp_path / "manifest.csv")]
    write_manifest(tmp_path / "manifest.csv", rows)
    with pytest.raises(LungError, match="made again with other input"):
        step.main([*trained, "--epochs", "2"])


def test_a_training_does_not_go_on_with_other_code(trained, monkeypatch):
    monkeypatch.setattr("lungct.training.resume.TRAINING_CODE", "other code")
    with pytest.raises(LungError, match=r"another training: its code was that of version .*--fresh"):
        step.main([*trained, "--epochs", "2"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--width", "8"], r"is of another network than width = 8; give --width 4, or train without --init"),
        (["--window-low-hu", "-900"], r"than window_low_hu = -900; give --window-low-hu -1024, or"),
    ],
)
def test_settings_that_the_first_weights_do_not_have_are_refused(trained, tmp_path, flags, message):
    with pytest.raises(LungError, match=message):
        step.main([*trained, *flags, "--run-path", str(tmp_path / "b"), "--init", str(tmp_path / "run/unet_model.pth")])
    assert not (tmp_path / "b").exists()


def test_labels_that_were_made_again_are_found_by_their_pixels_alone(trained, tmp_path):
    """As where the file times of other masks are those of the earlier ones."""
    rows = read_manifest(tmp_path / "manifest.csv")
    other = np.zeros((32, 32), bool)
    other[8:18, 8:24] = True
    ct_hu = np.where(other, -800, 40).astype(np.int16)
    again = write_scan(rows[:2], [ct_hu] * 2, [other] * 2, tmp_path / "ct", tmp_path / "lung", SLICE_CODE)
    write_manifest(tmp_path / "manifest.csv", again + rows[2:])
    with pytest.raises(LungError, match="made again with other input"):
        step.main(trained)


@pytest.mark.parametrize("kind", ["ct", "lung"])
def test_there_is_something_to_do_where_a_slice_was_changed_by_hand(trained, tmp_path, kind):
    path = tmp_path / kind / "P2" / "P2_slice001.npy"
    image = np.load(path)
    image[15, 15] += 1
    path.write_bytes(npy_bytes(image))
    with pytest.raises(LungError, match=r"P2_slice001\.npy: .* is not the slice .* run the same python prepare_lung"):
        step.main(trained)


def test_changed_rows_and_an_earlier_manifest_are_refused_and_other_code_is_said(trained, tmp_path, capsys):
    path = tmp_path / "manifest.csv"
    rows, text = read_manifest(path), path.read_text()
    path.write_text(text.replace("P1,P1,", "P9,P1,", 1))
    with pytest.raises(LungError, match=r"manifest\.csv: rows of P1 were changed afterwards; make it again: python"):
        step.main(trained)
    path.write_text("\n".join(line.rsplit(",", 4)[0] for line in text.splitlines()))  # without the newer columns
    with pytest.raises(LungError, match=r"not those of this version; make it again: python prepare_lung_image\.py"):
        step.main(trained)
    write_manifest(path, [replace(row, code="older") if row.scan == "P3" else row for row in rows])
    capsys.readouterr()
    step.main(trained)
    told = f"warning: {tmp_path / 'ct'}: slices of 1 scan were prepared by other code than this: P3; to make them again"
    assert capsys.readouterr().out.count(told) == 1


def card(folder: Path) -> dict:
    """What stands beside the weights of a run."""
    return json.loads((folder / "unet_model.json").read_text())


def fold_flags(fold: int, folds: int = 2) -> list[str]:
    return ["--folds", str(folds), "--fold", str(fold)]


def test_folds_lie_beside_each_other_validate_each_patient_once_and_are_summed_up(trained, tmp_path, capsys):
    before = (tmp_path / "run/unet_model.pth").read_bytes()
    step.main([*trained, *fold_flags(0)])
    text = capsys.readouterr().out
    assert "fold 0 of folds 0 to 1; validation: P" in text
    assert "warning: 2 patients for validation, fewer than 3" in text
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
    assert "   0              -      -  trained with other settings, patients, slices, first weights or code\n" in text
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
    assert "training: 2 patients, 4 slices; validation: 1 patient, 2 slices" in text
    both, all_of_them = card(tmp_path / "two"), card(tmp_path / "run")
    assert both["patients"]["val"] == all_of_them["patients"]["val"]
    assert set(both["patients"]["train"]) < set(all_of_them["patients"]["train"])
    assert both["settings"]["train_patients"] == 2


def test_the_card_names_the_patients_of_all_trainings_that_the_weights_went_through(trained, tmp_path):
    first = card(tmp_path / "run")["patients"]
    weights = tmp_path / "run/unet_model.pth"
    for letter in "QR":  # each training begins with the weights of the one before
        write_slices(tmp_path, 3, letter)
        step.main([*trained, "--run-path", str(tmp_path / letter), "--init", str(weights)])
        weights = tmp_path / letter / "unet_model.pth"
    last = card(tmp_path / "R")
    assert {*last["patients"]["train"], *last["patients"]["val"]} == {
        *(f"P{n}" for n in range(4)),
        *(f"{letter}{n}" for letter in "QR" for n in range(3)),
    }
    assert set(first["train"]) < set(last["patients"]["train"])
    assert set(first["val"]) < set(last["patients"]["val"])
    assert seen_in_training(last, first["train"][0], "1.2") == "train"
    assert seen_in_training(last, first["val"][0], "1.2") == "val"
    assert last["init_sha256"] == card(tmp_path / "Q")["sha256"]
    assert seen_in_training(last, "X", "1.2") == "no"
    write_slices(tmp_path, 3, "V", source="V.nii.gz")
    step.main([*trained, "--run-path", str(tmp_path / "V"), "--init", str(weights)])
    assert card(tmp_path / "V")["patients"]["named_by_file"] == ["V0", "V1", "V2"]
    assert seen_in_training(card(tmp_path / "V"), "X", "1.2") == "unknown"
