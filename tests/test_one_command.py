"""Step 5 straight from the scans: the masks of steps 4 and 5, refusals in a line, and further files later."""

import csv
import os
import re
import shlex
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from conftest import run, small_patient

import model_test
from lungct import LungError
from lungct.evaluation import cases, results, written
from lungct.evaluation.metrics import dice
from lungct.evaluation.results import add_files
from lungct.evaluation.scores import read_scores
from lungct.masks.predicted import find_predictions
from lungct.masks.read_dicom import read_dicom_label
from lungct.masks.write import FORMATS, keep_bytes, kept_checksum, read_kept
from lungct.phantom.lidc_tree import write_series
from lungct.predict import Segmentation, segment
from lungct.scans.find import open_largest
from lungct.scans.lidc import LidcScan, Nodule
from lungct.scans.nifti import open_nifti, read_volume

WHO, OTHER = LidcScan("P1", "1.2.3", "1.2.3.4"), LidcScan("P2", "1.2.4", "1.2.4.4")
PATIENT = small_patient(3)
PART = PATIENT.ct_hu[12:32:2]
SPACING_MM = (12.0, *PATIENT.spacing_mm[1:])
QUICK = ("--png", "none", "--amp", "off")


def stored_range_left() -> np.ndarray:
    """The phantom, with padding below and metal above what step 4 stores."""
    ct_hu = PART.copy()
    ct_hu[3, 80:90, 100:110] = 9000
    assert ct_hu.min() < -1500
    return ct_hu


def move(slices: dict[int, float]) -> Callable[[Path], None]:
    """Change the z of some slices of a series; None removes one."""

    def change(folder: Path) -> None:
        for path in folder.glob("*.dcm"):
            number = int(path.stem[2:]) - 1
            if slices.get(number, 0) is None:
                path.unlink()
            elif number in slices:
                file = pydicom.dcmread(path)
                file.ImagePositionPatient = [-100.123456789, -90.5, slices[number]]
                file.save_as(path)

    return change


def add_phase(folder: Path) -> None:
    """Six slices of another phase in the same series."""
    write_series(folder / "phase", WHO, PART[:6], SPACING_MM, TemporalPositionIdentifier=2)


DICOM = {
    "whole": (stored_range_left(), lambda folder: None),
    "single slice": (PART[5:6], lambda folder: None),
    "a slice missing": (PART, move({4: None})),
    "unequal steps": (PART, move({z: 12 * z + z * z / 3 for z in range(10)})),
    "two phases": (PART, add_phase),
}
FLAGS = {
    "a slice missing": "slices missing in 1 place: gap of 24 mm after slice 3",
    "unequal steps": "unequal slice spacing, 12.33 to 17.67 mm",
    "two phases": "6 slices left out: TemporalPositionIdentifier 2, not none, at the same places",
}


def by_both_ways(home: Path, *source: object, more: tuple[str, ...] = ()) -> tuple[Path, Path]:
    """The predictions of steps 4 and 5, and those straight from the scan."""
    run("prepare_lung_image.py", "--test", *source, *more, cwd=home)
    run("model_test.py", *QUICK, "--predictions-path", "two", cwd=home)
    run("model_test.py", *QUICK, "--save", "npy,nifti", *source, *more, "--predictions-path", "one", cwd=home)
    return home / "two", home / "one"


def check_same(two: Path, one: Path, scan: str) -> None:
    """Masks bit for bit, and all numbers of the scan."""
    masks = {path.name: path.read_bytes() for path in (two / f"patient_{scan}").glob("*.npy")}
    assert masks
    assert masks == {path.name: path.read_bytes() for path in (one / f"patient_{scan}").glob("*.npy")}
    (before,), (after,) = (read_scores(out / "scores.csv") for out in (two, one))
    differ = {name for name in vars(before) if vars(before)[name] != vars(after)[name]}
    assert differ <= {"save", "fingerprint", "flags", "files"}  # a flag may be of the .nii.gz


@pytest.mark.parametrize("name", DICOM)
def test_straight_from_dicom_gives_the_masks_of_steps_4_and_5(name, tmp_path):
    ct_hu, change = DICOM[name]
    write_series(tmp_path / "ct", WHO, ct_hu, SPACING_MM)
    change(tmp_path / "ct")
    two, one = by_both_ways(tmp_path, "--dicom", "ct")
    check_same(two, one, "P1")
    expected = [FLAGS[name]] if name in FLAGS else []
    for out in (two, one):
        (score,) = read_scores(out / "scores.csv")
        assert [flag for flag in FLAGS.values() if flag in score.flags.split("; ")] == expected
        assert all(flag in (out / "report.html").read_text(encoding="utf-8") for flag in expected)
    again = run("model_test.py", *QUICK, "--predictions-path", "two", cwd=tmp_path)
    assert "1 done already" in again
    assert all(flag in again for flag in expected)
    masks = np.stack([np.load(path) for path in sorted((one / "patient_P1").glob("*.npy"))])
    assert masks.any()
    nifti = one / "patient_P1" / "P1.nii.gz"
    assert nifti.is_file() == (name != "unequal steps")
    if name in ("whole", "single slice"):
        np.testing.assert_array_equal(read_volume(nifti)[0], masks)


def test_straight_from_nifti_gives_the_masks_and_scores_of_steps_4_and_5_on_the_very_grid(tmp_path):
    affine = np.diag([-SPACING_MM[2], -SPACING_MM[1], SPACING_MM[0], 1.0])
    affine[:3, 3] = 101.123456789, 87.987654321, -1234.56789
    (tmp_path / "masks").mkdir()
    nibabel.save(nibabel.Nifti1Image(stored_range_left().T, affine), tmp_path / "scan.nii.gz")
    nibabel.save(nibabel.Nifti1Image(PATIENT.lung[12:32:2].T.astype(np.uint8), affine), tmp_path / "masks/scan.nii.gz")
    two, one = by_both_ways(tmp_path, "--nifti", "scan.nii.gz", more=("--labels", "masks"))
    check_same(two, one, "scan")
    (score,) = read_scores(one / "scores.csv")
    assert score.dice > 0.95
    given, written = nibabel.load(tmp_path / "scan.nii.gz"), nibabel.load(one / "patient_scan" / "scan.nii.gz")
    np.testing.assert_array_equal(written.affine, given.affine)
    assert written.shape == given.shape


def test_what_one_command_writes_and_says(tmp_path):
    for who in (WHO, OTHER):
        write_series(tmp_path / "ct" / who.patient_id, who, PART, SPACING_MM)
    write_series(tmp_path / "ct" / "few", LidcScan("P1", "1.2.3", "1.2.3.5"), PART[:3], SPACING_MM)
    (tmp_path / "ct" / "cut.dcm").write_bytes((tmp_path / "ct" / "P1" / "1-001.dcm").read_bytes()[:400])
    text = run("model_test.py", *QUICK, "--dicom", "ct", cwd=tmp_path, status=1)
    out = tmp_path / "predictions"
    assert re.search(r"weights .*lung_unet\.pth \([0-9a-f]{12}, of \d{4}-\d\d-\d\d \d\d:\d\d\)", text)
    assert "2 scans of 2 patients found" in text
    assert "2 scans, 0 done already; on cpu, float32" in text
    assert "left out series 1.2.3.5" in text
    assert "skipped a file" in text
    assert "1 of 3 scans skipped; see above" in text
    assert "0file" not in text
    assert sorted(path.name for path in out.iterdir() if path.name[0] != ".") == [
        *("patient_P1", "patient_P2", "report.html", "scores.csv")
    ]
    assert sorted(str(path.relative_to(out / "patient_P1")) for path in (out / "patient_P1").rglob("*.*")) == [
        *("P1.nii.gz", "slices.csv", "view/files.csv", "view/mask.npz", "view/thumbnail.jpg")
    ]
    assert not (tmp_path / "mydata").exists()
    assert "P1" in (out / "report.html").read_text(encoding="utf-8")
    with (out / "scores.csv").open(newline="") as file:
        assert [row["scan"] for row in csv.DictReader(file)] == ["P1", "P2", "mean", "standard deviation"]
    last = next(line for line in text.splitlines() if line.startswith("wrote"))
    nifti = Path("predictions/patient_P1/P1.nii.gz")
    assert last.endswith(
        f"look at {Path('predictions/report.html')}, then run: python image_test.py ct/P1 --mask {nifti}"
    )
    lung = segment(PART, SPACING_MM)
    assert dice(open_nifti(out / "patient_P1/P1.nii.gz").read() > 0, lung) > 0.999
    again = run("model_test.py", *QUICK, "--dicom", "ct", cwd=tmp_path, status=1)
    assert "2 scans, 2 done already" in again


def test_every_series_and_some_patients_are_taken_as_in_step_4(tmp_path):
    for who in (WHO, OTHER):
        write_series(tmp_path / "ct" / who.patient_id, who, PART[4:6], SPACING_MM)
    write_series(tmp_path / "ct" / "few", LidcScan("P1", "1.2.3", "1.2.3.5"), PART[4:5], SPACING_MM)
    text = run("model_test.py", *QUICK, "--dicom", "ct", "--series", "all", "--patients", "P1", cwd=tmp_path)
    assert "2 scans of 1 patient found" in text
    assert len(list((tmp_path / "predictions").rglob("*.nii.gz"))) == 2


def test_values_that_cannot_be_hu_are_refused_unless_the_user_says_so_and_others_go_on(tmp_path):
    affine = np.diag([-SPACING_MM[2], -SPACING_MM[1], SPACING_MM[0], 1.0])
    (tmp_path / "ct").mkdir()
    grey = np.clip((PART + 1024) / 12, 0, 255).astype(np.uint8)
    for name, volume in (("bad", grey), ("good", PART)):
        nibabel.save(nibabel.Nifti1Image(volume.T, affine), tmp_path / "ct" / f"{name}.nii.gz")
    text = run("model_test.py", *QUICK, "--nifti", "ct", cwd=tmp_path, status=1)
    assert "bad.nii.gz: looks like 8-bit grey levels, not HU; if it is right, add --any-values" in text
    assert [score.scan for score in read_scores(tmp_path / "predictions/scores.csv")] == ["good"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Python's own words for a warning
        text = run("model_test.py", *QUICK, "--nifti", "ct", "--any-values", cwd=tmp_path)
    assert [line for line in text.splitlines() if line.startswith("warning")] == [
        f"warning {'bad':24s} looks like 8-bit grey levels, not HU: the lungs will be wrong"
    ]
    text = run("prepare_lung_image.py", "--test", "--nifti", "ct", "--any-values", cwd=tmp_path)
    assert f"warning {'bad':24s} looks like 8-bit grey levels, not HU: the lungs will be wrong" in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = run("model_test.py", *QUICK, "--predictions-path", "of_slices", cwd=tmp_path)
    assert f"warning {'bad':24s} looks like 8-bit grey levels" in text
    assert [score.scan for score in read_scores(tmp_path / "predictions/scores.csv")] == ["bad", "good"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--labels", "masks"), "--labels goes with --dicom or --nifti; for the slices of step 4, give it to"),
        (("--any-values",), "--any-values goes with --dicom or --nifti"),
        (("--series", "all"), "--series goes with"),
        (
            ("--nifti", "ct.nii.gz", "--save", "dicom-seg"),
            "--save dicom-seg: a DICOM segmentation refers to .* ct.nii.gz",
        ),
        (
            ("--nifti", "ct.nii.gz", "--save", "dicom-seg-anonymous"),  # as it was once called
            "choose one or more of npy, nifti, sides, nrrd, dicom-seg, rtstruct$",
        ),
        (("--nifti", "ct.nii.gz", "--anonymous"), "--anonymous goes with --save dicom-seg or rtstruct"),
        (("--nifti", "ct.nii.gz", "--save", "nifti", "--anonymous"), "--anonymous goes with --save"),
        (
            ("--nifti", "ct.nii.gz", "--save", "stl"),
            "choose one or more of npy, nifti, sides, nrrd, dicom-seg",
        ),
        (("--dicom", "nowhere"), "nowhere does not exist"),
        (("--nifti", "nowhere"), "nowhere does not exist"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line_before_anything_is_predicted(flags, told, tmp_path, monkeypatch):
    monkeypatch.setattr(model_test, "segment_volume", None)
    nibabel.save(nibabel.Nifti1Image(PART.T, np.diag([-3, -3, 12, 1.0])), tmp_path / "ct.nii.gz")
    assert re.search(told, run("model_test.py", *flags, cwd=tmp_path, status=1), re.MULTILINE)


@pytest.mark.parametrize(
    ("source", "save"),
    [("ct", "npy"), ("ct", "rtstruct"), ("a scan.nii.gz", "npy"), ("a scan.nii.gz", "nifti,npy")],
)
def test_masks_of_a_scan_s_own_files_are_shown_by_the_command_that_the_viewer_names(source, save, tmp_path):
    if source == "ct":
        write_series(tmp_path / source, WHO, PART, SPACING_MM)
    else:
        affine = np.diag([-SPACING_MM[2], -SPACING_MM[1], SPACING_MM[0], 1.0])
        nibabel.save(nibabel.Nifti1Image(PART.T, affine), tmp_path / source)
    flags = ("--dicom" if source == "ct" else "--nifti", source)
    run("model_test.py", *QUICK, *flags, "--save", save, cwd=tmp_path)
    (folder,) = (tmp_path / "predictions").glob("patient_*")
    seen = folder.relative_to(tmp_path)
    for path in (seen, *(path.relative_to(tmp_path) for path in folder.glob("*.nii.gz"))):
        told = run("image_test.py", path, "--save", "look.png", cwd=tmp_path, status=1)
        _, script, *command = shlex.split(told.split("run: ")[1])
        assert script == "image_test.py"
        assert "wrote look.png" in run(script, *command, "--save", "look.png", cwd=tmp_path)


def test_masks_of_the_slices_of_step_4_are_shown_on_the_scan_itself_where_the_slices_are_gone(tmp_path):
    write_series(tmp_path / "scans" / "ct", WHO, PART, SPACING_MM)
    run("prepare_lung_image.py", "--test", "--dicom", "scans", cwd=tmp_path)
    run("model_test.py", *QUICK, cwd=tmp_path)
    shutil.rmtree(tmp_path / "mydata")
    told = run("image_test.py", "predictions/patient_P1", "--save", "look.png", cwd=tmp_path, status=1)
    _, script, *command = shlex.split(told.split("run: ")[1])
    assert "wrote look.png" in run(script, *command, "--save", "look.png", cwd=tmp_path)
    (tmp_path / "scans").rename(tmp_path / "elsewhere")
    told = run("image_test.py", "predictions/patient_P1", "--save", "look.png", cwd=tmp_path, status=1)
    assert "no CT slices of P1 beside it" in told
    assert "run: " not in told


@pytest.fixture(scope="module")
def predicted(tmp_path_factory) -> Path:
    """A folder with a scan ct/, predicted with the defaults but for pictures; to be copied."""
    home = tmp_path_factory.mktemp("predicted")
    write_series(home / "ct", WHO, PART, SPACING_MM)
    run("model_test.py", *QUICK, "--dicom", "ct", cwd=home)
    return home


@pytest.fixture
def home(predicted, tmp_path, monkeypatch) -> Path:
    """A copy of it, done by step 5 as the first one was, in which nothing can be predicted."""
    copy = shutil.copytree(predicted, tmp_path / "home")
    kept = copy / "predictions/patient_P1/view/mask.npz"
    found = Segmentation(*read_kept(kept, kept_checksum(kept)))
    monkeypatch.setattr(model_test, "segment_volume", lambda *_: found)
    assert "other slices, weights, options or code; predicted again: P1" in again(copy, *QUICK[:2])  # other files

    def refuse(*_):
        raise AssertionError("predicted again")

    monkeypatch.setattr(model_test, "segment_volume", refuse)
    return copy


def by_threshold(ct_hu: np.ndarray, *_) -> Segmentation:
    """In place of the network."""
    return Segmentation(ct_hu < -600, np.zeros(len(ct_hu)))


def again(home: Path, *flags: str, status: int = 0) -> str:
    return run("model_test.py", "--amp", "off", "--dicom", "ct", *flags, cwd=home, status=status)


def files(home: Path) -> dict[str, int]:
    """Of the scan's folder, with the time of each, but for the record of what was written."""
    folder = home / "predictions/patient_P1"
    found = (path for path in folder.rglob("*.*") if path.name != "files.csv")
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in found}


def test_further_formats_and_pictures_are_made_from_the_mask_and_nothing_goes(home):
    before = files(home)
    text = again(home, "--save", "sides,dicom-seg", "--png", "none")
    assert "1 scan, 0 done already" in text
    assert "files and scores from the masks that are there, not predicted again: P1" in text
    more = files(home)
    assert {name: more[name] for name in before} == before
    assert more.keys() - before.keys() == {"P1_sides.nii.gz", "P1.seg.dcm"}
    again(home, "--save", "npy", "--png", "some")
    last = files(home)
    assert {name: last[name] for name in more} == {**more, "view/thumbnail.jpg": last["view/thumbnail.jpg"]}
    folder = home / "predictions/patient_P1"
    masks = np.stack([np.load(path) for path in sorted(folder.glob("*.npy"))])
    np.testing.assert_array_equal(read_volume(folder / "P1.nii.gz")[0], masks)
    assert len(list(folder.glob("*.png"))) == 1
    (score,) = read_scores(home / "predictions/scores.csv")
    assert (score.save, score.png) == ("npy,nifti,sides,dicom-seg", "some")
    for flags in (("--png", "none"), ("--save", "dicom-seg,npy", "--png", "some")):
        assert "1 scan, 1 done already" in again(home, *flags)


def test_anonymous_files_lie_beside_those_with_names_and_hold_none(tmp_path):
    told = {
        "PatientName": "Doe^Jane",
        "PatientBirthDate": "19500131",
        "PatientSex": "F",
        "StudyDate": "20200229",
        "SeriesDate": "20200228",
        "AcquisitionDate": "20200227",
        "AccessionNumber": "A-1234",
        "InstitutionName": "Somewhere General",
    }
    write_series(tmp_path / "ct", WHO, PART, SPACING_MM, **told)
    flags = (*QUICK, "--dicom", "ct", "--save", "rtstruct,dicom-seg")
    folder = tmp_path / "predictions/patient_P1"
    endings = {"seg.dcm", "rtstruct.dcm"}
    run("model_test.py", *flags, "--anonymous", cwd=tmp_path)
    assert {path.name for path in folder.glob("*.dcm")} == {f"P1_anonymous.{ending}" for ending in endings}
    run("model_test.py", *flags, cwd=tmp_path)
    (score,) = read_scores(tmp_path / "predictions/scores.csv")
    assert score.save == "dicom-seg,rtstruct,dicom-seg-anonymous,rtstruct-anonymous"
    scan = open_largest(tmp_path / "ct")
    for ending in endings:
        named, hidden = folder / f"P1.{ending}", folder / f"P1_anonymous.{ending}"
        assert (pydicom.dcmread(named).PatientName, pydicom.dcmread(named).StudyDate) == ("Doe^Jane", "20200229")
        content, shown = hidden.read_bytes(), pydicom.dcmread(hidden)
        assert not [value for value in told.values() if len(value) > 1 and value.encode() in content]
        assert shown.PatientName == shown.PatientBirthDate == shown.PatientSex == shown.StudyDate == ""
        assert (shown.PatientID, shown.StudyInstanceUID) == (WHO.patient_id, WHO.study_uid)
        masks = [read_dicom_label(path, scan)[0] for path in (named, hidden)]
        np.testing.assert_array_equal(*masks)
    for flag in ((), ("--anonymous",)):
        assert "1 done already" in run("model_test.py", *flags, *flag, cwd=tmp_path)


def test_a_file_that_was_removed_is_made_from_the_mask_that_is_kept(home):
    path = home / "predictions/patient_P1/P1.nii.gz"
    content = path.read_bytes()
    path.unlink()
    again(home, *QUICK[:2])
    assert path.read_bytes() == content


def test_a_mask_that_was_corrected_by_hand_stays_and_is_not_what_others_are_made_from(home):
    path = home / "predictions/patient_P1/P1.nii.gz"
    path.write_bytes(b"corrected")
    said = r"warning P1 .*P1\.nii\.gz: a mask was changed after the prediction; to train on it, give it with --labels"
    assert re.search(said, again(home, "--save", "nifti,npy", *QUICK[:2]))
    assert re.search(said, again(home, *QUICK[:2]))
    assert path.read_bytes() == b"corrected"
    (score,) = read_scores(home / "predictions/scores.csv")
    voxel_ml = np.prod(SPACING_MM) / 1e3
    masks = [np.load(file) for file in path.parent.glob("*.npy")]
    assert np.sum(masks) * voxel_ml / 1e3 == pytest.approx(score.litres, abs=1e-3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("scan", "other slices, weights, options or code"),
        ("kept mask damaged", "view/mask.npz damaged, or another mask in it"),
        ("kept mask of another scan", "view/mask.npz damaged, or another mask in it"),
        ("a slice put in by hand", "slices of other names among the masks"),
    ],
)
def test_masks_of_other_input_are_predicted_again(home, change, reason, monkeypatch):
    folder = home / "predictions/patient_P1"
    if change == "scan":
        write_series(home / "ct", WHO, PART[:, :, ::-1], SPACING_MM)
    elif change == "kept mask damaged":
        (folder / "view/mask.npz").write_bytes(b"PK")
    elif change == "a slice put in by hand":
        np.save(folder / "P1_slice999.npy", np.ones((2, 2)))
    else:
        (folder / "view/mask.npz").write_bytes(keep_bytes(np.ones(PART.shape, bool), np.zeros(len(PART)), PART))
    monkeypatch.setattr(model_test, "segment_volume", by_threshold)
    text = again(home, "--save", "npy", *QUICK[:2])
    assert f"{reason}; predicted again: P1" in text.splitlines()
    assert text.count("predicted again") == 1
    names = {name for name in files(home) if name.endswith(".npy")}
    assert len(names) == len(PART)
    assert not (folder / "P1.nii.gz").exists()  # of the other mask
    mask = np.load(folder / "P1_slice004.npy")
    assert mask.sum() == np.count_nonzero((PART[4, :, ::-1] if change == "scan" else PART[4]) < -600)


def test_another_ct_of_the_same_size_and_time_takes_no_mask_of_the_one_before(home, monkeypatch):
    predictions = home / "predictions"
    monkeypatch.setattr(model_test, "segment_volume", by_threshold)
    before = {path.name: path.stat() for path in (home / "ct").iterdir()}
    write_series(home / "ct", WHO, PART[:, :, ::-1], SPACING_MM)
    for name, stat in before.items():
        assert (home / "ct" / name).stat().st_size == stat.st_size
        os.utime(home / "ct" / name, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert "predicted again: P1" in again(home, *QUICK[:2])
    (score,) = read_scores(predictions / "scores.csv")
    assert score.litres == pytest.approx(np.count_nonzero(PART < -600) * np.prod(SPACING_MM) / 1e6, abs=1e-3)


def test_the_kept_mask_is_taken_for_no_other_ct_even_where_the_files_seem_the_same(home, monkeypatch):
    monkeypatch.setattr(cases, "job_stamps", lambda *_: [])  # of a disk that notes no change
    monkeypatch.setattr(model_test, "segment_volume", by_threshold)
    again(home, *QUICK[:2])
    write_series(home / "ct", WHO, PART[:, :, ::-1], SPACING_MM)
    text = again(home, "--save", "npy", *QUICK[:2])
    assert "the mask that was there is damaged, or of another CT: predicted again" in text
    mask = np.load(home / "predictions/patient_P1/P1_slice004.npy")
    np.testing.assert_array_equal(mask, PART[4, :, ::-1] < -600)
    assert not (home / "predictions/patient_P1/P1.nii.gz").exists()


def test_another_reference_scores_the_mask_that_is_there(home):
    affine = np.diag([-SPACING_MM[2], -SPACING_MM[1], SPACING_MM[0], 1.0])
    lung = PATIENT.lung[12:32:2]
    for truth in (lung, lung & (np.arange(lung.shape[2]) < 100)):
        nibabel.save(nibabel.Nifti1Image(truth.T.astype(np.uint8), affine), home / "P1.nii.gz")
        text = again(home, "--labels", "P1.nii.gz", "--png", "all")
        predicted = open_nifti(home / "predictions/patient_P1/P1.nii.gz").read() > 0
        (score,) = read_scores(home / "predictions/scores.csv")
        assert score.dice == pytest.approx(dice(predicted, truth), abs=1e-4)
        assert f"mean Dice {score.dice:.4f}" in text


def test_an_interruption_while_files_are_added_loses_no_mask(home, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = read_scores(home / "predictions/scores.csv")
    monkeypatch.setattr(model_test, "make_files", interrupt)
    run("model_test.py", "--amp", "off", "--dicom", "ct", "--save", "npy", *QUICK[:2], cwd=home, status=130)
    assert read_scores(home / "predictions/scores.csv") == before


def test_a_failure_while_files_are_added_keeps_what_is_there(home, monkeypatch):
    def fail(*_):
        raise MemoryError

    before = files(home), read_scores(home / "predictions/scores.csv")
    monkeypatch.setattr(model_test, "make_files", fail)
    assert "skipped P1: not enough memory" in again(home, "--save", "npy", *QUICK[:2], status=1)
    assert (files(home), read_scores(home / "predictions/scores.csv")) == before


def test_where_no_format_can_hold_the_mask_the_slices_are_written(tmp_path):
    ct_hu, change = DICOM["unequal steps"]
    write_series(tmp_path / "ct", WHO, ct_hu, SPACING_MM)
    change(tmp_path / "ct")
    run("model_test.py", *QUICK, "--dicom", "ct", cwd=tmp_path)
    (score,) = read_scores(tmp_path / "predictions/scores.csv")
    assert score.flags.count("no .nii.gz") == 1
    assert len(list((tmp_path / "predictions/patient_P1").glob("*.npy"))) == len(PART)
    assert "1 done already" in run("model_test.py", *QUICK, "--dicom", "ct", cwd=tmp_path)


def test_a_format_that_failed_is_tried_again_and_leaves_the_others_alone(home, monkeypatch):
    def fail(_):
        raise LungError("lacks what it must name")

    whole = FORMATS["dicom-seg"]
    monkeypatch.setitem(FORMATS, "dicom-seg", replace(whole, encode=fail))
    assert "no .seg.dcm: lacks what it must name" in again(home, "--save", "dicom-seg,npy", *QUICK[:2])
    assert {"P1.nii.gz", "P1_slice000.npy"} < files(home).keys()
    monkeypatch.setitem(FORMATS, "dicom-seg", whole)
    assert "no .seg.dcm" not in again(home, "--save", "dicom-seg", *QUICK[:2])
    assert "P1.seg.dcm" in files(home)


def test_a_setting_of_an_older_lung_conf_means_what_it_meant(home, monkeypatch):
    (home / "lung.conf").write_text("[model_test]\nsave = nifti-sides\n")
    again(home, *QUICK[:2])
    (score,) = read_scores(home / "predictions/scores.csv")
    assert score.save == "nifti,sides"
    (home / "lung.conf").write_text("[model_test]\nsave = npy\n")  # as step 1 wrote it, whatever was wanted
    again(home, *QUICK[:2])
    assert not list((home / "predictions").rglob("*.npy"))


def one_nodule(*_) -> list[Nodule]:
    """Of two rows and three columns in two slices, all of it inside the body."""
    return [Nodule(1, readers=3, mask=np.ones((2, 3, 2), bool), row=80, col=60, z_mm=np.array([36.0, 48.0]))]


def test_nodules_that_could_not_be_written_or_are_gone_are_made_again_from_the_mask(home, monkeypatch):
    table = home / "predictions/nodules.csv"
    monkeypatch.setattr("lungct.evaluation.nodules.find_nodules", one_nodule)
    monkeypatch.setattr(model_test, "SCORE_CODE", "other code")
    table.mkdir()
    assert "nodules.csv: cannot write it" in again(home, *QUICK[:2], status=1)
    table.rmdir()
    for _ in range(2):
        text = again(home, *QUICK[:2])
        assert "1 scan, 0 done already" in text
        assert "not predicted again: P1" in text
        assert "on average over 1 nodule" in text
        assert len(table.read_text().splitlines()) == 2
        assert "1 scan, 1 done already" in again(home, *QUICK[:2])
        table.unlink()


def test_no_row_of_a_scan_stands_in_the_table_while_its_pictures_change(home, monkeypatch):
    affine = np.diag([-SPACING_MM[2], -SPACING_MM[1], SPACING_MM[0], 1.0])
    nibabel.save(nibabel.Nifti1Image(PATIENT.lung[12:32:2].T.astype(np.uint8), affine), home / "P1.nii.gz")
    rows = []

    def add(folder: Path, files: dict) -> None:
        rows.append(read_scores(home / "predictions/scores.csv"))
        add_files(folder, files)

    monkeypatch.setattr(model_test, "add_files", add)
    again(home, "--labels", "P1.nii.gz", "--png", "some")
    again(home, "--png", "some")
    assert rows == [[], []]


def test_masks_of_another_scan_in_the_folder_are_pointed_out_and_stay(home):
    folder = home / "predictions/patient_P1"
    again(home, "--save", "npy", *QUICK[:2])
    other = np.zeros(PART.shape[1:], np.uint8)
    np.save(folder / "P1_slice003.npy", other)
    (folder / "P1_slice004.npy").unlink()
    assert "0 done already" in again(home, "--save", "npy", *QUICK[:2])  # one is missing
    for flags in (("--save", "npy"), ("--save", "npy,nrrd"), ("--save", "npy")):
        text = again(home, *flags, *QUICK[:2])
        assert re.search(r"warning P1 .*P1_slice003\.npy: a mask was changed after the prediction; .*delete it", text)
    np.testing.assert_array_equal(np.load(folder / "P1_slice003.npy"), other)
    (folder / "P1_slice003.npy").unlink()
    assert "a mask was changed" not in again(home, "--save", "npy", *QUICK[:2])
    assert "1 done already" in again(home, "--save", "npy", *QUICK[:2])


def test_a_copied_folder_is_read_once_and_then_known(home, monkeypatch):
    folder, read, checksum = home / "predictions/patient_P1", [], written.content_checksum
    again(home, *QUICK[:2])
    for path in folder.glob("*.nii.gz"):
        path.write_bytes(path.read_bytes())
    monkeypatch.setattr(written, "content_checksum", lambda content: read.append(len(content)) or checksum(content))
    for _ in range(2):
        text = again(home, *QUICK[:2])
        assert "1 done already" in text
        assert "warning" not in text
    assert sorted(read) == sorted(path.stat().st_size for path in folder.rglob("*.*") if path.name != "files.csv")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("P1.seg.dcm", "a mask was changed after the prediction; to train on it"),
        ("P1.rtstruct.dcm", "a mask was changed after the prediction; to train on it"),
        ("P1_slice000.png", "changed since it was written; to have it as it was, delete it"),
        ("view/P1_slice000.js", "changed since it was written; to have it as it was, delete it"),
        ("view/view.js", "changed since it was written; to have it as it was, delete it"),
        ("view/thumbnail.jpg", "changed since it was written; to have it as it was, delete it"),
    ],
)
def test_whatever_file_was_changed_is_pointed_out_until_it_is_deleted_and_made_again(home, name, said):
    flags = ("--save", "nifti,dicom-seg,rtstruct", "--png", "some")
    for _ in range(2):
        assert "warning" not in again(home, *flags)
    path = home / "predictions/patient_P1" / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    for _ in range(2):
        text = again(home, *flags)
        assert "1 done already" in text
        assert re.search(rf"warning P1 .*{re.escape(name)}: {said}", text)
    path.unlink()
    for done in (0, 1):
        text = again(home, *flags)
        assert f"{done} done already" in text
        assert "warning" not in text
    assert path.is_file()


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"name\xff")])
def test_without_the_record_of_what_was_written_the_masks_stay_with_a_warning(home, damage):
    folder = home / "predictions/patient_P1"
    mask, record = folder / "P1.nii.gz", folder / "view/files.csv"
    mask.write_bytes(b"corrected by hand")
    damage(record)
    text = again(home, *QUICK[:2])
    assert re.search(r"warning P1 .*files\.csv: missing or damaged, so that it is not known whether masks were", text)
    assert "not predicted again: P1" in text
    assert "other slices, weights, options or code" not in text
    assert mask.read_bytes() == b"corrected by hand"
    text = again(home, *QUICK[:2])
    assert "1 done already" in text
    assert "warning" not in text
    mask.write_bytes(b"corrected again")
    assert re.search(r"warning P1 .*P1\.nii\.gz: a mask was changed", again(home, *QUICK[:2]))


def test_a_changed_picture_is_replaced_without_a_word_by_a_run_that_makes_pictures(home, monkeypatch):
    folder = home / "predictions/patient_P1"
    again(home, "--png", "some")
    again(home, "--png", "some")
    for flags, code in ((("--png", "all"), model_test.SCORE_CODE), (("--png", "some"), "other code")):
        (picture,) = folder.glob("*slice000.png")
        drawn = picture.read_bytes()
        picture.write_bytes(b"mine")
        (folder / "P1.nii.gz").write_bytes(b"corrected by hand")
        assert re.search(r"warning P1 .*patient_P1.P1_slice000\.png: changed", again(home, "--png", "some"))
        monkeypatch.setattr(model_test, "SCORE_CODE", code)
        text = again(home, *flags)
        assert re.search(r"warning P1 .*P1\.nii\.gz: a mask was changed", text)
        assert "slice000.png" not in text
        assert picture.read_bytes() == drawn
        assert (folder / "P1.nii.gz").read_bytes() == b"corrected by hand"
        assert "slice000.png" not in again(home, *flags)


def test_all_files_that_were_changed_are_pointed_out(home):
    folder = home / "predictions/patient_P1"
    for name in ("P1.nii.gz", "slices.csv", "view/thumbnail.jpg"):
        (folder / name).write_bytes((folder / name).read_bytes() + b"\n")
    for _ in range(2):
        text = again(home, *QUICK[:2])
        assert re.search(r"warning P1 .*patient_P1.P1\.nii\.gz: a mask was changed after the prediction", text)
        assert re.search(r"warning P1 .*patient_P1.slices\.csv, view/thumbnail\.jpg: changed since it was", text)


def test_a_file_that_is_changed_while_files_are_checked_is_pointed_out_by_the_next_run(home, monkeypatch):
    again(home, "--save", "nrrd", *QUICK[:2])  # its row says of no file that it was checked
    mask, find_changes = home / "predictions/patient_P1/P1.nii.gz", results.find_changes

    def change_after(*args):
        found = find_changes(*args)
        mask.write_bytes(b"corrected by hand")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(results, "find_changes", change_after)
        assert "warning" not in again(home, *QUICK[:2])
    assert re.search(r"warning P1 .*P1\.nii\.gz: a mask was changed", again(home, *QUICK[:2]))


@pytest.mark.parametrize("seen", [1, 2])  # when stamps are taken, when files are read
def test_a_file_that_is_removed_while_files_are_checked_is_made_again(home, monkeypatch, seen):
    again(home, "--save", "nrrd", *QUICK[:2])
    files_there, calls = results.files_there, []

    def remove_after(*args):
        found = files_there(*args)
        calls.append(found)
        if len(calls) == seen:
            (home / "predictions/patient_P1/P1.seg.nrrd").unlink()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(results, "files_there", remove_after)
        assert "warning" not in again(home, "--save", "nrrd", *QUICK[:2])
    assert "warning" not in again(home, "--save", "nrrd", *QUICK[:2])
    assert (home / "predictions/patient_P1/P1.seg.nrrd").is_file()


def test_after_a_write_that_failed_nothing_counts_as_changed(home, monkeypatch):
    flags, replace_file, written = ("--save", "npy,nrrd", "--png", "some"), results.replace_file, []

    def full_after_two(path: Path, content: bytes) -> None:
        written.append(path)
        if len(written) > 2:
            raise LungError("disk full")
        replace_file(path, content)

    before = files(home).keys()
    with monkeypatch.context() as patch:
        patch.setattr(results, "replace_file", full_after_two)
        assert "disk full" in again(home, *flags, status=1)
    assert "P1.seg.nrrd" in files(home).keys() - before
    for more in (QUICK[:2], flags, flags):
        assert "warning" not in again(home, *more)
    assert files(home).keys() - before > {"P1.seg.nrrd", "P1_slice000.npy", "P1_slice000.png"}


def test_a_file_of_ours_by_name_that_was_put_in_by_hand_is_pointed_out(home):
    path = home / "predictions/patient_P1/P1.seg.nrrd"
    path.write_bytes(b"by hand")
    path.with_name("mine.nii.gz").write_bytes(b"of no name of ours")
    assert re.search(r"warning P1 .*P1\.seg\.nrrd: a mask was changed", again(home, "--save", "nrrd", *QUICK[:2]))
    path.unlink()
    assert "warning" not in again(home, "--save", "nrrd", *QUICK[:2])
    assert path.stat().st_size > 100


def remove(name: str) -> Callable[[Path, pytest.MonkeyPatch], None]:
    """Take a file away from the predictions."""
    return lambda predictions, patch: (predictions / name).unlink()


PREDICTED_AGAIN = {
    "other slices, weights, options or code": lambda _, patch: patch.setattr(model_test, "MASK_CODE", "after git pull"),
    "slices.csv missing": remove("patient_P1/slices.csv"),
    "view/mask.npz missing": remove("patient_P1/view/mask.npz"),
    "": remove("scores.csv"),  # as after a run with other scores that was stopped
}


@pytest.mark.parametrize("reason", PREDICTED_AGAIN)
def test_a_corrected_mask_is_set_aside_where_its_scan_is_predicted_again(home, monkeypatch, reason):
    predictions = home / "predictions"
    folder, aside = predictions / "patient_P1", predictions / "changed_patient_P1"
    (folder / "P1.nii.gz").write_bytes(b"corrected by hand")
    PREDICTED_AGAIN[reason](predictions, monkeypatch)
    monkeypatch.setattr(model_test, "segment_volume", by_threshold)
    text = again(home, *QUICK[:2])
    assert [line for line in text.splitlines() if "predicted again" in line] == (
        [f"{reason}; predicted again: P1"] if reason else []
    )
    (warning,) = (line for line in text.splitlines() if line.startswith("warning"))
    assert re.match(
        r"warning P1 .*patient_P1.P1\.nii\.gz: changed or added since .*, so that folder is kept as "
        r"predictions.changed_patient_P1$",
        warning,
    )
    assert (aside / "P1.nii.gz").read_bytes() == b"corrected by hand"
    assert read_volume(folder / "P1.nii.gz")[0].sum() == np.count_nonzero(PART < -600)
    text = again(home, *QUICK[:2])
    assert "1 done already" in text
    assert "warning" not in text
    assert "with masks that were changed or added, used by no step: changed_patient_P1" in text
    assert [one.folder for one in find_predictions(predictions)] == [folder]
    assert "changed_" not in (predictions / "report.html").read_text(encoding="utf-8")


def test_masks_as_they_were_written_are_replaced_and_none_is_set_aside(home, monkeypatch):
    again(home, "--save", "npy,sides,nrrd,dicom-seg,rtstruct", "--png", "some")
    (picture,) = (home / "predictions/patient_P1").glob("*.png")
    picture.write_bytes(b"changed")
    (home / "predictions/patient_P1/.DS_Store").write_bytes(b"of macOS")
    monkeypatch.setattr(model_test, "MASK_CODE", "after git pull")
    monkeypatch.setattr(model_test, "segment_volume", by_threshold)
    text = again(home, *QUICK[:2])
    assert "predicted again: P1" in text
    assert "changed" not in text
    assert [path.name for path in (home / "predictions").iterdir() if path.is_dir()] == ["patient_P1"]


@pytest.mark.parametrize("is_changed", [True, False])
def test_a_scan_that_fails_now_leaves_a_corrected_mask_and_no_other(home, monkeypatch, is_changed):
    def fail(*_):
        raise MemoryError

    if is_changed:
        (home / "predictions/patient_P1/P1.nii.gz").write_bytes(b"corrected by hand")
    monkeypatch.setattr(model_test, "MASK_CODE", "after git pull")
    monkeypatch.setattr(model_test, "segment_volume", fail)
    text = again(home, *QUICK[:2], status=1)
    assert "skipped P1: not enough memory" in text
    left = [path.name for path in (home / "predictions").iterdir() if path.is_dir()]
    assert left == (["changed_patient_P1"] if is_changed else [])
    assert bool(re.search(r"warning P1 .*is kept as predictions.changed_patient_P1", text)) == is_changed
    if is_changed:
        assert (home / "predictions/changed_patient_P1/P1.nii.gz").read_bytes() == b"corrected by hand"


def test_a_kept_mask_of_another_ct_takes_no_corrected_mask_with_it(home, monkeypatch):
    mask = home / "predictions/patient_P1/P1.nii.gz"
    monkeypatch.setattr(model_test, "read_kept_of", lambda *_: None)
    monkeypatch.setattr(model_test, "segment_volume", by_threshold)
    mask.write_bytes(b"corrected by hand")
    text = again(home, "--save", "npy", *QUICK[:2])
    assert "damaged, or of another CT: predicted again" in text
    assert "is kept as predictions" in text
    assert (home / "predictions/changed_patient_P1/P1.nii.gz").read_bytes() == b"corrected by hand"


def test_a_mask_whose_record_was_lost_is_set_aside_later(home, monkeypatch):
    mask = home / "predictions/patient_P1/P1.nii.gz"
    mask.write_bytes(b"corrected by hand")
    (mask.parent / "view/files.csv").unlink()
    assert "only what changes from now on is pointed out" in again(home, *QUICK[:2])
    assert "warning" not in again(home, *QUICK[:2])
    monkeypatch.setattr(model_test, "MASK_CODE", "after git pull")
    monkeypatch.setattr(model_test, "segment_volume", by_threshold)
    assert re.search(r"warning P1 .*P1\.nii\.gz: perhaps changed or added since", again(home, *QUICK[:2]))
    assert (home / "predictions/changed_patient_P1/P1.nii.gz").read_bytes() == b"corrected by hand"
