"""A mask that lies elsewhere is refused with the numbers of both; one that marks no lung, too."""

from pathlib import Path

import numpy as np
import pytest

from lungct import LungError
from lungct.masks.check import check_is_lung, check_place, lies_on, nearest_planes, skipped_slices
from lungct.scans.geometry import Frame

MASK = Path("mask.nii.gz")
LPS = np.eye(3)[:2]


def make_frame(z_mm=(0, 5, 10, 15), x_mm=-20.0, axes=LPS, spacing_mm=(5.0, 0.8, 0.5), shape=(40, 60)) -> Frame:
    corners_mm = np.array([[x_mm, 30.0, z] for z in z_mm])
    return Frame(corners_mm, np.array(axes), spacing_mm, shape)


SCAN = make_frame()


@pytest.mark.parametrize(
    "moved",
    [
        {},
        {"x_mm": -20.2},
        {"x_mm": -20.25},
        {"z_mm": (2, 7, 12, 17)},
        {"spacing_mm": (5.0, 0.8, 0.5042)},  # the last column, 59 steps away, is off by 0.496 of a voxel
        {"spacing_mm": (5.0, 0.8101, 0.5)},  # the last row, 39 steps away, by 0.492
    ],
)
def test_a_mask_within_half_a_voxel_lies_on_its_scan(moved):
    assert check_place(MASK, make_frame(**moved), SCAN).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"x_mm": -19.7},
        {"z_mm": (3, 8, 13, 18)},
        {"z_mm": (0, 5, 10)},
        {"spacing_mm": (5.0, 0.8, 0.5043)},
        {"spacing_mm": (5.0, 0.8104, 0.5)},
        {"z_mm": (0, 4, 8, 12), "spacing_mm": (4.0, 0.8, 0.5)},
        {"shape": (40, 61)},
        {"axes": [[-1, 0, 0], [0, -1, 0]]},
        {"axes": [[0.995, 0.0998, 0], [-0.0998, 0.995, 0]]},
    ],
)
def test_a_mask_beyond_that_is_refused(elsewhere):
    with pytest.raises(LungError, match="does not lie on the CT"):
        check_place(MASK, make_frame(**elsewhere), SCAN)


def test_the_refusal_holds_the_numbers_of_both():
    with pytest.raises(LungError) as error:
        check_place(MASK, make_frame(x_mm=300.0, shape=(40, 61)), SCAN)
    assert "4 slices of 40 x 61, 5 x 0.8 x 0.5 mm, from (300.0, 30.0, 0.0) mm along 1 0 0 0 1 0" in str(error.value)
    assert "the CT: 4 slices of 40 x 60, 5 x 0.8 x 0.5 mm, from (-20.0, 30.0, 0.0) mm" in str(error.value)


def test_a_file_saved_without_a_place_is_named_as_that():
    with pytest.raises(LungError, match="looks saved without the CT's position; save it with the CT's affine"):
        check_place(MASK, make_frame(spacing_mm=(1.0, 1.0, 1.0), z_mm=(0, 1, 2, 3)), SCAN)


def test_slices_that_the_scan_lacks_are_left_out_of_its_mask():
    assert check_place(MASK, SCAN, make_frame(z_mm=(0, 15))).tolist() == [0, 3]


def test_a_frame_lies_on_another_of_as_many_slices_and_pixels_at_the_same_places():
    assert lies_on(make_frame(x_mm=-20.25), SCAN)
    for other in ({"x_mm": -19.7}, {"z_mm": (0, 5, 10)}, {"shape": (40, 61)}, {"shape": (41, 60)}):
        assert not lies_on(make_frame(**other), SCAN)


def test_a_tilted_gantry_is_compared_along_its_own_slices():
    tilted = [[1, 0, 0], [0, np.cos(0.3), np.sin(0.3)]]
    assert check_place(MASK, make_frame(axes=tilted), make_frame(axes=tilted)).tolist() == [0, 1, 2, 3]
    with pytest.raises(LungError):
        check_place(MASK, SCAN, make_frame(axes=tilted))


def test_of_several_planes_the_nearest_counts_and_half_way_is_on_none():
    planes_mm = np.array([[0, 0, z] for z in (-2.5, 4.0, 6.5, 12.5)])
    assert nearest_planes(planes_mm, SCAN).tolist() == [-1, 1, -1, -1]
    assert nearest_planes(np.zeros((0, 3)), SCAN).tolist() == [-1] * 4


def make_chest() -> tuple[np.ndarray, np.ndarray]:
    """(CT, lung), 20 slices of 40 x 40: unlike itself from whichever side, 10 % of the lung consolidated."""
    lung = np.zeros((20, 40, 40), bool)
    for z in range(2, 18):
        lung[z, 6 : 16 + z // 2, 3:17] = True
        lung[z, 6 : 10 + z, 24:34] = True
    ct_hu = np.where(lung, -850, 40).astype(np.int16)
    ct_hu[:, 6:8] = 40
    return ct_hu, lung


ALL = range(20)
MIDDLE = range(5, 15)


def test_a_right_mask_passes_without_a_word():
    ct_hu, lung = make_chest()
    ct_hu[lung] = -850
    assert check_is_lung(MASK, lung, ALL, ct_hu) == ()
    assert check_is_lung(MASK, lung, MIDDLE, ct_hu[5:15]) == ()


@pytest.mark.parametrize("wanted", [ALL, MIDDLE])
@pytest.mark.parametrize(
    ("turned", "words"),
    [
        (np.s_[::-1], "slices reversed"),
        (np.s_[:, ::-1], "rows reversed"),
        (np.s_[:, :, ::-1], "columns reversed"),
        (np.s_[:, ::-1, ::-1], "rows reversed, columns reversed"),
    ],
)
def test_a_turned_mask_is_refused_with_how_it_would_fit(wanted, turned, words):
    ct_hu, lung = make_chest()
    with pytest.raises(LungError, match=f"with {words}; store"):
        check_is_lung(MASK, lung[turned], wanted, ct_hu[wanted.start : wanted.stop])


def test_swapped_rows_and_columns_are_seen():
    ct_hu, lung = make_chest()
    with pytest.raises(LungError, match="with rows and columns swapped"):
        check_is_lung(MASK, lung.transpose(0, 2, 1), ALL, ct_hu)


def test_a_consolidated_lung_is_taken_with_a_warning():
    ct_hu, lung = make_chest()
    (warning,) = check_is_lung(MASK, lung, ALL, ct_hu)
    assert warning.startswith("only 8")
    assert "is it shifted, or the lung diseased?" in warning


def test_what_is_no_lung_is_refused():
    ct_hu, lung = make_chest()
    ct_hu[:] = 40
    with pytest.raises(LungError, match="only 0% of what it marks is below -300 HU"):
        check_is_lung(MASK, lung, ALL, ct_hu)


def test_more_of_a_slice_than_a_lung_can_have_is_refused():
    ct_hu, lung = make_chest()
    with pytest.raises(LungError, match="marks 100% of a slice"):
        check_is_lung(MASK, np.ones_like(lung), ALL, np.full_like(ct_hu, -900))


def make_box(tissue: int) -> tuple[np.ndarray, np.ndarray]:
    """(CT, lung), 10 slices of 20 x 30: a box of 1,200 voxels in the middle, some at -300 HU, others at -301."""
    lung = np.zeros((10, 20, 30), bool)
    lung[2:8, 5:15, 5:25] = True
    ct_hu = np.where(lung, -301, 40).astype(np.int16)
    ct_hu[lung] = np.where(np.arange(1200) < tissue, -300, -301)
    return ct_hu, lung


@pytest.mark.parametrize(
    ("tissue", "words"),
    [(0, ""), (84, ""), (85, "only 93%"), (360, "only 70%"), (361, "refused"), (1200, "refused")],
)
def test_below_300_hu_lies_93_per_cent_of_a_lung_or_70_with_a_warning(tissue, words):
    ct_hu, lung = make_box(tissue)
    if words == "refused":
        with pytest.raises(LungError, match="of what it marks is below -300 HU, where lung has nearly all"):
            check_is_lung(MASK, lung, range(10), ct_hu)
    else:
        warnings = check_is_lung(MASK, lung, range(10), ct_hu)
        assert [warning[: len(words)] for warning in warnings] == ([words] if words else [])


def test_a_lung_has_three_fifths_of_a_slice_at_most():
    lung = np.zeros((3, 20, 30), bool)
    lung[1, :12] = True
    ct_hu = np.full(lung.shape, -850, np.int16)
    assert check_is_lung(MASK, lung, range(3), ct_hu) == ()
    lung[1, 12, 0] = True
    with pytest.raises(LungError, match="marks 60% of a slice, a lung has 60% at most"):
        check_is_lung(MASK, lung, range(3), ct_hu)


def test_slices_that_were_not_drawn_on_are_counted():
    ct_hu, lung = make_chest()
    ct_hu[lung] = -850
    lung[5:15:2] = False
    assert skipped_slices(lung) == 5
    assert check_is_lung(MASK, lung, ALL, ct_hu) == (
        "mask.nii.gz marks nothing in 5 slices between others with lung; was it finished?",
    )


def test_no_lung_in_the_slices_taken_is_a_warning():
    ct_hu, lung = make_chest()
    assert check_is_lung(MASK, lung, range(2), ct_hu[:2]) == ("mask.nii.gz marks no lung in the 2 slices taken",)
