"""CT from the Imaging Data Commons (public, no account), in the folders that pylidc knows.

The list of series is that of the package idc-index (Fedorov et al., Radiographics 43 (2023) e230180), which also does
the transfer.
"""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm import tqdm

from lungct import LungError
from lungct.parallel import count
from lungct.scans.find import choose_names

if TYPE_CHECKING:
    import pandas
    from idc_index import IDCClient

LAYOUT = "%PatientID/%StudyInstanceUID/%SeriesInstanceUID"
SERIES_A_CALL = 20  # a call takes seconds before its first byte
GB = 1e9
BUCKET, CONTACT_S = "https://idc-open-data.s3.amazonaws.com", 10  # where the series lie, and how long it may be silent


def open_index() -> IDCClient:
    """The client with its index. Raises LungError where the package is missing."""
    try:
        from idc_index import IDCClient  # a package of its own, with pandas and more, for those who download
    except ImportError as error:
        raise LungError("--download requires the package idc-index; run: pip install idc-index") from error
    return IDCClient()


def collection_name(text: str) -> str:
    """A collection as the index spells it: LIDC-IDRI is lidc_idri."""
    return text.lower().replace("-", "_")


def choose_series(index: pandas.DataFrame, collection: str, wanted: str) -> pandas.DataFrame:
    """The CT series of the first N patients of a collection, or of some by name: A,B,C. Raises LungError for none."""
    name = collection_name(collection)
    ct = index[(index.collection_id == name) & (index.Modality == "CT")].sort_values(["PatientID", "SeriesInstanceUID"])
    patients = list(dict.fromkeys(ct.PatientID))
    if not patients:
        raise LungError(f"--collection {collection}: the Imaging Data Commons has no CT of that name")
    told = f"--download: not among the {count(len(patients), 'patient')} of {name}"
    chosen = choose_names(patients, wanted, told)
    if not chosen:
        raise LungError(f"{told}: {wanted}")
    return ct[ct.PatientID.isin(chosen)]


def series_folder(root: Path, row: pandas.Series) -> Path:
    """Where a series goes."""
    return root / row.PatientID / row.StudyInstanceUID / row.SeriesInstanceUID


def check_contact() -> None:
    """Ask the bucket for an answer, whatever it is. Raises LungError where none comes."""
    try:
        urlopen(Request(BUCKET, method="HEAD"), timeout=CONTACT_S).close()
    except HTTPError:
        return
    except OSError as error:
        reason = getattr(error, "reason", error)
        if not isinstance(reason, ssl.SSLError):  # it answered; s5cmd has certificates of its own
            raise LungError(
                f"--download: no connection to {BUCKET} ({reason}); check network and proxy, then run it again"
            ) from error


def arrived_sizes(root: Path, row: pandas.Series) -> list[int]:
    """The bytes of each file of a series that is there."""
    return [path.stat().st_size for path in series_folder(root, row).glob("*.dcm")]


def is_whole(root: Path, row: pandas.Series) -> bool:
    """Whether a series is there to its last byte."""
    sizes = arrived_sizes(root, row)
    return len(sizes) == int(row.instanceCount) and sum(sizes) == round(row.series_size_MB * 1e6)


def download(client: IDCClient, series: pandas.DataFrame, root: Path) -> list[str]:
    """Fetch what is not there yet; returns the UIDs of series that did not arrive whole.

    Raises LungError where there is no connection, at first or later, or too little space.
    """
    todo = [row for row in series.itertuples() if not is_whole(root, row)]
    if todo:
        check_contact()
    needed = sum(row.series_size_MB for row in todo) * 1e6
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    patients = count(series.PatientID.nunique(), "patient")
    print(f"{len(series)} CT series of {patients}; {len(series) - len(todo)} are there already")
    print(f"to fetch: {needed / GB:.1f} GB into {root}, which has {free / GB:.1f} GB free")
    if needed > free:
        raise LungError(f"{root}: {needed / GB:.1f} GB do not fit; make room or take fewer patients")
    with tqdm(total=round(needed), desc="download", unit="B", unit_scale=True) as bar:
        for start in range(0, len(todo), SERIES_A_CALL):
            part = todo[start : start + SERIES_A_CALL]
            for row in part:
                shutil.rmtree(series_folder(root, row), ignore_errors=True)  # the half of an interrupted one
            client.download_from_selection(
                downloadDir=str(root),
                seriesInstanceUID=[row.SeriesInstanceUID for row in part],
                dirTemplate=LAYOUT,
                show_progress_bar=False,
            )
            arrived = sum(sum(arrived_sizes(root, row)) for row in part)
            bar.update(arrived)
            if not arrived:
                check_contact()
    return [row.SeriesInstanceUID for row in todo if not is_whole(root, row)]
