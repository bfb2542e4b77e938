"""Each step killed in the middle and run again ends with what an undisturbed run gives, byte for byte."""

import os

import numpy as np
import pytest
from killing import kill_and_go_on

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills process groups")


def test_killed_steps_end_like_undisturbed_ones(undisturbed_steps, tmp_path):
    rng = np.random.default_rng(1)
    for script, step in undisturbed_steps.items():
        after_s = step.seconds * rng.uniform(0.4, 0.95)
        found = kill_and_go_on(step.before, tmp_path / "killed", script, after_s)
        assert found == step.expected, (script, after_s)
