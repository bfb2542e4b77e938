"""A scan is read the same from the slices of step 4 and from its own files; its DICOM is found, or said why not."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from conftest import make_row

from lungct import LungError
from lungct.code_hash import SLICE_CODE
from lungct.evaluation.cases import FileCase, StoredCase, file_cases, stored_cases
from lungct.files import npy_bytes, replace_file, table_bytes
from lungct.masks.reviews import Review
from lungct.masks.source import series_below
from lungct.phantom.lidc_tree import write_series
from lungct.scans.dicom import find_series, open_series
from lungct.scans.find import dicom_jobs, nifti_jobs
from lungct.scans.geometry import row_fields
from lungct.scans.lidc import LidcScan
from lungct.slice_files import write_scan
from lungct.slices import SliceRow, StoredSlice, slice_path, write_manifest

WHO = LidcScan("P1", "1.2.3", "1.2.3.4")
SPACING_MM = (2.5, 0.7, 0.9)
RNG = np.random.default_rng(5)
CT_HU = np.where(RNG.random((6, 40, 48)) < 0.5, -900, 30).astype(np.int16) + RNG.integers(
    -50, 50, (6, 40, 48), np.int16
)
CT_HU[0, :3] = 4000
LUNG = np.zeros(CT_HU.shape, bool)
LUNG[1:5, 10:30, 10:40] = True


@pytest.fixture
def job(tmp_path):
    write_series(tmp_path / "ct", WHO, CT_HU, SPACING_MM)
    ((job,), _) = dicom_jobs(tmp_path / "ct")
    return job


def store(root: Path, source: str) -> list[StoredSlice]:
    """Slices and rows as step 4 leaves them below root/test."""
    frame = open_series(*find_series(root / "ct").values()).frame
    same = {"series_uid": WHO.series_uid, "source": source}
    rows = [make_row("P1", z, **same, **row_fields(frame, z)) for z in range(len(CT_HU))]
    return write_scan(rows, CT_HU, LUNG, root / "test" / "ct", root / "test" / "lung", SLICE_CODE)


def test_both_ways_read_the_same(job, tmp_path):
    stored = StoredCase(store(tmp_path, "../ct"), tmp_path / "test" / "ct").read()
    direct = FileCase(job, tmp_path).read()
    np.testing.assert_array_equal(direct.ct_hu, stored.ct_hu)
    np.testing.assert_array_equal(direct.ct_hu, np.clip(CT_HU, -1024, 3071))
    np.testing.assert_array_equal(stored.truth, LUNG)
    assert direct.truth is None
    assert direct.frame.spacing_mm == stored.frame.spacing_mm
    places = ("scan", "patient_id", "series_uid", "z_index", "x_mm", "z_mm", "axes", "source_axes", "spacing_mm")
    for row, other in zip(direct.rows, stored.rows, strict=True):
        assert [getattr(row, name) for name in places] == [getattr(other, name) for name in places]


def test_slices_are_called_as_step_4_calls_them(job, tmp_path):
    case = FileCase(job, tmp_path)
    assert case.slice_names(2) == ["P1_slice000", "P1_slice001"]
    assert case.slice_names(6) == StoredCase(store(tmp_path, "../ct"), tmp_path / "test" / "ct").slice_names(6)


def test_a_changed_file_changes_the_stamps(job, tmp_path):
    case, stored = FileCase(job, tmp_path), StoredCase(store(tmp_path, "../ct"), tmp_path / "test" / "ct")
    before, stored_before = case.stamps(), stored.stamps()
    assert case.stamps() == before
    assert FileCase(job, tmp_path, any_values=True).stamps() != before
    replace_file(slice_path(tmp_path / "test" / "lung", stored.rows[0]), npy_bytes(np.zeros((2, 2), np.int16)))
    assert stored.stamps()[0] == stored_before[0]
    assert stored.stamps()[1] != stored_before[1]
    path = job.files[0]
    path.write_bytes(path.read_bytes() + b"\0\0")
    assert case.stamps() != before
    path.unlink()
    with pytest.raises(OSError, match="No such file"):
        case.stamps()


def test_the_dicom_of_stored_slices_is_found_by_the_manifest(job, tmp_path):
    rows = store(tmp_path, "../ct")
    found = StoredCase(rows, tmp_path / "test" / "ct").find_dicom()
    assert found.files == tuple(path.resolve() for path in FileCase(job, tmp_path).find_dicom().files)
    nibabel.save(nibabel.Nifti1Image(CT_HU.T, np.diag([-0.9, -0.7, 2.5, 1])), tmp_path / "ct.nii")
    ((volume,), _) = nifti_jobs(tmp_path / "ct.nii")
    for case, told in (
        (
            StoredCase([replace(row, source="../gone") for row in rows], tmp_path / "test" / "ct"),
            "gone is not there any more",
        ),
        (StoredCase([replace(row, source="../ct.nii") for row in rows], tmp_path / "test" / "ct"), r"it was ct\.nii"),
        (FileCase(volume, tmp_path), r"it is ct\.nii"),
    ):
        with pytest.raises(LungError, match=told):
            case.find_dicom()


def change(folder: Path, **tags) -> None:
    """Change files in place; the UIDs and the places stay."""
    for path in folder.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        for name, value in tags.items():
            setattr(dataset, name, value)
        dataset.save_as(path)


def test_dicom_files_that_are_of_another_patient_or_hold_other_pixels_by_now_are_refused(job, tmp_path):
    case = StoredCase(store(tmp_path, "../ct"), tmp_path / "test" / "ct")
    ct_hu = case.read().ct_hu
    assert case.find_dicom(ct_hu).series_uid == WHO.series_uid
    change(tmp_path / "ct", PatientID="P2")
    series_below.cache_clear()
    with pytest.raises(LungError, match=r"ct is of P2, the slices of step 4 are of P1; run step 4 again"):
        case.find_dicom()
    last = sorted((tmp_path / "ct").glob("*.dcm"))[-1]
    pixels = bytearray(pydicom.dcmread(last).PixelData)
    pixels[-2] ^= 1  # one pixel by one HU
    change(tmp_path / "ct", PatientID="P1")
    dataset = pydicom.dcmread(last)
    dataset.PixelData = bytes(pixels)
    dataset.save_as(last)
    series_below.cache_clear()
    with pytest.raises(LungError, match=r"ct: other pixels than when step 4 read them; run step 4 again"):
        case.find_dicom(ct_hu)
    assert case.find_dicom().series_uid == WHO.series_uid  # by the headers alone


def test_a_reference_is_read_with_the_scan_and_one_that_is_not_there_is_told(job, tmp_path):
    affine = np.diag([-0.9, -0.7, 2.5, 1])
    (tmp_path / "masks").mkdir()
    nibabel.save(nibabel.Nifti1Image(LUNG.T.astype(np.uint8), affine), tmp_path / "masks" / "P1.nii.gz")
    (case,), skipped = file_cases([job], tmp_path, tmp_path / "masks", (), any_values=True)
    assert skipped == []
    np.testing.assert_array_equal(case.read().truth, LUNG)
    (tmp_path / "none").mkdir()
    cases, (skipped,) = file_cases([job], tmp_path, tmp_path / "none", (), any_values=True)
    assert (cases, skipped.scan, skipped.is_fault) == ([], "P1", True)
    assert "no label in" in skipped.reason
    (tmp_path / "none" / "patient_P2").mkdir()
    replace_file(tmp_path / "none" / "patient_P2" / "slices.csv", table_bytes([make_row("P2", 0)], SliceRow))
    replace_file(tmp_path / "none" / "reviews.csv", table_bytes([], Review))
    _, (skipped,) = file_cases([job], tmp_path, tmp_path / "none", (), any_values=True)
    assert not skipped.is_fault  # predictions without an accepted one of this scan


def test_a_reference_of_another_shape_is_told(job, tmp_path):
    rows = store(tmp_path, "../ct")
    for row in rows:
        replace_file(slice_path(tmp_path / "test" / "lung", row), npy_bytes(np.zeros((4, 4), np.int16)))
    with pytest.raises(LungError, match=r"lung.P1.P1_slice000\.npy: int16 \(4, 4\) is not the slice"):
        StoredCase(rows, tmp_path / "test" / "ct").read()


def test_slices_made_again_since_the_manifest_was_read_are_refused(job, tmp_path):
    case = StoredCase(store(tmp_path, "../ct"), tmp_path / "test" / "ct")
    assert case.read().ct_hu.shape == CT_HU.shape
    for ct_hu, lung, kind in ((CT_HU[::-1], LUNG, "ct"), (CT_HU, ~LUNG, "lung")):
        write_scan(case.rows, ct_hu, lung, tmp_path / "test" / "ct", tmp_path / "test" / "lung", SLICE_CODE)
        with pytest.raises(LungError, match=rf"{kind}.P1.P1_slice000\.npy: .* is not the slice .* with --test"):
            case.read()


def test_changed_rows_change_the_stamps(job, tmp_path):
    root, rows = tmp_path / "test" / "ct", store(tmp_path, "../ct")
    seen = []
    for row_mm in (0.7, 0.8):
        write_manifest(tmp_path / "test" / "manifest.csv", [replace(row, row_mm=row_mm) for row in rows])
        (case,) = stored_cases(root, None)
        seen.append(case.stamps()[0])
    assert seen[0] != seen[1]


def test_slices_of_other_code_are_said_once(tmp_path, capsys):
    rows = [make_row(name, z, code="older" if name == "B" else SLICE_CODE) for name in ("A", "B") for z in (0, 1)]
    write_manifest(tmp_path / "manifest.csv", rows)
    stored_cases(tmp_path / "ct", None)
    told = capsys.readouterr().out
    assert told.startswith(f"warning: {tmp_path / 'ct'}: slices of 1 scan were prepared by other code than this: B;")
    assert told.endswith("python prepare_lung_image.py --test\n")
    stored_cases(tmp_path / "ct", "A")
    assert capsys.readouterr().out == ""


def test_some_patients_of_a_manifest(job, tmp_path):
    write_manifest(tmp_path / "manifest.csv", [make_row(name, z) for name in ("A", "B") for z in (0, 1)])
    assert [case.scan for case in stored_cases(tmp_path / "ct", None)] == ["A", "B"]
    assert [case.patient_id for case in stored_cases(tmp_path / "ct", "B")] == ["B"]
    with pytest.raises(LungError, match="--patients: not among the 2 patients prepared: C"):
        stored_cases(tmp_path / "ct", "C")
    with pytest.raises(LungError, match="python prepare_lung_image"):
        stored_cases(tmp_path / "nowhere" / "ct", None)
