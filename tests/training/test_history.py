"""The rows of a training's history as curves."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lungct.training.history import EpochRow, draw_curves, save_curves

HISTORY = [
    EpochRow(1, 1.0, 0.9, 0.5, 0.2, 1e-3, 0, 2.0),
    EpochRow(2, 0.5, 0.6, 0.75, 0.25, 1e-3, 1, 2.0),
    EpochRow(3, 0.4, 0.5, 0.625, 0.5, 1e-3, 0, 2.0),
]


def test_curves_show_loss_and_one_minus_dice_by_epoch():
    figure = draw_curves(HISTORY, augment=True)
    drawn = {line.get_label(): line.get_xydata().tolist() for axes in figure.axes for line in axes.lines}
    assert drawn == {
        "training": [[1, 1.0], [2, 0.5], [3, 0.4]],
        "validation": [[1, 0.9], [2, 0.6], [3, 0.5]],
        "all slices together": [[1, 0.5], [2, 0.25], [3, 0.375]],
        "worst slice": [[1, 0.8], [2, 0.75], [3, 0.5]],
        "best: epoch 2": [[2, 0], [2, 1]],
    }
    assert all(axes.get_yscale() == "log" for axes in figure.axes)
    assert figure.axes[1].get_title() == "best Dice 0.7500, its worst slice 0.2500"


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 40])
def test_ticks_are_whole_epochs_and_plain_numbers(epochs):
    history = [replace(HISTORY[0], epoch=n, train_loss=0.1 / n) for n in range(1, epochs + 1)]
    figure = draw_curves(history, augment=True)
    for axes in figure.axes:
        low, high = axes.get_xlim()
        shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert shown
        assert all(tick == round(tick) for tick in shown)
        bottom, top = axes.get_ylim()
        numbers = [tick for tick in axes.get_yticks() if bottom <= tick <= top]
        assert numbers
        assert axes.yaxis.get_major_formatter()(0.02) == "0.02"


def test_a_training_of_one_epoch_is_seen():
    """A line through one point is nothing."""
    for axes in draw_curves(HISTORY[:1], augment=True).axes:
        assert [line.get_marker() for line in axes.lines] == [".", ".", "None"]


@pytest.mark.parametrize("augment", [True, False])
def test_picture_says_why_training_loss_is_the_higher_one(augment):
    note = draw_curves(HISTORY, augment).get_supxlabel()
    assert "Training loss is often the higher one" in note
    assert "averaged weights" in note
    assert ("augmented" in note) == ("unchanged" in note) == augment


def test_perfect_and_missing_numbers_are_drawn_without_a_warning(tmp_path):
    history = [EpochRow(1, math.nan, 0.9, 1.0, math.nan, 1e-3, 9, 2.0), EpochRow(2, 0.1, 0.2, 1.0, 1.0, 1e-3, 0, 2.0)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_curves(tmp_path / "c.png", history, augment=True)
    figure = draw_curves(history, augment=True)
    dice, worst, best = figure.axes[1].lines
    assert dice.get_ydata().tolist() == [1e-4, 1e-4]
    assert best.get_xdata() == [1, 1]
    assert math.isnan(worst.get_ydata()[0])


def test_a_training_without_a_finite_loss_is_drawn_without_a_warning(tmp_path):
    nothing = EpochRow(1, math.nan, math.nan, 0.0, 0.0, 1e-3, 9, 2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_curves(tmp_path / "c.png", [nothing], augment=True)


def test_curves_are_a_picture(tmp_path):
    save_curves(tmp_path / "c.png", HISTORY, augment=True)
    assert np.asarray(Image.open(tmp_path / "c.png")).shape == (462, 990, 4)
