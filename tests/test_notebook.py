"""The notebook runs from top to bottom, and shows lungs."""

import re

import nbformat
from conftest import ROOT
from nbclient import NotebookClient

PATH = ROOT / "docs" / "lungs_in_three_lines.ipynb"


def test_notebook_runs_and_finds_the_lungs():
    notebook = nbformat.read(PATH, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(PATH.parent)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    assert 1 < float(re.search(r"([\d.]+) litres", text)[1]) < 9
    assert float(re.search(r"Dice ([\d.]+)", text)[1]) > 0.95
    assert any("image/png" in output.get("data", {}) for output in outputs)
