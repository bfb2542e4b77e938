"""What each epoch of a training brought: the rows of history.csv, and their curves."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lungct.files import replace_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class EpochRow:
    """One epoch; `skipped` counts the steps whose gradient was not finite."""

    epoch: int
    train_loss: float
    val_loss: float
    val_dice: float
    val_worst_dice: float
    learning_rate: float
    skipped: int
    seconds: float


def draw_curves(history: list[EpochRow]) -> Figure:
    """Training and validation loss, and validation Dice, by epoch."""
    from matplotlib.figure import Figure  # takes 0.5 s; prediction never needs it

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [row.epoch for row in history]
    left.plot(epochs, [row.train_loss for row in history], label="training")
    left.plot(epochs, [row.val_loss for row in history], label="validation")
    left.set(xlabel="epoch", ylabel="loss (Dice + cross-entropy)", yscale="log")
    right.plot(epochs, [row.val_dice for row in history], label="mean")
    right.plot(epochs, [row.val_worst_dice for row in history], label="worst slice")
    right.set(xlabel="epoch", ylabel="validation Dice")
    for axes in (left, right):
        axes.legend()
        axes.grid(alpha=0.3)
    return figure


def save_curves(path: Path, history: list[EpochRow]) -> None:
    """Write the curves as a picture, all or nothing."""
    buffer = io.BytesIO()
    draw_curves(history).savefig(buffer, format="png", dpi=110)
    replace_file(path, buffer.getvalue())
