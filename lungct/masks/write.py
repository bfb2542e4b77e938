"""Predicted masks on disk: the formats, each with what makes its file, and the masks that other files are made from.

Z slices, H rows, W columns.
"""

import hashlib
import io
import math
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lungct import LungError
from lungct.files import NPY_ERRORS
from lungct.masks import segments
from lungct.masks.volume import write_or_flag
from lungct.masks.write_nifti import nifti_bytes, nifti_flags
from lungct.masks.write_nrrd import nrrd_bytes, nrrd_flags
from lungct.scans.dicom import DicomScan
from lungct.scans.geometry import Frame

if TYPE_CHECKING:
    from lungct.masks.source import DicomMask

KEPT = "view/mask.npz"  # in a scan's folder of results: the mask from which other formats and pictures are made later
NIFTI, SIDES, NRRD = ".nii.gz", "_sides.nii.gz", ".seg.nrrd"
DAMAGED = (*NPY_ERRORS, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class LungMask:
    """A predicted mask, and what its file must say of it.

    lung:    (Z, H, W) bool, in LPS
    frame:   where its slices lie
    dicom:   gives the scan that it was predicted on, or raises LungError where its DICOM files are not there
    weights: their SHA-256
    unsure_cm2: (Z,), where the network was unsure of each slice, as `Segmentation` of lungct/predict.py has it
    """

    lung: np.ndarray
    frame: Frame
    dicom: Callable[[], DicomScan]
    weights: str
    unsure_cm2: np.ndarray

    @cached_property
    def sides(self) -> np.ndarray:
        """The right lung as 1, the left as 2: (Z, H, W) uint8."""
        from lungct.segmentation.left_right import split_left_right  # SciPy, a fifth of a second to import

        return split_left_right(self.lung, self.frame.spacing_mm, self.frame.middle.column)

    def on_dicom(self, anonymous: bool) -> "DicomMask":
        """Both lungs on the slices of the DICOM files. Raises LungError where these are not there."""
        from lungct.masks.source import DicomMask  # pydicom, another fifth

        return DicomMask(self.sides, self.dicom(), self.weights, segments.SIDES, anonymous)


@dataclass(frozen=True)
class MaskFormat:
    """The end of its file's name, and what makes the file: its bytes, None where it cannot hold the mask, and flags.

    The flags begin with `no <ending>:` where it cannot, and name the ending where they say anything else of the file.
    """

    ending: str
    encode: Callable[[LungMask], tuple[bytes | None, list[str]]]


def encode_nifti(mask: LungMask) -> tuple[bytes | None, list[str]]:
    """1 is lung."""
    return write_or_flag(nifti_bytes, nifti_flags, NIFTI, mask.lung, mask.frame, segments.WHOLE)


def encode_sides(mask: LungMask) -> tuple[bytes | None, list[str]]:
    """1 is the right lung, 2 the left."""
    return write_or_flag(nifti_bytes, nifti_flags, SIDES, mask.sides, mask.frame, segments.SIDES)


def encode_nrrd(mask: LungMask) -> tuple[bytes | None, list[str]]:
    """Both lungs as segments of 3D Slicer, with names and colours."""
    return write_or_flag(nrrd_bytes, nrrd_flags, NRRD, mask.sides, mask.frame, segments.SIDES)


def encode_dicom_seg(mask: LungMask, anonymous: bool = False) -> tuple[bytes | None, list[str]]:
    """A DICOM segmentation that refers to the slices of its scan. Raises LungError where these are not there."""
    on_scan = mask.on_dicom(anonymous)
    from lungct.masks.write_dicom import seg_bytes  # a second to import; few ask for it

    return seg_bytes(on_scan), []


def encode_rtstruct(mask: LungMask, anonymous: bool = False) -> tuple[bytes | None, list[str]]:
    """A structure set that refers to the slices of its scan. Raises LungError where these are not there."""
    on_scan = mask.on_dicom(anonymous)
    from lungct.masks.write_rtstruct import rtstruct_bytes

    return rtstruct_bytes(on_scan), []


NPY = "npy"  # a file for each slice; all others: one for the scan
FORMATS = {
    "nifti": MaskFormat(NIFTI, encode_nifti),
    "sides": MaskFormat(SIDES, encode_sides),
    "nrrd": MaskFormat(NRRD, encode_nrrd),
    "dicom-seg": MaskFormat(".seg.dcm", encode_dicom_seg),
    "rtstruct": MaskFormat(".rtstruct.dcm", encode_rtstruct),
    "dicom-seg-anonymous": MaskFormat("_anonymous.seg.dcm", partial(encode_dicom_seg, anonymous=True)),
    "rtstruct-anonymous": MaskFormat("_anonymous.rtstruct.dcm", partial(encode_rtstruct, anonymous=True)),
}
ANONYMOUS = {"dicom-seg": "dicom-seg-anonymous", "rtstruct": "rtstruct-anonymous"}  # what --anonymous writes instead
DICOM_FORMATS = frozenset({*ANONYMOUS, *ANONYMOUS.values()})  # formats that refer to the scan's own files


def kind_of(path: Path) -> str:
    """The one of FORMATS that a file's name says; a .nii is a .nii.gz that is not compressed. Raises LungError."""
    name = path.name.lower()
    name += ".gz" if name.endswith(".nii") else ""
    kinds = [kind for kind, made in FORMATS.items() if name.endswith(made.ending)]
    if not kinds:
        endings = ", ".join(["*.nii", *(f"*{made.ending}" for made in FORMATS.values())])
        raise LungError(f"{path}: its ending is of no format that masks are written in; give one of {endings}")
    return max(kinds, key=lambda kind: len(FORMATS[kind].ending))


def encode_masks(
    mask: LungMask, kinds: Iterable[str], name: str
) -> tuple[dict[str, bytes], list[str], tuple[str, ...]]:
    """A scan's files in some of FORMATS: (files by name, flags, the formats that failed).

    name: of the scan, which the files' names begin with

    A format that cannot hold the mask has not failed: it says so in a flag, and would say the same again.
    """
    files, flags, failed = {}, [], []
    for kind in kinds:
        try:
            content, more = FORMATS[kind].encode(mask)
        except LungError as error:
            content, more = None, [f"no {FORMATS[kind].ending}: {error}".replace("; ", ", ")]  # semicolons part flags
            failed.append(kind)
        flags += more
        if content is not None:
            files[f"{name}{FORMATS[kind].ending}"] = content
    return files, flags, tuple(failed)


def keep_bytes(lung: np.ndarray, unsure_cm2: np.ndarray, ct_hu: np.ndarray) -> bytes:
    """A mask (Z, H, W) bool as the bytes of the file that other formats are made from later: a bit for each voxel.

    unsure_cm2: (Z,), as the prediction gave it, from which flags are made again
    ct_hu:      (Z, H, W) int16, what the mask is of; it is not kept, but known again by `kept_ct`
    """
    packed, buffer = np.packbits(lung), io.BytesIO()
    about = {"checksum": mask_checksum(lung), "unsure_cm2": unsure_cm2.astype(np.float32)}
    about["ct"] = np.array(slice_checksums(ct_hu), np.uint32)
    np.savez_compressed(buffer, **about, shape=np.array(lung.shape), packed=packed)
    return buffer.getvalue()


def kept_checksum(path: Path) -> str:
    """The checksum of the mask that `keep_bytes` made; empty where there is none, or a damaged one."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return str(arrays["checksum"])
    except DAMAGED:
        return ""


def kept_ct(path: Path) -> list[int]:
    """The checksum of each CT slice that the kept mask is of; empty where none is kept, or by an earlier version."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["ct"].tolist()
    except DAMAGED:
        return []


def slice_checksums(ct_hu: np.ndarray) -> list[int]:
    """A number for each slice of a CT (Z, H, W) int16 that tells whether its shape and HU are the same."""
    return [zlib.crc32(np.ascontiguousarray(image), zlib.crc32(str(image.shape).encode())) for image in ct_hu]


def read_kept(path: Path, checksum: str) -> tuple[np.ndarray, np.ndarray] | None:
    """What `keep_bytes` took: (lung, unsure_cm2); None where it is not there, damaged, or of another checksum."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            shape, packed, unsure_cm2 = tuple(arrays["shape"].tolist()), arrays["packed"], arrays["unsure_cm2"]
        lung = np.unpackbits(packed, count=math.prod(shape)).reshape(shape).view(bool)
    except DAMAGED:
        return None
    return (lung, unsure_cm2) if mask_checksum(lung) == checksum else None


def mask_checksum(lung: np.ndarray) -> str:
    """Sixteen hexadecimal digits that tell whether a mask is the same."""
    return hashlib.sha256(str(lung.shape).encode() + np.packbits(lung).tobytes()).hexdigest()[:16]
