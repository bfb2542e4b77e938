"""The phantom: seeded, various, with lungs of human size, and its truth where the pixels say."""

import numpy as np
from conftest import MATRIX, small_patient

from lungct.evaluation.metrics import litres
from lungct.phantom.anatomy import draw_build
from lungct.phantom.render import make_patient
from lungct.phantom.tubes import Tube, draw_tube


def test_same_seed_same_patient_and_another_seed_another():
    a, b, c = (make_patient(seed, MATRIX, slice_mm=20.0) for seed in (3, 3, 4))
    np.testing.assert_array_equal(a.ct_hu, b.ct_hu)
    np.testing.assert_array_equal(a.lung, b.lung)
    assert a.ct_hu.shape != c.ct_hu.shape or (a.ct_hu != c.ct_hu).mean() > 0.5


def test_lungs_have_human_size():
    for seed in range(4):
        patient = small_patient(seed)
        assert 1.5 < litres(patient.lung, patient.spacing_mm) < 7


def test_truth_lies_on_air_and_not_on_the_trachea():
    patient = small_patient(2)
    inside = patient.ct_hu[patient.lung]
    assert np.median(inside) < -780
    assert (inside < -970).mean() < 0.03  # pure air is airway
    assert (patient.ct_hu[~patient.lung & (patient.ct_hu < -700)] < -950).mean() > 0.8


def test_builds_differ_in_all_that_is_hostile():
    builds = [draw_build(seed) for seed in range(200)]
    for name in ("arms_down", "prone", "padding"):
        assert len({getattr(build, name) for build in builds}) > 1
    for name in ("emphysema", "consolidation", "effusion", "contrast"):
        share = np.mean([getattr(build, name) > 0 for build in builds])
        assert 0.05 < share < 0.8


def test_tube_fills_the_pixels_within_its_radius():
    x, y = np.arange(30) * 2.0, np.arange(20) * 2.0
    truth, far = np.ones((20, 30), bool), np.full((20, 30), 99.0)
    draw_tube(truth, Tube((0, 20, 10), (0, 20, 40), 5.0, 0), far, x, y, 0.0, 0.0)
    rows, cols = np.nonzero(~truth)
    nearest = np.clip(cols * 2.0, 10, 40)
    assert np.hypot(rows * 2.0 - 20, cols * 2.0 - nearest).max() < 5
    assert (~truth).sum() == 5 * 16 + 2 * 8  # 5 rows of 16 columns between the ends, and two round ends by hand


def test_bone_keeps_off_the_lung():
    x, y = np.arange(30) * 2.0, np.arange(20) * 2.0
    image = np.zeros((20, 30))
    lung = np.broadcast_to(x - 30, image.shape)  # inside where x < 30
    draw_tube(image, Tube((0, 20, 10), (0, 20, 50), 5.0, 700, keep_off_mm=2.0), lung, x, y, 0.0, 1.0)
    assert not image[:, x < 30].any()
    assert image[10, 20] == 700
