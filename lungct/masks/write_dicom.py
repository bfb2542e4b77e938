"""Predicted lungs as a DICOM segmentation that refers to the slices of its scan.

Z slices, H rows, W columns.
"""

import io

import numpy as np
import pydicom
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationTypeValues,
    SegmentDescription,
)
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes

from lungct import LungError, __version__
from lungct.masks.segments import CATEGORY, LUNG, Segment
from lungct.masks.source import ALGORITHM, MAKER, DicomMask, read_sources
from lungct.scans.dicom import DicomScan
from lungct.scans.geometry import from_lps
from lungct.scans.headers import DECODE_ERRORS, first_line
from lungct.scans.multiframe import frame_headers

SERIES_NUMBER = 900


def seg_bytes(mask: DicomMask) -> bytes:
    """The bytes of a DICOM SEG file. Raises LungError where the slices lack what a segmentation must name."""
    scan = mask.scan
    try:
        sources = read_sources(scan, mask.anonymous)
        seg = Segmentation(
            source_images=sources[:1] if scan.frames else sources,
            pixel_array=as_stored(mask.labels.astype(np.uint8), scan, sources),
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=[describe(segment, mask.weights) for segment in mask.segments],
            series_instance_uid=mask.derive_uid("SEG series"),
            series_number=SERIES_NUMBER,
            sop_instance_uid=mask.derive_uid("SEG"),
            instance_number=1,
            manufacturer=MAKER,
            manufacturer_model_name=ALGORITHM,
            software_versions=__version__,
            device_serial_number=mask.weights[:12],
            series_description="Lungs",
        )
        seg.SeriesDate, seg.SeriesTime = seg.ContentDate, seg.ContentTime
        buffer = io.BytesIO()
        seg.save_as(buffer)
    except DECODE_ERRORS as error:
        raise LungError(f"{scan.files[0].parent}: no segmentation can refer to it ({first_line(error)})") from error
    return buffer.getvalue()


def as_stored(labels: np.ndarray, scan: DicomScan, sources: list[pydicom.Dataset]) -> np.ndarray:
    """A mask (Z, H, W) as the files have their slices; of a file of many all frames, those that are no slice empty."""
    if not scan.frames:
        turned = zip(labels, (source.ImageOrientationPatient for source in sources), strict=True)
        return np.stack([from_lps(image, orientation) for image, orientation in turned])
    headers = frame_headers(sources[0])
    stored = np.zeros((len(headers), sources[0].Rows, sources[0].Columns), np.uint8)
    for image, frame in zip(labels, scan.frames, strict=True):
        stored[frame] = from_lps(image, headers[frame].numbers("ImageOrientationPatient"))
    return stored


def describe(segment: Segment, weights: str) -> SegmentDescription:
    """What a segment is, how it is drawn, and what found it."""
    algorithm = AlgorithmIdentificationSequence(
        ALGORITHM,
        codes.DCM.ArtificialIntelligence,
        __version__,
        source=MAKER,
        parameters={"weights_sha256": weights},
    )
    kind = CodedConcept.from_code(LUNG)
    if segment.side is not None:
        kind.SegmentedPropertyTypeModifierCodeSequence = [CodedConcept.from_code(segment.side)]
    described = SegmentDescription(
        segment_number=segment.value,
        segment_label=segment.name,
        segmented_property_category=CodedConcept.from_code(CATEGORY),
        segmented_property_type=kind,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
    )
    described.RecommendedDisplayCIELabValue = list(CIELabColor.from_rgb(*segment.rgb).value)
    return described
