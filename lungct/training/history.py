"""What each epoch of a training brought: the rows of history.csv, and their curves."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lungct.files import replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MIN_DISTANCE = 1e-4  # in the picture: a Dice of 1 has no place on a logarithmic axis
MIN_RATIO = 3.0  # of a logarithmic axis, so that a number stands on it


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


def distance(dice: float) -> float:
    """1 - Dice as the logarithmic axis can show it, NaN for NaN."""
    return dice if math.isnan(dice) else max(1 - dice, MIN_DISTANCE)


def explain_losses(augment: bool) -> str:
    """Why the training loss is often the higher one, for the picture."""
    kinds = ("augmented slices and ", "unchanged slices and ") if augment else ("", "")
    return (
        f"Training loss is often the higher one: it is of {kinds[0]}the weights while they still change, "
        f"over the epoch;\nvalidation loss is of {kinds[1]}the averaged weights at the epoch's end."
    )


def draw_curves(history: list[EpochRow], augment: bool) -> Figure:
    """Training and validation loss, and 1 - Dice of the validation, by epoch; the epoch of the kept weights is marked.

    augment: whether the training slices were augmented
    """
    from matplotlib.figure import Figure  # takes 0.5 s; prediction never needs it

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [row.epoch for row in history]
    best = max(history, key=lambda row: row.val_dice)  # the first of equals, as the training keeps it
    left.plot(epochs, [row.train_loss for row in history], ".-", label="training")
    left.plot(epochs, [row.val_loss for row in history], ".-", label="validation")
    left.set(ylabel="loss (1 - Dice + cross-entropy)")
    right.plot(epochs, [distance(row.val_dice) for row in history], ".-", label="all slices together")
    right.plot(epochs, [distance(row.val_worst_dice) for row in history], ".-", label="worst slice")
    right.set(ylabel="1 - Dice of the validation slices")
    for axes in (left, right):
        set_axes(axes, epochs)
        axes.axvline(best.epoch, color="grey", linestyle="--", label=f"best: epoch {best.epoch}")
        axes.legend()
        axes.grid(alpha=0.3)
    right.set_title(f"best Dice {best.val_dice:.4f}, its worst slice {best.val_worst_dice:.4f}", fontsize=10)
    figure.supxlabel(explain_losses(augment), fontsize=8)
    return figure


def set_axes(axes: Axes, epochs: list[int]) -> None:
    """Whole epochs from left to right, a logarithm with plain numbers upwards."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter

    axes.set(xlabel="epoch", xlim=(epochs[0] - 0.5, epochs[-1] + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if not math.isfinite(axes.dataLim.minposy):  # every loss was NaN
        return
    axes.set_yscale("log")
    bottom, top = axes.get_ylim()
    middle, reach = math.sqrt(bottom * top), math.sqrt(max(top / bottom, MIN_RATIO))
    axes.set_ylim(middle / reach, middle * reach)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def save_curves(path: Path, history: list[EpochRow], augment: bool) -> None:
    """Write the curves as a picture, all or nothing."""
    buffer = io.BytesIO()
    draw_curves(history, augment).savefig(buffer, format="png", dpi=110)
    replace_file(path, buffer.getvalue())
