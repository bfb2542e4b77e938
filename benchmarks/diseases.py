"""Disease painted into real slices that a network was not trained on: how much of it is in the mask.

Run     python -m benchmarks.diseases     after `python -m benchmarks.accuracy`, whose networks it takes
"""

from collections.abc import Iterator

import numpy as np

from benchmarks.real import ReferenceScan, named_folder, references
from benchmarks.report import ROOT, table, write_section
from lungct.evaluation.figures import GREEN, RED, Tile, contact_sheet, save_png, to_grey
from lungct.predict import Predictor, load_predictor, segment
from lungct.slices import clip_ct, pixel_mm, slice_pixels
from lungct.training.canvas import Canvas
from lungct.training.lesions import add_bullae, add_consolidation, add_honeycombing, add_masses, add_tumour_across
from lungct.training.pleura import add_effusion, add_pneumothorax
from weights.recipe import FOLDS, fold_weights

DISEASES = {
    "masses": add_masses,
    "consolidation, collapse": add_consolidation,
    "tumour across a lung": add_tumour_across,
    "bullae": add_bullae,
    "honeycombing": add_honeycombing,
    "pneumothorax": add_pneumothorax,
    "effusion": add_effusion,
}
SLICES = 20  # of each scan
LARGE = 0.4  # of the largest slice of the lungs
CHANGED_HU = 100
SHOWN = "LIDC-IDRI-0001"  # whose slices the project may show
PICTURE = ROOT / "pictures" / "diseases.png"


def painted(ct_hu: np.ndarray, lung: np.ndarray, mm: float, seed: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(disease, CT with it, target with it) of one slice (H, W)."""
    for number, (name, change) in enumerate(DISEASES.items()):
        image, target = ct_hu.copy(), lung.copy()
        change(Canvas(image, target, mm, np.random.default_rng((seed, number))))
        yield name, image, target


def judge(predictor: Predictor, scan: ReferenceScan, tiles: list[Tile]) -> Iterator[tuple[str, int, int]]:
    """(disease, changed pixels, those in the mask) of each painted slice; adds pictures of the scan that is shown."""
    ct, pixels = clip_ct(scan.ct_hu), slice_pixels(scan.lung)
    large = np.flatnonzero(pixels > LARGE * pixels.max())
    chosen = large[np.linspace(0, len(large) - 1, SLICES).astype(int)]
    mm = pixel_mm(scan.frame.spacing_mm)
    for z in chosen:
        for name, image, target in painted(ct[z], scan.lung[z], mm, int(z)):
            mask = segment(image[None], scan.frame.spacing_mm, predictor)[0]
            changed = (np.abs(image.astype(int) - ct[z]) > CHANGED_HU) & scan.lung[z]
            yield name, np.count_nonzero(changed), np.count_nonzero(changed & mask)
            if scan.name == SHOWN and z == chosen[SLICES // 2]:
                tiles.append(Tile(to_grey(image), name, (target, mask)))


def main() -> None:
    """Judge all references by the network of their fold; write table and picture."""
    real = named_folder(__doc__)
    if real is None:
        return
    found: dict[str, list[tuple[int, int]]] = {name: [] for name in DISEASES}
    tiles: list[Tile] = []
    for fold, sources in enumerate(FOLDS):
        predictor = load_predictor(fold_weights(fold, real), "cpu")
        for scan in references(real, sources):
            for name, *pixels in judge(predictor, scan, tiles):
                found[name].append(pixels)
    rows = []
    for name, counts in found.items():
        total, inside = np.array([pair for pair in counts if pair[0]]).T
        shares = inside / total
        rows.append((name, len(total), f"{inside.sum() / total.sum():.3f}", f"{np.quantile(shares, 0.1):.3f}"))
    head = ("painted", "slices", "share of its pixels in the mask", "in the tenth of the slices with least")
    lines = table(head, rows)
    lines += [
        "",
        "Painted by the code that paints training slices, into slices of scans that were left out of the training.",
    ]
    lines += ["All but effusion should be inside. Each slice was predicted alone, as volume of one slice."]
    write_section("Painted disease", lines)
    sheet = contact_sheet(tiles, 4, 300, {"what should be inside": GREEN, "prediction": RED}, f"{SHOWN}, CC BY 3.0")
    save_png(PICTURE, sheet)


if __name__ == "__main__":
    main()
