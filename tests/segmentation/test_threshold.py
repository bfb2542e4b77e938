"""segment_lung against phantoms whose lungs are known, boxes counted by hand, and real CT where it is."""

import numpy as np
import pytest
from chest import chest_with_ribs
from conftest import small_patient

from benchmarks.real import slices_without_lung
from lungct import LungError
from lungct.evaluation.metrics import dice
from lungct.predict import read_ct
from lungct.scans.dicom import find_series, open_series
from lungct.segmentation.body import Body, find_body
from lungct.segmentation.threshold import (
    choose_lungs,
    find_blobs,
    group_by_side,
    label_coarsely,
    label_pockets,
    refine,
    segment_lung,
    segment_runs,
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


def test_edge_is_drawn_on_the_pixels_of_the_ct():
    ct_hu = np.full((4, 300, 320), -1000, np.int16)  # pixels of 0.8 mm, two by two in one of the coarse grid
    ct_hu[:, 10:290, 9:311] = 40
    lung = np.zeros(ct_hu.shape, bool)
    lung[:, 61:220, 59:136] = lung[:, 60:221, 185:260] = True
    ct_hu[lung] = -850
    found = segment_lung(ct_hu, (4.0, 0.8, 0.8))
    assert np.count_nonzero(found != lung) <= 8 * len(ct_hu)  # the corners


def test_vessel_mass_and_wall_nodule_stay_inside_the_lung():
    ct_hu, lung = box_chest()
    ct_hu[:, 70:73, 40:44] = 40  # vessel, 4.5 by 8 mm
    ct_hu[2:4, 90:106, 50:62] = 30  # mass, 24 by 24 mm, surrounded by lung
    ct_hu[2:4, 80:84, 30:33] = 30  # nodule at the wall, 6 by 6 mm
    rounded = np.zeros(lung.shape, bool)
    rounded[2:4, 80:84, 30] = True  # its outermost pixels
    np.testing.assert_array_equal(segment_lung(ct_hu, SPACING_MM) | rounded, lung)


def test_thin_tissue_between_the_lungs_is_no_lung():
    ct_hu, lung = box_chest()
    lung[:, 40:110, 75:88] = lung[:, 40:110, 92:105] = True  # 8 mm apart
    ct_hu[lung] = -850
    np.testing.assert_array_equal(segment_lung(ct_hu, SPACING_MM), lung)


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


def test_trachea_is_no_lung():
    ct_hu, lung = box_chest()
    ct_hu[:, 65:76, 86:94] = -1000  # 16.5 by 16 mm, between the lungs
    np.testing.assert_array_equal(segment_lung(ct_hu, SPACING_MM), lung)


def test_bronchus_that_opens_into_the_lung_is_no_lung():
    ct_hu, lung = box_chest()
    ct_hu[:, 65:76, 86:94] = -1000
    ct_hu[3, 68:73, 75:86] = -1000  # 22 mm to the right lung
    lung[3, 68:73, 75:79] = True  # the last 8 mm belong to it
    found = segment_lung(ct_hu, SPACING_MM)
    assert not found[:, 65:76, 86:94].any()
    assert np.count_nonzero(found != lung) < 40


def test_bronchus_is_found_where_partial_volume_joins_it_to_the_lung():
    ct_hu, _ = box_chest()
    ct_hu[:, 65:76, 86:94] = -1000
    ct_hu[:, 68:73, 75:86] = -500
    assert not segment_lung(ct_hu, SPACING_MM)[:, 65:76, 86:94].any()


def test_a_lung_as_dark_as_an_airway_is_followed_no_further_than_its_hilum():
    ct_hu, lung = box_chest()
    ct_hu[lung] = -920  # emphysema
    ct_hu[:, 65:76, 86:94] = -1000
    ct_hu[3, 68:73, 75:86] = -1000
    found = segment_lung(ct_hu, SPACING_MM)
    assert found[:, 40:110, 30:65].all()
    assert not found[:, 65:76, 86:94].any()


def test_a_dark_lung_is_not_taken_for_an_airway_at_its_tip():
    ct_hu, lung = box_chest()
    tip = np.s_[5, 60:75, 40:55]
    ct_hu[lung] = -920  # emphysema
    ct_hu[5, 40:110, 30:75], lung[5, 40:110, 30:75] = 40, False
    ct_hu[tip], lung[tip] = -920, True  # 22.5 by 30 mm
    np.testing.assert_array_equal(segment_lung(ct_hu, SPACING_MM), lung)


GAS = np.s_[:, 22:31, 60:120]  # 13.5 by 120 mm, before the lungs: too large for an airway


@pytest.mark.parametrize(("hu", "is_lung"), [(-1000, False), (-960, False), (-950, True), (-850, True)])
def test_a_pocket_of_pure_air_is_gas(hu, is_lung):
    ct_hu, lung = box_chest()
    ct_hu[GAS] = hu
    found = segment_lung(ct_hu, SPACING_MM)
    assert found[GAS].all() == found[GAS].any() == is_lung
    assert found[lung].all()


def test_gas_is_told_from_lung_across_a_bridge_of_partial_volume():
    ct_hu, lung = box_chest()
    ct_hu[GAS] = -1000
    ct_hu[:, 31:40, 65:66] = -600  # one pixel wide
    found = segment_lung(ct_hu, SPACING_MM)
    assert not found[GAS].any()
    assert found[lung].all()


@pytest.mark.parametrize(("cols", "is_lung"), [(4, False), (30, True)])
def test_little_lung_beside_much_gas_is_the_edge_of_bowel(cols, is_lung):
    ct_hu = np.full((6, 150, 180), -1000, np.int16)
    ct_hu[:, 20:130, 15:165] = 40
    ct_hu[GAS] = -1000
    edge = np.s_[:, 60:80, 60 : 60 + cols]  # 15 % of the gas, or more than it
    ct_hu[edge] = -850
    lung = np.zeros(ct_hu.shape, bool)
    lung[edge] = is_lung
    np.testing.assert_array_equal(segment_lung(ct_hu, SPACING_MM), lung)


@pytest.mark.parametrize(("row", "is_lung"), [(119, True), (123, False)])
def test_a_small_pocket_is_lung_only_near_a_large_one(row, is_lung):
    ct_hu, lung = box_chest()
    pocket = np.s_[:, row : row + 6, 110:118]  # 9 by 16 mm, a hundredth of the lung, 13.5 or 19.5 mm behind it
    ct_hu[pocket], lung[pocket] = -850, is_lung
    np.testing.assert_array_equal(segment_lung(ct_hu, SPACING_MM), lung)


def test_noise_is_no_lung():
    ct_hu, lung = box_chest()
    ct_hu[2, 113:116, 40:43] = -850  # 4.5 by 6 mm, a hundredth of a percent of the lung
    np.testing.assert_array_equal(segment_lung(ct_hu, SPACING_MM), lung)


def test_table_and_its_foam_are_no_lung():
    ct_hu, lung = box_chest()
    lung[:, 110:125] = lung[:, 109:110]  # they reach the back
    ct_hu[lung] = -850
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


@pytest.mark.parametrize(("shape", "spacing_mm"), [((3, 40, 50), (1.0, 2.0)), ((0, 40, 50), (1.0, 2.0, 2.0))])
def test_spacing_that_does_not_fit_and_an_empty_volume_are_told(shape, spacing_mm):
    with pytest.raises(LungError, match="spacing"):
        segment_lung(np.zeros(shape, np.int16), spacing_mm)


def make_body(coarse_hu: np.ndarray, spacing_mm=(5.0, 2.0, 2.0)) -> Body:
    """A trunk that fills its slices."""
    nothing = np.zeros(coarse_hu.shape, bool)
    middle = tuple((size - 1) / 2 for size in coarse_hu.shape[1:])
    return Body(coarse_hu.astype(np.float32), nothing, ~nothing, middle, (1, 1), spacing_mm, -1000.0)


def test_size_of_the_trunk_is_that_of_its_larger_slices():
    """Of eleven slices of 0 to 100 pixels of 6 mm2 the tenth has 90, 540 mm2."""
    body = make_body(np.zeros((11, 10, 12)), (5.0, 2.0, 3.0))
    for n in range(11):
        body.hull[n] = np.arange(120).reshape(10, 12) < 10 * n
    assert trunk_size_mm(body) == pytest.approx(540**0.5)


@pytest.mark.parametrize(
    ("rows", "cols", "hu", "is_blob"),
    [
        ((45, 55), (45, 55), -901, True),  # in the middle: below -900 HU
        ((45, 55), (45, 55), -900, False),
        ((45, 46), (45, 56), -980, True),  # 11 pixels of 4 mm2
        ((45, 46), (45, 55), -980, False),  # 40 mm2
        ((42, 59), (39, 61), -980, True),  # 1,496 mm2
        ((43, 58), (37, 62), -980, False),  # 1,500 mm2
        ((45, 55), (79, 89), -901, True),  # beside it
        ((45, 55), (79, 89), -900, False),
    ],
)
def test_a_blob_in_tissue_is_no_lung_where_it_is_dark_and_as_large_as_an_airway(rows, cols, hu, is_blob):
    ct_hu = np.full((3, 100, 100), 40)
    ct_hu[:, 2:35, 2:98] = -850
    blob = np.s_[:, slice(*rows), slice(*cols)]
    ct_hu[blob] = hu
    expected = np.zeros(ct_hu.shape, bool)
    expected[blob] = is_blob
    np.testing.assert_array_equal(find_blobs(make_body(ct_hu)), expected)


@pytest.mark.parametrize("spacing_mm", [(5.0, 0.5, 8.0), (5.0, 8.0, 0.5)])
def test_the_area_of_a_blob_counts_both_spacings(spacing_mm):
    ct_hu = np.full((3, 100, 100), 40)
    ct_hu[:, 2:35, 2:98] = -850
    for pixels, is_blob in ((10, False), (11, True)):  # 40 mm2, 44 mm2
        ct_hu[:, 49:51, 49:55] = 40
        ct_hu[:, 49:51, 49:55][:, np.arange(12).reshape(2, 6) < pixels] = -980
        assert find_blobs(make_body(ct_hu, spacing_mm))[:, 49:51, 49:55].any() == is_blob


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


NO_AIRWAY, GAS_HU = np.zeros(1, bool), -955


@pytest.mark.parametrize(
    ("others", "lungs"),
    [
        ([(20, 50, -850)], [1, 2]),
        ([(20, 50, -955)], [1, 2]),
        ([(20, 50, -956)], [1]),  # gas
        ([(70, 100, -956)], [1]),  # of any size
        ([(1, 20, -850)], [1, 2]),  # four thousandths
        ([(1, 19, -850)], [1]),
    ],
)
def test_pockets_beside_a_lung_of_5000_pixels_are_lung_but_for_gas_and_noise(others, lungs):
    body, pockets = pockets_of((50, 100, -850), *others)
    assert choose_lungs(body, NO_AIRWAY, pockets, GAS_HU) == lungs


@pytest.mark.parametrize(("airway_voxels", "lungs"), [(10_000, [1]), (10_001, [])])
def test_lungs_are_a_fifth_of_the_gas_or_none(airway_voxels, lungs):
    body, pockets = pockets_of((10, 100, -850))  # 2,000 voxels
    assert choose_lungs(body, np.ones(airway_voxels, bool), pockets, GAS_HU) == lungs


@pytest.mark.parametrize(("columns", "lungs"), [(120, [1]), (70, [1]), (50, [1, 2])])
def test_half_of_a_pocket_lies_in_the_trunk(columns, lungs):
    body, pockets = pockets_of((50, 100, -850), (20, 80, -850))
    body.hull[:, 67:87, :columns] = False  # of the columns 10 to 89
    assert choose_lungs(body, NO_AIRWAY, pockets, GAS_HU) == lungs


@pytest.mark.parametrize(("rows_away", "lungs"), [(9, [1, 2]), (10, [1])])
def test_a_small_pocket_is_lung_within_20_mm_of_a_large_one(rows_away, lungs):
    ct_hu = np.full((2, 100, 120), 40.0)
    pockets = np.zeros(ct_hu.shape, np.int32)
    pockets[:, 10:50, 10:110] = 1
    pockets[:, 50 + rows_away : 52 + rows_away, 50:90] = 2  # 80 pixels of 4,000: a fiftieth
    ct_hu[pockets > 0] = -850
    body = make_body(ct_hu)
    assert choose_lungs(body, NO_AIRWAY, pockets, GAS_HU) == lungs


def test_pockets_are_grouped_by_the_middle_of_the_trunk():
    pockets = np.zeros((2, 10, 40), np.int32)
    pockets[:, 2:5, 5:15], pockets[:, 2:5, 25:35], pockets[:, 6:8, 16:23] = 1, 2, 3  # 3: its middle at 19.5
    body = make_body(np.zeros(pockets.shape))
    assert group_by_side(body, pockets, [1, 2, 3]) == [[1], [2, 3]]
    pockets[:, 6:8, 22] = 0
    assert group_by_side(body, pockets, [1, 2, 3]) == [[1, 3], [2]]
    assert group_by_side(body, pockets, [2]) == [[2]]


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


def test_on_the_coarse_grid_lungs_and_masses_are_the_same():
    ct_hu, lung = chest_with_ribs()
    ct_hu[12:24, 45:70, 80:106] = 40  # a mass at the wall with lung above and below
    labelled = label_coarsely(find_body(ct_hu, (5.0, 3.0, 3.0)))
    np.testing.assert_array_equal(labelled, segment_lung(ct_hu, (5.0, 3.0, 3.0)))
    np.testing.assert_array_equal(labelled, lung)


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


def test_slices_of_belly_and_neck_hold_hardly_any_lung(real_data):
    """Single slices without lung, by eye: gas in stomach and bowel, trachea. 55 ml more without the gas rule."""
    volume_ml = 0.0
    for ct_hu, (row_mm, col_mm) in slices_without_lung(real_data):
        volume_ml += np.count_nonzero(segment_lung(ct_hu, (row_mm, col_mm))) * 5.0 * row_mm * col_mm / 1e3
    assert volume_ml < 10


def test_belly_below_the_lungs_of_a_real_scan_holds_little_gas_as_lung(real_data):
    """Bowel gas: 8 ml in these 40 slices, 21 ml where small pockets far from the lungs are lung, too."""
    ct_hu, frame = read_ct(real_data / "ct" / "ACRIN-FLT-Breast-001")
    belly = segment_lung(ct_hu, frame.spacing_mm)[:40]
    assert np.count_nonzero(belly) * np.prod(frame.spacing_mm) / 1e3 < 15


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
    body = find_body(patient.ct_hu, spacing_mm)
    rows, cols = body.steps
    assert dice(label_coarsely(body), patient.lung[:, ::rows, ::cols]) > 0.9  # pixels of 5 mm, as an adult's


def test_slices_on_both_sides_of_a_gap_know_nothing_of_each_other():
    phantom = small_patient(0)
    ct_hu, runs = phantom.ct_hu[[0, 1, -2, -1]], [slice(0, 2), slice(2, 4)]
    spacing_mm = (2.0, *phantom.spacing_mm[1:])
    apart = np.concatenate([segment_lung(part, spacing_mm) for part in (ct_hu[:2], ct_hu[2:])])
    np.testing.assert_array_equal(segment_runs(ct_hu, runs, spacing_mm), apart)
