"""The scans to predict, from the slices of step 4 or straight from their files: what is read is the same.

Z slices, H rows, W columns.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lungct import LungError
from lungct.files import file_stamps
from lungct.masks.predicted import without_label
from lungct.masks.read import find_labels, label_stamps, read_slices
from lungct.parallel import Skipped, count
from lungct.scans.dicom import REFERS, DicomScan, as_dicom
from lungct.scans.find import Job, choose_names, job_stamps, open_job, read_hu, slice_rows, source_of
from lungct.scans.geometry import Frame, as_in_rows, frame_of
from lungct.slice_files import read_stack
from lungct.slices import (
    STEP_4,
    SliceRow,
    StoredSlice,
    by_scan,
    clip_ct,
    is_lung,
    lung_root,
    manifest_path,
    print_other_code,
    read_manifest,
    safe_name,
    slice_name,
    slice_path,
)

STEP_4_AGAIN = f"run step 4 again: {STEP_4}"


@dataclass(frozen=True)
class Volume:
    """What is read of a scan.

    rows:     a row for each slice, as manifest.csv has them
    frame:    where the slices lie, with all digits where they are known
    ct_hu:    (Z, H, W) int16 HU, clipped as step 4 stores it
    truth:    the reference lungs, (Z, H, W) bool; None where there are none
    warnings: what was unusual about the files, which `score_volume` makes flags of
    """

    rows: list[SliceRow]
    frame: Frame
    ct_hu: np.ndarray
    truth: np.ndarray | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoredCase:
    """A scan whose slices step 4 has left below `ct_root`."""

    rows: list[StoredSlice]
    ct_root: Path

    @property
    def scan(self) -> str:
        return self.rows[0].scan

    @property
    def patient_id(self) -> str:
        return self.rows[0].patient_id

    @property
    def location(self) -> Path:
        """Where step 4 read the scan, which may be there no longer."""
        return (self.ct_root.parent.resolve() / self.rows[0].source).resolve()  # as `source_of` counts

    def stamps(self) -> tuple[list, list]:
        """What tells whether CT and reference are those of before. Raises OSError where one is gone."""
        ct = file_stamps(slice_path(self.ct_root, row) for row in self.rows)
        lungs = lung_root(self.ct_root)
        truth = file_stamps(slice_path(lungs, row) for row in self.rows) if self.rows[0].has_label else []
        return [[row.scan_checksum for row in self.rows], ct], truth

    def slice_names(self, slices: int) -> list[str]:
        """What the files of the slices are called, feet first."""
        return [safe_name(row.slice_name) for row in self.rows]

    def read(self) -> Volume:
        """Raises LungError where slices are missing, damaged, or not as step 4 wrote them for these rows."""
        ct_hu, truth = read_stack(self.ct_root, self.rows, "ct"), None
        if self.rows[0].has_label:
            truth = is_lung(read_stack(lung_root(self.ct_root), self.rows, "lung"))
        warnings = tuple(filter(None, self.rows[0].warnings.split("; ")))
        return Volume(self.rows, frame_of(self.rows), ct_hu, truth, warnings)

    def find_dicom(self, ct_hu: np.ndarray | None = None) -> DicomScan:
        """The scan that step 4 took the slices from.

        ct_hu: (Z, H, W) as `read` gives it, which the files must hold; None: only headers are looked at

        Raises LungError where it is no DICOM, not there any more, or of another patient or other pixels by now.
        """
        from lungct.masks.source import SAY_WHERE, find_scan  # few ask for it

        place = self.location
        if place.is_file():
            raise LungError(f"{REFERS}, and it was {place.name}")
        if not place.is_dir():
            raise LungError(f"{REFERS}, and {place} is not there any more; {SAY_WHERE}")
        scan = find_scan(place, self.rows[0].series_uid, frame_of(self.rows))
        if scan.patient_id != self.patient_id:
            raise LungError(
                f"{place} is of {scan.patient_id}, the slices of step 4 are of {self.patient_id}; {STEP_4_AGAIN}"
            )
        if ct_hu is not None and not holds(scan, ct_hu):
            raise LungError(f"{place}: other pixels than when step 4 read them; {STEP_4_AGAIN}")
        return scan


def holds(scan: DicomScan, ct_hu: np.ndarray) -> bool:
    """Whether the files of a scan hold a CT (Z, H, W), clipped as step 4 stores it. Raises LungError as `read` does."""
    return len(scan) == len(ct_hu) and all(
        np.array_equal(clip_ct(scan.read([z])[0]), ct_hu[z]) for z in range(len(scan))
    )


@dataclass(frozen=True)
class FileCase:
    """A scan that is read from its own files, and its reference where one was given.

    root: folder from which the scan's place counts, so that a study can be moved as a whole
    """

    job: Job
    root: Path
    label: Path | None = None
    label_values: tuple[int, ...] = ()
    any_values: bool = False

    @property
    def scan(self) -> str:
        return self.job.scan

    @property
    def patient_id(self) -> str:
        return self.job.patient_id

    @property
    def location(self) -> Path:
        """Where the scan lies."""
        return self.job.location

    def stamps(self) -> tuple[list, list]:
        """What tells whether scan and reference are those of before. Raises OSError where one is gone."""
        truth = label_stamps(self.label, self.label_values) if self.label else []
        return [job_stamps(self.job, self.root), self.any_values], truth

    def slice_names(self, slices: int) -> list[str]:
        """What the files of the slices are called, feet first."""
        return [safe_name(slice_name(self.scan, z)) for z in range(slices)]

    def read(self) -> Volume:
        """Raises LungError where the scan cannot be read, is not in HU, or the reference is not of it."""
        scan = open_job(self.job)
        everything, truth, warnings = range(len(scan)), None, scan.warnings
        ct_hu, more = read_hu(self.job, scan, everything, self.any_values)
        warnings += more
        if self.label:
            compared = None if self.any_values else ct_hu
            truth, more = read_slices(self.label, scan, everything, compared, self.label_values)
            warnings += more
        source = source_of(self.location, self.root)
        same = {"label_source": "", "selection": "all", "source": source, "fingerprint": ""}
        rows = slice_rows(self.job, scan, everything, **same)
        return Volume(rows, as_in_rows(scan.frame), clip_ct(ct_hu, out=ct_hu), truth, warnings)

    def find_dicom(self, ct_hu: np.ndarray | None = None) -> DicomScan:
        """The scan itself, of which `read` has just read ct_hu. Raises LungError where it is no DICOM."""
        return as_dicom(open_job(self.job))


Case = StoredCase | FileCase


def read_from(root: Path, case: Case) -> Volume:
    """What is read of a scan, with its place as seen from a folder in its rows. Raises LungError as `read` does."""
    volume, source = case.read(), source_of(case.location, root)
    return replace(volume, rows=[replace(row, source=source) for row in volume.rows])


def stored_cases(ct_root: Path, wanted: str | None) -> list[StoredCase]:
    """The scans of the manifest of step 4, of all patients or of some; warns of slices made by other code.

    Raises LungError for patients not there.
    """
    scans = by_scan(read_manifest(manifest_path(ct_root), STEP_4))
    if wanted is not None:
        patients = list(dict.fromkeys(scan[0].patient_id for scan in scans.values()))
        chosen = choose_names(patients, wanted, f"--patients: not among the {count(len(patients), 'patient')} prepared")
        scans = {name: scan for name, scan in scans.items() if scan[0].patient_id in chosen}
    print_other_code((row for scan in scans.values() for row in scan), ct_root, STEP_4)
    return [StoredCase(scan, ct_root) for scan in scans.values()]


def file_cases(
    jobs: list[Job], root: Path, labels: Path | None, label_values: tuple[int, ...], any_values: bool
) -> tuple[list[FileCase], list[Skipped]]:
    """A case for each scan, and the scans whose reference cannot be found; `labels` as step 2 takes it."""
    found = find_labels(labels, [job.names for job in jobs]) if labels else [None] * len(jobs)
    cases, skipped = [], []
    for job, label in zip(jobs, found, strict=True):
        if isinstance(label, LungError):
            skipped.append(without_label(job.scan, label))
        else:
            cases.append(FileCase(job, root, label, label_values, any_values))
    return cases, skipped
