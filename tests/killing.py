"""Steps 2, 3 and 5 killed at a random moment and run again: in the end there must be what an undisturbed run gives.

The tests do it once for each step, `make soak` many times.
"""

import csv
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from conftest import ROOT, run, small_patient

from lungct.files import LOCK_NAME
from lungct.phantom.lidc_tree import write_series
from lungct.scans.lidc import scans_without_nodules

PATIENTS = 4
SMALL = ("--width", "4", "--depth", "3", "--epochs", "3", "--batch-size", "10", "--device", "cpu", "--amp", "off")
STEPS = {
    "prepare_lung_image.py": ("--workers", "2"),
    "Lung_segmentation.py": SMALL,
    "model_test.py": ("--device", "cpu", "--amp", "off"),
}

TIMED = {"seconds": "", "fingerprint": "", "files": ""}  # columns of tables


def start(script: str, folder: Path, *more: str, threads: int = 1) -> subprocess.Popen:
    """Start a step in a folder, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / script), *STEPS[script], *more],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": str(threads)},
    )


def finish(process: subprocess.Popen) -> None:
    """Wait for a step that must succeed."""
    errors = process.communicate()[1].decode()
    assert process.returncode == 0, errors


@dataclass(frozen=True)
class Step:
    """A step that nobody disturbed: the folder before it (to be copied, not worked in), what it gave, its time."""

    before: Path
    expected: dict[str, str]
    seconds: float
    growth: int  # bytes of its new files


def run_steps(folder: Path) -> dict[str, Step]:
    """Run each step to its end, or read what an earlier call has left in `folder`; by script."""
    homes = [folder / str(number) for number in range(len(STEPS) + 1)]
    record = folder / "seconds.json"
    if not record.is_file():
        shutil.rmtree(folder, ignore_errors=True)  # of a call that failed
        make_home(homes[0])
        seconds = []
        for script, before, after in zip(STEPS, homes, homes[1:], strict=False):
            shutil.copytree(before, after)
            seconds.append(undisturbed(after, script)[1])
        record.write_text(json.dumps(seconds))
    took = json.loads(record.read_text())
    steps = zip(STEPS, homes, homes[1:], took, strict=False)
    return {
        script: Step(before, snapshot(after), seconds, bytes_added(before, after))
        for script, before, after, seconds in steps
    }


def bytes_added(before: Path, after: Path) -> int:
    """The size of the files that a folder has more than the one before."""
    new = (path for path in after.rglob("*") if path.is_file() and not (before / path.relative_to(after)).exists())
    return sum(path.stat().st_size for path in new)


def make_home(folder: Path) -> None:
    """Scans and settings, ready for step 2; step 4's slices, too, so that step 5 finds them."""
    folder.mkdir(parents=True)
    for seed, who in enumerate(scans_without_nodules()[:PATIENTS]):
        patient = small_patient(seed)
        middle = len(patient.ct_hu) // 2
        part = patient.ct_hu[middle - 6 : middle + 6]
        write_series(folder / "LIDC-IDRI" / who.patient_id / "a" / "b", who, part, patient.spacing_mm)
    run("config_file_create.py", "--lidc-test-dicom-path", "./LIDC-IDRI", cwd=folder)
    run("prepare_lung_image.py", "--test", "--workers", "1", cwd=folder)


def snapshot(folder: Path) -> dict[str, str]:
    """What the steps have written, by file: a checksum; times (and the fingerprints of tables, which hold them) and the
    order inside archives do not count.
    """
    found = {}
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != LOCK_NAME)
    for path in (p for p in files if p.relative_to(folder).parts[0] != "LIDC-IDRI"):
        name = str(path.relative_to(folder))
        if path.name in ("history.csv", "manifest.csv", "scores.csv"):
            with path.open(newline="") as file:
                times = {"seconds": "", "fingerprint": "", "scan_checksum": "", "files": ""}
                found[name] = str([{**row, **times} for row in csv.DictReader(file)])
        elif path.name == "checkpoint.pth":
            state = torch.load(path, weights_only=True)
            found[name] = str({key: tensor.sum().item() for key, tensor in state["network"].items()})
        elif path.name == "report.html":  # says when a scan was predicted
            found[name] = hashlib.sha256(re.sub(rb'"made":"[^"]*"', b"", path.read_bytes())).hexdigest()
        elif path.name == "unet_model.json":
            found[name] = "seconds differ"
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def undisturbed(home: Path, script: str, *more: str, threads: int = 1) -> tuple[dict[str, str], float]:
    """Run a step to its end; returns what there is then, and how long it took."""
    began = time.perf_counter()
    finish(start(script, home, *more, threads=threads))
    return snapshot(home), time.perf_counter() - began


def kill_and_go_on(before: Path, folder: Path, script: str, after_s: float) -> dict[str, str]:
    """From a copy of `before`, kill a step after so many seconds, run it again, and return what there is."""
    shutil.copytree(before, folder)
    process = start(script, folder)
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    finish(start(script, folder))
    result = snapshot(folder)
    shutil.rmtree(folder)
    return result
