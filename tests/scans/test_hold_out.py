"""Who is held out follows from ID and seed alone, holds whole patients, and nobody is on both sides."""

import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import make_row, run

from lungct import LungError
from lungct.phantom.lidc_tree import write_series
from lungct.scans.find import Job, dicom_jobs
from lungct.scans.hold_out import choose_part, hold_out, is_held_out
from lungct.scans.lidc import LidcScan
from lungct.slices import write_manifest

CT_HU = np.random.default_rng(1).integers(-1000, 1000, (2, 6, 8)).astype(np.int16)


def jobs_of(patients: int, scans: int = 1) -> list[Job]:
    names = [f"LIDC-IDRI-{n:04d}" for n in range(1, patients + 1)]
    return [Job(name, f"{name}_{k}", Path()) for name in names for k in range(scans)]


def patients(jobs: list[Job]) -> set[str]:
    return {job.patient_id for job in jobs}


def test_place_of_a_patient_follows_from_id_and_seed_alone():
    """The SHA-256 of '1 LIDC-IDRI-0001' begins with 40eb5117, that of '2 LIDC-IDRI-0001' with 1164daae."""
    assert pytest.approx(0.2536, abs=1e-4) == 0x40EB5117 / 16**8
    assert is_held_out("LIDC-IDRI-0001", 0.254, seed=1)
    assert not is_held_out("LIDC-IDRI-0001", 0.253, seed=1)
    assert is_held_out("LIDC-IDRI-0001", 0.068, seed=2)
    assert not is_held_out("LIDC-IDRI-0001", 0.067, seed=2)


def test_patients_that_are_added_later_move_nobody():
    train, test = hold_out(jobs_of(30), 0.2, 1)
    more_train, more_test = hold_out(jobs_of(300), 0.2, 1)
    assert patients(train) < patients(more_train)
    assert patients(test) < patients(more_test)
    assert not patients(more_train) & patients(more_test)


def test_all_scans_of_a_patient_are_on_one_side_in_their_order():
    jobs = jobs_of(50, scans=3)
    train, test = hold_out(jobs, 0.3, 1)
    assert not patients(train) & patients(test)
    assert sorted(train + test, key=jobs.index) == jobs
    assert train == sorted(train, key=jobs.index)
    assert len(test) == 3 * len(patients(test))


def test_share_is_met_on_average_and_a_larger_one_holds_the_patients_of_a_smaller_one():
    counts = [len(hold_out(jobs_of(1000), share, 1)[1]) for share in (0.1, 0.2, 0.5)]
    np.testing.assert_allclose(counts, [100, 200, 500], atol=40)  # three standard deviations
    small, large = (patients(hold_out(jobs_of(1000), share, 1)[1]) for share in (0.1, 0.2))
    assert small < large
    assert small != patients(hold_out(jobs_of(1000), 0.1, 2)[1])


def test_side_without_any_patient_is_refused():
    with pytest.raises(LungError, match=r"test_share = 0\.001 holds out 0 of 3 patients.*another --test-share or"):
        hold_out(jobs_of(3), 0.001, 1)
    one = [job for job in jobs_of(9) if is_held_out(job.patient_id, 0.5, 1)]
    with pytest.raises(LungError, match=f"holds out {len(one)} of {len(one)} patients"):
        hold_out(one, 0.5, 1)


def test_who_is_held_out_is_said_and_nobody_who_is_trained_on_is_tested_on(tmp_path):
    jobs, manifest = jobs_of(9), tmp_path / "manifest.csv"
    train, test = hold_out(jobs, 0.3, 1)
    names = ", ".join(job.patient_id for job in test)
    said = f"held out to test on (test_share = 0.3, test_seed = 1): {len(test)} of 9 patients: {names}"
    assert choose_part(jobs, 0.3, 1, True, manifest) == (test, [said])
    assert choose_part(jobs, 0.3, 1, False, manifest)[0] == train
    write_manifest(manifest, [make_row(job.patient_id, 0) for job in (train[0], test[0])])
    with pytest.raises(LungError, match=rf"manifest\.csv: {test[0].patient_id}; run step 2 first, with the same"):
        choose_part(jobs, 0.3, 1, True, manifest)
    part, (_, warning) = choose_part(jobs, 0.3, 1, False, manifest)
    assert part == train
    assert warning.startswith("to train on now, and still in the test slices of")
    assert warning.endswith(f"manifest.csv: {train[0].patient_id}; run step 4 again")


def test_of_volumes_it_is_said_how_patients_are_told_apart(tmp_path):
    jobs = [Job(f"P{n}", f"P{n}", Path(f"P{n}.nii.gz")) for n in range(9)]
    _, (_, note) = choose_part(jobs, 0.3, 1, True, tmp_path / "manifest.csv")
    assert note.startswith("patients are told apart by the names of their files")


def test_where_two_studies_may_be_of_one_person_it_is_said(tmp_path):
    """An ID without a digit may be a name, or what an anonymiser writes for everybody."""
    for n, who in enumerate(("SMITH JOHN", "SMITH JOHN", "anonymous", *(f"P{n}" for n in range(9)))):
        write_series(tmp_path / str(n), LidcScan(who, f"1.{n}", f"1.{n}.1"), CT_HU, (2.5, 0.7, 0.9))
    jobs, _ = dicom_jobs(tmp_path)
    _, (_, note) = choose_part(jobs, 0.3, 1, True, tmp_path / "manifest.csv")
    assert note.startswith("warning: PatientIDs without a digit may be of anybody")
    assert note.endswith("two are of one: SMITH JOHN")
    assert len(choose_part(jobs[:9], 0.3, 1, True, tmp_path / "manifest.csv")[1]) == 1


@pytest.mark.parametrize("damage", ["semicolons", "another patient"])
def test_a_manifest_that_cannot_be_read_as_written_is_never_taken_as_empty(tmp_path, damage):
    """As a spreadsheet saves it, or with a row that was given to somebody else."""
    jobs, manifest = jobs_of(9), tmp_path / "manifest.csv"
    train, test = hold_out(jobs, 0.3, 1)
    write_manifest(manifest, [make_row(job.patient_id, 0) for job in (train[0], test[0])])
    text = manifest.read_text()
    changed = text.replace(",", ";") if damage == "semicolons" else text.replace(test[0].patient_id, "Somebody", 1)
    manifest.write_text(changed)
    with pytest.raises(LungError, match=r"manifest\.csv: .*; make it again: python prepare_lung_image\.py$"):
        choose_part(jobs, 0.3, 1, True, manifest)
    part, (_, warning) = choose_part(jobs, 0.3, 1, False, manifest)  # step 2 may go on: step 4 comes after it
    assert part == train
    assert warning.startswith(f"warning: {manifest}: ")
    assert warning.endswith("make it again: python prepare_lung_image.py --test")


def prepared(folder: Path, name: str) -> set[str]:
    """The patients of a manifest."""
    with (folder / "mydata" / name / "manifest.csv").open(newline="") as file:
        return {row["patient_id"] for row in csv.DictReader(file)}


def test_steps_2_and_4_share_the_patients_of_one_folder_by_a_setting(lidc_tree, tmp_path):
    everybody = {path.name for path in (lidc_tree / "LIDC-IDRI").iterdir()}
    held_out = {name for name in everybody if is_held_out(name, 0.3, 1)}
    assert 0 < len(held_out) < len(everybody)
    text = run("config_file_create.py", "--lidc-dicom-path", lidc_tree / "LIDC-IDRI", "--test-share", 0.3, cwd=tmp_path)
    assert "warning" not in text  # on LIDC_TEST_DICOM_PATH, which is not there
    text = run("config_file_create.py", "--check", cwd=tmp_path)
    assert f"{len(held_out)} scan{'s' * (len(held_out) > 1)} held out to test on" in text
    text = run("prepare_lung_image.py", "--workers", 1, cwd=tmp_path)
    assert ", ".join(sorted(held_out)) in text
    run("prepare_lung_image.py", "--test", "--workers", 1, cwd=tmp_path)
    assert prepared(tmp_path, "Image") == everybody - held_out
    assert prepared(tmp_path, "Image_test") == held_out


def test_step_4_refuses_patients_of_the_training_slices_and_a_second_folder(lidc_tree, tmp_path):
    scans = ("--workers", 1, "--lidc-dicom-path", lidc_tree / "LIDC-IDRI")
    run("config_file_create.py", cwd=tmp_path)
    run("prepare_lung_image.py", *scans, cwd=tmp_path)
    text = run("prepare_lung_image.py", "--test", "--test-share", 0.3, *scans, cwd=tmp_path, status=1)
    assert "run step 2 first, with the same --test-share" in text
    other = ("--lidc-test-dicom-path", lidc_tree / "LIDC-IDRI_test")
    text = run("prepare_lung_image.py", "--test", "--test-share", 0.3, *scans, *other, cwd=tmp_path, status=1)
    assert "give one, or --test-share 0" in text


def test_share_of_lung_conf_leaves_other_folders_whole_and_that_of_a_flag_does_not(lidc_tree, tmp_path):
    run("config_file_create.py", "--test-share", 0.3, cwd=tmp_path)
    scans = ("--test", "--workers", 1, "--dicom", lidc_tree / "LIDC-IDRI")
    assert "5 scans of 5 patients found" in run("prepare_lung_image.py", *scans, cwd=tmp_path)
    held_out = {path.name for path in (lidc_tree / "LIDC-IDRI").iterdir() if is_held_out(path.name, 0.3, 1)}
    run("prepare_lung_image.py", *scans, "--test-share", 0.3, cwd=tmp_path)
    assert prepared(tmp_path, "Image_test") == held_out
