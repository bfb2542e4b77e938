"""What can be known to go wrong before hours of work: a table of results, each with what to do.

Nothing is written, and no pixel is read but one slice of the first scan.
"""

import importlib.metadata
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from lungct import OLDEST_PYTHON, REQUIREMENTS, LungError
from lungct.files import is_dir_path
from lungct.parallel import Skipped, count
from lungct.scans import lidc
from lungct.scans.find import Job, dicom_jobs, lidc_jobs, nifti_jobs, open_job
from lungct.scans.hold_out import hold_out
from lungct.scans.hu import check_hu_range
from lungct.settings import BY_ATTRIBUTE, default_values, load, resolve_path

USUAL_SHAPE = (512, 512)  # where no scan can be opened
NPY_HEADER_BYTES = 128
PICTURE_BYTES = 200_000  # an overlay of 512 x 512 and what the report shows of it, more than usual
RUN_BYTES = 300_000_000  # weights, checkpoint, and a picture for each epoch
TRAINING_BYTES = 1.5e9  # Python, torch and the network's layers for a batch
GIB = 2**30


@dataclass(frozen=True)
class CheckResult:
    """One row of the table; `remedy` is empty where all is well."""

    what: str
    found: str
    remedy: str = ""
    stops: bool = False  # a step would fail


def bytes_below(folder: Path) -> int:
    """What the files in a folder take."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


def nearest_existing(path: Path) -> Path:
    """The path itself, or the nearest one above it that is there."""
    return next(place for place in (path, *path.parents) if place.exists())


def check_python() -> Iterator[CheckResult]:
    """Version of Python, and of every package in requirements.txt."""
    version = ".".join(map(str, sys.version_info[:3]))
    too_old = sys.version_info < OLDEST_PYTHON
    yield CheckResult("Python", version, "install Python 3.10 or later" if too_old else "", too_old)
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        requirement = Requirement(text)
        try:
            installed = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            installed = "missing"
        good = installed != "missing" and requirement.specifier.contains(installed, prereleases=True)
        remedy = "" if good else f"wanted: {requirement.specifier}; pip install -r requirements.txt"
        yield CheckResult(requirement.name, installed, remedy, not good)


def check_settings(conf: Path) -> tuple[CheckResult, dict]:
    """lung.conf and pylidc.conf; and the settings. Raises LungError where lung.conf cannot be read."""
    values = load(conf)
    pylidc_conf = lidc.conf_path(conf)
    told = lidc.read_dicom_path(pylidc_conf) if pylidc_conf.is_file() else None
    where = values["lidc_dicom_path"]
    if told not in (where, str(resolve_path(where, conf.parent.absolute()))):
        remedy = f"it should say {where}; run: python config_file_create.py --conf {conf}"
        return CheckResult(str(pylidc_conf), told or "missing", remedy), with_paths(values, conf.parent)
    return CheckResult(f"{conf}, {pylidc_conf}", "readable"), with_paths(values, conf.parent)


def with_paths(values: dict, folder: Path) -> dict:
    """Settings whose paths are those that the steps use."""
    return {k: resolve_path(v, folder) if BY_ATTRIBUTE[k].is_path else v for k, v in values.items()}


def check_scans(values: dict, name: str) -> tuple[list[CheckResult], list[Job]]:
    """How many scans of how many patients there are, and each patient's reason where there is none."""
    key = BY_ATTRIBUTE[name].key
    try:
        jobs, skipped = lidc_jobs(is_dir_path(values[name]))
    except LungError as error:
        remedy = f"python config_file_create.py --{name.replace('_', '-')} DIR"
        return [CheckResult(key, str(error), remedy, stops=True)], []
    return [*count_scans(key, jobs, skipped)], jobs


def check_hold_out(jobs: list[Job], values: dict) -> tuple[list[CheckResult], list[Job], list[Job]]:
    """(A row on the patients held out to test on, the scans to train on, the scans to test on)."""
    try:
        train, test = hold_out(jobs, values["test_share"], values["test_seed"])
    except LungError as error:
        return [CheckResult("test_share", "not usable", str(error), stops=True)], jobs, []
    found = f"{count(len(test), 'scan')} held out to test on, {len(train)} to train on"
    return [CheckResult(f"test_share = {values['test_share']:g}", found)], train, test


def count_scans(what: str, jobs: list[Job], skipped: list[Skipped]) -> Iterator[CheckResult]:
    """How many scans of how many patients; a row for each that is left out, which is a fault or none."""
    patients = {job.patient_id for job in jobs}
    remedy = "" if jobs else "no scan is usable; see the rows below"
    found = f"{count(len(jobs), 'scan')} of {count(len(patients), 'patient')}"
    yield CheckResult(what, found, remedy, not jobs)
    for one in skipped:
        if one.is_fault:
            yield CheckResult(f"  {one.scan}", "skipped", one.reason)
        else:
            yield CheckResult(f"  {one.scan}", f"not used: {one.reason}")


def check_sample(jobs: list[Job]) -> tuple[CheckResult, tuple[int, int]]:
    """Whether the middle slice of the first scan holds HU; and the shape of a slice."""
    what = f"HU of {jobs[0].patient_id}"
    try:
        scan = open_job(jobs[0])
        image = scan.read([len(scan) // 2])
    except LungError as error:
        return CheckResult(what, "cannot be read", str(error)), USUAL_SHAPE
    fault = check_hu_range(image)
    remedy = f"looks like {fault}; --any-values accepts it all the same" if fault else ""
    low, high = image.min(), image.max()
    return CheckResult(
        what, f"{low} to {high} in the middle of {count(len(scan), 'slice')}", remedy, bool(fault)
    ), scan.frame.shape


def count_slices(jobs: list[Job]) -> list[int]:
    """Slices of each scan: files of its series, or what the header of its volume says."""
    return [len(open_job(job)) if isinstance(job.source, Path) else len(job.files) for job in jobs]


def bytes_to_write(values: dict, train: list[int], test: list[int], shape: tuple[int, int]) -> dict[str, int]:
    """What each folder of the settings will hold, at most, by setting; slices of each scan given."""
    slice_bytes = 2 * shape[0] * shape[1] + NPY_HEADER_BYTES
    training = sum(min(values["slices_per_patient"], total) for total in train)
    predicted = shape[0] * shape[1] + NPY_HEADER_BYTES + PICTURE_BYTES * (values["png"] == "all")
    return {
        "lung_ct_path": training * slice_bytes,
        "lung_image_path": training * slice_bytes,
        "lung_ct_test_path": sum(test) * slice_bytes,
        "run_path": RUN_BYTES,
        "predictions_path": sum(test) * predicted,
    }


def check_disk(values: dict, needed: dict[str, int]) -> Iterator[CheckResult]:
    """Free space of each disk against what is still to be written there; and whether it can be written."""
    to_come: dict[int, int] = {}
    folders: dict[int, Path] = {}
    for name, most in needed.items():
        folder = values[name]
        there = nearest_existing(folder.absolute())
        if not there.is_dir() or not os.access(there, os.W_OK):
            remedy = f"cannot write in {there}; --{name.replace('_', '-')} another folder"
            yield CheckResult(BY_ATTRIBUTE[name].key, str(folder), remedy, stops=True)
        disk = there.stat().st_dev
        folders.setdefault(disk, there)
        to_come[disk] = to_come.get(disk, 0) + max(0, most - bytes_below(folder))
    for disk, there in folders.items():
        free = psutil.disk_usage(str(there)).free
        full = free < to_come[disk]
        remedy = "make room, take fewer patients (--patients), or use --png none" if full else ""
        found = f"{free / GIB:.1f} GiB free, {to_come[disk] / GIB:.1f} GiB to write"
        yield CheckResult(f"disk of {there}", found, remedy, full)


def check_memory() -> CheckResult:
    """Memory that is free against the training's, whose slices stay on disk."""
    free = psutil.virtual_memory().available
    remedy = "close other programs, or take a smaller --batch-size" if free < TRAINING_BYTES else ""
    return CheckResult(
        "memory", f"{free / GIB:.1f} GiB free, step 3 needs about {TRAINING_BYTES / GIB:.1f} GiB", remedy
    )


def check_device(choice: str) -> CheckResult:
    """What step 3 and 5 will compute on."""
    from lungct.device import pick_amp, pick_device

    try:
        device = pick_device(choice)
    except LungError as error:
        return CheckResult("device", choice, str(error), stops=True)
    if device.type != "cpu":
        return CheckResult("device", str(device))
    precision = "bfloat16" if pick_amp("auto", device) else "float32"
    return CheckResult("device", f"cpu, {count(os.cpu_count() or 1, 'processor')}, {precision}")


def find_jobs(flag: str, place: Path) -> tuple[list[Job], list[Skipped]]:
    """The scans that --dicom or --nifti names, and what is left out. Raises LungError where there is none at all."""
    if flag == "--dicom":
        return dicom_jobs(is_dir_path(place))
    jobs, skipped = nifti_jobs(place)
    readable = []
    for job in jobs:
        try:
            open_job(job)
            readable.append(job)
        except LungError as error:
            skipped.append(Skipped(job.scan, str(error)))
    return readable, skipped


def check_folder(flag: str, place: Path, values: dict) -> Iterator[CheckResult]:
    """What `prepare_lung_image.py --test --dicom DIR` (or --nifti) would find, and the room that it and step 5 need."""
    try:
        jobs, skipped = find_jobs(flag, place)
    except LungError as error:
        yield CheckResult(f"{flag} {place}", "not usable", str(error), stops=True)
        return
    yield from count_scans(f"{flag} {place}", jobs, skipped)
    if jobs:
        sample, shape = check_sample(jobs)
        needed = bytes_to_write(values, [], count_slices(jobs), shape)
        yield sample
        yield from check_disk(values, {name: needed[name] for name in ("lung_ct_test_path", "predictions_path")})


def check_all(conf: Path, place: tuple[str, Path] | None = None) -> list[CheckResult]:
    """Every result, in the order in which the steps would fail.

    place: --dicom or --nifti and what it names, in place of the folders of lung.conf, which then need not be there
    """
    results = list(check_python())
    if any(result.stops for result in results):
        return results  # the rest needs the packages
    try:
        if place:
            values = with_paths(load(conf) if conf.is_file() else default_values(), conf.parent)
            return [*results, *check_folder(*place, values), check_device(values["device"])]
        result, values = check_settings(conf)
    except LungError as error:
        return [*results, CheckResult(str(conf), "not usable", str(error), stops=True)]
    train_results, train_jobs = check_scans(values, "lidc_dicom_path")
    test_results, test_jobs = check_scans(values, "lidc_test_dicom_path") if not values["test_share"] else ([], [])
    if values["test_share"] and train_jobs:
        test_results, train_jobs, test_jobs = check_hold_out(train_jobs, values)
    results += [result, *train_results, *test_results]
    if not values["test_share"] and values["lidc_dicom_path"].resolve() == values["lidc_test_dicom_path"].resolve():
        remedy = "scores would be those of patients that were trained on; hold some out: --test-share 0.2"
        results.append(CheckResult(BY_ATTRIBUTE["lidc_test_dicom_path"].key, "is LIDC_DICOM_PATH, too", remedy))
    shape = USUAL_SHAPE
    if train_jobs or test_jobs:
        sample, shape = check_sample(train_jobs or test_jobs)
        results.append(sample)
    train, test = count_slices(train_jobs), count_slices(test_jobs)
    results += check_disk(values, bytes_to_write(values, train, test, shape))
    return [*results, check_memory(), check_device(values["device"])]
