"""Overlays and the viewer, pixel by pixel where it matters."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_row
from PIL import Image

from image_test import Stack, Viewer, draw
from lungct.evaluation.figures import (
    BLUE,
    GREEN,
    RED,
    WINDOWS_HU,
    YELLOW,
    contact_sheet,
    difference,
    draw_overview,
    outline,
    overlay,
    overlay_png,
    to_grey,
)
from lungct.slices import slice_path


@pytest.fixture
def mask() -> np.ndarray:
    mask = np.zeros((9, 12), bool)
    mask[2:7, 3:10] = True
    return mask


def test_window_puts_its_ends_to_black_and_white():
    assert to_grey(np.array([-2000, -1350, -600, 150, 900])).tolist() == [0, 0, 127, 255, 255]
    assert to_grey(np.array([-160, 240]), "mediastinum").tolist() == [0, 255]


def test_display_windows_are_those_of_a_reading_room():
    """Level and width, in HU."""
    found = {name: ((low + high) / 2, high - low) for name, (low, high) in WINDOWS_HU.items()}
    assert {name: found[name] for name in ("lung", "mediastinum", "bone")} == {
        "lung": (-600, 1500),
        "mediastinum": (40, 400),
        "bone": (300, 1500),
    }


def test_colours_are_told_from_each_other_and_from_grey(mask):
    """The first mask is red and the second green, as captions say; what is missed is blue, names are yellow."""
    image = overlay(np.full(mask.shape, 40), mask, ~mask)
    assert (image[2, 3].tolist(), image[1, 3].tolist()) == ([255, 70, 70], [80, 230, 100])
    assert difference(np.zeros(mask.shape), mask, ~mask)[4, 5].tolist() == [90, 140, 255]
    sheet = contact_sheet([np.zeros((64, 64, 3), np.uint8)], ["HHH"], columns=1, side=64)
    red, green, blue = sheet.max((0, 1)).astype(float) / YELLOW
    assert [green, blue] == pytest.approx([red, red], abs=0.02)  # thinner than a pixel, so darker
    assert YELLOW == (255, 210, 60)


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


def test_white_is_no_outline(mask):
    bone = np.full(mask.shape, 1500)
    png = np.asarray(Image.open(io.BytesIO(overlay_png(bone, mask, ~mask))).convert("RGB"))
    np.testing.assert_array_equal((png == GREEN).all(-1), outline(mask))
    np.testing.assert_array_equal((png == RED).all(-1), outline(~mask))
    assert (png[3:6, 4:9] == 253).all()  # of 254 greys


def test_overview_shows_the_middle_slice_of_each_of_sixty_scans_at_most(tmp_path):
    rows = [make_row(f"P{n:02d}", z) for n in range(61) for z in range(3)]
    for row in rows:
        for folder, values in (("ct", 100 * row.z_index - 1350), ("lung", 0)):
            path = slice_path(tmp_path / folder, row)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.full((256, 256), values, np.int16))
    sheet = draw_overview(rows, tmp_path / "ct", None)
    assert sheet.shape == (10 * 256, 6 * 256, 3)
    assert (sheet[128::256, 128::256] == 17).all()  # 100 of the window's 1,500 HU
    assert draw_overview(rows[:6], tmp_path / "ct", tmp_path / "lung").shape == (256, 2 * 256, 3)


def test_difference_is_red_for_too_much_and_blue_for_missed(mask):
    predicted = np.roll(mask, 1, axis=1)
    image = difference(np.zeros(mask.shape), mask, predicted)
    assert (image[2:7, 10] == RED).all()
    assert (image[2:7, 3] == BLUE).all()
    assert (image[4, 5] == image[0, 0]).all()
    assert image[0, 0].tolist() == [114] * 3  # half as bright as 0 HU in the lung window, 229


def test_contact_sheet_has_a_place_for_each():
    tiles = [np.full((30, 40, 3), 10 * n, np.uint8) for n in range(1, 6)]
    sheet = contact_sheet(tiles, list("abcde"), columns=3, side=40)
    assert sheet.shape == (80, 120, 3)
    assert sheet[20::40, 20::40, 0].tolist() == [[10, 20, 30], [40, 50, 0]]
    assert all(sheet[y : y + 15, x : x + 15].max() > 60 for y in (0, 40) for x in (0, 40) if x + y < 80)  # its name
    assert contact_sheet(tiles[:3], list("abc"), columns=3, side=40).shape == (40, 120, 3)
    assert contact_sheet(tiles[:1], ["a"], columns=1).shape == (256, 256, 3)


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
