"""A picture of what masks get wrong on slices of LIDC-IDRI, each by the network that was trained without the scan.

Run     python -m benchmarks.misses     after `python -m benchmarks.accuracy`, whose networks it takes
"""

from pathlib import Path

from benchmarks.real import named_folder, references
from benchmarks.report import ROOT
from lungct.evaluation.figures import GREEN, RED, Tile, contact_sheet, save_png, to_grey
from lungct.predict import load_predictor, segment
from lungct.slices import clip_ct
from weights.recipe import FOLDS, fold_weights

MISSES = {  # of a scan, the slices that a reader sent back, and why
    "LIDC-IDRI-0001": {
        47: "thin lung beside the colon left out, 2 cm2",
        54: "fat beside the lingula taken in, 0.6 cm2",
        104: "lung behind the trachea left out, 1.4 cm2",
    },
    "LIDC-IDRI-0050": {
        27: "thin lung at the base left out, 2 cm2",
        39: "thin lung at the base left out, 3 cm2",
        80: "main bronchus taken in, 1 cm2",
    },
}
COLUMNS, SIDE = 3, 420
PICTURE = ROOT / "pictures" / "misses.png"


def main() -> None:
    """Predict the scans of MISSES, write the picture."""
    real = named_folder(__doc__)
    if real is None:
        return
    tiles = []
    for fold, sources in enumerate(FOLDS):
        if not any(Path(source).name in MISSES for source in sources):
            continue
        predictor = load_predictor(fold_weights(fold, real), "cpu")
        for scan in references(real, sources):
            if scan.name in MISSES:
                ct_hu = clip_ct(scan.ct_hu)
                mask = segment(ct_hu, scan.frame.spacing_mm, predictor)
                for z, fault in MISSES[scan.name].items():
                    caption = f"{scan.name}, slice {z}: {fault}"
                    tiles.append(Tile(to_grey(ct_hu[z]), caption, (scan.lung[z], mask[z])))
    legend = {"reference, by a threshold": GREEN, "mask": RED}
    save_png(PICTURE, contact_sheet(tiles, COLUMNS, SIDE, legend, "LIDC-IDRI, CC BY 3.0"))
    print(f"wrote {PICTURE}")


if __name__ == "__main__":
    main()
