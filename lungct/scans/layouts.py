"""Which volume files a folder holds, and whose they are: flat, as nnU-Net or as TotalSegmentator lays them out."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from lungct import LungError
from lungct.files import is_dir_path, unreadable_error
from lungct.scans.nifti import VOLUME_ENDINGS, has_ending, stem

CT_NAMES = ("ct", "image", "imaging", "img", "volume")  # of files that their folder tells apart
MASK_FOLDERS = ("label", "mask", "prediction", "segmentation")  # how the names of folders that hold no CT begin
FIRST_CHANNEL = re.compile(r"(.+)_0000")  # nnU-Net's way to name a CT


def find_volumes(path: Path, unreadable: list[LungError] | None = None) -> list[tuple[str, Path]]:
    """The volume that `path` is, or each below it once, sorted; with the name of its patient, which no two share.

    Raises LungError where there is none, and for a folder that cannot be looked into, unless `unreadable` takes it.
    """
    if path.is_file():
        files, root = [path] if has_ending(path) else [], path.parent
    else:
        files, root = walk(is_dir_path(path), set(), unreadable), path
    if not files and not unreadable:
        raise LungError(f"{path} holds no {', '.join(VOLUME_ENDINGS)} file; DICOM goes with --dicom")
    by_target: dict[Path, Path] = {}
    for file in sorted(files, key=lambda file: (file.is_symlink(), file)):
        by_target.setdefault(file.resolve(), file)
    files = sorted(by_target.values())
    names = [short_name(file, root) for file in files]
    for longer_name in (name_with_folders, name_with_ending):
        names = rename(names, files, root, longer_name)
    return list(zip(names, files, strict=True))


def walk(folder: Path, seen: set[Path], unreadable: list[LungError] | None) -> list[Path]:
    """The volume files below a folder, but for hidden ones and masks; each folder once, wherever links lead."""
    if folder.resolve() in seen:
        return []
    seen.add(folder.resolve())
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        files = [entry for entry in entries if entry.is_file() and has_ending(entry)]
    except OSError as error:
        if unreadable is None:
            raise unreadable_error(error) from error
        unreadable.append(unreadable_error(error))
        return []
    of_patient = [file for file in files if stem(file).casefold() in CT_NAMES]
    if of_patient:  # what lies beside and below it are its masks
        return of_patient
    folders = sorted(entry for entry in entries if entry.is_dir())
    below = [walk(entry, seen, unreadable) for entry in folders if not entry.name.casefold().startswith(MASK_FOLDERS)]
    return files + [file for found in below for file in found]


def short_name(file: Path, root: Path) -> str:
    """The file's name without ending and nnU-Net's channel; the folder's where all files are called so."""
    name = stem(file)
    if name.casefold() in CT_NAMES:
        return name_of_folders(file, root) or file.absolute().parent.name
    channel = FIRST_CHANNEL.fullmatch(name)
    if not channel:
        return name
    numbered = any((file.parent / f"{channel[1]}_0001{ending}").exists() for ending in VOLUME_ENDINGS)
    return name if numbered else channel[1]


def name_of_folders(file: Path, root: Path) -> str:
    """The folders between root and a file."""
    return file.relative_to(root).parent.as_posix().removeprefix(".")


def name_with_folders(file: Path, root: Path) -> str:
    """The file's name with the folders that lead to it."""
    return file.relative_to(root).with_name(stem(file)).as_posix()


def name_with_ending(file: Path, root: Path) -> str:
    """The same with the file's ending."""
    return file.relative_to(root).as_posix()


def rename(names: list[str], files: list[Path], root: Path, longer_name: Callable[[Path, Path], str]) -> list[str]:
    """Longer names for those that differ from another in nothing but capitals."""
    counts = Counter(name.casefold() for name in names)
    return [
        longer_name(file, root) if counts[name.casefold()] > 1 else name
        for name, file in zip(names, files, strict=True)
    ]
