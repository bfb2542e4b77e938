"""The record of what step 5 wrote into a scan's folder, and what is set aside by it before the folder is replaced."""

import os
import shutil
from pathlib import Path

import pytest

from lungct import LungError
from lungct.evaluation.written import (
    WRITTEN,
    as_now,
    files_to_keep,
    find_changes,
    find_set_aside,
    is_mask,
    read_written,
    remove_results,
    replace_results,
    with_record,
)
from lungct.masks.write import KEPT

FILES = {
    "A.nii.gz": b"mask",
    "A_slice000.npy": b"slice",
    "A_slice000.png": b"picture",
    "slices.csv": b"rows",
    KEPT: b"kept",
    "view/view.js": b"script",
}


@pytest.fixture
def folder(tmp_path) -> Path:
    """As step 5 wrote it."""
    place = tmp_path / "patient_A"
    assert replace_results(place, with_record(FILES, {})) == ()
    return place


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder, but for the record."""
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found.pop(WRITTEN, None)
    return found


def predict_again(folder: Path) -> tuple[str, ...]:
    return replace_results(folder, with_record({"A.nii.gz": b"next"}, {}))


def test_masks_are_told_from_pictures_and_tables():
    assert [name for name in FILES if is_mask(name)] == ["A.nii.gz", "A_slice000.npy", KEPT]


def test_a_folder_as_it_was_written_is_replaced_and_removed(folder):
    assert predict_again(folder) == ()
    assert content(folder) == {"A.nii.gz": b"next"}
    assert remove_results(folder) == ()
    assert list(folder.parent.iterdir()) == []
    assert remove_results(folder) == ()  # nothing there


@pytest.mark.parametrize("name", ["A_slice000.png", "slices.csv", "view/view.js"])
def test_a_picture_or_table_that_was_changed_keeps_no_folder(folder, name):
    (folder / name).write_bytes(b"by hand")
    assert predict_again(folder) == ()
    assert find_set_aside(folder.parent) == []


@pytest.mark.parametrize(
    "name", [".DS_Store", "._A.nii.gz", "Thumbs.db", "view/desktop.ini", "@eaDir/A.nii.gz@x", ".A.nii.gz.tmp"]
)
def test_what_systems_leave_in_folders_keeps_none(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"of a system")
    assert files_to_keep(folder) == []


def test_a_file_that_was_removed_or_never_written_keeps_no_folder(folder):
    (folder / "A.nii.gz").unlink()  # also what a run that was killed had noted, but not written yet
    assert files_to_keep(folder) == []


@pytest.mark.parametrize(
    "name", ["A.nii.gz", "A_slice000.npy", KEPT, "my_mask.nii.gz", "mine/mask.nrrd", "look.png", "view/x.txt"]
)
def test_a_mask_that_was_changed_and_files_of_the_user_are_set_aside_whole(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"by hand")
    aside = folder.with_name("changed_patient_A")
    assert predict_again(folder) == (
        f"{folder / name}: changed or added since step 5 wrote its folder, so that folder is kept as {aside}",
    )
    assert content(aside) == {**FILES, name: b"by hand"}
    assert content(folder) == {"A.nii.gz": b"next"}


def test_what_cannot_be_predicted_any_more_is_set_aside_beside_what_was_before(folder):
    for number, name in enumerate(["changed_patient_A", "changed_patient_A_2", "changed_patient_A_3"]):
        (folder / "A.nii.gz").write_bytes(b"by hand %d" % number)
        (warning,) = remove_results(folder)
        assert warning.endswith(f"is kept as {folder.with_name(name)}")
        assert not folder.exists()
        predict_again(folder)
    assert find_set_aside(folder.parent) == ["changed_patient_A", "changed_patient_A_2", "changed_patient_A_3"]
    masks = [(folder.parent / name / "A.nii.gz").read_bytes() for name in find_set_aside(folder.parent)]
    assert masks == [b"by hand 0", b"by hand 1", b"by hand 2"]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"name\xff")])
def test_masks_of_which_nothing_says_that_they_are_as_written_are_set_aside(folder, damage):
    damage(folder / WRITTEN)
    names = f"A.nii.gz, A_slice000.npy, {KEPT}"
    (warning,) = predict_again(folder)
    assert warning.startswith(f"{folder / names}: perhaps changed or added since step 5 wrote its folder")
    assert content(folder.with_name("changed_patient_A")) == FILES


def test_pictures_without_a_record_and_without_a_mask_are_replaced(folder):
    shutil.rmtree(folder / "view")
    for name in ("A.nii.gz", "A_slice000.npy"):
        (folder / name).unlink()
    assert predict_again(folder) == ()


def test_a_record_made_anew_says_what_changes_from_then_on_but_vouches_for_no_mask(folder):
    paths = [folder / name for name in FILES]
    (folder / WRITTEN).write_bytes(with_record({}, as_now(folder, paths))[WRITTEN])
    assert find_changes(folder, paths) == {}
    assert files_to_keep(folder) == ["A.nii.gz", "A_slice000.npy"]  # the kept one is that of scores.csv
    (folder / "A.nii.gz").write_bytes(b"by hand")
    assert find_changes(folder, paths).keys() == {"A.nii.gz"}
    (folder / "A_slice000.npy").unlink()
    (folder / WRITTEN).write_bytes(with_record({"A.nii.gz": b"by hand"}, read_written(folder))[WRITTEN])
    assert files_to_keep(folder) == []  # written again
    (folder / "mine.nii.gz").write_bytes(b"mine")
    assert "nii.gz: changed or added" in predict_again(folder)[0]


@pytest.mark.skipif(os.name == "nt", reason="Windows takes no right to read away so")
@pytest.mark.parametrize("name", ["A.nii.gz", WRITTEN])
def test_a_mask_or_record_that_cannot_be_read_is_no_reason_to_remove_it(folder, monkeypatch, name):
    def refuse(self: Path, *args, **kwargs):
        if self == folder / name:
            raise PermissionError(13, "Permission denied")
        return whole(self, *args, **kwargs)

    reads = "read_bytes" if name == "A.nii.gz" else "open"
    whole = getattr(Path, reads)
    with monkeypatch.context() as patch:
        patch.setattr(Path, reads, refuse)
        predict_again(folder)
    assert content(folder.with_name("changed_patient_A")) == FILES


def test_a_folder_that_cannot_be_looked_into_stays(folder, monkeypatch):
    def refuse(*_):
        raise LungError("mine: cannot be read")

    monkeypatch.setattr("lungct.evaluation.written.files_below", refuse)
    assert remove_results(folder) == ("mine: cannot be read",)
    with pytest.raises(LungError, match="cannot be read"):
        predict_again(folder)
    assert content(folder) == FILES


def hold(monkeypatch, is_held) -> None:
    """Let no file or folder be renamed to some names."""
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if is_held(Path(target)):
            raise PermissionError(13, "Permission denied")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)


def test_a_changed_mask_that_is_open_in_another_program_stays_and_is_named(folder, monkeypatch):
    (folder / "A.nii.gz").write_bytes(b"by hand")
    hold(monkeypatch, lambda target: target.name.startswith("changed_"))
    (warning,) = remove_results(folder)
    assert warning.startswith(f"{folder}: open in another program")
    with pytest.raises(LungError, match="open in another program"):
        predict_again(folder)
    assert content(folder)["A.nii.gz"] == b"by hand"
    assert [path.name for path in folder.parent.iterdir()] == ["patient_A"]


def test_a_disk_without_room_for_the_next_masks_sets_nothing_aside(folder, monkeypatch):
    def full(self: Path, _: bytes) -> int:
        raise OSError(28, "No space left on device")

    (folder / "A.nii.gz").write_bytes(b"by hand")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(LungError, match="No space left"):
        predict_again(folder)
    assert content(folder)["A.nii.gz"] == b"by hand"
    assert [path.name for path in folder.parent.iterdir()] == ["patient_A"]


def test_killed_at_any_moment_the_mask_is_there(tmp_path, monkeypatch):
    """Before each change of the disk: making a folder, writing a file, a new name, removing."""

    class Killed(BaseException):
        pass

    def killing(call, left: list[int]):
        def count_down(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return call(*args, **kwargs)

        return count_down

    killed = 0
    for moment in range(50):
        folder = tmp_path / str(moment) / "patient_A"
        replace_results(folder, with_record(FILES, {}))
        (folder / "A.nii.gz").write_bytes(b"by hand")
        left = [moment]
        with monkeypatch.context() as patch:
            for name in ("mkdir", "write_bytes", "replace"):
                patch.setattr(Path, name, killing(getattr(Path, name), left))
            patch.setattr(shutil, "rmtree", killing(shutil.rmtree, left))
            try:
                predict_again(folder)
            except Killed:
                killed += 1
        predict_again(folder)  # the run after it
        assert (folder / "A.nii.gz").read_bytes() == b"next"
        assert content(folder.with_name("changed_patient_A"))["A.nii.gz"] == b"by hand"
        if left[0] >= 0:
            break
    assert killed > 6
