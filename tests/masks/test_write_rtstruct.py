"""Predicted lungs as RTSTRUCT: read back they are the mask, and the contours lie where ITK sees the slices."""

import numpy as np
import pydicom
import pytest
import SimpleITK
from conftest import small_patient
from placed import FRAMES, SPACING_MM, WHO, read_strictly, write_enhanced, write_scan
from skimage.draw import polygon2mask

from lungct import __version__
from lungct.evaluation.metrics import dice
from lungct.masks.read_dicom import index_folder, read_dicom_label
from lungct.masks.segments import SIDES
from lungct.masks.source import DicomMask
from lungct.masks.write_rtstruct import rtstruct_bytes
from lungct.phantom.lidc_tree import write_series
from lungct.scans.dicom import find_series, open_series
from lungct.segmentation.left_right import split_left_right

WEIGHTS = "0123456789abcdef" * 4


def open_scan(folder):
    return open_series(*find_series(folder).values())


def two_lungs(scan) -> np.ndarray:
    """A right and a left lung, one with a hole and an island in it, of no symmetry."""
    sides = np.zeros((len(scan), *scan.frame.shape), np.uint8)
    sides[:-1, 3:20, 2:9] = 1
    sides[1:, 5:18, 11:22] = 2
    sides[1:3, 8:15, 13:19] = 0
    sides[1:3, 10:12, 15:17] = 2
    sides[2, 0:2, 0:3] = 1  # up to the corner of the slice
    return sides


@pytest.mark.parametrize("frame", FRAMES)
def test_our_reader_gives_the_mask_back(tmp_path, frame):
    write_scan(tmp_path / "ct", frame)
    scan = open_scan(tmp_path / "ct")
    sides = two_lungs(scan)
    (tmp_path / "rt").mkdir()
    (tmp_path / "rt" / "a.dcm").write_bytes(rtstruct_bytes(DicomMask(sides, scan, WEIGHTS, SIDES)))
    assert index_folder(tmp_path / "rt") == {WHO.series_uid: (tmp_path / "rt" / "a.dcm",)}
    found, warnings = read_dicom_label(tmp_path / "rt" / "a.dcm", scan)
    np.testing.assert_array_equal(found, sides > 0)
    assert warnings == ()


@pytest.mark.parametrize("frame", [name for name in FRAMES if name != "tilted"])
def test_the_contours_lie_where_itk_puts_the_slices_of_the_dicom_files(tmp_path, frame):
    write_scan(tmp_path, frame)
    scan = open_scan(tmp_path)
    marked = np.zeros((len(scan), *scan.frame.shape), bool)
    marked[1:4] = scan.read([1, 2, 3]) > 600
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    ct = reader.Execute()
    found = np.zeros(SimpleITK.GetArrayFromImage(ct).shape, bool)
    (roi,) = read_strictly(rtstruct_bytes(DicomMask(marked, scan, WEIGHTS))).ROIContourSequence
    for contour in roi.ContourSequence:
        places_mm = np.reshape([float(mm) for mm in contour.ContourData], (-1, 3))
        at = np.array([ct.TransformPhysicalPointToContinuousIndex(place.tolist()) for place in places_mm])
        (slice_,) = set(np.round(at[:, 2], 3))
        found[int(slice_)] ^= polygon2mask(found.shape[1:], at[:, 1::-1])
    expected = SimpleITK.GetArrayFromImage(ct) > 600
    expected[[0, 4]] = False
    assert expected.sum() > 100
    np.testing.assert_array_equal(found, expected)


def test_lungs_of_a_phantom_come_back(tmp_path):
    patient = small_patient(3)
    write_series(tmp_path / "ct", WHO, patient.ct_hu[20:28], patient.spacing_mm)
    scan = open_scan(tmp_path / "ct")
    lung = patient.lung[20:28]
    sides = split_left_right(lung, patient.spacing_mm, (lung.shape[2] - 1) / 2)
    (tmp_path / "a.dcm").write_bytes(rtstruct_bytes(DicomMask(sides, scan, WEIGHTS, SIDES)))
    found, _ = read_dicom_label(tmp_path / "a.dcm", scan)
    assert dice(found, lung) > 0.9999


def test_structures_are_named_and_typed_as_planning_systems_want_them(tmp_path):
    write_scan(tmp_path, "supine")
    scan = open_scan(tmp_path)
    structures = read_strictly(rtstruct_bytes(DicomMask(two_lungs(scan), scan, WEIGHTS, SIDES)))
    assert [roi.ROIName for roi in structures.StructureSetROISequence] == ["Lung_R", "Lung_L"]
    assert {roi.ROIGenerationAlgorithm for roi in structures.StructureSetROISequence} == {"AUTOMATIC"}
    assert f"{__version__}, weights 0123456789ab" in structures.StructureSetROISequence[0].ROIGenerationDescription
    assert [roi.RTROIInterpretedType for roi in structures.RTROIObservationsSequence] == ["ORGAN", "ORGAN"]
    assert [list(roi.ROIDisplayColor) for roi in structures.ROIContourSequence] == [list(s.rgb) for s in SIDES]
    assert (structures.Modality, structures.SeriesNumber, structures.PatientID) == ("RTSTRUCT", 901, WHO.patient_id)
    (frame,) = structures.ReferencedFrameOfReferenceSequence
    (series,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in scan.files]
    assert series.SeriesInstanceUID == WHO.series_uid
    assert [image.ReferencedSOPInstanceUID for image in series.ContourImageSequence] == uids
    for roi in structures.ROIContourSequence:
        for contour in roi.ContourSequence:
            places_mm = np.reshape([float(mm) for mm in contour.ContourData], (-1, 3))
            assert contour.ContourGeometricType == "CLOSED_PLANAR"
            assert contour.NumberOfContourPoints == len(places_mm) > 2
            z = uids.index(contour.ContourImageSequence[0].ReferencedSOPInstanceUID)
            np.testing.assert_allclose(places_mm[:, 2], -700 + SPACING_MM[0] * z)


def test_no_contour_lies_around_another_but_for_an_island(tmp_path):
    write_scan(tmp_path, "supine")
    scan = open_scan(tmp_path)
    left = read_strictly(rtstruct_bytes(DicomMask(two_lungs(scan), scan, WEIGHTS, SIDES))).ROIContourSequence[1]
    uids = [contour.ContourImageSequence[0].ReferencedSOPInstanceUID for contour in left.ContourSequence]
    assert sorted(uids.count(uid) for uid in set(uids)) == [1, 1, 2, 2]  # lung, and where there is a hole, the island


def test_names_are_left_out_where_it_shall_be_anonymous(tmp_path):
    write_series(
        tmp_path, WHO, np.zeros((5, 24, 32), np.int16), SPACING_MM, PatientName="Doe^J", AccessionNumber="A-12"
    )
    scan = open_scan(tmp_path)
    named = rtstruct_bytes(DicomMask(two_lungs(scan), scan, WEIGHTS, SIDES))
    hidden = rtstruct_bytes(DicomMask(two_lungs(scan), scan, WEIGHTS, SIDES, anonymous=True))
    assert (str(read_strictly(named).PatientName), read_strictly(named).AccessionNumber) == ("Doe^J", "A-12")
    assert b"Doe" not in hidden
    assert b"A-12" not in hidden
    assert read_strictly(hidden).StudyInstanceUID == WHO.study_uid
    assert read_strictly(hidden).SOPInstanceUID != read_strictly(named).SOPInstanceUID


@pytest.mark.parametrize("kept", [(), (1,), (2,)])
def test_a_lung_that_is_missing_is_a_structure_without_contours(tmp_path, kept):
    write_scan(tmp_path / "ct", "supine")
    scan = open_scan(tmp_path / "ct")
    sides = two_lungs(scan)
    sides[~np.isin(sides, kept)] = 0
    (tmp_path / "a.dcm").write_bytes(rtstruct_bytes(DicomMask(sides, scan, WEIGHTS, SIDES)))
    assert len(pydicom.dcmread(tmp_path / "a.dcm").StructureSetROISequence) == 2
    np.testing.assert_array_equal(read_dicom_label(tmp_path / "a.dcm", scan)[0], sides > 0)


def test_a_contour_of_any_length_is_written(tmp_path):
    """More than 64 KiB do not fit into the explicit transfer syntaxes."""
    write_series(tmp_path / "ct", WHO, np.zeros((1, 12, 1400), np.int16), SPACING_MM)
    scan = open_scan(tmp_path / "ct")
    comb = np.zeros((1, 12, 1400), bool)
    comb[:, 2:10, 5:1395:2] = True
    comb[:, 6, 5:1395] = True
    (tmp_path / "a.dcm").write_bytes(rtstruct_bytes(DicomMask(comb, scan, WEIGHTS)))
    contour = pydicom.dcmread(tmp_path / "a.dcm").ROIContourSequence[0].ContourSequence[0]
    assert sum(len(str(value)) + 1 for value in contour.ContourData) > 2**16
    np.testing.assert_array_equal(read_dicom_label(tmp_path / "a.dcm", scan)[0], comb)


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0), (0, 1, 0, -1, 0, 0)])
def test_frames_of_enhanced_ct_are_referred_to_one_by_one(tmp_path, orientation):
    write_enhanced(tmp_path / "ct.dcm", order=[3, 0, 5, 1, 4, 2], orientation=orientation)
    scan = open_series(*find_series(tmp_path).values())
    sides = np.random.default_rng(3).integers(0, 3, (len(scan), *scan.frame.shape)).astype(np.uint8)
    (tmp_path / "mask").write_bytes(rtstruct_bytes(DicomMask(sides, scan, WEIGHTS, SIDES)))
    np.testing.assert_array_equal(read_dicom_label(tmp_path / "mask", scan)[0], sides > 0)
    (structures, uid) = pydicom.dcmread(tmp_path / "mask"), pydicom.dcmread(tmp_path / "ct.dcm").SOPInstanceUID
    lowest = structures.ROIContourSequence[0].ContourSequence[0].ContourImageSequence[0]
    assert (lowest.ReferencedSOPInstanceUID, lowest.ReferencedFrameNumber) == (uid, 2)
