"""Damaged input for the readers: each function damages a good file and reads it; only a LungError may come out.

The tests run a few hundred of them, `make soak` thousands.
"""

import contextlib
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from conftest import make_row
from corpus import phantom, write

from lungct import LungError
from lungct.files import read_npy
from lungct.scans.dicom import find_series, open_series
from lungct.scans.nifti import open_nifti
from lungct.settings import TABLE, load, write_conf
from lungct.slices import read_manifest, write_manifest

TAGS = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"),
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel", "NumberOfFrames"),
    *("InstanceNumber", "SeriesInstanceUID", "PatientID", "Modality", "ImageType", "SliceThickness"),
    *("PhotometricInterpretation", "PlanarConfiguration", "HighBit"),
)
VALUES = ("", "abc", "-1", "0", "1e308", "nan", "inf", "1\\2", "1\\2\\3", "0\\0\\0\\0\\0\\0", "9" * 20, "é\0x", "65535")


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip, drop, repeat or cut a few bytes."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        at = int(rng.integers(max(1, len(data))))
        match rng.integers(4):
            case 0:
                data[at : at + 1] = bytes([rng.integers(256)])
            case 1:
                del data[at : at + int(rng.integers(1, 40))]
            case 2:
                data[at:at] = data[at : at + int(rng.integers(1, 40))]
            case 3:
                data[at : at + 4] = rng.bytes(4)
    return bytes(data[: rng.integers(len(data) + 1)]) if rng.random() < 0.1 else bytes(data)


def read_dicom(folder: Path) -> None:
    for files in find_series(folder, unreadable=[]).values():
        open_series(files).read()


def dicom_bytes(folder: Path, rng: np.random.Generator) -> None:
    """A slice with damaged bytes, most of them in its header."""
    files = write(folder, phantom()[0][6:9])
    content = files[1].read_bytes()
    head = len(content) - 2 * phantom()[0][0].size if rng.random() < 0.8 else len(content)
    files[1].write_bytes(damage(content[:head], rng) + content[head:])
    read_dicom(folder)


def dicom_values(folder: Path, rng: np.random.Generator) -> None:
    """A slice with a few impossible values in its header."""
    path = write(folder, phantom()[0][6:9])[1]
    dataset = pydicom.dcmread(path)
    for tag in rng.choice(TAGS, 2):
        with contextlib.suppress(ValueError, TypeError, OverflowError, AttributeError):
            value = VALUES[rng.integers(len(VALUES))]
            is_number = tag in ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "HighBit")
            setattr(dataset, tag, int(rng.integers(65536)) if is_number else value)
    try:
        dataset.save_as(path)
    except Exception:  # pydicom will not write it: not our reader's case
        return
    read_dicom(folder)


def nifti(folder: Path, rng: np.random.Generator) -> None:
    path = folder / "a.nii"
    nibabel.save(nibabel.Nifti1Image(phantom()[0][6:9].T, np.diag([-2, -2, 20, 1])), path)
    content = path.read_bytes()
    path.write_bytes(damage(content[:352], rng) + content[352:])
    open_nifti(path).read()


def npy(folder: Path, rng: np.random.Generator) -> None:
    path = folder / "a.npy"
    np.save(path, phantom()[0][8])
    content = path.read_bytes()
    path.write_bytes(damage(content[:128], rng) + content[128:])
    read_npy(path)


def conf(folder: Path, rng: np.random.Generator) -> None:
    path = folder / "lung.conf"
    write_conf(path, {setting.attribute: setting.default for setting in TABLE})
    path.write_bytes(damage(path.read_bytes(), rng))
    load(path)


def manifest(folder: Path, rng: np.random.Generator) -> None:
    path = folder / "manifest.csv"
    write_manifest(path, [make_row("A", z) for z in range(4)])
    path.write_bytes(damage(path.read_bytes(), rng))
    read_manifest(path)


READERS = {f.__name__: f for f in (dicom_bytes, dicom_values, nifti, npy, conf, manifest)}


def survives(name: str, folder: Path, seed: int) -> bool:
    """Whether the damaged file of this seed was read; False where it was refused. Any other error comes out."""
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom and nibabel warn of what they mend
        try:
            READERS[name](folder, np.random.default_rng(seed))
        except LungError:
            return False
    return True
