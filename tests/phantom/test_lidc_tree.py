"""The synthetic LIDC-IDRI that the first step makes on request."""

import numpy as np
from conftest import run

from lungct.scans.lidc import scans_without_nodules


def test_demo_makes_a_tree_that_the_steps_find(tmp_path):
    text = run("config_file_create.py", "--demo", 2, cwd=tmp_path)
    assert "1 patients to train on, 1 to test on" in text
    assert "warning" not in text
    reference = np.load(tmp_path / "demo" / "reference" / f"{scans_without_nodules()[0].patient_id}.npz")
    assert reference["lung"].shape[1:] == (512, 512)
    assert "1 scans of 1 patients found" in run(
        "prepare_lung_image.py", "--test", "--conf", "demo/lung.conf", cwd=tmp_path
    )


def test_a_demo_of_another_size_is_not_mixed_with_this_one(tmp_path):
    second = scans_without_nodules()[1].patient_id  # of 8 patients it is one of two to test on, of 2 one to train on
    (tmp_path / "demo" / "LIDC-IDRI_test" / second).mkdir(parents=True)
    text = run("config_file_create.py", "--demo", 2, cwd=tmp_path, status=1)
    assert text == "config_file_create.py: demo: its demo is not of 2 patients; delete that folder and run this again\n"
    assert not (tmp_path / "lung.conf").exists()
