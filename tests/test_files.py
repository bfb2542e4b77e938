"""Writing that is all or nothing, and reading that runs nothing."""

import errno
import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import lock

from lungct import LungError, files
from lungct.files import (
    array_checksum,
    exclusive_lock,
    file_stamps,
    files_below,
    fingerprint,
    is_dir_path,
    npy_bytes,
    periodic_save,
    read_npy,
    read_table,
    replace_file,
    replace_folder,
    table_bytes,
)


def test_pickles_are_not_read(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(LungError, match=r"x\.npy: no readable \.npy file"):
        read_npy(tmp_path / "x.npy")


def test_folder_is_replaced_whole(tmp_path):
    replace_folder(tmp_path / "p", {"a": b"1", "b": b"2"})
    replace_folder(tmp_path / "p", {"b": b"3"})
    assert {p.name: p.read_bytes() for p in (tmp_path / "p").iterdir()} == {"b": b"3"}
    assert [p.name for p in tmp_path.iterdir()] == ["p"]


def test_file_that_cannot_be_written_is_told_and_nothing_is_left(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(LungError, match="cannot write it"):
        replace_file(tmp_path / "x", b"1")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def hold_open(monkeypatch, *held) -> None:
    """Let renaming from or to some paths fail, as Windows does where a program holds a file there open."""
    replace = Path.replace

    def refuse(self: Path, target) -> Path:
        if self in held or Path(target) in held:
            raise PermissionError(errno.EACCES, "Access is denied", str(self), None, str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)


def test_file_open_in_another_program_stays_whole_and_is_named(tmp_path, monkeypatch):
    table = tmp_path / "scores.csv"
    replace_file(table, b"old")
    hold_open(monkeypatch, table)
    with pytest.raises(LungError, match=r"scores\.csv: open in another program \(Excel, a viewer\?\); close it there"):
        replace_file(table, b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"scores.csv": b"old"}


def test_folder_of_which_a_file_is_open_elsewhere_stays_whole_and_is_named(tmp_path, monkeypatch):
    folder = tmp_path / "P"
    replace_folder(folder, {"a": b"1", "b": b"2"})
    hold_open(monkeypatch, folder)
    with pytest.raises(LungError, match="P: open in another program"):
        replace_folder(folder, {"a": b"3"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a": b"1", "b": b"2"}
    assert [path.name for path in tmp_path.iterdir()] == ["P"]


def test_old_folder_is_put_back_where_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    folder = tmp_path / "P"
    replace_folder(folder, {"a": b"1"})
    hold_open(monkeypatch, tmp_path / ".P.tmp")
    with pytest.raises(LungError, match="P: open in another program"):
        replace_folder(folder, {"a": b"3"})
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} == {"P", "P/a"}
    assert (folder / "a").read_bytes() == b"1"


def test_old_folder_is_kept_under_a_name_or_stays_where_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    folder, aside = tmp_path / "P", tmp_path / "Q"
    replace_folder(folder, {"a": b"1"}, aside)  # nothing there to keep
    with monkeypatch.context() as patch:
        hold_open(patch, tmp_path / ".P.tmp")
        with pytest.raises(LungError, match="P: open in another program"):
            replace_folder(folder, {"a": b"2"}, aside)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} == {"P", "P/a"}
    replace_folder(folder, {"a": b"3"}, aside)
    assert ((folder / "a").read_bytes(), (aside / "a").read_bytes()) == (b"3", b"1")


def test_folder_that_may_not_be_written_is_not_said_to_be_open_elsewhere(tmp_path, monkeypatch):
    def refuse(self: Path, content: bytes) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    replace_file(tmp_path / "x", b"1")
    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(LungError, match=r"x: cannot write it \(Permission denied\)"):
        replace_file(tmp_path / "x", b"2")


def test_a_second_run_on_the_same_folder_is_told(tmp_path):
    with exclusive_lock(tmp_path / "out"):
        with pytest.raises(LungError, match="another run is writing there"), exclusive_lock(tmp_path / "out"):
            pass
        with exclusive_lock(tmp_path / "other"):
            pass
    with exclusive_lock(tmp_path / "out"):
        pass


def test_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LungError, match="cannot write there"), exclusive_lock(tmp_path / "file" / "below"):
        pass


def test_is_dir_path_gives_the_folder(tmp_path):
    assert is_dir_path(str(tmp_path)) == tmp_path


def test_is_dir_path_says_what_is_there_instead(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(LungError, match="is a file"):
        is_dir_path(tmp_path / "a.txt")
    with pytest.raises(LungError, match=f"nearest folder that does is {tmp_path}"):
        is_dir_path(tmp_path / "no" / "such")


def test_a_file_is_replaced_and_its_folder_made(tmp_path):
    path = tmp_path / "a" / "b.txt"
    for content in (b"first", b"second"):
        replace_file(path, content)
        assert path.read_bytes() == content
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]


@pytest.mark.parametrize("array", [np.arange(6, dtype=np.int16).reshape(2, 3), np.eye(3)[::-1, ::2] > 0, np.zeros(0)])
def test_bytes_of_an_array_are_those_of_numpy(array):
    expected = io.BytesIO()
    np.save(expected, np.ascontiguousarray(array))
    assert npy_bytes(array) == expected.getvalue()


def test_an_array_is_read_back(tmp_path):
    replace_file(tmp_path / "a.npy", npy_bytes(np.arange(4)))
    assert read_npy(tmp_path / "a.npy").tolist() == [0, 1, 2, 3]


@dataclass(frozen=True)
class Score:
    """A record for a table."""

    scan: str
    slices: int
    dice: float | None


SCORES = [Score("x,y", 3, 0.5), Score('say "z"', 0, None)]
TABLE = 'scan,slices,dice\n"x,y",3,0.5\n"say ""z""",0,\n'


def test_a_table_has_a_header_and_a_line_a_row():
    assert table_bytes(SCORES, Score).decode() == TABLE


def test_records_are_read_back_typed(tmp_path):
    (tmp_path / "a.csv").write_bytes(table_bytes(SCORES, Score))
    assert read_table(tmp_path / "a.csv", Score) == SCORES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scan,slices\nA,3\n", r"a\.csv: columns are not those of this version"),
        ("", r"a\.csv: columns are not those of this version"),
        ("scan,slices,dice\nA,three,0.5\n", r"a\.csv: damaged"),
        ("scan,slices,dice\nA,3\n", r"a\.csv: damaged"),
        ("scan,slices,dice\nA,3,0.5,more\n", r"a\.csv: damaged"),
    ],
)
def test_a_table_of_another_kind_is_told(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(LungError, match=message):
        read_table(tmp_path / "a.csv", Score)


def test_a_fingerprint_changes_with_any_part_and_else_stays():
    parts = ("a", 1, [2.5, None], {"b": True})
    assert fingerprint(*parts) == fingerprint(*parts)
    assert len(fingerprint(*parts)) == 16
    others = [
        ("a", 1, [2.5, 0], {"b": True}),
        ("a", 1, [2.5, None], {"b": False}),
        ("a", "1", [2.5, None], {"b": True}),
    ]
    assert len({fingerprint(*p) for p in (parts, *others)}) == 4


def test_stamps_tell_files_that_were_changed(tmp_path):
    for name in "ba":
        (tmp_path / name).write_bytes(b"123")
    before = file_stamps(tmp_path.iterdir())
    assert [(name, size) for name, size, *_ in before] == [("a", 3), ("b", 3)]
    os.utime(tmp_path / "a", (1, 1))
    after = file_stamps(tmp_path.iterdir())
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_stamps_tell_a_file_that_was_put_in_the_place_of_another_with_its_size_and_time(tmp_path):
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"123")
    before = file_stamps([path])
    assert file_stamps([path]) == before
    other.write_bytes(b"456")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    shutil.copy2(other, path)  # cp -p
    assert file_stamps([path])[0][:3] == before[0][:3]
    assert file_stamps([path]) != before
    before = file_stamps([path])
    other.replace(path)
    assert file_stamps([path]) != before


def test_a_table_is_saved_when_that_is_due_and_at_the_end(monkeypatch):
    clock, saved = [0.0], []
    monkeypatch.setattr(files, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    with periodic_save(lambda: saved.append(clock[0])) as save_if_due:
        for second in (4, 6, 10, 12):  # every 5 s
            clock[0] = second
            save_if_due()
        assert saved == [6, 12]
    assert saved == [6, 12, 12]


def test_a_save_that_takes_long_is_done_less_often(monkeypatch):
    clock, saved = [0.0], []
    monkeypatch.setattr(files, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def save() -> None:
        saved.append(clock[0])
        clock[0] += 1

    with periodic_save(save) as save_if_due:
        for second in (6, 26, 28):  # a save of 1 s at 6 s; 5 % of the time: the next one 20 s later
            clock[0] = second
            save_if_due()
        assert saved == [6, 28]


def test_table_that_is_open_elsewhere_for_a_while_stops_no_work_but_in_the_end_is_said(monkeypatch):
    clock, done = [0.0], []

    def save() -> None:
        raise LungError("open in another program")

    def work() -> None:
        with periodic_save(save) as save_if_due:
            clock[0] = 9
            save_if_due()
            done.append("the rest")

    monkeypatch.setattr(files, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    with pytest.raises(LungError, match="open in another program"):
        work()
    assert done == ["the rest"]


def test_a_table_is_saved_where_the_work_fails():
    saved = []
    with pytest.raises(KeyError), periodic_save(lambda: saved.append(1)):
        raise KeyError
    assert len(saved) == 1


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_are_followed_once_and_dot_files_left(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    (inside / "deep").mkdir(parents=True)
    (outside / ".trash").mkdir(parents=True)
    for path in (inside / "b", inside / "deep" / "A.IMA", inside / "._b", outside / "c.dcm", outside / ".trash" / "d"):
        path.write_bytes(b"1")
    (inside / "deep" / "loop").symlink_to(inside)
    (inside / "linked").symlink_to(outside)
    (inside / "again").symlink_to(outside)
    (inside / "gone").symlink_to(tmp_path / "nowhere")
    found = [path.relative_to(inside).as_posix() for path in files_below(inside)]
    assert found == ["again/c.dcm", "b", "deep/A.IMA"]


def test_what_cannot_be_looked_into_is_an_error_or_noted(tmp_path, monkeypatch):
    for name in ("a/1", "b/2", "c/3"):
        replace_file(tmp_path / name, b"1")
    lock(monkeypatch, tmp_path / "b")
    with pytest.raises(LungError, match=r"b: cannot be read \(Permission denied\); make it readable, or move it away"):
        files_below(tmp_path)
    noted = []
    assert [path.name for path in files_below(tmp_path, noted)] == ["1", "3"]
    assert [str(error).split(":")[0] for error in noted] == [str(tmp_path / "b")]
    asked = Path.stat

    def refuse(path: Path, **options) -> os.stat_result:
        if path.name == "3":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return asked(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    noted.clear()
    assert [path.name for path in files_below(tmp_path, noted)] == ["1"]
    assert len(noted) == 2


def test_checksum_of_an_array_follows_its_numbers_shape_and_type_and_not_how_it_lies_in_memory():
    array = np.arange(12, dtype=np.int16).reshape(3, 4)
    same = np.asfortranarray(array)
    assert array_checksum(array) == array_checksum(same) == array_checksum(array[::1])
    others = [array + 1, array.reshape(4, 3), array.astype(np.int32), array[:, ::-1]]
    assert len({array_checksum(other) for other in [array, *others]}) == 5
