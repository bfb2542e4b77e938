"""Step 3. Train the U-Net on the slices of step 2.

Reads   lung.conf, mydata/Image/manifest.csv and the slices that it lists
Writes  runs/<name>/unet_model.pth, unet_model.json, history.csv, training_and_validation_loss.png,
        pred_epoch_<n>.png, target_epoch_1.png (CT and labels as the loss sees them), checkpoint.pth
Run     python Lung_segmentation.py                 trains, or continues an interrupted training
        python Lung_segmentation.py --fresh         starts again from the beginning
        python Lung_segmentation.py --init weights/lung_unet.pth   starts from these weights (fine-tuning)
        python Lung_segmentation.py --folds 5 --fold 0   cross-validation: one fold, in runs/<name>/fold_0
        python Lung_segmentation.py --train-patients 10 --run-path runs/patients_10   a point of a learning curve
        python Lung_segmentation.py --tensorboard   also writes live curves to runs/<name>/tensorboard
        torchrun --nproc-per-node=2 Lung_segmentation.py     trains in several processes or on several GPUs
"""

from __future__ import annotations

from lungct import LungError, __version__  # first: it says which package is missing

# isort: split
import argparse
import io
import platform
import shutil
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from lungct.code_hash import TRAINING_CODE
from lungct.commands import after_training, with_conf
from lungct.device import is_out_of_memory, keep_freed_memory, pick_amp, pick_device
from lungct.evaluation.figures import BLUE, GREEN, RED, Tile, contact_sheet, difference, save_png, to_grey
from lungct.evaluation.metrics import dice
from lungct.files import exclusive_lock, replace_file, table_bytes
from lungct.parallel import count
from lungct.predict import predict_slices
from lungct.settings import parse_step, run_step
from lungct.slices import manifest_path, pixel_mm, print_other_code, read_manifest
from lungct.training.data import SliceSet, batches, print_resized, same_slice_notes
from lungct.training.distributed import join_processes
from lungct.training.history import EpochRow, save_curves
from lungct.training.resume import check_first_model, find_differences, read_folds, training_input
from lungct.training.split import split_notes, split_patients
from lungct.training.trainer import Trainer, TrainSettings
from lungct.weights import Model, checksum, load_weights, model_card, read_torch, write_card

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CURVES = ("train_loss", "val_loss", "val_dice", "learning_rate")
PICTURE_SLICES = 4


def torch_bytes(state: dict) -> bytes:
    """Tensors as the bytes of a .pth file."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def save_weights(run: Path, trainer: Trainer) -> None:
    """The bare state_dict and its card, which names the patients of all trainings that the weights went through."""
    path = run / "unet_model.pth"
    replace_file(path, torch_bytes(trainer.ema.state_dict()))
    settings = {k: v for k, v in vars(trainer.settings).items() if not k.endswith("_path")}
    versions = {
        "lungct": __version__,
        "code": TRAINING_CODE,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    card = model_card(
        trainer.model,
        sha256=checksum(path),
        best_epoch=trainer.progress.best_epoch,
        validation=asdict(trainer.progress.history[-1]),
        patients=trainer.made_from["patients"],
        init_sha256=trainer.made_from["init_sha256"],
        settings=settings,
        versions=versions,
    )
    write_card(path, card)


def save_prediction(run: Path, trainer: Trainer) -> None:
    """CT, reference, prediction and where they differ, for a few validation slices."""
    data, epoch = trainer.val_set, trainer.progress.epoch
    numbers = np.unique(np.linspace(0, len(data) - 1, PICTURE_SLICES).astype(int))
    tiles = []
    for number in numbers:
        (ct_hu,), (truth,) = data.read([number])
        (guess,) = predict_slices(trainer.ema, ct_hu[None], trainer.model.window_hu, data.zoom[number])
        tiles += [
            Tile(to_grey(ct_hu), data.rows[number].slice_name),
            Tile(to_grey(ct_hu), "reference", (truth,), (GREEN,)),
            Tile(to_grey(ct_hu), f"prediction, epoch {epoch}: Dice {dice(truth, guess):.4f}", (guess,), (RED,)),
            Tile(difference(ct_hu, truth, guess), "difference"),
        ]
    legend = {"reference": GREEN, "prediction; in the difference: too much": RED, "missed": BLUE}
    save_png(run / f"pred_epoch_{epoch}.png", contact_sheet(tiles, columns=4, side=300, legend=legend))


def save_target(run: Path, trainer: Trainer) -> None:
    """The first batch as it reaches network and loss."""
    settings, data = trainer.settings, trainer.train_set
    numbers = batches(len(data), settings.batch_size, settings.seed, 0)[0][: 2 * PICTURE_SLICES]
    image, target = trainer.make_batch(numbers, (settings.seed, 0, 0))
    low, high = trainer.model.window_hu
    ct_hu = ((image[:, 0] + 1) * ((high - low) / 2) + low).cpu().numpy()
    kind = "augmented" if settings.augment else "not augmented"
    tiles = [
        Tile(to_grey(ct), f"{data.rows[number].slice_name}  {kind}", (mask,))
        for number, ct, mask in zip(numbers, ct_hu, target[:, 0].cpu().numpy() > 0.5, strict=True)
    ]
    note = f"epoch 1, first batch, {kind}: CT and label as network and loss see them"
    sheet = contact_sheet(tiles, columns=4, side=300, legend={"label": GREEN}, note=note)
    save_png(run / "target_epoch_1.png", sheet)


def finish_epoch(run: Path, trainer: Trainer, start: float, loss: float, skipped: int) -> bool:
    """Score, keep the best weights, write pictures and checkpoint, print a line; True when it is time to stop."""
    is_main = trainer.processes.is_main
    val_loss, val_dice, worst = trainer.processes.broadcast(trainer.validate() if is_main else None)
    progress = trainer.progress
    progress.epoch += 1
    rate = trainer.optimiser.param_groups[0]["lr"]
    seconds = round(time.perf_counter() - start, 2)
    progress.history.append(EpochRow(progress.epoch, loss, val_loss, val_dice, worst, rate, skipped, seconds))
    better = val_dice > progress.best_dice
    if better:
        progress.best_dice, progress.best_epoch = val_dice, progress.epoch
    if is_main:
        if better:
            save_weights(run, trainer)
        replace_file(run / "history.csv", table_bytes(progress.history, EpochRow))
        save_curves(run / "training_and_validation_loss.png", progress.history, trainer.settings.augment)
        save_prediction(run, trainer)
        replace_file(run / "checkpoint.pth", torch_bytes(trainer.state()))  # last: an epoch counts when it is here
        note = "  best" if better else ""
        note += f"  {count(skipped, 'step')} skipped (loss not finite)" if skipped else ""
        scores = f"{loss:10.4f}  {val_loss:8.4f}  {val_dice:8.4f}  {worst:11.4f}"
        print(f"{progress.epoch:5d}  {scores}  {seconds:7.1f}{note}")
    return progress.is_over(trainer.settings)


def open_tensorboard(folder: Path, fresh: bool) -> SummaryWriter:
    """What draws the curves live; `fresh` drops those of an earlier training. Raises LungError where it is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter  # a package of its own, for those who use it
    except ImportError as error:
        raise LungError("--tensorboard requires the package tensorboard; run: pip install tensorboard") from error
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    return SummaryWriter(folder)


def write_scalars(board: SummaryWriter, row: EpochRow) -> None:
    """One epoch's row of the history."""
    for name in CURVES:
        board.add_scalar(name, getattr(row, name), row.epoch)
    board.flush()


def make_trainer(settings: TrainSettings, flags: argparse.Namespace) -> tuple[Trainer, dict]:
    """Read the slices, split the patients, build the network or take up the one of the checkpoint."""
    device = pick_device(settings.device)
    processes = join_processes(device)
    ct_root, lung_root = settings.lung_ct_path, settings.lung_image_path
    rows = [row for row in read_manifest(manifest_path(ct_root)) if row.has_label]
    start, start_model, start_card = load_weights(flags.init) if flags.init else (None, None, {})
    if start_model:
        check_first_model(settings, start_model, flags.init)
    seen = frozenset(start_card.get("patients", {}).get("train", ()))
    patients, options = {row.patient_id for row in rows}, settings.split_options(seen)
    split = split_patients(patients, options)
    train_rows, val_rows = ([row for row in rows if row.patient_id in set(split[part])] for part in ("train", "val"))
    if processes.is_main:
        for note in (*split_notes(patients, options, split), *same_slice_notes(train_rows, val_rows)):
            print(note)
        print_other_code(rows, ct_root)
    window_hu = (settings.window_low_hu, settings.window_high_hu)
    usual_mm = round(float(np.median([pixel_mm(row.spacing_mm) for row in train_rows])), 4)
    model = start_model or Model(settings.width, settings.depth, settings.patch, True, window_hu, usual_mm)
    place = ct_root, lung_root, model.pixel_mm, processes.is_main
    train, val = SliceSet(train_rows, *place), SliceSet(val_rows, *place)
    amp = processes.broadcast(pick_amp(settings.amp, device))
    made_from = training_input(settings, split, rows, amp, start_card)
    trainer = Trainer(settings, model, train, val, device, processes, made_from)
    if start:
        for network in (trainer.network, trainer.ema):
            network.load_state_dict(start.state_dict())
    trainer.progress.amp = amp
    return trainer, split


def print_start(trainer: Trainer, split: dict) -> None:
    """What is trained, on what, where; and the head of the table."""
    train, val = (len(split[part]) for part in ("train", "val"))
    train_on = f"{count(train, 'patient')}, {count(len(trainer.train_set), 'slice')}"
    validate_on = f"{count(val, 'patient')}, {count(len(trainer.val_set), 'slice')}"
    print(f"training: {train_on}; validation: {validate_on}")
    print_resized(trainer.train_set, trainer.val_set)
    size = sum(p.numel() for p in trainer.network.parameters()) / 1e6
    precision = "bfloat16" if trainer.progress.amp else "float32"
    print(f"U-Net, {size:.2f} M parameters, {trainer.device}, {precision}; from epoch {trainer.progress.epoch + 1}")
    print("epoch  train loss  val loss  val Dice  worst slice  seconds")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """This step's own flags."""
    parser.add_argument("--fresh", action="store_true", help="start again, also where there is a checkpoint")
    parser.add_argument("--tensorboard", action="store_true", help="also write what TensorBoard reads")
    parser.add_argument("--init", type=Path, metavar="PTH", help="start from these weights (fine-tuning)")


def resume(trainer: Trainer, checkpoint: Path) -> None:
    """Go on with the training of a checkpoint. Raises LungError where this command asks for another training."""
    try:
        state = read_torch(checkpoint, trainer.device)
    except LungError as error:
        raise LungError(f"{error}; start again with --fresh") from error
    if "made_from" not in state:
        raise LungError(f"{checkpoint}: not a checkpoint of this version; start again with --fresh")
    differences = find_differences(state["made_from"], trainer.made_from)
    if differences:
        raise LungError(
            f"{checkpoint} is of another training: {'; '.join(differences)}. To go on with it, give what it was made "
            "with; to start again: --fresh; to keep both: --run-path another folder"
        )
    trainer.resume(state, checkpoint)


def remove_results(run: Path) -> None:
    """Remove what an earlier training left; its weights stay until the first epoch of the new one is over."""
    for pattern in ("checkpoint.pth", "history.csv", "pred_epoch_*.png", "target_epoch_1.png"):
        for path in run.glob(pattern):
            path.unlink()


def print_folds(trainer: Trainer) -> int | None:
    """A line for each fold, and the mean of those that count; returns the first that is still to be trained."""
    results, scores, left = read_folds(trainer), [], []
    print("fold  best val Dice  epoch")
    for fold, result in enumerate(results):
        if isinstance(result, LungError):
            left.append(fold)
            print(f"{fold:4d}  {'-':>13s}      -  {result}")
        else:
            scores.append(result.best_dice)
            print(f"{fold:4d}  {result.best_dice:13.4f}  {result.best_epoch:5d}")
    print(f"mean {np.mean(scores):.4f} over {len(scores)} of {len(results)} folds, worst {min(scores):.4f}")
    return left[0] if left else None


def print_end(trainer: Trainer, trained: int, conf: str) -> None:
    """What was trained, what was written, and what to run next."""
    run, progress, folds = trainer.settings.run_folder, trainer.progress, trainer.settings.folds
    left = print_folds(trainer) if folds else None
    fold = f"python Lung_segmentation.py --folds {folds} --fold {left}" if left is not None else ""
    following = f"next: {with_conf(fold, conf) if fold else after_training(run / 'unet_model.pth', conf)}"
    best = f"best validation Dice {progress.best_dice:.4f} at epoch {progress.best_epoch}"
    if not trained:
        print(f"nothing to do: this training ended after {count(progress.epoch, 'epoch')}; {best}")
        print(f"{run / 'unet_model.pth'} is as it was; for more: a higher --epochs or --patience, or --fresh")
        print(following)
        return
    weights = "unet_model.pth, its .json, " if progress.best_epoch > progress.epoch - trained else ""
    print(best)
    print(f"wrote {weights}checkpoint.pth, history.csv and pictures in {run}; {following}")


def train_epoch(trainer: Trainer) -> tuple[float, int] | None:
    """(mean loss, steps skipped); None where memory ran out, once all that the error held is free again."""
    try:
        return trainer.train_epoch()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    return None


def train(run: Path, trainer: Trainer, split: dict, flags: argparse.Namespace) -> int:
    """Epoch by epoch until the last one or until nothing is gained, keeping the best weights; returns their number."""
    checkpoint = run / "checkpoint.pth"
    if flags.fresh and trainer.processes.is_main:
        remove_results(run)
    if checkpoint.is_file() and not flags.fresh:
        resume(trainer, checkpoint)
    progress, settings = trainer.progress, trainer.settings
    started_at = progress.epoch
    if trainer.processes.is_main:
        print_start(trainer, split)
        if not progress.epoch:
            save_target(run, trainer)
    watched = flags.tensorboard and trainer.processes.is_main
    board = open_tensorboard(run / "tensorboard", not progress.epoch) if watched else None
    done = progress.is_over(settings)
    while not done:
        start = time.perf_counter()
        result = train_epoch(trainer)
        if result is None:
            trainer.halve_batch()
            continue
        done = finish_epoch(run, trainer, start, *result)
        if board:
            write_scalars(board, progress.history[-1])
    return progress.epoch - started_at


def main(argv: list[str] | None = None) -> None:
    """Read the slices, train, say where the weights are."""
    settings, flags = parse_step(__doc__, TrainSettings, argv, add_flags)
    keep_freed_memory()
    trainer, split = make_trainer(settings, flags)
    run = settings.run_folder
    with exclusive_lock(run) if trainer.processes.is_main else nullcontext():
        trained = train(run, trainer, split, flags)
    if trainer.processes.is_main:
        print_end(trainer, trained, flags.conf)
    trainer.processes.leave()


if __name__ == "__main__":
    run_step(main)
