"""What results were made by: the text of some code, and nothing else."""

import pytest

from lungct.code_hash import code_hash


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a file and a folder of two."""
    monkeypatch.setattr("lungct.code_hash.PACKAGE", tmp_path)
    (tmp_path / "masks" / "deeper").mkdir(parents=True)
    for name in ("predict.py", "masks/read.py", "masks/deeper/write.py"):
        (tmp_path / name).write_text(f"# {name}\n")
    return tmp_path


def test_it_changes_with_each_text_and_each_name(package):
    seen = [code_hash("predict.py", "masks")]
    for name in ("predict.py", "masks/read.py", "masks/deeper/write.py"):
        (package / name).write_text("# another\n")
        seen.append(code_hash("predict.py", "masks"))
    (package / "masks/read.py").rename(package / "masks/write.py")
    seen.append(code_hash("predict.py", "masks"))
    assert len(set(seen)) == len(seen)
    assert len(seen[0]) == 16


def test_it_stays_with_other_files_other_line_ends_and_what_editors_leave(package):
    before = code_hash("predict.py", "masks")
    (package / "slices.py").write_text("# not asked for")
    (package / "masks" / "notes.txt").write_text("no code")
    (package / "masks" / "._read.py").write_bytes(b"\xff\x00 of another system")
    (package / "masks" / "read.py").write_bytes(b"# masks/read.py\r\n")
    assert code_hash("predict.py", "masks") == before
