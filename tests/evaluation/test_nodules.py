"""Coverage of nodules, counted by hand."""

from itertools import product

import numpy as np
import pytest
from conftest import make_row

from lungct.evaluation.nodules import NoduleScore, as_stored, audit_nodules
from lungct.scans.geometry import axis_codes, to_lps
from lungct.scans.lidc import Nodule

ROWS = [make_row("S", k, z_mm=10 + 2.5 * k, slice_mm=2.5) for k in range(5)]


def nodule(z_mm: list[float], number: int = 1) -> Nodule:
    """2 rows by 3 columns from row 4, column 5, on every slice."""
    return Nodule(number, readers=3, mask=np.ones((2, 3, len(z_mm)), bool), row=4, col=5, z_mm=np.array(z_mm))


def lung(*missing: tuple) -> np.ndarray:
    """All of (5, 10, 12) but some voxels."""
    mask = np.ones((5, 10, 12), bool)
    for place in missing:
        mask[place] = False
    return mask


def test_a_nodule_inside_is_covered_whole():
    assert audit_nodules(ROWS, lung(), [nodule([12.5, 15.0])]) == [NoduleScore("S", 1, 3, 12, 2, 2, 1.0)]


def test_what_the_mask_cuts_off_is_counted():
    cut = lung((1, slice(None), 7), (2, 5, 5), (0, 4, 5), (1, 4, 8))  # the last two lie beside the nodule
    (score,) = audit_nodules(ROWS, cut, [nodule([12.5, 15.0])])
    assert score.coverage == 0.75
    (score,) = audit_nodules(ROWS, ~lung(*[(1, row, col) for row in (4, 5) for col in (5, 6)]), [nodule([12.5, 15.0])])
    assert score.coverage == 0.3333


def test_a_scan_may_have_one_slice():
    (score,) = audit_nodules(ROWS[1:2], lung()[1:2], [nodule([12.5])])
    assert (score.scan, score.coverage) == ("S", 1)


def test_a_nodule_outside_is_covered_by_nothing():
    (score,) = audit_nodules(ROWS, ~lung(), [nodule([12.5])])
    assert score.coverage == 0


def test_only_predicted_slices_count():
    (score,) = audit_nodules(ROWS, lung((4, 4, 5)), [nodule([20.0, 22.5])])
    assert (score.voxels, score.slices, score.slices_predicted) == (6, 2, 1)
    assert score.coverage == round(5 / 6, 4)


def test_a_plane_half_way_between_two_slices_lies_on_neither():
    (score,) = audit_nodules(ROWS, lung(), [nodule([11.25, 13.7, 20.0])])
    assert (score.slices, score.slices_predicted) == (3, 2)


def test_a_nodule_without_a_predicted_slice_is_left_out():
    found = audit_nodules(ROWS, lung(), [nodule([30.0], number=1), nodule([10.0], number=2)])
    assert [score.nodule for score in found] == [2]
    assert audit_nodules(ROWS, lung(), []) == []


def test_a_nodule_lies_in_the_rows_and_columns_of_the_file():
    prone = [make_row("S", k, z_mm=10 + 2.5 * k, slice_mm=2.5, source_axes="RAS") for k in range(5)]
    only = ~lung()
    only[1, 10 - 6 : 10 - 4, 12 - 8 : 12 - 5] = True  # where rows 4 to 5 and columns 5 to 7 come to lie in LPS
    (score,) = audit_nodules(prone, only, [nodule([12.5])])
    assert score.coverage == 1


@pytest.mark.parametrize(("across", "down", "swap"), [*product((-1, 1), (-1, 1), (False, True))])
def test_slices_are_turned_back_to_those_of_their_files(across, down, swap):
    rows, cols = [across, 0, 0], [0, down, 0]
    orientation = cols + rows if swap else rows + cols
    stored = np.arange(12).reshape(2, 2, 3)
    in_lps = np.stack([to_lps(image, orientation) for image in stored])
    np.testing.assert_array_equal(as_stored(in_lps, axis_codes(orientation)), stored)
