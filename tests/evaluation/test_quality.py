"""Each flag is raised where it is due, and none for a usual pair of lungs."""

import numpy as np
import pytest

from lungct.evaluation.quality import find_flags, has_piece_below_lung, smaller_side_share

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


def test_usual_lungs_are_not_odd(chest):
    assert find_flags(*chest, SPACING_MM) == []


@pytest.mark.parametrize("missing", [slice(60), slice(60, None)])
def test_one_lung(chest, missing):
    ct_hu, lung = chest
    ct_hu[(ct_hu == -850) & (np.arange(120) // 60 == (missing.start or 0) // 60)] = 40
    lung[..., missing] = False
    assert find_flags(ct_hu, lung, (16.0, 3.0, 2.5)) == ["one lung only"]


def test_litres(chest):
    assert find_flags(*chest, (4.0, 3.0, 2.5)) == ["outside the usual 2 to 8 litres"]
    assert find_flags(*chest, (20.0, 3.0, 2.5)) == ["outside the usual 2 to 8 litres"]


@pytest.mark.parametrize(
    ("slice_mm", "flags"),
    [
        (9.99, ["outside the usual 2 to 8 litres"]),
        (10.0, []),
        (40.0, []),
        (40.01, ["outside the usual 2 to 8 litres"]),
    ],
)
def test_two_and_eight_litres_are_usual(chest, slice_mm, flags):
    ct_hu, lung = chest
    lung[..., 45:50] = lung[..., 95:100] = False  # leaves 50,000 voxels
    assert find_flags(ct_hu, lung, (slice_mm, 2.0, 2.0)) == flags


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_sides_are_those_of_the_body_wherever_it_lies_in_the_picture(mirrored):
    """Of a body in the columns 8 to 19 of 20, so that its middle is at 14, with 3 of 20 voxels of lung on one side."""
    ct_hu = np.full((2, 10, 20), -1000)
    ct_hu[..., 8:] = 40
    lung = np.zeros(ct_hu.shape, bool)
    lung[0, :5, 9] = lung[0, :4, 10] = lung[0, :4, 11] = lung[0, :4, 12] = lung[1, :3, 16] = True
    ct_hu[lung] = -850
    if mirrored:
        ct_hu, lung = ct_hu[..., ::-1], lung[..., ::-1]
    assert smaller_side_share(ct_hu, lung) == pytest.approx(3 / 20)


def test_litres_count_each_slice_by_its_own_extent(chest):
    """A step of 8 mm in the table, but the slices lie 4 mm apart."""
    assert find_flags(*chest, SPACING_MM, np.full(SHAPE[0], 8.0)) == []
    assert find_flags(*chest, SPACING_MM, np.full(SHAPE[0], 4.0)) == ["outside the usual 2 to 8 litres"]


def test_piece_below_the_lungs(chest):
    ct_hu, lung = chest
    lung[2:8, 30:45, 60:75] = True
    assert find_flags(ct_hu, lung, SPACING_MM)[0] == "gas below the diaphragm"


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
    assert "the scan ends in the lung" not in find_flags(ct_hu, lung, SPACING_MM)
    lung[end, 30, 30] = True
    assert "the scan ends in the lung" in find_flags(ct_hu, lung, SPACING_MM)


def test_scan_that_ends_in_the_lung(chest):
    ct_hu, lung = chest
    assert find_flags(ct_hu[12:], lung[12:], SPACING_MM) == ["the scan ends in the lung"]


def test_of_slices_from_the_middle_no_volume_is_expected(chest):
    ct_hu, lung = chest
    assert find_flags(ct_hu[15:25], lung[15:25], SPACING_MM) == []


def test_a_lung_that_changes_from_slice_to_slice(chest):
    ct_hu, lung = chest
    lung[20, 40:60, 20:50] = lung[20, 20:35, 20:50] = False  # seven eighths of the right lung
    jumps = ["a lung changes by half from slice 19 to 20", "a lung changes by half from slice 20 to 21"]
    assert find_flags(ct_hu, lung, SPACING_MM) == jumps


def test_a_piece_of_lung_that_the_mask_leaves_out(chest):
    ct_hu, lung = chest
    lung[10:16, 30:60, 20:50] = False  # 324 ml, 5 of 8 rows
    (flag,) = [text for text in find_flags(ct_hu, lung, SPACING_MM) if "ml" in text]
    assert flag.endswith("ml like lung not in the mask, slices 10 to 15")
    assert 200 < float(flag.split()[0]) <= 324


@pytest.mark.parametrize("hu", [-1000, -300], ids=["gas", "fat and stool"])
def test_air_and_tissue_that_are_unlike_lung_are_not_missed(chest, hu):
    ct_hu, lung = chest
    ct_hu[2:8, 20:60, 30:90] = hu
    assert find_flags(ct_hu, lung, SPACING_MM) == []


def test_nothing_found(chest):
    assert find_flags(chest[0], np.zeros(SHAPE, bool), SPACING_MM) == ["no lung"]
