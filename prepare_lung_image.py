"""Steps 2 and 4. Save the slices of CT scans as .npy files, for training together with their lungs.

Reads   lung.conf, and the scans in the DICOM folder that it names
Writes  mydata/Image/{ct,lung}/<patient>/<nnnn>_slice<kkk>.npy, mydata/Image/manifest.csv, overview.png
        with --test: mydata/Image_test/ct/..., mydata/Image_test/manifest.csv, overview.png
Run     python prepare_lung_image.py                     step 2, training: the middle ten slices of each scan
        python prepare_lung_image.py --test              step 4, test: all slices, CT only
        python prepare_lung_image.py --test --dicom DIR  any DICOM scans, without lung.conf; also --nifti FILE_OR_DIR
        python prepare_lung_image.py --scheduler tcp://host:8786   on a Dask cluster (docs/cluster.md)
"""

import argparse
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from tqdm import tqdm

from lungct import LungError
from lungct.evaluation.figures import contact_sheet, overlay, save_png
from lungct.files import exclusive_lock, is_dir_path, npy_bytes, periodic_save, read_npy, replace_folder
from lungct.masks.read import find_label, read_lung
from lungct.parallel import add_scheduler_flag, run_parallel
from lungct.scans.find import Job, choose_patients, dicom_jobs, lidc_jobs, nifti_jobs, open_job
from lungct.scans.geometry import Scan, contiguous_runs
from lungct.scans.hu import check_hu_range
from lungct.segmentation.threshold import segment_lung
from lungct.settings import PREPARE, make_absolute, parse_step, run_step
from lungct.slices import (
    COLUMNS,
    by_scan,
    clip_ct,
    is_lung,
    lung_image,
    lung_root,
    manifest_path,
    middle_indices,
    read_manifest,
    slice_name,
    slice_path,
    write_manifest,
)

MAKER = "segment_lung"
NO_LABEL = "none"
OVERVIEW_PATIENTS = 60


@dataclass(frozen=True)
class PrepareOptions:
    """What to do with every scan."""

    ct_root: Path
    lung_root: Path | None
    labels: Path | None
    slices: int | None  # None: all
    any_values: bool  # also values that cannot be HU

    @property
    def selection(self) -> str:
        return "all" if self.slices is None else f"middle {self.slices}"


def make_lung(scan: Scan, wanted: range, ct_hu: np.ndarray) -> np.ndarray:
    """Our own label of the wanted slices, each run of neighbours by itself: (Z, H, W) bool."""
    lung = np.zeros(ct_hu.shape, bool)
    for run in contiguous_runs(scan.z_mm[wanted.start : wanted.stop]):
        lung[run] = segment_lung(ct_hu[run], scan.spacing_mm)
    return lung


def prepare_scan(job: Job, options: PrepareOptions) -> tuple[list[dict], tuple[str, ...]]:
    """Cut one scan and write its folders; returns its manifest rows and what was odd. Raises LungError."""
    scan = open_job(job)
    wanted = middle_indices(len(scan), options.slices or len(scan))
    warnings = scan.warnings
    if options.slices and len(wanted) < options.slices:
        warnings = (*warnings, f"only {len(wanted)} of {options.slices} slices")
    label_file = find_label(options.labels, (job.patient_id, job.scan, scan.series_uid)) if options.labels else None
    ct_hu = scan.read(wanted)
    fault = check_hu_range(ct_hu)
    if fault and not options.any_values:
        raise LungError(f"{scan.files[0].parent}: looks like {fault}, not HU; if it is right, add --any-values")
    lung, source = None, NO_LABEL
    if options.labels:
        lung = read_lung(label_file, scan)[wanted.start : wanted.stop]
        source = label_file.name
    elif options.lung_root:
        lung, source = make_lung(scan, wanted, ct_hu), MAKER
    names = [slice_name(job.scan, z) for z in wanted]
    if lung is not None:
        images = {f"{n}.npy": npy_bytes(lung_image(ct, mask)) for n, ct, mask in zip(names, ct_hu, lung, strict=True)}
        replace_folder(options.lung_root / job.scan, images)
    replace_folder(
        options.ct_root / job.scan, {f"{n}.npy": npy_bytes(clip_ct(ct)) for n, ct in zip(names, ct_hu, strict=True)}
    )
    slice_mm, row_mm, col_mm = scan.spacing_mm
    axes = " ".join(f"{c:.6g}" for c in scan.axes.ravel())
    rows = []
    for n, (z, name) in enumerate(zip(wanted, names, strict=True)):
        corner = (round(float(c), 4) for c in scan.corners_mm[z])
        place = (name, z, *corner, axes, round(slice_mm, 6), row_mm, col_mm)
        lung_px = -1 if lung is None else int(np.count_nonzero(lung[n]))
        values = (job.patient_id, job.scan, scan.series_uid, *place, lung_px, source, options.selection)
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows, warnings


def is_done(rows: list[dict], options: PrepareOptions) -> bool:
    """Whether a scan's rows and files are what is wished now."""
    source = rows[0]["label_source"]
    ours = MAKER if options.lung_root else NO_LABEL
    same_source = source not in (MAKER, NO_LABEL) if options.labels else source == ours
    roots = [root for root in (options.ct_root, options.lung_root) if root]
    there = all(slice_path(root, row).is_file() for row in rows for root in roots)
    return same_source and rows[0]["selection"] == options.selection and there


def read_done(path: Path) -> dict[str, list[dict]]:
    """The scans of an earlier run's manifest; none where it is damaged or of another version."""
    try:
        return by_scan(read_manifest(path)) if path.is_file() else {}
    except LungError as error:
        print(f"{error}; every scan is prepared again")
        return {}


def prepare_all(
    jobs: list[Job], options: PrepareOptions, workers: int, scheduler: str = ""
) -> tuple[list[dict], list[tuple[str, str]], list[tuple[str, str]]]:
    """Prepare what is not done yet and keep the manifest: (rows of these jobs, skipped, warnings)."""
    path = manifest_path(options.ct_root)
    done = read_done(path)
    todo = [job for job in jobs if job.scan not in done or not is_done(done[job.scan], options)]
    for job in todo:
        done.pop(job.scan, None)
    if len(todo) < len(jobs):
        print(f"{len(jobs) - len(todo)} of {len(jobs)} scans are done already")
    skipped, warnings = [], []
    with periodic_save(lambda: write_manifest(path, [row for scan in done.values() for row in scan])) as save_if_due:
        results = run_parallel(partial(prepare_scan, options=options), todo, workers, scheduler)
        for job, result in tqdm(results, total=len(todo), desc="scans", unit="scan"):
            if isinstance(result, LungError):
                skipped.append((job.scan, str(result)))
                continue
            done[job.scan], notes = result
            warnings += [(job.scan, note) for note in notes]
            save_if_due()
    names = {job.scan for job in jobs}
    return [row for scan, rows in done.items() if scan in names for row in rows], skipped, warnings


def save_overview(rows: list[dict], options: PrepareOptions) -> Path:
    """One middle slice of each scan with the outline of its lung, to look at."""
    scans = list(by_scan(rows).items())[:OVERVIEW_PATIENTS]
    middles = [(name, scan[len(scan) // 2]) for name, scan in scans]
    tiles = []
    for _, row in middles:
        masks = [is_lung(read_npy(slice_path(options.lung_root, row)))] if options.lung_root else []
        tiles.append(overlay(read_npy(slice_path(options.ct_root, row)), *masks))
    path = options.ct_root.parent / "overview.png"
    save_png(path, contact_sheet(tiles, [name for name, _ in middles], columns=min(6, len(tiles))))
    return path


def report(rows: list[dict], skipped: list, warnings: list, options: PrepareOptions) -> None:
    """Say what was done, what was not and why, and where the result is."""
    for title, notes in (("skipped", skipped), ("look", warnings)):
        for name, note in sorted(notes):
            print(f"{title:8s}{name:24s}{note}")
    if not rows:
        raise LungError(f"no scan could be prepared; the {len(skipped)} reasons are above")
    print(f"{len(by_scan(rows))} scans, {len(rows)} slices, {len(skipped)} skipped")
    if options.lung_root:
        shape = read_npy(slice_path(options.ct_root, rows[0])).size
        share = np.array([row["lung_px"] for row in rows]) / shape
        print(f"lung in a slice: {share.min():.1%} min, {np.median(share):.1%} median, {share.max():.1%} max")
    roots = [str(root) for root in (options.ct_root, options.lung_root) if root]
    print(f"wrote {', '.join(roots)}, {manifest_path(options.ct_root)} and {save_overview(rows, options)}")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """This step's own flags."""
    add_scheduler_flag(parser)
    parser.add_argument("--test", action="store_true", help="step 4: every slice of the test scans, CT only")
    parser.add_argument("--all-slices", action="store_true", help="every slice, not the middle ones")
    parser.add_argument("--any-values", action="store_true", help="go on where the values cannot be HU")
    parser.add_argument("--patients", metavar="N|LIST", help="the first N patients, or some by name: A,B,C")
    parser.add_argument(
        "--labels",
        type=is_dir_path,
        metavar="DIR",
        help="masks (NIfTI, NumPy, MetaImage, DICOM SEG, RTSTRUCT) instead of ours",
    )
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--dicom", type=is_dir_path, metavar="DIR", help="any DICOM tree instead of LIDC-IDRI")
    other.add_argument("--nifti", type=Path, metavar="FILE_OR_DIR", help="NIfTI in HU instead of LIDC-IDRI")


def find_jobs(settings: SimpleNamespace, flags: argparse.Namespace) -> tuple[list[Job], list[tuple[str, str]]]:
    """The scans that the flags and settings point to."""
    if flags.dicom:
        return dicom_jobs(flags.dicom)
    if flags.nifti:
        return nifti_jobs(flags.nifti)
    return lidc_jobs(is_dir_path(settings.lidc_test_dicom_path if flags.test else settings.lidc_dicom_path))


def main(argv: list[str] | None = None) -> None:
    """Find the scans; for each, read, cut, save; say what was skipped and why, and where the result is."""
    settings, flags = parse_step(__doc__, [PREPARE], argv, add_flags, lambda flags: flags.dicom or flags.nifti)
    if flags.scheduler:
        make_absolute(settings, flags)
    ct_root = Path(settings.lung_ct_test_path if flags.test else settings.lung_ct_path).expanduser()
    lungs = lung_root(ct_root) if flags.test else Path(settings.lung_image_path).expanduser()
    options = PrepareOptions(
        ct_root,
        lung_root=lungs if flags.labels or not flags.test else None,
        labels=flags.labels,
        slices=None if flags.test or flags.all_slices else settings.slices_per_patient,
        any_values=flags.any_values,
    )
    jobs, skipped = find_jobs(settings, flags)
    jobs = choose_patients(jobs, flags.patients)
    patients = len({job.patient_id for job in jobs})
    print(f"{len(jobs)} scans of {patients} patients found; {options.selection} slices of each")
    with exclusive_lock(ct_root.parent):
        rows, failed, warnings = prepare_all(jobs, options, settings.workers or os.cpu_count(), flags.scheduler)
        report(rows, skipped + failed, warnings, options)
    if skipped or failed:
        raise LungError(f"{len(skipped + failed)} of {len(jobs) + len(skipped)} scans were skipped; see above")


if __name__ == "__main__":
    run_step(main)
