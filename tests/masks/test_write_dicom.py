"""Predicted lungs as DICOM SEG: what highdicom reads back is what was predicted, slice by slice."""

import highdicom
import numpy as np
import pydicom
import pytest
from conftest import run, small_patient
from placed import FRAMES, SPACING_MM, WHO, read_strictly, write_enhanced

from lungct import __version__
from lungct.evaluation.scores import read_scores
from lungct.masks.read_dicom import index_folder, read_dicom_label
from lungct.masks.segments import SIDES, WHOLE
from lungct.masks.source import DicomMask
from lungct.masks.write_dicom import seg_bytes
from lungct.phantom.lidc_tree import write_series
from lungct.scans.dicom import find_series, open_series
from lungct.scans.geometry import from_lps, to_lps

SHAPE = (5, 24, 32)
WEIGHTS = "0123456789abcdef" * 4


def open_scan(folder, **tags):
    """A scan of five slices on disk, its headers with `tags`."""
    write_series(folder, WHO, np.zeros(SHAPE, np.int16), SPACING_MM, **tags)
    return open_series(*find_series(folder).values())


def random_sides(scan, seed: int = 3) -> np.ndarray:
    """Right, left and nothing, scattered, so that no symmetry hides a mistake."""
    return np.random.default_rng(seed).integers(0, 3, (len(scan), *scan.frame.shape)).astype(np.uint8)


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_turning_back_undoes_the_turning(frame):
    image = np.arange(24 * 32).reshape(24, 32)
    np.testing.assert_array_equal(from_lps(to_lps(image, frame), frame), image)


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_highdicom_reads_both_lungs_back_on_the_slices_of_the_source(tmp_path, frame):
    scan = open_scan(tmp_path / "ct", ImageOrientationPatient=frame)
    sides = random_sides(scan)
    path = tmp_path / "seg" / "a.dcm"
    path.parent.mkdir()
    path.write_bytes(seg_bytes(DicomMask(sides, scan, WEIGHTS, SIDES)))
    seg = highdicom.seg.segread(path)
    assert [seg.get_segment_description(n).segment_label for n in (1, 2)] == ["Right lung", "Left lung"]
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in scan.files]
    pixels = seg.get_pixels_by_source_instance(uids, segment_numbers=[1, 2])  # (Z, rows, columns, segments)
    for number in (1, 2):
        turned = np.stack([to_lps(image, frame) for image in pixels[..., number - 1]])
        np.testing.assert_array_equal(turned > 0, sides == number)
    assert index_folder(path.parent) == {WHO.series_uid: (path,)}
    np.testing.assert_array_equal(read_dicom_label(path, scan)[0], sides > 0)


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_each_frame_lies_where_its_slice_does(tmp_path, frame):
    scan = open_scan(tmp_path, ImageOrientationPatient=frame)
    seg = read_strictly(seg_bytes(DicomMask(np.ones((len(scan), *scan.frame.shape), bool), scan, WEIGHTS)))
    shared = seg.SharedFunctionalGroupsSequence[0]
    np.testing.assert_allclose(shared.PlaneOrientationSequence[0].ImageOrientationPatient, frame, atol=1e-5)
    np.testing.assert_allclose(shared.PixelMeasuresSequence[0].PixelSpacing, [0.7, 0.9])
    places = [group.PlanePositionSequence[0].ImagePositionPatient for group in seg.PerFrameFunctionalGroupsSequence]
    found = sorted(places, key=lambda place: place[2])
    np.testing.assert_allclose(found, [[0, 0, 2.5 * k] for k in range(len(scan))])


def test_segments_are_coded_and_coloured_as_in_3d_slicer(tmp_path):
    scan = open_scan(tmp_path)
    seg = read_strictly(seg_bytes(DicomMask(random_sides(scan), scan, WEIGHTS, SIDES)))
    for item, side, segment in zip(seg.SegmentSequence, ("24028007", "7771000"), SIDES, strict=True):
        category, kind = item.SegmentedPropertyCategoryCodeSequence[0], item.SegmentedPropertyTypeCodeSequence[0]
        assert (category.CodeValue, category.CodingSchemeDesignator) == ("123037004", "SCT")
        assert (kind.CodeValue, kind.CodeMeaning) == ("39607008", "Lung")
        assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == side
        colour = highdicom.color.CIELabColor.from_dicom_value(tuple(item.RecommendedDisplayCIELabValue)).to_rgb()
        np.testing.assert_allclose(colour, segment.rgb, atol=1)
        algorithm = item.SegmentationAlgorithmIdentificationSequence[0]
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("Lung U-Net", __version__)
        assert algorithm.AlgorithmParameters == f"weights_sha256={WEIGHTS}"
    (whole,) = read_strictly(seg_bytes(DicomMask(random_sides(scan) > 0, scan, WEIGHTS))).SegmentSequence
    assert whole.SegmentLabel == WHOLE[0].name
    assert "SegmentedPropertyTypeModifierCodeSequence" not in whole.SegmentedPropertyTypeCodeSequence[0]


def test_it_is_filed_under_the_patient_unless_it_shall_be_anonymous(tmp_path):
    named = {
        "PatientName": "Doe^Jane",
        "PatientBirthDate": "19500131",
        "PatientSex": "F",
        "StudyDate": "20200229",
        "StudyTime": "101112",
        "AccessionNumber": "A-1234",
        "StudyDescription": "Thorax of Jane",
    }
    scan = open_scan(tmp_path, **named)
    sides = random_sides(scan)
    seg = read_strictly(seg_bytes(DicomMask(sides, scan, WEIGHTS, SIDES)))
    for name, value in named.items():
        assert seg[name].value == value
    assert (seg.PatientID, seg.StudyInstanceUID) == (WHO.patient_id, WHO.study_uid)
    assert (seg.Modality, seg.SeriesDescription, seg.SeriesNumber) == ("SEG", "Lungs", 900)
    assert (seg.Manufacturer, seg.SoftwareVersions) == ("lung segmentation scripts", __version__)
    assert seg.SeriesDate == seg.ContentDate
    assert len(seg.SeriesTime) >= 6
    content = seg_bytes(DicomMask(sides, scan, WEIGHTS, SIDES, anonymous=True))
    for value in set(named.values()) - {"F"}:
        assert value.encode() not in content
    hidden = read_strictly(content)
    assert (hidden.PatientID, hidden.StudyInstanceUID) == (WHO.patient_id, WHO.study_uid)
    assert hidden.PatientSex == ""
    assert hidden.SOPInstanceUID != seg.SOPInstanceUID


def test_a_name_that_is_not_ascii_survives(tmp_path):
    scan = open_scan(tmp_path, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jürgen")
    assert (
        str(read_strictly(seg_bytes(DicomMask(random_sides(scan), scan, WEIGHTS, SIDES))).PatientName)
        == "Müller^Jürgen"
    )


@pytest.mark.parametrize("kept", [(), (1,), (2,)])
def test_a_lung_that_is_missing_is_an_empty_segment(tmp_path, kept):
    scan = open_scan(tmp_path / "ct")
    sides = random_sides(scan)
    sides[~np.isin(sides, kept)] = 0
    (tmp_path / "a.dcm").write_bytes(seg_bytes(DicomMask(sides, scan, WEIGHTS, SIDES)))
    assert len(pydicom.dcmread(tmp_path / "a.dcm").SegmentSequence) == 2
    np.testing.assert_array_equal(read_dicom_label(tmp_path / "a.dcm", scan)[0], sides > 0)


def test_the_same_prediction_has_the_same_uids_and_another_network_others(tmp_path):
    scan = open_scan(tmp_path)
    sides = np.ones(SHAPE, np.uint8)
    one, again, other = (
        read_strictly(seg_bytes(DicomMask(sides, scan, weights))) for weights in ("0123", "0123", "4567")
    )
    for uid in ("SeriesInstanceUID", "SOPInstanceUID"):
        assert one[uid].value == again[uid].value != other[uid].value
    assert (one.SeriesNumber, one.InstanceNumber, one.StudyInstanceUID) == (900, 1, WHO.study_uid)


def test_slices_with_a_frame_of_reference_each_are_taken_as_in_lidc_idri(tmp_path):
    open_scan(tmp_path)
    for number, path in enumerate(sorted(tmp_path.glob("*.dcm"))):
        dataset = pydicom.dcmread(path)
        dataset.FrameOfReferenceUID = f"1.9.{number}"
        dataset.save_as(path)
    scan = open_series(*find_series(tmp_path).values())
    assert read_strictly(seg_bytes(DicomMask(np.ones(SHAPE, bool), scan, WEIGHTS))).FrameOfReferenceUID == "1.9.0"


def test_step_5_finds_the_scan_by_itself_and_says_before_it_predicts_where_it_cannot(tmp_path):
    patient = small_patient(3)
    spacing_mm = (3 * patient.spacing_mm[0], *patient.spacing_mm[1:])
    write_series(tmp_path / "dicom", WHO, patient.ct_hu[10:40:3], spacing_mm)
    run("prepare_lung_image.py", "--test", "--dicom", "dicom", cwd=tmp_path)
    flags = ("--save", "dicom-seg", "--png", "none")
    (tmp_path / "dicom").rename(tmp_path / "elsewhere")
    text = run("model_test.py", *flags, cwd=tmp_path, status=1)
    assert "dicom is not there any more; give the folder of its files: python model_test.py --dicom DIR" in text
    assert not (tmp_path / "predictions").exists()
    run("model_test.py", *flags, "--dicom", "elsewhere", "--predictions-path", "advised", cwd=tmp_path)
    assert (tmp_path / "advised/patient_P1/P1.seg.dcm").is_file()
    (tmp_path / "elsewhere").rename(tmp_path / "dicom")
    run("model_test.py", *flags, cwd=tmp_path)
    (files,) = find_series(tmp_path / "dicom").values()
    found, _ = read_dicom_label(tmp_path / "predictions/patient_P1/P1.seg.dcm", open_series(files))
    masks = [np.load(path) for path in sorted((tmp_path / "predictions/patient_P1").glob("*.npy"))]
    np.testing.assert_array_equal(found, np.stack(masks) > 0)
    write_series(tmp_path / "dicom", WHO, patient.ct_hu[10:40:3] + np.int16(1), spacing_mm)  # the same UIDs and places
    (tmp_path / "predictions/patient_P1/P1.seg.dcm").unlink()
    assert "no .seg.dcm: " in run("model_test.py", *flags, cwd=tmp_path)
    assert not (tmp_path / "predictions/patient_P1/P1.seg.dcm").exists()
    (score,) = read_scores(tmp_path / "predictions/scores.csv")
    assert "other pixels than when step 4 read them, run step 4 again" in score.flags


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0), (0, 1, 0, -1, 0, 0)])
def test_frames_of_enhanced_ct_are_referred_to_one_by_one(tmp_path, orientation):
    write_enhanced(tmp_path / "ct.dcm", order=[3, 0, 5, 1, 4, 2], orientation=orientation)
    scan = open_series(*find_series(tmp_path).values())
    sides = np.random.default_rng(3).integers(0, 3, (len(scan), *scan.frame.shape)).astype(np.uint8)
    (tmp_path / "mask").write_bytes(seg_bytes(DicomMask(sides, scan, WEIGHTS, SIDES)))
    np.testing.assert_array_equal(read_dicom_label(tmp_path / "mask", scan)[0], sides > 0)
