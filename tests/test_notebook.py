"""The notebook runs from top to bottom and shows lungs; what its text says about other scans works, too."""

import re

import nbformat
import nibabel
import numpy as np
import pytest
from conftest import ROOT, small_patient
from nbclient import NotebookClient

from lungct.phantom.lidc_tree import write_series
from lungct.scans.dicom import find_series, open_series
from lungct.scans.lidc import LidcScan

PATH = ROOT / "docs" / "segment_from_python.ipynb"
TEXT = "\n".join(cell.source for cell in nbformat.read(PATH, as_version=4).cells if cell.cell_type == "markdown")


def test_notebook_runs_and_finds_the_lungs():
    notebook = nbformat.read(PATH, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(PATH.parent)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    assert 1 < float(re.search(r"([\d.]+) litres", text)[1]) < 9
    assert float(re.search(r"Dice ([\d.]+)", text)[1]) > 0.95
    assert any("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("source", ["ct.nii.gz", "my_scan"])
def test_what_it_says_about_other_files_gives_hu_and_spacing(tmp_path, monkeypatch, source):
    """And the mask that it saves lies on the file, voxel by voxel."""
    patient = small_patient(3)
    write_series(tmp_path / "my_scan", LidcScan("A", "1.2", "1.2.1"), patient.ct_hu[10:14], patient.spacing_mm)
    (files,) = find_series(tmp_path / "my_scan").values()
    scan = open_series(files)
    stored = scan.read().transpose(2, 1, 0)[::-1]  # from left to right
    affine = np.diag([*patient.spacing_mm[:0:-1], patient.spacing_mm[0], 1]) * [1, -1, 1, 1]
    nibabel.save(nibabel.Nifti1Image(stored, affine), tmp_path / "ct.nii.gz")
    monkeypatch.chdir(tmp_path)
    read, save = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict = {}
    exec(read.replace("ct.nii.gz", source), names)
    np.testing.assert_array_equal(names["ct_hu"], scan.read())
    assert names["spacing_mm"] == pytest.approx(patient.spacing_mm, abs=1e-4)
    names["lung"] = names["ct_hu"] < -500
    exec(save, names)
    mask = np.asarray(nibabel.load(tmp_path / "lung.nii.gz").dataobj) > 0
    expected = stored if source == "ct.nii.gz" else scan.read().transpose(2, 1, 0)
    np.testing.assert_array_equal(mask, expected < -500)
