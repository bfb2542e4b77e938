"""A slice is read as it was written, or not at all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_row

from lungct import LungError
from lungct.files import npy_bytes
from lungct.slice_files import is_intact, read_slice, read_stack, write_scan
from lungct.slices import StoredSlice

CT_HU = np.arange(40, dtype=np.int16).reshape(2, 4, 5) * 100 - 1500
LUNG = CT_HU < -500


@pytest.fixture
def rows(tmp_path) -> list[StoredSlice]:
    """A scan of two slices of 4 x 5 pixels below tmp_path."""
    return write_scan([make_row("A", z) for z in range(2)], CT_HU, LUNG, tmp_path / "ct", tmp_path / "lung", "code")


def slice_0(tmp_path: Path, kind: str) -> Path:
    return tmp_path / kind / "A" / "A_slice000.npy"


def intact(tmp_path: Path, rows: list[StoredSlice]) -> bool:
    return is_intact(rows, tmp_path / "ct", tmp_path / "lung")


def test_what_was_written_is_read_back(rows, tmp_path):
    np.testing.assert_array_equal(read_stack(tmp_path / "ct", rows, "ct"), np.maximum(CT_HU, -1024))
    lung = np.where(LUNG, np.maximum(CT_HU, -1024), -2048)
    np.testing.assert_array_equal(read_stack(tmp_path / "lung", rows, "lung"), lung)
    assert {row.code for row in rows} == {"code"}
    assert intact(tmp_path, rows)


def test_slices_without_labels_have_no_checksum_of_labels(tmp_path):
    rows = write_scan([make_row("A", z) for z in range(2)], CT_HU, None, tmp_path / "ct", None, "code")
    assert [row.lung_checksum for row in rows] == ["", ""]
    assert is_intact(rows, tmp_path / "ct")
    assert not is_intact(rows, tmp_path / "ct", tmp_path / "lung")


def test_what_was_unusual_about_a_scan_stands_in_its_rows(tmp_path):
    said = ["2 slices left out: no Rows; no Columns", "a single slice"]
    rows = write_scan([make_row("A", z) for z in range(2)], CT_HU, None, tmp_path / "ct", None, "code", said)
    assert {row.warnings for row in rows} == {"2 slices left out: no Rows, no Columns; a single slice"}


@pytest.mark.parametrize("kind", ["ct", "lung"])
@pytest.mark.parametrize("change", ["one pixel", "its neighbour", "other type", "other shape", "damaged", "gone"])
def test_a_slice_that_was_changed_is_refused_by_name_and_not_taken_as_done(rows, tmp_path, kind, change):
    path = slice_0(tmp_path, kind)
    image = np.load(path)
    if change == "one pixel":
        image[3, 4] += 1
        path.write_bytes(npy_bytes(image))
    elif change == "its neighbour":
        path.write_bytes(path.with_name("A_slice001.npy").read_bytes())
    elif change == "other type":
        path.write_bytes(npy_bytes(image.astype(np.float32)))
    elif change == "other shape":
        path.write_bytes(npy_bytes(image.T.copy()))
    else:
        path.write_bytes(b"no array") if change == "damaged" else path.unlink()
    assert not intact(tmp_path, rows)
    for read in (lambda: read_slice(tmp_path / kind, rows[0], kind), lambda: read_stack(tmp_path / kind, rows, kind)):
        with pytest.raises(LungError, match=rf"{kind}.A.A_slice000\.npy: ") as refused:
            read()
        if change not in ("damaged", "gone"):
            assert "is not the slice that manifest.csv lists; run the same python prep" in str(refused.value)
    np.testing.assert_array_equal(read_slice(tmp_path / "ct", rows[1], "ct"), np.maximum(CT_HU[1], -1024))


def test_rows_read_before_a_scan_was_made_again_do_not_take_its_new_slices(rows, tmp_path):
    write_scan(rows, CT_HU, ~LUNG, tmp_path / "ct", tmp_path / "lung", "code")  # the same CT, other labels
    assert read_stack(tmp_path / "ct", rows, "ct").shape == CT_HU.shape
    with pytest.raises(LungError, match="is not the slice that manifest"):
        read_stack(tmp_path / "lung", rows, "lung")


def test_a_slice_of_another_shape_than_its_neighbours_is_told(rows, tmp_path):
    slice_0(tmp_path, "ct").with_name("A_slice001.npy").write_bytes(npy_bytes(np.zeros((5, 4))))
    with pytest.raises(LungError, match=r"A_slice001\.npy: float64 \(5, 4\) is not the slice"):
        read_stack(tmp_path / "ct", rows, "ct")


def test_a_slice_put_in_by_hand_is_noticed(rows, tmp_path):
    slice_0(tmp_path, "lung").with_name("strange.npy").write_bytes(b"")
    assert not intact(tmp_path, rows)
    assert not intact(tmp_path, [replace(rows[0], scan="B", slice_name="B_slice000")])
