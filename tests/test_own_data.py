"""The page about one's own data is so: its commands are run, in order, on phantoms."""

import csv
import json
import re

import numpy as np
from conftest import ROOT, run, small_patient

from lungct.files import table_bytes
from lungct.masks.predicted import find_predictions
from lungct.masks.reviews import ACCEPT, Review
from lungct.masks.write_nifti import nifti_bytes
from lungct.phantom.lidc_tree import write_series
from lungct.scans.dicom import find_series, open_series
from lungct.scans.lidc import LidcScan
from lungct.scans.nifti import open_nifti
from lungct.slices import safe_name

PAGE = (ROOT / "docs" / "own_data.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python (\w+\.py)(.*)$", PAGE, re.MULTILINE)


def write_scan(folder, seed: int, masks=None) -> np.ndarray:
    """A few slices of a phantom as DICOM, and its mask as NIfTI; returns the truth."""
    patient = small_patient(seed)
    some = slice(8, 36, 3)
    who = LidcScan(f"Smith {seed}", f"1.2.{seed}", f"1.2.{seed}.1")
    spacing = (3 * patient.spacing_mm[0], *patient.spacing_mm[1:])
    write_series(folder / str(seed), who, patient.ct_hu[some], spacing)
    if masks is not None:
        masks.mkdir(exist_ok=True)
        (files,) = find_series(folder / str(seed)).values()
        scan = open_series(files)
        content = nifti_bytes(patient.lung[some], scan.frame)
        (masks / f"Smith {seed}.nii.gz").write_bytes(content)
    return patient.lung[some]


def label_sources(folder) -> set[str]:
    """Where the labels of the training slices are from."""
    with (folder / "mydata/Image/manifest.csv").open(newline="") as file:
        return {row["label_source"] for row in csv.DictReader(file)}


def test_the_commands_of_the_page_give_fine_tuned_weights_and_lungs(tmp_path):
    for seed in range(3):
        write_scan(tmp_path / "my_scans", seed, tmp_path / "my_masks")
    truth = write_scan(tmp_path / "my_new_scans", 7)
    (tmp_path / "weights").symlink_to(ROOT / "weights")
    assert len(COMMANDS) == 7
    for script, flags in COMMANDS[:5]:
        run(script, *flags.split(), cwd=tmp_path)
    assert label_sources(tmp_path) == {f"Smith {seed}.nii.gz" for seed in range(3)}
    card = json.loads((tmp_path / "runs/lung/unet_model.json").read_text())
    assert card["validation"]["val_dice"] > 0.94  # of slices 18 mm thick, before the clean-up
    name = safe_name("Smith 7")
    lung = open_nifti(tmp_path / f"predictions/patient_{name}/{name}.nii.gz").read() > 0
    assert 2 * (lung & truth).sum() / (lung.sum() + truth.sum()) > 0.95
    (seen,) = find_predictions(tmp_path / "predictions")
    review = Review(seen.scan, seen.patient_id, seen.fingerprint, "", ACCEPT, "")
    (tmp_path / "reviews.csv").write_bytes(table_bytes([review], Review))
    for script, flags in COMMANDS[5:]:
        run(script, *flags.split(), cwd=tmp_path)
    assert label_sources(tmp_path) == {*(f"Smith {seed}.nii.gz" for seed in range(3)), f"patient_{name}"}
