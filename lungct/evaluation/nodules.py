"""How much of each nodule that radiologists annotated lies inside a lung mask."""

from dataclasses import dataclass

import numpy as np

from lungct.scans.geometry import Frame
from lungct.scans.lidc import Nodule


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
