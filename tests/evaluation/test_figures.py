"""Overlays and contact sheets, pixel by pixel where it matters."""

import io

import numpy as np
import pytest
from conftest import make_row
from PIL import Image

from lungct.evaluation.figures import (
    BAR_COLOUR,
    BAR_PX,
    BLUE,
    GREEN,
    RED,
    WINDOWS_HU,
    Tile,
    contact_sheet,
    difference,
    draw_overview,
    draw_tile,
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
    """The first mask of `overlay` is red and the second green; what is missed is blue."""
    image = overlay(np.full(mask.shape, 40), mask, ~mask)
    assert (image[2, 3].tolist(), image[1, 3].tolist()) == ([255, 70, 70], [80, 230, 100])
    assert difference(np.zeros(mask.shape), mask, ~mask)[4, 5].tolist() == [90, 140, 255]


def test_outline_is_one_pixel_wide(mask):
    line = outline(mask)
    assert line.sum() == 7 * 5 - 5 * 3
    assert not line[3:6, 4:9].any()


def test_wider_outline_has_the_pixels_beside_it_too(mask):
    line = outline(mask, 2)
    assert line.sum() == 7 * 5 - 3 * 1
    assert not line[4, 5:8].any()


def test_outline_is_open_where_the_mask_leaves_the_picture():
    assert not outline(np.ones((4, 5), bool), 2).any()


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
    tile = 256 + BAR_PX
    sheet = draw_overview(rows, tmp_path / "ct", None)
    assert sheet.shape == (10 * tile, 6 * 256, 3)
    assert (sheet[BAR_PX + 128 :: tile, 128::256] == 17).all()  # 100 of the window's 1,500 HU
    labelled = draw_overview(rows[:6], tmp_path / "ct", tmp_path / "lung")
    assert labelled.shape == (tile + BAR_PX, 2 * 256, 3)
    assert (labelled[-BAR_PX:] == GREEN).all(-1).sum() == 100  # the square of the legend


def test_difference_is_red_for_too_much_and_blue_for_missed(mask):
    predicted = np.roll(mask, 1, axis=1)
    image = difference(np.zeros(mask.shape), mask, predicted)
    assert (image[2:7, 10] == RED).all()
    assert (image[2:7, 3] == BLUE).all()
    assert (image[4, 5] == image[0, 0]).all()
    assert image[0, 0].tolist() == [114] * 3  # half as bright as 0 HU in the lung window, 229


def test_contact_sheet_has_a_place_and_a_caption_for_each():
    tiles = [Tile(np.full((30, 40, 3), 10 * n, np.uint8), "abc") for n in range(1, 6)]
    sheet = contact_sheet(tiles, columns=3, side=40)
    row = BAR_PX + 40
    assert sheet.shape == (2 * row, 120, 3)
    assert sheet[BAR_PX + 15 :: row, 20::40, 0].tolist() == [[10, 20, 30], [40, 50, 0]]
    bars = [sheet[y : y + BAR_PX, x : x + 40] for y in (0, row) for x in (0, 40, 80)][:5]
    assert all((bar[0] == BAR_COLOUR).all() and bar.max() > 150 for bar in bars)
    assert contact_sheet(tiles[:3], columns=3, side=40).shape == (row, 120, 3)
    assert contact_sheet(tiles[:1], columns=1).shape == (256 + BAR_PX, 256, 3)


def test_last_bar_of_a_sheet_has_a_square_for_each_colour_and_the_note():
    tile = Tile(np.zeros((64, 64), np.uint8), "")
    bare, noted = (
        contact_sheet([tile], 1, 300, {"reference": GREEN, "prediction": RED}, note)[-BAR_PX:]
        for note in ("", "epoch 3")
    )
    for colour in (GREEN, RED):
        rows, cols = np.nonzero((bare == colour).all(-1))
        assert (np.ptp(rows), np.ptp(cols)) == (9, 9)
    assert np.nonzero((bare != noted).any(-1))[1].min() > np.nonzero((bare == RED).all(-1))[1].max()


def test_a_caption_that_is_too_long_keeps_its_end():
    tile = np.zeros((64, 64), np.uint8)
    long, short = (contact_sheet([Tile(tile, text)], 1, 120)[:BAR_PX] for text in ("W" * 200 + " Dice 0.9", "0.9"))
    assert (long[:, -3:] == BAR_COLOUR).all()
    lit = np.flatnonzero((short != BAR_COLOUR).any((0, 2)))
    width = lit[-1] - lit[0] + 1
    end = np.flatnonzero((long != BAR_COLOUR).any((0, 2)))[-1]
    assert np.abs(long[:, end - width + 1 : end + 1].astype(int) - short[:, lit[0] : lit[-1] + 1]).mean() < 10


@pytest.mark.parametrize("scale", [0.5, 1, 4])
def test_outlines_on_a_sheet_are_two_pixels_wide_whatever_the_size_of_the_slice(scale):
    """A box of half the sides; the slice is enlarged, left as it is or made smaller to the sheet's 128 pixels."""
    side = int(128 * scale)
    mask = np.zeros((side, side), bool)
    mask[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = True
    image = draw_tile(Tile(np.full((side, side), 90, np.uint8), "", (mask,)), 128)
    green = (image == GREEN).all(-1)
    for line in (green[64], green[:, 64]):
        (places,) = np.nonzero(line)
        assert len(places) == 4
        assert np.abs(places - [32, 33, 94, 95]).max() <= 1
    assert ((image == GREEN).all(-1) | (image == 90).all(-1)).all()  # and are not blurred


def test_prediction_is_drawn_over_the_reference_and_thin_lung_stays():
    mask = np.zeros((512, 512), bool)
    mask[100:102, 100:400] = True
    image = draw_tile(Tile(np.zeros((512, 512), np.uint8), "", (mask, mask)), 256)
    assert (image == RED).all(-1).sum() >= 140
    assert not (image == GREEN).all(-1).any()


def test_a_picture_that_is_not_square_lies_in_the_middle_of_its_place():
    sheet = contact_sheet([Tile(np.full((64, 32), 200, np.uint8), "")], 1, 64)
    np.testing.assert_array_equal(np.flatnonzero(sheet[BAR_PX + 32, :, 0]), np.arange(16, 48))
