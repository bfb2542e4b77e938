"""A training goes on where it was, skips what is not finite, and keeps the average of its weights."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import small_patient
from PIL import Image
from training_runs import read_history, save_patients, write_settings

import Lung_segmentation as step
from lungct import LungError
from lungct.evaluation.figures import BAR_PX, GREEN, contact_sheet
from lungct.evaluation.metrics import dice
from lungct.predict import predict_slices
from lungct.training import trainer
from lungct.training.loss import lung_loss
from lungct.training.trainer import learning_rate
from lungct.weights import integer_scale


def test_learning_rate_rises_to_its_peak_and_falls():
    rates = [learning_rate(step, 100, 2.0) for step in range(100)]
    assert np.argmax(rates) == 15
    assert rates[15] == 2.0
    assert rates[0] < 0.03
    assert rates[-1] < 0.03


def test_interrupted_training_ends_like_an_undisturbed_one(phantom_rows, tmp_path, monkeypatch):
    root, _ = phantom_rows
    write_settings(root)
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    flags = ["--conf", str(root / "lung.conf"), "--run-path"]
    step.main([*flags, str(straight)])
    epoch = trainer.Trainer.train_epoch

    def interrupt(training):
        if training.progress.epoch == 2:
            raise KeyboardInterrupt
        return epoch(training)

    monkeypatch.setattr(trainer.Trainer, "train_epoch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        step.main([*flags, str(broken)])
    monkeypatch.undo()
    step.main([*flags, str(broken)])
    assert (straight / "unet_model.pth").read_bytes() == (broken / "unet_model.pth").read_bytes()
    assert len(read_history(straight)) == 3
    assert read_history(straight) == read_history(broken)
    card = json.loads((straight / "unet_model.json").read_text())
    assert set(card["patients"]["train"]) | set(card["patients"]["val"]) == {"P0", "P1", "P2", "P3"}
    assert sorted(p.name for p in straight.glob("*.png")) == [
        *(f"pred_epoch_{n}.png" for n in (1, 2, 3)),
        "target_epoch_1.png",
        "training_and_validation_loss.png",
    ]


def test_pictures_show_the_reference_in_green_and_the_prediction_in_red(phantom_rows, tmp_path):
    """Of six validation slices four are shown: CT, reference, prediction, difference."""
    root, rows = phantom_rows
    write_settings(root)
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            step, "contact_sheet", lambda tiles, **how: drawn.append((tiles, how)) or contact_sheet(tiles, **how)
        )
        step.main(["--conf", str(root / "lung.conf"), "--run-path", str(tmp_path), "--epochs", "1"])
    (targets, seen), (tiles, _) = drawn
    assert seen["legend"] == {"label": GREEN}
    assert "augmented" in seen["note"]
    names = {row.slice_name for row in rows}
    for tile in targets:
        name, kind = tile.caption.split("  ")
        assert name in names
        assert kind == "augmented"
    assert [tile.caption.split(":")[0] for tile in tiles[1:4]] == ["reference", "prediction, epoch 1", "difference"]
    truth, guess = tiles[1].masks[0], tiles[2].masks[0]
    assert tiles[2].caption.endswith(f"Dice {dice(truth, guess):.4f}")
    sheet = np.asarray(Image.open(tmp_path / "pred_epoch_1.png"))
    assert sheet.shape == (4 * (BAR_PX + 300) + BAR_PX, 4 * 300, 3)
    green = (sheet[:-BAR_PX] == GREEN).all(-1)
    assert green[:, 300:600].sum() > 500
    assert not green[:, :300].any()
    assert not green[:, 600:].any()


def test_damaged_checkpoint_is_told(phantom_rows, tmp_path):
    root, _ = phantom_rows
    write_settings(root)
    (tmp_path / "checkpoint.pth").write_bytes(b"half a chec")
    with pytest.raises(LungError, match="start again with --fresh"):
        step.main(["--conf", str(root / "lung.conf"), "--run-path", str(tmp_path)])


def test_loss_that_stays_not_finite_ends_with_a_sentence(phantom_rows, tmp_path, monkeypatch):
    root, _ = phantom_rows
    write_settings(root, augment=False)
    monkeypatch.setattr(trainer, "lung_loss", lambda logits, *_: (logits * torch.nan).sum())
    with pytest.raises(LungError, match="10 losses in a row were not finite"):
        step.main(["--conf", str(root / "lung.conf"), "--run-path", str(tmp_path), "--epochs", "9"])


def test_a_loss_that_is_not_finite_once_is_skipped_and_counted(phantom_rows, tmp_path, monkeypatch):
    root, _ = phantom_rows
    write_settings(root)
    calls = []

    def fails_at_first(logits, target):
        calls.append(1)
        return lung_loss(logits, target) * (torch.nan if len(calls) == 1 else 1)

    monkeypatch.setattr(trainer, "lung_loss", fails_at_first)
    step.main(["--conf", str(root / "lung.conf"), "--run-path", str(tmp_path), "--epochs", "1"])
    with (tmp_path / "history.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["skipped"] == "1"
    assert np.isfinite(float(row["train_loss"]))
    weights = torch.load(tmp_path / "unet_model.pth", weights_only=True)
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


@pytest.mark.parametrize(("patience", "epochs"), [(2, 4), (3, 5), (50, 6)])
def test_training_stops_early_once_nothing_is_gained(phantom_rows, tmp_path, monkeypatch, patience, epochs):
    root, _ = phantom_rows
    write_settings(root)
    dices = iter([0.5, 0.7, 0.7, 0.6, 0.69, 0.7])  # best at epoch 2: an equal one is no gain
    monkeypatch.setattr(trainer.Trainer, "train_epoch", lambda training: (0.1, 0))
    monkeypatch.setattr(trainer.Trainer, "validate", lambda training: (0.2, next(dices), 0.3))
    for name in ("save_curves", "save_prediction", "save_target"):
        monkeypatch.setattr(step, name, lambda *_: None)
    flags = ["--conf", str(root / "lung.conf"), "--run-path", str(tmp_path), "--patience", str(patience)]
    step.main([*flags, "--epochs", "6"])
    assert len(read_history(tmp_path)) == epochs
    assert json.loads((tmp_path / "unet_model.json").read_text())["best_epoch"] == 2


@pytest.mark.parametrize("limit", [0.5, 2.0])
def test_gradient_is_scaled_down_to_its_greatest_norm_before_the_step(phantom_rows, monkeypatch, limit):
    root, _ = phantom_rows
    write_settings(root, clip_norm=limit)
    made = make_trainer(root)
    image, target = made.make_batch(np.arange(4), (0,))
    monkeypatch.setattr(trainer, "lung_loss", lambda *args: 1000 * lung_loss(*args))
    norms, update = [], made.update_weights

    def measure(skipped: torch.Tensor) -> None:
        norms.append(torch.stack([part.grad.norm() for part in made.network.parameters()]).norm().item())
        update(skipped)

    monkeypatch.setattr(made, "update_weights", measure)
    made.step(image, target, 0)
    assert norms == [pytest.approx(limit, rel=1e-3)]


def make_trainer(root) -> trainer.Trainer:
    settings, flags = step.parse_step("", step.TrainSettings, ["--conf", str(root / "lung.conf")], step.add_flags)
    return step.make_trainer(settings, flags)[0]


def copy_state(made: trainer.Trainer) -> dict[str, torch.Tensor]:
    """All tensors that a step may change: network and running statistics, their average, the optimiser's state."""
    state = {f"network {name}": value.clone() for name, value in made.network.state_dict().items()}
    state |= {f"average {name}": value.clone() for name, value in made.ema.state_dict().items()}
    for number, values in made.optimiser.state_dict()["state"].items():
        state |= {f"optimiser {number} {name}": value.clone() for name, value in values.items()}
    return state


@pytest.mark.parametrize("amp", [False, True])
def test_a_skipped_step_leaves_nothing_behind(phantom_rows, amp):
    root, _ = phantom_rows
    write_settings(root)
    made = make_trainer(root)
    made.progress.amp = amp
    image, target = made.make_batch(np.arange(4), (0,))
    broken = image.clone()
    broken[0, 0, 30, 40] = torch.nan
    assert torch.isfinite(made.step(image, target, 0))
    before = copy_state(made)
    assert len(before) > 100
    assert torch.isnan(made.step(broken, target, 1))
    after = copy_state(made)
    assert [name for name, value in before.items() if not torch.equal(value, after[name])] == []
    assert made.non_finite_steps == 1
    assert torch.isfinite(made.step(image, target, 2))
    assert [name for name, value in copy_state(made).items() if torch.equal(value, before[name])] == []
    assert made.non_finite_steps == 0


def test_running_statistics_stay_finite_where_the_gradient_does(phantom_rows):
    root, _ = phantom_rows
    write_settings(root)
    made = make_trainer(root)
    image, target = made.make_batch(np.arange(4), (0,))
    with torch.no_grad():
        made.network.stem[0].weight.fill_(1e25)  # whose outputs' variance overflows
    assert torch.isfinite(made.step(image, target, 0))
    assert all(torch.isfinite(buffer).all() for network in (made.network, made.ema) for buffer in network.buffers())


def test_mps_does_not_call_the_optimiser_for_a_skipped_step(phantom_rows):
    root, _ = phantom_rows
    write_settings(root)
    made = make_trainer(root)
    made.device, steps = torch.device("mps"), []
    made.optimiser = SimpleNamespace(step=lambda: steps.append(1))
    made.update_weights(torch.tensor(True))
    assert steps == []
    made.update_weights(torch.tensor(False))
    assert steps == [1]


def test_fine_tuning_takes_up_the_weights(phantom_rows, tmp_path, capsys):
    root, _ = phantom_rows
    write_settings(root)
    flags = ["--conf", str(root / "lung.conf"), "--epochs", "1", "--run-path"]
    step.main([*flags, str(tmp_path / "a")])
    step.main(
        [*flags, str(tmp_path / "b"), "--init", str(tmp_path / "a" / "unet_model.pth"), "--learning-rate", "1e-8"]
    )
    first, second = (torch.load(tmp_path / n / "unet_model.pth", weights_only=True) for n in "ab")
    torch.testing.assert_close(first["head.2.weight"], second["head.2.weight"])


@pytest.fixture
def mixed_pixels(tmp_path) -> Path:
    """Three patients each of usual, of coarse and of fine pixels, some of other shapes, and settings."""
    patients, pixels_mm = {}, {}
    for number in range(9):
        phantom, step_px = small_patient(number % 2), (1, 3, 1)[number % 3]
        middle, columns = len(phantom.lung) // 2, slice(0, -5 if number % 2 else None, step_px)
        box = slice(middle - 2, middle + 2), slice(0, None, step_px), columns
        name = f"P{number}"
        patients[name], pixels_mm[name] = (phantom.ct_hu[box], phantom.lung[box]), (0.75, 2.25, 0.35)[number % 3]
    save_patients(tmp_path, patients, pixels_mm)
    write_settings(tmp_path)
    return tmp_path


class Blurring(torch.nn.Conv2d):
    """Lung is what is dark on average over a square of 15 x 15 pixels: another answer at each scale."""

    def __init__(self):
        super().__init__(1, 1, 15, padding=7)
        torch.nn.init.constant_(self.weight, -1 / 225)
        torch.nn.init.constant_(self.bias, -0.2)


def test_what_is_validated_is_what_is_predicted_whatever_the_size_of_the_pixels(mixed_pixels):
    conf = ["--conf", str(mixed_pixels / "lung.conf")]
    step.main([*conf, "--run-path", str(mixed_pixels / "a"), "--epochs", "1"])
    flags = [*conf, "--init", str(mixed_pixels / "a/unet_model.pth"), "--seed", "3", "--batch-size", "3"]
    made = step.make_trainer(*step.parse_step("", step.TrainSettings, flags, step.add_flags))[0]
    made.ema = Blurring()
    rows, both, sizes = made.val_set.rows, 0, 0
    assert len({row.col_mm for row in rows}) > 1
    for number, row in enumerate(rows):
        (ct_hu,), (lung,) = made.val_set.read([number])
        zoom = integer_scale(row.col_mm, made.model.pixel_mm)  # as predict_in_body of lungct/predict.py asks for it
        predicted = predict_slices(made.ema, ct_hu[None], made.model.window_hu, zoom)[0]
        both += np.count_nonzero(predicted & lung)
        sizes += np.count_nonzero(predicted) + np.count_nonzero(lung)
    assert 0 < both < sizes / 2
    assert made.validate()[1] == pytest.approx(2 * both / sizes, abs=1e-9)


def test_a_network_learns_from_slices_at_the_scale_at_which_it_predicts_them(mixed_pixels, capsys):
    flags = ["--conf", str(mixed_pixels / "lung.conf"), "--augment", "no", "--epochs", "1"]
    made = step.make_trainer(*step.parse_step("", step.TrainSettings, flags, step.add_flags))[0]
    assert made.model.pixel_mm == 0.75
    train = made.train_set
    for pixel_mm, zoom in ((2.25, 3), (0.75, 1), (0.35, 0.5)):
        number = next(n for n, row in enumerate(train.rows) if row.col_mm == pixel_mm and n % 4 == 2)
        _, lung = train.read([number])
        image, target = made.make_batch(np.array([number]), (0,))
        assert tuple(image.shape[2:]) == tuple(target.shape[2:])
        assert float(target.sum()) == pytest.approx(zoom**2 * lung.sum(), rel=0.03)
        inside = image[target > 0.5].mean()
        assert float(inside) < -0.5  # air, where the target says lung
    step.print_start(made, {"train": [], "val": []})
    count = sum(row.col_mm != 0.75 for part in (train, made.val_set) for row in part.rows)
    assert f"{count} slices resized to pixels near the network's 0.75 mm, as in step 5" in capsys.readouterr().out


def test_constant_slices_and_all_but_empty_lungs_train(tmp_path):
    ct_hu, lung = np.full((5, 40, 50), 40, np.int16), np.zeros((5, 40, 50), bool)
    lung[2, 20, 20] = True
    save_patients(tmp_path, dict.fromkeys("AB", (ct_hu, lung)))
    write_settings(tmp_path)
    step.main(["--conf", str(tmp_path / "lung.conf"), "--run-path", str(tmp_path / "run"), "--epochs", "1"])
    with (tmp_path / "run" / "history.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["skipped"], 0 <= float(row["val_worst_dice"]) <= 1) == ("0", True)


def test_checkpoint_of_another_network_is_told(phantom_rows, tmp_path):
    root, _ = phantom_rows
    write_settings(root)
    flags = ["--conf", str(root / "lung.conf"), "--run-path", str(tmp_path), "--epochs"]
    step.main([*flags, "1"])
    with pytest.raises(LungError, match=r"of another training: width was 4 and is 8 now.* to start again: --fresh"):
        step.main([*flags, "2", "--width", "8"])
    (tmp_path / "checkpoint.pth").write_bytes((tmp_path / "checkpoint.pth").read_bytes()[:5000])
    with pytest.raises(LungError, match="start again with --fresh"):
        step.main([*flags, "2"])


def test_averaged_weights_are_what_is_validated_and_kept(phantom_rows, tmp_path, monkeypatch):
    root, _ = phantom_rows
    write_settings(root)
    monkeypatch.chdir(tmp_path)
    made = make_trainer(root)
    start = {name: value.clone() for name, value in made.network.state_dict().items()}
    made.train_epoch()
    name = "stem.0.weight"
    now, mean = made.network.state_dict()[name], made.ema.state_dict()[name]
    assert (mean - start[name]).norm() < (now - start[name]).norm()
    assert not torch.equal(mean, now)
    made.ema.load_state_dict(start)
    before = made.validate()
    for part in made.network.parameters():
        part.data.zero_()
    assert made.validate() == before


def test_average_of_equal_steps_is_the_step(phantom_rows):
    root, _ = phantom_rows
    write_settings(root)
    made = make_trainer(root)
    for part in made.network.parameters():
        part.data.fill_(3.0)
    for number in range(30):
        made.update_ema(number, torch.tensor(False))
    assert made.ema.state_dict()["stem.0.weight"].mean().item() == pytest.approx(3.0, abs=1e-3)
