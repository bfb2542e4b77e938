"""The pages say what is so: their files exist, and their commands, flags and make targets are understood."""

import re
import subprocess
import sys
from functools import cache

import pytest
from conftest import ROOT, run, small_patient

import lungct
from lungct.evaluation.metrics import dice
from lungct.masks.write import ANONYMOUS, FORMATS
from lungct.phantom.lidc_tree import write_series
from lungct.scans.lidc import LidcScan
from lungct.scans.nifti import open_nifti

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "weights" / "MODEL_CARD.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))
BLOCK = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
COMMAND = re.compile(r"^\s*(?:python|torchrun \S+) (?:\.\./)*(\w+\.py[^#]*)")
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")
OF_OTHERS = {"--nproc-per-node"}  # torchrun's


def snippets(text: str) -> list[str]:
    """Every line of the code blocks of a page, and every piece of code in its prose and tables."""
    blocks = BLOCK.findall(text)
    prose = BLOCK.sub("", text)
    return [*(line for block in blocks for line in block.splitlines()), *INLINE.findall(prose)]


def commands(text: str) -> list[str]:
    """Every command line that starts one of our scripts, without `python` and without the comment."""
    matches = map(COMMAND.match, snippets(text))
    return [match[1].strip() for match in matches if match]


COMMANDS = sorted({(page.name, command) for page in PAGES for command in commands(page.read_text(encoding="utf-8"))})


@cache
def flags_of(script: str) -> set[str]:
    """The flags in a script's help."""
    return set(FLAG.findall(run(script, "--help", cwd=ROOT)))


def test_commands_are_found_in_blocks_tables_and_prose():
    text = (
        "Run `python a.py --x 1`.\n\n```\n  python ../../b.py  # why\ntorchrun --n=2 c.py\n```\n| `python d.py` | e |\n"
    )
    assert sorted(commands(text)) == ["a.py --x 1", "b.py", "c.py", "d.py"]


def test_every_page_with_commands_is_read():
    assert {page for page, _ in COMMANDS} >= {"README.md", "CONTRIBUTING.md", "own_data.md", "cluster.md"}


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_command_has_the_flags_that_the_page_gives(page, command):
    script, _, rest = command.partition(" ")
    assert script in SCRIPTS
    unknown = set(FLAG.findall(rest)) - flags_of(script)
    assert not unknown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flag_in_prose_belongs_to_one_of_the_scripts(page):
    lone = [text for text in INLINE.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))) if text.startswith("--")]
    known = set().union(*(flags_of(name) for name in SCRIPTS if name not in ("UNet_nn.py", "utils.py")))
    assert {flag for text in lone for flag in FLAG.findall(text)} <= known | OF_OTHERS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in snippets(page.read_text(encoding="utf-8")):
        match = re.match(r"make ([a-z]+)", line)
        assert not match or re.search(rf"^{match[1]}:", makefile, re.MULTILINE), line


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_pictures_and_files_that_it_links_to_are_there(page):
    for path in re.findall(r"\]\(([^)#:]+)[^):]*\)", page.read_text(encoding="utf-8")):
        assert (page.parent / path).exists(), path


def test_file_map_names_every_file_once_and_no_other():
    lungct = ROOT / "lungct"
    files = [
        path
        for path in lungct.rglob("*.*")
        if path.suffix in (".py", ".html", ".css", ".js") and path.name != "__init__.py"
    ]
    expected = sorted([*SCRIPTS, *(path.relative_to(lungct).as_posix() for path in files)])
    assert sorted(re.findall(r"^\| `([\w/]+\.(?:py|html|css|js))` \|", CONTRIBUTING, re.MULTILINE)) == expected


def test_first_commands_come_early_and_take_a_ct_to_a_mask():
    assert "pip install -r requirements.txt" in "\n".join(README.splitlines()[:20])
    assert commands(README)[0] == "model_test.py --dicom DIR"


def test_first_command_of_the_page_and_each_of_its_formats_give_lungs(tmp_path):
    patient = small_patient(3)
    middle = slice(len(patient.lung) // 2 - 3, len(patient.lung) // 2 + 3)
    who = LidcScan("P1", "1.2.3", "1.2.3.4")
    write_series(tmp_path / "DIR", who, patient.ct_hu[middle], patient.spacing_mm)
    script, *flags = commands(README)[0].split()
    run(script, *flags, cwd=tmp_path)
    scan = open_nifti(tmp_path / "predictions/patient_P1/P1.nii.gz")
    assert dice(scan.read() > 0, patient.lung[middle]) > 0.95
    rows = re.findall(r"^\| `([\w-]+)` \| `(\S+)` \|", README, re.MULTILINE)
    formats = [(kind, ending) for kind, ending in rows if kind in FORMATS]
    assert {kind for kind, _ in formats} == FORMATS.keys() - ANONYMOUS.values()
    run(script, *flags, "--save", ",".join(kind for kind, _ in formats), cwd=tmp_path)
    for _, ending in formats:
        assert (tmp_path / f"predictions/patient_P1/P1{ending}").is_file()
    run(script, *flags, "--save", ",".join(ANONYMOUS), "--anonymous", cwd=tmp_path)
    for ending in re.findall(r"`(_anonymous\.\S+)`", README):
        assert (tmp_path / f"predictions/patient_P1/P1{ending}").is_file()


def test_citation_and_changelog_name_this_version():
    assert f"\nversion: {lungct.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {lungct.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_importing_a_script_does_nothing():
    names = ", ".join(path.stem for path in ROOT.glob("*.py"))
    done = subprocess.run(
        [sys.executable, "-c", f"import {names}"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == done.stderr == ""
