"""The DICOM files that a mask was made from: which they are, whose, and what a SEG or RTSTRUCT takes over from them.

Z slices, H rows, W columns.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import generate_uid
from pydicom.valuerep import DA, TM

from lungct import LungError, __version__
from lungct.masks.check import lies_on
from lungct.masks.segments import WHOLE, Segment, check_values
from lungct.parallel import count
from lungct.scans.dicom import DicomScan, find_parts, find_series, open_part
from lungct.scans.geometry import Frame
from lungct.scans.headers import read_dataset
from lungct.scans.series import Slices

MAKER, ALGORITHM = "lung segmentation scripts", "Lung U-Net"
TECHNICAL = (  # which says nothing of the patient but the ID
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID"),
    *("Modality", "InstanceNumber", "Rows", "Columns", "ImageOrientationPatient", "ImagePositionPatient"),
    *("PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "PositionReferenceIndicator", "NumberOfFrames"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "DimensionIndexSequence"),
    *("DimensionOrganizationSequence", "LossyImageCompression", "LossyImageCompressionRatio"),
    "LossyImageCompressionMethod",
)
REQUIRED = (  # in every DICOM object, empty where the scan does not say or must not
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
OPTIONAL = ("IssuerOfPatientID", "StudyDescription", "PatientIdentityRemoved", "DeidentificationMethod")
SEXES = ("M", "F", "O")
UTF8 = "ISO_IR 192"
SAY_WHERE = "give the folder of its files: python model_test.py --dicom DIR"


@dataclass(frozen=True)
class DicomMask:
    """A mask on the slices of its scan, as a SEG or an RTSTRUCT holds it.

    labels:    (Z, H, W) bool or uint8
    weights:   their checksum, SHA-256
    segments:  what the values of the mask are; SIDES for those of `split_left_right`
    anonymous: leave out who the patient is but for the ID, and the date and accession number of the study; otherwise
               they are taken over, so that an archive files it with the scan

    Raises LungError where the mask does not have the slices of the scan, or values without a name.
    """

    labels: np.ndarray
    scan: DicomScan
    weights: str
    segments: tuple[Segment, ...] = WHOLE
    anonymous: bool = False

    def __post_init__(self) -> None:
        shape = (len(self.scan), *self.scan.frame.shape)
        if self.labels.shape != shape:
            folder = self.scan.files[0].parent
            raise LungError(
                f"{folder}: {count(shape[0], 'slice')} of {shape[1:]}, but the masks are {self.labels.shape}"
            )
        check_values(self.labels, self.segments)

    def derive_uid(self, kind: str) -> str:
        """The UID of an object of some kind: the same again for the same mask of the same scan by the same version."""
        made_from = hashlib.sha256(np.ascontiguousarray(self.labels))
        made_from.update(self.scan.frame.corners_mm.tobytes())  # a series may hold several scans
        parts = (self.scan.series_uid, made_from.hexdigest(), __version__, self.weights, str(self.anonymous), kind)
        return str(generate_uid(entropy_srcs=list(parts)))


@cache
def series_below(folder: Path) -> dict:
    """The CT series below a folder, looked at once; what cannot be read is no series."""
    return find_series(folder, unreadable=[])


def open_parts(files: Slices) -> Iterator[DicomScan]:
    """The scans of a series: its grids, phases and acquisitions, of which one was predicted."""
    for part in find_parts(files):
        try:
            yield open_part(part)
        except LungError:  # a scout or reformat beside them
            continue


def find_scan(folder: Path, series_uid: str, frame: Frame) -> DicomScan:
    """The files of a predicted scan, whose slices lie in `frame`. Raises LungError where they are not below."""
    found = [files for key, files in series_below(folder).items() if key.series_uid == series_uid]
    if not found:
        raise LungError(f"{folder} holds no series {series_uid} any more; {SAY_WHERE}")
    if len(found) > 1:
        raise LungError(f"{folder}: series {series_uid} is of {len(found)} patients or studies; {SAY_WHERE}")
    scans = [scan for scan in open_parts(found[0]) if lies_on(frame, scan.frame)]
    if len(scans) != 1:
        raise LungError(
            f"{folder}: {len(scans)} scans of series {series_uid} have the slices of this prediction; a segmentation "
            f"can only refer to the slices of one; {SAY_WHERE}"
        )
    return scans[0]


def read_sources(scan: DicomScan, anonymous: bool) -> list[pydicom.Dataset]:
    """The header of each slice's file, the same one where a file holds them all. Raises DECODE_ERRORS.

    The first says whose scan it is, if `anonymous` by the patient ID and the study UID alone.
    """
    first, *others = dict.fromkeys(scan.files)
    headers = {path: read_source(path, technical_only=True) for path in others}
    headers[first] = read_source(first, technical_only=anonymous)
    for header in headers.values():  # LIDC-IDRI gives each slice a frame of its own; their places say that it is one
        header.FrameOfReferenceUID = headers[first].FrameOfReferenceUID
    return [headers[path] for path in scan.files]


def read_source(path: Path, technical_only: bool) -> pydicom.Dataset:
    """The header of a file with what DICOM requires of every object, and in UTF-8 where its names are not ASCII."""
    tags = {"specific_tags": list(TECHNICAL)} if technical_only else {}
    source = read_dataset(path, stop_before_pixels=True, **tags)
    if "SpecificCharacterSet" in source:
        source.decode()
        source.SpecificCharacterSet = UTF8
    for name in REQUIRED:
        source.setdefault(name, "")
    drop_invalid(source)
    if "FrameOfReferenceUID" not in source:
        source.FrameOfReferenceUID = generate_uid(entropy_srcs=[str(source.SeriesInstanceUID), "frame"])
    return source


def drop_invalid(source: pydicom.Dataset) -> None:
    """Empty the dates, times and sex that a PACS would refuse the whole file for."""
    for name, kind in (("PatientBirthDate", DA), ("StudyDate", DA), ("StudyTime", TM)):
        try:
            kind(source[name].value)
        except ValueError:
            source[name].value = ""
    if source.PatientSex not in SEXES:
        source.PatientSex = ""


def copy_identity(source: pydicom.Dataset) -> pydicom.Dataset:
    """A new object of the patient and the study of a header of `read_sources`."""
    copied = pydicom.Dataset()
    for name in ("SpecificCharacterSet", "StudyInstanceUID", *REQUIRED, *OPTIONAL):
        if name in source:
            copied[name] = source[name]
    return copied
