"""What a thousand times more scans cost: steps 4 and 5 measured on a Dask cluster of this machine, NLST estimated.

Run     python -m benchmarks.scale     writes the section into docs/cluster.md
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas

from benchmarks.data import many_scans
from benchmarks.report import ROOT, WORK, step, table, write_section
from lungct.scans.download import choose_series, open_index
from lungct.scans.find import dicom_jobs

PAGE = ROOT / "docs" / "cluster.md"
SCANS, SLICES, ROUNDS = 8, 250, 3
PORT = 8797
STEP_4, STEP_5 = "prepare_lung_image.py", "model_test.py"
CORES, LINE_GBIT_S = 100, 1  # of a cluster to think of, and of its line to the Imaging Data Commons
CORE_HOUR_USD, GB_MONTH_USD = 0.05, 0.023  # assumed; the second is S3 Standard's first tier
TB, GB, HOUR_S = 1e12, 1e9, 3600


@dataclass(frozen=True)
class Cost:
    """What was measured: seconds of a core and bytes on disk, for a slice or a scan."""

    header_s: float
    step_4_s: float
    step_5_s: float
    ct_bytes: float
    mask_bytes: float
    scan_bytes: float  # the .nii.gz
    report_bytes: float  # a scan's share of the page and the pictures that it shows
    manifest_bytes: float


@contextmanager
def cluster(workers: int) -> Iterator[str]:
    """The address of a scheduler with so many workers of one thread each."""
    address = f"tcp://127.0.0.1:{PORT}"
    commands = [("scheduler", "--host", "127.0.0.1", "--port", str(PORT))]
    commands.append(("worker", address, "--nworkers", str(workers), "--nthreads", "1"))
    with ExitStack() as stack:
        for command in commands:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *command, "--no-dashboard"],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
        yield address


def folder_bytes(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern))


def measure(root: Path, folder: Path) -> Cost:
    """Both steps on all processors of this machine, their start included; medians."""
    cores = os.cpu_count()
    times: list[tuple[float, float]] = []
    with cluster(cores) as address:
        for _ in range(ROUNDS + 1):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            prepare, _ = step(STEP_4, "--test", "--dicom", root, "--scheduler", address, cwd=folder)
            flags = ("--png", "none", "--save", "nifti", "--scheduler", address)
            times.append((prepare, step(STEP_5, *flags, cwd=folder)[0]))
    step_4_s, step_5_s = (
        statistics.median(part) * cores for part in zip(*times[1:], strict=True)
    )  # the first warms up
    start = time.perf_counter()
    dicom_jobs(root)
    headers_s = time.perf_counter() - start
    slices = SCANS * SLICES
    slices_root, predictions = folder / "mydata" / "Image_test", folder / "predictions"
    page = (predictions / "report.html").stat().st_size + folder_bytes(predictions, "*.jpg")
    return Cost(
        header_s=headers_s / slices,
        step_4_s=step_4_s / slices,
        step_5_s=step_5_s / slices,
        ct_bytes=folder_bytes(slices_root / "ct", "*.npy") / slices,
        mask_bytes=folder_bytes(predictions, "*.npy") / slices,
        scan_bytes=folder_bytes(predictions, "*.nii.gz") / SCANS,
        report_bytes=page / SCANS,
        manifest_bytes=(slices_root / "manifest.csv").stat().st_size / slices,
    )


def column(series: pandas.DataFrame, cost: Cost) -> list[str]:
    """The estimates for some series, in the order of WHAT."""
    scans, slices, dicom = len(series), int(series.instanceCount.sum()), series.series_size_MB.sum() * 1e6
    core_hours = slices * (cost.step_4_s + cost.step_5_s) / HOUR_S
    kept = slices * cost.mask_bytes + scans * (cost.scan_bytes + cost.report_bytes)
    return [
        f"{scans:,}",
        f"{slices:,}",
        f"{dicom / TB:.2f} TB",
        f"{dicom * 8 / LINE_GBIT_S / 1e9 / HOUR_S:.0f} h",
        f"{slices * cost.header_s / HOUR_S:.1f} h",
        f"{slices * cost.step_4_s / HOUR_S:,.0f} core hours",
        f"{slices * cost.step_5_s / HOUR_S:,.0f} core hours",
        f"{core_hours / CORES:.1f} h",
        f"{core_hours * CORE_HOUR_USD:,.0f} USD",
        f"{slices * cost.ct_bytes / TB:.2f} TB",
        f"{slices * cost.manifest_bytes / GB:.1f} GB",
        f"{slices * cost.mask_bytes / TB:.2f} TB",
        f"{scans * cost.scan_bytes / GB:.1f} GB",
        f"{scans * cost.report_bytes / GB:.2f} GB",
        f"{kept / GB * GB_MONTH_USD:,.0f} USD",
        f"{scans * cost.scan_bytes / GB * GB_MONTH_USD:,.2f} USD",
    ]


WHAT = (
    "scans",
    "slices",
    "DICOM",
    f"download at {LINE_GBIT_S} Gbit/s (free of charge)",
    "reading headers, one core of the machine that starts step 4",
    "step 4",
    "step 5",
    f"steps 4 and 5 on {CORES} cores",
    f"cost at {CORE_HOUR_USD} USD per core hour (assumed)",
    "CT slices between the steps (`.npy`)",
    "`manifest.csv` of these slices",
    "masks (`.npy`)",
    "masks (`.nii.gz`)",
    "report and its pictures",
    f"storage of all output of step 5, per month, at {GB_MONTH_USD} USD per GB (S3 Standard)",
    "storage of the `.nii.gz` files only, per month",
)


def main() -> None:
    """Measure here, count there, write the section."""
    root, folder = WORK / "many", WORK / "scale"
    many_scans(root, SCANS, SLICES)
    cost = measure(root, folder)
    every = choose_series(open_index().index, "nlst", "999999")
    largest = every.sort_values("instanceCount").groupby("PatientID").tail(1)
    lines = table(
        ("measured here", "per slice", f"per scan of {SLICES} slices"),
        [
            ("header", f"{cost.header_s * 1e3:.2f} ms", f"{cost.header_s * SLICES:.2f} s"),
            ("step 4, core time", f"{cost.step_4_s * 1e3:.1f} ms", f"{cost.step_4_s * SLICES:.1f} s"),
            ("step 5, core time", f"{cost.step_5_s * 1e3:.1f} ms", f"{cost.step_5_s * SLICES:.1f} s"),
            ("CT slice on disk", f"{cost.ct_bytes / 1e3:.0f} kB", f"{cost.ct_bytes * SLICES / 1e6:.0f} MB"),
            ("mask on disk", f"{cost.mask_bytes / 1e3:.0f} kB", f"{cost.mask_bytes * SLICES / 1e6:.0f} MB"),
            ("`.nii.gz`", "", f"{cost.scan_bytes / 1e3:.0f} kB"),
            ("report and its picture", "", f"{cost.report_bytes / 1e3:.1f} kB"),
        ],
    )
    lines += [
        "",
        f"{SCANS} scans of {SLICES} slices on {os.cpu_count()} workers of one thread each, start of both steps",
        f"included; medians of {ROUNDS} rounds.",
        "",
    ]
    lines += [
        "The numbers of series and slices come from the index in the package idc-index-data. `--download` fetches",
        "all CT series of a patient; the steps use the one with the most slices. Seconds and bytes were measured on a",
        "synthetic scan with 512x512 pixels per slice, as in NLST, but with shorter DICOM headers than real ones.",
        "",
    ]
    head = ("NLST", "the largest series of each patient", "every CT series")
    lines += table(head, list(zip(WHAT, column(largest, cost), column(every, cost), strict=True)))
    write_section("NLST, estimated", lines, PAGE)


if __name__ == "__main__":
    main()
