"""Step 5. Predict the lungs on the test slices, and score them where there is a reference.

Reads   lung.conf if there is one, the weights, mydata/Image_test/manifest.csv and the slices that it lists
Writes  predictions/patient_<id>/<slice>.npy (uint8, 1 = lung) and .png, predictions/scores.csv, nodules.csv,
        predictions/report.html, which shows all scans in a browser, and its pictures (view/);
        with --save: predictions/patient_<id>/<scan>.nii.gz or .seg.dcm
Run     python model_test.py                predicts what has not been predicted yet
        python model_test.py --png none     masks without pictures
        python model_test.py --save nifti   also a .nii.gz for 3D Slicer or ITK-SNAP; nifti-sides: right lung 1, left 2
        python model_test.py --reviews reviews.csv   lists what was rejected in report.html; keeps the file for --labels
        python model_test.py --save dicom-seg --dicom DIR   also a DICOM segmentation that refers to the scan in DIR
"""

from lungct import LungError, __version__  # first: it says which package is missing

# isort: split
import argparse
import re
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lungct.evaluation.metrics import compare, litres
from lungct.evaluation.nodules import NoduleScore, audit_nodules, print_coverage
from lungct.evaluation.quality import find_flags
from lungct.evaluation.report import THUMBNAIL, VIEW, ScanScore, report_bytes, report_row, result_files, thumbnail
from lungct.files import (
    exclusive_lock,
    file_stamps,
    fingerprint,
    periodic_save,
    read_earlier_table,
    replace_file,
    replace_folder,
    table_bytes,
)
from lungct.masks.predicted import SLICES, slices_table, take_reviews
from lungct.masks.reviews import earlier_reviews
from lungct.parallel import add_scheduler_flag, count, run_parallel, some_of
from lungct.predict import Predictor, cached_predictor, segment
from lungct.scans import lidc
from lungct.scans.find import choose_names
from lungct.scans.geometry import frame_of
from lungct.scans.nifti import nifti_or_flag
from lungct.segmentation.left_right import split_left_right
from lungct.settings import BY_ATTRIBUTE, make_absolute, parse_step, resolve_path, run_step
from lungct.slices import (
    SliceRow,
    by_scan,
    is_lung,
    lung_root,
    manifest_path,
    read_manifest,
    read_stack,
    safe_name,
    slice_path,
)
from lungct.weights import SHIPPED, checksum

DICOM_UID = re.compile(r"\d+(\.\d+)+")


@dataclass(frozen=True)
class PredictSettings:
    """What step 5 uses."""

    lidc_test_dicom_path: Path
    lung_ct_test_path: Path
    mask_threshold: int
    confidence_level: float
    padding_size: int
    weights_path: Path
    predictions_path: Path
    save: str
    png: str
    device: str
    amp: str


@dataclass(frozen=True)
class Task:
    """What every scan is predicted with."""

    settings: PredictSettings
    weights_sha256: str
    dicom_root: Path  # where the scans lie, for dicom-seg
    precision: str


def choose_weights(path: Path, default: Path) -> Path:
    """The user's weights; the shipped ones where the user has trained none and named none. Raises LungError."""
    if path.is_file():
        return path
    if path.exists():
        raise LungError(f"{path} is a folder; give the .pth file in it")
    if path.resolve() != default.resolve():
        raise LungError(f"no {path}; give a file that is there, or leave weights_path out to use the shipped weights")
    print(f"no {path} yet: predicting with the shipped weights/{SHIPPED.name}; see weights/MODEL_CARD.md")
    return SHIPPED


def seen_in_training(card: dict, row: SliceRow) -> str:
    """Whether a patient took part in the training: no, train or val; unknown for a file that names no patient."""
    parts = [part for part, names in card.get("patients", {}).items() if row.patient_id in names]
    names_patient = DICOM_UID.fullmatch(row.series_uid)  # else it is a file's name
    return parts[0] if parts else "no" if names_patient else "unknown"


def scan_fingerprint(rows: list[SliceRow], ct_root: Path, task: Task) -> str:
    """Of all that a scan's masks, pictures and scores are made from."""
    settings = task.settings
    audit = settings.mask_threshold, settings.confidence_level, settings.padding_size
    roots = [ct_root] + [lung_root(ct_root)] * rows[0].has_label
    stamps = [file_stamps(slice_path(root, row) for row in rows) for root in roots]
    made_from = [row.fingerprint for row in rows], stamps, task.weights_sha256, task.precision
    return fingerprint(__version__, made_from, settings.png, settings.save, audit)


def get_predictor(task: Task) -> Predictor:
    """The network of the settings, loaded once in a process."""
    settings = task.settings
    return cached_predictor(settings.weights_path, task.weights_sha256, settings.device, settings.amp)


def read_truth(rows: list[SliceRow], ct_root: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The reference lungs of a scan, (Z, H, W) bool; None where there are none. Raises LungError for another shape."""
    if not rows[0].has_label:
        return None
    truth = is_lung(read_stack(lung_root(ct_root), rows))
    if truth.shape != shape:
        raise LungError(f"{lung_root(ct_root) / rows[0].scan}: shape {truth.shape}, but the CT has {shape}")
    return truth


def predict_scan(rows: list[SliceRow], ct_root: Path, task: Task) -> tuple[ScanScore, list[NoduleScore]]:
    """Predict and write one scan; returns its row of scores.csv and its rows of nodules.csv. Raises LungError."""
    predictor, settings, first = get_predictor(task), task.settings, rows[0]
    made_from = scan_fingerprint(rows, ct_root, task)
    ct_hu = read_stack(ct_root, rows)
    lung = segment(ct_hu, first.spacing_mm, predictor)
    truth = read_truth(rows, ct_root, lung.shape)
    agreement = {}
    if truth is not None:
        agreement = asdict(compare(lung, truth, first.spacing_mm))
        agreement["worst_slice"] = rows[agreement["worst_slice"]].slice_name
    sides = split_left_right(lung, first.spacing_mm)
    files = result_files(rows, ct_hu, sides, truth, settings.png)
    files |= {f"{VIEW}/{THUMBNAIL}": thumbnail(ct_hu, lung), SLICES: slices_table(rows, lung)}
    whole, flags = whole_file(rows, sides, predictor, task) if settings.save != "npy" else ({}, [])
    files |= whole
    frame = frame_of(rows)
    replace_folder(folder_of(settings.predictions_path, first.scan), files)
    score = ScanScore(
        scan=first.scan,
        patient_id=first.patient_id,
        slices=len(rows),
        litres=round(litres(lung, first.spacing_mm, frame.extents_mm), 3),
        **{name: round(v, 4) if isinstance(v, float) else v for name, v in agreement.items()},
        flags="; ".join(find_flags(ct_hu, lung, first.spacing_mm, frame.extents_mm) + flags),
        seen_in_training=seen_in_training(predictor.card, first),
        weights=predictor.card["sha256"][:12],
        precision=task.precision,
        png=settings.png,
        save=settings.save,
        fingerprint=made_from,
    )
    nodules = lidc.find_nodules(
        first.series_uid, settings.confidence_level, settings.padding_size, settings.mask_threshold
    )
    return score, audit_nodules(first.scan, frame, lung, nodules)


def whole_file(rows: list[SliceRow], sides: np.ndarray, predictor: Predictor, task: Task) -> tuple[dict, list[str]]:
    """The file that holds a scan's whole mask, its bytes by name, and flags; NIfTI has none off a regular grid."""
    name, kind = safe_name(rows[0].scan), task.settings.save
    if kind != "dicom-seg":
        content, flags = nifti_or_flag(sides > 0 if kind == "nifti" else sides, frame_of(rows))
        return {f"{name}.nii.gz": content} if content else {}, flags
    from lungct.masks import write_dicom  # two seconds to import; few ask for it

    scan = write_dicom.find_scan(task.dicom_root, rows[0].series_uid, frame_of(rows))
    return {f"{name}.seg.dcm": write_dicom.encode(sides, scan, predictor.card["sha256"][:12])}, []


def folder_of(out: Path, scan: str) -> Path:
    """Where a scan's masks go."""
    return out / f"patient_{safe_name(scan)}"


def is_done(score: ScanScore, rows: list[SliceRow], ct_root: Path, task: Task) -> bool:
    """Whether a scan's results were made from this input with these settings, and its masks are all there."""
    folder = folder_of(task.settings.predictions_path, score.scan)
    there = {path.stem for path in folder.glob("*.npy")} == {safe_name(row.slice_name) for row in rows}
    return there and (folder / SLICES).is_file() and score.fingerprint == scan_fingerprint(rows, ct_root, task)


def print_summary(scores: list[ScanScore], nodules: list[NoduleScore]) -> None:
    """A line for each scan, then the means."""
    heads = ("slices", "litres", "Dice", "HD95 mm", "surf 1mm", "surf 2mm")
    width = max(24, *(len(score.scan) + 1 for score in scores)) if scores else 24
    print(f"{'scan':{width}s}" + "".join(f"{head:>9s}" for head in heads) + "  worst slice")
    for score in scores:
        values = (score.slices, score.litres, score.dice, score.hd95_mm, score.surface_dice_1mm, score.surface_dice_2mm)
        worst = "-" if score.dice is None else f"{score.worst_slice} ({score.worst_slice_dice:.3f})"
        note = f"  {score.flags}" if score.flags else ""
        part = score.seen_in_training
        note += f"  patient was in the training set ({part})" if part in ("train", "val") else ""
        cells = "".join(f"{'-' if value is None else value!s:>9s}" for value in values)
        print(f"{score.scan:{width}s}{cells}  {worst}{note}")
    if scored := [score.dice for score in scores if score.dice is not None]:
        print(f"mean Dice {np.mean(scored):.4f} over {len(scored)} scans, worst {min(scored):.4f}")
    print_coverage(nodules)


def save_report(out: Path, scans: dict, scores: list[ScanScore], nodules: list[NoduleScore], **about: object) -> Path:
    """The page to review every prediction; about: as `report_bytes` takes it."""
    pages = []
    for score in scores:
        shares = [nodule.coverage for nodule in nodules if nodule.scan == score.scan]
        names = [safe_name(row.slice_name) for row in scans[score.scan]]
        coverage = float(np.mean(shares)) if shares else None
        pages.append(report_row(score, coverage, folder_of(out, score.scan), names))
    replace_file(out / "report.html", report_bytes(pages, **about))
    return out / "report.html"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """This step's own flags."""
    parser.add_argument("--dicom", type=Path, metavar="DIR", help="where the scans lie, for dicom-seg")
    parser.add_argument("--patients", metavar="N|LIST", help="the first N patients, or some by ID: A,B,C")
    parser.add_argument("--reviews", type=Path, metavar="CSV", help="list what was rejected in report.html, and end")
    add_scheduler_flag(parser)


def predict_all(
    scans: dict[str, list[SliceRow]], ct_root: Path, task: Task, scheduler: str
) -> tuple[list[ScanScore], list[NoduleScore], dict[str, str]]:
    """Predict what is not done yet and keep both tables: (scores, nodules, why scans failed)."""
    out = task.settings.predictions_path
    before = {score.scan: score for score in read_earlier_table(out / "scores.csv", ScanScore)}
    scores = {
        name: before[name] for name in scans if name in before and is_done(before[name], scans[name], ct_root, task)
    }
    audits: dict[str, list[NoduleScore]] = {name: [] for name in scans}
    for nodule in read_earlier_table(out / "nodules.csv", NoduleScore):
        if nodule.scan in scores:
            audits[nodule.scan].append(nodule)
    print_found(scans, scores, before, scheduler or get_predictor(task).device, task)
    failed = {}

    def tables() -> tuple[list[ScanScore], list[NoduleScore]]:
        return [scores[name] for name in scans if name in scores], [row for audit in audits.values() for row in audit]

    def save() -> None:
        for name, rows, kind in zip(("scores.csv", "nodules.csv"), tables(), (ScanScore, NoduleScore), strict=True):
            replace_file(out / name, table_bytes(rows, kind))

    todo = [rows for name, rows in scans.items() if name not in scores]
    with periodic_save(save) as save_if_due:
        work = partial(predict_scan, ct_root=ct_root, task=task)
        results = run_parallel(work, todo, 1, out / "errors.log", scheduler)
        for rows, result in tqdm(results, total=len(todo), desc="scans", unit="scan"):
            name = rows[0].scan
            if isinstance(result, LungError):
                failed[name] = str(result)
                shutil.rmtree(folder_of(out, name), ignore_errors=True)  # of an earlier input
                continue
            scores[name], audits[name] = result
            save_if_due()
    return *tables(), failed


def print_found(scans: dict, scores: dict, before: dict, where: object, task: Task) -> None:
    """What there is to predict, what is done, and what earlier commands left."""
    print(f"{len(scans)} scans, {len(scores)} done already; on {where}, {task.precision}")
    again = [name for name in scans if name in before and name not in scores]
    if again:
        print(f"other slices, weights or options now; predicted again: {some_of(again)}")
    left = sorted(set(before) - set(scans))
    if left:
        folder = task.settings.predictions_path
        print(f"{folder} holds {count(len(left), 'scan')} of earlier commands, not in the tables: {some_of(left)}")


def choose_scans(rows: Iterable[SliceRow], wanted: str | None) -> dict[str, list[SliceRow]]:
    """The rows of each scan, of all patients or of some. Raises LungError for patients that are not there."""
    scans = by_scan(rows)
    if wanted is None:
        return scans
    patients = list(dict.fromkeys(scan[0].patient_id for scan in scans.values()))
    chosen = choose_names(patients, wanted, f"--patients: not among the {len(patients)} patients prepared")
    return {name: scan for name, scan in scans.items() if scan[0].patient_id in chosen}


def main(argv: list[str] | None = None) -> None:
    """Load the network; for each scan predict, clean, write, score; print the table and where the result is."""
    settings, flags = parse_step(__doc__, PredictSettings, argv, add_flags, lambda flags: True)
    if flags.scheduler:
        settings, flags = make_absolute(settings), make_absolute(flags)
    if flags.reviews:
        return take_reviews(flags.reviews, settings.predictions_path)
    default = resolve_path(BY_ATTRIBUTE["weights_path"].default, Path(flags.conf).parent)
    settings = replace(settings, weights_path=choose_weights(settings.weights_path, default))
    dicom_root = flags.dicom or settings.lidc_test_dicom_path
    task = Task(settings, checksum(settings.weights_path), dicom_root, "")
    amp = get_predictor(task).amp
    if flags.scheduler:  # one precision for all machines, that of this one
        task = replace(task, settings=replace(settings, amp="on" if amp else "off"))
    task = replace(task, precision="bfloat16" if amp else "float32")
    ct_root, out = settings.lung_ct_test_path, settings.predictions_path
    rows = read_manifest(manifest_path(ct_root), "python prepare_lung_image.py --test")
    scans, reviews = choose_scans(rows, flags.patients), earlier_reviews(out)
    with exclusive_lock(out):
        scores, nodules, failed = predict_all(scans, ct_root, task, flags.scheduler)
        report = save_report(out, scans, scores, nodules, reviews=reviews, weights=settings.weights_path.name)
    print_summary(scores, nodules)
    for name, reason in failed.items():
        print(f"skipped {name}: {reason}")
    print(f"wrote {out}/patient_<id>/, {out / 'scores.csv'} and {out / 'nodules.csv'}; look at {report}")
    if failed:
        raise LungError(f"{len(failed)} of {len(scans)} scans were skipped; see above")


if __name__ == "__main__":
    run_step(main)
