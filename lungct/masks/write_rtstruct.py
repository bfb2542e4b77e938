"""Predicted lungs as a DICOM RTSTRUCT: contours on the slices of the scan, for radiotherapy planning.

Z slices, H rows, W columns.
"""

import io
from datetime import datetime

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from lungct import LungError, __version__
from lungct.masks.outlines import outline
from lungct.masks.segments import LUNG, Code, Segment
from lungct.masks.source import ALGORITHM, MAKER, DicomMask, copy_identity, read_sources
from lungct.scans.geometry import Frame
from lungct.scans.headers import DECODE_ERRORS, first_line

SERIES_NUMBER = 901
STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # what a referenced study is called; the standard retired the class itself


def rtstruct_bytes(mask: DicomMask) -> bytes:
    """The outlines of a mask as the bytes of a DICOM RTSTRUCT file.

    Raises LungError where the slices lack what a structure set must name.
    """
    scan = mask.scan
    try:
        sources = read_sources(scan, mask.anonymous)
        frames = scan.frames or [None] * len(scan)
        images = [reference(source, frame) for source, frame in zip(sources, frames, strict=True)]
        structures = describe_set(sources[0], images)
        structures.SeriesInstanceUID = mask.derive_uid("RTSTRUCT series")
        structures.SOPInstanceUID = mask.derive_uid("RTSTRUCT")
        for segment in mask.segments:
            drawn = contours(mask.labels == segment.value, scan.frame, images)
            add_structure(structures, segment, mask.weights, drawn)
        return file_bytes(structures)
    except DECODE_ERRORS as error:
        raise LungError(f"{scan.files[0].parent}: no structure set can refer to it ({first_line(error)})") from error


def reference(source: Dataset, frame: int | None) -> Dataset:
    """The slice that a contour lies on."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    if frame is not None:
        item.ReferencedFrameNumber = frame + 1
    return item


def describe_set(source: Dataset, images: list[Dataset]) -> Dataset:
    """A structure set without structures: whose it is, what made it, which slices it refers to."""
    now = datetime.now()
    structures = copy_identity(source)
    structures.SOPClassUID, structures.Modality = RTStructureSetStorage, "RTSTRUCT"
    structures.SeriesNumber, structures.SeriesDescription, structures.OperatorsName = SERIES_NUMBER, "Lungs", ""
    structures.Manufacturer, structures.ManufacturerModelName = MAKER, ALGORITHM
    structures.SoftwareVersions, structures.InstanceNumber = __version__, 1
    structures.StructureSetLabel, structures.ApprovalStatus = "Lungs", "UNAPPROVED"
    structures.StructureSetDate = structures.SeriesDate = structures.InstanceCreationDate = now.strftime("%Y%m%d")
    structures.StructureSetTime = structures.SeriesTime = structures.InstanceCreationTime = now.strftime("%H%M%S")
    structures.FrameOfReferenceUID, structures.PositionReferenceIndicator = source.FrameOfReferenceUID, ""
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID, series.ContourImageSequence = source.SeriesInstanceUID, images
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = STUDY_CLASS, source.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = source.FrameOfReferenceUID, [study]
    structures.ReferencedFrameOfReferenceSequence = [frame]
    structures.StructureSetROISequence, structures.ROIContourSequence = [], []
    structures.RTROIObservationsSequence = []
    return structures


def add_structure(structures: Dataset, segment: Segment, weights: str, drawn: list[Dataset]) -> None:
    """One lung in the three sequences over which DICOM spreads a structure."""
    roi, shape, observation = Dataset(), Dataset(), Dataset()
    roi.ROINumber, roi.ROIName = segment.value, segment.roi_name
    roi.ReferencedFrameOfReferenceUID = structures.FrameOfReferenceUID
    roi.ROIGenerationAlgorithm = "AUTOMATIC"
    roi.ROIGenerationDescription = f"{ALGORITHM} {__version__}, weights {weights[:12]}"
    structures.StructureSetROISequence.append(roi)
    shape.ReferencedROINumber, shape.ROIDisplayColor = segment.value, list(segment.rgb)
    if drawn:
        shape.ContourSequence = drawn
    structures.ROIContourSequence.append(shape)
    observation.ObservationNumber = observation.ReferencedROINumber = segment.value
    observation.RTROIInterpretedType, observation.ROIInterpreter = "ORGAN", ""
    kind = coded(LUNG)
    if segment.side is not None:
        kind.SegmentedPropertyTypeModifierCodeSequence = [coded(segment.side)]
    observation.RTROIIdentificationCodeSequence = [kind]
    structures.RTROIObservationsSequence.append(observation)


def coded(code: Code) -> Dataset:
    """A code as DICOM writes it."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def contours(mask: np.ndarray, frame: Frame, images: list[Dataset]) -> list[Dataset]:
    """The outlines of a mask (Z, H, W) bool in each of its slices, in millimetres."""
    drawn = []
    for z in np.flatnonzero(mask.any((1, 2))):
        for points in outline(mask[z]):
            rows_mm, cols_mm = points.T[:, :, None] * np.reshape(frame.spacing_mm[1:], (2, 1, 1))
            places_mm = frame.corners_mm[z] + rows_mm * frame.axes[1] + cols_mm * frame.axes[0]
            item = Dataset()
            item.ContourImageSequence = [images[z]]
            item.ContourGeometricType, item.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            item.ContourData = [f"{mm:.3f}" for mm in places_mm.ravel()]
            drawn.append(item)
    return drawn


def file_bytes(structures: Dataset) -> bytes:
    """The bytes of a DICOM file. Implicit, as only there a contour may take more than 64 KiB."""
    structures.file_meta = FileMetaDataset()
    structures.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    structures.file_meta.MediaStorageSOPClassUID = structures.SOPClassUID
    structures.file_meta.MediaStorageSOPInstanceUID = structures.SOPInstanceUID
    buffer = io.BytesIO()
    structures.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
