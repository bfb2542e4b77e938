"""Step 5. Predict the lungs of CT scans, measure them, and score them where there is a reference.

Reads   lung.conf if there is one, the weights, mydata/Image_test/manifest.csv and the slices that it lists (step 4);
        with --dicom or --nifti the scans themselves, and nothing of the steps before
Writes  predictions/patient_<id>/<slice>.npy (uint8, 1 = lung) and .png, predictions/scores.csv, nodules.csv,
        predictions/report.html, which shows all scans in a browser, and its pictures (view/);
        with --save, or from the scans themselves: predictions/patient_<id>/<scan>.nii.gz, _sides.nii.gz, .seg.dcm
Run     python model_test.py --dicom DIR    straight from DICOM files to a .nii.gz each; also --nifti FILE_OR_DIR
        python model_test.py                the slices of step 4, those that have not been predicted yet
        python model_test.py --png none     masks without pictures
        python model_test.py --save nifti,sides,dicom-seg   also these; masks that are there are not predicted again
        python model_test.py --compare predictions_a predictions_b   Dice and HD95 of both, patient by patient
        python model_test.py --save dicom-seg --anonymous   without the patient's name, birth date, sex and dates
        python model_test.py --reviews reviews.csv   lists what was rejected in report.html; keeps the file for --labels
"""

from lungct import LungError, __version__  # first: it says which package is missing

# isort: split
import argparse
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lungct.code_hash import MASK_CODE, SCORE_CODE
from lungct.device import keep_freed_memory, shared_processors
from lungct.evaluation.cases import Case, StoredCase, file_cases, read_from, stored_cases
from lungct.evaluation.compare import comparison_lines
from lungct.evaluation.nodules import annotated_nodules, audit_nodules, print_coverage
from lungct.evaluation.report import report_bytes, report_row
from lungct.evaluation.results import (
    Wanted,
    add_files,
    check_files,
    choose_files,
    choose_kinds,
    files_stamp,
    folder_of,
    has_all,
    make_files,
    next_command,
    read_kept_of,
    why_predict_again,
)
from lungct.evaluation.scores import ScanScore, print_scores, score_volume
from lungct.evaluation.tables import NODULES, Result, read_results, write_results
from lungct.evaluation.written import find_set_aside, lost_record, remove_results, replace_results
from lungct.files import exclusive_lock, fingerprint, is_dir_path, periodic_save, replace_file
from lungct.masks.predicted import SCORES, take_reviews
from lungct.masks.read import parse_values
from lungct.masks.reviews import earlier_reviews
from lungct.masks.write import LungMask
from lungct.parallel import Skipped, Warned, add_scheduler_flag, count, print_notes, run_parallel, some_of
from lungct.predict import Predictor, Segmentation, cached_predictor, segment_volume
from lungct.scans.find import choose_patients, dicom_jobs, nifti_jobs
from lungct.scans.geometry import frame_of
from lungct.scans.nifti import dicom_series
from lungct.settings import BY_ATTRIBUTE, make_absolute, parse_step, resolve_path, run_step
from lungct.slices import STEP_4
from lungct.weights import choose_weights, describe_weights, read_card, seen_in_training, weights_identity

SCANS_AT_ONCE = 2  # scans: reading, clean-up and writing take one processor only
OTHER_CT = "the mask that was there is damaged, or of another CT: predicted again"
SCAN_FLAGS = ("labels", "label_values", "any_values", "series")  # that say how scans are read from their own files


@dataclass(frozen=True)
class PredictSettings:
    """What step 5 uses."""

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
    weights: str  # what tells them from others, as `weights_identity` has it
    precision: str


@dataclass(frozen=True)
class Todo:
    """A scan to work on: what it is to have, and its earlier row, or why the mask of that is not right any more."""

    case: Case
    wanted: Wanted
    earlier: ScanScore | None
    reason: str


def fingerprint_of(case: Case, task: Task) -> tuple[str, str]:
    """Of all that a scan's mask is made from, and of all that its row of scores.csv is. Raises OSError."""
    settings = task.settings
    audit = settings.mask_threshold, settings.confidence_level, settings.padding_size
    scan, truth = case.stamps()
    mask = fingerprint(MASK_CODE, scan, task.weights, task.precision)
    return mask, f"{mask}-{fingerprint(truth, audit, SCORE_CODE)}"


def get_predictor(task: Task) -> Predictor:
    """The network of the settings, loaded once in a process."""
    settings = task.settings
    return cached_predictor(settings.weights_path, task.weights, settings.device, settings.amp)


def predict_scan(todo: Todo, task: Task) -> tuple[Result, tuple[str, ...]]:
    """Predict one scan, or take its mask that is there, and write what is missing.

    Returns its rows of both tables, and warnings. Raises LungError.
    """
    case, settings = todo.case, task.settings
    folder = folder_of(settings.predictions_path, case.scan)
    _, made_from = fingerprint_of(case, task)
    volume, card = read_from(settings.predictions_path, case), get_predictor(task).card
    kept = read_kept_of(folder, volume, todo.earlier) if todo.earlier else None
    earlier = todo.earlier if kept else None
    spacing_mm = volume.frame.spacing_mm
    found = Segmentation(*kept) if kept else segment_volume(volume.ct_hu, spacing_mm, get_predictor(task))
    mask = LungMask(found.lung, volume.frame, partial(case.find_dicom, volume.ct_hu), card["sha256"], found.unsure_cm2)
    row, level = volume.rows[0], settings.confidence_level
    nodules, more = annotated_nodules(row, level, settings.padding_size, settings.mask_threshold)
    audit = audit_nodules(case.scan, frame_of(volume.rows), found.lung, nodules)
    score = replace(
        score_volume(volume, mask, found.body),
        seen_in_training=seen_in_training(card, case.patient_id, dicom_series(row)),
        weights=card["sha256"][:12],
        nodules=len(audit),
        precision=task.precision,
        version=__version__,
        fingerprint=made_from,
    )
    score, files = make_files(folder, todo.wanted, volume, mask, score, earlier)
    warnings = volume.warnings + more + ((OTHER_CT,) if todo.earlier and not kept else ())
    if earlier:
        warnings += lost_record(folder)
        add_files(folder, files)
    else:
        warnings += replace_results(folder, files)
    names = case.slice_names(score.slices)
    score = replace(score, files="" if earlier else files_stamp(folder, case.scan, names))  # else read by the next run
    return Result(score, audit), warnings


def save_report(out: Path, cases: dict, results: list[Result], **about: object) -> Path:
    """The page to review every prediction; about: as `report_bytes` takes it."""
    pages = []
    for result in results:
        score, shares = result.score, [nodule.coverage for nodule in result.nodules]
        names = cases[score.scan].slice_names(score.slices)
        coverage = float(np.mean(shares)) if shares else None
        pages.append(report_row(score, coverage, folder_of(out, score.scan), names))
    replace_file(out / "report.html", report_bytes(pages, **about))
    return out / "report.html"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """This step's own flags."""
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--dicom", type=is_dir_path, metavar="DIR", help="DICOM to predict, not the slices of step 4")
    place.add_argument("--nifti", type=Path, metavar="FILE_OR_DIR", help="the same for NIfTI, MetaImage or NRRD in HU")
    parser.add_argument("--patients", metavar="N|LIST", help="the first N patients, or some by ID: A,B,C")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("A", "B"), help="compare two folders of predictions")
    parser.add_argument(
        "--anonymous", action="store_true", help="write dicom-seg and rtstruct without name, birth date, sex and dates"
    )
    parser.add_argument(
        "--reviews", type=Path, metavar="CSV", help="list what report.html rejected, keep it for --labels"
    )
    more = parser.add_argument_group("with --dicom or --nifti, as in prepare_lung_image.py")
    more.add_argument("--labels", type=Path, metavar="PATH", help="masks to score against: see docs/own_data.md")
    more.add_argument("--label-values", type=parse_values, metavar="LIST", help="masks' values that are lung: 1,2,3")
    more.add_argument("--series", choices=("largest", "all"), help="which CT series of a patient")
    more.add_argument("--any-values", action="store_true", help="accept CT not in HU, and masks not like lung")
    add_scheduler_flag(parser)


def find_cases(settings: PredictSettings, flags: argparse.Namespace) -> tuple[list[Case], list[Skipped]]:
    """The scans that the flags point to, or else those of step 4; and what is left out. Raises LungError."""
    if not flags.dicom and not flags.nifti:
        if given := [f"--{name.replace('_', '-')}" for name in SCAN_FLAGS if getattr(flags, name)]:
            raise LungError(f"{given[0]} goes with --dicom or --nifti; for the slices of step 4, give it to {STEP_4}")
        return stored_cases(settings.lung_ct_test_path, flags.patients), []
    jobs, skipped = dicom_jobs(flags.dicom, flags.series == "all") if flags.dicom else nifti_jobs(flags.nifti)
    jobs = choose_patients(jobs, flags.patients)
    patients = count(len({job.patient_id for job in jobs}), "patient")
    print(f"{count(len(jobs), 'scan')} of {patients} found; all slices of each")
    root = settings.predictions_path
    cases, unlabelled = file_cases(jobs, root, flags.labels, flags.label_values or (), flags.any_values)
    return cases, skipped + unlabelled


def predict_all(
    todos: list[Todo], done: dict[str, Result], names: list[str], task: Task, scheduler: str
) -> tuple[list[Result], list[Skipped], list[Warned]]:
    """Work on what is to do and keep both tables: (results, scans that failed, warnings).

    done: what is still right, also of scans that are to get more files; names: of all scans, in their order
    """
    out, results, failed, warned = task.settings.predictions_path, dict(done), [], []
    with_empty = any(isinstance(todo.case, StoredCase) for todo in todos)

    def in_order() -> list[Result]:
        return [results[name] for name in names if name in results]

    def save() -> None:
        write_results(out, in_order(), with_empty)

    if todos:
        save()  # a run that is killed leaves no row of a folder that it has changed
    at_once = min(SCANS_AT_ONCE, len(todos))
    with periodic_save(save) as save_if_due, shared_processors(at_once):
        work = partial(predict_scan, task=task)
        outcomes = run_parallel(work, todos, at_once, out / "errors.log", scheduler, in_threads=True)
        for todo, outcome in tqdm(outcomes, total=len(todos), desc="scans", unit=" scan", disable=not todos):
            name = todo.case.scan
            if isinstance(outcome, LungError):
                failed.append(Skipped(name, str(outcome)))
                if not todo.earlier:
                    warned += [Warned(name, warning) for warning in remove_results(folder_of(out, name))]
                continue
            results[name], warnings = outcome
            warned += [Warned(name, warning) for warning in warnings]
            save_if_due()
    return in_order(), failed, warned


def plan(
    cases: list[Case], wanted: dict[str, Wanted], task: Task, where: object
) -> tuple[list[Todo], dict[str, Result], list[Skipped], list[Warned]]:
    """(What is to do, the earlier results that are still right, the scans whose files are gone, warnings); says so."""
    out, todos, right, skipped, warned = task.settings.predictions_path, [], {}, [], []
    before = read_results(out)
    for case in cases:
        try:
            of_mask, of_row = fingerprint_of(case, task)
        except (OSError, LookupError) as error:  # LookupError: no file is left
            skipped.append(Skipped(case.scan, str(error)))
            continue
        folder, result = folder_of(out, case.scan), before.get(case.scan)
        earlier = result.score if result else None
        names = case.slice_names(earlier.slices) if earlier else []
        reason = why_predict_again(folder, earlier, of_mask, names) if earlier else ""
        earlier = None if reason else earlier
        stamp, changes = check_files(folder, wanted[case.scan], earlier, of_row, names) if earlier else ("", [])
        warned += [Warned(case.scan, change) for change in changes]
        if earlier and earlier.fingerprint == of_row and result.is_whole:
            right[case.scan] = replace(result, score=replace(earlier, files=stamp))
            if has_all(folder, wanted[case.scan], earlier, names):
                continue
        todos.append(Todo(case, wanted[case.scan], earlier, reason))
    done = len(cases) - len(todos) - len(skipped)
    print(f"{count(len(cases), 'scan')}, {done} done already; on {where}, {task.precision}")
    print_plan(cases, todos, before, out)
    return todos, right, skipped, warned


def print_plan(cases: list[Case], todos: list[Todo], before: dict[str, Result], out: Path) -> None:
    """What is made again, what is made from the masks that are there, and what earlier commands left."""
    for reason in dict.fromkeys(todo.reason for todo in todos if todo.reason):
        print(f"{reason}; predicted again: {some_of([todo.case.scan for todo in todos if todo.reason == reason])}")
    if more := [todo.case.scan for todo in todos if todo.earlier]:
        print(f"files and scores from the masks that are there, not predicted again: {some_of(more)}")
    left = sorted(set(before) - {case.scan for case in cases})
    if left:
        print(f"{out} holds {count(len(left), 'scan')} of earlier commands, not in the tables: {some_of(left)}")
    if aside := find_set_aside(out):
        print(f"{out} holds folders with masks that were changed or added, used by no step: {some_of(aside)}")


def main(argv: list[str] | None = None) -> None:
    """Find the scans; for each predict, clean, write, score; print the table and where the result is."""
    settings, flags = parse_step(__doc__, PredictSettings, argv, add_flags, lambda flags: True)
    if flags.scheduler:
        settings, flags = make_absolute(settings), make_absolute(flags)
    if flags.compare:
        return print(*comparison_lines(*flags.compare), sep="\n")
    if flags.reviews:
        return take_reviews(flags.reviews, settings.predictions_path)
    default = resolve_path(BY_ATTRIBUTE["weights_path"].default, Path(flags.conf).parent)
    settings = replace(settings, weights_path=choose_weights(settings.weights_path, default))
    kinds = choose_kinds(settings.save, flags.save is not None, bool(flags.dicom or flags.nifti), flags.anonymous)
    cases, skipped = find_cases(settings, flags)
    wanted = choose_files(cases, Wanted(kinds, settings.png))
    card = read_card(settings.weights_path)[1]
    task = Task(settings, weights_identity(card), "")
    print(describe_weights(settings.weights_path, card["sha256"]))
    amp = get_predictor(task).amp
    if flags.scheduler:  # one precision for all machines, that of this one
        task = replace(task, settings=replace(settings, amp="on" if amp else "off"))
    task = replace(task, precision="bfloat16" if amp else "float32")
    out, names = settings.predictions_path, [case.scan for case in cases]
    about = {"reviews": earlier_reviews(out), "weights": settings.weights_path.name}
    keep_freed_memory()
    with exclusive_lock(out):
        todos, done, gone, changed = plan(cases, wanted, task, flags.scheduler or get_predictor(task).device)
        results, failed, warned = predict_all(todos, done, names, task, flags.scheduler)
        report = save_report(out, {case.scan: case for case in cases}, results, **about)
    scores = [result.score for result in results]
    print_notes(skipped, changed + warned)
    print_scores(scores)
    print_coverage([nodule for result in results for nodule in result.nodules])
    for scan in gone + failed:
        print(f"skipped {scan.scan}: {scan.reason}")
    tables = " and ".join(str(out / name) for name in (SCORES, NODULES) if (out / name).is_file())
    print(f"wrote {out}/patient_<id>/, {tables}; look at {report}{next_command(cases, scores, out, flags.conf)}")
    faults = gone + failed + [scan for scan in skipped if scan.is_fault]
    if faults:
        total = len(cases) + len([scan for scan in skipped if scan.is_fault])
        raise LungError(f"{len(faults)} of {count(total, 'scan')} skipped; see above")


if __name__ == "__main__":
    run_step(main)
