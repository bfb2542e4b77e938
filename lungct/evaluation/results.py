"""A scan's folder of results: which masks and pictures belong into it, which are there, and adding others later."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lungct import LungError
from lungct.commands import quoted, with_conf
from lungct.evaluation.cases import Case, StoredCase, Volume
from lungct.evaluation.report import PNG_EVERY, THUMBNAIL, result_files, thumbnail
from lungct.evaluation.scores import ScanScore
from lungct.evaluation.view import VIEW, VIEW_SCRIPT
from lungct.evaluation.written import WRITTEN, as_now, find_changes, read_written, with_record
from lungct.files import file_stamps, fingerprint, replace_file
from lungct.masks.predicted import PREDICTED, SLICES, check_ct, slices_table
from lungct.masks.write import (
    ANONYMOUS,
    DICOM_FORMATS,
    FORMATS,
    KEPT,
    NPY,
    LungMask,
    encode_masks,
    keep_bytes,
    kept_checksum,
    read_kept,
)
from lungct.parallel import some_of
from lungct.slices import safe_name

KINDS = (NPY, *FORMATS)
OTHER_INPUT = "other slices, weights, options or code"
AMOUNTS = ("none", "some", "all")  # of pictures, each with those before it


@dataclass(frozen=True)
class Wanted:
    """The masks (of KINDS) and the amount of pictures (of AMOUNTS) that a scan is to have."""

    kinds: tuple[str, ...]
    png: str

    def with_earlier(self, score: ScanScore) -> "Wanted":
        """With those that the scan has been given already: they stay."""
        kinds = {*self.kinds, *score.save.split(",")}
        png = max(self.png, score.png or AMOUNTS[0], key=AMOUNTS.index)
        return Wanted(tuple(kind for kind in KINDS if kind in kinds), png)


def choose_kinds(save: str, is_given: bool, from_files: bool, anonymous: bool) -> tuple[str, ...]:
    """The masks to write; npy that stands in a lung.conf is step 4's, where nobody asked for it.

    Raises LungError where `anonymous` is asked for, but no format with a name in it.
    """
    if anonymous and not ANONYMOUS.keys() & {*save.split(",")}:
        raise LungError(f"--anonymous goes with --save {' or '.join(ANONYMOUS)}; other files hold no name and no dates")
    if from_files and save == NPY and not is_given:
        return ("nifti",)
    kinds = {ANONYMOUS.get(kind, kind) if anonymous else kind for kind in save.split(",")}
    kinds |= set() if from_files else {NPY}
    return tuple(kind for kind in KINDS if kind in kinds)


def choose_files(cases: list[Case], wanted: Wanted) -> dict[str, Wanted]:
    """What each scan is to have; says of which the DICOM files that a format refers to are not there.

    Raises LungError where they are there of none.
    """
    chosen, reasons = {case.scan: wanted for case in cases}, {}
    of_dicom = [kind for kind in wanted.kinds if kind in DICOM_FORMATS]
    for case in cases if of_dicom else ():
        try:
            case.find_dicom()
        except (LungError, OSError) as error:
            reasons[case.scan] = str(error)
            kinds = tuple(kind for kind in wanted.kinds if kind not in DICOM_FORMATS)
            chosen[case.scan] = replace(wanted, kinds=kinds or ("nifti",))
    if reasons and len(reasons) == len(cases):
        named = next((kind for kind, hidden in ANONYMOUS.items() if hidden == of_dicom[0]), of_dicom[0])
        raise LungError(f"--save {named}: {next(iter(reasons.values()))}")
    for scan, reason in reasons.items():
        print(f"no {FORMATS[of_dicom[0]].ending} of {scan}: {reason}")
    return chosen


def folder_of(out: Path, scan: str) -> Path:
    """Where a scan's masks and pictures go."""
    return out / f"{PREDICTED}{safe_name(scan)}"


def files_of(kind: str, scan: str, slice_names: list[str]) -> list[str]:
    """The files of one kind of masks."""
    if kind == NPY:
        return [f"{name}.npy" for name in slice_names]
    return [f"{safe_name(scan)}{FORMATS[kind].ending}"]


def picture_names(slice_names: list[str], png: str) -> list[str]:
    """The overlays of so many slices, and what the report shows of them."""
    if not PNG_EVERY[png]:
        return []
    shown = slice_names[:: PNG_EVERY[png]]
    return [f"{VIEW}/{VIEW_SCRIPT}", *(name for one in shown for name in (f"{one}.png", f"{VIEW}/{one}.js"))]


def mask_names(scan: str, slice_names: list[str]) -> list[str]:
    """All files of masks that a scan's folder may hold."""
    return [KEPT, *(name for kind in KINDS for name in files_of(kind, scan, slice_names))]


def missing_kinds(folder: Path, wanted: Wanted, score: ScanScore, slice_names: list[str]) -> tuple[str, ...]:
    """Of the masks that are wanted, those that are not there, but for those that were tried and cannot be."""
    flags, tried, missing = score.flags.split("; "), score.save.split(","), []
    for kind in wanted.kinds:
        beginning = f"no {FORMATS[kind].ending}:" if kind in FORMATS else "-"
        cannot_be = kind in tried and any(flag.startswith(beginning) for flag in flags)
        if not cannot_be and not all((folder / name).is_file() for name in files_of(kind, score.scan, slice_names)):
            missing.append(kind)
    return tuple(missing)


def flags_of_files(score: ScanScore, base: list[str], new_kinds: tuple[str, ...]) -> list[str]:
    """The flags of a row that are of its files, but for kinds that are made anew, and for those among `base`."""
    old, new = FORMATS.keys() - {*new_kinds}, FORMATS.keys() & {*new_kinds}
    flags = [flag for flag in score.flags.split("; ") if flag not in base]
    return [flag for flag in flags if is_of_files(flag, old) and not is_of_files(flag, new)]


def is_of_files(flag: str, kinds: Iterable[str]) -> bool:
    """Whether a flag names the file of one of some formats."""
    return any(f" {FORMATS[kind].ending}" in flag for kind in kinds)


def has_pictures(folder: Path, png: str, slice_names: list[str]) -> bool:
    """Whether so many pictures are there."""
    names = [f"{VIEW}/{THUMBNAIL}", *picture_names(slice_names, png)]
    return all((folder / name).is_file() for name in names)


def pictures_anew(folder: Path, wanted: Wanted, earlier: ScanScore, made_from: str, names: list[str]) -> list[str]:
    """The pictures that this run makes, also in place of those that are there; none where the row and they are right.

    made_from: the row's fingerprint as it would be now; names: of the slices
    """
    png = wanted.with_earlier(earlier).png
    if earlier.fingerprint == made_from and has_pictures(folder, png, names):
        return []
    return [f"{VIEW}/{THUMBNAIL}", *picture_names(names, png)]


def has_all(folder: Path, wanted: Wanted, score: ScanScore, slice_names: list[str]) -> bool:
    """Whether all masks and pictures that are wanted are there, and the record of what was written."""
    return (
        bool(read_written(folder))
        and not missing_kinds(folder, wanted, score, slice_names)
        and has_pictures(folder, wanted.png, slice_names)
    )


def why_predict_again(folder: Path, score: ScanScore, made_from: str, slice_names: list[str]) -> str:
    """Why the kept mask of a row of scores.csv, from which other files are made, cannot be taken; empty where it can.

    made_from: the fingerprint of the mask as it would be now. Slices of other names among the .npy masks would be taken
    for masks of this scan: then all is made anew.
    """
    if not score.fingerprint.startswith(made_from):
        return OTHER_INPUT
    if {path.stem for path in folder.glob("*.npy")} - set(slice_names):
        return "slices of other names among the masks"
    if missing := [name for name in (SLICES, KEPT) if not (folder / name).is_file()]:
        return f"{' and '.join(missing)} missing"
    return "" if kept_checksum(folder / KEPT) == score.mask else f"{KEPT} damaged, or another mask in it"


def read_kept_of(folder: Path, volume: Volume, earlier: ScanScore) -> tuple[np.ndarray, np.ndarray] | None:
    """The kept mask of a row of scores.csv, as `read_kept` gives it; None where it is damaged or of another CT."""
    try:
        check_ct(folder, [safe_name(row.slice_name) for row in volume.rows], volume.ct_hu)
    except LungError:
        return None
    return read_kept(folder / KEPT, earlier.mask)


def files_there(folder: Path, scan: str, slice_names: list[str]) -> list[Path]:
    """Of all files that step 5 may write into a scan's folder, those that are there."""
    names = [*mask_names(scan, slice_names), SLICES, f"{VIEW}/{THUMBNAIL}", *picture_names(slice_names, AMOUNTS[-1])]
    there = {path.relative_to(folder).as_posix() for found in ("*", f"{VIEW}/*") for path in folder.glob(found)}
    return [folder / name for name in names if name in there]


def files_stamp(folder: Path, scan: str, slice_names: list[str]) -> str:
    """Tells, without reading them, whether the files of a folder are those of before."""
    stamps = []
    for path in [folder / WRITTEN, *files_there(folder, scan, slice_names)]:
        with suppress(FileNotFoundError):  # lost, or removed just now
            stamps += file_stamps([path])
    return fingerprint(stamps)


def check_files(
    folder: Path, wanted: Wanted, earlier: ScanScore, made_from: str, slice_names: list[str]
) -> tuple[str, list[str]]:
    """(What tells that all files of a folder are as step 5 wrote them, else empty; a line for those that are not).

    Nothing is said of pictures that this run makes anew; made_from: as `pictures_anew` takes it
    The stamp is taken first: what is changed while files are read, the next run sees. They are read only where it is
    not that of the row.
    """
    stamp = files_stamp(folder, earlier.scan, slice_names)
    changes = {} if earlier.files == stamp else find_changes(folder, files_there(folder, earlier.scan, slice_names))
    anew = pictures_anew(folder, wanted, earlier, made_from, slice_names)
    stay = {name: reason for name, reason in changes.items() if name not in anew}
    reasons = dict.fromkeys(stay.values())
    lines = [(some_of([name for name in stay if stay[name] == reason]), reason) for reason in reasons]
    return "" if changes else stamp, [f"{folder / names}: {reason}" for names, reason in lines]


def make_files(
    folder: Path, wanted: Wanted, volume: Volume, mask: LungMask, score: ScanScore, earlier: ScanScore | None
) -> tuple[ScanScore, dict[str, bytes]]:
    """The files that a scan's folder lacks, by name; and its row of scores.csv with what they are.

    earlier: its row of before, where the mask is that of before; what was made from it is in the folder and stays
    """
    wanted = wanted.with_earlier(earlier) if earlier else wanted
    names, base = [safe_name(row.slice_name) for row in volume.rows], score.flags.split("; ") if score.flags else []
    new = missing_kinds(folder, wanted, earlier, names) if earlier else wanted.kinds
    files, flags, failed = encode_masks(mask, [kind for kind in new if kind != NPY], safe_name(score.scan))
    if not files and NPY not in wanted.kinds and new == wanted.kinds:  # none of these formats can hold this mask
        wanted, new = replace(wanted, kinds=(NPY, *wanted.kinds)), (NPY, *new)
    flags = base + (flags_of_files(earlier, base, new) if earlier else []) + flags
    is_same = earlier and not pictures_anew(folder, wanted, earlier, score.fingerprint, names)
    made = result_files(volume.rows, volume.ct_hu, mask.sides, volume.truth, "none" if is_same else wanted.png)
    there = {path.name for path in folder.glob("*.npy")} if earlier else set()  # corrected by hand, perhaps
    left_out = there if NPY in new else {name for name in made if name.endswith(".npy")}
    files |= {name: content for name, content in made.items() if name not in left_out}
    if not is_same:
        files[f"{VIEW}/{THUMBNAIL}"] = thumbnail(volume.ct_hu, mask.lung)
    saved = [kind for kind in wanted.kinds if kind not in failed]  # those that failed are tried again next time
    if not earlier:
        files |= {KEPT: keep_bytes(mask.lung, mask.unsure_cm2, volume.ct_hu)}
        files |= {SLICES: slices_table(volume.rows, mask.lung)}
    written = (read_written(folder) or as_now(folder, files_there(folder, score.scan, names))) if earlier else {}
    files = with_record(files, written)
    return replace(score, flags="; ".join(flags), png=wanted.png, save=",".join(saved)), files


def add_files(folder: Path, files: dict[str, bytes]) -> None:
    """Put files into a folder beside those that are there, each all or nothing. Raises LungError."""
    for name, content in files.items():
        replace_file(folder / name, content)


def next_command(cases: list[Case], scores: list[ScanScore], out: Path, conf: Path | str) -> str:
    """The command that shows the first scan and its mask, as the end of a line; conf: the settings file."""
    case = next((case for case in cases if scores and case.scan == scores[0].scan), None)
    if case is None:
        return ""
    folder = folder_of(out, case.scan)
    if isinstance(case, StoredCase):
        return f", then run: {with_conf(f'python image_test.py {quoted(folder)}', conf)}"
    return f", then run: {show_command(folder, case.scan, case.location)}"


def show_command(folder: Path, scan: str, ct: Path) -> str:
    """The command that shows a scan from its own files, with the mask in its folder of results."""
    masks = [path for kind in FORMATS if (path := folder / files_of(kind, scan, [])[0]).is_file()]
    return f"python image_test.py {quoted(ct)} --mask {quoted([*masks, folder][0])}"
