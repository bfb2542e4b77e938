"""Lung masks made elsewhere: NIfTI, NumPy or MetaImage files named by patient, scan or series UID; or DICOM."""

import zipfile
from pathlib import Path

import numpy as np

from lungct import LungError
from lungct.files import read_npy
from lungct.masks.read_dicom import index_folder, read_dicom_label
from lungct.scans.geometry import MAX_VOXELS, Scan
from lungct.scans.nifti import read_volume

ENDINGS = (".nii.gz", ".nii", ".npz", ".npy", ".mhd")
MAX_BYTES = MAX_VOXELS  # unpacked
LUNA16_LUNGS, LUNA16_TRACHEA = (3, 4), 5  # codes of LUNA16's seg-lungs-LUNA16


def find_label(folder: Path, names: tuple[str, ...]) -> Path:
    """The mask file of a scan that goes by any of `names`, the last of which is its series UID.

    Raises LungError that lists what was looked for.
    """
    for name in names:
        for ending in ENDINGS:
            if (folder / f"{name}{ending}").is_file():
                return folder / f"{name}{ending}"
    in_dicom = index_folder(folder).get(names[-1], ())
    if len(in_dicom) > 1:
        raise LungError(f"{in_dicom[0]} and {in_dicom[1].name} are both of this scan; leave one of them there")
    if in_dicom:
        return in_dicom[0]
    sought = f"{' or '.join(dict.fromkeys(names))} with {', '.join(ENDINGS)}"
    raise LungError(f"no label in {folder}: looked for {sought}, and for SEG or RTSTRUCT of its series")


def read_lung(path: Path, scan: Scan) -> np.ndarray:
    """The lungs of a whole scan from any label file, (Z, H, W) bool. Raises LungError where they do not fit it."""
    if path.suffix == ".dcm":
        return read_dicom_label(path, scan)
    return read_label(path, (len(scan), *scan.frame.shape))


def read_label(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """A mask of the whole scan: (Z, H, W) bool in ascending z. Raises LungError where the shape is not the scan's.

    Any value above 0 is lung, but for LUNA16's codes, where the trachea (5) is not.
    """
    if path.suffix == ".npz":
        mask = read_npz(path)
    elif path.suffix == ".npy":
        mask = read_npy(path)
    else:
        mask = read_volume(path)[0]
    if mask.shape != shape:
        raise LungError(f"{path}: shape {mask.shape}, but the CT has {shape} (slices, rows, columns)")
    if LUNA16_TRACHEA in mask and any(code in mask for code in LUNA16_LUNGS):
        return np.isin(mask, LUNA16_LUNGS)
    return mask > 0


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
