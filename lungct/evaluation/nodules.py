"""How much of each nodule that radiologists annotated lies inside a lung mask."""

from types import SimpleNamespace

import numpy as np

from lungct.scans import lidc

NODULE_COLUMNS = ("scan", "nodule", "readers", "voxels", "slices", "slices_predicted", "coverage")


def audit_nodules(rows: list[dict], lung: np.ndarray, settings: SimpleNamespace) -> list[dict]:
    """The share of each annotated nodule that lies inside the predicted lung, a row each.

    Only voxels on predicted slices count; a nodule that has none is left out.
    """
    z_mm = np.array([row["z_mm"] for row in rows])
    found = lidc.find_nodules(
        rows[0]["series_uid"], settings.confidence_level, settings.padding_size, settings.mask_threshold
    )
    audit = []
    for nodule in found:
        nearest = np.abs(nodule.z_mm[:, None] - z_mm[None]).argmin(axis=1)
        here = np.abs(nodule.z_mm - z_mm[nearest]) < rows[0]["slice_mm"] / 2
        height, width = nodule.mask.shape[:2]
        high, wide = slice(nodule.row, nodule.row + height), slice(nodule.col, nodule.col + width)
        mask = nodule.mask[..., here]
        inside = mask & np.moveaxis(lung[nearest[here], high, wide], 0, -1)
        if mask.any():
            values = (
                rows[0]["scan"],
                nodule.number,
                nodule.readers,
                np.count_nonzero(mask),
                len(here),
                np.count_nonzero(here),
            )
            coverage = np.count_nonzero(inside) / np.count_nonzero(mask)
            audit.append(dict(zip(NODULE_COLUMNS, (*values, round(coverage, 4)), strict=True)))
    return audit
