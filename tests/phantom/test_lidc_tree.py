"""The synthetic LIDC-IDRI that the first step makes on request."""

import numpy as np
import pydicom
import pytest
from conftest import run

from lungct.phantom import lidc_tree
from lungct.phantom.lidc_tree import write_lidc_tree, write_series, write_xray
from lungct.phantom.render import Patient
from lungct.scans.lidc import LidcScan, scans_without_nodules

WHO = LidcScan("LIDC-IDRI-0028", "1.2.3", "1.2.3.4")


def test_demo_makes_a_tree_that_the_steps_find(tmp_path):
    text = run("config_file_create.py", "--demo", 2, cwd=tmp_path)
    assert "1 patient to train on, 1 to test on" in text
    assert "warning" not in text
    reference = np.load(tmp_path / "demo" / "reference" / f"{scans_without_nodules()[0].patient_id}.npz")
    assert reference["lung"].shape[1:] == (512, 512)
    assert "1 scans of 1 patients found" in run(
        "prepare_lung_image.py", "--test", "--conf", "demo/lung.conf", cwd=tmp_path
    )


def test_a_demo_of_another_size_is_not_mixed_with_this_one(tmp_path):
    second = scans_without_nodules()[1].patient_id  # of 8 patients it is one of two to test on, of 2 one to train on
    (tmp_path / "demo" / "LIDC-IDRI_test" / second).mkdir(parents=True)
    text = run("config_file_create.py", "--demo", 2, cwd=tmp_path, status=1)
    assert text == "config_file_create.py: demo: its demo is not of 2 patients; delete that folder and run this again\n"
    assert not (tmp_path / "lung.conf").exists()


@pytest.fixture
def seeds(monkeypatch) -> list[int]:
    """The seeds of the patients made meanwhile, in this process, each a scan of three small slices."""
    made = []

    def tiny_patient(seed: int) -> Patient:
        made.append(seed)
        return Patient(np.full((3, 4, 5), seed, np.int16), np.ones((3, 4, 5), bool), (2.5, 0.7, 0.9))

    monkeypatch.setattr(lidc_tree, "make_patient", tiny_patient)
    monkeypatch.setattr(lidc_tree.os, "cpu_count", lambda: 1)
    return made


def test_one_patient_in_four_is_to_test_on_and_each_has_scan_x_ray_and_reference(tmp_path, seeds):
    assert write_lidc_tree(tmp_path, 8) == (6, 2)
    assert seeds == list(range(8))
    names = [scan.patient_id for scan in scans_without_nodules()[:8]]
    for folder, expected in (("LIDC-IDRI_test", names[:2]), ("LIDC-IDRI", names[2:])):
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == sorted(expected)
    for seed, name in enumerate(names):
        (folder,) = tmp_path.glob(f"LIDC-IDRI*/{name}")
        headers = [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]
        assert [header.Modality for header in headers] == ["DX", "CT", "CT", "CT"]
        assert {header.PatientID for header in headers} == {name}
        assert (headers[1].pixel_array - 1024 == seed).all()
        reference = np.load(tmp_path / "reference" / f"{name}.npz")
        assert reference["lung"].shape == (3, 4, 5)
        assert reference["spacing_mm"].tolist() == [2.5, 0.7, 0.9]


def test_what_is_there_already_is_kept_and_an_unfinished_patient_is_made_again(tmp_path, seeds):
    write_lidc_tree(tmp_path, 4)
    seeds.clear()
    (tmp_path / "reference" / f"{scans_without_nodules()[2].patient_id}.npz").unlink()
    write_lidc_tree(tmp_path, 4)
    assert seeds == [2]


def test_series_holds_a_file_a_slice_head_first_with_its_place_and_hu(tmp_path):
    ct_hu = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5) - 1030
    write_series(tmp_path, WHO, ct_hu, (2.5, 0.7, 0.9))
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["1-001.dcm", "1-002.dcm", "1-003.dcm"]
    for k, path in enumerate(files):
        dataset = pydicom.dcmread(path)
        assert (dataset.PatientID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID) == (
            "LIDC-IDRI-0028",
            "1.2.3",
            "1.2.3.4",
        )
        assert dataset.InstanceNumber == 3 - k
        assert list(dataset.ImagePositionPatient) == [0, 0, 2.5 * k]
        assert (list(dataset.PixelSpacing), dataset.SliceThickness) == ([0.7, 0.9], 2.5)
        hu = dataset.pixel_array * dataset.RescaleSlope + dataset.RescaleIntercept
        np.testing.assert_array_equal(hu, ct_hu[k])
    assert len({pydicom.dcmread(path).SOPInstanceUID for path in files}) == 3


def test_tags_overrule_what_a_slice_would_have(tmp_path):
    write_series(tmp_path, WHO, np.zeros((1, 4, 5), np.int16), (2.5, 0.7, 0.9), Modality="MR", SliceThickness=None)
    dataset = pydicom.dcmread(tmp_path / "1-001.dcm")
    assert (dataset.Modality, dataset.SliceThickness) == ("MR", None)


def test_the_same_series_gives_the_same_bytes(tmp_path):
    for name in "ab":
        write_series(tmp_path / name, WHO, np.zeros((1, 4, 5), np.int16), (2.5, 0.7, 0.9))
    assert (tmp_path / "a" / "1-001.dcm").read_bytes() == (tmp_path / "b" / "1-001.dcm").read_bytes()


def test_x_ray_is_of_the_same_study_and_a_series_of_its_own(tmp_path):
    write_xray(tmp_path, WHO)
    dataset = pydicom.dcmread(tmp_path / "1-1.dcm")
    assert (dataset.Modality, dataset.StudyInstanceUID) == ("DX", "1.2.3")
    assert dataset.SeriesInstanceUID != WHO.series_uid
