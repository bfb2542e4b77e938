"""Writing that is never half done: into a file or folder beside, then renamed."""

import csv
import errno
import hashlib
import io
import json
import os
import shutil
import stat
import time
import tokenize
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import get_args, get_type_hints

import numpy as np
from filelock import FileLock, Timeout

from lungct import LungError

LOCK_NAME = ".lock"
SAVE_EVERY_S, SAVE_SHARE = 5.0, 0.05  # of a table rewritten whole: what an interruption costs, and of the time at most
NPY_ERRORS = (  # what NumPy raises over a damaged .npy file, whose header is Python text
    *(EOFError, KeyError, MemoryError, OSError, OverflowError, SyntaxError, TypeError, ValueError, tokenize.TokenError),
)


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` where `path` is, all or nothing.

    Raises LungError when the disk does not take it, or another program holds open what is there.
    """
    beside = path.with_name(f".{path.name}.tmp")  # what a killed run left there is written over
    complete = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content)
        complete = True
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise write_error(path, error, complete and path.is_file()) from error


def write_error(path: Path, error: OSError, only_rename_failed: bool) -> LungError:
    """What to say where a file or folder could not be written; Windows renames nothing that is held open."""
    if only_rename_failed and isinstance(error, PermissionError):
        return LungError(f"{path}: open in another program (Excel, a viewer?); close it there, then run this again")
    return LungError(f"{path}: cannot write it ({error.strerror}); make room or choose another folder")


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Hold `folder` against other runs; the system lets go of it even where a run is killed.

    Raises LungError where another run holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / LOCK_NAME).acquire(timeout=0)
    except Timeout as error:
        raise LungError(f"{folder}: another run is writing there; wait for it, or choose another folder") from error
    except OSError as error:
        raise LungError(f"{folder}: cannot write there ({error.strerror}); choose another folder") from error
    with held:
        yield


@contextmanager
def periodic_save(save: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Gives what to call after each piece of work: it saves now and then; in the end, come what may, all is saved."""
    saved, took_s = time.monotonic(), 0.0

    def save_if_due() -> None:
        nonlocal saved, took_s
        began = time.monotonic()
        if began - saved > max(SAVE_EVERY_S, took_s / SAVE_SHARE):
            with suppress(LungError):  # open in another program for now, perhaps; in the end it is an error
                save()
            saved = time.monotonic()
            took_s = saved - began

    try:
        yield save_if_due
    finally:
        save()


def replace_folder(folder: Path, files: dict[str, bytes], keep_as: Path | None = None) -> None:
    """Make `folder` hold exactly `files`, by name or `folder/name`, all or nothing.

    keep_as: the name that what was there gets, beside it; None: it is removed

    Raises LungError when the disk does not take it, or another program holds a file open that is there.
    """
    beside, old = (folder.with_name(f".{folder.name}.{ending}") for ending in ("tmp", "old"))
    before, complete = keep_as or old, False
    try:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
        beside.mkdir(parents=True)
        for name, content in files.items():
            path = beside / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        complete = True
        if folder.exists() and not folder.is_symlink():  # a link is refused by the next line
            folder.replace(before)  # removed file by file, half of it would be gone where one is held open
        beside.replace(folder)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        if complete and before.exists() and not folder.exists():
            before.replace(folder)
        raise write_error(folder, error, complete and folder.is_dir()) from error
    shutil.rmtree(old, ignore_errors=True)


def npy_bytes(array: np.ndarray) -> bytes:
    """An array of numbers as the bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def read_npy(path: Path) -> np.ndarray:
    """An array from a .npy file, never a pickle. Raises LungError."""
    try:
        return np.load(path, allow_pickle=False)
    except NPY_ERRORS as error:
        raise LungError(f"{path}: no readable .npy file ({error})") from error


def table_bytes(rows: Iterable[object], kind: type) -> bytes:
    """Records of one dataclass as the bytes of a .csv file with a header line; None is an empty cell."""
    buffer = io.StringIO(newline="")
    names = [field.name for field in fields(kind)]
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([getattr(row, name) for name in names] for row in rows)
    return buffer.getvalue().encode()


def read_text(path: Path) -> str:
    """A text file as editors save it: UTF-8 with or without a byte order mark, else Windows' cp1252."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def read_table(path: Path, kind: type, is_record: Callable[[dict], bool] = lambda row: True) -> list:
    """The records of a .csv that `table_bytes` made. Raises LungError where it is damaged or of another version.

    is_record: whether a row, as a dict of texts, is a record; others, such as a row of means, are left out
    """
    types = get_type_hints(kind)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != [field.name for field in fields(kind)]:
                raise LungError(f"{path}: columns are not those of this version")
            rows = [row for row in reader if is_record(row)]
            return [kind(**{name: parse_cell(text, types[name]) for name, text in row.items()}) for row in rows]
    except (ValueError, TypeError, AttributeError, KeyError, csv.Error) as error:
        raise LungError(f"{path}: damaged ({error})") from error


def read_earlier_table(path: Path, kind: type, is_record: Callable[[dict], bool] = lambda row: True) -> list:
    """What an earlier run left in a table; empty where there is none, or a damaged one, or one of another version."""
    try:
        return read_table(path, kind, is_record) if path.is_file() else []
    except LungError:
        return []


def parse_cell(text: str, kind: type) -> str | int | float | None:
    """A cell as the type of its column, which may be optional: then an empty cell is None. Raises ValueError."""
    if isinstance(kind, UnionType):
        return None if text == "" else parse_cell(text, get_args(kind)[0])
    return kind(text)


def fingerprint(*parts: object) -> str:
    """Sixteen hexadecimal digits that change when any of some plain values does."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]


def array_checksum(array: np.ndarray) -> str:
    """Sixteen hexadecimal digits that tell whether an array has the same shape, type and numbers."""
    digest = hashlib.sha256(f"{array.shape} {array.dtype.str}".encode())
    digest.update(np.ascontiguousarray(array).data.cast("B"))
    return digest.hexdigest()[:16]


def file_stamps(paths: Iterable[Path]) -> list[tuple[str, int, int, int, int]]:
    """Name, bytes, times and number on disk of files: what tells without reading them whether they are those of before.

    The time of the last write can be set, as `cp -p` does; the time at which the system noted a change cannot.
    """
    stamps = [(path.name, path.stat()) for path in sorted(paths)]
    return [(name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino) for name, status in stamps]


def short_hash(text: str) -> str:
    """Eight hexadecimal digits that follow from a text alone."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def files_below(folder: Path, unreadable: list[LungError] | None = None) -> list[Path]:
    """Every file below a folder, sorted; links are followed, each folder once; names that begin with a dot are left.

    What cannot be looked into raises LungError, or is noted in `unreadable` where given.
    """
    found, seen = [], set()

    def note(error: OSError) -> None:
        if unreadable is None:
            raise unreadable_error(error) from error
        unreadable.append(unreadable_error(error))

    for here, names, files in os.walk(folder, onerror=note, followlinks=True):
        where = Path(here).stat()
        if (where.st_dev, where.st_ino) in seen:  # a link back, or a second one
            names.clear()
            continue
        seen.add((where.st_dev, where.st_ino))
        names[:] = sorted(name for name in names if not name.startswith("."))
        paths = [Path(here, name) for name in files if not name.startswith(".")]
        found += [path for path in paths if is_file(path, note)]
    return sorted(found)


def unreadable_error(error: OSError) -> LungError:
    """What to say of a folder, or of something in it, that the system does not let us see."""
    return LungError(f"{error.filename}: cannot be read ({error.strerror}); make it readable, or move it away")


def is_file(path: Path, note: Callable[[OSError], None]) -> bool:
    """Whether a file is there; a link to nowhere is none. Other errors go to `note`."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            note(error)
        return False


def is_dir_path(path: str | Path) -> Path:
    """Return `path` as a Path when it is a directory; raise LungError saying what is there instead."""
    path = Path(path).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise LungError(f"{path} is a file, not a folder")
    parent = next((p for p in path.parents if p.is_dir()), Path())
    raise LungError(f"{path} does not exist; the nearest folder that does is {parent.resolve()}")
