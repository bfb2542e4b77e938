"""The shipped weights on real scans, where these are there. The weights have seen them: this is about the clean-up."""

import numpy as np
import pytest

from benchmarks.real import BELLY, BELLY_SLICES, nodule_scans, references, slices_without_lung
from lungct.evaluation.metrics import dice
from lungct.evaluation.nodules import audit_nodules
from lungct.predict import predict_slices, read_ct, segment, shipped_predictor
from lungct.segmentation.body import find_body
from lungct.segmentation.cleanup import clean_volume
from lungct.slices import pixel_mm
from lungct.weights import integer_scale

WITH_NODULES = ("LIDC-IDRI-whole/LIDC-IDRI-0001", "LIDC-IDRI-whole/LIDC-IDRI-0050")
WITH_REFERENCE = (
    "ct/CPTAC-LSCC-C3N-00247",
    "ct/LungFCP-01-0001",
    "ct/Lung_Dx-A0001",
    "ct/Lung_Dx-A0002",
    "ct/RIDER-1129164940",
    *WITH_NODULES,
)


@pytest.mark.parametrize("source", WITH_REFERENCE)
def test_clean_up_brings_a_scan_nearer_to_its_reference(real_data, source):
    (scan,) = references(real_data, (source,))
    predictor, spacing_mm = shipped_predictor(), scan.frame.spacing_mm
    zoom = integer_scale(pixel_mm(spacing_mm), predictor.model.pixel_mm)
    raw = predict_slices(predictor.network, scan.ct_hu, predictor.model.window_hu, zoom)
    cleaned = clean_volume(raw, scan.ct_hu, spacing_mm, find_body(scan.ct_hu, spacing_mm))
    assert dice(cleaned, scan.lung) >= dice(raw, scan.lung)
    assert dice(cleaned, scan.lung) > 0.98


@pytest.mark.parametrize("source", WITH_NODULES)
def test_a_nodule_of_the_radiologists_lies_inside(real_data, source):
    (scan,) = nodule_scans(real_data, (source,))
    lung = segment(scan.ct_hu, scan.frame.spacing_mm)
    scores = audit_nodules(scan.name, scan.frame, lung, scan.nodules)
    assert scores
    assert min(score.coverage for score in scores) >= 0.97


def test_gas_of_the_belly_is_not_taken_for_lung(real_data):
    ct_hu, frame = read_ct(real_data / BELLY)
    lung = segment(ct_hu, frame.spacing_mm)
    assert np.count_nonzero(lung[:BELLY_SLICES]) * np.prod(frame.spacing_mm) / 1e3 < 1
    assert lung[BELLY_SLICES:].any()


def test_little_gas_is_taken_for_lung_in_slices_that_come_alone(real_data):
    """16 ml in 23 slices; 42 ml by the weights before, which had seen no gas painted."""
    volume_ml = 0.0
    for ct_hu, (row_mm, col_mm) in slices_without_lung(real_data):
        volume_ml += np.count_nonzero(segment(ct_hu[None], (5.0, row_mm, col_mm))) * 5.0 * row_mm * col_mm / 1e3
    assert volume_ml < 25
