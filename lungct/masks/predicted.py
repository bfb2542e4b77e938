"""Masks that step 5 predicted, as labels: those that were accepted in a review, on the slices they were made of.

Each predictions/patient_<scan>/ holds the mask in one form or several, and slices.csv: of which series the slices are,
where they lie, and a fingerprint of the mask. A review counts for a mask of that fingerprint alone, so that no other
prediction, no mask of another scan and none that was changed by hand is taken for the one that was seen.
Z slices, H rows, W columns.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lungct import LungError
from lungct.files import fingerprint, read_earlier_table, read_npy, read_table, replace_file, table_bytes
from lungct.masks.check import check_place
from lungct.masks.reviews import ACCEPT, REVIEWS, Review, earlier_reviews, print_reviews, read_reviews, status_of
from lungct.masks.write import KEPT, NIFTI, NRRD, SIDES, kept_checksum, kept_ct, read_kept, slice_checksums
from lungct.parallel import Skipped, count
from lungct.scans.geometry import Scan, frame_of
from lungct.scans.nifti import read_volume
from lungct.slices import DICOM_UID, SliceRow, clip_ct, safe_name, slice_pixels

SLICES, SCORES = "slices.csv", "scores.csv"
PREDICTED = "patient_"  # how the folders of scans begin
SET_ASIDE = f"changed_{PREDICTED}"  # and those with a mask that was changed, after the scan was predicted again
FOLDERS = (PREDICTED, SET_ASIDE)
VOLUMES = (NIFTI, SIDES, NRRD)  # forms of the mask that are read back as they were written; an RTSTRUCT is not
AGAIN = "predict it again: python model_test.py"
CHANGED = (
    "a mask was changed after the prediction; to train on it, give it with --labels in a folder of its own; to have "
    "the predicted one, delete it and run the same model_test.py again"
)


class NotAccepted(LungError):
    """There is no mask that may be taken, and nothing is wrong with that: it was rejected or is not reviewed yet."""


def without_label(scan: str, reason: Exception) -> Skipped:
    """A scan whose label is not there, which is no fault where none was accepted."""
    return Skipped(scan, str(reason), is_fault=not isinstance(reason, NotAccepted))


@dataclass(frozen=True)
class Prediction:
    """The masks of a scan, below `folder`, and which scan that is."""

    folder: Path
    patient_id: str
    scan: str
    series_uid: str
    fingerprint: str


def mask_fingerprint(rows: list[SliceRow], lung: np.ndarray) -> str:
    """Of a mask (Z, H, W) bool, the series that it is of, and where its slices lie."""
    places = [(row.x_mm, row.y_mm, row.z_mm) for row in rows]
    return fingerprint(rows[0].series_uid, places, lung.shape, hashlib.sha256(np.packbits(lung)).hexdigest())


def slices_table(rows: list[SliceRow], lung: np.ndarray) -> bytes:
    """slices.csv of a prediction (Z, H, W) bool: its rows of the manifest, with the lung that was predicted."""
    mark, counts = mask_fingerprint(rows, lung), slice_pixels(lung).tolist()
    return table_bytes(
        [replace(row, lung_px=px, fingerprint=mark) for row, px in zip(rows, counts, strict=True)], SliceRow
    )


def read_fingerprint(folder: Path) -> str:
    """The fingerprint of the masks in a folder; empty where an earlier version predicted them."""
    rows = read_earlier_table(folder / SLICES, SliceRow)
    return rows[0].fingerprint if rows else ""


def check_ct(folder: Path, names: list[str], ct_hu: np.ndarray) -> None:
    """Raises LungError where the masks in a folder of results were not predicted from these CT slices.

    names: of the slices' files; ct_hu: (Z, H, W) int16, as step 4 stores it
    """
    rows, marks = read_earlier_table(folder / SLICES, SliceRow), kept_ct(folder / KEPT)
    if not rows or len(rows) != len(marks):
        raise LungError(f"{folder}: does not say of which CT its masks are; {AGAIN}")
    predicted = {safe_name(row.slice_name): mark for row, mark in zip(rows, marks, strict=True)}
    now = dict(zip(names, slice_checksums(ct_hu), strict=True))
    if others := [name for name, mark in now.items() if predicted.get(name) != mark]:
        where = f"{len(others)} of {count(len(now), 'slice')}, such as {others[0]}"
        raise LungError(f"{folder}: its masks are of another CT in {where}; {AGAIN}")


def is_of_scan(folder: Path) -> bool:
    """Whether a folder is one of a scan that step 5 wrote, or that was set aside since: no label without a review."""
    return (folder / SLICES).is_file() or folder.name.startswith(SET_ASIDE)


def is_predictions(place: Path) -> bool:
    """Whether a folder is one that step 5 wrote."""
    return (place / SCORES).is_file() or any(place.glob(f"{PREDICTED}*/{SLICES}"))


def find_predictions(place: Path) -> list[Prediction]:
    """All that step 5 predicted there, but for what an earlier version left. Raises LungError for a damaged table."""
    found = []
    for path in sorted(place.glob(f"{PREDICTED}*/{SLICES}")):
        rows = read_table(path, SliceRow)
        if rows:
            first = rows[0]
            found.append(Prediction(path.parent, first.patient_id, first.scan, first.series_uid, first.fingerprint))
    return found


def find_accepted(place: Path, scans: Iterable[tuple[str, str, str]]) -> list[Path | LungError]:
    """The folder of the accepted masks of each scan, (patient, scan, series UID); NotAccepted where there are none.

    Raises LungError where there is no reviews.csv, or one that cannot be read.
    """
    reviews, predictions, scans = read_reviews(place / REVIEWS), find_predictions(place), list(scans)
    return [choose_accepted(place, predictions_of(names, predictions, scans), reviews) for names in scans]


def predictions_of(
    names: tuple[str, str, str], predictions: list[Prediction], scans: list[tuple[str, str, str]]
) -> list[Prediction]:
    """Those of a scan: of all its names, or, where there is none, of its series under the name of no other scan.

    A series may hold several scans, such as phases; and a scan another name where other scans lay beside it.
    """
    own = [one for one in predictions if (one.patient_id, one.scan, one.series_uid) == names]
    if own or not DICOM_UID.fullmatch(names[-1]):
        return own
    taken = {scan for _, scan, uid in scans if uid == names[-1]}
    return [one for one in predictions if one.series_uid == names[-1] and one.scan not in taken]


def choose_accepted(
    place: Path, predictions: list[Prediction], reviews: dict[tuple[str, str], Review]
) -> Path | LungError:
    """The one of a scan's predictions that was accepted, or why there is none."""
    if not predictions:
        return NotAccepted(f"{place} holds no prediction of it by this version")
    states = [status_of(reviews, one.scan, one.fingerprint) for one in predictions]
    accepted = [one.folder for one, (verdict, _) in zip(predictions, states, strict=True) if verdict == ACCEPT]
    if len(accepted) > 1:
        return LungError(f"{accepted[0]} and {accepted[1].name} are both of this scan; leave one of them there")
    return accepted[0] if accepted else NotAccepted(states[0][1])


def prediction_files(folder: Path) -> list[Path]:
    """The files that `read_prediction` reads."""
    names = ("*.npy", KEPT, *(f"*{ending}" for ending in VOLUMES))
    return [folder / SLICES, *sorted({path for name in names for path in folder.glob(name)})]


def read_prediction(folder: Path, scan: Scan) -> np.ndarray:
    """The predicted lungs on the slices of a scan, (Z, H, W) bool.

    Raises LungError where they are of another series, do not lie on the scan, or one of their forms is not what was
    predicted.
    """
    rows = read_table(folder / SLICES, SliceRow)
    if {row.series_uid for row in rows} != {scan.series_uid}:
        raise LungError(f"{folder}: not predicted from series {scan.series_uid}; {AGAIN}")
    lung = None
    for path, found in read_forms(folder, rows):
        if mask_fingerprint(rows, found) != rows[0].fingerprint:
            raise LungError(f"{path}: {CHANGED}")
        lung = found
    if lung is None:
        raise LungError(f"{folder}: holds no mask any more; {AGAIN}")
    places = check_place(folder, frame_of(rows), scan.frame)
    return lung[places]


def check_ct_of_label(folder: Path, scan: Scan, wanted: range, ct_hu: np.ndarray) -> None:
    """Raises LungError where a prediction is of another CT than some slices of a scan: of another phase, say.

    ct_hu: (len(wanted), H, W), those slices. Where no mask is kept that knows its CT, its place has to do.
    """
    rows, marks = read_table(folder / SLICES, SliceRow), kept_ct(folder / KEPT)
    if len(marks) != len(rows):
        return
    places = check_place(folder, frame_of(rows), scan.frame)[wanted.start : wanted.stop]
    if [marks[place] for place in places] != slice_checksums(clip_ct(ct_hu)):
        raise LungError(f"{folder}: its masks were predicted from other HU at this place, of another phase? {AGAIN}")


def read_forms(folder: Path, rows: list[SliceRow]) -> Iterator[tuple[Path, np.ndarray]]:
    """The mask of a scan in each form that is there: its file, (Z, H, W) bool. Raises LungError for a damaged one."""
    kept = read_kept(folder / KEPT, kept_checksum(folder / KEPT))
    if kept is not None:
        yield folder / KEPT, kept[0]
    paths = [folder / f"{safe_name(row.slice_name)}.npy" for row in rows]
    if all(path.is_file() for path in paths):
        yield folder / "*.npy", np.stack([read_mask(path, row) for path, row in zip(paths, rows, strict=True)])
    for path in (folder / f"{safe_name(rows[0].scan)}{ending}" for ending in VOLUMES):
        if path.is_file():
            values, frame = read_volume(path)
            yield path, values[check_place(path, frame, frame_of(rows))] > 0


def read_mask(path: Path, row: SliceRow) -> np.ndarray:
    """One predicted slice, (H, W) bool. Raises LungError where it is damaged, or of another size."""
    lung = read_npy(path) > 0
    if lung.shape != (row.rows, row.columns):
        raise LungError(f"{path}: shape {lung.shape}, predicted was {row.rows, row.columns}; {CHANGED}")
    return lung


def take_reviews(path: Path, place: Path) -> None:
    """Add the reviews of a file to those beside the predictions, and print what they come to. Raises LungError."""
    reviews = {**earlier_reviews(place), **read_reviews(path)}  # of one prediction the later, also without a verdict
    replace_file(place / REVIEWS, table_bytes(reviews.values(), Review))
    print_reviews(reviews, [(one.scan, one.fingerprint) for one in find_predictions(place)])
    command = f"python prepare_lung_image.py --dicom DIR --labels {place}"
    print(
        f"wrote {place / REVIEWS}; to train on what is accepted in the scans of DIR, run: {command} (or --nifti PATH)"
    )
