"""Processes beside each other: one that dies is told by its scan, and the others go on."""

import os
from functools import partial

import numpy as np
from corpus import phantom

import prepare_lung_image as step
from lungct.parallel import run_parallel
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
    results = {
        job.scan: result for job, result in run_parallel(partial(step.prepare_scan, options=options), jobs, workers=2)
    }
    assert len(results["A"][0]) == len(results["C"][0]) == len(phantom()[0])
    assert "died (out of memory?)" in str(results["B"])
