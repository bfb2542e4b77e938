"""Overlays and contact sheets; everywhere green is the reference and red the prediction. Shapes: H rows, W columns."""

import io
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lungct.files import read_npy, replace_file
from lungct.slices import HU_WINDOW, LEFT, RIGHT, SliceRow, by_scan, is_lung, slice_path

WINDOWS_HU = {  # black and white of each display window, in the order of the keys 1, 2, 3
    "lung": (-1350, 150),
    "mediastinum": (-160, 240),
    "bone": (-450, 1050),
    "wide": HU_WINDOW,
}
OVERVIEW_SCANS = 60
GREYS = 254  # of a palette's 256 entries; the others are for outlines
RED, GREEN, BLUE = (255, 70, 70), (80, 230, 100), (90, 140, 255)
SIDE_COLOURS = {RIGHT: (255, 107, 107), LEFT: (88, 166, 255)}  # those of page.css
LINE_PX = 2  # outlines on a contact sheet
MIN_COVERED = 63  # of 255: a quarter of a pixel on the sheet, so that thin lung stays when a slice is made smaller
BAR_PX, FONT_PX = 20, 13  # a line of text on a contact sheet
BAR_COLOUR, TEXT_COLOUR = (38, 38, 42), (235, 235, 235)


@dataclass(frozen=True)
class Tile:
    """One picture of a contact sheet.

    image:   (H, W) or (H, W, 3) uint8, without outlines: they are drawn when the picture has its size on the sheet
    caption: the line above it
    masks:   (H, W) bool each, and the colours of their outlines
    """

    image: np.ndarray
    caption: str
    masks: tuple[np.ndarray, ...] = ()
    colours: tuple[tuple[int, int, int], ...] = (GREEN, RED)


def to_grey(ct_hu: np.ndarray, window: str = "lung") -> np.ndarray:
    """HU to 0..255 (uint8) in one of WINDOWS_HU."""
    low, high = WINDOWS_HU[window]
    return (np.clip((ct_hu.astype(np.float32) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def outline(mask: np.ndarray, width_px: int = 1) -> np.ndarray:
    """The pixels of a mask (H, W) that touch what is not mask; of a wider line, those beside them, too."""
    inside = mask
    for _ in range(width_px):
        before, inside = inside, inside.copy()
        inside[1:] &= before[:-1]
        inside[:-1] &= before[1:]
        inside[:, 1:] &= before[:, :-1]
        inside[:, :-1] &= before[:, 1:]
    return mask & ~inside


def overlay(
    ct_hu: np.ndarray, *masks: np.ndarray, colours: Sequence = (RED, GREEN), window: str = "lung"
) -> np.ndarray:
    """CT in grey with the outline of each mask in its colour: (H, W, 3) uint8."""
    image = np.repeat(to_grey(ct_hu, window)[..., None], 3, axis=2)
    for mask, colour in zip(masks, colours, strict=False):
        image[outline(mask)] = colour
    return image


def difference(ct_hu: np.ndarray, lung: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Where two masks differ: red predicted too much, blue missed, dark CT elsewhere: (H, W, 3) uint8."""
    image = np.repeat(to_grey(ct_hu)[..., None] // 2, 3, axis=2)
    image[predicted & ~lung] = RED
    image[lung & ~predicted] = BLUE
    return image


def png_bytes(image: np.ndarray) -> bytes:
    """An image (uint8) as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)  # 5 times faster than 6 for a tenth more bytes
    return buffer.getvalue()


def overlay_png(ct_hu: np.ndarray, *masks: np.ndarray, colours: Sequence = (GREEN, RED)) -> bytes:
    """`overlay` as a PNG file with a palette: a third of the bytes and of the time of three channels."""
    index = np.minimum(to_grey(ct_hu), GREYS - 1)
    for number, mask in enumerate(masks):
        index[outline(mask)] = GREYS + number
    picture = Image.fromarray(index)
    picture.putpalette([v for grey in range(GREYS) for v in (grey,) * 3] + [v for colour in colours for v in colour])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1, compress_type=zlib.Z_RLE)  # a quarter faster for 5 % more bytes
    return buffer.getvalue()


def jpeg_bytes(image: np.ndarray) -> bytes:
    """A picture (uint8) as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def draw_tile(tile: Tile, side: int) -> np.ndarray:
    """A tile with its outlines, its longer side `side` pixels: (h, w, 3) uint8."""
    rows, cols = tile.image.shape[:2]
    size = tuple(max(1, round(n * side / max(rows, cols))) for n in (cols, rows))
    image = np.array(Image.fromarray(tile.image).convert("RGB").resize(size, Image.Resampling.LANCZOS))
    for mask, colour in zip(tile.masks, tile.colours, strict=False):
        resized = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR))
        image[outline(resized > MIN_COVERED, LINE_PX)] = colour
    return image


def contact_sheet(
    tiles: Sequence[Tile], columns: int, side: int = 256, legend: Mapping[str, tuple] | None = None, note: str = ""
) -> np.ndarray:
    """A grid of tiles below their captions; last a bar with the legend (text: colour) and a note, if there are any.

    (rows * (BAR_PX + side), columns * side, 3) uint8, and BAR_PX more for the last bar.
    """
    rows = -(-len(tiles) // columns)
    foot = BAR_PX if legend or note else 0
    sheet = Image.new("RGB", (columns * side, rows * (BAR_PX + side) + foot))
    for number, tile in enumerate(tiles):
        left, top = number % columns * side, number // columns * (BAR_PX + side)
        draw_bar(sheet, (left, top), side, {}, tile.caption)
        image = draw_tile(tile, side)
        sheet.paste(Image.fromarray(image), (left + (side - image.shape[1]) // 2, top + BAR_PX))
    if foot:
        draw_bar(sheet, (0, rows * (BAR_PX + side)), columns * side, legend or {}, note)
    return np.asarray(sheet)


def draw_bar(sheet: Image.Image, corner: tuple[int, int], width: int, legend: Mapping[str, tuple], text: str) -> None:
    """A dark bar with coloured squares and what they mean, then a text, of which the end stays where it is too long."""
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_PX)
    left, top = corner
    pen.rectangle((left, top, left + width - 1, top + BAR_PX - 1), fill=BAR_COLOUR)
    left += 5
    for meaning, colour in legend.items():
        pen.rectangle((left, top + 5, left + 9, top + 14), fill=colour)
        pen.text((left + 15, top + BAR_PX // 2), meaning, TEXT_COLOUR, font, anchor="lm")
        left += 30 + round(font.getlength(meaning))
    free = corner[0] + width - left - 3
    shown = text
    while shown and font.getlength(shown) > free:
        text = text[1:]
        shown = f"...{text}" if text else ""
    pen.text((left, top + BAR_PX // 2), shown, TEXT_COLOUR, font, anchor="lm")


def draw_overview(rows: Iterable[SliceRow], ct_root: Path, lung_root: Path | None) -> np.ndarray:
    """A contact sheet: one middle slice of each scan, with the outline of its lung where there are lung slices."""
    tiles = []
    for name, scan in list(by_scan(rows).items())[:OVERVIEW_SCANS]:
        middle = scan[len(scan) // 2]
        masks = (is_lung(read_npy(slice_path(lung_root, middle))),) if lung_root else ()
        grey = to_grey(read_npy(slice_path(ct_root, middle)))
        tiles.append(Tile(grey, f"{name}  slice {middle.z_index}", masks))
    legend = {"label": GREEN} if lung_root else {}
    return contact_sheet(tiles, columns=min(6, len(tiles)), legend=legend)


def save_png(path: Path, image: np.ndarray) -> None:
    """Write a picture, all or nothing."""
    replace_file(path, png_bytes(image))
