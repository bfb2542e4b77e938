"""Commands that a message advises: what a terminal would take."""

from pathlib import Path

from lungct.commands import quoted, with_conf


def test_paths_with_blanks_are_quoted():
    assert quoted(Path("my scans/a")) == f'"{Path("my scans/a")}"'
    assert quoted(Path("scans")) == "scans"


def test_another_settings_file_goes_with_the_command():
    assert with_conf("python a.py", "lung.conf") == "python a.py"
    assert with_conf("python a.py", Path("demo/lung.conf")) == f"python a.py --conf {Path('demo/lung.conf')}"
    assert with_conf("python a.py", "my demo/lung.conf") == f'python a.py --conf "{Path("my demo/lung.conf")}"'
