"""Lungs in SEG and RTSTRUCT land on the slices that they were drawn on, pixel by pixel."""

import csv

import highdicom
import numpy as np
import pydicom
import pytest
from conftest import run
from pydicom.sr.codedict import codes
from pydicom.uid import RTStructureSetStorage, generate_uid
from skimage.measure import find_contours

from lungct import LungError
from lungct.masks.read_dicom import index_folder, is_lung_name, read_dicom_label
from lungct.phantom.lidc_tree import write_series
from lungct.scans.dicom import find_series, open_series
from lungct.scans.geometry import to_lps
from lungct.scans.lidc import LidcScan

WHO = LidcScan("P1", "1.2.3", "1.2.3.4")
SPACING_MM = (2.5, 0.7, 0.9)
SHAPE = (6, 40, 56)
FRAMES = ([1, 0, 0, 0, 1, 0], [-1, 0, 0, 0, -1, 0], [0, 1, 0, -1, 0, 0])


@pytest.fixture(params=FRAMES, ids=["supine", "prone", "lateral"])
def drawn(request, tmp_path):
    """(folder, source slices, left and right lung as drawn on them (Z, H, W), both turned to LPS)."""
    ct_hu = np.random.default_rng(1).integers(-1000, 1000, SHAPE).astype(np.int16)
    write_series(
        tmp_path / "ct", WHO, ct_hu, SPACING_MM, ImageOrientationPatient=request.param, FrameOfReferenceUID="1.9"
    )
    sources = []
    for k, path in enumerate(sorted((tmp_path / "ct").glob("*.dcm"))):
        dataset = pydicom.dcmread(path)
        dataset.ImagePositionPatient = [-120.5, 33.25, -700 + SPACING_MM[0] * k]
        for tag in ("StudyDate", "StudyTime", "AccessionNumber", "PatientName", "PatientBirthDate", "PatientSex"):
            setattr(dataset, tag, "")
        dataset.StudyID, dataset.ReferringPhysicianName = "1", ""
        dataset.save_as(path)
        sources.append(dataset)
    left, right = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    left[1:5, 8:30, 5:20] = True
    left[2, 15:20, 10:15] = False  # a hole
    right[2:6, 10:34, 30:50] = True
    right[3, 10:14] = False
    lung = np.stack([to_lps(image, request.param) for image in left | right])
    return tmp_path, sources, (left, right), lung


def open_scan(folder):
    (files,) = find_series(folder / "ct").values()
    return open_series(files)


def write_seg(folder, sources, names: dict[str, np.ndarray]) -> None:
    """A segmentation by highdicom, an implementation of its own."""
    kinds = [
        highdicom.seg.SegmentDescription(
            number, name, codes.SCT.Organ, codes.SCT.Lung, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        for number, name in enumerate(names, start=1)
    ]
    pixels = np.stack(list(names.values()), -1).astype(np.uint8)
    seg = highdicom.seg.Segmentation(
        sources, pixels, highdicom.seg.SegmentationTypeValues.BINARY, kinds, generate_uid(), 1, generate_uid(), 1,
        "us", "us", "1", "1",
    )  # fmt: skip
    folder.mkdir()
    seg.save_as(folder / "any name.dcm")


def write_rtstruct(folder, sources, names: dict[str, np.ndarray]) -> None:
    """Contours half-way between the pixels in and out, as a planning system draws them."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = RTStructureSetStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    series, study, frame = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    series.SeriesInstanceUID = WHO.series_uid
    study.RTReferencedSeriesSequence = [series]
    frame.RTReferencedStudySequence = [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, (name, mask) in enumerate(names.items(), start=1):
        roi, contours = pydicom.Dataset(), pydicom.Dataset()
        roi.ROINumber, roi.ROIName = number, name
        contours.ReferencedROINumber, contours.ContourSequence = number, []
        for source, image in zip(sources, mask, strict=True):
            along_row, along_col = np.reshape([float(c) for c in source.ImageOrientationPatient], (2, 3))
            for points in find_contours(image.astype(float), 0.5):
                row_mm, col_mm = (float(mm) for mm in source.PixelSpacing)
                places = np.array(source.ImagePositionPatient, float) + points[:, :1] * row_mm * along_col
                contour = pydicom.Dataset()
                contour.ContourData = np.round(places + points[:, 1:] * col_mm * along_row, 4).ravel().tolist()
                contours.ContourSequence.append(contour)
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(contours)
    folder.mkdir()
    dataset.save_as(folder / "rs.dcm", enforce_file_format=True)


@pytest.mark.parametrize("write", [write_seg, write_rtstruct])
def test_both_lungs_are_read_where_they_were_drawn_and_nothing_else(drawn, write):
    folder, sources, (left, right), lung = drawn
    other = np.zeros(SHAPE, bool)
    other[:, :5, :5] = True
    write(folder / "labels", sources, {"Lung_L": left, "SpinalCord": other, "Lung_R": right, "Lung nodule": other})
    ((path,),) = index_folder(folder / "labels").values()
    found = read_dicom_label(path, open_scan(folder))
    np.testing.assert_array_equal(found, lung)


@pytest.mark.parametrize("write", [write_seg, write_rtstruct])
def test_what_names_no_lung_is_told_with_what_it_names(drawn, write):
    folder, sources, (left, _), _ = drawn
    write(folder / "labels", sources, {"Heart": left})
    with pytest.raises(LungError, match="no lung among Heart"):
        read_dicom_label(next((folder / "labels").glob("*.dcm")), open_scan(folder))


def test_step_2_takes_them_by_series_uid_and_says_where_they_came_from(drawn):
    folder, sources, (left, right), lung = drawn
    write_rtstruct(folder / "labels", sources, {"Lung_L": left, "Lung_R": right})
    run("config_file_create.py", cwd=folder)
    flags = ("--dicom", "ct", "--labels", "labels", "--all-slices", "--any-values")
    run("prepare_lung_image.py", *flags, cwd=folder)
    with (folder / "mydata/Image/manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["label_source"] for row in rows} == {"rs.dcm"}
    assert [int(row["lung_px"]) for row in rows] == lung.sum((1, 2)).tolist()


def test_two_files_of_one_scan_are_told(drawn):
    folder, sources, (left, _), _ = drawn
    write_seg(folder / "labels", sources, {"Lung": left})
    write_rtstruct(folder / "labels" / "more", sources, {"Lung": left})
    run("config_file_create.py", cwd=folder)
    flags = ("--dicom", "ct", "--labels", "labels", "--any-values")
    assert "are both of this scan" in run("prepare_lung_image.py", *flags, cwd=folder, status=1)


def test_contours_beside_the_scan_are_told(drawn):
    folder, sources, (left, _), _ = drawn
    for source in sources:
        source.ImagePositionPatient[2] += 100
    write_rtstruct(folder / "labels", sources, {"Lung": left})
    with pytest.raises(LungError, match="where the scan has no slice"):
        read_dicom_label(folder / "labels" / "rs.dcm", open_scan(folder))


@pytest.mark.parametrize(
    ("name", "lung"), [("Lung_L", True), ("LEFT LUNG", True), ("Lungs", True), ("lung nodule", False)]
)
def test_names_of_lungs(name, lung):
    assert is_lung_name(name) == lung
    assert not is_lung_name("GTV lung")
    assert not is_lung_name("Esophagus")
