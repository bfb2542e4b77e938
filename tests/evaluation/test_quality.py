"""Each flag is raised where it is due, and none for a usual pair of lungs."""

import numpy as np
import pytest

from lungct.evaluation.quality import find_flags, find_jumps, has_piece_below_lung
from lungct.scans.geometry import BY_SCANNER, Middle
from lungct.segmentation.left_right import split_left_right

SHAPE = (40, 80, 120)
SPACING_MM = (8.0, 3.0, 2.5)  # a voxel is 0.06 ml


@pytest.fixture
def chest() -> tuple[np.ndarray, np.ndarray]:
    """(ct_hu, lung): a trunk of soft tissue with two boxes of lung, 3.6 litres together."""
    ct_hu = np.full(SHAPE, -1000, np.int16)
    ct_hu[:, 10:70, 10:110] = 40
    lung = np.zeros(SHAPE, bool)
    lung[10:35, 20:60, 20:50] = lung[10:35, 20:60, 70:100] = True
    ct_hu[lung] = -850
    return ct_hu, lung


def flags_of(ct_hu, lung, spacing_mm, *more, **named) -> list[str]:
    """The flags of a mask whose sides are told apart by the middle of the picture."""
    middle = (lung.shape[2] - 1) / 2
    return find_flags(ct_hu, split_left_right(lung, spacing_mm, middle), spacing_mm, *more, **named)


def test_usual_lungs_are_not_odd(chest):
    assert flags_of(*chest, SPACING_MM) == []


@pytest.mark.parametrize("missing", [slice(60), slice(60, None)])
def test_one_lung(chest, missing):
    ct_hu, lung = chest
    ct_hu[(ct_hu == -850) & (np.arange(120) // 60 == (missing.start or 0) // 60)] = 40
    lung[..., missing] = False
    assert flags_of(ct_hu, lung, (8.0, 6.0, 2.5)) == ["one lung only"]


def test_litres(chest):
    assert flags_of(*chest, (4.0, 3.0, 2.5)) == ["volume outside the usual 2 to 8 litres"]
    assert flags_of(*chest, (8.0, 7.5, 2.5)) == ["volume outside the usual 2 to 8 litres"]


@pytest.mark.parametrize(
    ("row_mm", "flags"),
    [
        (2.497, ["volume outside the usual 2 to 8 litres"]),
        (2.5, []),
        (10.0, []),
        (10.003, ["volume outside the usual 2 to 8 litres"]),
    ],
)
def test_two_and_eight_litres_are_usual(chest, row_mm, flags):
    ct_hu, lung = chest
    lung[..., 45:50] = lung[..., 95:100] = False  # leaves 50,000 voxels
    ct_hu[:, 10:70, 45:50] = ct_hu[:, 10:70, 95:100] = 40
    assert flags_of(ct_hu, lung, (8.0, row_mm, 2.0)) == flags


def test_litres_count_each_slice_by_its_own_extent(chest):
    """A step of 8 mm in the table, but the slices lie 4 mm apart."""
    assert flags_of(*chest, SPACING_MM, np.full(SHAPE[0], 8.0)) == []
    assert flags_of(*chest, SPACING_MM, np.full(SHAPE[0], 4.0)) == ["volume outside the usual 2 to 8 litres"]


def test_piece_below_the_lungs(chest):
    ct_hu, lung = chest
    lung[2:8, 30:45, 60:75] = True
    assert flags_of(ct_hu, lung, SPACING_MM)[0] == "gas below the diaphragm taken for lung"


@pytest.mark.parametrize(("top", "answer"), [(10, True), (11, False), (25, False)])
def test_a_piece_lies_below_where_less_than_a_tenth_of_the_lung_is_as_low(top, answer):
    lung = np.zeros((32, 6, 20), bool)
    lung[10:30, :, :8] = True  # the largest piece: a twentieth of it on each slice
    lung[12:30, :, 16:] = True
    lung[5 : top + 1, :3, 10:12] = True
    assert has_piece_below_lung(lung) == answer
    lung[:, :, 16:] = False  # of two pieces, too
    assert has_piece_below_lung(lung) == answer
    lung[:, :, 10:12] = False
    assert not has_piece_below_lung(lung)


def test_pieces_that_touch_at_a_corner_are_one():
    lung = np.zeros((8, 6, 6), bool)
    lung[2:, 3:, 3:] = lung[:2, :3, :3] = True
    assert not has_piece_below_lung(lung)


@pytest.mark.parametrize("end", [0, -1])
def test_the_scan_ends_in_the_lung_where_more_than_a_twentieth_of_the_largest_area_is(chest, end):
    ct_hu, lung = chest
    ct_hu, lung = ct_hu[9:36], lung[9:36]  # one slice without lung at each end; 2,400 pixels in the others
    lung[end, 30:42, 20:30] = True
    assert "the scan ends in the lung" not in flags_of(ct_hu, lung, SPACING_MM)
    lung[end, 30, 30] = True
    assert "the scan ends in the lung" in flags_of(ct_hu, lung, SPACING_MM)


def test_scan_that_ends_in_the_lung(chest):
    ct_hu, lung = chest
    assert flags_of(ct_hu[12:], lung[12:], SPACING_MM) == ["the scan ends in the lung"]


def test_of_slices_from_the_middle_no_volume_is_expected(chest):
    ct_hu, lung = chest
    assert flags_of(ct_hu[15:25], lung[15:25], SPACING_MM) == ["the scan begins and ends in the lung"]
    assert flags_of(ct_hu[15:16], lung[15:16], SPACING_MM) == []  # one slice says nothing of what lies beside


def test_a_lung_that_changes_from_slice_to_slice(chest):
    ct_hu, lung = chest
    lung[20, 40:60, 20:50] = lung[20, 20:35, 20:50] = False  # seven eighths of the right lung
    jumps = [f"the area of a lung changes by 88% from slice {z} to {z + 1}" for z in (19, 20)]
    assert flags_of(ct_hu, lung, SPACING_MM) == jumps


@pytest.mark.parametrize(
    ("slice_mm", "part", "is_sudden"),
    [(1, 0.3, False), (1, 0.4, True), (5, 0.35, False), (5, 0.45, True), (10, 0.6, False), (10, 0.7, True)],
)
def test_thick_slices_may_change_faster(slice_mm, part, is_sudden):
    lung = np.zeros((9, 100, 40), bool)
    lung[1:8, :, 4:8] = lung[1:8, :, 30:36] = True
    lung[4, : round(100 * part), 30:36] = False
    assert find_jumps(lung, slice_mm) == ([(3, pytest.approx(part)), (4, pytest.approx(part))] if is_sudden else [])


@pytest.mark.parametrize(
    ("cm2", "flags"), [(157.4, []), (157.6, ["network unsure, most in slice 20 (slices 20 to 21)"])]
)
def test_more_doubt_than_in_usual_scans(chest, cm2, flags):
    """Of 25 slices of 180 cm2, 4 % is 180 cm2."""
    unsure_cm2 = np.zeros(SHAPE[0])
    unsure_cm2[20:22] = cm2, 22.5
    assert flags_of(*chest, SPACING_MM, unsure_cm2=unsure_cm2) == flags


def test_thick_slices_have_no_edge_at_the_diaphragm(chest):
    assert flags_of(*chest, (8.5, 3.0, 2.5)) == []
    assert flags_of(*chest, (9.0, 3.0, 2.5)) == ["thick slices, 9.0 mm apart"]


def test_the_flag_of_the_sides_stands_in_the_place_of_that_of_one_lung(chest):
    ct_hu, lung = chest
    ct_hu[..., 60:][lung[..., 60:]], lung[..., 60:] = 40, False
    sides = np.where(lung, 1, 0).astype(np.uint8)
    flags = find_flags(ct_hu, sides, (8.0, 6.0, 2.5), middle=Middle(80, BY_SCANNER))
    assert flags == ["one lung only, right or left by its place in the scanner"]


@pytest.mark.parametrize(
    ("columns", "flags"),
    [
        (0, ["one lung only"]),
        (2, ["the smaller lung has only 6% of the volume"]),
        (12, ["the smaller lung has only 29% of the volume"]),
        (13, []),
    ],
)
def test_unequal_lungs(chest, columns, flags):
    """30 columns on the right, 2, 12 or 13 on the left: 6, 29 or 30.2 % of the volume."""
    ct_hu, lung = chest
    ct_hu[..., 70 + columns : 100][lung[..., 70 + columns : 100]] = 40
    lung[..., 70 + columns :] = False
    assert flags_of(ct_hu, lung, (8.0, 4.0, 2.5)) == flags


def test_of_a_part_of_the_lungs_the_area_and_both_sides_are_looked_at(chest):
    ct_hu, lung = chest
    ct_hu, lung = ct_hu[15:25], lung[15:25].copy()  # 80 mm of 180 cm2
    cut = "the scan begins and ends in the lung"
    assert flags_of(ct_hu, lung, (8.0, 2.0, 1.2)) == [cut, "58 cm2 of lung a slice, outside the usual 60 to 400"]
    assert flags_of(ct_hu, lung, (8.0, 5.0, 3.4)) == [cut, "408 cm2 of lung a slice, outside the usual 60 to 400"]
    ct_hu[..., 70:100][lung[..., 70:100]], lung[..., 60:] = 40, False
    assert flags_of(ct_hu, lung, SPACING_MM) == [cut, "one lung only"]
    assert flags_of(ct_hu[:8], lung[:8], SPACING_MM) == [cut]  # 64 mm: too little to say


def test_values_that_cannot_be_hu(chest):
    grey = np.clip((chest[0] + 1000) // 8, 0, 255).astype(np.int16)
    assert "looks like 8-bit grey levels, not HU" in flags_of(grey, chest[1], SPACING_MM)


def test_a_piece_of_lung_that_the_mask_leaves_out(chest):
    ct_hu, lung = chest
    lung[10:16, 30:60, 20:50] = False  # 324 ml, 5 of 8 rows
    (flag,) = [text for text in flags_of(ct_hu, lung, SPACING_MM) if "not in the mask" in text]
    assert flag.endswith("ml of lung-like tissue not in the mask, slices 10 to 15")
    assert 200 < float(flag.split()[0]) <= 324


def test_air_below_a_blanket_on_the_chest_is_not_missed(chest):
    ct_hu, lung = chest
    ct_hu[10:25, 1:3, 20:90] = 100  # its edge, and behind it 1.4 litres of foam and air
    ct_hu[10:25, 1:10, 20:22] = ct_hu[10:25, 1:10, 88:90] = 100
    ct_hu[10:25, 3:10, 22:88] = -850
    assert flags_of(ct_hu, lung, SPACING_MM) == []


@pytest.mark.parametrize("hu", [-1000, -300], ids=["gas", "fat and stool"])
def test_air_and_tissue_that_are_unlike_lung_are_not_missed(chest, hu):
    ct_hu, lung = chest
    ct_hu[2:8, 20:60, 30:90] = hu
    assert flags_of(ct_hu, lung, SPACING_MM) == []


def test_nothing_found(chest):
    assert flags_of(chest[0], np.zeros(SHAPE, bool), SPACING_MM) == ["no lung found"]
