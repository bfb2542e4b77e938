"""The page of all predictions, clicked in a real browser; what a header wrote stays text."""

import io
import json
import re
import shutil
from collections.abc import Callable
from urllib.parse import quote

import numpy as np
import pytest
from conftest import make_row
from PIL import Image

from lungct.evaluation.figures import GREEN, RED, WINDOWS_HU, jpeg_bytes, outline_png
from lungct.evaluation.report import (
    MEASURES,
    THUMBNAIL,
    VIEW,
    report_bytes,
    report_row,
    result_files,
    thumbnail,
)
from lungct.evaluation.scores import ScanScore

SLICES = [f"0001_slice{z:03d}" for z in range(5)]
HOSTILE = '<img src=x onerror="document.title=1"></script><script>document.title=2</script>'


def score(scan: str, **changes) -> ScanScore:
    return ScanScore(scan, patient_id=scan, slices=5, **{"litres": 4.5, **changes})


def write_folder(folder) -> None:
    """Five slices, each a grey of its own, with a square outlined."""
    (folder / VIEW).mkdir(parents=True)
    (folder / VIEW / THUMBNAIL).write_bytes(jpeg_bytes(np.full((30, 40), 99, np.uint8)))
    mask = np.zeros((30, 40), bool)
    mask[10:20, 10:30] = True
    for z, name in enumerate(SLICES):
        (folder / VIEW / f"{name}.jpg").write_bytes(jpeg_bytes(np.full((30, 40), 40 * z, np.uint8)))
        (folder / VIEW / f"{name}.png").write_bytes(outline_png(mask))


@pytest.fixture
def rows(tmp_path) -> list[dict]:
    """A good scan, a bad one, one with two flags and no Dice, one of a hostile name; the bad one has pictures."""
    write_folder(tmp_path / "patient_Bad")
    scores = [
        score("Good", dice=0.991, hd95_mm=1.2),
        score("Bad", dice=0.4, hd95_mm=30.0, flags="gas below the diaphragm"),
        score("Flagged", flags="one lung only; outside the usual 2 to 8 litres", litres=1.1),
        score(HOSTILE, dice=0.98, hd95_mm=2.0),
    ]
    folders = [tmp_path / f"patient_{name}" for name in ("Good", "Bad", "Flagged", "Hostile")]
    return [report_row(s, 0.5 if s.scan == "Good" else None, f, SLICES) for s, f in zip(scores, folders, strict=True)]


@pytest.fixture
def page():
    """A page of headless Chromium that may not use the network."""
    sync_api = pytest.importorskip("playwright.sync_api")
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser_path is None:
        pytest.skip("no Chromium here")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page()
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda r: r.url.startswith(("file:", "data:")) or page.problems.append(r.url))
        yield page
        browser.close()
        assert not page.problems


def show(page, tmp_path, rows) -> None:
    (tmp_path / "report.html").write_bytes(report_bytes(rows))
    page.goto((tmp_path / "report.html").as_uri())


def go(page, part: str, act: Callable) -> None:
    """Do what opens a part of the page, and wait until it is there: browsers tell of a new address a moment later."""
    act()
    page.wait_for_selector(part, state="visible")


def names(page) -> list[str]:
    return page.eval_on_selector_all("#rows tr", "rows => rows.map(row => row.dataset.scan)")


def test_no_header_can_end_the_script(rows):
    text = report_bytes(rows).decode()
    assert len(re.findall("</script>", text)) == 2  # our own two
    assert "<img src=x" not in text


def test_display_windows_are_those_of_the_python_table(monkeypatch, rows):
    monkeypatch.setitem(WINDOWS_HU, "bone", (-7, 77))
    monkeypatch.setitem(WINDOWS_HU, "wide", (-8, 88))
    text = report_bytes(rows).decode()
    windows = json.loads(re.search(r"const WINDOWS_HU = (.*);", text)[1])
    assert windows == {"lung": [-1350, 150], "mediastinum": [-160, 240], "bone": [-7, 77]}
    assert list(windows) == ["lung", "mediastinum", "bone"]  # keys 1, 2, 3
    assert json.loads(re.search(r"const STORED_HU = (.*);", text)[1]) == [-8, 88]


def test_scan_named_like_a_placeholder_keeps_its_name(rows):
    text = report_bytes([{**rows[0], "scan": "__WINDOWS_HU__"}]).decode()
    assert '"scan":"__WINDOWS_HU__"' in text


def test_numbers_that_json_has_not_are_refused(rows):
    with pytest.raises(ValueError, match="not JSON compliant"):
        report_bytes([{**rows[0], "litres": float("nan")}])


def test_a_row_holds_what_the_page_shows_and_nothing_infinite(tmp_path):
    write_folder(tmp_path / "patient_A")
    (tmp_path / "patient_A" / VIEW / f"{SLICES[1]}.jpg").unlink()
    empty = score("A", dice=0.0, hd95_mm=float("inf"), flags="no lung; one lung only", seen_in_training="val")
    row = report_row(empty, None, tmp_path / "patient_A", SLICES)
    assert row.pop("thumbnail").startswith("data:image/jpeg;base64,/9j/")
    assert row == {
        "scan": "A",
        "folder": "patient_A",
        "slices": 5,
        "litres": 4.5,
        "dice": 0.0,
        "hd95_mm": None,
        **dict.fromkeys(MEASURES),
        "made_with": [],
        "coverage": None,
        "flags": ["no lung", "one lung only"],
        "seen": "val",
        "views": [SLICES[0], *SLICES[2:]],
    }


@pytest.mark.parametrize(("png", "overlays"), [("all", range(12)), ("some", [0, 10]), ("none", [])])
def test_each_slice_has_a_mask_and_as_many_overlays_as_are_wanted(png, overlays):
    rows = [make_row("A", z) for z in range(12)]
    lung = np.zeros((12, 20, 30), bool)
    lung[:, 5:15, 5:15] = True
    files = result_files(rows, np.full(lung.shape, -600, np.int16), lung, None, png)
    assert {f"{row.slice_name}.npy" for row in rows} == {name for name in files if name.endswith(".npy")}
    np.testing.assert_array_equal(np.load(io.BytesIO(files["A_slice003.npy"])), lung[3])
    names = {f"A_slice{z:03d}" for z in overlays}
    assert set(files) - {f"{row.slice_name}.npy" for row in rows} == {
        file for name in names for file in (f"{name}.png", f"{VIEW}/{name}.jpg", f"{VIEW}/{name}.png")
    }


def test_the_prediction_is_red_and_the_reference_green():
    lung = np.zeros((1, 20, 30), bool)
    lung[0, 5:15, 5:15] = True
    truth = np.roll(lung, 10, axis=2)
    ct_hu = np.full(lung.shape, -212, np.int16)  # half-way between -1024 and 600
    for reference in (None, truth):
        files = result_files([make_row("A", 0)], ct_hu, lung, reference, "all")
        for name in ("A_slice000.png", f"{VIEW}/A_slice000.png"):
            image = np.asarray(Image.open(io.BytesIO(files[name])).convert("RGB"))
            assert image[8, 5].tolist() == list(RED)
            assert (image[8, 24].tolist() == list(GREEN)) == (reference is not None)
        stored = np.asarray(Image.open(io.BytesIO(files[f"{VIEW}/A_slice000.jpg"])))
        assert stored.shape == (20, 30)
        assert stored[0, 0] == pytest.approx(127, abs=1)


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


def test_worst_comes_first_and_heads_sort(page, tmp_path, rows):
    show(page, tmp_path, rows)
    assert names(page) == ["Bad", "Flagged", HOSTILE, "Good"]
    page.click("th[data-key=litres]")
    assert names(page)[0] == "Flagged"
    page.click("th[data-key=dice]")
    assert names(page) == ["Bad", HOSTILE, "Good", "Flagged"]  # what has no Dice stands last
    page.click("th[data-key=dice]")
    assert names(page) == ["Good", HOSTILE, "Bad", "Flagged"]
    assert page.get_attribute("th[data-key=dice]", "aria-sort") == "descending"
    assert page.title() == "Predicted lungs"  # the hostile name did nothing


def test_search_and_flagged_only(page, tmp_path, rows):
    show(page, tmp_path, rows)
    page.fill("#search", "diaphragm")
    assert names(page) == ["Bad"]
    page.fill("#search", "")
    page.check("#flagged")
    assert names(page) == ["Bad", "Flagged"]
    assert page.inner_text("#count") == "2 of 4"


def mean_grey(page) -> float:
    """Of the CT as the screen shows it, outline or not, in a corner where there is none."""
    picture = Image.open(io.BytesIO(page.locator("#stage").screenshot())).convert("L")
    return float(np.mean(np.asarray(picture)[5:20, 5:20]))


def test_a_click_opens_the_slices_with_outline_windows_and_keys(page, tmp_path, rows):
    show(page, tmp_path, rows)
    go(page, "#patient", lambda: page.click("#rows tr[data-scan=Bad]"))
    assert page.inner_text("#slice") == "slice 3 of 5"
    assert page.get_attribute("#ct", "src").endswith(f"patient_Bad/view/{quote(SLICES[2])}.jpg")
    page.wait_for_function("document.getElementById('ct').naturalWidth === 40")
    page.wait_for_function("document.getElementById('outline').naturalHeight === 30")
    lung, stored_hu = mean_grey(page), -1024 + 1624 * 80 / 255
    assert lung == pytest.approx(255 * (stored_hu + 1350) / 1500, abs=6)  # the lung window, as if made from HU
    assert page.locator("#windows button").all_inner_texts() == ["lung (1)", "mediastinum (2)", "bone (3)"]
    page.keyboard.press("3")
    assert mean_grey(page) == pytest.approx(max(0, 255 * (stored_hu + 450) / 1500), abs=6)
    page.keyboard.press("1")
    page.keyboard.press("ArrowUp")
    assert page.inner_text("#slice") == "slice 4 of 5"
    for _ in range(9):
        page.keyboard.press("ArrowDown")
    assert page.inner_text("#slice") == "slice 1 of 5"
    page.fill("#slider", "4")
    assert page.inner_text("#slice") == "slice 5 of 5"
    assert page.is_visible("#outline")
    page.keyboard.press("o")
    assert not page.is_visible("#outline")
    page.click("#overlay")
    assert page.is_visible("#outline")
    go(page, "#list", lambda: page.keyboard.press("Escape"))
    assert not page.is_visible("#patient")


def test_what_was_measured_stands_with_the_slices_of_a_scan(page, tmp_path):
    measured = {"litres_right": 2.5, "litres_left": 2.0, "mean_hu": -840.2, "perc15_hu": -920.0, "laa950": 0.0312}
    made = {"slice_mm": 2.5, "row_mm": 0.703125, "col_mm": 0.703125, "weights": "182480", "precision": "float32"}
    scan = score("A", **measured, **made, mass_g=720.4, lung_slices=4)
    show(page, tmp_path, [report_row(scan, None, tmp_path / "patient_A", SLICES)])
    go(page, "#patient", lambda: page.click("#rows tr[data-scan=A]"))
    facts = page.inner_text("#facts").split(" \u00b7 ")
    assert facts[2:9] == [
        *("right 2.50", "left 2.00", "mean HU -840", "15th percentile, HU -920", "share below -950 HU 0.0312"),
        *("mass, g 720", "slices with lung 4"),
    ]
    assert facts[9:] == ["voxel 0.703 x 0.703 x 2.5 mm", "float32", "weights 182480"]


def test_a_scan_without_pictures_says_how_to_make_them(page, tmp_path, rows):
    show(page, tmp_path, rows)
    go(page, "#patient", lambda: page.click("#rows tr[data-scan=Good]"))
    assert "--png all" in page.inner_text("#none")
    assert not page.is_visible("#viewer")
    go(page, "#list", page.go_back)
    assert not page.is_visible("#patient")


def test_scan_of_a_training_patient_says_so_in_list_and_view(page, tmp_path, rows):
    seen = [{**rows[0], "scan": "T", "seen": "train"}, {**rows[0], "scan": "V", "seen": "val"}]
    show(page, tmp_path, seen)
    assert "patient was in the training set" in page.inner_text("#rows tr[data-scan=T]")
    assert "patient was in the validation set" in page.inner_text("#rows tr[data-scan=V]")
    go(page, "#patient", lambda: page.click("#rows tr[data-scan=V]"))
    assert "patient was in the validation set" in page.inner_text("#facts")


def test_a_thousand_patients(page, tmp_path, rows):
    many = [{**rows[0], "scan": f"LIDC-IDRI-{n:04d}", "dice": 0.9 + n / 20000} for n in range(1000)]
    show(page, tmp_path, many + rows[1:2])
    assert page.inner_text("#count") == "1001 of 1001"
    assert names(page)[:2] == ["Bad", "LIDC-IDRI-0000"]
    page.fill("#search", "0999")
    assert names(page) == ["LIDC-IDRI-0999"]
