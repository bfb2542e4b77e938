"""Frames in millimetres: turned by hand, cut at gaps, refused where no scan is so large."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from conftest import make_row

from lungct import LungError
from lungct.scans.geometry import (
    BY_PICTURE,
    BY_SCANNER,
    GUESS,
    Frame,
    Middle,
    Scan,
    axis_codes,
    check_size,
    check_spacing,
    contiguous_runs,
    frame_of,
    frame_to_lps,
    frame_warnings,
    from_lps,
    lps_flips,
    row_fields,
    to_lps,
)

SUPINE, PRONE, LATERAL = [1, 0, 0, 0, 1, 0], [-1, 0, 0, 0, -1, 0], [0, 1, 0, -1, 0, 0]
IMAGE = np.array([[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("orientation", "flips", "turned"),
    [
        (SUPINE, (False, False, False), [[1, 2, 3], [4, 5, 6]]),
        (PRONE, (False, True, True), [[6, 5, 4], [3, 2, 1]]),
        ([-1, 0, 0, 0, 1, 0], (False, True, False), [[3, 2, 1], [6, 5, 4]]),
        (LATERAL, (True, True, False), [[4, 1], [5, 2], [6, 3]]),
        ([0.98, 0.17, 0, -0.17, 0.98, 0], (False, False, False), [[1, 2, 3], [4, 5, 6]]),  # turned by 10 degrees
        ([0.8, -0.6, 0, 0.6, 0.8, 0], (False, False, False), [[1, 2, 3], [4, 5, 6]]),  # by 37 degrees the other way
        ([0.6, 0.8, 0, -0.8, 0.6, 0], (True, True, False), [[4, 1], [5, 2], [6, 3]]),  # by 53 degrees: on the side
    ],
)
def test_a_slice_is_turned_so_that_rows_go_back_and_columns_left(orientation, flips, turned):
    assert lps_flips(orientation) == flips
    assert to_lps(IMAGE, orientation).tolist() == turned


def test_turning_back_gives_the_slice_as_its_file_has_it():
    for across, down, swap in product((-1, 1), (-1, 1), (False, True)):
        rows, cols = [across, 0, 0], [0, down, 0]
        orientation = cols + rows if swap else rows + cols
        np.testing.assert_array_equal(from_lps(to_lps(IMAGE, orientation), orientation), IMAGE)


def test_first_pixel_of_a_prone_slice_is_its_last_one_afterwards():
    axes, shift = frame_to_lps(np.reshape(PRONE, (2, 3)).astype(float), np.array([30.0, 20.0]))
    np.testing.assert_array_equal(axes, [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(shift, [-30, -20, 0])


def test_axes_of_a_patient_on_the_side_change_places_with_their_spans():
    axes, shift = frame_to_lps(np.reshape(LATERAL, (2, 3)).astype(float), np.array([30.0, 20.0]))
    np.testing.assert_array_equal(axes, [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(shift, [-20, 0, 0])  # down a column went to the right, over 20 mm


def test_a_tilted_gantry_keeps_its_axes():
    tilted = np.array([[1, 0, 0], [0, 0.9659, -0.2588]])
    axes, shift = frame_to_lps(tilted, np.array([30.0, 20.0]))
    np.testing.assert_array_equal(axes, tilted)
    assert not shift.any()


def test_runs_are_cut_where_a_slice_is_missing():
    assert contiguous_runs(np.array([0, 2, 4, 10, 12.0])) == [slice(0, 3), slice(3, 5)]
    assert contiguous_runs(np.array([7.0])) == [slice(0, 1)]


@pytest.mark.parametrize("step_mm", [0.5, 10.0])
def test_a_slice_is_missing_where_a_step_is_more_than_half_as_long_again(step_mm):
    usual = [0, 1, 2, 3]
    assert contiguous_runs(step_mm * np.array([*usual, 4.5])) == [slice(0, 5)]
    assert contiguous_runs(step_mm * np.array([*usual, 4.6])) == [slice(0, 4), slice(4, 5)]


def test_frame_of_a_scan_is_where_its_slices_lie():
    frame = frame_of([make_row("A", z, x_mm=-3.5, y_mm=4.5, z_mm=2.5 * z) for z in (0, 2)])
    np.testing.assert_array_equal(frame.corners_mm, [[-3.5, 4.5, 0], [-3.5, 4.5, 5.0]])
    np.testing.assert_array_equal(frame.axes, [[1, 0, 0], [0, 1, 0]])


def test_rows_say_where_a_frame_lies():
    corners_mm = np.array([[-3.5, 4.5, 2.5 * z] for z in range(3)])
    axes = np.array([[1, 0, 0], [0, 0.9659, -0.2588]])
    frame = Frame(corners_mm, axes, (2.5, 0.7, 0.9), (24, 32), "RPS")
    again = frame_of([make_row("A", z, **row_fields(frame, z)) for z in range(3)])
    np.testing.assert_array_equal(again.corners_mm, corners_mm)
    np.testing.assert_array_equal(again.axes, axes)
    assert (again.spacing_mm, again.shape, again.source_axes) == ((2.5, 0.7, 0.9), (24, 32), "RPS")


def test_rows_round_places_to_a_tenth_of_a_micrometre():
    frame = Frame(np.array([[-3.123456, 4.5, 2.5]]), np.eye(3)[:2], (2.12345678, 0.7, 0.9), (24, 32))
    fields = row_fields(frame, 0)
    assert (fields["x_mm"], fields["slice_mm"]) == (-3.1235, 2.123457)


@pytest.mark.parametrize(
    ("orientation", "codes"),
    [(SUPINE, "LPS"), (PRONE, "RAS"), (LATERAL, "PRS"), ([-1, 0, 0, 0, 1, 0], "RPS"), ([0, -1, 0, 1, 0, 0], "ALS")],
)
def test_letters_say_where_columns_and_rows_of_a_file_run(orientation, codes):
    assert axis_codes(orientation) == codes


def test_a_scan_of_more_voxels_than_any_has_is_refused():
    check_size(Path("a.nii"), (2048, 1024, 1024))
    with pytest.raises(LungError, match=r"a\.nii: 2049 x 1024 x 1024 voxels are no scan"):
        check_size(Path("a.nii"), (2049, 1024, 1024))


@pytest.mark.parametrize(
    ("z_mm", "said"),
    [
        ([7], []),
        ([0, 2.5, 5, 7.5], []),
        ([0, 2.5, 5, 12.5, 15], ["slices missing in 1 place: gap of 7.5 mm after slice 2"]),
        ([0, 5, 7.5, 10, 12.5, 20], ["slices missing in 2 places: the longest gap of 7.5 mm after slice 4"]),
        ([0, 2.5, 5, 8], ["unequal slice spacing, 2.50 to 3.00 mm"]),
    ],
)
def test_gaps_and_unequal_steps_are_said_of_the_places_alone(z_mm, said):
    corners_mm = np.array([[3.0, 4.0, z] for z in z_mm])
    frame = Frame(corners_mm, np.eye(3)[:2], (2.5, 0.7, 0.9), (6, 8))
    assert frame_warnings(frame) == said
    guessed = "the file says nothing of left and right: sides may be swapped"
    assert frame_warnings(replace(frame, source_axes="LAS?")) == [guessed, *said]


class Numbered(Scan):
    """Each slice holds its number."""

    def _read_slice(self, z_index: int) -> np.ndarray:
        return np.full(self.frame.shape, z_index)


def test_slices_are_read_in_the_order_in_which_they_are_asked_for():
    corners_mm = np.array([[1.0, 2.0, 2.5 * k] for k in range(4)])
    scan = Numbered("P", "1.2", (), Frame(corners_mm, np.eye(3)[:2], (2.5, 1.0, 1.0), (2, 3)))
    assert len(scan) == 4
    assert scan.frame.z_mm.tolist() == [0, 2.5, 5, 7.5]
    assert scan.read().shape == (4, 2, 3)
    assert scan.read([2, 0])[:, 0, 0].tolist() == [2, 0]
    assert scan.read().dtype == np.int16


@pytest.mark.parametrize(
    ("z_mm", "extents_mm"),
    [
        ([0, 1, 2, 3], [1, 1, 1, 1]),
        ([0, 1, 2, 5, 8], [1, 1, 2, 3, 3]),  # half-way to each neighbour; the ends as if they had another one
        ([0, 2], [2, 2]),
        ([7], [2.5]),  # alone: as thick as its header says
        ([], []),
    ],
)
def test_each_slice_stands_for_what_lies_half_way_to_its_neighbours(z_mm, extents_mm):
    corners_mm = np.array([[3.0, 4.0, z] for z in z_mm]).reshape(-1, 3)
    frame = Frame(corners_mm, np.eye(3)[:2], (2.5, 0.7, 0.9), (6, 8))
    assert frame.extents_mm.tolist() == extents_mm


def test_slices_of_a_tilted_gantry_are_thinner_than_their_step():
    """Tilted by 60 degrees to make the number plain: half of the step lies across the slices."""
    corners_mm = np.array([[0.0, 0.0, 2.0 * k] for k in range(3)])
    frame = Frame(corners_mm, np.array([[1, 0, 0], [0, 0.5, -(0.75**0.5)]]), (2.0, 0.7, 0.9), (6, 8))
    np.testing.assert_allclose(frame.extents_mm, 1.0)


@pytest.mark.parametrize(
    ("spacing_mm", "named"),
    [
        ((2.5, 0.7, 0.0007), "columns 0.0007 mm apart"),
        ((2.5, 700.0, 0.7), "rows 700 mm apart"),
        ((0.0, 0.7, 0.7), "slices 0 mm apart"),
        ((2.5, float("nan"), 0.7), "rows nan mm apart"),
        ((21.0, 0.7, 0.7), "slices 21 mm apart, where CT has 0.05 to 20 mm"),
        ((2.5, 0.7, 10.5), "columns 10.5 mm apart, where CT has 0.05 to 10 mm"),
    ],
)
def test_spacing_that_no_ct_has_is_refused_and_named(spacing_mm, named):
    with pytest.raises(LungError, match=named):
        check_spacing(Path("a.nii"), spacing_mm)


@pytest.mark.parametrize("spacing_mm", [(0.05, 0.05, 0.05), (20.0, 10.0, 10.0)])
def test_spacing_at_the_limits_is_taken(spacing_mm):
    check_spacing(Path("a.nii"), spacing_mm)


def placed(first_mm: float, columns: int, source_axes: str = "LPS", axes=((1, 0, 0), (0, 1, 0))) -> Frame:
    """Three slices of 11 rows of 2 mm and columns of 0.5 mm; the first pixel at so many mm to the left."""
    corners_mm = np.array([[first_mm, -80, z] for z in (0, 3, 6)], float)
    return Frame(corners_mm, np.array(axes, float), (3.0, 2.0, 0.5), (11, columns), source_axes)


@pytest.mark.parametrize(
    ("first_mm", "columns", "column", "source"),
    [
        (-150.0, 600, 299.5, BY_PICTURE),  # 300 mm
        (-250.0, 600, 299.5, BY_PICTURE),  # off the scanner's middle by 100 mm
        (-150.0, 599, 300, BY_SCANNER),  # 299.5 mm
        (-160.0, 400, 320, BY_SCANNER),  # of the right lung
        (10.0, 400, -20, BY_SCANNER),  # of the left
        (0.0, 400, 199.5, GUESS),  # as if no place had been given
        (-199.5, 400, 199.5, GUESS),  # the same of a file whose columns run to the right
        (200.0, 302, 150.5, GUESS),  # to 350.5 mm
        (150.4, 400, -300.8, BY_SCANNER),  # to 349.9
        (-350.5, 400, 199.5, GUESS),
    ],
)
def test_the_middle_of_the_patient_is_that_of_a_wide_picture_or_else_of_the_scanner(first_mm, columns, column, source):
    middle = placed(first_mm, columns).middle
    assert (middle.column, middle.source) == (pytest.approx(column), source)


def test_a_narrow_picture_of_a_file_that_says_nothing_of_its_orientation_has_a_middle_by_guess():
    assert placed(-160.0, 400, "LAS?").middle == Middle(199.5, GUESS)


def test_the_middle_of_turned_slices_is_that_of_their_middle_row():
    """Down 5 rows of 2 mm, columns lie 6 mm farther to the right: 0.6 of 10."""
    middle = placed(-46.0, 400, axes=((0.8, 0.6, 0), (-0.6, 0.8, 0))).middle
    assert middle == Middle(pytest.approx((46 + 6) / 0.4), BY_SCANNER)
