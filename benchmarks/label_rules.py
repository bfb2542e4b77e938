"""What each rule of the label maker brings: its masks with one rule at a time switched off.

Run     python -m benchmarks.label_rules      half an hour
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import cc3d
import numpy as np

from benchmarks.accuracy import thin_out
from benchmarks.real import references, slices_without_lung
from benchmarks.report import REAL, table, write_section
from lungct.evaluation.metrics import dice
from lungct.phantom.render import make_patient
from lungct.predict import read_ct
from lungct.segmentation import body, threshold
from lungct.segmentation.morphology import enlarge
from lungct.segmentation.threshold import segment_lung

INF = np.inf
OFF = (  # a name in threshold.py or body.py, and what takes its place; a function's rule goes as a whole
    ("find_airway", lambda body: np.zeros(body.air.shape, bool)), ("AIRWAY_REACH_MM", 0), ("AIRWAY_REACH_MM", 1000),
    ("BLOB_AREA_MM2", (0, 1500)), ("BLOB_AREA_MM2", (40, INF)), ("BLOB_EDGE_HU", -400), ("AIRWAY_HU", -600),
    ("AIRWAY_MIX", 1), ("AIRWAY_RADIUS_MM", 0), ("MIDDLE_MM", (0, 0)), ("MIDDLE_MM", (INF, INF)), ("LONE_SHARE", 0),
    ("label_pockets", lambda air: cc3d.connected_components(air, connectivity=6)), ("TRUNK_SHARE", 0),
    ("MIN_POCKET_SHARE", 0), ("BELLY_SHARE", 0), ("SMALL_SHARE", 0), ("NEAR_MM", 0),
    ("find_gas", lambda body, _: np.zeros(body.air.shape, bool)),
    ("find_masses", lambda lung, _: np.zeros(lung.shape, bool)),
    ("HULL_MARGIN_MM", 0), ("group_by_side", lambda hull, pockets, lungs: [lungs] if lungs else []), ("VESSEL_MM", 0),
    ("PATCH_HU", -INF), ("PATCH_HU", INF), ("PATCH_OPENING", np.ones((1, 1, 1), bool)), ("HOLE_MM2", 0),
    ("HOLE_MM2", INF), ("refine", lambda ct_hu, _, closed, __, steps: enlarge(closed, steps, ct_hu.shape)),
    ("PADDING_HU", -INF), ("HU_RANGE", (-32000, 32000)), ("trunk_hull", lambda tissue, _: np.ones(tissue.shape, bool)),
    ("CUT_RIM_SHARE", 0), ("CUT_RIM_SHARE", INF), ("CUT_RIM", (0, 1)), ("CUT_LUNG_HU", (-INF, -650)),
    ("CUT_LUNG_HU", (-930, INF)), ("CUT_LUNG_MM2", 0),
)  # fmt: skip
DICE = ("scans", "single slices", "thinner lung", "cut", "phantoms")
ML = ("23 slices", "ACRIN", "ACRIN, tens", "RIDER-0117")
WHAT = """Change in Dice, mean (worst): of the seven scans with a reference, of every sixth of their slices alone, of
the scans with half the density in their lungs, of their inner three quarters of rows and columns, of 12 phantoms.
Change in ml of lung found where there is none: 23 slices of belly and neck, each alone, counted as 5 mm thick; the
lowest 40 of ACRIN-FLT-Breast-001, in the whole scan and by tens. Change in ml in RIDER-0117, whose lungs the field of
view cuts."""


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
        yield Case("single slices", [*ct_hu[::6, None]], mm, lung[::6])
        yield Case("thinner lung", [thin_out(ct_hu, lung)], mm, lung)
        yield Case("cut", [ct_hu[inner]], mm, lung[inner])
    for ct_hu, mm in slices_without_lung(real):
        yield Case("23 slices", [ct_hu[None]], (5.0, *mm))
    ct_hu, frame = read_ct(real / "ct" / "ACRIN-FLT-Breast-001")
    yield Case("ACRIN", [ct_hu], frame.spacing_mm, counted=40)
    yield Case("ACRIN, tens", [ct_hu[z : z + 10] for z in range(0, 40, 10)], frame.spacing_mm)
    ct_hu, frame = read_ct(real / "ct" / "RIDER-0117")
    yield Case("RIDER-0117", [ct_hu], frame.spacing_mm)
    for patient in (make_patient(seed, (256, 256)) for seed in range(100, 112)):
        yield Case("phantoms", [patient.ct_hu], patient.spacing_mm, patient.lung)


def main() -> None:
    """Score with all rules, then without each, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, default=REAL, help="folder with the real scans (default: %(default)s)")
    data = list(cases(parser.parse_args().real))
    base = np.array([case.score() for case in data])
    places = [np.array([case.group == group for case in data]) for group in DICE + ML]
    rows = [("nothing", *(f"{base[p].mean():.4f} ({base[p].min():.4f})" for p in places[: len(DICE)]))]
    rows[0] += tuple(f"{base[p].sum():.0f}" for p in places[len(DICE) :])
    for name, other in OFF:
        with mock.patch.object(threshold if hasattr(threshold, name) else body, name, other):
            change = np.array([case.score() for case in data]) - base
        label = f"`{name}`" if callable(other) or np.ndim(other) > 1 else f"`{name} = {other}`"
        scores = [f"{change[p].mean():+.4f} ({change[p].min():+.4f})" for p in places[: len(DICE)]]
        rows.append((label, *scores, *(f"{change[p].sum():+.0f}" for p in places[len(DICE) :])))
        print(*rows[-1], sep=" | ", flush=True)
    write_section("Rules of the label maker, switched off one by one", [*table(("off", *DICE, *ML), rows), "", WHAT])


if __name__ == "__main__":
    main()
