"""A network on disk: its window, its card, its checksum; and files that are not what they should be."""

import json
import os
import pickle
from datetime import datetime

import pytest
import torch
from conftest import ROOT

from lungct import LungError
from lungct.weights import (
    Model,
    all_who_took_part,
    checksum,
    choose_weights,
    describe_weights,
    load_weights,
    model_card,
    read_card,
    scale_hu,
    seen_in_training,
    weights_identity,
)
from weights.recipe import name_synthetic

MODEL = Model(width=4, depth=2, patch=2, normalise=True, window_hu=(-1000, 600), pixel_mm=0.8)


def save(tmp_path, content: bytes | None = None, **card):
    path = tmp_path / "unet_model.pth"
    if content is None:
        torch.save(MODEL.build().state_dict(), path)
    else:
        path.write_bytes(content)
    card = {**model_card(MODEL, sha256=checksum(path)), **card}
    path.with_suffix(".json").write_text(json.dumps(card))
    return path


def test_window_maps_its_ends_to_minus_one_and_one():
    hu = torch.tensor([-3000, -1000, -200, 600, 3000], dtype=torch.int16)
    assert scale_hu(hu, (-1000, 600)).tolist() == [-1, -1, 0, 1, 1]


def test_weights_are_read_back(tmp_path):
    path = save(tmp_path)
    network, model, _ = load_weights(path)
    assert model == MODEL
    assert not network.training


def test_shipped_weights_are_whole_small_and_say_what_they_were_trained_on():
    path = ROOT / "weights" / "lung_unet.pth"
    network, model, card = load_weights(path)
    assert path.stat().st_size < 8e6
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(1.95e6, rel=0.01)
    assert 0.5 < model.pixel_mm < 1
    assert not set(card["patients"]["train"]) & set(card["patients"]["val"])


def test_shipped_weights_have_not_seen_the_real_patients_whose_ids_the_synthetic_ones_bear():
    _, card = read_card(ROOT / "weights" / "lung_unet.pth")
    assert seen_in_training(card, "LIDC-IDRI-0100", "1.2") == "no"
    assert seen_in_training(card, "LIDC-IDRI-0001", "1.2") == "train"
    assert sum(name.startswith("synthetic ") for names in card["patients"].values() for name in names) == 12


def test_the_recipe_names_the_patients_that_the_first_weights_know():
    first = {"patients": {"train": ["A"], "val": ["B"]}}
    card = {"best_epoch": 3, "patients": {"train": ["A", "C"], "val": ["B", "D"]}}
    patients = {"train": ["C", "synthetic A"], "val": ["D", "synthetic B"]}
    assert name_synthetic(card, first) == {"best_epoch": 3, "patients": patients}


def test_folds_of_a_cross_validation_are_not_passed_over_for_the_shipped_weights(tmp_path):
    default = tmp_path / "unet_model.pth"
    assert choose_weights(default, default) == ROOT / "weights" / "lung_unet.pth"
    (tmp_path / "fold_1").mkdir()
    fold = save(tmp_path / "fold_1")
    with pytest.raises(LungError, match=r"but 1 fold; say which: --weights-path .*fold_1"):
        choose_weights(default, default)
    assert choose_weights(fold, default) == fold


def test_missing_weights_say_what_to_run(tmp_path):
    with pytest.raises(LungError, match=r"train first: python Lung_segmentation\.py"):
        load_weights(tmp_path / "unet_model.pth")


def test_weights_of_another_training_are_told(tmp_path):
    path = save(tmp_path, sha256="0" * 64)
    with pytest.raises(LungError, match="checksum"):
        load_weights(path)


def test_weights_of_another_network_are_told(tmp_path):
    path = save(tmp_path, model={**model_card(MODEL)["model"], "width": 8})
    with pytest.raises(LungError, match="no weights of this network"):
        load_weights(path)


def test_who_was_ever_learned_from_is_in_the_training_set():
    first = {"patients": {"train": ["A", "C"], "val": ["D", "E"]}}
    split = {"train": ["D", "F"], "val": ["G"]}
    assert all_who_took_part(split, first) == {"train": ["A", "C", "D", "F"], "val": ["E", "G"]}
    assert all_who_took_part(split, {}) == split


def test_where_the_name_of_a_file_stands_for_a_patient_it_is_not_known_who_was_learned_from():
    """case_1.nii.gz may be of any patient that DICOM names."""
    dicom = {"patients": {"train": ["A"], "val": ["B"]}}
    volumes = {"patients": all_who_took_part({"train": ["A", "case_1"], "val": ["B"]}, {}, by_file=["case_1"])}
    later = {"patients": all_who_took_part({"train": ["C"], "val": ["D"]}, volumes)}
    asked = [("A", "1.2"), ("B", "1.2"), ("E", "1.2"), ("E", "")]
    assert [seen_in_training(dicom, *who) for who in asked] == ["train", "val", "no", "unknown"]
    for card in (volumes, later):
        assert [seen_in_training(card, *who) for who in asked] == ["train", "val", "unknown", "unknown"]


def test_weights_are_others_where_their_card_says_another_window_or_other_patients():
    card = {**model_card(MODEL, sha256="1"), "patients": {"train": ["A"], "val": ["B"]}, "best_epoch": 3}
    others = [
        {**card, "sha256": "2"},
        {**card, "model": {**card["model"], "window_hu": (-1000, 300)}},
        {**card, "patients": {"train": ["A", "B"], "val": []}},
    ]
    assert len({weights_identity(one) for one in [card, *others]}) == 4
    assert weights_identity({**card, "best_epoch": 5}) == weights_identity(card)


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", [b"", b"no zip", pickle.dumps(Evil())], ids=["empty", "text", "code"])
def test_files_that_are_no_weights_are_told_and_not_run(tmp_path, content, capsys):
    path = save(tmp_path, content)
    with pytest.raises(LungError, match="damaged, or not a file of tensors alone"):
        load_weights(path)
    assert "code ran" not in capsys.readouterr().out


def test_weights_are_described_by_file_checksum_and_date(tmp_path):
    path = save(tmp_path)
    written = datetime(2026, 1, 31, 23, 59).timestamp()
    os.utime(path, (written, written))
    assert describe_weights(path, "0123456789abcdef") == f"weights {path} (0123456789ab, of 2026-01-31 23:59)"
