"""What report.html shows of one scan: its slices and planes as scripts, since a page on a disk may read no other file.

Z slices, H rows, W columns; row 0 is the front, column 0 the patient's right, slice 0 the lowest.
"""

import base64
import json
from collections.abc import Iterable

import numpy as np

from lungct.evaluation.figures import jpeg_bytes, to_grey
from lungct.evaluation.metrics import dice
from lungct.scans.geometry import even_slices, frame_of
from lungct.slices import LEFT, RIGHT, SliceRow, safe_name, slice_pixels

VIEW = "view"  # folder of these scripts in that of the scan
VIEW_SCRIPT = "view.js"
STORED_WINDOW = "wide"  # of the pictures; the page makes the other windows from it

Masks = dict[str, np.ndarray]  # bool arrays by the name of their outline


def masks_of(sides: np.ndarray, truth: np.ndarray | None) -> Masks:
    """What is outlined, of a mask with the right lung 1 and the left 2, and of its reference where there is one."""
    masks = {"right": sides == RIGHT, "left": sides == LEFT}
    return masks if truth is None else {**masks, "reference": truth}


def slice_script(ct_hu: np.ndarray, masks: Masks) -> bytes:
    """A slice (H, W) and the outlines on it."""
    return script(picture_and_outlines(ct_hu, masks))


def view_script(rows: list[SliceRow], ct_hu: np.ndarray, masks: Masks, shown: Iterable[int]) -> bytes:
    """All that the page says of a scan beside its slices.

    masks: (Z, H, W) each, as `masks_of` gives them
    shown: the slices that have a script of their own
    """
    first = rows[0]
    pixel_cm2 = first.row_mm * first.col_mm / 100
    by_slice = None
    if "reference" in masks:
        pairs = zip(masks["right"] | masks["left"], masks["reference"], strict=True)
        by_slice = [round(dice(*pair), 4) for pair in pairs]
    return script(
        {
            "names": [safe_name(row.slice_name) for row in rows],
            "z_mm": [round(row.z_mm, 2) for row in rows],
            "places_mm": frame_of(rows).places_mm.round(2).tolist(),
            "shown": list(shown),
            "rows": first.rows,
            "columns": first.columns,
            "row_mm": first.row_mm,
            "col_mm": first.col_mm,
            **{f"{side}_cm2": (slice_pixels(masks[side]) * pixel_cm2).round(1).tolist() for side in ("right", "left")},
            "dice": by_slice,
            "planes": planes(rows, ct_hu, masks),
        }
    )


def planes(rows: list[SliceRow], ct_hu: np.ndarray, masks: Masks) -> list[dict]:
    """A coronal plane through the row with most lung, and a sagittal one through the column with most of each lung."""
    first = rows[0]
    z_index, places_mm = even_slices(frame_of(rows).places_mm, first.slice_mm)
    lung = masks["right"] | masks["left"]
    cuts = [("coronal", 1, np.count_nonzero(lung, axis=(0, 2)), first.col_mm, "RL")]
    for side in ("right", "left"):
        cuts.append((f"sagittal, {side} lung", 2, np.count_nonzero(masks[side], axis=(0, 1)), first.row_mm, "AP"))
    found = []
    for title, axis, pixels, pixel_mm, marks in cuts:
        at = int(pixels.argmax()) if pixels.any() else len(pixels) // 2
        cut = {name: from_head(mask.take(at, axis), z_index) for name, mask in masks.items()}
        plane = from_head(ct_hu.take(at, axis), z_index, outside=-1024)
        found.append(
            {
                "title": title,
                "at": at,
                "axis": axis,
                "marks": marks,
                "rows": plane.shape[0],
                "columns": plane.shape[1],
                "width_mm": round(plane.shape[1] * pixel_mm, 2),
                "height_mm": round(plane.shape[0] * first.slice_mm, 2),
                "top_mm": round(float(places_mm[-1]), 2),
                **picture_and_outlines(plane, cut),
            }
        )
    return found


def from_head(plane: np.ndarray, z_index: np.ndarray, outside: int = 0) -> np.ndarray:
    """A plane (Z, N) at the places of `even_slices`, head first, `outside` where slices are missing."""
    return np.where((z_index >= 0)[:, None], plane[z_index], np.asarray(outside, plane.dtype))[::-1]


def picture_and_outlines(ct_hu: np.ndarray, masks: Masks) -> dict:
    """A picture of CT as a data URL, and the paths of the masks on it."""
    encoded = base64.b64encode(jpeg_bytes(np.ascontiguousarray(to_grey(ct_hu, STORED_WINDOW)))).decode()
    outlines = {name: outline_path(mask) for name, mask in masks.items()}
    return {"image": f"data:image/jpeg;base64,{encoded}", "outlines": outlines}


def outline_path(mask: np.ndarray) -> str:
    """The edges of the pixels of a mask (H, W) as an SVG path, a pixel a unit: it stays exact at any size."""
    padded = np.pad(mask, 1)
    across = (padded[1:] != padded[:-1])[:, 1:-1]  # (H + 1, W): between two rows
    along = (padded[:, 1:] != padded[:, :-1])[1:-1].T  # (W + 1, H): between two columns
    parts = [f"M{start} {line}h{length}" for line, start, length in runs(across)]
    return "".join(parts + [f"M{line} {start}v{length}" for line, start, length in runs(along)])


def runs(is_edge: np.ndarray) -> Iterable[tuple[int, int, int]]:
    """(line, first cell, cells) of each run of True in the lines of a table (lines, cells)."""
    columns = is_edge.shape[1]
    places = np.flatnonzero(is_edge)  # several times faster than both indices at once
    is_first = np.diff(places, prepend=-2) != 1
    starts = np.flatnonzero(is_first | (places % columns == 0))
    lines, cells = np.divmod(places[starts], columns)
    lengths = np.diff(starts, append=len(places))
    return zip(lines.tolist(), cells.tolist(), lengths.tolist(), strict=True)


def script(data: dict) -> bytes:
    """A script that hands data to the page."""
    return f"receive({json.dumps(data, separators=(',', ':'), allow_nan=False)});\n".encode()
