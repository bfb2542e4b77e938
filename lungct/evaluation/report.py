"""report.html: one page that shows all predictions. It needs no network, and text from DICOM headers stays text."""

import base64
import json
from pathlib import Path

from lungct.evaluation.figures import WINDOWS_HU

TEMPLATE = Path(__file__).with_name("report.html")
NUMBERS = ("slices", "litres", "dice", "hd95_mm")
VIEW, THUMBNAIL = "view", "thumbnail.jpg"
STORED_WINDOW = "wide"  # of the pictures below VIEW; the page makes the other windows from it


def report_bytes(scans: list[dict]) -> bytes:
    """The page for some scans, each a dict of `report_row`."""
    windows = {name: window for name, window in WINDOWS_HU.items() if name != STORED_WINDOW}
    page = TEMPLATE.read_text(encoding="utf-8")
    page = page.replace("__STORED_HU__", json.dumps(WINDOWS_HU[STORED_WINDOW]))
    page = page.replace("__WINDOWS_HU__", json.dumps(windows))
    data = json.dumps(scans, separators=(",", ":")).replace("<", "\\u003c")  # no </script> can end it
    return page.replace("__SCANS__", data).encode()  # last: a name in it may look like a placeholder


def report_row(score: dict, coverage: float | None, folder: Path, slices: list[str]) -> dict:
    """What the page shows of one scan.

    score:    its row of scores.csv
    coverage: mean share of its annotated nodules that lies inside the prediction; None where it has none
    folder:   where its masks and pictures lie
    slices:   the names of its slices, feet first
    """
    thumbnail = folder / VIEW / THUMBNAIL
    picture = base64.b64encode(thumbnail.read_bytes()).decode() if thumbnail.is_file() else ""
    return {
        "scan": score["scan"],
        "folder": folder.name,
        "thumbnail": f"data:image/jpeg;base64,{picture}",
        **{name: float(score[name]) if score[name] != "" else None for name in NUMBERS},
        "coverage": coverage,
        "flags": [flag for flag in score["flags"].split("; ") if flag],
        "seen": score["seen_in_training"],
        "views": [name for name in slices if (folder / VIEW / f"{name}.jpg").is_file()],
    }
