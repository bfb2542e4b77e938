"""Predicted lungs as a DICOM segmentation that refers to the slices of its scan.

Z slices, H rows, W columns.
"""

import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationTypeValues,
    SegmentDescription,
)
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from lungct import LungError
from lungct.masks.check import lies_on
from lungct.scans.dicom import DicomScan, find_parts, find_series, open_part
from lungct.scans.geometry import Frame, from_lps
from lungct.scans.headers import DECODE_ERRORS, first_line
from lungct.scans.series import Slices
from lungct.segmentation.left_right import LEFT, RIGHT

LUNGS = (  # label, segment, SNOMED CT
    (RIGHT, "Right lung", CodedConcept("3341006", "SCT", "Right lung")),
    (LEFT, "Left lung", CodedConcept("44029006", "SCT", "Left lung")),
)
EMPTY = ("PatientName", "PatientBirthDate", "PatientSex", "ReferringPhysicianName", "AccessionNumber", "StudyID")
OPTIONAL = ("StudyDate", "StudyTime")
MAKER = "lung segmentation scripts"
SERIES_NUMBER = 900


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
        raise LungError(f"{folder} holds no series {series_uid}; say with --dicom where the scans lie")
    if len(found) > 1:
        raise LungError(f"{folder}: series {series_uid} is of {len(found)} patients or studies; give one with --dicom")
    scans = [scan for scan in open_parts(found[0]) if lies_on(frame, scan.frame)]
    if len(scans) != 1:
        raise LungError(
            f"{folder}: {len(scans)} scans of series {series_uid} have the slices of this prediction; a segmentation "
            "can only refer to the slices of one"
        )
    return scans[0]


def encode(sides: np.ndarray, scan: DicomScan, weights: str) -> bytes:
    """Labels (Z, H, W) of `split_sides`, on the slices of their scan, as the bytes of a DICOM file.

    No name or birth date is taken over. Raises LungError where the slices are not those of the scan or lack what a
    segmentation must name.
    """
    if sides.shape != (len(scan), *scan.frame.shape):
        raise LungError(
            f"{scan.files[0].parent}: {len(scan)} slices of {scan.frame.shape}, but the masks are {sides.shape}"
        )
    try:
        sources = [read_source(path) for path in scan.files]
        pixels = np.stack(
            [from_lps(image, source.ImageOrientationPatient) for image, source in zip(sides, sources, strict=True)]
        )
        seg = Segmentation(
            source_images=sources,
            pixel_array=pixels,
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=[describe(number, name, code, weights) for number, name, code in LUNGS],
            series_instance_uid=generate_uid(entropy_srcs=[scan.series_uid, weights]),
            series_number=SERIES_NUMBER,
            sop_instance_uid=generate_uid(entropy_srcs=[scan.series_uid, weights, "1"]),
            instance_number=1,
            manufacturer=MAKER,
            manufacturer_model_name="U-Net",
            software_versions=weights,
            device_serial_number="1",
            series_description="Lungs",
        )
    except DECODE_ERRORS as error:
        raise LungError(f"{scan.files[0].parent}: no segmentation can refer to it ({first_line(error)})") from error
    buffer = io.BytesIO()
    seg.save_as(buffer)
    return buffer.getvalue()


def read_source(path: Path) -> pydicom.Dataset:
    """The header of a slice, without what says who the patient is beyond the ID."""
    source = pydicom.dcmread(path, stop_before_pixels=True)
    for name in EMPTY:
        setattr(source, name, "")
    for name in OPTIONAL:
        source.setdefault(name, "")
    if "FrameOfReferenceUID" not in source:
        source.FrameOfReferenceUID = generate_uid(entropy_srcs=[str(source.SeriesInstanceUID), "frame"])
    return source


def describe(number: int, name: str, code: CodedConcept, weights: str) -> SegmentDescription:
    """What one lung is, and what found it."""
    algorithm = AlgorithmIdentificationSequence(MAKER, codes.DCM.ArtificialIntelligence, weights)
    return SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=codes.SCT.Organ,
        segmented_property_type=code,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
    )
