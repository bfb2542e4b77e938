"""The slices of a patient's folder as the viewer shows them: the CT, and the lungs that are known to be of it.

Z slices, H rows, W columns.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lungct import LungError
from lungct.evaluation.figures import GREEN, RED
from lungct.evaluation.results import show_command
from lungct.evaluation.viewer import Mask, Stack
from lungct.files import read_earlier_table, read_npy
from lungct.masks.predicted import FOLDERS, PREDICTED, SET_ASIDE, SLICES, check_ct
from lungct.parallel import some_of
from lungct.scans.geometry import Frame, frame_of
from lungct.settings import default_values, load, make_record
from lungct.slices import DICOM_UID, SliceRow, is_lung, manifest_path, read_manifest, safe_name, slice_order

SLICE_FOLDERS = ("ct", "lung")  # that hold the patients' folders of slices


@dataclass(frozen=True)
class ViewSettings:
    """Where image_test.py looks for what belongs to a slice."""

    lung_ct_path: Path
    lung_ct_test_path: Path
    predictions_path: Path


def is_predicted(folder: Path) -> bool:
    """Whether a patient's folder is one of step 5, and not one of slices whose patient is called patient_1, say."""
    return folder.name.startswith(FOLDERS) and folder.absolute().parent.name not in SLICE_FOLDERS


def scan_of(folder: Path) -> str:
    """The scan that a patient's folder is of, by its name; one that was set aside may have a number at its end."""
    if not is_predicted(folder):
        return folder.name
    rows = read_earlier_table(folder / SLICES, SliceRow) if folder.name.startswith(SET_ASIDE) else []
    return safe_name(rows[0].scan) if rows else folder.name.removeprefix(SET_ASIDE).removeprefix(PREDICTED)


def find_folders(folder: Path, conf: Path) -> tuple[list[Path], Path]:
    """Where the CT of a patient's folder may lie, by the roots in lung.conf and beside it; and where its prediction.

    Raises LungError where there is no CT. A folder of CT slices, or of lungs beside them, has that CT alone.
    """
    scan, is_prediction = scan_of(folder), is_predicted(folder)
    values = load(conf) if conf.is_file() else default_values()
    settings = make_record(ViewSettings, values, conf.parent)
    roots = [folder.parent, folder.parent.parent / "ct", settings.lung_ct_test_path, settings.lung_ct_path]
    if folder.parent.name == "lung" or is_prediction:
        roots = roots[1:]
    found = [root / scan for root in roots if (root / scan).is_dir()]
    if not found:
        raise LungError(f"{folder}: no CT slices of {scan} beside it or in the folders of {conf}{on_own_files(folder)}")
    if is_prediction:
        return found, folder
    return found[:1], settings.predictions_path / f"{PREDICTED}{scan}"


def on_own_files(folder: Path) -> str:
    """How to see masks of step 5 on the files that their scan was read from, as the end of a line.

    Empty where no place is known, or nothing is there any more.
    """
    rows = read_earlier_table(folder / SLICES, SliceRow)
    place = (folder.parent.resolve() / rows[0].source).resolve() if rows else None  # as `source_of` counts
    if place is None or not place.exists():
        return ""
    return f"; to see it on its own files, run: {show_command(folder, rows[0].scan, place)}"


def read_named(folder: Path, names: list[str]) -> np.ndarray:
    """The slices of a folder, (Z, H, W). Raises LungError where they are damaged, or not of one size."""
    slices = [read_npy(folder / f"{name}.npy") for name in names]
    if len({image.shape for image in slices}) > 1:
        raise LungError(f"{folder}: its slices are not of one size")
    return np.stack(slices)


def choose_ct(folders: list[Path], predicted: Path) -> tuple[Path, list[str], np.ndarray, LungError | None]:
    """The first CT that a prediction is of, else the first with why it is not: (folder, names, (Z, H, W) HU, reason).

    Where there is no prediction it is the first, without a reason. Raises LungError for a folder without slices.
    """
    first = None
    for folder in folders:
        names = sorted((path.stem for path in folder.glob("*.npy")), key=slice_order)
        if not names:
            raise LungError(f"{folder} holds no *.npy")
        ct_hu = read_named(folder, names)
        try:
            if predicted.is_dir():
                check_ct(predicted, names, ct_hu)
        except LungError as error:
            first = first or (folder, names, ct_hu, error)
        else:
            return folder, names, ct_hu, None
    return first


def open_slices(folder: Path, conf: Path, only: str | None = None, with_prediction: bool = True) -> Stack:
    """A patient's folder of .npy slices, or one slice of it, with all that belongs to it; says what is not shown.

    Raises LungError for a folder of step 5 whose masks are of another CT, or are no slices.
    """
    if with_prediction and is_predicted(folder) and not any(folder.glob("*.npy")):
        raise LungError(f"{folder}: holds no *.npy{on_own_files(folder)}")
    folders, predicted = find_folders(folder, conf)
    ct, names, ct_hu, other_ct = choose_ct(folders, predicted)
    if other_ct and folder == predicted:
        raise other_ct
    if only is not None:
        if only not in names:
            raise LungError(f"{ct} holds no {only}.npy")
        names, ct_hu = [only], ct_hu[[names.index(only)]]
    masks = {}
    if with_prediction and not other_ct:
        masks["predicted"] = read_prediction(predicted, names, ct_hu)
    elif other_ct:
        print(f"no prediction shown: {other_ct}")
    masks["reference"] = read_reference(ct.parent.parent / "lung" / ct.name, names, ct_hu)
    frame, series_uid = read_place(ct, names, ct_hu.shape)
    return Stack(ct.name, ct_hu, frame, tuple(names), **masks, series_uid=series_uid)


def read_beside(kind: str, folder: Path, names: list[str], ct_hu: np.ndarray) -> np.ndarray | None:
    """What a folder holds for CT slices, (Z, H, W); None where it is not there, or some slices are not: says so."""
    if not folder.is_dir():
        return None
    if missing := [f"{name}.npy" for name in names if not (folder / f"{name}.npy").is_file()]:
        print(f"no {kind} shown: {folder} lacks {some_of(missing)}")
        return None
    slices = read_named(folder, names)
    if slices.shape != ct_hu.shape:
        raise LungError(f"{folder}: shape {slices.shape}, but the CT has {ct_hu.shape}")
    return slices


def read_prediction(folder: Path, names: list[str], ct_hu: np.ndarray) -> Mask | None:
    """The predicted lungs of CT slices (Z, H, W) that they are known to be of."""
    slices = read_beside("prediction", folder, names, ct_hu)
    return None if slices is None else Mask("prediction", slices > 0, RED)


def read_reference(folder: Path, names: list[str], ct_hu: np.ndarray) -> Mask | None:
    """The lungs that were cut out of CT slices (Z, H, W); None where they are of another CT: says so."""
    slices = read_beside("reference", folder, names, ct_hu)
    if slices is None:
        return None
    lung = is_lung(slices)
    if not np.array_equal(slices[lung], ct_hu[lung]):
        print(f"no reference shown: {folder} holds lungs of another CT; run prepare_lung_image.py again")
        return None
    return Mask("reference", lung, GREEN)


def read_place(folder: Path, names: list[str], shape: tuple[int, ...]) -> tuple[Frame | None, str]:
    """Where the slices of a folder lie, and their DICOM series, of the manifest beside it.

    None and an empty text where that does not say it of all of them.
    """
    try:
        rows = read_manifest(manifest_path(folder.parent))
    except LungError:  # slices that were copied here, or of another version: they can be seen all the same
        return None, ""
    by_name = {safe_name(row.slice_name): row for row in rows if safe_name(row.scan) == folder.name}
    if not set(names) <= by_name.keys():
        return None, ""
    frame, series_uid = frame_of([by_name[name] for name in names]), by_name[names[0]].series_uid
    if (len(frame), *frame.shape) != shape:
        return None, ""
    return frame, series_uid if DICOM_UID.fullmatch(series_uid) else ""
