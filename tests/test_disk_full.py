"""A disk that fills up in the middle of a step: told, nothing half-written, and it goes on when there is room."""

import os
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from killing import STEPS, snapshot

from lungct.files import read_npy

NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
SCRIPT = """
mount -t tmpfs -o size=500m none {disk} && cp -r {before}/. {disk} && cd {disk} || exit 9
used=$(du -s --block-size=1k . | cut -f1)
mount -o remount,size=$((used + {room_kib}))k {disk} || exit 9
{step} > {told} 2>&1; echo $? >> {told}
cp -r {disk} {at_full}
mount -o remount,size=500m {disk} || exit 9
{step} || exit 8
cp -r {disk} {after}
"""


def can_mount(folder) -> bool:
    """Whether this user may mount a small disk of his own."""
    if shutil.which("unshare") is None:
        return False
    command = [*NAMESPACE, "mount", "-t", "tmpfs", "none", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("script", STEPS)
def test_full_disk_is_told_and_the_step_goes_on_when_there_is_room(request, tmp_path, script):
    if not can_mount(tmp_path):
        pytest.skip("no small disk can be mounted here")
    undisturbed = request.getfixturevalue("undisturbed_steps")[script]
    places = {name: tmp_path / name for name in ("disk", "told", "at_full", "after")}
    places["disk"].mkdir()
    step = shlex.join([sys.executable, str(ROOT / script), *STEPS[script]])
    command = SCRIPT.format(**places, before=undisturbed.before, step=step, room_kib=undisturbed.growth // 2048)
    env = {**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*NAMESPACE, "sh", "-c", command], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = places["told"].read_text()
    assert told.rstrip().endswith("\n1")
    assert "No space left on device); make room or choose another folder" in told
    assert "Traceback" not in told
    assert not list(places["at_full"].rglob(".*.tmp"))
    for path in places["at_full"].rglob("*.npy"):
        assert np.isfinite(read_npy(path)).all()
    assert snapshot(places["after"]) == undisturbed.expected
