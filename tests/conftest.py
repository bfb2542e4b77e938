"""What several tests need: small phantoms, a small LIDC-IDRI of them, scripts run as a user runs them."""

import errno
import importlib
import io
import os
import socket
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from lungct.code_hash import SLICE_CODE
from lungct.files import fingerprint, replace_file
from lungct.masks.predicted import slices_table
from lungct.masks.write import KEPT, keep_bytes
from lungct.phantom.anatomy import draw_build
from lungct.phantom.lidc_tree import write_series, write_xray
from lungct.phantom.render import Patient, make_patient
from lungct.scans import lidc
from lungct.segmentation.threshold import segment_lung
from lungct.settings import run_step
from lungct.slice_files import write_scan
from lungct.slices import CT_RANGE_HU, StoredSlice, manifest_path, write_manifest

ROOT = Path(__file__).parent.parent
REAL = ROOT.parent / "shared" / "data"
PHANTOMS = ROOT / ".pytest_cache" / "phantoms"
MATRIX = (176, 208)
SLOWEST = (  # files of tests, begun first, so that no process is left with one of them in the end
    *("test_disk_full.py", "test_pipeline.py", "test_real_scans.py", "test_threshold.py", "test_cluster.py"),
    *("test_one_command.py", "test_determinism.py", "test_killed.py", "test_distributed.py", "test_report_clicks.py"),
    *("test_lidc_tree.py", "test_resume.py", "test_own_data.py"),
)


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # of pytest-xdist, which begins with the files of most tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {name: rank for rank, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))


@cache
def small_patient(seed: int, **build) -> Patient:
    """A phantom of few pixels, healthy unless `build` says otherwise; the same for all tests, so it is read-only.

    It is kept in pytest's cache, for other processes and the next run, as long as the code that draws it is the same.
    """
    healthy = {"consolidation": 0.0, "effusion_mm": 0.0, "emphysema": 0.0, **build}
    drawn = replace(draw_build(seed), **healthy)
    sources = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "lungct" / "phantom").glob("*.py"))]
    kept = PHANTOMS / f"{fingerprint(drawn, MATRIX, np.__version__, sources, CT_RANGE_HU)}.npz"
    if not kept.is_file():
        patient = make_patient(seed, MATRIX, slice_mm=6.0, build=drawn)
        content = io.BytesIO()
        np.savez(content, **vars(patient))
        kept.parent.mkdir(parents=True, exist_ok=True)
        beside = kept.with_suffix(f".{os.getpid()}")
        beside.write_bytes(content.getvalue())
        beside.replace(kept)
    with np.load(kept) as arrays:
        patient = Patient(arrays["ct_hu"], arrays["lung"], tuple(arrays["spacing_mm"].tolist()))
    for array in (patient.ct_hu, patient.lung):
        array.flags.writeable = False
    return patient


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not REAL.is_dir():
        pytest.skip("real CT is not here")
    return REAL


@pytest.fixture(scope="session")
def lidc_tree(tmp_path_factory) -> Path:
    """LIDC-IDRI (5 patients, one in the old layout), LIDC-IDRI_test (1) and reference below one folder."""
    root = tmp_path_factory.mktemp("lidc")
    (root / "reference").mkdir()
    for seed, who in enumerate(lidc.scans_without_nodules()[:6]):
        patient = small_patient(seed)
        folder = root / ("LIDC-IDRI_test" if seed == 5 else "LIDC-IDRI") / who.patient_id
        series = folder / who.study_uid / who.series_uid if seed == 1 else folder / "01-01-2000-x" / "3000000-NA"
        write_series(series, who, patient.ct_hu, patient.spacing_mm)
        if seed in (0, 5):
            write_xray(folder / "01-01-2000-x" / "1000000-NA", who)
        np.savez_compressed(root / "reference" / f"{who.patient_id}.npz", lung=patient.lung)
    return root


def make_row(scan: str, z_index: int, **changes) -> StoredSlice:
    """A row of a manifest, of a slice of 4 x 5 pixels unless `changes` say otherwise."""
    row = StoredSlice(
        patient_id=scan,
        scan=scan,
        series_uid="1.2",
        slice_name=f"{scan}_slice{z_index:03d}",
        z_index=z_index,
        x_mm=0.0,
        y_mm=0.0,
        z_mm=5.0 * z_index,
        axes="1 0 0 0 1 0",
        source_axes="LPS",
        nifti_forms="",
        rows=4,
        columns=5,
        slice_mm=5.0,
        row_mm=2.0,
        col_mm=1.5,
        lung_px=12,
        label_source="segment_lung",
        selection="all",
        source="/scans/" + scan,
        fingerprint="0",
        code=SLICE_CODE,
        warnings="",
        ct_checksum="",
        lung_checksum="",
    )
    return replace(row, **changes)


def run_process(script: str, *flags: object, cwd: Path, status: int = 0, launcher: tuple[str, ...] = ()) -> str:
    """Run a script in a folder; returns what it printed, errors first; fails the test on another exit status.

    launcher: what stands between python and the script, such as torchrun
    """
    env = {**os.environ, "PYTHONPATH": "", "MPLBACKEND": "Agg"}
    command = [sys.executable, *launcher, str(ROOT / script), *map(str, flags)]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=500, check=False)
    text = done.stderr + done.stdout
    assert done.returncode == status, text
    assert "Traceback" not in text, text
    return text


def run(script: str, *flags: object, cwd: Path, status: int = 0) -> str:
    """The same in this process, which saves the seconds in which a new one imports torch; nothing cached is used."""
    step = importlib.import_module(Path(script).stem)
    forget_caches()
    here, argv, streams = Path.cwd(), sys.argv, (sys.stdout, sys.stderr)
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    sys.argv = [script, *map(str, flags)]
    code: object = 0
    os.chdir(cwd)
    try:
        run_step(step.main)
    except SystemExit as end:
        code = end.code
    finally:
        out, errors = (stream.buffer.getvalue().decode() for stream in (sys.stdout, sys.stderr))
        sys.stdout, sys.stderr = streams
        sys.argv = argv
        os.chdir(here)
    text = f"{code}\n{errors}{out}" if isinstance(code, str) else errors + out
    assert (1 if isinstance(code, str) else code or 0) == status, text
    return text


def forget_caches() -> None:
    """Empty every cache of the package's functions, as in a new process, but for pylidc's import."""
    for name, module in list(sys.modules.items()):
        for value in vars(module).values() if name.startswith("lungct.") else ():
            if hasattr(value, "cache_clear") and value is not lidc._import_pylidc:
                value.cache_clear()


def lock(monkeypatch, *folders: Path) -> None:
    """Let the system refuse to list some folders, as it does to others than root."""
    listed = os.scandir, os.listdir

    def refusing(ask):
        def answer(path="."):
            if not isinstance(path, int) and Path(path) in folders:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return ask(path)

        return answer

    for name, ask in zip(("scandir", "listdir"), listed, strict=True):
        monkeypatch.setattr(os, name, refusing(ask))


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="session")
def undisturbed_steps(tmp_path_factory) -> dict:
    """The steps that are killed and hindered, each run once to its end; one process of pytest does it for all."""
    from killing import run_steps  # which needs what is above

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # the folder of all processes of this run
    with FileLock(folder / "undisturbed.lock"):
        return run_steps(folder / "undisturbed")


@pytest.fixture(scope="session")
def phantom_rows(tmp_path_factory) -> tuple[Path, list[StoredSlice]]:
    """A folder with six slices each of four patients as step 2 leaves them, labelled by ours, and their rows."""
    from training_runs import save_patients  # which needs what is above

    root = tmp_path_factory.mktemp("slices")
    patients = {}
    for seed in range(4):
        phantom = small_patient(seed)
        middle = slice(len(phantom.lung) // 2 - 3, len(phantom.lung) // 2 + 3)
        lung = segment_lung(phantom.ct_hu[middle], phantom.spacing_mm)
        patients[f"P{seed}"] = (phantom.ct_hu[middle], lung)
    return root, save_patients(root, patients)


@pytest.fixture
def slices(tmp_path) -> tuple[Path, np.ndarray]:
    """Folders as steps 2, 4 and 5 leave them: three slices of a scan P, reference and prediction; and the lungs."""
    lung = np.zeros((3, 24, 30), bool)
    lung[:, 5:15, 4:20] = True
    rows = [make_row("P", z, rows=24, columns=30, z_mm=7.5 * z - 20) for z in range(3)]
    root, predicted = tmp_path / "mydata" / "Image_test" / "ct", tmp_path / "predictions" / "patient_P"
    volume = np.where(lung, -800, 40).astype(np.int16)
    replace_file(predicted / KEPT, keep_bytes(np.roll(lung, 2, 2), np.zeros(3), volume))
    replace_file(predicted / "slices.csv", slices_table(rows, np.roll(lung, 2, 2)))
    for row, inside in zip(rows, lung, strict=True):
        np.save(predicted / f"{row.slice_name}.npy", np.roll(inside, 2, 1).astype(np.uint8))
    write_manifest(manifest_path(root), write_scan(rows, volume, lung, root, root.with_name("lung"), SLICE_CODE))
    return root / "P", lung
