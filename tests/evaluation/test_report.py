"""What step 5 writes for report.html; what a header wrote stays text. Its clicks: test_report_clicks.py."""

import io
import json
import os
import re

import numpy as np
import pytest
from conftest import make_row
from PIL import Image
from report_pages import SLICES, make_rows, score, write_folder

from lungct.evaluation.figures import GREEN, RED, WINDOWS_HU
from lungct.evaluation.report import VIEW, report_bytes, report_row, result_files, thumbnail
from lungct.masks.predicted import slices_table


@pytest.fixture
def rows(tmp_path) -> list[dict]:
    return make_rows(tmp_path)


def data_of(page: bytes) -> dict:
    return json.loads(re.search(r'id="data">(.*)</script>', page.decode())[1])


def test_no_header_can_end_the_script(rows):
    text = report_bytes(rows).decode()
    assert len(re.findall("</script>", text)) == 2  # our own two
    assert "<img src=x" not in text


def test_display_windows_are_those_of_the_python_table(monkeypatch, rows):
    monkeypatch.setitem(WINDOWS_HU, "bone", (-7, 77))
    monkeypatch.setitem(WINDOWS_HU, "wide", (-8, 88))
    data = data_of(report_bytes(rows))
    assert data["windows_hu"] == {"lung": [-1350, 150], "mediastinum": [-160, 240], "bone": [-7, 77]}
    assert list(data["windows_hu"]) == ["lung", "mediastinum", "bone"]  # keys 1, 2, 3
    assert data["stored_hu"] == [-8, 88]


def test_scan_named_like_a_placeholder_keeps_its_name(rows):
    page = report_bytes([{**rows[0], "scan": name} for name in ("__DATA__", "__CSS__", "__JS__")])
    assert [scan["scan"] for scan in data_of(page)["scans"]] == ["__DATA__", "__CSS__", "__JS__"]
    assert not re.search("__[A-Z]+__", re.sub('id="data">.*', "", page.decode()))


def test_numbers_that_json_has_not_are_refused(rows):
    with pytest.raises(ValueError, match="not JSON compliant"):
        report_bytes([{**rows[0], "litres": float("nan")}])


def test_a_row_holds_what_the_page_shows_and_nothing_infinite(tmp_path):
    folder = tmp_path / "patient_A"
    write_folder(folder)
    (folder / VIEW / f"{SLICES[1]}.js").unlink()
    os.utime(folder, (0, 86400 * 365.25 * 30))
    empty = score("A", dice=0.0, hd95_mm=float("inf"), flags="no lung found; one lung only", seen_in_training="val")
    row = report_row(empty, None, folder, SLICES)
    assert row.pop("made").startswith("2000-01-0")
    assert row == {
        "scan": "A",
        "patient_id": "A",
        "folder": "patient_A",
        "slices": 5,
        "litres": 4.5,
        "dice": 0.0,
        "hd95_mm": None,
        "made_with": [],
        "coverage": None,
        "flags": ["no lung found", "one lung only"],
        "seen": "val",
        "views": 4,
        "weights": "",
        "fingerprint": "",
    }
    lung = np.zeros((5, 4, 5), bool)
    (folder / "slices.csv").write_bytes(slices_table([make_row("A", z) for z in range(5)], lung))
    assert len(report_row(empty, None, folder, SLICES)["fingerprint"]) == 16
    (folder / VIEW / "view.js").unlink()
    assert report_row(empty, None, folder, SLICES)["views"] == 0


@pytest.mark.parametrize(("png", "overlays"), [("all", range(12)), ("some", [0, 10]), ("none", [])])
def test_each_slice_has_a_mask_and_as_many_overlays_as_are_wanted(png, overlays):
    rows = [make_row("A", z) for z in range(12)]
    lung = np.zeros((12, 20, 30), np.uint8)
    lung[:, 5:15, 5:15], lung[:, 5:15, 9:15] = 1, 2
    files = result_files(rows, np.full(lung.shape, -600, np.int16), lung, None, png)
    assert {f"{row.slice_name}.npy" for row in rows} == {name for name in files if name.endswith(".npy")}
    np.testing.assert_array_equal(np.load(io.BytesIO(files["A_slice003.npy"])), lung[3] > 0)
    names = [f"A_slice{z:03d}" for z in overlays]
    wanted = {file for name in names for file in (f"{name}.png", f"{VIEW}/{name}.js")}
    assert set(files) - {f"{row.slice_name}.npy" for row in rows} == wanted | ({f"{VIEW}/view.js"} if names else set())


def test_the_prediction_is_red_and_the_reference_green():
    lung = np.zeros((1, 20, 30), np.uint8)
    lung[0, 5:15, 5:15] = 1
    truth = np.roll(lung, 10, axis=2) > 0
    ct_hu = np.full(lung.shape, -212, np.int16)  # half-way between -1024 and 600
    for reference in (None, truth):
        files = result_files([make_row("A", 0)], ct_hu, lung, reference, "all")
        image = np.asarray(Image.open(io.BytesIO(files["A_slice000.png"])).convert("RGB"))
        assert image[8, 5].tolist() == list(RED)
        assert (image[8, 24].tolist() == list(GREEN)) == (reference is not None)


@pytest.mark.parametrize(("shape", "size"), [((128, 100), (100, 128)), ((129, 200), (100, 65)), ((40, 60), (60, 40))])
def test_the_thumbnail_is_the_slice_with_most_lung_at_most_128_pixels_wide(shape, size):
    lung = np.zeros((3, *shape), bool)
    lung[:, :9, :9] = True
    lung[1, :20, :20] = True
    ct_hu = np.reshape([-1350, 150, -1350], (3, 1, 1)) * np.ones((1, *shape))
    picture = Image.open(io.BytesIO(thumbnail(ct_hu, lung)))
    assert picture.size == size
    assert np.asarray(picture.convert("L"))[-1, -1] > 250


def test_the_thumbnail_is_not_turned():
    ct_hu = np.full((1, 200, 300), -1350)
    ct_hu[:, :100, :150] = 150
    picture = np.asarray(Image.open(io.BytesIO(thumbnail(ct_hu, np.zeros(ct_hu.shape, bool)))).convert("L"))
    assert picture[10, 10] > 250
    assert picture[-10, 10] < 5
    assert picture[10, -10] < 5
