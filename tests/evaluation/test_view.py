"""What the page shows of a scan: outlines counted by hand, planes at their places."""

import base64
import io
import json
import re

import numpy as np
import pytest
from conftest import make_row
from PIL import Image

from lungct.evaluation.view import from_head, masks_of, outline_path, planes, slice_script, view_script
from lungct.scans.geometry import even_slices

RUN = re.compile(r"M(\d+) (\d+)([hv])(\d+)")


def read_script(content: bytes) -> dict:
    return json.loads(re.fullmatch(r"receive\((.*)\);\n", content.decode())[1])


def picture(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/jpeg;base64,")))))


def two_lungs(slices: int = 6) -> np.ndarray:
    """Right lung in columns 2 to 4, left in 6 to 8, rows 1 to 3; most of both in slice 2."""
    sides = np.zeros((slices, 5, 11), np.uint8)
    sides[1:5, 1:4, 2:5], sides[1:5, 1:4, 6:9] = 1, 2
    sides[2, 4, 3], sides[2, 4, 7] = 1, 2
    return sides


def rows_of(slices: int) -> list:
    return [make_row("A", z, rows=5, columns=11) for z in range(slices)]


def test_an_outline_runs_along_the_edges_of_pixels():
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = True
    assert outline_path(mask) == "M2 1h3M2 3h3M2 1v2M5 1v2"
    assert outline_path(np.zeros((4, 6), bool)) == ""
    assert outline_path(np.ones((2, 3), bool)) == "M0 0h3M0 2h3M0 0v2M3 0v2"  # also at the rim of the picture


def test_an_outline_has_each_edge_between_mask_and_not_mask_once():
    mask = np.random.default_rng(1).random((13, 17)) > 0.5
    edges = np.zeros((2, 14, 18), int)
    for x, y, way, length in RUN.findall(outline_path(mask)):
        for n in range(int(length)):
            edges[(0, int(y), int(x) + n) if way == "h" else (1, int(y) + n, int(x))] += 1
    padded = np.pad(mask, 1)
    np.testing.assert_array_equal(edges[0, :, :17], (padded[1:] != padded[:-1])[:, 1:-1])
    np.testing.assert_array_equal(edges[1, :13], (padded[:, 1:] != padded[:, :-1])[1:-1])


def test_a_slice_has_its_picture_in_the_wide_window_and_an_outline_for_each_side():
    sides = two_lungs()[2]
    ct_hu = np.full(sides.shape, -212, np.int16)  # half-way between -1024 and 600
    data = read_script(slice_script(ct_hu, masks_of(sides, sides > 0)))
    assert picture(data["image"]).shape == (5, 11)
    assert picture(data["image"])[0, 0] == pytest.approx(127, abs=1)
    assert data["outlines"]["right"] == outline_path(sides == 1)
    assert data["outlines"]["left"] == outline_path(sides == 2)
    assert data["outlines"]["reference"] == outline_path(sides > 0)
    assert "reference" not in read_script(slice_script(ct_hu, masks_of(sides, None)))["outlines"]


def test_a_view_says_of_each_slice_where_it_lies_how_much_lung_it_has_and_how_well_it_agrees():
    sides = two_lungs()
    truth = sides > 0
    truth[1] = False
    truth[2, :, 5:] = False
    ct_hu = np.zeros(sides.shape, np.int16)
    data = read_script(view_script(rows_of(6), ct_hu, masks_of(sides, truth), range(0, 6, 2)))
    assert data["names"] == [f"A_slice{z:03d}" for z in range(6)]
    assert data["z_mm"] == [0, 5, 10, 15, 20, 25]
    assert data["shown"] == [0, 2, 4]
    assert (data["rows"], data["columns"], data["row_mm"], data["col_mm"]) == (5, 11, 2.0, 1.5)
    assert data["right_cm2"] == [0, 0.3, 0.3, 0.3, 0.3, 0]  # 9 or 10 pixels of 3 mm2
    assert data["dice"] == [1, 0, 0.6667, 1, 1, 1]
    assert read_script(view_script(rows_of(6), ct_hu, masks_of(sides, None), []))["dice"] is None


def test_planes_go_through_most_lung_and_have_the_head_above():
    sides = two_lungs()
    sides[3, 2, 4], sides[3, 2, 8] = 0, 0  # columns 3 and 7, row 1 have most, then
    ct_hu = np.full(sides.shape, -1024, np.int16)
    ct_hu[5] = 600
    coronal, right, left = planes(rows_of(6), ct_hu, masks_of(sides, None))
    assert (coronal["title"], coronal["at"], coronal["marks"]) == ("coronal", 1, "RL")
    assert [(plane["title"], plane["at"], plane["marks"]) for plane in (right, left)] == [
        ("sagittal, right lung", 3, "AP"),
        ("sagittal, left lung", 7, "AP"),
    ]
    assert (coronal["rows"], coronal["columns"], coronal["width_mm"], coronal["height_mm"]) == (6, 11, 16.5, 30)
    assert (right["columns"], right["width_mm"], right["top_mm"]) == (5, 10, 25)
    grey = picture(coronal["image"])
    assert grey[0].min() > 200
    assert grey[2:].max() < 50
    assert coronal["outlines"] == {"right": "M2 1h3M2 5h3M2 1v4M5 1v4", "left": "M6 1h3M6 5h3M6 1v4M9 1v4"}


def test_a_scan_without_lung_has_planes_through_its_middle():
    sides = np.zeros((6, 5, 11), np.uint8)
    cuts = planes(rows_of(6), np.zeros(sides.shape, np.int16), masks_of(sides, None))
    assert [plane["at"] for plane in cuts] == [2, 5, 5]
    assert cuts[0]["outlines"] == {"right": "", "left": ""}


def test_planes_keep_their_shape_where_slices_are_missing():
    index, z_mm = even_slices(np.array([0.0, 5.0, 20.0]), 5.0)
    assert index.tolist() == [0, 1, -1, -1, 2]
    assert z_mm.tolist() == [0, 5, 10, 15, 20]
    plane = from_head(np.array([[1], [2], [3]]), index, outside=-9)
    assert plane.ravel().tolist() == [3, -9, -9, 2, 1]
    assert even_slices(np.array([7.0]), 5.0)[0].tolist() == [0]


def test_planes_of_an_oblique_stack_are_as_high_as_its_slices_are_apart():
    """Tilted by 37 degrees: slices 5 mm apart are 4 mm apart in z."""
    rows = [
        make_row("A", z, rows=5, columns=11, y_mm=-3.0 * z, z_mm=4.0 * z, slice_mm=5.0, axes="1 0 0 0 0.8 0.6")
        for z in range(6)
    ]
    coronal, *_ = planes(rows, np.zeros((6, 5, 11), np.int16), masks_of(two_lungs(), None))
    assert (coronal["rows"], coronal["height_mm"], coronal["top_mm"]) == (6, 30, 25)
