"""From predictions over a review to training labels, with the scripts: accepted masks alone, and no stale one."""

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from conftest import ROOT, run, small_patient

from lungct.files import table_bytes
from lungct.masks.predicted import find_predictions
from lungct.masks.reviews import Review
from lungct.phantom.lidc_tree import write_series
from lungct.scans.lidc import LidcScan
from lungct.scans.nifti import read_volume
from lungct.slices import OUTSIDE_LUNG_HU
from lungct.weights import SHIPPED, checksum

PREPARE = "prepare_lung_image.py", "--dicom", "scans", "--all-slices", "--labels", "predictions"


@pytest.fixture(scope="module")
def predicted(tmp_path_factory) -> Path:
    """A folder with four scans and their predictions."""
    folder = tmp_path_factory.mktemp("reviewing")
    for seed in range(4):
        patient = small_patient(seed)
        some = slice(10, 34, 3)
        who = LidcScan(f"P{seed}", f"1.2.{seed}", f"1.2.{seed}.1")
        spacing_mm = (3 * patient.spacing_mm[0], *patient.spacing_mm[1:])
        write_series(folder / "scans" / str(seed), who, patient.ct_hu[some], spacing_mm)
    (folder / "weights").symlink_to(ROOT / "weights")
    run("prepare_lung_image.py", "--test", "--dicom", "scans", cwd=folder)
    run("model_test.py", "--png", "none", "--save", "nifti", cwd=folder)
    return folder


def write_reviews(path: Path, verdicts: dict[str, str], folder: Path) -> None:
    """As the page saves them: all scans, here the verdicts of some."""
    found = find_predictions(folder / "predictions")
    rows = [Review(p.scan, p.patient_id, p.fingerprint, "", verdicts.get(p.scan, ""), "gas, below") for p in found]
    path.write_bytes(table_bytes(rows, Review))


def other_weights(folder: Path) -> Path:
    """The shipped network, but with a little more lung."""
    state = torch.load(SHIPPED, weights_only=True)
    bias = [name for name in state if name.endswith("bias")][-1]
    state[bias] += 0.5
    path = folder / "other.pth"
    torch.save(state, path)
    card = json.loads(SHIPPED.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, "sha256": checksum(path)}))
    return path


def test_accepted_masks_become_labels_and_others_are_left_out_and_listed(predicted):
    text = run(*PREPARE, cwd=predicted, status=1)
    assert "no predictions/reviews.csv; review the scans in report.html" in text  # not the .nii.gz of the same names
    write_reviews(predicted / "saved.csv", {"P0": "accept", "P1": "accept", "P2": "reject"}, predicted)
    text = run("model_test.py", "--reviews", "saved.csv", cwd=predicted)
    assert [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith("P")] == ["rejected: gas, below"]
    assert "2 accepted, 1 rejected, 1 without a verdict" in text
    text = run(*PREPARE, cwd=predicted)
    left_out = [line.split(maxsplit=3)[2:] for line in text.splitlines() if line.startswith("left out")]
    assert sorted(left_out) == [["P2", "rejected: gas, below"], ["P3", "not reviewed"]]
    with (predicted / "mydata/Image/manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["scan"]: row["label_source"] for row in rows} == {"P0": "patient_P0", "P1": "patient_P1"}
    for row in rows:
        name = row["slice_name"]
        label = np.load(predicted / "mydata/Image/lung" / row["scan"] / f"{name}.npy") != OUTSIDE_LUNG_HU
        mask = np.load(predicted / f"predictions/patient_{row['scan']}/{name}.npy") > 0
        np.testing.assert_array_equal(label, mask)


@pytest.mark.parametrize("source", ["--dicom", "--nifti"])
def test_after_a_direct_run_accepted_masks_become_labels(source, tmp_path):
    """No .npy of a mask is there; a .nii.gz that was corrected is refused until it is made again."""
    for seed in range(2):
        ct_hu, spacing_mm = small_patient(seed).ct_hu[12:32:3], (18.0, *small_patient(seed).spacing_mm[1:])
        if source == "--dicom":
            write_series(
                tmp_path / "in" / str(seed), LidcScan(f"P{seed}", f"1.2.{seed}", f"1.2.{seed}.1"), ct_hu, spacing_mm
            )
        else:
            (tmp_path / "in").mkdir(exist_ok=True)
            affine = np.diag([-spacing_mm[2], -spacing_mm[1], spacing_mm[0], 1])
            nibabel.save(nibabel.Nifti1Image(ct_hu.T, affine), tmp_path / "in" / f"P{seed}.nii.gz")
    predict = "model_test.py", source, "in", "--png", "none"
    prepare = "prepare_lung_image.py", source, "in", "--all-slices", "--labels", "predictions"
    run(*predict, cwd=tmp_path)
    assert not list((tmp_path / "predictions").rglob("*.npy"))
    write_reviews(tmp_path / "saved.csv", {"P0": "accept", "P1": "accept"}, tmp_path)
    text = run("model_test.py", "--reviews", "saved.csv", cwd=tmp_path)
    assert "run: python prepare_lung_image.py --dicom DIR --labels predictions (or --nifti PATH)" in text
    path = tmp_path / "predictions/patient_P1/P1.nii.gz"
    image = nibabel.load(path)
    changed = np.asarray(image.dataobj).copy()
    changed[0, 0, 0] = 1
    nibabel.save(nibabel.Nifti1Image(changed, image.affine), path)
    text = run(*prepare, cwd=tmp_path, status=1)
    assert "P1.nii.gz: a mask was changed after the prediction" in text
    path.unlink()
    run(*predict, cwd=tmp_path)
    run(*prepare, cwd=tmp_path)
    for seed in range(2):
        labels = sorted((tmp_path / f"mydata/Image/lung/P{seed}").glob("*.npy"))
        marked = np.stack([np.load(label) != OUTSIDE_LUNG_HU for label in labels])
        lung, _ = read_volume(tmp_path / f"predictions/patient_P{seed}/P{seed}.nii.gz")
        assert marked.any()
        np.testing.assert_array_equal(marked, lung > 0)


def test_a_mask_predicted_again_is_not_taken_by_the_old_review(predicted):
    write_reviews(predicted / "predictions" / "reviews.csv", {"P0": "accept", "P1": "accept"}, predicted)
    run("model_test.py", "--png", "some", "--patients", "P1", cwd=predicted)  # made again, but with the same masks
    weights = other_weights(predicted)
    run("model_test.py", "--weights-path", weights, "--patients", "P0", cwd=predicted)
    text = run(*PREPARE, cwd=predicted)
    assert "left out P0                       predicted again since its review" in text
    assert "1 scan, 8 slices" in text
    text = run("model_test.py", "--reviews", "predictions/reviews.csv", cwd=predicted)
    assert "P0                       predicted again since its review" in text


def test_a_damaged_reviews_file_stops_the_prediction_before_the_work(predicted):
    (predicted / "predictions" / "reviews.csv").write_text("scan\n")
    text = run("model_test.py", "--png", "all", cwd=predicted, status=1)
    assert "reviews.csv: no column patient_id" in text
    assert "done already" not in text
