"""The notebook runs from top to bottom and finds lungs; what is stored in it is what its code prints."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib
import nibabel
import numpy as np
import pytest
from conftest import ROOT, small_patient

from lungct.evaluation.metrics import dice
from lungct.phantom.lidc_tree import write_series
from lungct.scans.lidc import LidcScan
from lungct.scans.nifti import read_volume

PATH = ROOT / "docs" / "segment_from_python.ipynb"
MAX_BYTES = 300_000
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def read_cells(kind: str) -> list[dict]:
    """The cells of the notebook that hold code, or text."""
    cells = json.loads(PATH.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == kind]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def printed(cell: dict) -> str:
    """What a cell printed when its outputs were stored."""
    return "".join("".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream")


def run_cells(changes: dict[int, str]) -> tuple[dict, list[str]]:
    """Run all code in one namespace, `changes` in place of some cells: (its names, what each cell printed)."""
    names, texts = {}, []
    for number, cell in enumerate(read_cells("code")):
        with contextlib.redirect_stdout(io.StringIO()) as stream:
            exec(changes.get(number, source(cell)), names)
        texts.append(stream.getvalue())
    return names, texts


@pytest.fixture
def quiet(tmp_path, monkeypatch):
    """No window, no change of sys.path that stays, and files in tmp_path alone, which is the current folder."""
    before = matplotlib.get_backend()
    matplotlib.use("Agg")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield
    matplotlib.pyplot.close("all")
    matplotlib.use(before)


def test_code_finds_the_lungs_and_stored_outputs_are_those_of_the_code(quiet):
    names, texts = run_cells({})
    assert dice(names["lung"], names["patient"].lung) > 0.98
    assert names["ct_hu"].shape == names["patient"].lung.shape
    np.testing.assert_array_equal(read_volume(names["work"] / "lung.nii.gz")[0] > 0, names["lung"])
    outlines = [len(axis.collections) for axis in names["figure"].axes]
    assert outlines == [2, 2, 2]  # right and left
    stored = [printed(cell) for cell in read_cells("code")]
    assert [NUMBER.sub("0", text) for text in stored] == [NUMBER.sub("0", text) for text in texts]
    numbers, expected = ([float(number) for number in NUMBER.findall("".join(part))] for part in (stored, texts))
    assert numbers == pytest.approx(expected, rel=0.01)
    litres = names["patient"].lung.sum() * np.prod(names["frame"].spacing_mm) / 1e6
    assert float(re.search(r"([\d.]+) litres", "".join(stored))[1]) == pytest.approx(litres, rel=0.03)


def test_outputs_are_stored_in_order_without_errors_and_small():
    cells = read_cells("code")
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert {output["output_type"] for output in outputs} == {"stream", "display_data"}
    assert {output["name"] for output in outputs if output["output_type"] == "stream"} == {"stdout"}  # no warnings
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    assert PATH.stat().st_size < MAX_BYTES
    assert str(Path.home()) not in PATH.read_text(encoding="utf-8")


@pytest.mark.parametrize(("place", "path"), [("docs", ""), ("", ""), ("tests/masks", ""), (None, str(ROOT))])
def test_first_cell_finds_the_project_from_anywhere(tmp_path, place, path):
    """Elsewhere by PYTHONPATH, or by the path that the user writes."""
    code = f"{source(read_cells('code')[0])}\nimport lungct; print(lungct.__file__)"
    folder = tmp_path if place is None else ROOT / place
    env = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == ROOT / "lungct" / "__init__.py"


@pytest.mark.parametrize("name", ["ct.nii.gz", "my_scan"])
def test_what_it_says_about_own_scans_gives_hu_and_a_mask_on_their_grid(name, quiet, monkeypatch):
    patient = small_patient(3)
    ct_hu, spacing_mm = patient.ct_hu[12:32:2], (12.0, *patient.spacing_mm[1:])
    write_series(Path("my_scan"), LidcScan("A", "1.2", "1.2.1"), ct_hu, spacing_mm)
    nibabel.save(nibabel.Nifti1Image(ct_hu.T, np.diag([-spacing_mm[2], -spacing_mm[1], 12.0, 1.0])), "ct.nii.gz")
    (own,) = re.findall(r"```python\n(.*?)```", "\n".join(map(source, read_cells("markdown"))), re.DOTALL)
    names, texts = run_cells({1: own.replace("my_scan", name), 6: ""})
    np.testing.assert_array_equal(names["ct_hu"], ct_hu)
    assert names["frame"].spacing_mm == pytest.approx(spacing_mm, abs=1e-4)
    assert "True" in texts[5]
    assert dice(names["lung"], patient.lung[12:32:2]) > 0.95
    np.testing.assert_array_equal(read_volume(Path("lung.nii.gz"))[0] > 0, names["lung"])
