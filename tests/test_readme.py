"""The README says what is so: its files exist and its commands are understood."""

import re
import subprocess
import sys
from functools import cache

import pytest
from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [README, *(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md")))]
COMMAND = re.compile(r"^\s*(?:python|torchrun \S+) (?:\.\./)*(\w+\.py[^\n#]*?)\s*(?:#.*)?$", re.MULTILINE)
COMMANDS = sorted({command for page in PAGES for command in COMMAND.findall(page)})


def test_there_are_commands():
    assert len(COMMANDS) >= 8


@cache
def help_of(script: str) -> str:
    """What a script says of its flags."""
    command = [sys.executable, str(ROOT / script), "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_command_has_the_flags_that_the_readme_gives(command):
    script, *words = command.split()
    for flag in (word for word in words if word.startswith("--")):
        assert re.search(rf"{flag}\b", help_of(script)), flag


def test_pictures_and_files_that_it_shows_are_there():
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).exists(), path


def test_file_map_names_every_file():
    for path in [*ROOT.glob("*.py"), *(ROOT / "lungct").glob("[!_]*.py")]:
        assert path.name in README, path.name


def test_both_commands_come_early():
    top = "\n".join(README.splitlines()[:20])
    assert "make demo" in top
    assert "make test" in top


def test_importing_a_script_does_nothing():
    names = ", ".join(path.stem for path in ROOT.glob("*.py"))
    done = subprocess.run(
        [sys.executable, "-c", f"import {names}"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == done.stderr == ""
