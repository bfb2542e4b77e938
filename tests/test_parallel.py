"""Processes beside each other: one that dies is told by its scan, and the others go on."""

import os
import threading
import time
from functools import partial

import numpy as np
import pytest
from corpus import phantom

import prepare_lung_image as step
from lungct import LungError
from lungct.parallel import run_parallel, single_threaded_children
from lungct.phantom.lidc_tree import write_series
from lungct.scans.dicom import DicomScan, find_series, open_series
from lungct.scans.find import Job
from lungct.scans.lidc import LidcScan


class Deadly(DicomScan):
    """Kills the process that reads it, as the system does when memory runs out."""

    def _read_slice(self, z_index: int) -> np.ndarray:
        os._exit(9)


def test_a_worker_that_dies_is_told_by_patient_and_the_others_go_on(tmp_path):
    jobs = []
    for name in ("A", "B", "C"):
        write_series(tmp_path / name, LidcScan(name, f"1.{ord(name)}", f"1.{ord(name)}.1"), *phantom())
        (files,) = find_series(tmp_path / name).values()
        scan = open_series(files)
        jobs.append(Job(name, name, Deadly(**vars(scan)) if name == "B" else scan))
    options = step.PrepareOptions(tmp_path / "ct", None, labels=None, slices=None, any_values=False)
    tasks = [step.Task(job, None, "") for job in jobs]
    work = partial(step.prepare_scan, options=options)
    results = {task.job.scan: result for task, result in run_parallel(work, tasks, 2, tmp_path / "errors.log")}
    assert len(results["A"][0]) == len(results["C"][0]) == len(phantom()[0])
    assert "died (out of memory?)" in str(results["B"])


def fail_over(number: int) -> int:
    if number == 2:
        raise RuntimeError("of a kind that nobody expected\nand more")
    if number == 3:
        raise MemoryError
    return number


@pytest.mark.parametrize(("workers", "in_threads"), [(1, False), (2, False), (2, True)])
def test_whatever_one_item_raises_the_others_go_on(tmp_path, workers, in_threads):
    results = dict(run_parallel(fail_over, [1, 2, 3, 4], workers, tmp_path / "errors.log", in_threads=in_threads))
    assert (results[1], results[4]) == (1, 4)
    assert isinstance(results[2], LungError)
    assert "unexpected RuntimeError (of a kind that nobody expected)" in str(results[2])
    assert "not enough memory" in str(results[3])
    assert "fail_over" in (tmp_path / "errors.log").read_text()


def test_threads_work_beside_each_other_and_after_ctrl_c_give_what_they_have_in_hand(tmp_path):
    first_two, begun = threading.Barrier(2, timeout=30), []

    def work(number: int) -> int:
        begun.append(number)
        if number < 2:
            first_two.wait()  # for the other thread
        time.sleep(0.01)
        return -number

    outcomes = run_parallel(work, list(range(100)), 2, tmp_path / "errors.log", in_threads=True)
    found = [next(outcomes), outcomes.throw(KeyboardInterrupt)]
    with pytest.raises(KeyboardInterrupt):
        found += outcomes
    assert sorted(found) == [(number, -number) for number in range(len(begun))]
    assert len(begun) < 100


def test_one_thread_each_holds_for_what_is_started_meanwhile_and_not_afterwards(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with single_threaded_children():
        assert os.environ["OMP_NUM_THREADS"] == "1"
    assert "OMP_NUM_THREADS" not in os.environ  # the trainings that followed were measured on one processor
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with single_threaded_children():
        pass
    assert os.environ["OMP_NUM_THREADS"] == "7"
