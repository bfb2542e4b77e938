"""The viewer as a script: what it opens, on which CT; and a real window where there is Xvfb, xdotool and Tk."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib
import nibabel
import numpy as np
import pytest
from conftest import ROOT, make_row, run, small_patient
from PIL import Image, ImageGrab

import image_test
from lungct import LungError
from lungct.evaluation.figures import BAR_PX, GREEN, RED, SIDE_COLOURS
from lungct.files import replace_file
from lungct.masks.segments import SIDES
from lungct.masks.source import DicomMask
from lungct.masks.write_dicom import seg_bytes
from lungct.masks.write_nifti import nifti_bytes
from lungct.masks.write_nrrd import nrrd_bytes
from lungct.masks.write_rtstruct import rtstruct_bytes
from lungct.phantom.lidc_tree import write_series
from lungct.scans import lidc
from lungct.scans.find import open_largest
from lungct.segmentation.left_right import split_left_right
from lungct.slices import LEFT, RIGHT, manifest_path, write_manifest

CONF = Path("no.conf")
RIGHT_COLOUR, LEFT_COLOUR = SIDE_COLOURS[RIGHT], SIDE_COLOURS[LEFT]
MASKS = ("whole.nii.gz", "sides_sides.nii.gz", "whole.seg.dcm", "whole.seg.nrrd", "whole.npz", "whole.npy")
NAMED = MASKS[:-1]  # a .npy is taken for a slice
KEYS_S, KEY_WAIT_S = 120, 0.1
HAS_SCREEN = all(map(shutil.which, ("Xvfb", "xdotool"))) and importlib.util.find_spec("_tkinter") is not None


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> tuple[Path, np.ndarray]:
    """A folder with a scan of twelve slices (`dicom`, `ct.nii.gz`) and masks of it, and its lungs (Z, H, W)."""
    folder = tmp_path_factory.mktemp("scan")
    patient = small_patient(0)
    middle = slice(len(patient.lung) // 2 - 6, len(patient.lung) // 2 + 6)
    ct_hu, lung = patient.ct_hu[middle], patient.lung[middle]
    write_series(folder / "dicom", lidc.scans_without_nodules()[0], ct_hu, patient.spacing_mm)
    opened = open_largest(folder / "dicom")
    sides = split_left_right(lung, patient.spacing_mm, (lung.shape[2] - 1) / 2)
    (folder / "whole.nii.gz").write_bytes(nifti_bytes(lung, opened.frame))
    (folder / "sides_sides.nii.gz").write_bytes(nifti_bytes(sides, opened.frame, SIDES))
    (folder / "whole.seg.nrrd").write_bytes(nrrd_bytes(sides, opened.frame, SIDES))
    (folder / "whole.seg.dcm").write_bytes(seg_bytes(DicomMask(sides, opened, "0", SIDES)))
    np.savez_compressed(folder / "whole.npz", lung=lung)
    np.save(folder / "whole.npy", lung)
    affine = nibabel.load(folder / "whole.nii.gz").affine
    nibabel.save(nibabel.Nifti1Image(ct_hu.transpose(2, 1, 0), affine), folder / "ct.nii.gz")
    return folder, lung


@pytest.mark.parametrize("ct", ["dicom", "ct.nii.gz"])
@pytest.mark.parametrize("mask", MASKS)
def test_every_mask_that_the_scripts_write_is_shown_on_its_ct(scan, ct, mask):
    folder, lung = scan
    stack = image_test.add_mask(image_test.open_path(folder / ct, CONF), folder / mask)
    np.testing.assert_array_equal(stack.predicted.lung, lung)
    assert (stack.predicted.name, stack.predicted.colour) == (mask, RED)
    drawn = {part.name: part.colour for part in stack.masks}
    one_colour = mask not in ("sides_sides.nii.gz", "whole.seg.dcm", "whole.seg.nrrd")
    assert drawn == ({mask: RED} if one_colour else {"right lung": RIGHT_COLOUR, "left lung": LEFT_COLOUR})
    if not one_colour:
        np.testing.assert_array_equal(stack.masks[0].lung | stack.masks[1].lung, lung)
        right, left = (np.nonzero(part.lung)[2].mean() for part in stack.masks)
        assert right < left  # columns run to the patient's left
    assert stack.reference is None


@pytest.mark.parametrize(
    ("name", "colours"), [("whole.nii.gz", [RED]), ("sides_sides.nii.gz", [RIGHT_COLOUR, LEFT_COLOUR])]
)
def test_picture_of_a_ct_with_its_mask(scan, tmp_path, name, colours):
    folder, _ = scan
    said = run("image_test.py", folder / "dicom", "--mask", folder / name, "--save", "a.png", cwd=tmp_path)
    assert said == "wrote a.png\n"
    sheet = np.asarray(Image.open(tmp_path / "a.png"))
    assert sheet.shape == (3 * (256 + BAR_PX) + BAR_PX, 5 * 256, 3)
    for colour in (RED, RIGHT_COLOUR, LEFT_COLOUR, GREEN):
        pixels = (sheet[:-BAR_PX] == colour).all(-1).sum()
        assert pixels > 1000 if colour in colours else pixels == 0


@pytest.mark.parametrize("name", NAMED)
def test_a_mask_in_the_place_of_the_ct_is_pointed_out(scan, tmp_path, name):
    folder, _ = scan
    said = run("image_test.py", folder / name, "--save", "a.png", cwd=tmp_path, status=1)
    assert said.startswith(f"image_test.py: {folder / name}: this is a mask; give its CT as PATH and this as --mask")
    assert not (tmp_path / "a.png").exists()


def test_a_ct_in_the_place_of_the_mask_is_pointed_out(scan):
    folder, _ = scan
    with pytest.raises(LungError, match="are no labels"):
        image_test.add_mask(image_test.open_path(folder / "dicom", CONF), folder / "ct.nii.gz")


def test_a_mask_of_another_place_is_refused(scan, tmp_path):
    folder, _ = scan
    image = nibabel.load(folder / "whole.nii.gz")
    moved = image.affine.copy()
    moved[0, 3] += 10
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), moved), tmp_path / "moved.nii.gz")
    flags = (folder / "dicom", "--save", "a.png", "--mask")
    said = run("image_test.py", *flags, tmp_path / "moved.nii.gz", cwd=tmp_path, status=1)
    assert "does not lie on the CT" in said
    assert "none.nii.gz does not exist" in run("image_test.py", *flags, "none.nii.gz", cwd=tmp_path, status=1)


@pytest.mark.parametrize("name", ["other.seg.dcm", "other.rtstruct.dcm"])
def test_a_mask_of_another_series_at_the_same_place_is_refused(scan, slices, tmp_path, name):
    folder, lung = scan
    opened = open_largest(folder / "dicom")
    who = lidc.LidcScan(opened.patient_id, "1.2.9", "1.2.999")
    write_series(tmp_path / "other", who, opened.read(), opened.frame.spacing_mm)
    on_scan = DicomMask(lung.astype(np.uint8), open_largest(tmp_path / "other"), "0")
    (tmp_path / name).write_bytes((seg_bytes if "seg" in name else rtstruct_bytes)(on_scan))
    with pytest.raises(LungError, match=rf"{name}: it is of series 1\.2\.999, and the CT is "):
        image_test.add_mask(image_test.open_path(folder / "dicom", CONF), tmp_path / name)
    assert image_test.add_mask(image_test.open_path(folder / "ct.nii.gz", CONF), tmp_path / name).predicted
    ct, _ = slices
    with pytest.raises(LungError, match=r"it is of series 1\.2\.999, and the CT is 1\.2$"):
        image_test.add_mask(image_test.open_path(ct, CONF), tmp_path / name)


def test_slices_know_their_place_by_the_manifest(slices, tmp_path):
    ct, lung = slices
    for path in (ct, tmp_path / "predictions" / "patient_P"):
        stack = image_test.open_path(path, tmp_path / "lung.conf")
        assert stack.frame.z_mm.tolist() == [-20, -12.5, -5]
        assert stack.frame.spacing_mm == (5.0, 2.0, 1.5)
        assert stack.scan == "P"
        np.testing.assert_array_equal(stack.reference.lung, lung)
        np.testing.assert_array_equal(stack.predicted.lung, np.roll(lung, 2, 2))
    one = image_test.open_path(ct / "P_slice001.npy", tmp_path / "lung.conf")
    assert (one.names, one.frame.z_mm.tolist()) == (("P_slice001",), [-12.5])


@pytest.mark.parametrize("fault", ["none", "damaged", "of others", "other shape"])
def test_slices_without_a_place_are_shown_but_take_no_mask(slices, tmp_path, fault):
    ct, lung = slices
    manifest = manifest_path(ct.parent)
    rows = [make_row("P", z) for z in range(3 if fault == "other shape" else 2)]
    manifest.unlink() if fault == "none" else write_manifest(manifest, rows)
    if fault == "damaged":
        manifest.write_text("a,b\n1,2\n")
    stack = image_test.open_path(ct, tmp_path / "lung.conf")
    assert stack.frame is None
    assert stack.ct_hu.shape == lung.shape
    np.save(tmp_path / "mask.npy", lung)
    with pytest.raises(LungError, match=r"P: no manifest.csv says where its slices lie"):
        image_test.add_mask(stack, tmp_path / "mask.npy")


def test_a_volume_that_step_5_wrote_is_shown_on_the_slices_it_was_made_from(slices, tmp_path):
    ct, lung = slices
    frame = image_test.open_path(ct, tmp_path / "lung.conf").frame
    path = tmp_path / "predictions" / "patient_P" / "P.nii.gz"
    labels = lung.astype(np.uint8)
    labels[:, :, 12:] *= 2
    replace_file(path, nifti_bytes(labels, frame, SIDES))  # these slices lie 7.5 mm apart
    stack = image_test.open_path(path, tmp_path / "lung.conf")
    np.testing.assert_array_equal(stack.predicted.lung, lung)
    np.testing.assert_array_equal(stack.reference.lung, lung)
    assert stack.predicted.name == "P.nii.gz"


def test_labels_that_a_later_step_4_was_not_given_are_no_reference_any_more(scan, tmp_path):
    folder, lung = scan
    flags = ("--test", "--nifti", folder / "ct.nii.gz")
    run("prepare_lung_image.py", *flags, "--labels", folder / "whole.npz", cwd=tmp_path)
    (ct,) = (tmp_path / "mydata/Image_test/ct").iterdir()
    np.testing.assert_array_equal(image_test.open_path(ct, CONF).reference.lung, lung)
    run("prepare_lung_image.py", *flags, cwd=tmp_path)
    assert image_test.open_path(ct, CONF).reference is None


def test_what_is_unusual_about_the_files_of_a_ct_is_said(scan, tmp_path, capsys):
    """Of a NIfTI file without orientation the marks R and L are a guess."""
    folder, _ = scan
    image_test.open_path(folder / "ct.nii.gz", CONF)
    assert "warning" not in capsys.readouterr().out
    image = nibabel.load(folder / "ct.nii.gz")
    image.header.set_sform(None, code=0)
    image.header.set_qform(None, code=0)
    nibabel.save(nibabel.Nifti1Image(image.dataobj, None, image.header), tmp_path / "ct.nii")
    image_test.open_path(tmp_path / "ct.nii", CONF)
    assert "warning the file says nothing of left and right" in capsys.readouterr().out
    shutil.copytree(folder / "dicom", tmp_path / "dicom")
    sorted((tmp_path / "dicom").rglob("*.dcm"))[5].unlink()
    image_test.open_path(tmp_path / "dicom", CONF)
    assert "warning slices missing in 1 place" in capsys.readouterr().out


def test_single_slice_is_saved_as_it_is_and_filled_in_colour(slices, tmp_path):
    ct, _ = slices
    for style, red in (("outline", 255), ("filled", 236 // 2 + 255 // 4)):  # 236: 40 HU in the lung window
        run("image_test.py", ct / "P_slice001.npy", "--save", "a.png", "--style", style, cwd=tmp_path)
        image = np.asarray(Image.open(tmp_path / "a.png"))
        assert image.shape == (24, 30, 3)
        assert image[7, 21, 0] == red
    run("image_test.py", ct / "P_slice001.npy", "--save", "a.png", "--style", "none", cwd=tmp_path)
    image = np.asarray(Image.open(tmp_path / "a.png"))
    assert (image[..., 0] == image[..., 1]).all()


@pytest.mark.parametrize(
    ("platform", "display", "words"),
    [
        ("linux", None, "there is no screen to open a window on; use --save look.png"),
        ("linux", ":0", "sudo apt install python3-tk"),
        ("linux", ":0", "pip install pyside6"),
        ("win32", None, "pip install pyside6"),
    ],
)
def test_where_no_window_opens_it_says_what_is_missing(slices, tmp_path, monkeypatch, platform, display, words):
    ct, _ = slices
    monkeypatch.setattr(sys, "platform", platform)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if display:
        monkeypatch.setenv("DISPLAY", display)
    before = matplotlib.get_backend()
    matplotlib.use("Agg")
    assert words in run("image_test.py", ct, cwd=tmp_path, status=1)
    matplotlib.use(before)


@pytest.fixture(scope="module")
def screen() -> Iterator[str]:
    """A display without a monitor."""
    if not HAS_SCREEN:
        pytest.skip("needs Xvfb, xdotool and Tk")
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", "1000x1000x24", "-nolisten", "tcp", "-noreset"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        yield f":{server.stdout.readline().strip()}"
        server.terminate()


class Window:
    """The window of a running viewer; its title says what it shows."""

    def __init__(self, screen: str, *flags: object):
        self.env = {**os.environ, "DISPLAY": screen, "MPLBACKEND": "TkAgg", "PYTHONPATH": ""}
        command = [sys.executable, str(ROOT / "image_test.py"), *map(str, flags)]
        self.process = subprocess.Popen(
            command, env=self.env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def xdotool(self, *words: object) -> str:
        done = subprocess.run(
            ["xdotool", *map(str, words)], env=self.env, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout.strip()

    def title(self) -> str:
        found = self.xdotool("search", "--name", "slice|coronal").split()
        return self.xdotool("getwindowname", found[-1]) if found else ""

    def wait(self, is_so: Callable[[str], bool]) -> str:
        """The title once it is so; fails where it does not become so."""
        until = time.monotonic() + KEYS_S
        while not is_so(title := self.title()):
            assert time.monotonic() < until, title
            assert self.process.poll() is None, self.process.stderr.read()
            time.sleep(KEY_WAIT_S)
        return title

    def end(self) -> tuple[int, str]:
        """(exit status, what was printed) once it has ended."""
        printed = "".join(self.process.communicate(timeout=KEYS_S))
        return self.process.returncode, printed


def columns_of(screen: str, *colours: tuple[int, int, int]) -> list[np.ndarray]:
    """Where on the screen there are pixels of each colour: their columns."""
    shown = np.asarray(ImageGrab.grab(xdisplay=screen).convert("RGB")).astype(int)
    return [np.nonzero((abs(shown - colour) < 12).all(-1))[1] for colour in colours]


@pytest.fixture
def window(screen, scan) -> Iterator[Window]:
    folder, _ = scan
    window = Window(screen, folder / "dicom", "--mask", folder / "whole.seg.dcm")
    try:
        window.wait(lambda title: "(7 of 12)" in title)
        window.xdotool("windowfocus", "--sync", window.xdotool("search", "--name", "slice").split()[-1])
        yield window
    finally:
        window.process.kill()
        window.process.communicate()


def test_real_window_answers_to_keys_mouse_and_slider(window):
    for key, words in (
        ("Prior", "(12 of 12)"),
        ("Home", "(1 of 12)"),
        ("Right", "(2 of 12)"),
        ("l", "(2 of 12)"),
        ("Left", "(1 of 12)"),
        ("End", "(12 of 12)"),
        ("Next", "(2 of 12)"),
        ("2", "mediastinum window, level 40, width 400 HU"),
        ("c", "coronal, row 88  (89 of 176)"),
        ("c", "(2 of 12)"),
    ):
        window.xdotool("key", key)
        window.wait(lambda title, words=words: words in title)
    window.xdotool("mousemove", 400, 400, "mousedown", 3)
    window.xdotool("mousemove", 450, 380, "mouseup", 3)
    window.wait(lambda title: "level 0, width 500 HU" in title)
    window.xdotool("mousemove", 400, 400, "click", 4)
    window.wait(lambda title: "(3 of 12)" in title)
    window.xdotool("mousemove", 710, 879, "click", 1)
    window.wait(lambda title: "(12 of 12)" in title)
    window.xdotool("key", "q")
    assert window.end() == (0, "")


def test_real_window_shows_right_and_left_in_the_colours_of_the_report(window, screen):
    css = (ROOT / "lungct/evaluation/page/page.css").read_text(encoding="utf-8")
    for side, colour in (("right", RIGHT_COLOUR), ("left", LEFT_COLOUR)):
        assert f"--{side}: #{bytes(colour).hex()}" in css
    until = time.monotonic() + KEYS_S
    while min(map(len, columns := columns_of(screen, RIGHT_COLOUR, LEFT_COLOUR))) < 300:
        assert time.monotonic() < until, list(map(len, columns))
        time.sleep(KEY_WAIT_S)
    assert np.median(columns[0]) + 100 < np.median(columns[1])  # the patient's right lies on the left


def test_ctrl_c_closes_the_window_without_a_word(window):
    window.process.send_signal(signal.SIGINT)
    assert window.end() == (0, "")
