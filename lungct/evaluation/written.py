"""What step 5 wrote into a scan's folder, by checksums: which files are others now, so that none of them is lost."""

import hashlib
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from lungct import LungError
from lungct.evaluation.view import VIEW
from lungct.files import (
    files_below,
    read_earlier_table,
    replace_folder,
    table_bytes,
    unreadable_error,
    write_error,
)
from lungct.masks.predicted import CHANGED, PREDICTED, SET_ASIDE, SLICES
from lungct.masks.write import KEPT
from lungct.parallel import some_of

WRITTEN = f"{VIEW}/files.csv"  # a row for each file that step 5 wrote into the folder
FOUND = "?"  # before a checksum that was taken of a file as it was found, when the record was lost
OTHER_NOW = "changed since it was written; to have it as it was, delete it and run the same model_test.py again"
NOT_KNOWN = (
    "missing or damaged, so that it is not known whether masks were changed after the prediction; all files stay, and "
    "only what changes from now on is pointed out"
)
KEPT_AS = "changed or added since step 5 wrote its folder, so that folder is kept as"
PERHAPS_KEPT_AS = f"perhaps {KEPT_AS}"
STRAYS = ("thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir")  # made by Windows and network drives, not by a user


@dataclass(frozen=True)
class WrittenFile:
    """A row of WRITTEN: a file of the folder, by its name as seen from there, and the checksum of its content."""

    name: str
    checksum: str


def content_checksum(content: bytes) -> str:
    """Sixteen hexadecimal digits that tell whether a file holds the same."""
    return hashlib.sha256(content).hexdigest()[:16]


def is_mask(name: str) -> bool:
    """Whether a file of step 5, by its name as seen from the scan's folder, is a mask: no picture and no table."""
    return name == KEPT or not (name == SLICES or name.startswith(f"{VIEW}/") or name.endswith(".png"))


def read_written(folder: Path) -> dict[str, str]:
    """The checksum of each file as step 5 wrote it, by name; empty where nothing says it."""
    with suppress(OSError):  # one that may not be read says nothing
        return {row.name: row.checksum for row in read_earlier_table(folder / WRITTEN, WrittenFile)}
    return {}


def as_now(folder: Path, paths: Iterable[Path]) -> dict[str, str]:
    """The checksum of each of some files as it is, by name: a record in place of one that was lost."""
    record = {}
    for path in paths:
        name = path.relative_to(folder).as_posix()
        with suppress(OSError):  # the next run says that it cannot be read
            record[name] = content_checksum(path.read_bytes())
            record[name] = record[name] if name == KEPT else f"{FOUND}{record[name]}"  # KEPT: scores.csv knows it
    return record


def lost_record(folder: Path) -> tuple[str, ...]:
    """A warning where nothing says any more what step 5 wrote into a folder."""
    return () if read_written(folder) else (f"{folder / WRITTEN}: {NOT_KNOWN}",)


def with_record(files: dict[str, bytes], earlier: dict[str, str]) -> dict[str, bytes]:
    """Some files by name, and the record of them and of those written earlier: first, so that none is ever without."""
    record = {**earlier, **{name: content_checksum(content) for name, content in files.items()}}
    rows = [WrittenFile(name, record[name]) for name in sorted(record)]
    return {WRITTEN: table_bytes(rows, WrittenFile), **files}


def find_changes(folder: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Which of some files of a folder are not as step 5 wrote them, by name, and what to do then."""
    written, changes = read_written(folder), {}
    for path in paths if written else []:  # else see `lost_record`
        name = path.relative_to(folder).as_posix()
        try:
            if written.get(name, "").removeprefix(FOUND) != content_checksum(path.read_bytes()):
                changes[name] = CHANGED if is_mask(name) else OTHER_NOW
        except FileNotFoundError:  # removed just now
            continue
        except OSError as error:
            changes[name] = str(unreadable_error(error)).removeprefix(f"{path}: ")
    return changes


def checksum_now(path: Path) -> str:
    """The checksum of a file; empty where it cannot be read."""
    try:
        return content_checksum(path.read_bytes())
    except OSError:
        return ""


def files_to_keep(folder: Path) -> list[str]:
    """The masks of a folder of results that are not known to be as step 5 wrote them, and files of the user's own.

    Raises LungError where the folder cannot be looked into.
    """
    written, kept = read_written(folder), []
    for path in files_below(folder) if folder.is_dir() else []:  # no hidden ones
        name = path.relative_to(folder).as_posix()
        if name == WRITTEN or any(part.casefold() in STRAYS for part in path.relative_to(folder).parts):
            continue
        is_ours = name in written or not written
        if not is_ours or (is_mask(name) and written.get(name) != checksum_now(path)):
            kept.append(name)
    return kept


def choose_aside(folder: Path) -> tuple[Path | None, tuple[str, ...]]:
    """The name under which a folder of results is to be kept, and a warning; None where nothing in it is worth that.

    Raises LungError as `files_to_keep` does.
    """
    names = files_to_keep(folder)
    if not names:
        return None, ()
    name, endings = SET_ASIDE + folder.name.removeprefix(PREDICTED), chain([""], (f"_{number}" for number in count(2)))
    place = next(path for ending in endings if not (path := folder.with_name(name + ending)).exists())
    written = read_written(folder)
    is_known = written and not any(written.get(name, "").startswith(FOUND) for name in names)
    return place, (f"{folder / some_of(names)}: {KEPT_AS if is_known else PERHAPS_KEPT_AS} {place}",)


def find_set_aside(out: Path) -> list[str]:
    """The folders that were set aside, by name."""
    return sorted(path.name for path in out.glob(f"{SET_ASIDE}*"))


def replace_results(folder: Path, files: dict[str, bytes]) -> tuple[str, ...]:
    """Make a folder of results hold exactly `files`, all or nothing, or set it aside first; returns a warning of that.

    Raises LungError where that cannot be done.
    """
    place, warnings = choose_aside(folder)
    replace_folder(folder, files, place)
    return warnings


def remove_results(folder: Path) -> tuple[str, ...]:
    """Remove a folder of results, or set it aside, with a warning; it stays, with one, where that cannot be done."""
    try:
        place, warnings = choose_aside(folder)
        if place:
            folder.replace(place)
    except LungError as error:
        return (str(error),)
    except OSError as error:
        return (str(write_error(folder, error, only_rename_failed=True)),)
    if not place:
        shutil.rmtree(folder, ignore_errors=True)
    return warnings
