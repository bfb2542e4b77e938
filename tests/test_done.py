"""Done means made from this input with these options; a folder holds the scans of the last command."""

import functools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from corpus import MATRIX, phantom

import model_test
import prepare_lung_image as step
from lungct import LungError, slice_files
from lungct.evaluation.scores import ScanScore
from lungct.files import read_table
from lungct.phantom.render import make_patient
from lungct.slices import read_manifest, write_manifest
from lungct.weights import SHIPPED

TEST = Path("mydata/Image_test")
CT_HU, SPACING_MM = phantom()
OTHER = {"other scan": [], "other labels": ["--labels", "halves"], "dropped": []}  # flags
AFFINE = np.diag([-SPACING_MM[2], -SPACING_MM[1], SPACING_MM[0], 1.0])


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_nifti(path: str, volume: np.ndarray) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(volume.T, AFFINE), path)


@functools.cache
def exact_lung() -> np.ndarray:
    """The lungs of CT_HU, (Z, H, W) bool."""
    return make_patient(2, MATRIX, slice_mm=20.0).lung


def prepare(*flags: str) -> None:
    step.main(["--test", "--workers", "1", *flags])


def stored(kind: str = "ct") -> dict[str, np.ndarray]:
    """The slices on disk of each scan of the manifest."""
    scans: dict[str, list] = {}
    for row in read_manifest(TEST / "manifest.csv"):
        scans.setdefault(row.scan, []).append(np.load(TEST / kind / row.scan / f"{row.slice_name}.npy"))
    return {scan: np.stack(images) for scan, images in scans.items()}


def test_another_file_of_the_same_name_is_prepared(capsys):
    write_nifti("a/scan.nii.gz", CT_HU)
    write_nifti("b/scan.nii.gz", CT_HU[:, :, ::-1])
    prepare("--nifti", "a/scan.nii.gz")
    prepare("--nifti", "b/scan.nii.gz")
    assert "other files, labels, options or code; prepared again" in capsys.readouterr().out
    (ct_hu,) = stored().values()
    np.testing.assert_array_equal(ct_hu, np.clip(CT_HU[:, :, ::-1], -1024, 3071))


def test_what_is_unchanged_is_not_made_again(capsys):
    write_nifti("a/scan.nii.gz", CT_HU)
    prepare("--nifti", "a")
    before = {path: path.stat().st_mtime_ns for path in TEST.rglob("*.npy")}
    prepare("--nifti", "a")
    assert "1 of 1 scan done already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in TEST.rglob("*.npy")} == before


@pytest.mark.parametrize("change", ["removed", "added"])
def test_a_slice_removed_or_put_in_by_hand_is_noticed(change):
    write_nifti("a/scan.nii.gz", CT_HU)
    prepare("--nifti", "a")
    slices = sorted(TEST.rglob("ct/*/*.npy"))
    if change == "removed":
        slices[3].unlink()
    else:
        shutil.copy(slices[3], slices[3].with_name("strange.npy"))
    prepare("--nifti", "a")
    assert sorted(TEST.rglob("ct/*/*.npy")) == slices


@pytest.mark.parametrize("kind", ["ct", "lung"])
@pytest.mark.parametrize("change", ["another patient's", "one pixel"])
def test_a_slice_that_was_changed_is_made_again(capsys, kind, change):
    write_nifti("a/scan.nii.gz", CT_HU)
    write_nifti("masks/scan.nii.gz", exact_lung().astype(np.uint8))
    prepare("--nifti", "a", "--labels", "masks")
    before = stored(kind)["scan"]
    path = sorted(TEST.rglob(f"{kind}/*/*.npy"))[3]
    image = np.load(path)
    image[0, 0] += 1
    np.save(path, image[::-1] if change == "another patient's" else image)
    capsys.readouterr()
    prepare("--nifti", "a", "--labels", "masks")
    assert "1 scan of earlier commands: changed since" in capsys.readouterr().out
    np.testing.assert_array_equal(stored(kind)["scan"], before)


def test_a_scan_whose_row_was_changed_is_made_again(capsys):
    for name in "ab":
        write_nifti(f"scans/{name}.nii.gz", CT_HU)
    prepare("--nifti", "scans")
    path = TEST / "manifest.csv"
    before = path.read_text()
    path.write_text(before.replace("\na,a,", "\nc,a,", 1))
    prepare("--nifti", "scans")
    text = capsys.readouterr().out
    assert "rows of a were changed afterwards; not used" in text
    assert "1 of 2 scans done already" in text
    assert path.read_text() == before


def test_slices_that_a_worker_made_by_older_code_are_made_again(capsys):
    write_nifti("a/scan.nii.gz", CT_HU)
    prepare("--nifti", "a")
    path = TEST / "manifest.csv"
    before = path.read_text()
    write_manifest(path, [replace(row, code="older") for row in read_manifest(path)])
    prepare("--nifti", "a")
    assert "options or code; prepared again" in capsys.readouterr().out
    assert path.read_text() == before


@pytest.mark.parametrize("change", ["other scan", "other labels", "dropped"])
def test_the_manifest_never_lists_a_scan_whose_slices_are_being_replaced(monkeypatch, capsys, change):
    """A run that is killed there leaves the manifest of that moment; the earlier command then makes the scan again."""
    whole = exact_lung().astype(np.uint8)
    write_nifti("a/scan.nii.gz", CT_HU)
    write_nifti("b/scan.nii.gz", CT_HU + 50)
    write_nifti("b/dropped.nii.gz", CT_HU)
    write_nifti("masks/scan.nii.gz", whole)
    write_nifti("halves/scan.nii.gz", whole * (np.arange(len(whole)) < 5)[:, None, None].astype(np.uint8))
    first = ["--nifti", "a/scan.nii.gz", "--labels", "masks"]
    prepare(*(["--nifti", "b/dropped.nii.gz"] if change == "dropped" else first))
    listed = []

    def spy(function):
        def wrapped(*args):
            listed.append((TEST / "manifest.csv").read_text())
            return function(*args)

        return wrapped

    monkeypatch.setattr(step, "remove_scans", spy(step.remove_scans))
    monkeypatch.setattr(slice_files, "replace_folder", spy(slice_files.replace_folder))
    prepare(*(first if change != "other scan" else ["--nifti", "b/scan.nii.gz", "--labels", "masks"]), *OTHER[change])
    assert len(listed) == 3  # dropped scans removed, lung and CT written
    assert [text.count("\n") for text in listed] == [1, 1, 1]  # the line of the columns alone
    (TEST / "manifest.csv").write_text(listed[-1])
    prepare(*first)
    assert "done already" not in capsys.readouterr().out
    np.testing.assert_array_equal(stored()["scan"], np.clip(CT_HU, -1024, 3071))
    np.testing.assert_array_equal(stored("lung")["scan"] != -2048, whole)


def test_what_a_stopped_run_left_is_not_predicted_until_it_is_complete(monkeypatch, capsys):
    """Fewer scans than were asked for would give other means."""
    for name in "abc":
        write_nifti(f"scans/{name}.nii.gz", CT_HU)
    calls, write_scan = [], step.write_scan

    def stop_at_the_second(rows, *more):
        calls.append(rows)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write_scan(rows, *more)

    monkeypatch.setattr(step, "write_scan", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        prepare("--nifti", "scans")
    with pytest.raises(LungError, match=r"csv lacks scans: .* run again: python prepare_lung_image.py --test$"):
        model_test.main(["--png", "none"])
    prepare("--nifti", "scans")
    assert "1 of 3 scans done already" in capsys.readouterr().out
    assert [row.scan for row in read_manifest(TEST / "manifest.csv") if row.z_index == 0] == ["a", "b", "c"]
    prepare("--nifti", "scans")
    assert "3 of 3 scans done already" in capsys.readouterr().out


def test_tables_and_pictures_of_earlier_slices_go_with_them(monkeypatch):
    monkeypatch.setattr("lungct.evaluation.nodules.find_nodules", lambda *_, **_named: [])
    for name in "ab":
        write_nifti(f"{name}/{name}.nii.gz", CT_HU)
        write_nifti(f"own/{name}.nii.gz", exact_lung().astype(np.uint8))
    prepare("--nifti", "a", "--labels", "own", "--nodules")
    (TEST / "nodules.png").touch()
    prepare("--nifti", "a", "--labels", "own")
    assert (TEST / "nodules.csv").is_file()  # the slices are the same
    prepare("--nifti", "b", "--labels", "own")
    assert not (TEST / "nodules.csv").exists()
    assert not (TEST / "nodules.png").exists()
    assert (TEST / "overview.png").is_file()


def test_a_corrected_label_is_taken_and_scored():
    write_nifti("a/scan.nii.gz", CT_HU)
    whole = exact_lung()
    upper_half = whole.copy()
    upper_half[: len(whole) // 2] = False
    for lung in (upper_half, whole):
        write_nifti("masks/scan.nii.gz", lung.astype(np.uint8))
        prepare("--nifti", "a", "--labels", "masks")
        np.testing.assert_array_equal(stored("lung")["scan"] != -2048, lung)


def test_the_scans_of_earlier_commands_are_dropped_or_kept_with_a_word(capsys):
    for name in "abc":
        write_nifti(f"scans/{name}.nii.gz", CT_HU)
    prepare("--nifti", "scans")
    assert sorted(stored()) == ["a", "b", "c"]
    prepare("--nifti", "scans/a.nii.gz", "--add")
    assert "kept 2 scans of earlier commands (--add): b, c" in capsys.readouterr().out
    assert sorted(stored()) == ["a", "b", "c"]
    prepare("--nifti", "scans/b.nii.gz")
    assert "dropped 2 scans of earlier commands: a, c; --add keeps them" in capsys.readouterr().out
    assert sorted(stored()) == ["b"]
    assert [path.name for path in (TEST / "ct").iterdir()] == ["b"]


def test_a_folder_put_in_by_hand_is_named_and_left_alone(capsys):
    write_nifti("a/scan.nii.gz", CT_HU)
    (TEST / "ct/by_hand").mkdir(parents=True)
    prepare("--nifti", "a")
    assert "by_hand not made by these commands; not used" in capsys.readouterr().out
    assert (TEST / "ct/by_hand").is_dir()


def test_test_slices_beside_training_slices_are_refused():
    write_nifti("a/scan.nii.gz", CT_HU)
    with pytest.raises(LungError, match="would overwrite"):
        prepare("--nifti", "a", "--lung-ct-test-path", "mydata/Image/ct_test")


def test_predictions_follow_the_slices_and_tell_of_earlier_ones(capsys):
    write_nifti("scans/a.nii.gz", CT_HU)
    write_nifti("scans/b.nii.gz", CT_HU)
    predict = ["--png", "none", "--amp", "off"]
    prepare("--nifti", "scans")
    model_test.main(predict)
    mask = np.load(sorted(Path("predictions/patient_a").glob("*.npy"))[len(CT_HU) // 2])
    write_nifti("scans/a.nii.gz", CT_HU[:, :, ::-1])
    prepare("--nifti", "scans/a.nii.gz")
    capsys.readouterr()
    model_test.main(predict)
    text = capsys.readouterr().out
    assert "other slices, weights, options or code; predicted again: a" in text
    assert "holds 1 scan of earlier commands, not in the tables: b" in text
    assert [score.scan for score in read_table(Path("predictions/scores.csv"), ScanScore)] == ["a"]
    again = np.load(sorted(Path("predictions/patient_a").glob("*.npy"))[len(CT_HU) // 2])
    assert mask.any()
    assert 2 * (again[:, ::-1] & mask).sum() > 0.9 * (again.sum() + mask.sum())
    model_test.main(predict)
    assert "1 scan, 1 done already" in capsys.readouterr().out


def test_slices_and_masks_of_other_code_are_made_again(monkeypatch, capsys):
    write_nifti("scans/a.nii.gz", CT_HU)
    predict = ["--png", "none", "--amp", "off"]
    prepare("--nifti", "scans")
    model_test.main(predict)
    monkeypatch.setattr(step, "SLICE_CODE", "other code")
    monkeypatch.setattr(model_test, "MASK_CODE", "other code")
    capsys.readouterr()
    model_test.main(predict)
    assert "other slices, weights, options or code; predicted again: a" in capsys.readouterr().out
    prepare("--nifti", "scans")
    assert "other files, labels, options or code; prepared again" in capsys.readouterr().out
    model_test.main(predict)
    text = capsys.readouterr().out
    assert "0 done already" in text  # the slices are others
    assert "slices of 1 scan were prepared by other code than this: a; to make them again: python prepare_lung" in text
    monkeypatch.setattr(model_test, "SCORE_CODE", "other code")
    model_test.main(predict)
    text = capsys.readouterr().out
    assert "0 done already" in text
    assert "not predicted again: a" in text


def test_masks_of_weights_whose_card_was_changed_are_made_again(tmp_path, capsys):
    write_nifti("scans/a.nii.gz", CT_HU[::4])
    shutil.copy(SHIPPED, tmp_path / "mine.pth")
    card = json.loads(SHIPPED.with_suffix(".json").read_text())
    changed = {
        "window": {**card, "model": {**card["model"], "window_hu": [-1024, 200]}},
        "patients": {**card, "patients": {"train": ["1.2"], "val": []}},
    }
    for what, text in (("as it was", card), *changed.items()):
        (tmp_path / "mine.json").write_text(json.dumps(text))
        model_test.main(["--png", "none", "--amp", "off", "--nifti", "scans", "--weights-path", "mine.pth"])
        text = capsys.readouterr().out
        assert "1 scan, 0 done already" in text, what
    assert "other slices, weights, options or code; predicted again: a" in text


@pytest.mark.parametrize("path", ["runs/mine/unet_modle.pth", "."])
def test_weights_that_are_not_there_are_refused(path):
    write_nifti("a/scan.nii.gz", CT_HU)
    prepare("--nifti", "a")
    with pytest.raises(LungError, match=r"runs/mine|is a folder"):
        model_test.main(["--weights-path", path])
