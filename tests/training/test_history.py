"""The rows of a training's history as curves."""

import numpy as np
from PIL import Image

from lungct.training.history import EpochRow, draw_curves, save_curves

HISTORY = [EpochRow(1, 1.0, 0.9, 0.5, 0.2, 1e-3, 0, 2.0), EpochRow(2, 0.5, 0.6, 0.7, 0.3, 1e-3, 1, 2.0)]


def test_curves_show_loss_and_dice_by_epoch():
    drawn = {line.get_label(): line.get_xydata().tolist() for axes in draw_curves(HISTORY).axes for line in axes.lines}
    assert drawn == {
        "training": [[1, 1.0], [2, 0.5]],
        "validation": [[1, 0.9], [2, 0.6]],
        "mean": [[1, 0.5], [2, 0.7]],
        "worst slice": [[1, 0.2], [2, 0.3]],
    }


def test_curves_are_a_picture(tmp_path):
    save_curves(tmp_path / "c.png", HISTORY)
    assert np.asarray(Image.open(tmp_path / "c.png")).shape == (440, 990, 4)
