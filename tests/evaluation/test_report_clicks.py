"""report.html, clicked in a real browser: the list, a patient, a review; from a disk, without a network."""

import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_pages import HOSTILE, SHAPE, make_rows, write_folder

from lungct.evaluation.report import report_bytes
from lungct.masks.reviews import Review, read_reviews

WAIT_MS = 120_000  # of a machine that does other work beside it


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser_path is None:
        pytest.skip("no Chromium here")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page of headless Chromium that may not use the network, with a storage of its own."""
    context = browser.new_context(accept_downloads=True)
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda r: r.url.startswith(("file:", "data:", "blob:")) or page.problems.append(r.url))
    yield page
    context.close()
    assert not page.problems


@pytest.fixture
def rows(tmp_path) -> list[dict]:
    return make_rows(tmp_path)


def show(page, tmp_path: Path, rows: list[dict], at: str = "", **known) -> None:
    """Open the page anew, also where it is open already; by way of another page, storage may come a moment later."""
    (tmp_path / "report.html").write_bytes(report_bytes(rows, **known))
    page.goto((tmp_path / "report.html").as_uri() + at)
    if at:  # else only the view has changed
        page.reload()


def go(page, part: str, act: Callable) -> None:
    """Do what opens a part of the page, and wait until it is there: browsers tell of a new address a moment later."""
    act()
    page.wait_for_selector(part, state="visible")


def names(page) -> list[str]:
    return page.eval_on_selector_all("#rows tr", "rows => rows.map(row => row.dataset.scan)")


def open_bad(page, tmp_path: Path, rows: list[dict]) -> None:
    show(page, tmp_path, rows)
    go(page, "#patient", lambda: page.click("#rows tr[data-scan=Bad]"))
    page.wait_for_selector("#stage[data-slice]")


def wait_for_slice(page, number: int) -> None:
    """Until its picture and its outlines are on the screen."""
    page.wait_for_selector(f'#stage[data-slice="{number}"]')
    assert page.inner_text("#slice").startswith(f"Slice {number} (0 to 4) \u00b7 z \u2212{100 - 5 * number}.0 mm")


def mean_grey(page) -> float:
    """Of the CT as the screen shows it, in a corner where there is no outline."""
    picture = Image.open(io.BytesIO(page.locator("#stage").screenshot())).convert("L")
    return float(np.mean(np.asarray(picture)[5:20, 5:20]))


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
    page.select_option("#sort", label="Scan, A to Z")
    assert names(page)[1:] == ["Bad", "Flagged", "Good"]
    assert page.title() == "Predicted lungs"  # the hostile name and flag did nothing


def test_the_head_says_which_weights_when_how_many_and_how_good(page, tmp_path, rows):
    show(page, tmp_path, [{**row, "made": "2026-01-02 03:04"} for row in rows], weights="lung_unet.pth")
    assert page.inner_text("#about").split(" \u00b7 ") == [
        "4 scans",
        "weights lung_unet.pth (0a1b)",
        "predicted 2026-01-02 03:04",
        "mean Dice 0.7903, worst 0.4000 (3 with a reference)",
    ]
    show(page, tmp_path, [{**rows[2], "dice": None, "hd95_mm": None}])
    assert "Dice" not in page.inner_text("#list")  # nor a column of dashes


def test_search_finds_flags_and_the_training_set_and_filters_choose(page, tmp_path, rows):
    seen = [{**rows[0], "scan": "T", "seen": "train"}, {**rows[0], "scan": "V", "seen": "val"}]
    show(page, tmp_path, rows + seen)
    for words, found in (("DIAPHRAGM", ["Bad"]), ("in the training set", ["T"]), ("bad lung", ["Bad"]), ("xyz", [])):
        page.fill("#search", words)
        assert names(page) == found
    assert page.is_visible("#empty")
    page.fill("#search", "")
    page.select_option("#filter", "flagged")
    assert names(page) == ["Bad", "Flagged", HOSTILE]
    assert page.inner_text("#count") == "3 of 6"
    page.select_option("#filter", "seen")
    assert set(names(page)) == {"T", "V"}
    go(page, "#patient", lambda: page.click("#rows tr[data-scan=V]"))
    assert "patient was in the validation set" in page.inner_text("#flags")


def test_a_patient_opens_at_the_slice_that_a_flag_names(page, tmp_path, rows):
    open_bad(page, tmp_path, rows)
    wait_for_slice(page, 3)
    page.keyboard.press("ArrowUp")
    wait_for_slice(page, 4)
    page.click("#flags button")
    wait_for_slice(page, 3)


def test_a_patient_without_such_a_flag_opens_at_the_slice_with_most_lung(page, tmp_path, rows):
    open_bad(page, tmp_path, [{**rows[1], "flags": []}])
    wait_for_slice(page, 1)
    assert page.locator("#stage path").count() == 2
    assert "reference" not in page.inner_text("#legend")


def test_a_patient_with_a_reference_opens_at_the_lowest_dice(page, tmp_path, rows):
    truth = np.zeros(SHAPE, bool)
    truth[1:4, 10:20, 5:15] = truth[1:4, 10:20, 25:35] = True
    truth[2, 10:20, 5:15] = False
    write_folder(tmp_path / "patient_Bad", truth)
    open_bad(page, tmp_path, rows)
    wait_for_slice(page, 2)
    assert page.inner_text("#slice").endswith("Dice 0.667")  # 2 * 100 of 100 + 200 pixels
    assert page.locator("#profile .dice").count() == 1
    assert page.locator("#stage path.reference").get_attribute("d") == "M25 10h10M25 20h10M25 10v10M35 10v10"
    assert page.locator("#stage path.right").get_attribute("d") == "M5 10h10M5 20h10M5 10v10M15 10v10"


def test_what_was_measured_and_with_what_stands_with_a_scan(page, tmp_path, rows):
    measured = {"litres_right": 2.5, "mean_hu": -840.2, "laa950": 0.0312, "made_with": ["float32", "version 0.4.0"]}
    bad = next(row for row in rows if row["scan"] == "Bad")
    show(page, tmp_path, [{**bad, **measured}])
    go(page, "#patient", lambda: page.click("#rows tr[data-scan=Bad]"))
    facts = page.inner_text("#facts").split("\n")
    for title, text in (("Right, l", "2.50"), ("Mean HU", "-840"), ("Below -950 HU", "0.0312")):
        assert facts[facts.index(title) + 1] == text
    assert facts[facts.index("Made with") + 1] == "float32, version 0.4.0"
    assert "Mass, g" not in facts


def test_keys_wheel_slider_and_planes_change_the_slice(page, tmp_path, rows):
    open_bad(page, tmp_path, rows)
    page.keyboard.press("ArrowUp")
    wait_for_slice(page, 4)
    for _ in range(9):
        page.keyboard.press("ArrowDown")
    wait_for_slice(page, 0)
    page.locator("#stage").hover()
    page.mouse.wheel(0, -100)  # up: to the head, as in image_test.py
    wait_for_slice(page, 1)
    page.mouse.wheel(0, 100)
    wait_for_slice(page, 0)
    for _ in range(3):
        page.mouse.wheel(0, -15)  # a touchpad
    wait_for_slice(page, 1)
    page.fill("#slider", "4")
    wait_for_slice(page, 4)
    coronal = page.locator("#planes .picture").first
    box = coronal.bounding_box()
    coronal.click(position={"x": box["width"] / 2, "y": box["height"] * 0.5})  # the middle one of five
    wait_for_slice(page, 2)
    line = coronal.locator(".here")
    assert float(line.get_attribute("y1")) == 2.5
    page.locator("#profile").click(position={"x": 2, "y": 20})
    wait_for_slice(page, 0)


def test_planes_have_the_shape_of_the_body(page, tmp_path, rows):
    open_bad(page, tmp_path, rows)
    captions = page.locator("figcaption").all_inner_texts()
    assert captions == ["coronal", "sagittal, right lung", "sagittal, left lung"]
    ratios = [p["width"] / p["height"] for p in (q.bounding_box() for q in page.locator("#planes .picture").all())]
    assert ratios == pytest.approx([60 / 25, 60 / 25, 60 / 25], rel=0.02)  # 40 x 1.5 mm and 30 x 2 mm by 5 x 5 mm
    box = page.locator("#stage").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(1, rel=0.01)  # 60 mm square
    assert page.locator("#stage .mark").all_inner_texts() == ["R", "L"]
    marks = [mark.bounding_box()["x"] for mark in page.locator("#stage .mark").all()]
    assert marks[0] < box["x"] + box["width"] / 4 < marks[1]


def test_windows_and_hu_are_those_of_the_slice(page, tmp_path, rows):
    open_bad(page, tmp_path, [{**rows[1], "flags": []}])
    wait_for_slice(page, 1)
    assert mean_grey(page) == pytest.approx(255 * (-600 + 1350) / 1500, abs=6)  # the lung window, as if made from HU
    assert page.locator("#windows button").all_inner_texts() == ["Lung", "Mediastinum", "Bone"]
    page.keyboard.press("3")
    assert mean_grey(page) == pytest.approx(0, abs=6)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    wait_for_slice(page, 3)
    assert mean_grey(page) == pytest.approx(255 * (200 + 450) / 1500, abs=6)
    box = page.locator("#stage").bounding_box()
    for z, words in ((3, "about 200 HU"), (4, "600 HU or more"), (1, "about \u2212600 HU")):
        page.fill("#slider", str(z))
        wait_for_slice(page, z)
        page.mouse.move(box["x"] + box["width"] * 3.5 / 40, box["y"] + box["height"] * 4.5 / 30)
        assert page.inner_text("#cursor") == f"row 4, col 3: {words}"
        page.mouse.move(box["x"] + 1, box["y"] - 9)
        assert page.inner_text("#cursor") == ""


def test_outlines_are_hidden_one_by_one_or_all(page, tmp_path, rows):
    open_bad(page, tmp_path, rows)
    wait_for_slice(page, 3)
    page.click("#legend [data-outline=left]")
    assert page.eval_on_selector_all("#stage path", "paths => paths.map(p => p.getAttribute('class'))") == ["right"]
    assert page.locator("#planes path.left").count() == 0
    page.keyboard.press("o")
    assert page.locator("path:visible").count() == 0
    page.keyboard.press("o")
    page.keyboard.press("ArrowDown")
    wait_for_slice(page, 2)
    assert page.locator("#stage path").count() == 2
    width = page.eval_on_selector("#stage path", "path => getComputedStyle(path).vectorEffect")
    assert width == "non-scaling-stroke"


def test_next_and_previous_patient_follow_the_list(page, tmp_path, rows):
    show(page, tmp_path, rows)
    page.select_option("#sort", label="Litres, lowest first")
    go(page, "#patient", lambda: page.click("#rows tr[data-scan=Flagged]"))
    assert page.is_disabled("#previous")
    assert page.inner_text("#position") == "1 of 4"
    page.keyboard.press("n")
    assert page.inner_text("#name") == "Good"
    page.click("#next")
    page.wait_for_selector("#stage[data-slice='3']")
    assert page.inner_text("#name") == "Bad"
    page.keyboard.press("n")
    assert page.inner_text("#name") == HOSTILE
    assert page.is_disabled("#next")
    page.keyboard.press("n")
    page.keyboard.press("p")
    assert page.inner_text("#name") == "Bad"
    go(page, "#list", lambda: page.keyboard.press("Escape"))
    assert not page.is_visible("#patient")


def test_a_picture_that_comes_when_the_list_is_open_again_is_not_drawn(page, tmp_path, rows):
    open_bad(page, tmp_path, rows)
    go(page, "#list", lambda: page.keyboard.press("Escape"))
    page.evaluate("at('ct').onload()")  # as after a slow disk
    assert page.is_visible("#list")


def test_the_page_opens_where_it_was_left(page, tmp_path, rows):
    show(page, tmp_path, rows)
    page.select_option("#filter", "flagged")
    page.fill("#search", "lung")
    page.click("th[data-key=scan]")
    go(page, "#patient", lambda: page.click("#rows tr[data-scan=Bad]"))
    wait_for_slice(page, 3)
    page.keyboard.press("ArrowDown")
    page.wait_for_function("location.hash === '#Bad/2'")
    show(page, tmp_path, rows)
    wait_for_slice(page, 2)
    assert page.inner_text("#name") == "Bad"
    go(page, "#list", lambda: page.click("#back"))
    assert names(page) == ["Bad", "Flagged"]
    assert page.input_value("#search") == "lung"
    show(page, tmp_path, rows)
    assert page.is_visible("#list")
    show(page, tmp_path, rows, at="#Bad/4")
    wait_for_slice(page, 4)


def test_the_list_scrolls_back_to_where_it_was(page, tmp_path, rows):
    many = [{**rows[0], "scan": f"LIDC-IDRI-{n:04d}", "dice": 0.9 + n / 20000} for n in range(1000)]
    show(page, tmp_path, many + rows[1:2])
    assert page.inner_text("#count") == "1001 of 1001"
    assert names(page)[:2] == ["Bad", "LIDC-IDRI-0000"]
    page.evaluate("window.scrollTo(0, 20000)")
    page.wait_for_function("state.scroll === 20000")
    go(page, "#patient", lambda: page.evaluate("location.hash = 'LIDC-IDRI-0300'"))
    go(page, "#list", page.go_back)
    assert page.evaluate("scrollY") == 20000
    show(page, tmp_path, many + rows[1:2])
    assert page.evaluate("scrollY") == 20000
    page.fill("#search", "0999")
    assert names(page) == ["LIDC-IDRI-0999"]
    assert len(report_bytes(many)) < 400_000  # pictures stay in their files


def test_a_scan_without_pictures_says_how_to_make_them(page, tmp_path, rows):
    show(page, tmp_path, rows)
    go(page, "#patient", lambda: page.click("#rows tr[data-scan=Good]"))
    assert "python model_test.py --png all" in page.inner_text("#none")
    assert not page.is_visible("#viewer")
    go(page, "#list", page.go_back)
    assert not page.is_visible("#patient")


def test_a_scan_with_some_pictures_shows_those_and_says_so(page, tmp_path, rows):
    write_folder(tmp_path / "patient_Bad", png="some")
    show(page, tmp_path, [{**rows[1], "views": 1}])
    go(page, "#some", lambda: page.click("#rows tr[data-scan=Bad]"))
    assert page.inner_text("#some") == "1 of 5 slices have a picture. To make all, run python model_test.py --png all"
    page.keyboard.press("ArrowUp")
    wait_for_slice(page, 0)


def test_a_page_without_its_folders_says_so(page, tmp_path, rows):
    shutil.rmtree(tmp_path / "patient_Bad")
    show(page, tmp_path, rows)
    go(page, "#none", lambda: page.click("#rows tr[data-scan=Bad]"))
    assert "patient_Bad is not beside this page" in page.inner_text("#none")


def test_verdicts_are_kept_and_go_to_the_list_and_the_table(page, tmp_path, rows):
    open_bad(page, tmp_path, rows)
    page.keyboard.press("r")
    page.fill("#comment", 'stomach, "gas" \u00e4\n=1+1')
    assert page.get_attribute("#reject", "aria-pressed") == "true"
    page.keyboard.press("Escape")  # out of the comment
    page.keyboard.press("n")
    page.keyboard.press("a")
    page.keyboard.press("n")
    page.keyboard.press("a")
    page.keyboard.press("a")  # taken back
    show(page, tmp_path, rows)
    go(page, "#list", lambda: page.click("#back"))
    assert page.inner_text("#progress") == "1 accepted, 1 rejected, 2 to review"
    assert "rejected" in page.inner_text("tr[data-scan=Bad]")
    page.select_option("#filter", "accept")
    assert names(page) == ["Flagged"]
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "reviews.csv"
    download.value.save_as(tmp_path / "reviews.csv")
    found = {scan: (r.verdict, r.comment) for (scan, _), r in read_reviews(tmp_path / "reviews.csv").items()}
    assert found == {
        "Bad": ("reject", 'stomach, "gas" \u00e4 =1+1'),
        "Flagged": ("accept", ""),
        "Good": ("", ""),
        HOSTILE: ("", ""),
    }
    assert read_reviews(tmp_path / "reviews.csv")["Good", "f-Good"].weights == "0a1b"
    assert "--reviews" in page.inner_text("#saved")


def test_another_prediction_needs_another_review(page, tmp_path, rows):
    open_bad(page, tmp_path, rows)
    page.click("#accept")
    again = [{**row, "fingerprint": row["fingerprint"] + "2"} for row in rows]
    show(page, tmp_path, again)
    go(page, "#list", lambda: page.click("#back"))
    assert page.inner_text("#progress") == "0 accepted, 0 rejected, 4 to review"


def test_reviews_beside_the_predictions_are_shown_until_the_reader_changes_them(page, tmp_path, rows):
    known = {
        (scan, mark): Review(scan, scan, mark, "", "accept", "seen")
        for scan, mark in (("Bad", "f-Bad"), ("Good", "old"), ("Flagged", "f-Flagged"))
    }
    show(page, tmp_path, rows, reviews=known)
    assert page.inner_text("#progress") == "2 accepted, 0 rejected, 2 to review"
    go(page, "#patient", lambda: page.click("#rows tr[data-scan=Bad]"))
    assert page.input_value("#comment") == "seen"
    page.click("#accept")  # taken back
    show(page, tmp_path, rows, reviews=known)
    go(page, "#list", lambda: page.click("#back"))
    assert page.inner_text("#progress") == "1 accepted, 0 rejected, 3 to review"


def test_a_verdict_can_lead_to_the_next_scan(page, tmp_path, rows):
    open_bad(page, tmp_path, rows)
    page.check("#onward")
    page.keyboard.press("a")
    assert page.inner_text("#name") == "Flagged"
    page.keyboard.press("r")
    page.keyboard.press("c")
    page.keyboard.type("an or so")  # no keys of the page
    assert page.inner_text("#name") == HOSTILE
    assert page.input_value("#comment") == "an or so"


@pytest.mark.parametrize("width", [1400, 900, 800, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen(page, tmp_path, rows, width, scheme):
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    long = {**rows[1], "scan": "X" * 70, "fingerprint": "x", "flags": ["a very long flag " * 9]}
    for at in ("#", "#" + "X" * 70):
        show(page, tmp_path, [*rows, long], at=at)
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    colour = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    light = sum(map(int, re.findall(r"\d+", colour)[:3])) > 384
    assert light == (scheme == "light")
