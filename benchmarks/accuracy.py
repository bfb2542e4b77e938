"""Accuracy on real scans that were not trained on: each left out in turn, as it is and changed as scanners differ.

Run     python -m benchmarks.accuracy
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
from scipy import ndimage

from benchmarks.report import REAL, WORK, table, write_section
from lungct.evaluation.figures import contact_sheet, difference, save_png
from lungct.evaluation.metrics import compare, litres
from lungct.predict import Predictor, load_predictor, segment
from lungct.scans.dicom import find_series, open_series
from lungct.slices import clip_ct
from weights.recipe import SOURCES, train

AIR_HU, PURE_AIR_HU, EDGE_HU = -1024, -1000, -600
SHEET_SLICES = 24


def read(folder: Path, reference: Path) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """CT in HU, reference lung and spacing of a scan."""
    (files,) = find_series(folder).values()
    scan = open_series(files)
    return clip_ct(scan.read()), np.load(reference)["lung"], scan.frame.spacing_mm


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
    yield "as it is", ct_hu, lung, spacing
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


def leave_out(source: str, real: Path) -> tuple[Predictor, tuple]:
    """Train without a scan; the predictor, and the scan."""
    name = Path(source).name
    folder = WORK / "without" / name
    train(folder, real, leave_out=source)
    predictor = load_predictor(folder / "demo/runs/lung/unet_model.pth", "cpu")
    return predictor, read(real / source, real / "reference" / f"{name}.npz")


def save_sheet(path: Path, ct_hu: np.ndarray, lung: np.ndarray, predicted: np.ndarray) -> None:
    """Where a prediction differs, on slices from base to apex, to look at."""
    places = np.linspace(0, len(ct_hu) - 1, SHEET_SLICES).astype(int)
    tiles = [difference(ct_hu[z], lung[z], predicted[z]) for z in places]
    save_png(path, contact_sheet(tiles, [f"slice {z}" for z in places], columns=6, side=260))


def score(predictor: Predictor, ct_hu: np.ndarray, lung: np.ndarray, spacing: tuple) -> tuple[dict, np.ndarray]:
    """All scores of a volume, and the prediction."""
    predicted = segment(np.ascontiguousarray(ct_hu), spacing, predictor)
    empty = ~lung.any((1, 2))
    more = {
        "outside": litres(predicted & ~lung, spacing),
        "empty": litres(predicted[empty], spacing) if empty.any() else 0.0,
        "empty_slices": int(empty.sum()),
    }
    return {**asdict(compare(predicted, lung, spacing)), **more}, predicted


def main() -> None:
    """Leave out each scan that has a reference, score it whole and altered, write both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, default=REAL, help="folder with the real scans (default: %(default)s)")
    real = parser.parse_args().real.resolve()
    with_reference = [s for s in SOURCES if (real / "reference" / f"{Path(s).name}.npz").is_file()]
    if not with_reference:
        print(f"skipped: no real scans with references in {real}; RESULTS.md keeps what it says of them")
        return
    whole, altered = [], {}
    for source in with_reference:
        predictor, scan = leave_out(source, real)
        name = Path(source).name
        for variant, *changed in variants(*scan):
            result, predicted = score(predictor, *changed)
            altered.setdefault(variant, []).append(result)
            save_sheet(WORK / "sheets" / f"{name}, {variant}.png", changed[0], changed[1], predicted)
            print(f"{name}, {variant}: Dice {result['dice']:.4f}, HD95 {result['hd95_mm']:.1f} mm", flush=True)
        first = altered["as it is"][-1]
        near = f"{first['surface_dice_1mm']:.3f}", f"{first['surface_dice_2mm']:.3f}"
        empty = f"{first['empty'] * 1e3:.1f} in {first['empty_slices']}"
        outside = f"{first['outside'] * 1e3:.0f}"
        whole.append((name, f"{first['dice']:.4f}", f"{first['hd95_mm']:.1f}", *near, outside, empty))
    scores = [result["dice"] for result in altered["as it is"]]
    head = (
        "scan left out",
        "Dice",
        "HD95, mm",
        "surface Dice at 1 mm",
        "at 2 mm",
        "predicted outside the reference, ml",
        "predicted in slices without lung, ml",
    )
    lines = [*table(head, whole), ""]
    lines += [f"Mean Dice {np.mean(scores):.4f} (target: 0.985), worst {min(scores):.4f} (target: 0.975)."]
    lines += ["Scores are those of whole volumes. The references were made by a threshold method and checked by eye."]
    write_section("Accuracy on scans left out of the training", lines)

    base = altered.pop("as it is")
    rows = []
    for variant, results in altered.items():
        drops = [was["dice"] - now["dice"] for was, now in zip(base, results, strict=True)]
        rows.append((variant, *(f"{r['dice']:.4f} ({-d:+.4f})" for r, d in zip(results, drops, strict=True))))
    names = [Path(s).name for s in with_reference]
    write_section("Robustness", [*table(("change to the scan", *(f"Dice of {n} (change)" for n in names)), rows)])


if __name__ == "__main__":
    main()
