"""segment_lung against phantoms whose lungs are known, boxes counted by hand, and real CT where it is."""

import numpy as np
import pytest
from conftest import small_patient

from lungct import LungError
from lungct.evaluation.metrics import dice
from lungct.scans.dicom import find_series, open_series
from lungct.segmentation.threshold import segment_lung

SPACING_MM = (4.0, 1.5, 2.0)


def box_chest(slices: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """A block of tissue in air with two lungs: (ct_hu, lung), (Z, 150, 180)."""
    ct_hu = np.full((slices, 150, 180), -1000, np.int16)
    ct_hu[:, 20:130, 15:165] = 40
    lung = np.zeros(ct_hu.shape, bool)
    lung[:, 40:110, 30:75] = lung[:, 40:110, 105:150] = True
    ct_hu[lung] = -850
    return ct_hu, lung


def test_both_boxes_are_found_to_the_pixel():
    ct_hu, lung = box_chest()
    np.testing.assert_array_equal(segment_lung(ct_hu, SPACING_MM), lung)


def test_one_slice_gives_what_the_volume_gives():
    ct_hu, lung = box_chest()
    np.testing.assert_array_equal(segment_lung(ct_hu[2], SPACING_MM[1:]), lung[2])


def test_vessel_and_wall_nodule_stay_inside_the_lung():
    ct_hu, lung = box_chest()
    ct_hu[:, 70:73, 40:44] = 40  # vessel, 4.5 by 8 mm
    ct_hu[2:4, 80:84, 30:33] = 30  # nodule at the wall, 6 by 6 mm
    assert segment_lung(ct_hu, SPACING_MM)[lung].mean() > 0.999


def test_dome_of_the_diaphragm_that_the_lung_surrounds_is_no_lung():
    ct_hu, lung = box_chest()
    ct_hu[:, 60:90, 40:64] = 60  # 45 by 48 mm
    lung[:, 60:90, 40:64] = False
    found = segment_lung(ct_hu, SPACING_MM)
    assert not found[:, 64:86, 44:60].any()
    assert dice(found, lung) > 0.99  # the closing rounds the corners


def test_patchy_consolidation_between_aerated_parts_is_lung():
    ct_hu, lung = box_chest()
    ct_hu[:, 66:82, 30:75] = np.where(np.indices((6, 16, 45)).sum(0) % 2, -600, -100)  # 24 mm, still some air
    assert segment_lung(ct_hu, SPACING_MM)[lung].mean() > 0.97


def test_solid_tissue_between_aerated_parts_is_no_lung():
    ct_hu, lung = box_chest()
    ct_hu[:, 66:82, 30:75] = 40
    lung[:, 66:82, 30:75] = False
    np.testing.assert_array_equal(segment_lung(ct_hu, SPACING_MM), lung)


def test_bubble_before_the_middle_of_a_single_slice_is_no_lung():
    ct_hu, lung = box_chest(1)
    ct_hu[:, 25:35, 84:98] = -880  # 15 by 28 mm of stomach gas, blurred
    np.testing.assert_array_equal(segment_lung(ct_hu[0], SPACING_MM[1:]), lung[0])


def test_trachea_is_no_lung():
    ct_hu, lung = box_chest()
    ct_hu[:, 65:76, 86:94] = -1000  # 16.5 by 16 mm, between the lungs
    np.testing.assert_array_equal(segment_lung(ct_hu, SPACING_MM), lung)


def test_table_and_its_foam_are_no_lung():
    ct_hu, lung = box_chest()
    ct_hu[:, 132:134, 10:170] = ct_hu[:, 145:147, 10:170] = 150
    ct_hu[:, 134:145, 10:12] = ct_hu[:, 134:145, 168:170] = 150
    ct_hu[:, 134:145, 12:168] = -900
    np.testing.assert_array_equal(segment_lung(ct_hu, SPACING_MM), lung)


@pytest.mark.parametrize("padding", [-1024, -2048, -3024])
def test_lung_cut_by_a_padded_circle_is_kept(padding):
    ct_hu, lung = box_chest()
    y, x = np.ogrid[-1:1:150j, -1:1:180j]
    outside = np.broadcast_to(x * x + y * y > 1, ct_hu.shape)
    ct_hu[:, 20:130, 0:15] = 40
    ct_hu[:, 55:100, 0:30], lung[:, 55:100, 0:30] = -850, True  # the right lung reaches the circle's edge
    ct_hu[outside], lung = padding, lung & ~outside
    assert dice(segment_lung(ct_hu, SPACING_MM), lung) > 0.99


@pytest.mark.parametrize("hu", [-1000, 40, -2048])
def test_nothing_but_one_value_holds_no_lung(hu):
    assert not segment_lung(np.full((3, 90, 70), hu, np.int16), SPACING_MM).any()


def test_input_is_left_as_it_was():
    ct_hu, _ = box_chest()
    before = ct_hu.copy()
    segment_lung(ct_hu, SPACING_MM)
    np.testing.assert_array_equal(ct_hu, before)


def test_spacing_that_does_not_fit_is_told():
    with pytest.raises(LungError, match="spacing"):
        segment_lung(np.zeros((3, 40, 50), np.int16), (1.0, 2.0))


@pytest.mark.parametrize("seed", range(6))
def test_phantom_lungs_are_found(seed):
    patient = small_patient(seed)
    assert dice(segment_lung(patient.ct_hu, patient.spacing_mm), patient.lung) > 0.99


@pytest.mark.parametrize(
    "build",
    [
        {"arms_down": True, "fov_mm": 460.0},
        {"prone": True},
        {"emphysema": 1.0},
        {"effusion_mm": 30.0},
        {"contrast_hu": 280.0},
    ],
    ids=str,
)
def test_hostile_phantom_lungs_are_found(build):
    patient = small_patient(2, **build)
    assert dice(segment_lung(patient.ct_hu, patient.spacing_mm), patient.lung) > 0.985


def test_consolidated_lung_is_found_as_well_as_a_threshold_can():
    patient = small_patient(7, consolidation=0.7)
    assert dice(segment_lung(patient.ct_hu, patient.spacing_mm), patient.lung) > 0.95


def test_a_bare_threshold_fails_on_the_phantom():
    """The phantom is hard enough: air below -400 HU, without anything more, is far from the lungs."""
    patient = small_patient(0)
    assert dice(patient.ct_hu < -400, patient.lung) < 0.6


def test_neck_and_belly_of_the_phantom_hold_no_lung():
    patient = small_patient(1)
    lung = segment_lung(patient.ct_hu, patient.spacing_mm)
    empty = ~patient.lung.any(axis=(1, 2))
    assert empty.sum() > 5
    assert not lung[empty].any()


@pytest.mark.parametrize("name", ["CPTAC-LSCC-C3N-00247", "LungFCP-01-0001"])
def test_real_scan_agrees_with_its_reference(real_data, name):
    (files,) = find_series(real_data / "ct" / name).values()
    scan = open_series(files)
    ct_hu = scan.read()
    reference = np.load(real_data / "reference" / f"{name}.npz")["lung"]
    assert dice(segment_lung(ct_hu, scan.frame.spacing_mm), reference) >= 0.985
    middle = slice(len(scan) // 2 - 5, len(scan) // 2 + 5)
    assert dice(segment_lung(ct_hu[middle], scan.frame.spacing_mm), reference[middle]) >= 0.985


def test_both_lungs_of_rider_are_in_every_slice(real_data):
    (files,) = find_series(real_data / "ct" / "RIDER-0117").values()
    scan = open_series(files)
    lung = segment_lung(scan.read(), scan.frame.spacing_mm)
    middle = lung.shape[2] // 2
    assert lung[:, :, :middle].any(axis=(1, 2)).all()
    assert lung[:, :, middle:].any(axis=(1, 2)).all()


@pytest.mark.parametrize("scale", [0.3, 0.45])
def test_a_newborns_lungs_are_found_as_an_adults(scale):
    """A chest of a third of an adult's size, in the same voxels, gets nearly the same label."""
    patient = small_patient(3)
    spacing_mm = tuple(mm * scale for mm in patient.spacing_mm)
    assert dice(segment_lung(patient.ct_hu, spacing_mm), patient.lung) > 0.95
