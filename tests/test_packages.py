"""A Python that lacks packages: every step says in one line which, and what to run."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from conftest import ROOT

import lungct
from lungct.parallel import run_parallel

STEPS = ("config_file_create.py", "prepare_lung_image.py", "Lung_segmentation.py", "model_test.py", "image_test.py")
NO_PACKAGES = ("-S", "-E")  # Python without site-packages and PYTHONPATH: as it is before the first pip install


@pytest.mark.parametrize("step", STEPS)
def test_bare_python_names_every_missing_package(step, tmp_path):
    command = [sys.executable, *NO_PACKAGES, str(ROOT / step), "--check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{step}: No module named ")
    listed = line.split("missing: ")[1].split("; run: pip install -r requirements.txt")[0].split(", ")
    assert {"numpy", "torch", "pylidc", "psutil", "packaging", "scikit-image"} <= set(listed)
    assert len(listed) == sum(row[0].isalpha() for row in (ROOT / "requirements.txt").read_text().splitlines())
    assert list(tmp_path.iterdir()) == []


def test_packages_that_are_there_are_not_listed(tmp_path):
    (tmp_path / "requirements.txt").write_text("# why\n\nnumpy>=900  # a version\npylibjpeg[all]\nno-such-package==1\n")
    assert lungct.missing_packages(tmp_path / "requirements.txt") == ["no-such-package"]


@pytest.mark.parametrize(
    ("error", "is_ours"),
    [
        (ModuleNotFoundError("No module named 'edt'", name="edt"), True),
        (ImportError("cannot import name 'uid' from 'pydicom'", name="pydicom"), True),
        (ModuleNotFoundError("No module named '_ctypes'", name="_ctypes"), False),  # Python's own: pip is no help
        (ModuleNotFoundError("No module named 'lungct.typo'", name="lungct.typo"), False),
        (ValueError("another error"), False),
    ],
)
def test_only_a_package_of_others_takes_the_place_of_a_traceback(error, is_ours, capsys):
    lungct.report_import_error(type(error), error, None)
    printed = capsys.readouterr().err
    assert str(error) in printed
    assert ("pip install -r requirements.txt" in printed) == is_ours
    assert printed.startswith(Path(sys.argv[0]).name if is_ours else type(error).__name__)


@pytest.mark.parametrize("active", [True, False])
def test_environment_that_is_there_and_not_active_is_pointed_out(active, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lungct, "REQUIREMENTS", tmp_path / "requirements.txt")
    (tmp_path / "requirements.txt").write_text("numpy\n")
    (tmp_path / ".venv").mkdir()
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv") if active else sys.base_prefix)
    error = ModuleNotFoundError("No module named 'edt'", name="edt")
    lungct.report_import_error(type(error), error, None)
    assert ("activate" in capsys.readouterr().err) != active


@pytest.mark.skipif(os.name == "nt", reason="stops a process by a signal")
def test_ctrl_c_while_a_step_imports_is_quiet(tmp_path):
    """Also in a package that takes it for an error of its own, as numpy can."""
    stop = "import os, signal, time\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(9)\n"
    (tmp_path / "torch.py").write_text(stop + "except KeyboardInterrupt:\n    raise ImportError('bad install')\n")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, str(ROOT / "model_test.py"), "--help"]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background hears no Ctrl-C
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=env, check=False, preexec_fn=heard)
    assert done.returncode == 130
    assert (done.stdout, done.stderr) == ("", "\nstopped\n")


def needs_a_package(item: str) -> None:
    raise ModuleNotFoundError(f"No module named '{item}'", name=item)


def test_scan_that_needs_a_missing_package_says_what_to_install(tmp_path):
    ((_, error),) = run_parallel(needs_a_package, ["edt"], 1, tmp_path / "log")
    assert str(error) == "No module named 'edt'; run: pip install -r requirements.txt"


def test_old_python_is_told_by_its_version(monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(ROOT / "model_test.py")])
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    source = (ROOT / "lungct" / "__init__.py").read_text(encoding="utf-8")
    with pytest.raises(SystemExit, match=r"model_test.py: this is Python .*; install 3.10 or later"):
        exec(compile(source, "lungct", "exec"), {"__name__": "lungct", "__file__": str(ROOT / "lungct/__init__.py")})
