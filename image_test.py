"""Viewer, for use after any step. Shows CT slices, with the outlines of reference (green) and predicted lungs (red).

Reads   a slice .npy, a patient's folder of slices, a DICOM file or folder, a NIfTI file
Writes  nothing; with --save one picture instead of a window: one slice, or an overview of several
Run     python image_test.py mydata/Image/ct/LIDC-IDRI-0001
        python image_test.py predictions/patient_LIDC-IDRI-0001 --save look.png
Keys    mouse wheel, arrow keys: slices; 1, 2, 3: lung, mediastinum, bone window; o: outline, filled, none; q: quit
"""

from lungct import LungError  # first: it says which package is missing

# isort: split
import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lungct.evaluation.figures import GREEN, RED, WINDOWS_HU, contact_sheet, overlay, save_png
from lungct.evaluation.metrics import dice
from lungct.files import read_npy
from lungct.scans.dicom import open_series, read_slices
from lungct.scans.find import open_largest
from lungct.scans.nifti import has_ending, open_nifti
from lungct.settings import CONF_NAME, default_values, load, make_record, run_step
from lungct.slices import is_lung, slice_order

SHEET_SLICES = 20
SHEET_COLUMNS = 5
STYLES = ("outline", "filled", "none")


@dataclass(frozen=True)
class ViewSettings:
    """Where image_test.py looks for what belongs to a slice."""

    lung_ct_path: Path
    lung_ct_test_path: Path
    predictions_path: Path


@dataclass(frozen=True)
class Stack:
    """What there is to see: ct_hu (Z, H, W), names, and reference and predicted lungs where there are any."""

    ct_hu: np.ndarray
    names: list[str]
    reference: np.ndarray | None = None
    predicted: np.ndarray | None = None

    def masks(self, z: int) -> tuple[list[np.ndarray], list[tuple]]:
        """The masks of a slice and their colours: green the reference, red the prediction."""
        pairs = [(self.reference, GREEN), (self.predicted, RED)]
        return [m[z] for m, _ in pairs if m is not None], [c for m, c in pairs if m is not None]

    def title(self, z: int) -> str:
        """Name, place and, where both masks are there, how well they agree."""
        text = f"{self.names[z]}  ({z + 1} of {len(self.names)})"
        if self.reference is not None and self.predicted is not None:
            text += f"  Dice {dice(self.reference[z], self.predicted[z]):.4f}"
        return text


def sister_folders(folder: Path, conf: Path) -> dict[str, Path]:
    """Where CT, reference and prediction of a patient's folder lie, by the roots in lung.conf and beside it."""
    scan = folder.name.removeprefix("patient_")
    values = load(conf) if conf.is_file() else default_values()
    settings = make_record(ViewSettings, values, conf.parent)
    ct_roots = [folder.parent, folder.parent.parent / "ct", settings.lung_ct_test_path, settings.lung_ct_path]
    if folder.parent.name == "lung" or folder.name.startswith("patient_"):
        ct_roots = ct_roots[1:]
    ct = next((root / scan for root in ct_roots if (root / scan).is_dir()), None)
    if ct is None:
        raise LungError(f"{folder}: no CT slices of {scan} beside it or in the folders of {conf}")
    predicted = folder if folder.name.startswith("patient_") else settings.predictions_path / f"patient_{scan}"
    found = {"ct": ct, "reference": ct.parent.parent / "lung" / scan, "predicted": predicted}
    return {kind: path for kind, path in found.items() if path.is_dir()}


def open_slices(folder: Path, conf: Path, only: str | None = None) -> Stack:
    """A patient's folder of .npy slices, or one slice of it, with all that belongs to it."""
    folders = sister_folders(folder, conf)
    names = sorted((p.stem for p in folders["ct"].glob("*.npy")), key=slice_order)
    names = [name for name in names if only in (None, name)]
    if not names:
        raise LungError(f"{folders['ct']} holds no {only or '*'}.npy")
    stacks = {}
    for kind, path in folders.items():
        if all((path / f"{name}.npy").is_file() for name in names):
            stacks[kind] = np.stack([read_npy(path / f"{name}.npy") for name in names])
    reference, predicted = stacks.get("reference"), stacks.get("predicted")
    return Stack(
        stacks["ct"],
        names,
        None if reference is None else is_lung(reference),
        None if predicted is None else predicted > 0,
    )


def open_dicom(path: Path) -> Stack:
    """One DICOM file, or the CT series with most slices below a folder."""
    if path.is_file():
        headers = read_slices(path)
        if not headers:
            raise LungError(f"{path}: neither .npy, NIfTI nor DICOM")
        scan = open_series([(path, header) for header in headers])
    else:
        scan = open_largest(path)
    return Stack(scan.read(), [f"{scan.patient_id}  z {z:.1f} mm" for z in scan.frame.z_mm])


def open_path(path: Path, conf: Path) -> Stack:
    """Whatever PATH is. Raises LungError for what is none of these."""
    if has_ending(path) and path.is_file():
        scan = open_nifti(path)
        return Stack(scan.read(), [f"{scan.patient_id}  z {z:.1f} mm" for z in scan.frame.z_mm])
    if path.suffix == ".npy":
        return open_slices(path.parent, conf, path.stem)
    if path.is_dir() and any(path.glob("*.npy")):
        return open_slices(path, conf)
    if path.exists():
        return open_dicom(path)
    raise LungError(f"{path} does not exist")


def draw(stack: Stack, z: int, window: str, style: str) -> np.ndarray:
    """One slice as it is shown: (H, W, 3) uint8."""
    masks, colours = stack.masks(z) if style != "none" else ([], [])
    image = overlay(stack.ct_hu[z], *(masks if style == "outline" else []), colours=colours, window=window)
    if style == "filled":
        for mask, colour in zip(masks, colours, strict=True):
            image[mask] = image[mask] // 2 + np.array(colour, np.uint8) // 4
    return image


def save_picture(stack: Stack, path: Path, window: str, style: str) -> None:
    """One slice at full size, or a contact sheet of a stack."""
    if len(stack.names) == 1:
        save_png(path, draw(stack, 0, window, style))
        return
    chosen = np.unique(np.linspace(0, len(stack.names) - 1, SHEET_SLICES).astype(int))
    tiles = [draw(stack, z, window, style) for z in chosen]
    save_png(path, contact_sheet(tiles, [stack.names[z] for z in chosen], SHEET_COLUMNS))


class Viewer:
    """A window that shows one slice at a time."""

    def __init__(self, stack: Stack, window: str, style: str):
        import matplotlib.pyplot as plt  # opens no screen when --save is given

        self.stack, self.window, self.style = stack, window, style
        self.z = len(stack.names) // 2
        self.figure, self.axes = plt.subplots(figsize=(8, 8), layout="constrained")
        self.axes.set_axis_off()
        self.image = self.axes.imshow(draw(stack, self.z, window, style))
        self.axes.format_coord = self.describe
        self.figure.canvas.mpl_connect("scroll_event", lambda event: self.move(1 if event.button == "up" else -1))
        self.figure.canvas.mpl_connect("key_press_event", self.press)
        self.update()

    def describe(self, x: float, y: float) -> str:
        """Row, column and HU under the cursor."""
        row, col = round(y), round(x)
        if not (0 <= row < self.stack.ct_hu.shape[1] and 0 <= col < self.stack.ct_hu.shape[2]):
            return ""
        return f"row {row}  column {col}  {self.stack.ct_hu[self.z, row, col]} HU"

    def move(self, step: int) -> None:
        """Go up or down, not past the ends."""
        self.z = min(max(self.z + step, 0), len(self.stack.names) - 1)
        self.update()

    def press(self, event) -> None:
        """The keys of the module's docstring; matplotlib itself closes the window on q."""
        if event.key in ("up", "right", "down", "left"):
            self.move(1 if event.key in ("up", "right") else -1)
        elif event.key in ("1", "2", "3"):
            self.window = list(WINDOWS_HU)[int(event.key) - 1]
            self.update()
        elif event.key == "o":
            self.style = STYLES[(STYLES.index(self.style) + 1) % len(STYLES)]
            self.update()

    def update(self) -> None:
        """Show the slice as it is now."""
        self.image.set_data(draw(self.stack, self.z, self.window, self.style))
        self.axes.set_title(f"{self.stack.title(self.z)}  {self.window} window")
        self.figure.canvas.draw_idle()


def main(argv: list[str] | None = None) -> None:
    """Open what PATH is; show it, or save a picture of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="slice .npy, patient folder, DICOM file or folder, NIfTI file")
    parser.add_argument("--conf", type=Path, default=Path(CONF_NAME), help="settings file (default: %(default)s)")
    parser.add_argument("--save", type=Path, metavar="PNG", help="write a picture instead of opening a window")
    parser.add_argument("--window", choices=WINDOWS_HU, default="lung", help="grey scale (default: %(default)s)")
    parser.add_argument("--style", choices=STYLES, default="outline", help="how lungs are drawn (default: %(default)s)")
    flags = parser.parse_args(argv)
    stack = open_path(flags.path, flags.conf)
    if flags.save:
        save_picture(stack, flags.save, flags.window, flags.style)
        print(f"wrote {flags.save}")
        return
    import matplotlib.pyplot as plt

    if plt.get_backend().lower() == "agg":
        raise LungError("there is no screen to open a window on; use --save look.png")
    viewer = Viewer(stack, flags.window, flags.style)
    plt.show()
    del viewer  # matplotlib holds its callbacks weakly; it must live until the window closes


if __name__ == "__main__":
    run_step(main)
