"""Accuracy on real scans that were not trained on: a fold left out in turn, as it is and changed as scanners differ.

Run     python -m benchmarks.accuracy              an hour a fold
        python -m benchmarks.accuracy --folds 0    the first alone
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage

from benchmarks.real import (
    BELLY,
    BELLY_SLICES,
    LIDC,
    NO_LUNG,
    NO_LUNG_SOURCES,
    ReferenceScan,
    has_references,
    nodule_scans,
    references,
    slices_without_lung,
)
from benchmarks.report import REAL, ROOT, WORK, table, write_section
from lungct.evaluation.figures import BLUE, GREEN, RED, Tile, contact_sheet, difference, save_png
from lungct.evaluation.metrics import Agreement, compare, dice, litres
from lungct.evaluation.nodules import as_stored, audit_nodules, box_in_slice, draw_nodule, where_it_lies
from lungct.predict import Predictor, load_predictor, read_ct, segment
from lungct.scans.geometry import Frame
from lungct.scans.lidc import Nodule
from lungct.segmentation.threshold import segment_lung
from lungct.slices import clip_ct
from weights.recipe import FOLDS, fold_weights

AIR_HU, PURE_AIR_HU, EDGE_HU = -1024, -1000, -600
SHEET_SLICES = 24
NODULES = ROOT / "pictures" / "nodules.png"
SINGLE_MM = 5.0  # a slice that comes alone counts as so thick
AS_IT_IS = "as it is"
HEAD = (
    "scan left out",
    "Dice",
    "HD95, mm",
    "surface Dice at 1 mm",
    "at 2 mm",
    "too much, ml",
    "missed, ml",
    "Dice of the label",
)
NODULE_HEAD = (
    "scan",
    "nodule",
    "readers",
    "voxels",
    "inside the network's mask",
    "furthest from it, mm",
    "inside the label",
)
GAS_HEAD = ("slices without lung", "number", "taken for lung by the network, ml", "by the label maker, ml")


def shrink(ct_hu: np.ndarray, lung: np.ndarray, spacing: tuple, steps: tuple[int, int, int]) -> tuple:
    """Fewer slices, rows, columns: blocks become their mean; a block is lung where most of it is."""
    size = [n // step * step for n, step in zip(ct_hu.shape, steps, strict=True)]
    cut = tuple(slice(n) for n in size)
    blocks = [part for n, step in zip(size, steps, strict=True) for part in (n // step, step)]
    means = [part[cut].reshape(blocks).mean((1, 3, 5), dtype=np.float32) for part in (ct_hu, lung)]
    return means[0].astype(np.int16), means[1] > 0.5, tuple(mm * step for mm, step in zip(spacing, steps, strict=True))


def turn(volume: np.ndarray, degrees: float, order: int, outside: int) -> np.ndarray:
    """Turn every slice; what comes in is air."""
    return np.stack([ndimage.rotate(s, degrees, reshape=False, order=order, cval=outside) for s in volume])


def thin_out(ct_hu: np.ndarray, lung: np.ndarray) -> np.ndarray:
    """What is dark in the lung halved in density; vessels and walls stay."""
    return np.where(lung & (ct_hu < EDGE_HU), (ct_hu + PURE_AIR_HU) // 2, ct_hu)


def variants(ct_hu: np.ndarray, lung: np.ndarray, spacing: tuple):
    """(name, CT, lung, spacing) of the scan as other scanners and positions might have made it."""
    rng = np.random.default_rng(1)
    rows, cols = ct_hu.shape[1:]
    thick = max(2, round(5 / spacing[0]))
    yield AS_IT_IS, ct_hu, lung, spacing
    yield "half resolution", *shrink(ct_hu, lung, spacing, (1, 2, 2))
    yield "quarter resolution", *shrink(ct_hu, lung, spacing, (1, 4, 4))
    yield "slices of about 5 mm", *shrink(ct_hu, lung, spacing, (thick, 1, 1))
    yield "128x128, about 5 mm", *shrink(ct_hu, lung, spacing, (thick, 4, 4))
    yield "noise of 60 HU", clip_ct(ct_hu + rng.normal(0, 60, ct_hu.shape)), lung, spacing
    for offset in (-100, 100):
        yield f"{offset:+d} HU", clip_ct(ct_hu.astype(np.int32) + offset), lung, spacing
    yield "lung of half the density, as in emphysema", thin_out(ct_hu, lung), lung, spacing
    yield "mirrored left to right", ct_hu[:, :, ::-1], lung[:, :, ::-1], spacing
    yield "prone, not corrected", ct_hu[:, ::-1], lung[:, ::-1], spacing
    yield "head first", ct_hu[::-1], lung[::-1], spacing
    for degrees in (-15, 15):
        turned = turn(ct_hu, degrees, 1, AIR_HU), turn(lung.astype(np.uint8), degrees, 0, 0) > 0
        yield f"rotated by {degrees} degrees", *turned, spacing
    inner = slice(None), slice(rows // 8, -rows // 8), slice(cols // 8, -cols // 8)
    yield "field of view reduced to three quarters", ct_hu[inner], lung[inner], spacing


def save_sheet(path: Path, ct_hu: np.ndarray, lung: np.ndarray, predicted: np.ndarray) -> None:
    """Where a prediction differs, on slices from base to apex, to look at."""
    places = np.linspace(0, len(ct_hu) - 1, SHEET_SLICES).astype(int)
    tiles = [Tile(difference(ct_hu[z], lung[z], predicted[z]), f"slice {z}") for z in places]
    save_png(path, contact_sheet(tiles, columns=6, side=260, legend={"too much": RED, "missed": BLUE}))


def score(predictor: Predictor, ct_hu: np.ndarray, lung: np.ndarray, spacing: tuple) -> tuple[Agreement, np.ndarray]:
    """All scores of a volume, and the prediction."""
    predicted = segment(np.ascontiguousarray(ct_hu), spacing, predictor)
    return compare(predicted, lung, spacing), predicted


def judge_scan(scan: ReferenceScan, predictor: Predictor) -> tuple[tuple, dict[str, float]]:
    """(row of the scan as it is, Dice by change to the scan)."""
    dices, spacing = {}, scan.frame.spacing_mm
    for variant, *changed in variants(clip_ct(scan.ct_hu), scan.lung, spacing):
        agreement, predicted = score(predictor, *changed)
        dices[variant] = agreement.dice
        save_sheet(WORK / "sheets" / f"{scan.name}, {variant}.png", changed[0], changed[1], predicted)
        print(f"{scan.name}, {variant}: Dice {agreement.dice:.4f}, HD95 {agreement.hd95_mm:.1f} mm", flush=True)
        if variant == AS_IT_IS:
            whole, first = predicted, agreement
    label = segment_lung(scan.ct_hu, spacing)
    wrong = [litres(part, spacing) * 1e3 for part in (whole & ~scan.lung, scan.lung & ~whole)]
    near = f"{first.surface_dice_1mm:.3f}", f"{first.surface_dice_2mm:.3f}"
    row = (scan.name, f"{first.dice:.4f}", f"{first.hd95_mm:.1f}", *near, *(f"{ml:.0f}" for ml in wrong))
    row += (f"{dice(label, scan.lung):.4f}",)
    return row, dices


def judge_nodules(predictor: Predictor, real: Path, sources: tuple[str, ...], tiles: list[Tile]) -> Iterator[tuple]:
    """Rows of the annotated nodules of a fold, as NODULE_HEAD names them.

    Adds a picture of each with the network's mask.
    """
    for scan in nodule_scans(real, sources):
        ct_hu, spacing = clip_ct(scan.ct_hu), scan.frame.spacing_mm
        masks = segment(ct_hu, spacing, predictor), segment_lung(ct_hu, spacing)
        audits = [audit_nodules(scan.name, scan.frame, mask, scan.nodules) for mask in masks]
        nodules = {nodule.number: nodule for nodule in scan.nodules}
        for score, of_label in zip(*audits, strict=True):
            nodule = nodules[score.nodule]
            caption = f"{scan.name} nodule {score.nodule}: {score.coverage:.3f}"
            tiles.append(draw_nodule(ct_hu, masks[0], scan.frame, nodule, caption))
            ours = f"{score.coverage:.3f}", f"{furthest_mm(masks[0], scan.frame, nodule):.1f}"
            yield scan.name, score.nodule, score.readers, score.voxels, *ours, f"{of_label.coverage:.3f}"


def furthest_mm(lung: np.ndarray, frame: Frame, nodule: Nodule) -> float:
    """How far from a mask, (Z, H, W) bool, the voxels of a nodule lie in their slices; 0 where all are inside."""
    lung = as_stored(lung, frame.source_axes)
    slices, mask, _ = where_it_lies(nodule, frame, lung)
    away = (ndimage.distance_transform_edt(~lung[z], frame.spacing_mm[1:])[box_in_slice(nodule)] for z in slices)
    return max(float(mm[seen].max(initial=0)) for mm, seen in zip(away, mask, strict=True))


def judge_gas(predictor: Predictor, real: Path, sources: tuple[str, ...]) -> Iterator[tuple]:
    """Rows of what is taken for lung where there is none: (slices, their number, network in ml, labels in ml)."""
    if BELLY in sources:
        ct_hu, frame = read_ct(real / BELLY)
        parts = (segment(ct_hu, frame.spacing_mm, predictor), segment_lung(ct_hu, frame.spacing_mm))
        wrong = (litres(part[:BELLY_SLICES], frame.spacing_mm) * 1e3 for part in parts)
        yield f"lowest of {Path(BELLY).name}", BELLY_SLICES, *(f"{ml:.1f}" for ml in wrong)
    if set(sources) >= NO_LUNG_SOURCES:
        wrong = np.zeros(2)
        for ct_hu, (row_mm, col_mm) in slices_without_lung(real):
            spacing = (SINGLE_MM, row_mm, col_mm)
            parts = segment(ct_hu[None], spacing, predictor), segment_lung(ct_hu, spacing[1:])
            wrong += [litres(part.reshape(1, *ct_hu.shape), spacing) * 1e3 for part in parts]
        yield "single slices of belly and neck, 5 mm each", len(NO_LUNG), *(f"{ml:.1f}" for ml in wrong)


def main() -> None:
    """Judge each fold of the real scans by a network that was trained without it, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, default=REAL, help="folder with the real scans (default: %(default)s)")
    parser.add_argument("--folds", type=int, nargs="+", default=range(len(FOLDS)), help="which (default: all)")
    flags = parser.parse_args()
    real = flags.real.resolve()
    if not has_references(real):
        return
    whole, covered, tiles, gas, altered = [], [], [], [], {}
    for fold in flags.folds:
        predictor = load_predictor(fold_weights(fold, real), "cpu")
        gas += judge_gas(predictor, real, FOLDS[fold])
        covered += judge_nodules(predictor, real, FOLDS[fold], tiles)
        for scan in references(real, FOLDS[fold]):
            row, altered[scan.name] = judge_scan(scan, predictor)
            whole.append(row)
    scores = [dices[AS_IT_IS] for dices in altered.values()]
    lines = [*table(HEAD, whole), "", f"Mean Dice {np.mean(scores):.4f}, worst {min(scores):.4f}, of whole volumes."]
    lines += ["The references were made by a threshold method and checked by eye. Trained on the other folds and on"]
    lines += ["synthetic patients; no patient is in both.", ""]
    if covered:
        lines += [*table(NODULE_HEAD, covered), ""]
        save_png(NODULES, contact_sheet(tiles, 3, 300, {"mask": GREEN, "nodule": BLUE}, f"{LIDC}, CC BY 3.0"))
    lines += table(GAS_HEAD, gas) if gas else []
    write_section("Accuracy on scans left out of the training", lines)
    rows = []
    for variant in list(altered[scan.name])[1:]:
        cells = (f"{dices[variant]:.4f} ({dices[variant] - dices[AS_IT_IS]:+.4f})" for dices in altered.values())
        rows.append((variant, *cells))
    write_section("Robustness", table(("change to the scan", *(f"Dice of {n} (change)" for n in altered)), rows))


if __name__ == "__main__":
    main()
