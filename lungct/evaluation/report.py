"""A page to look at all predictions: one file, no network, nothing that a header wrote is taken for HTML."""

import base64
import json
from pathlib import Path

TEMPLATE = Path(__file__).with_name("report.html")
NUMBERS = ("slices", "litres", "dice", "hd95_mm")
VIEW, THUMBNAIL = "view", "thumbnail.jpg"


def report_bytes(scans: list[dict]) -> bytes:
    """The page for some scans, as `report_row` makes them."""
    data = json.dumps(scans, separators=(",", ":")).replace("<", "\\u003c")  # no </script> can end it
    return TEMPLATE.read_text(encoding="utf-8").replace("__SCANS__", data).encode()


def report_row(score: dict, coverage: float | None, folder: Path, slices: list[str]) -> dict:
    """What the page shows of one scan, of its row of scores.csv, its nodules' mean coverage, its folder and slices."""
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
