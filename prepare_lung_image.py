"""Steps 2 and 4. Save the slices of CT scans as .npy files, for training together with their lungs.

Reads   lung.conf, and the scans in the DICOM folder that it names
Writes  mydata/Image/{ct,lung}/<patient>/<nnnn>_slice<kkk>.npy, mydata/Image/manifest.csv, overview.png
        with --test: mydata/Image_test/ct/..., mydata/Image_test/manifest.csv, overview.png
Run     python prepare_lung_image.py                     step 2, training: the middle ten slices of each scan
        python prepare_lung_image.py --test              step 4, test: all slices, CT only
        python prepare_lung_image.py --test-share 0.2    a fifth of the patients is held out; with --test: only these
        python prepare_lung_image.py --test --dicom DIR  any DICOM scans, without lung.conf; also --nifti FILE_OR_DIR
        python prepare_lung_image.py --scheduler tcp://host:8786   on a Dask cluster (docs/cluster.md)
"""

from lungct import LungError  # first: it says which package is missing

# isort: split
import argparse
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lungct.code_hash import SLICE_CODE
from lungct.commands import with_conf
from lungct.evaluation.figures import draw_overview, save_png
from lungct.evaluation.nodules import save_audit
from lungct.files import exclusive_lock, fingerprint, is_dir_path, periodic_save, replace_file
from lungct.masks.predicted import without_label
from lungct.masks.read import find_labels, label_stamps, parse_values, read_slices
from lungct.parallel import Skipped, Warned, add_scheduler_flag, count, print_notes, run_parallel, some_of
from lungct.scans.find import (
    Job,
    choose_patients,
    dicom_jobs,
    job_stamps,
    lidc_jobs,
    nifti_jobs,
    open_job,
    read_hu,
    slice_rows,
    source_of,
)
from lungct.scans.geometry import contiguous_runs
from lungct.scans.hold_out import choose_part
from lungct.settings import make_absolute, parse_step, run_step
from lungct.slice_files import is_intact, remove_scans, write_scan
from lungct.slices import (
    StoredSlice,
    by_scan,
    check_folders,
    lung_root,
    manifest_path,
    middle_indices,
    read_done,
    slice_pixels,
    unfinished_path,
    write_manifest,
)

OF_ALL_SLICES = ("overview.png", "nodules.csv", "nodules.png")  # beside the manifest; untrue once a slice has changed
LABEL_MAKER, NO_LABEL = "segment_lung", "none"
Done = dict[str, list[StoredSlice]]  # the rows of each scan


@dataclass(frozen=True)
class PrepareSettings:
    """What steps 2 and 4 use."""

    lidc_dicom_path: Path
    lidc_test_dicom_path: Path
    test_share: float
    test_seed: int
    lung_ct_path: Path
    lung_image_path: Path
    lung_ct_test_path: Path
    slices_per_patient: int
    workers: int


@dataclass(frozen=True)
class PrepareOptions:
    """What to do with every scan."""

    ct_root: Path
    lung_root: Path | None  # None: CT only
    labels: Path | None  # None: our own
    slices: int | None  # from the middle; None: all
    any_values: bool  # also values that cannot be HU
    label_values: tuple[int, ...] = ()  # those that are lung; none: as the label has them

    @property
    def selection(self) -> str:
        return "all" if self.slices is None else f"middle {self.slices}"

    @property
    def roots(self) -> list[Path]:
        """The folders that are written."""
        return [root for root in (self.ct_root, self.lung_root) if root]

    @property
    def roots_of_all(self) -> list[Path]:
        """The folders that earlier commands may have written."""
        return [self.ct_root, self.lung_root or lung_root(self.ct_root)]


@dataclass(frozen=True)
class Task:
    """A scan to prepare, its label where one was given, and the fingerprint of both and of the options."""

    job: Job
    label: Path | None
    fingerprint: str


def make_task(job: Job, label: Path | None, options: PrepareOptions) -> Task:
    """Take the fingerprint of what a scan's slices will be made from. Raises OSError."""
    made_from = job_stamps(job, options.ct_root.parent)
    label_from = label_stamps(label, options.label_values) if label else LABEL_MAKER if options.lung_root else NO_LABEL
    return Task(job, label, fingerprint(SLICE_CODE, made_from, label_from, options.selection, options.any_values))


def make_tasks(jobs: list[Job], options: PrepareOptions) -> tuple[list[Task], list[Skipped]]:
    """A task for each scan, and the scans whose files or label cannot be found."""
    labels = find_labels(options.labels, [job.names for job in jobs]) if options.labels else [None] * len(jobs)
    tasks, skipped = [], []
    for job, label in zip(jobs, labels, strict=True):
        try:
            if isinstance(label, LungError):
                raise label
            tasks.append(make_task(job, label, options))
        except (LungError, OSError, LookupError) as error:  # LookupError: no file is left
            skipped.append(without_label(job.scan, error))
    return tasks, skipped


def prepare_scan(task: Task, options: PrepareOptions) -> tuple[list[StoredSlice], tuple[str, ...]]:
    """Cut one scan and write its folders; returns its rows of the manifest and its warnings. Raises LungError."""
    job, scan = task.job, open_job(task.job)
    wanted = middle_indices(len(scan), options.slices or len(scan))
    warnings = scan.warnings
    if options.slices and len(wanted) < options.slices:
        warnings = (*warnings, f"only {len(wanted)} of {count(options.slices, 'slice')}")
    ct_hu, more = read_hu(job, scan, wanted, options.any_values)
    warnings = (*warnings, *more)
    lung, source = None, NO_LABEL
    if task.label:
        lung, more = read_slices(task.label, scan, wanted, None if options.any_values else ct_hu, options.label_values)
        warnings, source = (*warnings, *more), task.label.name
    elif options.lung_root:
        from lungct.segmentation.threshold import segment_runs  # slow to import, and step 4 has no labels

        source, runs = LABEL_MAKER, contiguous_runs(scan.frame.z_mm[wanted.start : wanted.stop])
        lung = segment_runs(ct_hu, runs, scan.frame.spacing_mm)
        if not lung.any():
            warnings = (*warnings, "no lung found in these slices: look at it, or give a mask with --labels")
    lung_px = None if lung is None else slice_pixels(lung).tolist()
    place = source_of(job.location, options.ct_root.parent)
    same = {"label_source": source, "selection": options.selection, "source": place, "fingerprint": task.fingerprint}
    rows = slice_rows(job, scan, wanted, lung_px, **same)
    return write_scan(rows, ct_hu, lung, *options.roots_of_all, SLICE_CODE, warnings), warnings


def is_done(rows: list[StoredSlice], task: Task, options: PrepareOptions) -> bool:
    """Whether a scan was made from this input with these options by this code, and its slices are as written then."""
    of_it = bool(rows) and all(row.fingerprint == task.fingerprint and row.code == SLICE_CODE for row in rows)
    return of_it and is_intact(rows, *options.roots)


def settle_selection(done: Done, tasks: list[Task], options: PrepareOptions, add: bool) -> list[str]:
    """Take the scans of earlier commands out of `done` but with --add; returns them; says what lies there besides."""
    names = {task.job.scan for task in tasks}
    others = [name for name in done if name not in names]
    if others and add:
        print(f"kept {count(len(others), 'scan')} of earlier commands (--add): {some_of(others)}")
        others = []
    elif others:
        print(f"dropped {count(len(others), 'scan')} of earlier commands: {some_of(others)}; --add keeps them")
    strays = [path.name for path in options.ct_root.glob("[!.]*") if path.name not in names | done.keys()]
    if strays:
        print(f"{options.ct_root}: {some_of(sorted(strays))} not made by these commands; not used")
    for name in others:
        done.pop(name)
    return others


def find_todo(done: Done, tasks: list[Task], options: PrepareOptions, workers: int) -> list[Task]:
    """The scans that are to be prepared; takes their rows out of `done`, and says why."""
    with ThreadPoolExecutor(workers) as pool:
        results = pool.map(lambda task: is_done(done.get(task.job.scan, []), task, options), tasks)
        right = list(tqdm(results, total=len(tasks), desc="checking", unit=" scan", leave=False))
    todo = [task for task, is_right in zip(tasks, right, strict=True) if not is_right]
    again = [done.pop(task.job.scan) for task in todo if task.job.scan in done]
    if again:
        scans = count(len(again), "scan")
        print(f"{scans} of earlier commands: changed since, or other files, labels, options or code; prepared again")
    if len(todo) < len(tasks):
        print(f"{len(tasks) - len(todo)} of {count(len(tasks), 'scan')} done already")
    return todo


def prepare_all(
    tasks: list[Task], options: PrepareOptions, workers: int, scheduler: str = "", add: bool = False
) -> tuple[list[StoredSlice], list[Skipped], list[Warned]]:
    """Prepare what is not done yet and keep the manifest: (rows of these tasks, skipped, warnings)."""
    path = manifest_path(options.ct_root)
    done = read_done(path)
    dropped = settle_selection(done, tasks, options, add)
    todo = find_todo(done, tasks, options, workers)
    skipped, warned = [], []

    def save() -> None:
        write_manifest(path, itertools.chain(*done.values()))

    if dropped or todo:
        replace_file(unfinished_path(path), b"")
        if path.is_file():
            save()  # first of all: a run that is killed from here on leaves no rows of slices that it was replacing
        for name in OF_ALL_SLICES:
            path.with_name(name).unlink(missing_ok=True)
        remove_scans(dropped, options.roots_of_all)
    with periodic_save(save) as save_if_due:
        log = options.ct_root.parent / "errors.log"
        results = run_parallel(partial(prepare_scan, options=options), todo, workers, log, scheduler)
        for task, result in tqdm(results, total=len(todo), desc="scans", unit=" scan", disable=not todo):
            name = task.job.scan
            if isinstance(result, LungError):
                remove_scans([name], options.roots_of_all)
                skipped.append(Skipped(name, str(result)))
                continue
            done[name], warnings = result
            warned += [Warned(name, warning) for warning in warnings]
            save_if_due()
    unfinished_path(path).unlink(missing_ok=True)
    names = {task.job.scan for task in tasks}
    return [row for scan, rows in done.items() if scan in names for row in rows], skipped, warned


def print_report(
    rows: list[StoredSlice], skipped: list[Skipped], warned: list[Warned], options: PrepareOptions, following: str
) -> None:
    """Say what was done, what was not and why, where it is, what comes next. Raises LungError where nothing was."""
    print_notes(skipped, warned)
    skipped = [scan for scan in skipped if scan.is_fault]
    if not rows:
        raise LungError("no scan could be prepared; the reasons stand above")
    print(f"{count(len(by_scan(rows)), 'scan')}, {count(len(rows), 'slice')}, {len(skipped)} skipped")
    if options.lung_root:
        share = np.array([row.lung_px / (row.rows * row.columns) for row in rows])
        print(f"lung, share of a slice: {share.min():.1%} min, {np.median(share):.1%} median, {share.max():.1%} max")
    roots = ", ".join(map(str, options.roots))
    overview = options.ct_root.parent / "overview.png"
    save_png(overview, draw_overview(rows, options.ct_root, options.lung_root))
    print(f"wrote {roots} and {manifest_path(options.ct_root)}; look at {overview}, then run: {following}")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """This step's own flags."""
    add_scheduler_flag(parser)
    parser.add_argument("--test", action="store_true", help="step 4: all slices, CT only unless --labels")
    parser.add_argument("--all-slices", action="store_true", help="every slice, not the middle ones")
    parser.add_argument("--any-values", action="store_true", help="accept CT not in HU, and masks not like lung")
    parser.add_argument("--patients", metavar="N|LIST", help="the first N patients, or some by ID: A,B,C")
    parser.add_argument("--nodules", action="store_true", help="write how much of each nodule lies in the labels")
    parser.add_argument("--add", action="store_true", help="keep the scans of earlier commands in the set")
    parser.add_argument("--labels", type=Path, metavar="PATH", help="your masks, not ours: see docs/own_data.md")
    parser.add_argument("--series", choices=("largest", "all"), default="largest", help="which CT series of a patient")
    parser.add_argument("--label-values", type=parse_values, default=(), metavar="LIST", help="lung values: 1,2,3")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--dicom", type=is_dir_path, metavar="DIR", help="any folder of DICOM, not LIDC-IDRI")
    other.add_argument("--nifti", type=Path, metavar="FILE_OR_DIR", help="NIfTI, MetaImage or NRRD in HU")


def find_jobs(settings: PrepareSettings, flags: argparse.Namespace) -> tuple[list[Job], list[Skipped]]:
    """The scans that the flags and settings point to, of those to train on or of those to test on."""
    share = settings.test_share
    if flags.dicom or flags.nifti:
        share = flags.test_share or 0.0  # that of lung.conf is of LIDC_DICOM_PATH
        jobs, skipped = dicom_jobs(flags.dicom, flags.series == "all") if flags.dicom else nifti_jobs(flags.nifti)
    elif share and flags.lidc_test_dicom_path:
        raise LungError(f"--lidc-test-dicom-path and test_share = {share:g}: give one, or --test-share 0")
    else:
        own = flags.test and not share
        jobs, skipped = lidc_jobs(is_dir_path(settings.lidc_test_dicom_path if own else settings.lidc_dicom_path))
    if share:
        other = manifest_path(settings.lung_ct_path if flags.test else settings.lung_ct_test_path)
        jobs, notes = choose_part(jobs, share, settings.test_seed, flags.test, other)
        print(*notes, sep="\n")
    return choose_patients(jobs, flags.patients), skipped


def main(argv: list[str] | None = None) -> None:
    """Find the scans; for each, read, cut, save; say what was skipped and why, and where the result is."""
    settings, flags = parse_step(__doc__, PrepareSettings, argv, add_flags, lambda flags: flags.dicom or flags.nifti)
    if flags.scheduler:
        settings, flags = make_absolute(settings), make_absolute(flags)
    check_folders(settings.lung_ct_path, settings.lung_image_path, settings.lung_ct_test_path)
    ct_root = settings.lung_ct_test_path if flags.test else settings.lung_ct_path
    lungs = lung_root(ct_root) if flags.test else settings.lung_image_path
    options = PrepareOptions(
        ct_root,
        lung_root=lungs if flags.labels or not flags.test else None,
        labels=flags.labels,
        slices=None if flags.test or flags.all_slices else settings.slices_per_patient,
        any_values=flags.any_values,
        label_values=flags.label_values,
    )
    jobs, skipped = find_jobs(settings, flags)
    patients = len({job.patient_id for job in jobs})
    print(f"{len(jobs)} scans of {patients} patients found; {options.selection} slices of each")
    tasks, unlabelled = make_tasks(jobs, options)
    skipped += unlabelled
    workers = settings.workers or os.cpu_count()
    with exclusive_lock(ct_root.parent):
        rows, failed, warned = prepare_all(tasks, options, workers, flags.scheduler, flags.add)
        if flags.nodules and rows and options.lung_root:
            save_audit(by_scan(rows), ct_root, options.lung_root)
        following = f"python {'model_test.py' if flags.test else 'Lung_segmentation.py'}"
        print_report(rows, skipped + failed, warned, options, with_conf(following, flags.conf))
    unusable = [one for one in skipped if one.is_fault]
    if unusable or failed:
        total = count(len(jobs) + len(unusable), "scan")
        raise LungError(f"{len(unusable + failed)} of {total} skipped; see above")


if __name__ == "__main__":
    run_step(main)
