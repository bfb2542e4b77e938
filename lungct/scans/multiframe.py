"""Enhanced CT: one DICOM file that holds many slices, each with its place in the functional groups.

Every frame becomes a slice with a header of its own, so that it is sorted and checked as any other slice.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from lungct.scans.headers import KEYWORDS, Header, as_text, padding_of, read_dataset

ENHANCED = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
FRAME = "FrameNumber"  # the header's value that says which frame of its file a slice is, from 0
GROUPS = {  # functional group, and which of its values stands for which tag of a plain slice
    "PlanePositionSequence": {"ImagePositionPatient": "ImagePositionPatient"},
    "PlaneOrientationSequence": {"ImageOrientationPatient": "ImageOrientationPatient"},
    "PixelMeasuresSequence": {"PixelSpacing": "PixelSpacing", "SliceThickness": "SliceThickness"},
    "PixelValueTransformationSequence": {"RescaleSlope": "RescaleSlope", "RescaleIntercept": "RescaleIntercept"},
    "CTImageFrameTypeSequence": {"FrameType": "ImageType"},
    "CTReconstructionSequence": {"ConvolutionKernel": "ConvolutionKernel"},
    "FrameContentSequence": {
        "FrameAcquisitionNumber": "AcquisitionNumber",
        "TemporalPositionIndex": "TemporalPositionIdentifier",
    },
}


def is_enhanced(header: Header) -> bool:
    """Whether the file of a header keeps what is said of a slice in functional groups."""
    return header.text("SOPClassUID") in ENHANCED


def frame_headers(dataset: pydicom.Dataset) -> list[Header]:
    """A header for each frame, as a plain slice has it; none where the file lacks the groups.

    Raises DECODE_ERRORS where they are damaged.
    """
    whole = {keyword: as_text(dataset, keyword) for keyword in KEYWORDS if keyword in dataset}
    whole["NumberOfFrames"] = "1"
    shared = dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
    headers = []
    for number, own in enumerate(dataset.get("PerFrameFunctionalGroupsSequence") or []):
        values = {**whole, "InstanceNumber": str(number + 1), FRAME: str(number)}
        for groups in (shared[0], own):
            for name, tags in GROUPS.items():
                for group in groups.get(name) or []:
                    values.update({tag: as_text(group, source) for source, tag in tags.items() if source in group})
        headers.append(Header(values))
    return headers


def read_frame_headers(path: Path) -> list[Header]:
    """The same of a file, without its pixels."""
    return frame_headers(read_dataset(path, stop_before_pixels=True))


@lru_cache(maxsize=1)  # slices are asked for one by one, and lie in one file
def decode_frames(path: Path, changed_ns: int) -> tuple[np.ndarray, list[Header], tuple[int, int] | None]:
    """The stored values of all frames of a file, (frames, H, W), their headers, `padding_of`. Raises DECODE_ERRORS.

    changed_ns: when the file was changed, so that another one of its name is read
    """
    dataset = read_dataset(path)
    pixels = np.reshape(dataset.pixel_array, (-1, dataset.Rows, dataset.Columns))
    return pixels, frame_headers(dataset), padding_of(dataset, pixels.dtype)
