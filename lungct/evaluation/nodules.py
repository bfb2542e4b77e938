"""How much of each nodule that radiologists annotated lies inside a lung mask."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lungct.evaluation.figures import BLUE, GREEN, Tile, contact_sheet, save_png, to_grey
from lungct.files import replace_file, table_bytes
from lungct.parallel import count
from lungct.scans.geometry import Frame, frame_of
from lungct.scans.lidc import Nodule, find_nodules
from lungct.slices import SliceRow, is_lung, read_stack

PICTURE_MARGIN_MM = 40


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


def audit_nodules(scan: str, frame: Frame, lung: np.ndarray, nodules: list[Nodule]) -> list[NoduleScore]:
    """The share of each nodule that lies inside the lung of one scan, (Z, H, W) bool in LPS; `frame` says where.

    Only voxels on predicted slices count; a nodule that has none is left out.
    """
    z_mm = frame.z_mm
    lung = as_stored(lung, frame.source_axes)
    audit = []
    for nodule in nodules:
        nearest = np.abs(nodule.z_mm[:, None] - z_mm[None]).argmin(axis=1)
        here = np.abs(nodule.z_mm - z_mm[nearest]) < frame.spacing_mm[0] / 2
        height, width = nodule.mask.shape[:2]
        in_rows, in_cols = slice(nodule.row, nodule.row + height), slice(nodule.col, nodule.col + width)
        mask = nodule.mask[..., here]
        inside = mask & np.moveaxis(lung[nearest[here], in_rows, in_cols], 0, -1)
        voxels = np.count_nonzero(mask)
        if voxels:
            coverage = round(np.count_nonzero(inside) / voxels, 4)
            seen = np.count_nonzero(here)
            audit.append(NoduleScore(scan, nodule.number, nodule.readers, voxels, len(here), seen, coverage))
    return audit


def as_stored(lung: np.ndarray, source_axes: str) -> np.ndarray:
    """Slices (Z, H, W) turned from LPS to the rows and columns of their files, which is where pylidc counts."""
    columns, rows = source_axes[:2]
    if columns in "AP":
        lung = lung.swapaxes(1, 2)
    if rows in "AR":
        lung = lung[:, ::-1]
    return lung[:, :, ::-1] if columns in "AR" else lung


def draw_nodule(ct_hu: np.ndarray, lung: np.ndarray, frame: Frame, nodule: Nodule, caption: str) -> Tile:
    """The lung label (green) and a nodule (blue) in the slice with most of the nodule, rows as stored."""
    z = int(np.abs(frame.z_mm - nodule.z_mm[nodule.mask.sum((0, 1)).argmax()]).argmin())
    at = int(np.abs(nodule.z_mm - frame.z_mm[z]).argmin())
    image, inside = (as_stored(part[z : z + 1], frame.source_axes)[0] for part in (ct_hu, lung))
    marked = np.zeros(image.shape, bool)
    height, width = nodule.mask.shape[:2]
    marked[nodule.row : nodule.row + height, nodule.col : nodule.col + width] = nodule.mask[..., at]
    margin = round(PICTURE_MARGIN_MM / frame.spacing_mm[1])
    rows = slice(max(0, nodule.row - margin), nodule.row + height + margin)
    cols = slice(max(0, nodule.col - margin), nodule.col + width + margin)
    return Tile(to_grey(image[rows, cols]), caption, (inside[rows, cols], marked[rows, cols]), (GREEN, BLUE))


def audit_labels(
    scans: dict[str, list[SliceRow]], ct_root: Path, lung_root: Path
) -> tuple[list[NoduleScore], np.ndarray | None]:
    """(scores, contact sheet) of the annotated nodules in the lung slices of a training set; None without a nodule."""
    scores, tiles = [], []
    for name, rows in tqdm(scans.items(), desc="nodules", unit=" scan"):
        nodules = {nodule.number: nodule for nodule in find_nodules(rows[0].series_uid, 0.5, 0, 1)}
        if not nodules:
            continue
        frame, ct_hu, lung = frame_of(rows), read_stack(ct_root, rows), is_lung(read_stack(lung_root, rows))
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


def save_audit(scans: dict[str, list[SliceRow]], ct_root: Path, lung_root: Path) -> None:
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
