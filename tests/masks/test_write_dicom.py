"""Predicted lungs as DICOM SEG: what highdicom reads back is what was predicted, slice by slice."""

from dataclasses import replace

import highdicom
import numpy as np
import pydicom
import pytest
from conftest import run, small_patient

from lungct import LungError
from lungct.masks import write_dicom
from lungct.masks.read_dicom import index_folder, read_dicom_label
from lungct.phantom.lidc_tree import write_series
from lungct.scans.dicom import find_series, open_series
from lungct.scans.geometry import from_lps, to_lps
from lungct.scans.lidc import LidcScan

WHO = LidcScan("P1", "1.2.3", "1.2.3.4")
SPACING_MM = (2.5, 0.7, 0.9)
SHAPE = (5, 24, 32)
FRAMES = [[1, 0, 0, 0, 1, 0], [-1, 0, 0, 0, -1, 0], [-1, 0, 0, 0, 1, 0], [0, 1, 0, -1, 0, 0]]


@pytest.mark.parametrize("frame", FRAMES)
def test_turning_back_undoes_the_turning(frame):
    image = np.arange(24 * 32).reshape(24, 32)
    np.testing.assert_array_equal(from_lps(to_lps(image, frame), frame), image)


@pytest.mark.parametrize("frame", FRAMES)
def test_highdicom_reads_both_lungs_back_on_the_slices_of_the_source(tmp_path, frame):
    write_series(
        tmp_path / "ct", WHO, np.zeros(SHAPE, np.int16), SPACING_MM, ImageOrientationPatient=frame, PatientName="Doe^J"
    )
    (files,) = find_series(tmp_path / "ct").values()
    scan = write_dicom.find_scan(tmp_path / "ct", WHO.series_uid, open_series(files).frame)
    sides = np.random.default_rng(3).integers(0, 3, (len(scan), *scan.frame.shape)).astype(np.uint8)
    path = tmp_path / "seg" / "a.dcm"
    path.parent.mkdir()
    path.write_bytes(write_dicom.encode(sides, scan, "0123456789ab"))
    seg = highdicom.seg.segread(path)
    assert [seg.get_segment_description(n).segment_label for n in (1, 2)] == ["Right lung", "Left lung"]
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in scan.files]
    pixels = seg.get_pixels_by_source_instance(uids, segment_numbers=[1, 2])  # (Z, rows, columns, segments)
    for number in (1, 2):
        turned = np.stack([to_lps(image, frame) for image in pixels[..., number - 1]])
        np.testing.assert_array_equal(turned > 0, sides == number)
    assert b"Doe" not in path.read_bytes()
    assert index_folder(path.parent) == {WHO.series_uid: (path,)}
    np.testing.assert_array_equal(read_dicom_label(path, scan)[0], sides > 0)


def test_masks_of_another_scan_are_told(tmp_path):
    write_series(tmp_path, WHO, np.zeros(SHAPE, np.int16), SPACING_MM)
    with pytest.raises(LungError, match="5 slices"):
        write_dicom.encode(np.zeros((4, 24, 32), np.uint8), open_series(*find_series(tmp_path).values()), "0")


def test_what_is_not_below_or_of_two_patients_is_told(tmp_path):
    write_series(tmp_path / "a", WHO, np.zeros(SHAPE, np.int16), SPACING_MM)
    frame = open_series(*find_series(tmp_path / "a").values()).frame
    with pytest.raises(LungError, match=r"holds no series 9\.9; say with --dicom where the scans lie"):
        write_dicom.find_scan(tmp_path / "a", "9.9", frame)
    write_series(tmp_path / "b", replace(WHO, patient_id="P2"), np.zeros(SHAPE, np.int16), SPACING_MM)
    with pytest.raises(LungError, match=r"series 1\.2\.3\.4 is of 2 patients or studies"):
        write_dicom.find_scan(tmp_path, WHO.series_uid, frame)


def test_the_same_prediction_has_the_same_uids_and_another_network_others(tmp_path):
    write_series(tmp_path, WHO, np.zeros(SHAPE, np.int16), SPACING_MM)
    scan = open_series(*find_series(tmp_path).values())
    sides = np.ones(SHAPE, np.uint8)
    paths = [tmp_path / name for name in ("one.seg", "again.seg", "other.seg")]
    for path, weights in zip(paths, ("0123", "0123", "4567"), strict=True):
        path.write_bytes(write_dicom.encode(sides, scan, weights))
    one, again, other = (pydicom.dcmread(path) for path in paths)
    for uid in ("SeriesInstanceUID", "SOPInstanceUID"):
        assert one[uid].value == again[uid].value != other[uid].value
    assert (one.SeriesNumber, one.InstanceNumber, one.StudyInstanceUID) == (900, 1, WHO.study_uid)


def test_of_two_grids_in_a_series_that_of_the_prediction_is_found(tmp_path):
    write_series(tmp_path / "whole", WHO, np.zeros(SHAPE, np.int16), SPACING_MM)
    whole = open_series(*find_series(tmp_path / "whole").values())
    write_series(tmp_path / "near", WHO, np.zeros(SHAPE, np.int16), (2.5, 0.4, 0.4))
    near = open_series(*find_series(tmp_path / "near").values())
    for scan in (whole, near):
        assert write_dicom.find_scan(tmp_path, WHO.series_uid, scan.frame).files == scan.files
    write_series(tmp_path / "again", WHO, np.ones(SHAPE, np.int16), (2.5, 0.4, 0.4), AcquisitionNumber=2)
    write_dicom.series_below.cache_clear()
    with pytest.raises(LungError, match=r"2 scans of series .* have the slices"):
        write_dicom.find_scan(tmp_path, WHO.series_uid, near.frame)
    elsewhere = replace(near.frame, corners_mm=near.frame.corners_mm + 50)
    with pytest.raises(LungError, match=r"0 scans of series .* have the slices"):
        write_dicom.find_scan(tmp_path, WHO.series_uid, elsewhere)


def test_step_5_finds_the_scan_by_itself_and_says_before_it_predicts_where_it_cannot(tmp_path):
    patient = small_patient(3)
    spacing_mm = (3 * patient.spacing_mm[0], *patient.spacing_mm[1:])
    write_series(tmp_path / "dicom", WHO, patient.ct_hu[10:40:3], spacing_mm)
    run("prepare_lung_image.py", "--test", "--dicom", "dicom", cwd=tmp_path)
    flags = ("--save", "dicom-seg", "--png", "none")
    (tmp_path / "dicom").rename(tmp_path / "elsewhere")
    text = run("model_test.py", *flags, cwd=tmp_path, status=1)
    assert "dicom is not there any more; say where: model_test.py --dicom DIR" in text
    assert not (tmp_path / "predictions").exists()
    (tmp_path / "elsewhere").rename(tmp_path / "dicom")
    run("model_test.py", *flags, cwd=tmp_path)
    (files,) = find_series(tmp_path / "dicom").values()
    found, _ = read_dicom_label(tmp_path / "predictions/patient_P1/P1.seg.dcm", open_series(files))
    masks = [np.load(path) for path in sorted((tmp_path / "predictions/patient_P1").glob("*.npy"))]
    np.testing.assert_array_equal(found, np.stack(masks) > 0)
