"""Coverage of nodules, counted by hand."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from conftest import make_row

from lungct.evaluation.figures import BLUE, GREEN
from lungct.evaluation.nodules import NoduleScore, annotated_nodules, as_stored, audit_nodules, draw_nodule, save_audit
from lungct.files import read_table
from lungct.scans.geometry import axis_codes, frame_of, to_lps
from lungct.scans.lidc import Nodule
from lungct.slice_files import write_scan
from lungct.slices import StoredSlice

FRAME = frame_of([make_row("S", k, z_mm=10 + 2.5 * k, slice_mm=2.5) for k in range(5)])


ONE_SLICE = frame_of([make_row("S", 1, z_mm=12.5, slice_mm=2.5)])


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
    assert audit_nodules("S", FRAME, lung(), [nodule([12.5, 15.0])]) == [NoduleScore("S", 1, 3, 12, 2, 2, 1.0)]


def test_what_the_mask_cuts_off_is_counted():
    cut = lung((1, slice(None), 7), (2, 5, 5), (0, 4, 5), (1, 4, 8))  # the last two lie beside the nodule
    (score,) = audit_nodules("S", FRAME, cut, [nodule([12.5, 15.0])])
    assert score.coverage == 0.75
    (score,) = audit_nodules(
        "S", FRAME, ~lung(*[(1, row, col) for row in (4, 5) for col in (5, 6)]), [nodule([12.5, 15.0])]
    )
    assert score.coverage == 0.3333


def test_a_scan_may_have_one_slice():
    (score,) = audit_nodules("S", ONE_SLICE, lung()[1:2], [nodule([12.5])])
    assert (score.scan, score.coverage) == ("S", 1)


def test_a_nodule_outside_is_covered_by_nothing():
    (score,) = audit_nodules("S", FRAME, ~lung(), [nodule([12.5])])
    assert score.coverage == 0


def test_only_predicted_slices_count():
    (score,) = audit_nodules("S", FRAME, lung((4, 4, 5)), [nodule([20.0, 22.5])])
    assert (score.voxels, score.slices, score.slices_predicted) == (6, 2, 1)
    assert score.coverage == round(5 / 6, 4)


def test_a_nodule_that_no_voxel_is_agreed_on_is_left_out():
    nothing = Nodule(1, readers=3, mask=np.zeros((2, 3, 0), bool), row=4, col=5, z_mm=np.empty(0))
    assert audit_nodules("S", FRAME, lung(), [nothing]) == []


def test_a_plane_half_way_between_two_slices_lies_on_neither():
    (score,) = audit_nodules("S", FRAME, lung(), [nodule([11.25, 13.7, 20.0])])
    assert (score.slices, score.slices_predicted) == (3, 2)


def test_a_nodule_without_a_predicted_slice_is_left_out():
    found = audit_nodules("S", FRAME, lung(), [nodule([30.0], number=1), nodule([10.0], number=2)])
    assert [score.nodule for score in found] == [2]
    assert audit_nodules("S", FRAME, lung(), []) == []


def test_a_nodule_lies_in_the_rows_and_columns_of_the_file():
    prone = frame_of([make_row("S", k, z_mm=10 + 2.5 * k, slice_mm=2.5, source_axes="RAS") for k in range(5)])
    only = ~lung()
    only[1, 10 - 6 : 10 - 4, 12 - 8 : 12 - 5] = True  # where rows 4 to 5 and columns 5 to 7 come to lie in LPS
    (score,) = audit_nodules("S", prone, only, [nodule([12.5])])
    assert score.coverage == 1


@pytest.mark.parametrize(("across", "down", "swap"), [*product((-1, 1), (-1, 1), (False, True))])
def test_slices_are_turned_back_to_those_of_their_files(across, down, swap):
    rows, cols = [across, 0, 0], [0, down, 0]
    orientation = cols + rows if swap else rows + cols
    stored = np.arange(12).reshape(2, 2, 3)
    in_lps = np.stack([to_lps(image, orientation) for image in stored])
    np.testing.assert_array_equal(as_stored(in_lps, axis_codes(orientation)), stored)


def test_a_picture_shows_nodule_and_lung_where_they_lie():
    ct_hu, mask = np.full((5, 10, 12), 40, np.int16), np.zeros((5, 10, 12), bool)
    mask[2, 2:8, 3:11] = True
    tile = draw_nodule(ct_hu, mask, FRAME, nodule([15.0]), "S nodule 1")
    assert tile.image.shape == (10, 12)
    assert (tile.caption, tile.colours) == ("S nodule 1", (GREEN, BLUE))
    label, marked = tile.masks
    np.testing.assert_array_equal(label, mask[2])
    np.testing.assert_array_equal(np.argwhere(marked), [(y, x) for y in (4, 5) for x in (5, 6, 7)])


@pytest.mark.parametrize(
    ("missing", "voxels"),
    [((), 6), (((3, 5, 7), (1, 4, 6)), 5), (((3, 5, 6), (3, 5, 7), (1, 4, 6)), 4)],
    ids=["most of it", "as much outside: most of it", "most outside"],
)
def test_a_picture_shows_the_slice_with_most_of_the_nodule_outside(missing, voxels):
    three = nodule([12.5, 15.0, 17.5])
    three.mask[0, 0, 0] = three.mask[0, :2, 2] = False  # slices 1, 2 and 3 have five, six and four voxels
    tile = draw_nodule(np.full((5, 10, 12), 40, np.int16), lung(*missing), FRAME, three, "S nodule 1")
    assert np.count_nonzero(tile.masks[1]) == voxels


def all_lung(tmp_path: Path) -> list[StoredSlice]:
    """Five slices of 10 x 12 pixels, all lung: rows of the manifest."""
    rows = [make_row("S", k, z_mm=10 + 2.5 * k, slice_mm=2.5, rows=10, columns=12) for k in range(5)]
    ct_hu = np.full((5, 10, 12), -800, np.int16)
    return write_scan(rows, ct_hu, ct_hu < 0, tmp_path / "ct", tmp_path / "lung", "code")


def test_the_audit_of_labels_is_written_with_a_picture(tmp_path, monkeypatch, capsys):
    rows = all_lung(tmp_path)
    monkeypatch.setattr("lungct.evaluation.nodules.find_nodules", lambda *_, **_named: [nodule([12.5, 15.0])])
    save_audit({"S": rows}, tmp_path / "ct", tmp_path / "lung")
    assert read_table(tmp_path / "nodules.csv", NoduleScore) == [NoduleScore("S", 1, 3, 12, 2, 2, 1.0)]
    assert (tmp_path / "nodules.png").is_file()
    assert "nodule coverage 1.0000 on average over 1 nodule" in capsys.readouterr().out


@pytest.mark.parametrize(("source", "is_dicom"), [("../scans/1.2", True), ("../scans/1.2.nii.gz", False)])
def test_nodules_are_counted_in_the_rows_of_dicom_and_not_in_those_of_a_volume(source, is_dicom, monkeypatch):
    """A NIfTI file may be named after its series, but its rows often run to the front where those of DICOM run back."""
    known = {"1.2": [nodule([12.5])], "": []}
    monkeypatch.setattr("lungct.evaluation.nodules.find_nodules", lambda series_uid, *_: known[series_uid])
    monkeypatch.setattr("lungct.evaluation.nodules.has_nodules", lambda series_uid: bool(known[series_uid]))
    nodules, warnings = annotated_nodules(make_row("S", 0, source=source), 0.5, 0, 1)
    assert (nodules == known["1.2"], warnings == ()) == (is_dicom, is_dicom)
    assert is_dicom or "its DICOM files alone" in warnings[0]


def test_a_picture_of_earlier_nodules_goes_where_there_are_none(tmp_path, monkeypatch):
    (tmp_path / "nodules.png").touch()
    monkeypatch.setattr("lungct.evaluation.nodules.find_nodules", lambda *_, **_named: [])
    save_audit({"S": all_lung(tmp_path)}, tmp_path / "ct", tmp_path / "lung")
    assert not (tmp_path / "nodules.png").exists()
    assert read_table(tmp_path / "nodules.csv", NoduleScore) == []
