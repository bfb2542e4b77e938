"""The scan of a synthetic patient: seeded, of human size, with its truth where the pixels say."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import MATRIX, small_patient

from lungct.evaluation.metrics import litres
from lungct.phantom.anatomy import (
    AIR_HU,
    BLOOD_HU,
    CONSOLIDATED_HU,
    SPINE_HU,
    TABLE_FOAM_HU,
    TABLE_SHELL_HU,
    Fields,
    Organs,
    draw_build,
)
from lungct.phantom.render import (
    all_tubes,
    empty_table_hu,
    fill,
    lung_hu,
    make_patient,
    plane_hu,
    scanner_hu,
    true_lung,
    tubes_at,
)
from lungct.phantom.tubes import Tube

BUILD = replace(draw_build(0), arms_down=False, prone=False, consolidation=0.0, emphysema=0.0, effusion_mm=0.0)
X_MM, Y_MM = np.arange(-200, 201, 2.0), np.arange(-180, 181, 2.0)


def nearest(places_mm: np.ndarray, mm: float) -> int:
    return int(np.abs(places_mm - mm).argmin())


@pytest.fixture(scope="module")
def organs() -> Organs:
    return Organs(BUILD, X_MM, Y_MM, np.array([15.0, 130.0]), np.random.default_rng(1))


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


def test_scan_has_the_sizes_that_were_asked_for():
    build = replace(BUILD, height_mm=205.0, fov_mm=400.0)
    patient = make_patient(0, (40, 50), slice_mm=39.0, build=build)
    assert patient.ct_hu.shape == patient.lung.shape == (8, 40, 50)  # from -40 mm to 233 mm
    assert (patient.ct_hu.dtype, patient.lung.dtype) == (np.int16, bool)
    assert patient.spacing_mm == (39.0, 8.0, 8.0)
    assert not patient.lung[[0, -1]].any()  # belly and neck


def test_middle_slices_are_those_of_the_whole_scan():
    build = replace(BUILD, padding_hu=None)
    whole, some = (make_patient(0, (40, 50), slice_mm=20.0, build=build, middle=middle) for middle in (None, 3))
    start = (len(whole.lung) - 3) // 2
    np.testing.assert_array_equal(some.lung, whole.lung[start : start + 3])


@pytest.mark.parametrize("slice_mm", [3.0, 6.0])
def test_a_thick_slice_is_the_mean_of_three_planes_and_a_thin_one_is_one(slice_mm):
    build = replace(BUILD, noise_hu=0.0, padding_hu=None, off_centre_mm=(0.0, 0.0))
    patient = make_patient(0, (44, 52), slice_mm=slice_mm, build=build, middle=1)
    heights_mm = np.arange(-40, build.height_mm + 35, slice_mm)
    z_mm = heights_mm[(len(heights_mm) - 1) // 2]
    x_mm, y_mm = ((np.arange(n) - (n - 1) / 2) * build.fov_mm / 52 for n in (52, 44))
    rng = np.random.default_rng((0, 1))
    organs = Organs(build, x_mm, y_mm, heights_mm, rng)
    tubes = all_tubes(build, organs, rng)
    offsets_mm, thickness_mm = ((0,), 3.0) if slice_mm == 3 else ((-2, 0, 2), 2.0)
    planes = [plane_hu(build, organs, tubes, z_mm + offset, thickness_mm) for offset in offsets_mm]
    np.testing.assert_allclose(patient.ct_hu[0], np.clip(np.mean(planes, axis=0), -1024, 3071), atol=0.51)


def test_aorta_spine_and_room_have_the_hu_of_their_materials(organs):
    build = replace(BUILD, contrast_hu=200.0)
    image = plane_hu(build, organs, [], 15.0, 1.0)
    row, col = nearest(Y_MM, 0.42 * build.half_depth_mm), nearest(X_MM, 22)
    assert image[row, col] == pytest.approx(BLOOD_HU + 200)
    assert image[nearest(Y_MM, 0.78 * build.half_depth_mm), nearest(X_MM, 0)] == pytest.approx(SPINE_HU)
    assert image[0, 0] == AIR_HU


def test_lung_of_a_plane_has_lung_hu_and_its_trachea_is_air_and_not_in_the_truth(organs):
    z_mm = 130.0
    left_lung = (0.0, 80.0)
    trachea = Tube((z_mm - 30, *left_lung), (z_mm + 30, *left_lung), 9.0, AIR_HU, cuts_lung=True)
    row, col = nearest(Y_MM, 0), nearest(X_MM, 80)
    image, truth = plane_hu(BUILD, organs, [trachea], z_mm, 1.0), true_lung(organs, [trachea], z_mm)
    whole = true_lung(organs, [], z_mm)
    np.testing.assert_array_equal(whole, organs.fields_at(z_mm).lung < 0)
    assert image[row, col] == AIR_HU
    assert whole[row, col]
    assert not truth[row, col]
    assert (whole & ~truth).sum() == 69  # points of a lattice of 2 mm within 9 mm of one of them
    assert np.median(image[truth]) == pytest.approx(BUILD.lung_hu, abs=BUILD.gradient_hu)


def test_table_lies_behind_the_patient_and_in_front_of_a_prone_one():
    supine, prone = (empty_table_hu(replace(BUILD, prone=prone), X_MM, Y_MM) for prone in (False, True))
    np.testing.assert_array_equal(prone, supine[::-1])
    assert (supine[Y_MM < 0] == AIR_HU).all()
    assert supine.dtype == np.float32


def test_table_is_a_shell_of_2_mm_around_foam():
    build = replace(BUILD, half_depth_mm=80.0, wall_mm=25.0)
    top = 80 + 25 + 5
    depths_mm = np.array([-1, 1, 3, 17, 31, 33, 35])
    column = empty_table_hu(build, np.array([0.0, 1.0]), top + depths_mm)[:, 0]
    shell, foam = TABLE_SHELL_HU, TABLE_FOAM_HU
    assert column.tolist() == [AIR_HU, shell, foam, foam, foam, shell, AIR_HU]


def test_lung_is_denser_where_it_lies_below_and_follows_its_disease():
    build = replace(BUILD, lung_hu=-850.0, gradient_hu=40.0, half_depth_mm=80.0)
    y_mm = np.array([-80.0, 0.0, 80.0])
    none, some = np.zeros((3, 2)), np.ones((3, 2))
    healthy = Fields(*[none] * len(Fields._fields))
    assert lung_hu(build, healthy, y_mm)[:, 0].tolist() == [-890, -850, -810]
    assert lung_hu(replace(build, prone=True), healthy, y_mm)[:, 0].tolist() == [-810, -850, -890]
    assert lung_hu(build, healthy._replace(emphysema=some), y_mm)[:, 0].tolist() == [-960, -920, -880]
    assert (lung_hu(build, healthy._replace(consolidation=some), y_mm) == CONSOLIDATED_HU).all()
    assert lung_hu(replace(build, lung_hu=-940.0), healthy._replace(emphysema=some), y_mm).min() == -985


def test_a_pixel_at_the_edge_of_an_organ_gets_its_share():
    image = np.full((1, 4), 10.0)
    fill(image, 110, np.array([[-5.0, 0.0, 0.5, 5.0]]), pixel_mm=2.0)
    assert image.tolist() == [[110, 60, 35, 10]]


def test_tubes_at_a_height_are_those_that_reach_it():
    low, high = Tube((0, 0, 0), (10, 0, 0), 2.0, 0), Tube((20, 0, 0), (30, 0, 0), 2.0, 0)
    assert tubes_at([low, high], 5, 0) == [low]
    assert tubes_at([low, high], 15, 0) == []
    assert tubes_at([low, high], 15, 4) == [low, high]


def test_scanner_adds_noise_as_strong_as_said_and_padding_outside_the_circle():
    build = replace(BUILD, noise_hu=20.0, padding_hu=-2048)
    rng = np.random.default_rng(1)
    noisy = scanner_hu(build, np.full((60, 80), 40.0), rng)
    v, u = np.mgrid[-1:1:60j, -1:1:80j]
    outside = u * u + v * v > 1
    assert noisy.dtype == np.int16
    assert (noisy[outside] == -2048).all()
    assert noisy[~outside].std() == pytest.approx(20, rel=0.05)
    assert noisy[~outside].mean() == pytest.approx(40, abs=2)
    unpadded = scanner_hu(replace(build, padding_hu=None), np.full((60, 80), 40.0), rng)
    assert unpadded.min() > -100


def test_smoother_kernels_make_neighbours_more_alike():
    def likeness(grain_px):
        build = replace(BUILD, noise_hu=20.0, grain_px=grain_px, padding_hu=None)
        noise = scanner_hu(build, np.zeros((90, 120)), np.random.default_rng(1)).astype(float)
        return np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]

    assert likeness(0.3) < 0.1 < 0.5 < likeness(1.0)


def test_scanner_stores_what_fits_into_its_range():
    build = replace(BUILD, noise_hu=0.0, padding_hu=None)
    image = np.array([[-1500.0, -1024.0, 0.4], [0.6, 3071.0, 9000.0]])
    assert scanner_hu(build, image, np.random.default_rng(1)).tolist() == [[-1024, -1024, 0], [1, 3071, 3071]]
