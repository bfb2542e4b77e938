"""Viewer, for use after any step. Shows CT slices, with the outlines of reference (green) and predicted lungs (red;
where a mask tells them apart, the right lung red and the left one blue).

Reads   a slice .npy, a patient's folder of slices, a DICOM file or folder, a NIfTI, MetaImage or NRRD file;
        with --mask also a mask of that CT: .nii.gz, .seg.dcm, RTSTRUCT, .npz ...
Writes  nothing; with --save one picture instead of a window: one slice, or an overview of several
Run     python image_test.py mydata/Image/ct/LIDC-IDRI-0001
        python image_test.py predictions/patient_LIDC-IDRI-0001 --save look.png
        python image_test.py scan.nii.gz --mask predictions/patient_scan/scan.nii.gz
Keys    arrow keys: next slice; Page Up, Page Down: ten slices; Home, End: first and last
        1, 2, 3, 4: lung, mediastinum, bone, wide window; o: outline, filled, none; c: coronal and back
        f: full screen; p: move and enlarge; h: all of the picture again; s: save the window; q: quit
Mouse   wheel or slider: slices, counted from 0; drag: to the right for a wider window, upwards for a brighter one
"""

from lungct import LungError  # first: it says which package is missing

# isort: split
import argparse
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import numpy as np

from lungct.evaluation.figures import (
    RED,
    SIDE_COLOURS,
    WINDOWS_HU,
    Tile,
    contact_sheet,
    overlay,
    save_png,
    to_grey,
)
from lungct.evaluation.stacks import open_slices
from lungct.evaluation.viewer import AXIAL, STYLES, Mask, Stack, Viewer
from lungct.masks.predicted import FOLDERS, SLICES, check_ct_of_label
from lungct.masks.read import are_labels, read_lung
from lungct.masks.read_dicom import series_of
from lungct.masks.read_sides import read_sides
from lungct.scans.dicom import open_series, read_slices
from lungct.scans.find import open_largest
from lungct.scans.geometry import Scan
from lungct.scans.nifti import has_ending, open_nifti
from lungct.settings import CONF_NAME, run_step
from lungct.slices import LEFT, RIGHT

if TYPE_CHECKING:
    from matplotlib.backend_bases import TimerBase

SIDE_NAMES = {RIGHT: "right lung", LEFT: "left lung"}
SHEET_SLICES = 20
SHEET_COLUMNS = 5
POLL_MS = 200
NO_SCREEN = "there is no screen to open a window on; use --save look.png"
NO_TOOLKIT = (
    "this Python cannot open windows; install Tk (sudo apt install python3-tk) or Qt (pip install pyside6), "
    "or use --save look.png"
)


def show_scan(scan: Scan, ct_hu: np.ndarray, series_uid: str = "") -> Stack:
    """A CT as it is shown; says what is unusual about its files."""
    for warning in scan.warnings:
        print(f"warning {warning}")
    return Stack(scan.patient_id, ct_hu, scan.frame, series_uid=series_uid)


def open_volume(path: Path, conf: Path) -> Stack:
    """A NIfTI, MetaImage or NRRD file. Raises LungError for a mask whose CT is not found."""
    scan = open_nifti(path)
    ct_hu = scan.read()
    return open_mask(path, conf) if are_labels(ct_hu) else show_scan(scan, ct_hu)


def open_dicom(path: Path, conf: Path) -> Stack:
    """One DICOM file, or the CT series with most slices below a folder. Raises LungError, also for a mask."""
    if not path.is_file():
        scan = open_largest(path)
    elif series_of(path):
        return open_mask(path, conf)
    else:
        headers = read_slices(path)
        if not headers:
            raise LungError(f"{path}: neither .npy, NIfTI nor DICOM")
        scan = open_series([(path, header) for header in headers])
    return show_scan(scan, scan.read(), scan.series_uid)


def open_mask(path: Path, conf: Path) -> Stack:
    """A mask that was given as PATH: one of step 5 on its slices. Raises LungError for any other."""
    if path.parent.name.startswith(FOLDERS):
        return add_mask(open_slices(path.parent, conf, with_prediction=False), path)
    raise LungError(f"{path}: this is a mask; give its CT as PATH and this as --mask")


def add_mask(stack: Stack, path: Path) -> Stack:
    """A CT with the lungs of a mask file in place of the prediction. Raises LungError where it does not lie on it."""
    if not path.exists():
        raise LungError(f"{path} does not exist")
    if stack.frame is None:
        raise LungError(f"{stack.scan}: no manifest.csv says where its slices lie; give the scan itself as PATH")
    series = series_of(path)
    if stack.series_uid and series and stack.series_uid not in series:
        raise LungError(f"{path}: it is of series {' and '.join(sorted(series))}, and the CT is {stack.series_uid}")
    scan = Scan(stack.scan, stack.series_uid or stack.scan, (), stack.frame)
    if found := read_sides(path, scan):
        sides, warnings = found
        lung = sides > 0
        parts = [Mask(SIDE_NAMES[side], sides == side, colour) for side, colour in SIDE_COLOURS.items()]
    else:
        lung, warnings = read_lung(path, scan)
        parts = []
    folder = path if path.is_dir() else path.parent
    if (folder / SLICES).is_file():
        try:
            check_ct_of_label(folder, scan, range(len(scan)), stack.ct_hu)
        except LungError as error:
            warnings = (*warnings, error)
    for warning in warnings:
        print(f"warning {warning}")
    return replace(stack, predicted=Mask(path.name, lung, RED, tuple(parts)))


def open_path(path: Path, conf: Path) -> Stack:
    """Whatever PATH is. Raises LungError for what is none of these."""
    if not path.exists():
        raise LungError(f"{path} does not exist")
    if has_ending(path) and path.is_file():
        return open_volume(path, conf)
    if path.suffix == ".npz":
        return open_mask(path, conf)
    if path.suffix == ".npy":
        return open_slices(path.parent, conf, path.stem)
    if path.is_dir() and (any(path.glob("*.npy")) or (path / SLICES).is_file()):
        return open_slices(path, conf)
    return open_dicom(path, conf)


def tint(image: np.ndarray, masks: list[Mask], z: int) -> np.ndarray:
    """A slice (H, W, 3) with its masks in colour."""
    for mask in masks:
        image[mask.lung[z]] = image[mask.lung[z]] // 2 + np.array(mask.colour, np.uint8) // 4
    return image


def draw(stack: Stack, z: int, window: str, style: str) -> np.ndarray:
    """One slice at full size: (H, W, 3) uint8."""
    outlines = stack.masks if style == "outline" else []
    colours = [mask.colour for mask in outlines]
    image = overlay(stack.ct_hu[z], *(mask.lung[z] for mask in outlines), colours=colours, window=window)
    return tint(image, stack.masks if style == "filled" else [], z)


def draw_sheet(stack: Stack, window: str, style: str) -> np.ndarray:
    """Some slices from the first to the last, each with its place and Dice."""
    tiles = []
    for z in np.unique(np.linspace(0, len(stack.ct_hu) - 1, SHEET_SLICES).astype(int)):
        outlines = stack.masks if style == "outline" else []
        image = draw(stack, z, window, style) if style == "filled" else to_grey(stack.ct_hu[z], window)
        caption = stack.name(z) + stack.height(z) + stack.agreement(AXIAL, z)
        masks, colours = tuple(mask.lung[z] for mask in outlines), tuple(mask.colour for mask in outlines)
        tiles.append(Tile(image, caption, masks, colours))
    legend = {mask.name: mask.colour for mask in stack.masks} if style != "none" else {}
    return contact_sheet(tiles, min(SHEET_COLUMNS, len(tiles)), legend=legend, note=f"{stack.scan}, {window} window")


def close_on_interrupt(viewer: Viewer) -> "TimerBase":
    """Ctrl-C in the terminal closes the window, also while it is drawn, when Tk would print a traceback and go on."""
    import matplotlib.pyplot as plt

    stopped = Event()
    signal.signal(signal.SIGINT, lambda *_: stopped.set())
    timer = viewer.figure.canvas.new_timer(interval=POLL_MS)
    timer.add_callback(lambda: plt.close(viewer.figure) if stopped.is_set() else None)
    timer.start()
    return timer


def open_window(stack: Stack, window: str, style: str) -> None:
    """Show the viewer until it is closed. Raises LungError where no window can be opened."""
    import matplotlib.pyplot as plt

    has_screen = sys.platform in ("win32", "darwin") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    reason = NO_TOOLKIT if has_screen else NO_SCREEN
    if plt.get_backend().lower() == "agg":  # matplotlib's choice where it finds no other
        raise LungError(reason)
    try:
        viewer = Viewer(stack, window, style)
    except ImportError as error:  # of MPLBACKEND
        raise LungError(reason) from error
    timer = close_on_interrupt(viewer)
    plt.show()
    del viewer, timer  # matplotlib holds their callbacks weakly; they must live until the window closes


def main(argv: list[str] | None = None) -> None:
    """Open what PATH is; show it, or save a picture of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="slice .npy, patient folder, DICOM file or folder, NIfTI file")
    parser.add_argument("--mask", type=Path, metavar="FILE", help="a mask of this CT, shown as the prediction")
    parser.add_argument("--conf", type=Path, default=Path(CONF_NAME), help="settings file (default: %(default)s)")
    parser.add_argument("--save", type=Path, metavar="PNG", help="write a picture instead of opening a window")
    parser.add_argument("--window", choices=WINDOWS_HU, default="lung", help="grey scale (default: %(default)s)")
    parser.add_argument("--style", choices=STYLES, default="outline", help="how lungs are drawn (default: %(default)s)")
    flags = parser.parse_args(argv)
    stack = open_path(flags.path, flags.conf)
    if flags.mask:
        stack = add_mask(stack, flags.mask)
    if not flags.save:
        open_window(stack, flags.window, flags.style)
        return
    look = (flags.window, flags.style)
    save_png(flags.save, draw(stack, 0, *look) if len(stack.ct_hu) == 1 else draw_sheet(stack, *look))
    print(f"wrote {flags.save}")


if __name__ == "__main__":
    run_step(main)
