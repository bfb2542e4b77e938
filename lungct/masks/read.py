"""Lung masks made elsewhere, found by patient, scan or series UID and put on the slices of their scan.

One file a scan: NIfTI, MetaImage, NRRD, NumPy, DICOM SEG or RTSTRUCT;
TotalSegmentator's folder of lobes; or the folder that step 5 wrote.
Z slices, H rows, W columns.
"""

import re
import zipfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np

from lungct import LungError
from lungct.files import file_stamps, files_below, is_dir_path, read_npy
from lungct.masks.check import check_is_lung, check_place
from lungct.masks.predicted import (
    SET_ASIDE,
    SLICES,
    check_ct_of_label,
    find_accepted,
    is_of_scan,
    is_predictions,
    prediction_files,
    read_prediction,
)
from lungct.masks.read_dicom import index_folder, is_lung_name, read_dicom_label, series_of
from lungct.masks.segments import nrrd_names
from lungct.masks.write import NRRD
from lungct.parallel import count, some_of
from lungct.scans.geometry import MAX_VOXELS, Scan
from lungct.scans.layouts import CT_NAMES
from lungct.scans.nifti import VOLUME_ENDINGS, read_volume, volume_files
from lungct.slices import DICOM_UID

ARRAY_ENDINGS = (".npz", ".npy")  # which do not say where they lie
ENDINGS = (NRRD, *VOLUME_ENDINGS, *ARRAY_ENDINGS)  # 3D Slicer's first: it ends in another
MAX_BYTES = MAX_VOXELS  # unpacked
UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")  # in a file name
NNUNET_CHANNEL = "_0000"  # imagesTr/case_0000.nii.gz has its label in labelsTr/case.nii.gz
LOBE_FILE, LOBES = re.compile(r"(?i)lung_.*_lobe_.*\.nii\.gz"), 5  # of TotalSegmentator's folder `segmentations`
LOBE_FOLDER = "segmentations"

LUNA16_LUNGS, LUNA16_TRACHEA = (3, 4), 5  # codes of LUNA16's seg-lungs-LUNA16
MAX_TRACHEA_SHARE = 0.1  # of all that is marked; it is 1 to 2 %. A right lower lobe, 5 among lobes, has 20 % or more
ALL_LUNG = ({1, 2}, {1, 2, 3, 4, 5}, {10, 11, 12, 13, 14})  # right and left lung; five lobes; TotalSegmentator's lobes
WHOLE = 1e-3  # a value that is nearer to an integer is one
MAX_LISTED = 8
MAX_LABEL, MAX_LABELS = 255, 150  # of a mask, TotalSegmentator's with 117 organs included; CT has thousands of values


def parse_values(text: str) -> tuple[int, ...]:
    """1,2,3 as integers. Raises ValueError."""
    return tuple(sorted({int(value) for value in text.split(",")}))


def find_labels(place: Path, scans: list[tuple[str, ...]]) -> list[Path | LungError]:
    """The mask of each scan, of which the names are patient, scan and series UID; or why there is none.

    One mask is of one patient. It may be of several scans of that patient only where it says where it lies. Of a folder
    that step 5 wrote, only masks that were accepted in a review.
    """
    if is_predictions(place):
        return find_accepted(place, scans)
    if place.name.startswith(SET_ASIDE) and place.is_dir():
        raise LungError(f"{place}: set aside with masks that were changed; give the one to train on as a file")
    if (place / SLICES).is_file():
        raise LungError(f"{place}: give {place.parent}, which holds the reviews of such masks")
    labels: list[Path | LungError] = []
    owners: dict[Path, list[str]] = {}
    for names in scans:
        try:
            label = find_label(place, names, alone=len(scans) == 1)
            owners.setdefault(label, []).append(names[0])
        except (LungError, OSError) as error:
            label = LungError(str(error))
        labels.append(label)
    for at, label in enumerate(labels):
        patients = owners.get(label, ())
        if len(set(patients)) > 1 or (len(patients) > 1 and _split_ending(label)[1] in ARRAY_ENDINGS):
            labels[at] = LungError(f"{label}: its name fits several scans; name masks after the series UID")
    return labels


def find_label(place: Path, names: tuple[str, ...], alone: bool = False) -> Path:
    """The mask of a scan that goes by any of `names`: patient, scan, and last its series UID.

    place: a folder, or one file, which must be named so, too, unless the scan is `alone`

    Raises LungError that lists what was looked for.
    """
    if place.is_file():
        return _check_file(place, names, alone)
    place = is_dir_path(place)
    for name in _variants(names):
        found = [*_files_by_name(place).get(name, ()), *_lobe_folders(place).get(name, ())]
        if len(found) > 1:
            raise LungError(f"{found[0]} and {found[1].name} are both of this scan; leave one of them there")
        if found:
            return found[0]
    in_dicom = [path for path in index_folder(place).get(names[-1], ()) if not is_of_scan(path.parent)]
    if len(in_dicom) > 1:
        raise LungError(f"{in_dicom[0]} and {in_dicom[1].name} are both of this scan; leave one of them there")
    if in_dicom:
        return in_dicom[0]
    sought = f"{' or '.join(dict.fromkeys(names))} with {', '.join(ENDINGS)}"
    raise LungError(f"no label in {place}: looked for {sought}, and for SEG or RTSTRUCT of its series")


def _check_file(path: Path, names: tuple[str, ...], alone: bool) -> Path:
    series = series_of(path)
    if names[-1] in series or (not series and (alone or _split_ending(path)[0] in _variants(names))):
        return path
    whose = f"it is of series {' and '.join(sorted(series))}" if series else "give a folder with a mask for each scan"
    raise LungError(f"{path}: not the label of {' or '.join(dict.fromkeys(names))}; {whose}")


def _variants(names: tuple[str, ...]) -> list[str]:
    """File names to try, those that mean one scan first: series UID, scan, patient."""
    *others, series = names
    by_uid = DICOM_UID.fullmatch(series)  # that of a volume is its file's name, which may be "ct" for every patient
    tried = []
    for name in (series, *reversed(others)) if by_uid else (*reversed(others), series):
        tried += [name, name.removesuffix(NNUNET_CHANNEL), UNSAFE.sub("_", name)]
    return list(dict.fromkeys(tried))


def _split_ending(path: Path) -> tuple[str, str]:
    """File name without its ending, and the ending in small letters; '' where it is none of ours."""
    for ending in ENDINGS:
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)], ending
    return path.name, ""


@cache
def _files_by_name(folder: Path) -> dict[str, list[Path]]:
    """The mask files below a folder by their names without the ending; of one name, those that lie least deep."""
    found: dict[str, list[Path]] = {}
    files = files_below(folder)
    predicted = {folder for folder in {path.parent for path in files} if is_of_scan(folder)}
    for path in sorted(files, key=lambda path: (len(path.parts), path.is_symlink(), path)):
        name, ending = _split_ending(path)
        if not ending or (path.parent != folder and name.casefold() in CT_NAMES):  # s0001/ct.nii.gz
            continue
        if path.parent in predicted:
            continue
        same = found.setdefault(name, [])
        if not same or (len(path.parts) == len(same[0].parts) and not any(map(path.samefile, same))):
            same.append(path)
    return found


@cache
def _lobe_folders(folder: Path) -> dict[str, list[Path]]:
    """TotalSegmentator's folders of lobes, <name>/segmentations or <name>, by name, and by the way to it from here."""
    found: dict[str, list[Path]] = {}
    for inside in sorted({path.parent for path in files_below(folder) if LOBE_FILE.fullmatch(path.name)} - {folder}):
        scan = inside.parent if inside.name == LOBE_FOLDER else inside
        for name in {scan.name, scan.relative_to(folder).as_posix()}:
            found.setdefault(name, []).append(inside)
    return found


def label_files(label: Path) -> list[Path]:
    """The files that a label is read from."""
    if not label.is_dir():
        return list(volume_files(label))
    if (label / SLICES).is_file():
        return prediction_files(label)
    return [path for path in files_below(label) if LOBE_FILE.fullmatch(path.name) and path.parent == label]


def label_stamps(label: Path, codes: tuple[int, ...]) -> list:
    """What tells, in a fingerprint, whether a label is that of before. Raises OSError."""
    return [str(label.resolve()), file_stamps(label_files(label)), codes]


def read_slices(
    label: Path, scan: Scan, wanted: range, ct_hu: np.ndarray | None, codes: tuple[int, ...] = ()
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The lungs of some slices of a scan from any label: ((len(wanted), H, W) bool, warnings).

    ct_hu: the CT of those slices, with which the label is compared; None: it is taken as it is

    Raises LungError as `read_lung` and `check_is_lung` do.
    """
    lung, warnings = read_lung(label, scan, codes)
    if ct_hu is not None:
        if (label / SLICES).is_file():
            check_ct_of_label(label, scan, wanted, ct_hu)
        warnings += check_is_lung(label, lung, wanted, ct_hu)
    return lung[wanted.start : wanted.stop], warnings


def read_lung(label: Path, scan: Scan, codes: tuple[int, ...] = ()) -> tuple[np.ndarray, tuple[str, ...]]:
    """The lungs of a whole scan from any label: ((Z, H, W) bool, warnings).

    codes: the values that are lung, where the file's own do not tell

    Raises LungError where the label does not lie on the scan or holds no lung. NumPy files do not say where they lie:
    they are taken slice by slice from feet to head, rows to the back, columns to the patient's left.
    """
    if (label / SLICES).is_file():
        lung, warnings = read_prediction(label, scan), ()
    elif label.is_dir():
        lung, warnings = _read_lobes(label, scan), ()
    elif _split_ending(label)[1]:
        lung, warnings = _read_file(label, scan, codes)
    else:
        lung, warnings = read_dicom_label(label, scan)
    if not lung.any():
        raise LungError(f"{label}: no lung in it; is it of this scan, and finished?")
    return lung, warnings


def read_values(path: Path, scan: Scan) -> np.ndarray:
    """The numbers of a mask file on the slices of its scan, (Z, H, W). Raises LungError where it does not lie there."""
    if _split_ending(path)[1] not in ARRAY_ENDINGS:
        values, frame = read_volume(path)
        places = check_place(path, frame, scan.frame)
        return values if np.array_equal(places, np.arange(len(values))) else values[places]
    values = read_npz(path) if path.suffix.lower() == ".npz" else read_npy(path)
    shape = (len(scan), *scan.frame.shape)
    if values.shape != shape:
        raise LungError(f"{path}: shape {values.shape}, but the CT has {shape} (slices, rows, columns)")
    return values


def _read_file(path: Path, scan: Scan, codes: tuple[int, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Of a .seg.nrrd with segments that are called lungs these alone, as of a DICOM SEG; see `choose_lung`."""
    values = read_values(path, scan)
    names = nrrd_names(path) if path.name.lower().endswith(NRRD) and not codes else {}
    lungs = tuple(value for value, name in names.items() if is_lung_name(name))
    lung, warnings = choose_lung(path, values, codes or lungs)
    left_out = [name for value, name in names.items() if lungs and value not in lungs and (values == value).any()]
    return lung, (*warnings, f"not taken as lung in {path.name}: {some_of(left_out)}") if left_out else warnings


def _read_lobes(folder: Path, scan: Scan) -> np.ndarray:
    files = label_files(folder)
    if len(files) != LOBES:
        found = f"{count(len(files), 'file')} lung_*_lobe_*.nii.gz"
        raise LungError(f"{folder}: {found}, but a lung has {LOBES} lobes; segment it again")
    lung = np.zeros((len(scan), *scan.frame.shape), bool)
    for path in files:
        lung |= read_values(path, scan) > 0
    return lung


def are_labels(volume: np.ndarray) -> bool:
    """Whether a volume read as CT (int16) is a mask: a few whole numbers from 0 on."""
    if volume.min() < 0 or volume.max() > MAX_LABEL:
        return False
    return len(np.unique(volume)) <= MAX_LABELS


def choose_lung(path: Path, values: np.ndarray, codes: tuple[int, ...] = ()) -> tuple[np.ndarray, tuple[str, ...]]:
    """What of the values of a mask is lung: (bool of their shape, warnings). Raises LungError where they are no labels.

    `codes` where given; else of LUNA16's codes the lungs without the trachea; of probabilities what is above 0.5; of
    any others all above 0, with a warning where they are neither one value, right and left lung nor lobes.
    """
    if values.dtype.kind not in "biuf":
        raise LungError(f"{path}: holds no numbers ({values.dtype})")
    there = np.unique(values[(values != 0) & ~np.isnan(values)])
    is_whole = bool((np.abs(there - np.rint(there)) < WHOLE).all())
    if len(there) and (there[0] < 0 or (not is_whole and there[-1] > 1)) and not codes:
        raise LungError(f"{path}: values {there[0]:g} to {there[-1]:g} are no labels; save a mask, 1 in the lung")
    if not is_whole and not codes:
        return values > 0.5, ()
    if values.dtype.kind == "f":
        values = np.rint(values)
    present = set(np.rint(there).astype(int).tolist()) - {0}
    if codes:
        if not present & set(codes):
            raise LungError(f"{path}: no value {_listed(codes)}; it holds {_listed(sorted(present))}")
        return np.isin(values, codes), ()
    if _is_luna16(values, present):
        return np.isin(values, LUNA16_LUNGS), ()
    warnings = ()
    if len(present) > 1 and present not in ALL_LUNG:  # of some of the lobes' values 3 may be the airways as well
        listed = _listed(sorted(present))
        warnings = (f"all values of {path.name} are taken as lung: {listed}; --label-values names those that are",)
    return values > 0, warnings


def _is_luna16(values: np.ndarray, present: set[int]) -> bool:
    """Whether these are LUNA16's codes; a right lung's three lobes have the same ones, but no lobe is so small."""
    if not present <= {*LUNA16_LUNGS, LUNA16_TRACHEA} or not present & set(LUNA16_LUNGS):
        return False
    return np.count_nonzero(values == LUNA16_TRACHEA) <= MAX_TRACHEA_SHARE * np.count_nonzero(values)


def _listed(values: Iterable[float]) -> str:
    """1, 2, 3 and 4 more."""
    values = list(values)
    more = f" and {len(values) - MAX_LISTED} more" if len(values) > MAX_LISTED else ""
    return ", ".join(f"{value:g}" for value in values[:MAX_LISTED]) + more


def read_npz(path: Path) -> np.ndarray:
    """The array `lung` of an .npz, or its only array. Raises LungError."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(part.file_size for part in archive.infolist()) > MAX_BYTES:
                raise LungError(f"{path}: more than {MAX_BYTES / 1e9:.0f} GB when unpacked; that is no lung mask")
        with np.load(path, allow_pickle=False) as arrays:
            names = arrays.files
            if "lung" not in names and len(names) != 1:
                raise LungError(f"{path}: no array named lung; it holds {', '.join(names)}")
            mask = arrays["lung" if "lung" in names else names[0]]
        if not isinstance(mask, np.ndarray):
            raise LungError(f"{path}: holds no array")
        return mask
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise LungError(f"{path}: no readable .npz file ({error})") from error
