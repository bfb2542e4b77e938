"""Steps on a Dask cluster: a real scheduler and two workers on this machine, one of which dies half-way."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import ROOT, free_port, run, small_patient
from killing import snapshot

from lungct import LungError, parallel
from lungct.parallel import run_parallel

SCANS = 12
STEP_5 = ("--png", "some", "--device", "cpu", "--amp", "off")
DASK = (sys.executable, "-m", "dask")

LOG = Path("errors.log")  # of errors that nobody expected; none is


@contextmanager
def started(*command: str, cwd: Path, knows_project: bool = True) -> Iterator[subprocess.Popen]:
    """A process of the cluster, which ends with the block."""
    env = {**os.environ, "PYTHONPATH": str(ROOT) if knows_project else ""}
    process = subprocess.Popen([*DASK, *command], cwd=cwd, env=env, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def scheduler(folder: Path, **more: bool) -> Iterator[str]:
    """The address of a scheduler that has no worker yet."""
    port = free_port()
    flags = ("--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    with started("scheduler", *flags, cwd=folder, **more):
        yield f"tcp://127.0.0.1:{port}"


def worker(address: str, folder: Path, **more: bool):
    """One process, which nobody starts again."""
    return started("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard", cwd=folder, **more)


def done(folder: Path) -> int:
    """Scans whose folder is there."""
    return len([path for path in folder.glob("*") if path.is_dir() and not path.name.startswith(".")])


def run_and_kill(script: str, *flags: object, cwd: Path, out: Path, victim: subprocess.Popen) -> None:
    """Run a step; once a scan is done, stop a worker, which holds others, and soon kill it."""
    command = [sys.executable, str(ROOT / script), *map(str, flags)]
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as step:
        while not done(out) and step.poll() is None:
            time.sleep(0.005)
        victim.send_signal(signal.SIGSTOP)
        time.sleep(1)
        assert done(out) < SCANS, "the worker died too late for this test to mean anything"
        victim.kill()
        text, _ = step.communicate(timeout=120)
    assert step.returncode == 0, text


@pytest.mark.skipif(os.name == "nt", reason="stops a process by a signal")
def test_a_cluster_that_loses_a_worker_writes_what_one_machine_writes(tmp_path):
    patient = small_patient(3)
    affine = np.diag([-patient.spacing_mm[2], -patient.spacing_mm[1], patient.spacing_mm[0], 1])
    scans = tmp_path / "scans"
    scans.mkdir()
    for number in range(SCANS):
        part = np.moveaxis(patient.ct_hu[10 + number : 16 + number], (0, 1, 2), (2, 1, 0))
        nib.save(nib.Nifti1Image(part, affine), scans / f"scan{number:02d}.nii")
    here, cluster = tmp_path / "here", tmp_path / "cluster"
    for folder in (here, cluster):
        folder.mkdir()
    run("prepare_lung_image.py", "--test", "--nifti", "../scans", cwd=here)
    run("model_test.py", *STEP_5, cwd=here)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with ExitStack() as stack:
        address = stack.enter_context(scheduler(elsewhere))
        victim = stack.enter_context(worker(address, elsewhere))
        stack.enter_context(worker(address, elsewhere))
        flags = ("--test", "--nifti", "../scans", "--scheduler", address)
        out = cluster / "mydata" / "Image_test" / "ct"
        run_and_kill("prepare_lung_image.py", *flags, cwd=cluster, out=out, victim=victim)
        victim = stack.enter_context(worker(address, elsewhere))
        out = cluster / "predictions"
        run_and_kill("model_test.py", *STEP_5, "--scheduler", address, cwd=cluster, out=out, victim=victim)
    assert done(out) == SCANS
    assert snapshot(cluster) == snapshot(here)


def test_a_cluster_predicts_straight_from_the_scans_what_one_machine_predicts(tmp_path):
    patient = small_patient(3)
    (tmp_path / "scans").mkdir()
    for name, part in (("a", patient.ct_hu[12:18]), ("b", patient.ct_hu[18:24])):
        nib.save(nib.Nifti1Image(part.T, np.diag([-3.0, -3, 6, 1])), tmp_path / "scans" / f"{name}.nii")
    for folder in ("here", "cluster"):
        (tmp_path / folder).mkdir()
    flags = ("--nifti", "../scans", *STEP_5)
    run("model_test.py", *flags, cwd=tmp_path / "here")
    with scheduler(tmp_path) as address, worker(address, tmp_path):
        run("model_test.py", *flags, "--scheduler", address, cwd=tmp_path / "cluster")
    assert len(list((tmp_path / "cluster" / "predictions").rglob("*.nii.gz"))) == 2
    assert snapshot(tmp_path / "cluster") == snapshot(tmp_path / "here")


def test_what_is_wrong_with_a_cluster_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "WAIT_S", 2)
    assert list(run_parallel(abs, [], 1, LOG, "tcp://127.0.0.1:9")) == []  # nothing to do: nobody is asked
    with pytest.raises(LungError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9; start one"):
        list(run_parallel(abs, [-1], 1, LOG, "tcp://127.0.0.1:9"))
    with scheduler(tmp_path, knows_project=False) as address:
        monkeypatch.setattr(parallel, "WAIT_S", 6)  # a busy scheduler takes a while to answer
        with pytest.raises(LungError, match="has no worker; start one: dask worker"):
            list(run_parallel(abs, [-1], 1, LOG, address))
        with worker(address, tmp_path, knows_project=False):
            monkeypatch.setattr(parallel, "WAIT_S", 60)
            with pytest.raises(LungError, match=f"cannot import this project; .* PYTHONPATH={ROOT}"):
                list(run_parallel(abs, [-1], 1, LOG, address))
