"""Each step killed in the middle and run again ends with what an undisturbed run gives, byte for byte."""

import os
import shutil

import numpy as np
import pytest
from killing import STEPS, kill_and_go_on, undisturbed

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills process groups")


def test_killed_steps_end_like_undisturbed_ones(ready_home, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(ready_home, home)
    rng = np.random.default_rng(1)
    for script in STEPS:
        shutil.copytree(home, tmp_path / "before")
        expected, seconds = undisturbed(home, script)
        after_s = seconds * rng.uniform(0.4, 0.95)
        found = kill_and_go_on(tmp_path / "before", tmp_path / "killed", script, after_s)
        assert found == expected, (script, after_s)
        shutil.rmtree(tmp_path / "before")
