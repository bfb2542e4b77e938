"""How much of each nodule that radiologists annotated lies inside a lung mask."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lungct.evaluation.figures import BLUE, GREEN, Tile, contact_sheet, save_png, to_grey
from lungct.files import replace_file, table_bytes
from lungct.parallel import Warned, count, print_notes
from lungct.scans.geometry import Frame, frame_of
from lungct.scans.lidc import Nodule, find_nodules, has_nodules
from lungct.scans.nifti import dicom_series
from lungct.slice_files import read_stack
from lungct.slices import SliceRow, StoredSlice, is_lung

PICTURE_MARGIN_MM = 40
ONLY_IN_DICOM = "its nodules are not counted: their places are known in the rows and columns of its DICOM files alone"


@dataclass(frozen=True)
class NoduleScore:
    """A row of nodules.csv. `slices` has the nodule, `slices_predicted` of them were predicted; coverage is 0 to 1."""

    scan: str
    nodule: int
    readers: int
    voxels: int
    slices: int
    slices_predicted: int
    coverage: float


def annotated_nodules(
    row: SliceRow, confidence_level: float, padding_size: int, min_voxels: int
) -> tuple[list[Nodule], tuple[str, ...]]:
    """The nodules of the scan that a slice is of, as `find_nodules` takes and gives them, and warnings.

    Of a volume that is named after a series there are none: its rows may run the other way, or be resampled.
    """
    series_uid = dicom_series(row)
    nodules = find_nodules(series_uid, confidence_level, padding_size, min_voxels)
    return nodules, (ONLY_IN_DICOM,) if not series_uid and has_nodules(row.series_uid) else ()


def audit_nodules(scan: str, frame: Frame, lung: np.ndarray, nodules: list[Nodule]) -> list[NoduleScore]:
    """The share of each nodule that lies inside the lung of one scan, (Z, H, W) bool in LPS; `frame` says where.

    Only voxels on predicted slices count; a nodule that has none is left out.
    """
    lung = as_stored(lung, frame.source_axes)
    audit = []
    for nodule in nodules:
        slices, mask, lung_there = where_it_lies(nodule, frame, lung)
        voxels = np.count_nonzero(mask)
        if voxels:
            coverage = round(np.count_nonzero(mask & lung_there) / voxels, 4)
            audit.append(
                NoduleScore(scan, nodule.number, nodule.readers, voxels, len(nodule.z_mm), len(slices), coverage)
            )
    return audit


def where_it_lies(nodule: Nodule, frame: Frame, lung: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(predicted slices that show a nodule, it and the lung in its box on each of them), (n,) and (n, rows, columns).

    lung: (Z, H, W) bool, rows and columns as stored
    """
    nearest = np.abs(nodule.z_mm[:, None] - frame.z_mm[None]).argmin(axis=1)
    here = np.abs(nodule.z_mm - frame.z_mm[nearest]) < frame.spacing_mm[0] / 2
    slices, mask = nearest[here], np.moveaxis(nodule.mask[..., here], -1, 0)
    return slices, mask, lung[(slices, *box_in_slice(nodule))]


def box_in_slice(nodule: Nodule, margin: int = 0) -> tuple[slice, slice]:
    """The rows and columns of a nodule, and so many more on each side."""
    corners = zip((nodule.row, nodule.col), nodule.mask.shape[:2], strict=True)
    return tuple(slice(max(0, start - margin), start + size + margin) for start, size in corners)


def as_stored(lung: np.ndarray, source_axes: str) -> np.ndarray:
    """Slices (Z, H, W) turned from LPS to the rows and columns of their files, which is where pylidc counts."""
    columns, rows = source_axes[:2]
    if columns in "AP":
        lung = lung.swapaxes(1, 2)
    if rows in "AR":
        lung = lung[:, ::-1]
    return lung[:, :, ::-1] if columns in "AR" else lung


def draw_nodule(ct_hu: np.ndarray, lung: np.ndarray, frame: Frame, nodule: Nodule, caption: str) -> Tile:
    """A lung (green) and a nodule (blue), rows as stored, in the slice with most of the nodule outside the lung.

    Of slices with equally much outside, or none, it is the one with most of the nodule.
    """
    ct_hu, lung = (as_stored(part, frame.source_axes) for part in (ct_hu, lung))
    slices, mask, lung_there = where_it_lies(nodule, frame, lung)
    outside, size = (np.count_nonzero(part, axis=(1, 2)) for part in (mask & ~lung_there, mask))
    shown = np.lexsort((size, outside))[-1]
    z, marked = slices[shown], np.zeros(lung.shape[1:], bool)
    marked[box_in_slice(nodule)] = mask[shown]
    view = box_in_slice(nodule, round(PICTURE_MARGIN_MM / frame.spacing_mm[1]))
    return Tile(to_grey(ct_hu[z][view]), caption, (lung[z][view], marked[view]), (GREEN, BLUE))


def audit_labels(
    scans: dict[str, list[StoredSlice]], ct_root: Path, lung_root: Path
) -> tuple[list[NoduleScore], np.ndarray | None]:
    """(scores, contact sheet) of the annotated nodules in the lung slices of a training set; None without a nodule."""
    scores, tiles = [], []
    for name, rows in tqdm(scans.items(), desc="nodules", unit=" scan"):
        found, warnings = annotated_nodules(rows[0], confidence_level=0.5, padding_size=0, min_voxels=1)
        print_notes([], [Warned(name, warning) for warning in warnings])
        nodules = {nodule.number: nodule for nodule in found}
        if not nodules:
            continue
        frame, ct_hu = frame_of(rows), read_stack(ct_root, rows, "ct")
        lung = is_lung(read_stack(lung_root, rows, "lung"))
        for score in audit_nodules(name, frame, lung, list(nodules.values())):
            scores.append(score)
            caption = f"{score.scan} nodule {score.nodule}: {score.coverage:.0%} in the label"
            tiles.append(draw_nodule(ct_hu, lung, frame, nodules[score.nodule], caption))
    legend = {"label": GREEN, "nodule": BLUE}
    return scores, contact_sheet(tiles, columns=min(6, len(tiles)), legend=legend) if tiles else None


def print_coverage(scores: list[NoduleScore]) -> None:
    """Mean and worst coverage in a line; nothing where there is no nodule."""
    if shares := [score.coverage for score in scores]:
        nodules = count(len(shares), "nodule")
        print(f"nodule coverage {np.mean(shares):.4f} on average over {nodules}, worst {min(shares):.4f}")


def save_audit(scans: dict[str, list[StoredSlice]], ct_root: Path, lung_root: Path) -> None:
    """Write nodules.csv and nodules.png beside the manifest: how much of the annotated nodules the labels hold."""
    scores, sheet = audit_labels(scans, ct_root, lung_root)
    path = ct_root.parent / "nodules.csv"
    replace_file(path, table_bytes(scores, NoduleScore))
    if sheet is None:
        path.with_suffix(".png").unlink(missing_ok=True)
        print(f"no annotated nodule in these slices; {path} is empty")
        return
    save_png(path.with_suffix(".png"), sheet)
    print_coverage(scores)
    print(f"wrote {path} and nodules.png")
