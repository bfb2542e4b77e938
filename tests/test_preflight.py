"""What is told before long work: each fault by its row, and what to do."""

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from conftest import run, small_patient

from lungct import preflight
from lungct.parallel import Skipped
from lungct.phantom.lidc_tree import write_series
from lungct.scans import lidc
from lungct.scans.find import Job
from lungct.scans.lidc import LidcScan, scans_without_nodules
from lungct.settings import TABLE, default_values, write_conf

ONE_GIB = 2**30


def settings(home, scans, **changes) -> dict:
    values = {setting.attribute: setting.default for setting in TABLE}
    values.update(lidc_dicom_path=str(scans / "LIDC-IDRI"), lidc_test_dicom_path=str(scans / "LIDC-IDRI_test"))
    for name in ("lung_ct_path", "lung_image_path", "lung_ct_test_path", "run_path", "predictions_path"):
        values[name] = str(home / name)
    values.update(changes)
    write_conf(home / "lung.conf", values)
    lidc.write_conf(home / "pylidc.conf", values["lidc_dicom_path"])
    return preflight.with_paths(values, home)


def rows(findings) -> dict:
    return {finding.what.strip(): finding for finding in findings}


def test_all_is_well(lidc_tree, tmp_path):
    settings(tmp_path, lidc_tree)
    before = sorted(tmp_path.rglob("*"))
    text = run("config_file_create.py", "--check", cwd=tmp_path)
    assert "5 scans of 5 patients" in text
    assert "1 scan of 1 patient" in text
    assert "none that stops a step; next: python prepare_lung_image.py" in text
    assert "error" not in text
    assert sorted(tmp_path.rglob("*")) == before  # nothing was written


def test_missing_scans_stop_with_exit_status_1(lidc_tree, tmp_path):
    settings(tmp_path, lidc_tree, lidc_dicom_path=str(tmp_path / "nowhere"))
    text = run("config_file_create.py", "--check", cwd=tmp_path, status=1)
    assert "-> python config_file_create.py --lidc-dicom-path DIR" in text
    assert "1 of " in text


def test_missing_lung_conf_is_a_row(tmp_path):
    finding = preflight.check_all(tmp_path / "lung.conf")[-1]
    assert finding.stops
    assert "write it first" in finding.remedy


def test_patient_that_pylidc_does_not_know_is_a_row_with_its_reason(tmp_path):
    values = settings(tmp_path, tmp_path)
    (tmp_path / "LIDC-IDRI" / "LIDC-IDRI-9999").mkdir(parents=True)
    findings, jobs = preflight.check_scans(values, "lidc_dicom_path")
    assert not jobs
    assert findings[0].stops
    assert "pylidc knows no such patient" in rows(findings)["LIDC-IDRI-9999"].remedy


def test_grey_levels_in_the_sample_are_told(tmp_path):
    who = scans_without_nodules()[0]
    grey = np.clip((small_patient(0).ct_hu[:3] + 1024) // 8, 0, 255).astype(np.int16)
    folder = tmp_path / "LIDC-IDRI" / who.patient_id / who.study_uid / who.series_uid
    write_series(folder, who, grey, (3.0, 0.7, 0.8))
    values = settings(tmp_path, tmp_path)
    _, jobs = preflight.check_scans(values, "lidc_dicom_path")
    finding, shape = preflight.check_sample(jobs)
    assert finding.stops
    assert "8-bit grey levels" in finding.remedy
    assert shape == grey.shape[1:]


def test_what_is_to_be_written_is_known_by_hand(tmp_path):
    values = settings(tmp_path, tmp_path, slices_per_patient=10, png="none")
    needed = preflight.bytes_to_write(values, train=[7, 30], test=[40], shape=(100, 200))
    assert needed["lung_ct_path"] == 17 * (2 * 100 * 200 + 128)
    assert needed["lung_ct_test_path"] == 40 * (2 * 100 * 200 + 128)
    assert needed["predictions_path"] == 40 * (100 * 200 + 128)


@pytest.mark.parametrize(("there", "full"), [(0, True), (600, False)])
def test_a_full_disk_is_told_unless_the_files_are_there_already(tmp_path, monkeypatch, there, full):
    values = settings(tmp_path, tmp_path)
    monkeypatch.setattr(preflight.psutil, "disk_usage", lambda folder: type("Usage", (), {"free": 500})())
    (tmp_path / "run_path").mkdir()
    (tmp_path / "run_path" / "unet_model.pth").write_bytes(b"x" * there)
    (finding,) = preflight.check_disk(values, {"run_path": 1000, "lung_ct_path": 0})
    assert finding.stops == full
    assert ("make room" in finding.remedy) == full


def test_folder_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    values = settings(tmp_path, tmp_path, run_path=str(tmp_path / "file/run"))
    finding = next(preflight.check_disk(values, {"run_path": 1}))
    assert finding.stops
    assert "cannot write" in finding.remedy


def test_little_memory_is_told(monkeypatch):
    monkeypatch.setattr(preflight.psutil, "virtual_memory", lambda: type("Memory", (), {"available": ONE_GIB})())
    assert "a smaller --batch-size" in preflight.check_memory().remedy
    monkeypatch.setattr(preflight.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 9 * ONE_GIB})())
    assert not preflight.check_memory().remedy


def test_a_device_that_is_not_there_is_told():
    assert "not on this machine" in preflight.check_device("tpu").remedy


def test_a_package_of_a_wrong_version_or_none_stops(tmp_path, monkeypatch):
    listed = tmp_path / "requirements.txt"
    listed.write_text("numpy>=900  # why\n\nno-such-package-of-ours>=1\ntqdm>=4\n")
    monkeypatch.setattr(preflight, "REQUIREMENTS", listed)
    found = rows(preflight.check_python())
    assert found["numpy"].stops
    assert ">=900" in found["numpy"].remedy
    assert found["no-such-package-of-ours"].found == "missing"
    assert not found["tqdm"].stops


def test_pylidc_conf_that_points_elsewhere_is_told(lidc_tree, tmp_path):
    settings(tmp_path, lidc_tree)
    lidc.write_conf(tmp_path / "pylidc.conf", "/somewhere/else")
    finding, _ = preflight.check_settings(tmp_path / "lung.conf")
    assert "it should say" in finding.remedy


def test_one_folder_for_training_and_test_is_a_warning(lidc_tree, tmp_path):
    settings(tmp_path, lidc_tree, lidc_test_dicom_path=str(lidc_tree / "LIDC-IDRI"))
    found = [result for result in preflight.check_all(tmp_path / "lung.conf") if "too" in result.found]
    assert [(result.stops, "hold some out" in result.remedy) for result in found] == [(False, True)]


def write_dicom(folder, patient: str, ct_hu: np.ndarray, **tags) -> None:
    who = LidcScan(patient, f"1.2.{patient}", f"1.2.{patient}.1")
    write_series(folder / patient, who, ct_hu, (3.0, 0.7, 0.8), **tags)


def test_any_dicom_folder_is_looked_at_without_settings(tmp_path):
    ct_hu = small_patient(0).ct_hu
    write_dicom(tmp_path / "scans", "7", ct_hu[10:15])
    write_dicom(tmp_path / "scans", "8", ct_hu[10:14])
    write_dicom(tmp_path / "scans", "9", ct_hu[10:12], ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    before = sorted(tmp_path.rglob("*"))
    text = run("config_file_create.py", "--check", "--dicom", "scans", cwd=tmp_path)
    assert "2 scans of 2 patients" in text
    assert "HU of 7" in text
    assert "in the middle of 5 slices" in text
    assert re.search(r"warning +series 1\.2\.9\.1 +skipped +-> .*not axial", text)
    assert re.search(r"disk of .* GiB free", text)
    assert "next: python prepare_lung_image.py --test --dicom scans" in text
    assert sorted(tmp_path.rglob("*")) == before


def test_volumes_are_counted_and_the_unreadable_are_rows(tmp_path):
    volume = nibabel.Nifti1Image(np.full((30, 20, 6), -900, np.int16), np.diag([0.7, 0.7, 2, 1]))
    nibabel.save(volume, tmp_path / "a.nii.gz")
    (tmp_path / "b.nii.gz").write_bytes(b"half")
    values = preflight.with_paths(default_values(), tmp_path)
    found = rows(preflight.check_folder("--nifti", tmp_path, values))
    assert found[f"--nifti {tmp_path}"].found == "1 scan of 1 patient"
    assert "b.nii.gz" in found["b"].remedy
    assert "of 6 slices" in found["HU of a"].found


@pytest.mark.parametrize("flag", ["--dicom", "--nifti"])
def test_folder_that_is_not_there_or_empty_stops(tmp_path, flag):
    (tmp_path / "empty").mkdir()
    for name in ("nowhere", "empty"):
        (result,) = preflight.check_folder(flag, tmp_path / name, {})
        assert result.stops
        assert name in result.remedy


def test_series_beside_a_used_one_is_a_row_but_no_warning():
    skipped = [Skipped("series 1.2", "42 slices of P: 1.3 has 80", is_fault=False), Skipped("Q", "no slice")]
    job = Job("P", "P", Path("P"))
    _, beside, fault = preflight.count_scans("--dicom x", [job], skipped)
    assert (beside.found, beside.remedy, fault.found, fault.remedy) == (
        *("not used: 42 slices of P: 1.3 has 80", ""),
        *("skipped", "no slice"),
    )


def test_a_folder_to_check_goes_with_check(tmp_path):
    assert "go with --check" in run("config_file_create.py", "--dicom", ".", cwd=tmp_path, status=2)
