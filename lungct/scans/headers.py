"""What is looked at of a DICOM file before its pixels: a dozen short tags.

A scan is sorted by the headers of all its slices, and pydicom takes longer for one than the disk. Files of the usual
kind (little endian, ASCII, no sequences within sequences) are walked here; all others are read by pydicom.
"""

import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from lungct import LungError

DECODE_ERRORS = (  # what pydicom raises over files whose bytes make no sense
    *(ArithmeticError, AttributeError, BytesLengthException, EOFError, LookupError, MemoryError, NotImplementedError),
    *(OSError, RuntimeError, TypeError, ValueError, struct.error, zlib.error),
)
NEEDED_TAGS = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"),
    *("Rows", "Columns"),
)
FIRST_TAGS = (  # those that say whose and which image it is
    *("Modality", "ImageType", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID"),
)
PASS_TAGS = ("TemporalPositionIdentifier", "AcquisitionNumber", "ConvolutionKernel")  # apart, at the same places
KEYWORDS = (*NEEDED_TAGS, *FIRST_TAGS, *PASS_TAGS, "InstanceNumber", "SliceThickness", "NumberOfFrames")
WANTED = {tag_for_keyword(keyword): (keyword, dictionary_VR(tag_for_keyword(keyword)).encode()) for keyword in KEYWORDS}
LAST_WANTED = max(WANTED)

HEAD_BYTES = 8192  # within which the wanted tags lie in nearly all files
SYNTAX_TAG = 0x00020010
MAX_FIRST_ELEMENT, MAX_FIRST_BYTES = 0x0060, 256  # of a first tag: up to Modality, and short
UNUSUAL_SYNTAXES = (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # whose length takes four bytes
SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
UNDEFINED = b"\xff\xff\xff\xff"  # as a length: up to the delimiter
OPEN_ITEM, SEQUENCE_END = b"\xfe\xff\x00\xe0" + UNDEFINED, b"\xfe\xff\xdd\xe0\0\0\0\0"
PLAIN = re.compile(rb"[\x20-\x7e]*[\x20\0]*")


class NeedsPydicom(Exception):
    """A file that pydicom must read."""


@dataclass(frozen=True)
class Header:
    """The wanted tags of a file as text, by keyword; several values of one are apart by backslashes."""

    values: dict[str, str]

    def text(self, keyword: str) -> str:
        """'' where the tag is missing or empty."""
        return self.values.get(keyword, "")

    def numbers(self, keyword: str) -> list[float]:
        """Raises ValueError where one is none."""
        return [float(value) for value in self.text(keyword).split("\\")]

    def integer(self, keyword: str) -> int:
        """An integer, 0 where the tag is missing or empty; raises ValueError or OverflowError where it is none."""
        return int(float(self.text(keyword) or 0))


def is_bare_dicom(data: bytes) -> bool:
    """Whether these are the first bytes of DICOM without its preamble: a tag of group 8, or of the file's own."""
    if len(data) < 8:
        return False
    group, element, vr, _ = struct.unpack_from("<HH2sH", data)
    (length,) = struct.unpack_from("<I", data, 4)
    explicit = vr in SHORT_VRS or vr in LONG_VRS
    return (group == 2 and element <= 1 and explicit) or (
        group == 8 and element <= MAX_FIRST_ELEMENT and (explicit or length <= MAX_FIRST_BYTES)
    )


def read_dataset(path: Path, **options) -> pydicom.Dataset:
    """pydicom's `dcmread`, also of DICOM without preamble and file tags, as old archives write it.

    Raises InvalidDicomError where it is no DICOM, and DECODE_ERRORS where it is damaged.
    """
    with path.open("rb") as file:
        data = file.read(132)
    bare = data[128:] != b"DICM" and is_bare_dicom(data)
    dataset = pydicom.dcmread(path, force=bare, **options)
    if bare and "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian if dataset.original_encoding[0] else ExplicitVRLittleEndian
        )
    return dataset


def read_header(path: Path) -> Header | None:
    """The header of a file, or None where it is no DICOM. Raises LungError where it is damaged."""
    try:
        with path.open("rb") as file:
            return Header(parse_header(file.read(HEAD_BYTES)))
    except NeedsPydicom:
        return read_by_pydicom(path)
    except OSError as error:
        raise LungError(f"{path}: cannot read its header ({first_line(error)})") from error


def read_by_pydicom(path: Path) -> Header | None:
    """The same for any file."""
    try:
        dataset = read_dataset(path, stop_before_pixels=True, specific_tags=list(WANTED))
        for keyword in FIRST_TAGS:
            dataset.get(keyword)  # decodes it
    except InvalidDicomError:
        return None
    except DECODE_ERRORS as error:
        raise LungError(f"{path}: cannot read its header ({first_line(error)})") from error
    return Header({keyword: as_text(dataset, keyword) for keyword in KEYWORDS if keyword in dataset})


def as_text(dataset: pydicom.Dataset, keyword: str) -> str:
    """A tag as text; where it cannot be decoded, the reason, of which no number will be made."""
    try:
        value = dataset.get(keyword)
    except DECODE_ERRORS as error:
        return first_line(error)
    if isinstance(value, pydicom.multival.MultiValue | list | tuple):
        return "\\".join(str(part) for part in value)
    return "" if value is None else str(value)


def padding_of(dataset: pydicom.Dataset, stored: np.dtype) -> tuple[int, int] | None:
    """From and up to which stored value a file pads slices; None where it does not say.

    A value beyond the type of the pixels, such as 63536 for -2000, is what its 16 bits mean there.
    """
    ends = [dataset.get(keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return None
    ends = [int(np.array(int(end)).astype(stored)) for end in ends if end is not None]
    return min(ends), max(ends)


def first_line(error: Exception) -> str:
    """The first line of an error's text, for a message of ours."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def parse_header(data: bytes) -> dict[str, str]:
    """The wanted tags in the first bytes of a file. Raises NeedsPydicom for what only pydicom can tell."""
    values: dict[str, str] = {}
    at, last, explicit, syntax = 132, 0, True, ""
    if data[128:132] != b"DICM":
        if not is_bare_dicom(data) or data[0] == 2:
            raise NeedsPydicom
        explicit = data[4:6] in SHORT_VRS or data[4:6] in LONG_VRS
        at, last = 0, 0x00030000  # there are no tags of the file's own
    try:
        while True:
            group, element, vr, length = struct.unpack_from("<HH2sH", data, at)
            tag = group << 16 | element
            if tag <= last:
                raise NeedsPydicom
            if last < 0x00030000 <= tag:  # behind the file's own tags, which are always explicit
                if not syntax or syntax in UNUSUAL_SYNTAXES:
                    raise NeedsPydicom
                explicit = syntax != ImplicitVRLittleEndian
            if tag > LAST_WANTED:
                return values
            last, start = tag, at + 8
            if not explicit:
                (length,) = struct.unpack_from("<I", data, at + 4)
            elif vr in LONG_VRS:
                (length,) = struct.unpack_from("<I", data, at + 8)
                start = at + 12
            elif vr not in SHORT_VRS:
                raise NeedsPydicom
            if length == 0xFFFFFFFF:
                at = skip_sequence(data, start)
                continue
            at = start + length
            if tag in WANTED:
                keyword, expected_vr = WANTED[tag]
                if explicit and vr != expected_vr:
                    raise NeedsPydicom
                values[keyword] = ascii_text(data[start:at], length, expected_vr)
            elif tag == SYNTAX_TAG:
                syntax = ascii_text(data[start:at], length, b"UI")
    except struct.error as error:  # the bytes end here
        raise NeedsPydicom from error


def skip_sequence(data: bytes, start: int) -> int:
    """Where a sequence without a length ends. Raises NeedsPydicom where it holds another one like it."""
    end = data.find(SEQUENCE_END, start)
    inside = data[start:end]
    if end < 0 or inside.count(UNDEFINED) != inside.count(OPEN_ITEM):
        raise NeedsPydicom
    return end + len(SEQUENCE_END)


def ascii_text(raw: bytes, length: int, vr: bytes) -> str:
    """A value as text. Raises NeedsPydicom where it is cut off or not plain ASCII."""
    if len(raw) != length:
        raise NeedsPydicom
    if vr == b"US":
        if length != 2:
            raise NeedsPydicom
        return str(struct.unpack("<H", raw)[0])
    if not PLAIN.fullmatch(raw):
        raise NeedsPydicom
    return raw.decode("ascii").rstrip(" \0")
