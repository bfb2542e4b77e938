"""What each rule of the label maker brings: its masks with one rule at a time switched off.

Run     python -m benchmarks.label_rules      half an hour
"""

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from unittest import mock

import cc3d
import numpy as np

from benchmarks.real import BELLY, BELLY_SLICES, references, slices_without_lung
from benchmarks.report import REAL, table, write_section
from lungct.evaluation.metrics import dice
from lungct.phantom.render import make_patient
from lungct.predict import read_ct
from lungct.segmentation import body, gas, masses, threshold
from lungct.segmentation.morphology import enlarge
from lungct.segmentation.threshold import segment_lung

INF = np.inf
OFF = (  # a name in lungct/segmentation/, and what takes its place; a function's rule goes as a whole
    ("find_blobs", lambda body: np.zeros(body.air.shape, bool)), ("BLOB_AREA_MM2", (0, 1500)),
    ("BLOB_AREA_MM2", (40, INF)), ("BLOB_EDGE_HU", -400), ("AIRWAY_HU", -600),
    ("MIDDLE_MM", (0, 0)), ("MIDDLE_MM", (INF, INF)), ("LONE_SHARE", 0),
    ("label_pockets", lambda air: cc3d.connected_components(air, connectivity=6)), ("TRUNK_SHARE", 0),
    ("MIN_POCKET_SHARE", 0), ("BELLY_SHARE", 0), ("SMALL_SHARE", 0), ("NEAR_MM", 0),
    ("find_gas", lambda body, _: np.zeros(body.air.shape, bool)),
    ("find_masses", lambda lung, _: np.zeros(lung.shape, bool)),
    ("find_juxtapleural", lambda lung, _: np.zeros(lung.shape, bool)),
    ("GAS_ML", (0.3, INF)), ("LUNG_AROUND", 1), ("NECK_RADII_MM", (4,)), ("LUNG_CONTACT", 0.5),
    ("HULL_MARGIN_MM", 0), ("group_by_side", lambda body, pockets, lungs: [lungs] if lungs else []), ("VESSEL_MM", 0),
    ("PATCH_HU", -INF), ("PATCH_HU", INF), ("PATCH_OPENING", np.ones((1, 1, 1), bool)), ("HOLE_MM2", 0),
    ("HOLE_MM2", INF), ("refine", lambda ct_hu, _, closed, __, steps: enlarge(closed, steps, ct_hu.shape)),
    ("PADDING_HU", -INF), ("trunk_hull", lambda tissue, _: np.ones(tissue.shape, bool)),
    ("CUT_LUNG_HU", INF),
)  # fmt: skip
DICE = ("scans", "slices alone", "cut", "phantoms")
ML = ("slices of the belly", "ACRIN", "RIDER-0117")
WHAT = """Change in Dice, mean (worst): of the seven scans with a reference, of every twelfth of their slices alone, of
the inner three quarters of their rows and columns, of 4 phantoms. Change in ml of lung found where there is none: 23
slices of belly and neck, each alone, counted as 5 mm thick; the lowest 40 of ACRIN-FLT-Breast-001. Change in ml in
RIDER-0117, whose lungs the field of view cuts."""


@dataclass(frozen=True)
class Case:
    """CT volumes to label: in a group of DICE with their lung, in one of ML with how many slices count (None: all)."""

    group: str
    volumes: list[np.ndarray]
    spacing_mm: tuple[float, ...]
    lung: np.ndarray | None = None
    counted: int | None = None

    def score(self) -> float:
        """Dice of all volumes together, or ml of what is found; a slice that comes alone goes in as (H, W)."""
        mm = self.spacing_mm
        found = [segment_lung(v, mm) if len(v) > 1 else segment_lung(v[0], mm[1:])[None] for v in self.volumes]
        if self.lung is not None:
            return dice(np.concatenate(found), self.lung)
        return np.count_nonzero(np.concatenate(found)[: self.counted]) * np.prod(mm) / 1e3


def cases(real: Path) -> Iterator[Case]:
    """All that the rules are tried on."""
    for scan in references(real):
        ct_hu, lung, mm, (rows, cols) = scan.ct_hu, scan.lung, scan.frame.spacing_mm, scan.frame.shape
        inner = np.s_[:, rows // 8 : -rows // 8, cols // 8 : -cols // 8]
        yield Case("scans", [ct_hu], mm, lung)
        yield Case("slices alone", [*ct_hu[::12, None]], mm, lung[::12])
        yield Case("cut", [ct_hu[inner]], mm, lung[inner])
    for ct_hu, mm in slices_without_lung(real):
        yield Case("slices of the belly", [ct_hu[None]], (5.0, *mm))
    ct_hu, frame = read_ct(real / BELLY)
    yield Case("ACRIN", [ct_hu], frame.spacing_mm, counted=BELLY_SLICES)
    ct_hu, frame = read_ct(real / "ct" / "RIDER-0117")
    yield Case("RIDER-0117", [ct_hu], frame.spacing_mm)
    for patient in (make_patient(seed, (256, 256)) for seed in range(100, 104)):
        yield Case("phantoms", [patient.ct_hu], patient.spacing_mm, patient.lung)


@cache
def read_cases(real: Path) -> list[Case]:
    """The cases, once in a process."""
    return list(cases(real))


def score_without(number: int | None, real: Path) -> np.ndarray:
    """The scores of all cases with one rule of OFF switched off; with all rules for None."""
    if number is None:
        return np.array([case.score() for case in read_cases(real)])
    name, other = OFF[number]
    module = next(module for module in (threshold, body, gas, masses) if hasattr(module, name))
    with mock.patch.object(module, name, other):
        return score_without(None, real)


def main() -> None:
    """Score with all rules, then without each, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, default=REAL, help="folder with the real scans (default: %(default)s)")
    real = parser.parse_args().real.resolve()
    groups = np.array([case.group for case in read_cases(real)])
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        results = pool.map(score_without, [None, *range(len(OFF))], repeat(real))
        base = next(results)
        rows = [("nothing", *(f"{base[groups == g].mean():.4f} ({base[groups == g].min():.4f})" for g in DICE))]
        rows[0] += tuple(f"{base[groups == g].sum():.0f}" for g in ML)
        for (name, other), scores in zip(OFF, results, strict=True):
            change = scores - base
            label = f"`{name}`" if callable(other) or np.ndim(other) > 1 else f"`{name} = {other}`"
            parts = [f"{change[groups == g].mean():+.4f} ({change[groups == g].min():+.4f})" for g in DICE]
            rows.append((label, *parts, *(f"{change[groups == g].sum():+.0f}" for g in ML)))
            print(*rows[-1], sep=" | ", flush=True)
    write_section("Rules of the label maker, switched off one by one", [*table(("off", *DICE, *ML), rows), "", WHAT])


if __name__ == "__main__":
    main()
