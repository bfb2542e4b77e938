"""The viewer, driven by the events that matplotlib sends; tests/test_image_test.py drives a real window."""

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from conftest import make_row
from matplotlib import pyplot as plt
from matplotlib.backend_bases import KeyEvent, MouseEvent

from lungct.evaluation.figures import GREEN, RED, SIDE_COLOURS
from lungct.evaluation.viewer import AXIAL, CORONAL, PRESETS, Mask, Stack, Viewer
from lungct.scans.geometry import frame_of
from lungct.slices import LEFT, RIGHT

RIGHT_COLOUR, LEFT_COLOUR = SIDE_COLOURS[RIGHT], SIDE_COLOURS[LEFT]
SHAPE = (30, 20, 40)  # slices, rows, columns
Z_MM = 6.0 * np.arange(30) - 50


def make_stack(z_mm: np.ndarray = Z_MM, **parts) -> Stack:
    """A volume whose values tell slice, row and column, in slices of 6 x 2 x 1.5 mm."""
    rows = [
        make_row("S", k, z_mm=z, slice_mm=6.0, row_mm=2.0, col_mm=1.5, rows=20, columns=40) for k, z in enumerate(z_mm)
    ]
    shape = (len(z_mm), *SHAPE[1:])
    ct_hu = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    return Stack("LIDC-IDRI-0001", ct_hu, frame_of(rows), **parts)


def make_masks() -> dict[str, Mask]:
    """A box, and one of half its columns, of which the Dice is 2 / 3."""
    box = np.zeros(SHAPE, bool)
    box[5:25, 4:12, 10:30] = True
    half = box.copy()
    half[:, :, 20:] = False
    return {"reference": Mask("reference", box, GREEN), "predicted": Mask("prediction", half, RED)}


@pytest.fixture
def open_viewer():
    """Opens viewers without a screen, and closes them."""
    before = matplotlib.get_backend()
    matplotlib.use("Agg")
    yield Viewer
    plt.close("all")
    matplotlib.use(before)


def press(viewer: Viewer, *keys: str) -> None:
    """Press keys with the pointer on the picture."""
    x, y = viewer.axes.transAxes.transform((0.5, 0.5))
    for key in keys:
        event = KeyEvent("key_press_event", viewer.figure.canvas, key, x, y)
        viewer.figure.canvas.callbacks.process(event.name, event)


def point(viewer: Viewer, name: str, x: float, y: float, **how) -> None:
    """Move the mouse or a button of it: pixels from the picture's middle."""
    middle = viewer.axes.transAxes.transform((0.5, 0.5))
    event = MouseEvent(name, viewer.figure.canvas, middle[0] + x, middle[1] + y, **how)
    viewer.figure.canvas.callbacks.process(event.name, event)


def title(viewer: Viewer) -> list[str]:
    """The lines above the picture."""
    return viewer.axes.get_title().splitlines()


@pytest.mark.parametrize(
    ("keys", "number"),
    [
        (["up"], 16),
        (["right"], 16),
        (["down"], 14),
        (["left"], 14),
        (["pageup"], 25),
        (["pageup", "pageup"], 29),
        (["pagedown"], 5),
        (["pagedown", "pagedown"], 0),
        (["home"], 0),
        (["end"], 29),
        (["end", "up"], 29),
        (["home", "left"], 0),
    ],
)
def test_keys_go_from_slice_to_slice(open_viewer, keys, number):
    viewer = open_viewer(make_stack())
    assert viewer.number == 15
    press(viewer, *keys)
    assert viewer.number == number
    assert viewer.slider.val == number
    np.testing.assert_array_equal(viewer.image.get_array(), viewer.stack.ct_hu[number])


def test_wheel_and_slider_go_from_slice_to_slice(open_viewer):
    viewer = open_viewer(make_stack())
    point(viewer, "scroll_event", 0, 0, button="up", step=1)
    assert viewer.number == 16
    point(viewer, "scroll_event", 0, 0, button="down", step=-1)
    point(viewer, "scroll_event", 0, 0, button="down", step=-1)
    assert viewer.number == 14
    viewer.slider.set_val(2)
    assert viewer.number == 2
    np.testing.assert_array_equal(viewer.image.get_array(), viewer.stack.ct_hu[2])


@pytest.mark.parametrize("key", ["l", "k", "L", "g", "o", "c", "left", "backspace", "v"])
def test_matplotlib_does_nothing_of_its_own_on_a_key(open_viewer, key):
    viewer = open_viewer(make_stack())
    press(viewer, key)
    assert (viewer.axes.get_xscale(), viewer.axes.get_yscale()) == ("linear", "linear")
    assert not viewer.axes.xaxis.get_gridlines()[0].get_visible()


def test_q_closes_the_window(open_viewer):
    viewer = open_viewer(make_stack())
    press(viewer, "q")
    assert not plt.fignum_exists(viewer.figure.number)


@pytest.mark.parametrize("button", [1, 3])
def test_drag_sets_level_and_width(open_viewer, button):
    """2 HU a pixel: 50 to the right are 100 more of the width 1500, 20 upwards 40 less of the level -600."""
    viewer = open_viewer(make_stack())
    assert title(viewer)[1] == "lung window, level -600, width 1500 HU"
    point(viewer, "button_press_event", 0, 0, button=button)
    point(viewer, "motion_notify_event", 30, 5, button=button)
    point(viewer, "motion_notify_event", 50, 20, button=button)
    point(viewer, "button_release_event", 50, 20, button=button)
    point(viewer, "motion_notify_event", 90, 90)
    assert title(viewer)[1] == "level -640, width 1600 HU"
    assert viewer.image.get_clim() == (-1440, 160)
    point(viewer, "button_press_event", 0, 0, button=button)
    point(viewer, "motion_notify_event", -5000, 0, button=button)
    assert title(viewer)[1] == "level -640, width 1 HU"


def test_middle_button_and_a_press_beside_the_picture_set_no_window(open_viewer):
    viewer = open_viewer(make_stack())
    for x, button in ((0, 2), (-2000, 3)):
        point(viewer, "button_press_event", x, 0, button=button)
        point(viewer, "motion_notify_event", x + 50, 20, button=button)
    assert viewer.window_hu == PRESETS["1"]


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("1", "lung window, level -600, width 1500 HU"),
        ("2", "mediastinum window, level 40, width 400 HU"),
        ("3", "bone window, level 300, width 1500 HU"),
        ("4", "wide window, level -212, width 1624 HU"),
    ],
)
def test_number_keys_choose_the_window(open_viewer, key, shown):
    viewer = open_viewer(make_stack(), "bone")
    press(viewer, key)
    assert title(viewer)[1] == shown
    low, high = viewer.image.get_clim()
    assert f"level {(low + high) / 2:.0f}, width {high - low:.0f} HU" in shown


def test_title_names_scan_file_place_and_agreement(open_viewer):
    names = tuple(f"0001_slice{z:03d}" for z in range(30))
    viewer = open_viewer(make_stack(names=names, **make_masks()))
    assert title(viewer)[0] == "LIDC-IDRI-0001  0001_slice015  (16 of 30)  z 40.0 mm"
    assert title(viewer)[1].endswith("HU  Dice 0.6667")
    press(viewer, "home")
    assert title(viewer)[1].endswith("HU  no lung")
    volume = open_viewer(make_stack())
    assert title(volume)[0] == "LIDC-IDRI-0001  slice 15  (16 of 30)  z 40.0 mm"


def test_right_and_left_of_the_patient_are_marked(open_viewer):
    """Columns run to the patient's left."""
    viewer = open_viewer(make_stack())
    for _ in range(2):
        marks = {text.get_text(): text.get_position()[0] for text in viewer.axes.texts}
        assert marks == {"R": 0.01, "L": 0.99}
        press(viewer, "c")


def test_legend_tells_reference_and_prediction(open_viewer):
    viewer = open_viewer(make_stack(**make_masks()))
    colours = {line.get_label(): line.get_color() for line in viewer.legend.legend_handles}
    assert colours == {
        "reference": pytest.approx(tuple(np.array(GREEN) / 255)),
        "prediction": pytest.approx(tuple(np.array(RED) / 255)),
    }
    assert open_viewer(make_stack()).legend is None


def test_right_and_left_lung_are_drawn_in_place_of_the_whole(open_viewer):
    masks = make_masks()
    half = masks["reference"].lung.copy()
    half[:, :, 20:] = False
    parts = [Mask("right lung", half, RIGHT_COLOUR), Mask("left lung", masks["reference"].lung & ~half, LEFT_COLOUR)]
    whole = Mask("a.seg.dcm", masks["reference"].lung, RED, tuple(parts))
    viewer = open_viewer(make_stack(reference=masks["reference"], predicted=whole))
    colours = {line.get_label(): line.get_color() for line in viewer.legend.legend_handles}
    assert list(colours) == ["reference", "right lung", "left lung"]
    assert colours["right lung"] == pytest.approx(tuple(np.array(RIGHT_COLOUR) / 255))
    ends = [(line.get_paths()[0].vertices.min(0)[0], line.get_paths()[0].vertices.max(0)[0]) for line in viewer.drawn]
    assert ends == [(9.5, 29.5), (9.5, 19.5), (19.5, 29.5)]
    assert "Dice 1.0000" in title(viewer)[1]  # of the whole
    press(viewer, "o")
    tint = viewer.fill.get_array()
    assert (tint[5, 15].tolist(), tint[5, 25].tolist()) == ([*RIGHT_COLOUR, 80], [*LEFT_COLOUR, 80])


def test_outlines_run_around_the_masks_and_o_changes_how_they_are_drawn(open_viewer):
    viewer = open_viewer(make_stack(**make_masks()))
    ends = [(line.get_paths()[0].vertices.min(0), line.get_paths()[0].vertices.max(0)) for line in viewer.drawn]
    np.testing.assert_array_equal(ends, [([9.5, 3.5], [29.5, 11.5]), ([9.5, 3.5], [19.5, 11.5])])  # (x, y)
    press(viewer, "o")
    tint = viewer.fill.get_array()
    assert viewer.drawn == []
    assert tint[5, 25].tolist() == [*GREEN, 80]
    assert tint[5, 15].tolist() == [*RED, 80]
    assert tint[0, 0, 3] == 0
    press(viewer, "o")
    assert not viewer.fill.get_array().any()
    assert not viewer.legend.get_visible()
    press(viewer, "o", "end")
    assert viewer.drawn == []  # no lung there, and no warning of matplotlib's


def test_coronal_has_a_line_for_each_slice_of_an_oblique_stack():
    """Tilted by 37 degrees: slices 6 mm apart are 4.8 mm apart in z."""
    z = np.arange(12)
    stack = make_stack(4.8 * z)
    corners_mm = np.column_stack([0 * z, -3.6 * z, 4.8 * z])
    frame = replace(stack.frame, corners_mm=corners_mm, axes=np.array([[1, 0, 0], [0, 0.8, 0.6]]))
    assert replace(stack, frame=frame).coronal_lines().tolist() == list(range(11, -1, -1))


def test_outlines_leave_the_picture_where_it_is(open_viewer):
    viewer = open_viewer(make_stack(**make_masks()))
    assert viewer.axes.get_xlim() == (-0.5, 39.5)
    assert viewer.axes.get_ylim() == (19.5, -0.5)


def test_coronal_shows_the_head_at_the_top_to_scale(open_viewer):
    viewer = open_viewer(make_stack(**make_masks()))
    assert viewer.axes.get_aspect() == 2.0 / 1.5
    press(viewer, "c")
    assert viewer.plane == CORONAL
    assert viewer.axes.get_aspect() == 6.0 / 1.5
    assert title(viewer)[0] == "LIDC-IDRI-0001  coronal, row 10  (11 of 20)"
    np.testing.assert_array_equal(viewer.image.get_array(), viewer.stack.ct_hu[::-1, 10])
    assert viewer.slider.valmax == 19
    press(viewer, "end")
    np.testing.assert_array_equal(viewer.image.get_array(), viewer.stack.ct_hu[::-1, 19])
    press(viewer, "c")
    assert (viewer.plane, viewer.number, viewer.slider.valmax) == (AXIAL, 15, 29)


def test_coronal_leaves_a_gap_between_slices_empty():
    """Slices at 0, 6, 12, 30 and 36.5 mm: two are missing, the last is a little off."""
    stack = make_stack(np.array([0.0, 6, 12, 30, 36.5]))
    assert stack.coronal_lines().tolist() == [4, 3, -1, -1, 2, 1, 0]
    picture = stack.cut(stack.ct_hu, CORONAL, 7, blank=-1024)
    assert (picture[2:4] == -1024).all()
    np.testing.assert_array_equal(picture[[0, 1, 4, 5, 6]], stack.ct_hu[[4, 3, 2, 1, 0], 7])


def test_cursor_says_where_it_is_and_the_hu(open_viewer):
    viewer = open_viewer(make_stack(np.array([0.0, 6, 12, 30])))
    assert viewer.value_at(2.2, 1.4) == f"slice 2  row 1  column 2  {viewer.stack.ct_hu[2, 1, 2]} HU"
    assert viewer.value_at(50, 1) == ""
    press(viewer, "c")
    assert viewer.value_at(3, 0) == f"slice 3  row 10  column 3  {viewer.stack.ct_hu[3, 10, 3]} HU"
    assert viewer.value_at(3, 1) == "no slice here"


def test_slices_of_unknown_place_are_shown_without_millimetres(open_viewer):
    viewer = open_viewer(Stack("P", np.zeros(SHAPE, np.int16), names=tuple(f"s{z}" for z in range(30))))
    assert title(viewer)[0] == "P  s15  (16 of 30)"
    press(viewer, "c")
    assert title(viewer)[0] == "P  coronal, row 10  (11 of 20)  not to scale: the spacing is not known"
    assert viewer.image.get_array().shape == (30, 40)


def test_a_single_slice_needs_no_slider(open_viewer):
    viewer = open_viewer(make_stack(np.array([4.0])))
    assert viewer.slider is None
    press(viewer, "up", "pagedown", "c", "c")
    assert title(viewer)[0] == "LIDC-IDRI-0001  slice 0  (1 of 1)  z 4.0 mm"
