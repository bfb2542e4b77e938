"""Overlays and the viewer, pixel by pixel where it matters."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from image_test import Stack, Viewer, draw
from lungct.evaluation.figures import (
    BLUE,
    GREEN,
    RED,
    contact_sheet,
    difference,
    outline,
    overlay,
    overlay_png,
    save_curves,
    to_grey,
)


@pytest.fixture
def mask() -> np.ndarray:
    mask = np.zeros((9, 12), bool)
    mask[2:7, 3:10] = True
    return mask


def test_window_puts_its_ends_to_black_and_white():
    assert to_grey(np.array([-2000, -1350, -600, 150, 900])).tolist() == [0, 0, 127, 255, 255]
    assert to_grey(np.array([-160, 240]), "mediastinum").tolist() == [0, 255]


def test_outline_is_one_pixel_wide(mask):
    line = outline(mask)
    assert line.sum() == 7 * 5 - 5 * 3
    assert not line[3:6, 4:9].any()


def test_outline_is_open_where_the_mask_leaves_the_picture():
    assert not outline(np.ones((4, 5), bool)).any()


def test_overlay_and_its_png_show_the_same_outlines(mask):
    ct_hu = np.full(mask.shape, -600)
    image = overlay(ct_hu, mask, colours=(GREEN,))
    png = np.asarray(Image.open(io.BytesIO(overlay_png(ct_hu, mask))).convert("RGB"))
    np.testing.assert_array_equal((image == GREEN).all(-1), outline(mask))
    np.testing.assert_array_equal((png == GREEN).all(-1), outline(mask))


def test_difference_is_red_for_too_much_and_blue_for_missed(mask):
    predicted = np.roll(mask, 1, axis=1)
    image = difference(np.zeros(mask.shape), mask, predicted)
    assert (image[2:7, 10] == RED).all()
    assert (image[2:7, 3] == BLUE).all()
    assert (image[4, 5] == image[0, 0]).all()


def test_contact_sheet_has_a_place_for_each():
    tiles = [np.full((30, 40, 3), 10 * n, np.uint8) for n in range(1, 6)]
    sheet = contact_sheet(tiles, list("abcde"), columns=3, side=40)
    assert sheet.shape == (80, 120, 3)
    assert sheet[20, 60].tolist() == [20, 20, 20]


def test_curves_are_those_of_the_history(tmp_path, monkeypatch):
    figures, save = [], Figure.savefig

    def keep(figure: Figure, *args, **options) -> None:
        figures.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    first = {"epoch": 1, "train_loss": 1.0, "val_loss": 0.9, "val_dice": 0.5, "val_worst_dice": 0.2}
    second = {"epoch": 2, "train_loss": 0.5, "val_loss": 0.7, "val_dice": 0.8, "val_worst_dice": 0.6}
    save_curves(tmp_path / "c.png", [first, second])
    drawn = [
        {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}
        for axes in figures[0].axes
    ]
    assert drawn == [
        {"training": ([1, 2], [1.0, 0.5]), "validation": ([1, 2], [0.9, 0.7])},
        {"mean": ([1, 2], [0.5, 0.8]), "worst slice": ([1, 2], [0.2, 0.6])},
    ]
    assert [axes.get_ylabel() for axes in figures[0].axes] == ["loss (Dice + cross-entropy)", "validation Dice"]
    assert Image.open(tmp_path / "c.png").size == (990, 440)  # 9 x 4 inches of 110 dots


def test_viewer_answers_to_keys_wheel_and_cursor(mask):
    ct_hu = np.arange(3 * 9 * 12, dtype=np.int16).reshape(3, 9, 12)
    stack = Stack(ct_hu, ["a", "b", "c"], np.stack([mask] * 3), np.stack([~mask] * 3))
    viewer = Viewer(stack, "lung", "outline")
    assert viewer.describe(2.2, 1.4) == f"row 1  column 2  {ct_hu[1, 1, 2]} HU"
    assert viewer.describe(50, 1) == ""
    for key, z in (("up", 2), ("up", 2), ("down", 1), ("left", 0), ("down", 0)):
        viewer.press(SimpleNamespace(key=key))
        assert viewer.z == z
    viewer.press(SimpleNamespace(key="3"))
    assert viewer.window == "bone"
    viewer.press(SimpleNamespace(key="o"))
    assert viewer.style == "filled"
    assert viewer.axes.get_title() == "a  (1 of 3)  Dice 0.0000  bone window"
    np.testing.assert_array_equal(viewer.image.get_array(), draw(stack, 0, "bone", "filled"))
