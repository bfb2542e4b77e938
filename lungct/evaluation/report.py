"""report.html: one page that shows all predictions. It needs no network, and text from DICOM headers stays text."""

import base64
import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from lungct.evaluation.figures import GREEN, RED, WINDOWS_HU, jpeg_bytes, outline_png, overlay, overlay_png, to_grey
from lungct.evaluation.scores import ScanScore
from lungct.files import npy_bytes
from lungct.segmentation.morphology import slice_pixels
from lungct.slices import SliceRow, safe_name

TEMPLATE = Path(__file__).with_name("report.html")
NUMBERS = ("slices", "litres", "dice", "hd95_mm")
MEASURES = ("litres_right", "litres_left", "mean_hu", "perc15_hu", "laa950", "mass_g", "lung_slices")
PNG_EVERY = {"all": 1, "some": 10, "none": None}  # slices for each overlay
THUMBNAIL_PX = 128
VIEW, THUMBNAIL = "view", "thumbnail.jpg"
STORED_WINDOW = "wide"  # of the pictures below VIEW; the page makes the other windows from it


def report_bytes(scans: list[dict]) -> bytes:
    """The page for some scans, each a dict of `report_row`."""
    windows = {name: window for name, window in WINDOWS_HU.items() if name != STORED_WINDOW}
    page = TEMPLATE.read_text(encoding="utf-8")
    page = page.replace("__STORED_HU__", json.dumps(WINDOWS_HU[STORED_WINDOW]))
    page = page.replace("__WINDOWS_HU__", json.dumps(windows))
    data = json.dumps(scans, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")  # no </script> can end it
    return page.replace("__SCANS__", data).encode()  # last: a name in it may look like a placeholder


def finite_or_none(value: float | None) -> float | None:
    """A number that JSON can hold: an empty mask is infinitely far from its reference."""
    return value if value is not None and math.isfinite(value) else None


def describe(score: ScanScore) -> list[str]:
    """A scan's voxel, and what its mask was made with, a phrase each; what is not known is left out."""
    voxel = [mm for mm in (score.row_mm, score.col_mm, score.slice_mm) if mm is not None]
    phrases = f"voxel {' x '.join(f'{mm:.3g}' for mm in voxel)} mm" if voxel else "", score.precision
    named = ((name, getattr(score, name)) for name in ("weights", "version"))
    return [phrase for phrase in (*phrases, *(f"{name} {text}" for name, text in named if text)) if phrase]


def report_row(score: ScanScore, coverage: float | None, folder: Path, slices: list[str]) -> dict:
    """What the page shows of one scan.

    score:    its row of scores.csv
    coverage: mean share of its annotated nodules that lies inside the prediction; None where it has none
    folder:   where its masks and pictures lie
    slices:   the names of its slices, feet first
    """
    thumbnail = folder / VIEW / THUMBNAIL
    picture = base64.b64encode(thumbnail.read_bytes()).decode() if thumbnail.is_file() else ""
    return {
        "scan": score.scan,
        "folder": folder.name,
        "thumbnail": f"data:image/jpeg;base64,{picture}",
        **{name: finite_or_none(getattr(score, name)) for name in (*NUMBERS, *MEASURES)},
        "made_with": describe(score),
        "coverage": coverage,
        "flags": [flag for flag in score.flags.split("; ") if flag],
        "seen": score.seen_in_training,
        "views": [name for name in slices if (folder / VIEW / f"{name}.jpg").is_file()],
    }


def result_files(
    rows: list[SliceRow], ct_hu: np.ndarray, lung: np.ndarray, truth: np.ndarray | None, png: str
) -> dict[str, bytes]:
    """A scan's files by name: a mask for each slice, an overlay for as many as `png` says."""

    def encode(z: int) -> dict[str, bytes]:
        name = safe_name(rows[z].slice_name)
        files = {f"{name}.npy": npy_bytes(lung[z].astype(np.uint8))}
        if PNG_EVERY[png] and z % PNG_EVERY[png] == 0:
            masks, colours = ([lung[z]], (RED,)) if truth is None else ([truth[z], lung[z]], (GREEN, RED))
            files[f"{name}.png"] = overlay_png(ct_hu[z], *masks, colours=colours)
            files[f"{VIEW}/{name}.jpg"] = jpeg_bytes(to_grey(ct_hu[z], STORED_WINDOW))
            files[f"{VIEW}/{name}.png"] = outline_png(*masks, colours=colours)
        return files

    with ThreadPoolExecutor() as pool:
        return {name: content for files in pool.map(encode, range(len(rows))) for name, content in files.items()}


def thumbnail(ct_hu: np.ndarray, lung: np.ndarray) -> bytes:
    """The slice with most lung, small, with its outline."""
    z = slice_pixels(lung).argmax()
    step = -(-max(lung.shape[1:]) // THUMBNAIL_PX)
    return jpeg_bytes(overlay(ct_hu[z, ::step, ::step], lung[z, ::step, ::step]))
