"""Real scans, and what is known of them: reference lungs, radiologists' nodules, slices without any lung."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.report import REAL
from lungct.predict import read_ct
from lungct.scans.dicom import open_series, read_slices
from lungct.scans.find import dicom_jobs, open_job
from lungct.scans.geometry import Frame
from lungct.scans.lidc import Nodule, find_nodules

NO_LUNG = [f"TCGA-abdomen-slices/1-{n:03d}" for n in range(1, 31) if n not in (5, 8, 10, 14, 21, 23, 25, 26, 27)]
NO_LUNG += [f"TCGA-single-slices/ID_{name}_CT" for name in ("0028_AGE_0074_CONTRAST_1", "0094_AGE_0052_CONTRAST_0")]
NO_LUNG_SOURCES = {"ct/TCGA-abdomen-slices", "ct/TCGA-single-slices"}
LIDC = "LIDC-IDRI"
BELLY, BELLY_SLICES = "ct/ACRIN-FLT-Breast-001", 40  # its lowest slices hold bowel gas and no lung


@dataclass(frozen=True)
class ReferenceScan:
    """A scan with its reference lung: ct_hu (Z, H, W) int16, lung bool, same shape; its folder below the real data."""

    name: str
    source: str
    ct_hu: np.ndarray
    lung: np.ndarray
    frame: Frame


def has_references(real: Path) -> bool:
    """Whether there are scans with a reference; says so where there are none."""
    found = (real / "reference").is_dir()
    if not found:
        print(f"skipped: no real scans with references in {real}; RESULTS.md keeps what it says of them")
    return found


def named_folder(what: str | None) -> Path | None:
    """The folder of real scans that the command line names, of a module with that docstring; None where it has none."""
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, default=REAL, help="folder with the real scans (default: %(default)s)")
    real = parser.parse_args().real.resolve()
    return real if has_references(real) else None


def references(real: Path, sources: tuple[str, ...] | None = None) -> Iterator[ReferenceScan]:
    """The scans that have a reference; of some sources alone."""
    for path in sorted((real / "reference").glob("*.npz")):
        whole = f"LIDC-IDRI-whole/{path.stem}"
        source = whole if (real / whole).is_dir() else f"ct/{path.stem}"
        if sources is None or source in sources:
            ct_hu, frame = read_ct(real / source)
            yield ReferenceScan(path.stem, source, ct_hu, np.load(path)["lung"], frame)


def slices_without_lung(real: Path) -> Iterator[tuple[np.ndarray, tuple[float, float]]]:
    """Single slices of belly and neck that hold no lung, by eye: (CT (H, W) in HU, row and column spacing in mm)."""
    for name in NO_LUNG:
        path = real / "ct" / f"{name}.dcm"
        scan = open_series([(path, header) for header in read_slices(path)])
        yield scan.read()[0], scan.frame.spacing_mm[1:]


def covid_slices(real: Path) -> Iterator[tuple[str, np.ndarray, tuple[float, float]]]:
    """Single slices of patients with COVID-19, without a reference: (name, CT (H, W) in HU, row and column spacing)."""
    root = real / "ct" / "COVID-19-NY-SBU-slices"
    for path in sorted(root.rglob("*.dcm")):
        scan = open_series([(path, header) for header in read_slices(path)])
        yield str(path.relative_to(root).with_suffix("")), scan.read()[0], scan.frame.spacing_mm[1:]


@dataclass(frozen=True)
class NoduleScan:
    """A series of LIDC-IDRI, whole or in part, (Z, H, W) int16, with the nodules that radiologists annotated in it."""

    name: str
    ct_hu: np.ndarray
    frame: Frame
    nodules: list[Nodule]


def nodule_scans(real: Path, sources: tuple[str, ...]) -> Iterator[NoduleScan]:
    """The series of some sources in which a nodule was annotated, each nodule as half of its readers drew it."""
    for source in sources:
        for job in dicom_jobs(real / source, True)[0] if source.startswith(LIDC) else ():
            if found := find_nodules(job.series_uid, confidence_level=0.5, padding_size=0, min_voxels=1):
                scan = open_job(job)
                yield NoduleScan(job.patient_id, scan.read(), scan.frame, found)
