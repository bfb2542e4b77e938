"""report.html: one page to review all predictions. It needs no network, and text from DICOM headers stays text."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import numpy as np

from lungct.evaluation.figures import GREEN, RED, WINDOWS_HU, jpeg_bytes, overlay, overlay_png
from lungct.evaluation.scores import ScanScore
from lungct.evaluation.view import STORED_WINDOW, VIEW, VIEW_SCRIPT, masks_of, slice_script, view_script
from lungct.files import npy_bytes
from lungct.masks.predicted import read_fingerprint
from lungct.masks.reviews import Review
from lungct.slices import SliceRow, safe_name, slice_pixels

PAGE = Path(__file__).with_name("page")
PARTS = {"__CSS__": ("page.css",), "__JS__": ("list.js", "reviews.js", "patient.js", "start.js")}
NUMBERS = ("slices", "litres", "dice", "hd95_mm")
MEASURES = ("litres_right", "litres_left", "mean_hu", "perc15_hu", "laa950", "mass_g", "lung_slices")
DRAW_AT_ONCE = 2  # slices; more threads wait for Python's lock, and six take a sixth longer than two
PNG_EVERY = {"all": 1, "some": 10, "none": None}  # slices for each overlay
THUMBNAIL_PX = 128
THUMBNAIL = "thumbnail.jpg"


def report_bytes(scans: list[dict], reviews: dict[tuple, Review] | None = None, weights: str = "") -> bytes:
    """The page for some scans, each a dict of `report_row`.

    reviews: those of `earlier_reviews`; what the reader's browser holds comes before them
    weights: the name of the network
    """
    page = (PAGE / "page.html").read_text(encoding="utf-8")
    for placeholder, names in PARTS.items():
        page = page.replace(placeholder, "".join((PAGE / name).read_text(encoding="utf-8") for name in names))
    data = {
        "scans": scans,
        "reviews": [asdict(review) for review in (reviews or {}).values()],
        "weights": weights,
        "stored_hu": WINDOWS_HU[STORED_WINDOW],
        "windows_hu": {name: window for name, window in WINDOWS_HU.items() if name != STORED_WINDOW},
    }
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")  # no </script> can end it
    return page.replace("__DATA__", text).encode()  # last: a name in it may look like a placeholder


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
    has_view = (folder / VIEW / VIEW_SCRIPT).is_file()
    return {
        "scan": score.scan,
        "patient_id": score.patient_id,
        "folder": folder.name,
        **{name: finite_or_none(getattr(score, name)) for name in NUMBERS},
        **{name: value for name in MEASURES if (value := finite_or_none(getattr(score, name))) is not None},
        "made_with": describe(score),
        "coverage": coverage,
        "flags": [flag for flag in score.flags.split("; ") if flag],
        "seen": score.seen_in_training,
        "views": sum((folder / VIEW / f"{name}.js").is_file() for name in slices) if has_view else 0,
        "weights": score.weights,
        "fingerprint": read_fingerprint(folder),
        "made": f"{datetime.fromtimestamp(folder.stat().st_mtime):%Y-%m-%d %H:%M}" if folder.is_dir() else "",
    }


def result_files(
    rows: list[SliceRow], ct_hu: np.ndarray, sides: np.ndarray, truth: np.ndarray | None, png: str
) -> dict[str, bytes]:
    """A scan's files by name: a mask for each slice, an overlay and its place in the page for as many as `png` says.

    sides: (Z, H, W) uint8, the right lung 1 and the left 2, as `split_left_right` gives it
    """
    lung, step = sides > 0, PNG_EVERY[png]
    names = [safe_name(row.slice_name) for row in rows]
    shown = range(0, len(rows), step) if step else range(0)

    def encode(z: int) -> dict[str, bytes]:
        files = {f"{names[z]}.npy": npy_bytes(lung[z].astype(np.uint8))}
        if z in shown:
            masks, colours = ([lung[z]], (RED,)) if truth is None else ([truth[z], lung[z]], (GREEN, RED))
            files[f"{names[z]}.png"] = overlay_png(ct_hu[z], *masks, colours=colours)
            outlined = masks_of(sides[z], None if truth is None else truth[z])
            files[f"{VIEW}/{names[z]}.js"] = slice_script(ct_hu[z], outlined)
        return files

    with ThreadPoolExecutor(DRAW_AT_ONCE) as pool:
        files = {name: content for files in pool.map(encode, range(len(rows))) for name, content in files.items()}
    if shown:
        files[f"{VIEW}/{VIEW_SCRIPT}"] = view_script(rows, ct_hu, masks_of(sides, truth), shown)
    return files


def thumbnail(ct_hu: np.ndarray, lung: np.ndarray) -> bytes:
    """The slice with most lung, small, with its outline."""
    z = slice_pixels(lung).argmax()
    step = -(-max(lung.shape[1:]) // THUMBNAIL_PX)
    return jpeg_bytes(overlay(ct_hu[z, ::step, ::step], lung[z, ::step, ::step]))
