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
from lungct.masks.read_dicom import (
    closed_contours,
    fill,
    group_by_plane,
    index_folder,
    is_lung_name,
    is_marked,
    reaches_outside,
    read_dicom_label,
    series_of,
    to_pixels,
)
from lungct.phantom.lidc_tree import write_series
from lungct.scans.dicom import find_series, open_series
from lungct.scans.geometry import Frame, Scan, to_lps
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
    others = dict.fromkeys(("SpinalCord", "Lung nodule", "Pulmonary artery"), other)
    write(folder / "labels", sources, {"Lung_L": left, **others, "Lung_R": right})
    ((path,),) = index_folder(folder / "labels").values()
    found, warnings = read_dicom_label(path, open_scan(folder))
    np.testing.assert_array_equal(found, lung)
    assert warnings == ()


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


@pytest.mark.parametrize("write", [write_seg, write_rtstruct])
@pytest.mark.parametrize("name", ["seg.DCM", "SEG0001"])
def test_they_are_found_whatever_their_file_is_called(drawn, write, name):
    folder, sources, (left, _), _ = drawn
    write(folder / "labels", sources, {"Lung": left})
    (path,) = (folder / "labels").iterdir()
    path.rename(folder / "labels" / name)
    (folder / "labels" / "._x").write_bytes((folder / "labels" / name).read_bytes())
    (folder / "labels" / "note.txt").write_text("of last week")
    assert index_folder(folder / "labels") == {WHO.series_uid: (folder / "labels" / name,)}


@pytest.mark.parametrize("write", [write_seg, write_rtstruct])
def test_planes_between_the_slices_of_a_scan_are_left_out(drawn, write):
    folder, sources, (left, right), lung = drawn
    write(folder / "labels", sources, {"Lungs": left | right})
    for path in sorted((folder / "ct").glob("*.dcm"))[1::2]:
        path.unlink()
    (path,) = (folder / "labels").iterdir()
    found, (above, between) = read_dicom_label(path, open_scan(folder))
    np.testing.assert_array_equal(found, lung[::2])
    assert between == "Lungs: 2 planes between its slices not used"
    assert above == "Lungs: 1 plane above or below the scan not used"


@pytest.mark.parametrize("write", [write_seg, write_rtstruct])
def test_lungs_of_another_height_are_told_with_both(drawn, write):
    folder, sources, (left, _), _ = drawn
    for source in sources:
        source.ImagePositionPatient[2] += 100
    write(folder / "labels", sources, {"Lung": left})
    (path,) = (folder / "labels").iterdir()
    with pytest.raises(
        LungError, match=r"no slice: it from -597\.5 to -590\.0 mm, the scan from -700\.0 to -687\.5 mm"
    ):
        read_dicom_label(path, open_scan(folder))


def test_frames_beside_the_slices_are_told_with_both(drawn):
    folder, sources, (left, _), _ = drawn
    for source in sources:
        source.ImagePositionPatient[0] += 3
    write_seg(folder / "labels", sources, {"Lung": left})
    (path,) = (folder / "labels").iterdir()
    with pytest.raises(LungError, match=r"does not lie on the CT: 1 slice of .* 1 0; the CT: 1 slice of"):
        read_dicom_label(path, open_scan(folder))


def test_other_files_and_damaged_ones_belong_to_no_series(drawn):
    folder, sources, (left, _), _ = drawn
    write_seg(folder / "labels", sources, {"Lung": left})
    (path,) = (folder / "labels").iterdir()
    assert series_of(path) == {WHO.series_uid}
    content = path.read_bytes()
    for damaged in (b"", b"words", content[:153]):
        path.write_bytes(damaged)
        assert series_of(path) == set()
    assert series_of(next((folder / "ct").glob("*.dcm"))) == set()


def add_contours(path, contours: list[np.ndarray], kind: str = "CLOSED_PLANAR") -> None:
    dataset = pydicom.dcmread(path)
    for points_mm in contours:
        contour = pydicom.Dataset()
        contour.ContourGeometricType = kind
        contour.ContourData = np.round(points_mm, 3).ravel().tolist()
        dataset.ROIContourSequence[0].ContourSequence.append(contour)
    dataset.save_as(path)


def read_contours(path) -> list[np.ndarray]:
    dataset = pydicom.dcmread(path)
    return [np.reshape(c.ContourData, (-1, 3)).astype(float) for c in dataset.ROIContourSequence[0].ContourSequence]


def test_a_contour_stored_twice_counts_once(drawn):
    folder, sources, (left, right), lung = drawn
    write_rtstruct(folder / "labels", sources, {"Lungs": left | right})
    path = folder / "labels" / "rs.dcm"
    twice = [np.roll(points_mm, 7, 0)[::-1] + np.array([0.02, 0, 0.001]) for points_mm in read_contours(path)]
    add_contours(path, twice)
    found, warnings = read_dicom_label(path, open_scan(folder))
    np.testing.assert_array_equal(found, lung)
    assert warnings == ()


def test_points_and_lines_beside_the_lung_are_passed_over(drawn):
    folder, sources, (left, right), lung = drawn
    write_rtstruct(folder / "labels", sources, {"Lungs": left | right})
    path = folder / "labels" / "rs.dcm"
    some = read_contours(path)[0]
    add_contours(path, [some[:1], some[:2] + np.array([0, 0, 500])])
    add_contours(path, [some + np.array([0, 0, 2.5])], "OPEN_PLANAR")
    np.testing.assert_array_equal(read_dicom_label(path, open_scan(folder))[0], lung)


def test_a_contour_outside_the_scan_is_reported_and_the_others_used(drawn):
    folder, sources, (left, right), lung = drawn
    write_rtstruct(folder / "labels", sources, {"Lungs": left | right})
    path = folder / "labels" / "rs.dcm"
    some = read_contours(path)[0]
    add_contours(path, [some + np.array([0, 0, 300]), some + np.array([400, 0, 0])])
    found, warnings = read_dicom_label(path, open_scan(folder))
    np.testing.assert_array_equal(found, lung)
    assert warnings == (
        "Lungs: 1 plane above or below the scan not used",
        "Lungs: 1 contour partly beyond the edges of the slices",
    )


def test_a_contour_across_the_slices_is_refused(drawn):
    folder, sources, (left, _), _ = drawn
    write_rtstruct(folder / "labels", sources, {"Lung": left})
    path = folder / "labels" / "rs.dcm"
    add_contours(path, [np.array([[0, 0, -700], [9, 0, -700], [9, 0, -690]])])
    with pytest.raises(LungError, match=r"runs from -700\.0 to -690\.0 mm across the slices"):
        read_dicom_label(path, open_scan(folder))


def box(top: int, bottom: int) -> np.ndarray:
    return np.array([[top, top], [top, bottom], [bottom, bottom], [bottom, top]]) + 0.5


def test_holes_islands_and_overlaps_of_one_plane():
    nested = fill([box(12, 16), box(2, 30), box(8, 20)], (40, 40))  # an island in a hole in a lung
    assert nested.sum() == 28**2 - 12**2 + 4**2
    overlapping = fill([box(0, 20), box(10, 30)], (40, 40))
    assert overlapping.sum() == 2 * 20**2 - 10**2


def test_a_contour_much_like_another_is_the_same_and_one_nearly_inside_a_hole():
    lung = box(0, 20)
    assert fill([lung, box(0, 20) + np.array([0, 0.4])], (40, 40)).sum() == 400
    assert fill([lung, np.array([[0, 0], [0, 20], [19, 20], [19, 0]]) + 0.5], (40, 40)).sum() == 400  # 95 % of it
    assert fill([lung, np.array([[0, 0], [0, 20], [18, 20], [18, 0]]) + 0.5], (40, 40)).sum() == 40  # 90 %, a hole
    assert fill([lung, np.array([[5, 2], [5, 22], [10, 22], [10, 2]]) + 0.5], (40, 40)).sum() == 400 - 90  # 90 % inside
    assert fill([lung, np.array([[5, 3], [5, 23], [10, 23], [10, 3]]) + 0.5], (40, 40)).sum() == 400 + 15  # 85 % inside
    assert not fill([], (40, 40)).any()


SCAN = Scan(
    "P", "1.2", (), Frame(np.array([[-9.0, 4, 2.5 * z] for z in range(4)]), np.eye(3)[:2], SPACING_MM, (40, 56))
)


def test_places_are_rows_and_columns_of_their_slice():
    points_mm = np.array([[-9.0, 4, 2.5], [-9 + 2 * 0.9, 4 + 3 * 0.7, 2.5]])
    np.testing.assert_allclose(to_pixels(points_mm, 1, SCAN), [[0, 0], [3, 2]], atol=1e-9)


@pytest.mark.parametrize(
    ("point", "answer"),
    [
        ((-1, 0), False),
        ((-1.01, 0), True),
        ((0, -1.01), True),
        ((40, 56), False),
        ((40.01, 0), True),
        ((0, 56.01), True),
    ],
)
def test_a_contour_may_reach_a_pixel_beyond_the_edge(point, answer):
    assert reaches_outside(np.array([[5.0, 5.0], point]), (40, 56)) == answer


def square(*heights_mm: float) -> np.ndarray:
    """A contour whose points lie at some heights."""
    return np.array([[x, y, z] for (x, y), z in zip([(0, 0), (0, 9), (9, 9), (9, 0)], heights_mm, strict=True)], float)


def test_contours_within_a_tenth_of_a_slice_spacing_are_of_one_plane(tmp_path):
    low, same, next_one = square(5, 5, 5, 5), square(5.2, 5.2, 5.2, 5.2), square(5.3, 5.3, 5.3, 5.3)
    planes = group_by_plane(tmp_path, [next_one, same, low], SCAN)
    assert [[contour[0, 2] for contour in plane] for plane in planes] == [[5, 5.2], [5.3]]
    assert len(group_by_plane(tmp_path, [square(5, 5.2, 5, 5)], SCAN)) == 1
    with pytest.raises(LungError, match=r"runs from 5\.0 to 5\.3 mm across the slices"):
        group_by_plane(tmp_path, [square(5, 5.3, 5, 5)], SCAN)


def contour_of(points_mm: list[float], kind: str) -> pydicom.Dataset:
    contour = pydicom.Dataset()
    contour.ContourData, contour.ContourGeometricType = points_mm, kind
    return contour


def test_three_points_that_are_closed_have_an_inside():
    roi = pydicom.Dataset()
    assert closed_contours(roi) == []
    triangle = [0, 0, 1, 0, 9, 1, 9, 9, 1]
    roi.ContourSequence = [
        contour_of(triangle, "CLOSED_PLANAR"),
        contour_of(triangle, "OPEN_NONPLANAR"),
        contour_of(triangle[:6], "CLOSED_PLANAR"),
    ]
    (found,) = closed_contours(roi)
    assert found.tolist() == [[0, 0, 1], [0, 9, 1], [9, 9, 1]]


def test_fractions_count_from_a_half():
    dataset = pydicom.Dataset()
    dataset.SegmentationType, dataset.MaximumFractionalValue = "FRACTIONAL", 200
    assert is_marked(np.array([0, 1, 100, 101, 200]), dataset, 1).tolist() == [False, False, False, True, True]
    dataset.SegmentationType = "LABELMAP"
    assert is_marked(np.array([0, 1, 2, 3]), dataset, 2).tolist() == [False, False, True, False]
    dataset.SegmentationType = "BINARY"
    assert is_marked(np.array([0, 1]), dataset, 2).tolist() == [False, True]


@pytest.mark.parametrize(
    ("name", "lung"),
    [
        *(("Lung_L", True), ("LEFT LUNG", True), ("Lungs", True), ("lung nodule", False)),
        *(("lung_upper_lobe_left", True), ("Pulmo dexter", True), ("Lung_V20", True), ("ITV lung", False)),
        *(("Pulmonary artery", False), ("A_Pulmonary", False), ("V_Pulmonary", False), ("pulmonary_vein", False)),
        *(("PulmonaryTrunk", False), ("A. pulmonalis", False), ("Valve_Pulmonic", False), ("Lung hilum", False)),
        *(("lung_trachea_bronchia", False), ("lung lymph node", False), ("Pulmonary embolism", False)),
    ],
)
def test_names_of_lungs(name, lung):
    assert is_lung_name(name) == lung
    assert not is_lung_name("GTV lung")
    assert not is_lung_name("Esophagus")
