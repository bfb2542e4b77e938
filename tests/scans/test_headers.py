"""The quick parse_header over a header reads what pydicom reads, or leaves the file to it."""

import io
import struct

import numpy as np
import pydicom
import pytest
from corpus import KINDS, phantom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from lungct import LungError
from lungct.phantom.lidc_tree import write_series
from lungct.scans.headers import (
    HEAD_BYTES,
    Header,
    NeedsPydicom,
    as_text,
    ascii_text,
    first_line,
    is_bare_dicom,
    padding_of,
    parse_header,
    read_by_pydicom,
    read_dataset,
    read_header,
    skip_sequence,
)
from lungct.scans.lidc import LidcScan

DAMAGED = 400


@pytest.fixture(scope="module")
def slice_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slice")
    ct_hu, spacing_mm = phantom()
    write_series(folder, LidcScan("LIDC-IDRI-0001", "1.2", "1.2.3"), ct_hu[:1], spacing_mm)
    (path,) = folder.glob("*.dcm")
    return path


def save(dataset: Dataset, path, syntax=ExplicitVRLittleEndian) -> bytes:
    """The dataset as a file of some transfer syntax; returns its first bytes."""
    dataset.file_meta.TransferSyntaxUID = syntax
    little = syntax != ExplicitVRBigEndian
    if not little:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
    for element in ("is_little_endian", "is_implicit_VR"):
        dataset.__dict__.pop(element, None)
    pydicom.dcmwrite(path, dataset, little_endian=little, implicit_vr=syntax == ImplicitVRLittleEndian)
    return path.read_bytes()[:HEAD_BYTES]


def nested(inner_length_known: bool) -> Sequence:
    """A sequence in a sequence, before a tag that looks like the slice's own."""
    inner, item = Dataset(), Dataset()
    inner.ReferencedSOPInstanceUID = "1.2.3.4"
    item.ReferencedSOPSequence = Sequence([inner])
    item.SeriesInstanceUID = "6.6.6"
    item["ReferencedSOPSequence"].is_undefined_length = not inner_length_known
    outer = Sequence([item])
    return outer


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_walk_reads_what_pydicom_reads(slice_file, tmp_path, syntax):
    dataset = pydicom.dcmread(slice_file)
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3.4"
    dataset.ReferencedImageSequence = Sequence([item, item])
    dataset["ReferencedImageSequence"].is_undefined_length = True
    dataset.SliceThickness = ""
    head = save(dataset, tmp_path / "a.dcm", syntax)
    values = parse_header(head)
    assert values == read_by_pydicom(tmp_path / "a.dcm").values
    assert values["PatientID"] == "LIDC-IDRI-0001"
    assert values["SliceThickness"] == ""
    header = Header(values)
    assert header.integer("Rows") == dataset.Rows
    assert header.integer("NumberOfFrames") == 0
    assert header.numbers("PixelSpacing") == [float(mm) for mm in dataset.PixelSpacing]


@pytest.mark.parametrize("known", [True, False])
def test_a_tag_within_a_sequence_is_not_taken_for_the_slice_s_own(slice_file, tmp_path, known):
    dataset = pydicom.dcmread(slice_file)
    dataset.ReferencedSeriesSequence = nested(known)
    dataset["ReferencedSeriesSequence"].is_undefined_length = True
    save(dataset, tmp_path / "a.dcm")
    assert read_header(tmp_path / "a.dcm").text("SeriesInstanceUID") == "1.2.3"


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:700],
        lambda data: data[132:],
        lambda data: b"",
        lambda data: data.replace(b"LIDC-IDRI-0001", "LIDC-IDRI-00é".encode()),
        lambda data: data.replace(b"LIDC-IDRI-0001", b"LIDC-IDRI\x1b(J01"),
        lambda data: data.replace(b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00UL"),
        lambda data: data.replace(b"\x08\x00\x60\x00CS", b"\x08\x00\x60\x00XX"),
        lambda data: data.replace(b"\x08\x00\x60\x00CS", b"\x08\x00\x60\x00SH"),
        lambda data: data.replace(b"\x08\x00\x60\x00CS", b"\x08\x00\x60\x00AE"),
        lambda data: data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0"),
    ],
)
def test_what_is_not_of_the_usual_kind_is_left_to_pydicom(slice_file, change):
    data = slice_file.read_bytes()[:HEAD_BYTES]
    changed = change(data)
    assert changed != data
    with pytest.raises(NeedsPydicom):
        parse_header(changed)


def test_big_endian_is_read(slice_file, tmp_path):
    save(pydicom.dcmread(slice_file), tmp_path / "a.dcm", ExplicitVRBigEndian)
    assert read_header(tmp_path / "a.dcm").values == read_header(slice_file).values


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom says what is odd about each
def test_damaged_headers_are_read_as_pydicom_reads_them_or_left_to_it(slice_file, tmp_path):
    rng = np.random.default_rng(3)
    integer = slice_file.read_bytes()
    walked = 0
    for _ in range(DAMAGED):
        data = bytearray(integer[:3000])
        for place in rng.integers(132, 1200, rng.integers(1, 4)):
            data[place] = rng.integers(256)
        try:
            values = parse_header(bytes(data))
        except NeedsPydicom:
            continue
        dataset = pydicom.dcmread(io.BytesIO(bytes(data)), stop_before_pixels=True)
        for keyword, text in values.items():
            raw = dataset.get_item(keyword).value
            found = str(dataset.get(keyword)) if keyword in ("Rows", "Columns") else raw
            found = found if isinstance(found, str) else found.decode("ascii").rstrip(" \0")
            assert text == found.rstrip(" \0"), keyword
        walked += 1
    assert walked > DAMAGED / 4


def outcome(read, path) -> Header | str | None:
    """What comes of reading a header: its tags, none, or the sentence with which the file is refused."""
    try:
        return read(path)
    except LungError as error:
        return str(error)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", KINDS)
def test_every_file_of_the_corpus_is_read_as_pydicom_reads_it(name, tmp_path):
    KINDS[name](tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert outcome(read_header, path) == outcome(read_by_pydicom, path), path.name


def test_real_headers_are_read_as_pydicom_reads_them(real_data):
    files = sorted(real_data.rglob("*.dcm"))[::5]
    walked = 0
    for path in files:
        try:
            values = parse_header(path.read_bytes()[:HEAD_BYTES])
        except NeedsPydicom:
            continue
        assert values == read_by_pydicom(path).values, path
        walked += 1
    assert walked > 0.9 * len(files)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("walked", [True, False])
def test_dicom_without_preamble_is_read(slice_file, tmp_path, syntax, walked):
    known = read_header(slice_file)
    dataset = pydicom.dcmread(slice_file)
    pixels = dataset.pixel_array
    if not walked:
        dataset.PatientID = "Müller 1"
        dataset.SpecificCharacterSet = "ISO_IR 100"
    implicit = syntax == ImplicitVRLittleEndian
    bare = Dataset(dataset)
    pydicom.dcmwrite(tmp_path / "a", bare, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    assert (tmp_path / "a").read_bytes()[:2] == b"\x08\x00"
    header = read_header(tmp_path / "a")
    assert header.text("SeriesInstanceUID") == known.text("SeriesInstanceUID")
    assert header.text("PatientID") == ("LIDC-IDRI-0001" if walked else "Müller 1")
    if walked:
        assert parse_header((tmp_path / "a").read_bytes()[:HEAD_BYTES]) == known.values
    np.testing.assert_array_equal(read_dataset(tmp_path / "a").pixel_array, pixels)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x08\x00", b"\x08\x00\x90\x00" + b"x" * 200, b"\x02\x00\x00\x00" + b"\0" * 200, b"words " * 40],
)
def test_what_is_no_dicom_is_none(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert read_header(tmp_path / "a") is None


def element(group: int, number: int, vr: bytes, length: int = 4) -> bytes:
    """The first eight bytes of an explicit element."""
    return struct.pack("<HH2sH", group, number, vr, length)


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (element(8, 0x0060, b"CS"), True),
        (element(8, 0x0061, b"CS"), False),
        (element(8, 0x0016, b"UN"), True),
        (element(8, 0x0008, b"xx"), False),
        (struct.pack("<HHI", 8, 8, 256), True),  # without a type: four bytes of length
        (struct.pack("<HHI", 8, 8, 257), False),
        (element(2, 0, b"UL"), True),
        (element(2, 1, b"OB"), True),
        (element(2, 2, b"UI"), False),
        (struct.pack("<HHI", 2, 0, 4), False),
        (element(16, 16, b"PN"), False),
        (element(16, 1, b"PN"), False),
        (element(1, 1, b"UL"), False),
        (element(7, 8, b"CS"), False),
        (element(9, 8, b"CS"), False),
        (element(8, 0x0060, b"CS")[:7], False),
    ],
)
def test_dicom_without_preamble_begins_with_a_tag_of_group_8_or_2(data, answer):
    assert is_bare_dicom(data) == answer


def test_an_empty_number_is_zero_and_a_missing_text_empty():
    header = Header({"Rows": "512", "Columns": "", "InstanceNumber": "3.0", "PixelSpacing": "0.7\\0.9"})
    assert [header.integer(tag) for tag in ("Rows", "Columns", "InstanceNumber", "NumberOfFrames")] == [512, 0, 3, 0]
    assert header.numbers("PixelSpacing") == [0.7, 0.9]
    assert header.text("Modality") == ""


def test_tags_become_text():
    dataset = Dataset()
    dataset.PixelSpacing, dataset.SliceThickness, dataset.Rows = [0.7, 0.9], None, 512
    assert [as_text(dataset, tag) for tag in ("PixelSpacing", "SliceThickness", "Rows")] == ["0.7\\0.9", "", "512"]


def test_an_error_is_told_by_its_first_line_or_by_its_kind():
    assert first_line(ValueError("  not so\nbut so")) == "not so"
    assert first_line(KeyError()) == "KeyError"


@pytest.mark.parametrize(
    ("raw", "length", "vr", "text"),
    [
        (b"CT", 2, b"CS", "CT"),
        (b"CT \0", 4, b"CS", "CT"),
        (b"", 0, b"LO", ""),
        (b"\x00\x02", 2, b"US", "512"),
        (b"\x00\x02", 4, b"US", None),
        (b"\x00\x02\x00\x02", 4, b"US", None),
        (b"CT", 4, b"CS", None),
        (b"CTx", 2, b"CS", None),
        (b"C\x1bT", 3, b"CS", None),
        (b"C\xc3\xa9", 3, b"LO", None),
    ],
)
def test_a_value_is_text_where_it_is_whole_and_plain(raw, length, vr, text):
    if text is None:
        with pytest.raises(NeedsPydicom):
            ascii_text(raw, length, vr)
    else:
        assert ascii_text(raw, length, vr) == text


ITEM, END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"


def test_a_sequence_is_passed_over_where_it_holds_no_other_one_without_a_length():
    data = b"before" + ITEM + b"\xff\xff\xff\xff" + b"inside" + END + b"after"
    assert data[skip_sequence(data, 6) :] == b"after"
    assert skip_sequence(END, 0) == 8
    for other in (data.replace(b"inside", b"SQ\0\0\xff\xff\xff\xff"), data.replace(END, b"")):
        with pytest.raises(NeedsPydicom):
            skip_sequence(other, 6)


def test_what_cannot_be_opened_is_told(tmp_path):
    with pytest.raises(LungError, match="cannot read its header"):
        read_header(tmp_path)


@pytest.mark.parametrize(
    ("vr", "value", "stored", "meant"),
    [
        ("US", 63536, np.int16, -2000),  # as GE writes it
        ("SS", -2000, np.uint16, 63536),
        ("SS", -2000, np.int16, -2000),
        ("US", 65535, np.uint16, 65535),
    ],
)
def test_a_padding_value_is_what_its_bits_mean_in_the_pixels(vr, value, stored, meant):
    dataset = Dataset()
    assert padding_of(dataset, np.dtype(stored)) is None
    dataset.add_new("PixelPaddingValue", vr, value)
    assert padding_of(dataset, np.dtype(stored)) == (meant, meant)
