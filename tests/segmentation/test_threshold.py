"""segment_lung against phantoms whose lungs are known, boxes counted by hand, and real CT where it is."""

import numpy as np
import pytest
from conftest import small_patient

from lungct import LungError
from lungct.evaluation.metrics import dice
from lungct.scans.dicom import find_series, open_series
from lungct.segmentation.body import Body
from lungct.segmentation.threshold import (
    choose_lungs,
    find_blobs,
    group_by_side,
    label_pockets,
    refine,
    segment_lung,
    trunk_size_mm,
)

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


def make_body(coarse_hu: np.ndarray, spacing_mm=(5.0, 2.0, 2.0)) -> Body:
    """A trunk that fills its slices."""
    nothing = np.zeros(coarse_hu.shape, bool)
    return Body(coarse_hu.astype(np.float32), nothing, ~nothing, (1, 1), spacing_mm)


def test_size_of_the_trunk_is_that_of_its_larger_slices():
    """Of eleven slices of 0 to 100 pixels of 6 mm2 the tenth has 90, 540 mm2."""
    body = make_body(np.zeros((11, 10, 12)), (5.0, 2.0, 3.0))
    for n in range(11):
        body.hull[n] = np.arange(120).reshape(10, 12) < 10 * n
    assert trunk_size_mm(body) == pytest.approx(540**0.5)


@pytest.mark.parametrize(
    ("rows", "cols", "hu", "lung_hu", "is_blob"),
    [
        ((45, 55), (45, 55), -901, -850, True),  # in the middle: below -900 HU
        ((45, 55), (45, 55), -900, -850, True),  # in its line: below -850
        ((45, 55), (45, 55), -850, -850, False),
        ((45, 46), (45, 56), -980, -850, True),  # 11 pixels of 4 mm2
        ((45, 46), (45, 55), -980, -850, False),  # 40 mm2
        ((42, 59), (39, 61), -980, -850, True),  # 1,496 mm2
        ((43, 58), (37, 62), -980, -850, False),  # 1,500 mm2
        ((45, 55), (79, 89), -921, -850, True),  # beside it: 70 HU below the patient's air
        ((45, 55), (79, 89), -920, -850, False),
        ((45, 55), (79, 89), -901, -700, True),  # -900 HU at most
        ((45, 55), (79, 89), -900, -700, False),
        ((45, 55), (79, 89), -976, -960, True),  # and -975 at least
        ((45, 55), (79, 89), -975, -960, False),
        ((45, 55), (61, 71), -851, -850, True),  # 16.5 columns, 33 mm from the middle column
        ((45, 55), (62, 72), -851, -850, False),  # 35 mm
    ],
)
def test_a_blob_in_tissue_is_no_lung_where_it_is_as_dark_as_its_place_asks(rows, cols, hu, lung_hu, is_blob):
    ct_hu = np.full((3, 100, 100), 40)
    ct_hu[:, 2:35, 2:98] = lung_hu
    blob = np.s_[:, slice(*rows), slice(*cols)]
    ct_hu[blob] = hu
    expected = np.zeros(ct_hu.shape, bool)
    expected[blob] = is_blob
    np.testing.assert_array_equal(find_blobs(make_body(ct_hu)), expected)


@pytest.mark.parametrize(("slices", "is_blob"), [(5, True), (4, False)])
def test_a_blob_of_which_half_is_a_lung_in_another_slice_is_its_tip(slices, is_blob):
    """100 pixels on each of some slices, below 400 (1,600 mm2) that are no blob in theirs."""
    ct_hu = np.full((8, 100, 100), 40)
    ct_hu[7, 2:35, 2:98] = -850
    ct_hu[1 : 1 + slices, 60:70, 80:90] = ct_hu[1 + slices, 60:80, 75:95] = -960
    expected = np.zeros(ct_hu.shape, bool)
    expected[1 : 1 + slices, 60:70, 80:90] = is_blob
    np.testing.assert_array_equal(find_blobs(make_body(ct_hu)), expected)


def test_pockets_that_a_bridge_of_one_voxel_joins_are_apart():
    air = np.zeros((2, 20, 40), bool)
    air[:, 4:16, 4:18] = air[:, 4:16, 20:36] = True
    air[:, 10, 18:20] = True
    assert label_pockets(air).max() == 2
    air[:, 9:12, 18:20] = True
    assert label_pockets(air).max() == 1


def pockets_of(*boxes: tuple[int, int, float]) -> tuple[Body, np.ndarray]:
    """(body, pockets numbered from 1): each so many rows and columns of so many HU, one below the other."""
    ct_hu = np.full((2, 30 + sum(rows + 2 for rows, _, _ in boxes), 120), 40.0)
    pockets = np.zeros(ct_hu.shape, np.int32)
    top = 15
    for number, (rows, cols, hu) in enumerate(boxes, start=1):
        here = np.s_[:, top : top + rows, 10 : 10 + cols]
        ct_hu[here], pockets[here] = hu, number
        top += rows + 2
    return make_body(ct_hu), pockets


NO_AIRWAY = np.zeros(1, bool)


@pytest.mark.parametrize(
    ("others", "lungs"),
    [
        ([(20, 50, -850)], [1, 2]),
        ([(20, 50, -965)], [1]),  # 115 HU darker than the lung
        ([(35, 50, -966)], [1]),  # pure air
        ([(35, 50, -965)], [1, 2]),  # too large for gas: 1,750 pixels, of 5,000
        ([(30, 50, -965)], [1, 2]),  # three tenths
        ([(29, 50, -965)], [1]),
        ([(29, 50, -946)], [1]),
        ([(29, 50, -945)], [1, 2]),
        ([(1, 20, -850)], [1, 2]),  # four thousandths
        ([(1, 19, -850)], [1]),
    ],
)
def test_pockets_beside_a_lung_of_5000_pixels_are_gas_where_they_are_dark_and_small(others, lungs):
    body, pockets = pockets_of((50, 100, -850), *others)
    assert choose_lungs(body, NO_AIRWAY, pockets) == lungs


def test_of_dark_lungs_gas_is_35_hu_darker():
    for hu, lungs in ((-955, [1, 2]), (-956, [1])):
        body, pockets = pockets_of((50, 100, -920), (20, 50, hu))
        assert choose_lungs(body, NO_AIRWAY, pockets) == lungs


def test_the_darkest_tenth_of_a_small_pocket_tells_pure_air():
    """2,000 mm2 are 500 pixels of 4 mm2."""
    for rows, lungs in ((20, [1]), (19, [])):
        body, pockets = pockets_of((rows, 25, -900))
        body.coarse_hu[:, 15:18, 10:35] = -986  # more than a tenth
        assert choose_lungs(body, NO_AIRWAY, pockets) == lungs
    body.coarse_hu[:, 15:18, 10:35] = -985
    assert choose_lungs(body, NO_AIRWAY, pockets) == [1]


@pytest.mark.parametrize(("airway_voxels", "lungs"), [(10_000, [1]), (10_001, [])])
def test_lungs_are_a_fifth_of_the_gas_or_none(airway_voxels, lungs):
    body, pockets = pockets_of((10, 100, -850))  # 2,000 voxels
    assert choose_lungs(body, np.ones(airway_voxels, bool), pockets) == lungs


@pytest.mark.parametrize(("columns", "lungs"), [(120, [1]), (70, [1]), (50, [1, 2])])
def test_half_of_a_pocket_lies_in_the_trunk(columns, lungs):
    body, pockets = pockets_of((50, 100, -850), (20, 80, -850))
    body.hull[:, 67:87, :columns] = False  # of the columns 10 to 89
    assert choose_lungs(body, NO_AIRWAY, pockets) == lungs


@pytest.mark.parametrize(("rows_away", "lungs"), [(9, [1, 2]), (10, [1])])
def test_a_small_pocket_is_lung_within_20_mm_of_a_large_one_and_under_the_skin(rows_away, lungs):
    ct_hu = np.full((2, 100, 120), 40.0)
    pockets = np.zeros(ct_hu.shape, np.int32)
    pockets[:, 10:50, 10:110] = 1
    pockets[:, 50 + rows_away : 52 + rows_away, 50:90] = 2  # 80 pixels of 4,000: a fiftieth
    ct_hu[pockets > 0] = -850
    body = make_body(ct_hu)
    assert choose_lungs(body, NO_AIRWAY, pockets) == lungs
    body.open_air[:, 53 + rows_away] = True  # two pixels below
    assert choose_lungs(body, NO_AIRWAY, pockets) == [1]


def test_pockets_are_grouped_by_the_middle_of_the_trunk():
    pockets = np.zeros((2, 10, 40), np.int32)
    pockets[:, 2:5, 5:15], pockets[:, 2:5, 25:35], pockets[:, 6:8, 16:23] = 1, 2, 3  # 3: its middle at 19.5
    hull = np.ones(pockets.shape, bool)
    assert group_by_side(hull, pockets, [1, 2, 3]) == [[1], [2, 3]]
    pockets[:, 6:8, 22] = 0
    assert group_by_side(hull, pockets, [1, 2, 3]) == [[1, 3], [2]]
    assert group_by_side(hull, pockets, [2]) == [[2]]


def test_the_edge_is_drawn_at_430_hu_a_coarse_pixel_around_what_is_closed():
    closed = np.zeros((1, 6, 8), bool)
    closed[0, 2:4, 2:5] = True
    ct_hu = np.full((1, 12, 16), -430)
    ct_hu[0, ::2] = -431
    may_grow = np.ones(closed.shape, bool)
    may_grow[0, 1] = False
    found = refine(ct_hu, closed, closed, may_grow, (2, 2))
    expected = np.zeros(ct_hu.shape, bool)
    expected[0, 4:10:2, 2:12] = True
    np.testing.assert_array_equal(found, expected)
    assert refine(ct_hu, ~closed, closed, ~may_grow, (2, 2))[0, 4:8, 4:10].all()  # what the closing made is kept


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
