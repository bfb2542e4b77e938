"""Names, the manifest, and HU as stored."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_row

from lungct import LungError
from lungct.files import table_bytes
from lungct.slices import (
    SliceRow,
    StoredSlice,
    clip_ct,
    is_lung,
    lung_image,
    middle_indices,
    read_done,
    read_manifest,
    safe_name,
    slice_name,
    slice_pixels,
    write_manifest,
)


def row(scan: str = "A", z: int = 0) -> StoredSlice:
    return make_row(scan, z, x_mm=-3.5, y_mm=4.5, z_mm=2.5 * z, slice_mm=2.5, row_mm=0.7, col_mm=0.9)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("LIDC-IDRI-0001", "LIDC-IDRI-0001"),
        ("../../etc/passwd", "etc_passwd-3754d6cb"),
        ("C:\\x\ny\0z", "C_x_y_z-707b16c0"),
        ("con", "con-1143da2b"),
        ("", "unknown-e3b0c442"),
        ("..", "unknown-5ec1f7e7"),
        ("肺" * 5, "unknown-4e9dc590"),
        ("a" * 300, "a" * 71 + "-9835fa6b"),
    ],
)
def test_names_are_safe(text, name):
    assert safe_name(text) == name


def test_two_texts_never_have_one_name_and_a_name_is_its_own():
    texts = ["P/1", "P 1", "P_1", "P1.", "P1", "张三", "李四", "x" * 90, "x" * 91, "nul.txt", "_P1", "COM1"]
    names = [safe_name(text) for text in texts]
    assert len({name.casefold() for name in names}) == len(texts)
    assert [safe_name(name) for name in names] == names


def test_slice_names():
    assert slice_name("LIDC-IDRI-0001", 7) == "0001_slice007"
    assert slice_name("LIDC-IDRI-0001_scan2", 7) == "0001_scan2_slice007"
    assert slice_name("C3N-00247", 1234) == "C3N-00247_slice1234"


@pytest.mark.parametrize(
    ("total", "wanted", "indices"),
    [(20, 10, range(5, 15)), (21, 10, range(5, 15)), (7, 10, range(7)), (1, 10, range(1))],
)
def test_middle_indices(total, wanted, indices):
    assert middle_indices(total, wanted) == indices


def test_lung_is_read_back_exactly_whatever_its_hu():
    ct_hu = np.array([[-3024, -2048, -1024], [-850, 0, 4000]], np.int16)
    lung = np.array([[True, False, True], [False, True, True]])
    image = lung_image(ct_hu, lung)
    np.testing.assert_array_equal(is_lung(image), lung)
    np.testing.assert_array_equal(image, [[-1024, -2048, -1024], [-2048, 0, 3071]])
    assert image.dtype == clip_ct(ct_hu).dtype == np.int16


def test_manifest_is_typed_and_sorted(tmp_path):
    write_manifest(tmp_path / "manifest.csv", [row("B", 1), row("A", 10), row("A", 9), row("B", 0)])
    rows = read_manifest(tmp_path / "manifest.csv")
    assert [(r.scan, r.z_index) for r in rows] == [("A", 9), ("A", 10), ("B", 0), ("B", 1)]
    assert replace(rows[0], scan_checksum="", scans=0) == row("A", 9)


def test_missing_and_damaged_manifests_say_what_to_run(tmp_path):
    path = tmp_path / "manifest.csv"
    with pytest.raises(LungError, match=r"run first: python prepare_lung_image\.py"):
        read_manifest(path)
    path.write_text("scan,what\n1,2\n")
    with pytest.raises(LungError, match="not those of this version"):
        read_manifest(path)
    path.write_text(table_bytes([row()], StoredSlice).decode().replace("A_slice000,0", "A_slice000,zero"))
    with pytest.raises(LungError, match="damaged"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\nA,A,1.2,A_slice001,", "\nP9,A,1.2,A_slice001,"),
        (",0.7,0.9,", ",0.07,0.9,"),
        (",2.5,1 0 0 0 1 0,", ",3.5,1 0 0 0 1 0,"),
        (",all,", ",middle 10,"),
        (",12,segment_lung", ",13,segment_lung"),
    ],
    ids=["patient", "spacing", "z", "selection", "lung pixels"],
)
def test_changed_rows_are_refused_and_not_taken_as_done(tmp_path, capsys, old, new):
    path = tmp_path / "manifest.csv"
    write_manifest(path, [row("A", 0), row("A", 1), row("B", 0)])
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(LungError, match=r"rows of A were changed afterwards; make it again: python prep.* --test$"):
        read_manifest(path, "python prepare_lung_image.py --test")
    assert list(read_done(path)) == ["B"]
    assert "rows of A were changed afterwards; not used" in capsys.readouterr().out


def test_a_manifest_without_slices_is_refused(tmp_path):
    write_manifest(tmp_path / "manifest.csv", [])
    with pytest.raises(LungError, match="lists no slices; make it again: python"):
        read_manifest(tmp_path / "manifest.csv")


@pytest.mark.parametrize("change", ["left out", "twice"])
def test_a_row_that_was_left_out_or_put_in_is_noticed(tmp_path, change):
    path = tmp_path / "manifest.csv"
    write_manifest(path, [row("A", 0), row("A", 1), row("B", 0)])
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], *lines[3:]] if change == "left out" else [*lines[:3], *lines[2:]]))
    with pytest.raises(LungError, match="rows of A were changed"):
        read_manifest(path)


@pytest.mark.parametrize("lost", ["A", "B", "C"])
def test_a_scan_whose_rows_are_all_gone_is_noticed(tmp_path, lost):
    path = tmp_path / "manifest.csv"
    write_manifest(path, [row(scan, z) for scan in "ABC" for z in (0, 1)])
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith(f"{lost},")))
    with pytest.raises(LungError, match=r"lists 2 scans, but was written with 3; make it again: python prep.* --test$"):
        read_manifest(path, "python prepare_lung_image.py --test")
    assert list(read_done(path)) == [scan for scan in "ABC" if scan != lost]  # the step prepares the lost one alone


def test_rows_that_differ_in_how_many_scans_there_are_were_changed(tmp_path):
    path = tmp_path / "manifest.csv"
    write_manifest(path, [row(scan) for scan in "ABC"])
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], lines[3].removesuffix(",3") + ",2", ""]))
    with pytest.raises(LungError, match=r"manifest\.csv: rows were changed afterwards \(column scans\); make it again"):
        read_manifest(path)


def test_the_rows_of_a_scan_are_the_same_whatever_other_scans_are_listed(tmp_path):
    checksums = []
    for scans in ("A", "AB"):
        write_manifest(tmp_path / "manifest.csv", [row(scan) for scan in scans])
        checksums.append(read_manifest(tmp_path / "manifest.csv")[0].scan_checksum)
    assert checksums[0] == checksums[1]


def test_rows_are_read_back_with_all_their_digits(tmp_path):
    """Also numbers of NumPy, as a scan's geometry may have them."""
    odd = make_row("A", 0, x_mm=np.float64(0.1) + 0.2, z_mm=-1e-17, row_mm=1 / 3, rows=np.int64(4), lung_px=np.int64(3))
    write_manifest(tmp_path / "manifest.csv", [odd])
    (found,) = read_manifest(tmp_path / "manifest.csv")
    assert replace(found, scan_checksum="", scans=0) == odd


def test_a_manifest_of_an_earlier_version_is_refused_or_all_is_made_again(tmp_path, capsys):
    path = tmp_path / "manifest.csv"
    path.write_bytes(table_bytes([row()], SliceRow))
    with pytest.raises(LungError, match=r"not those of this version; make it again: python prepare_lung_image\.py"):
        read_manifest(path)
    assert read_done(path) == {}
    assert "every scan is prepared again" in capsys.readouterr().out


def test_pixels_of_a_mask_in_each_slice():
    assert slice_pixels(np.array([[[False, True]], [[True, True]], [[False, False]]])).tolist() == [1, 2, 0]
