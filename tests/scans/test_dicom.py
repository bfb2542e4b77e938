"""Scans from DICOM: order, HU, orientation, and what is odd about them."""

import numpy as np
import pydicom
import pytest

from lungct import LungError
from lungct.phantom.lidc_tree import write_series, write_xray
from lungct.scans.dicom import find_series, find_series_folder, open_series
from lungct.scans.lidc import LidcScan

WHO = LidcScan("LIDC-IDRI-0001", "1.2.3", "1.2.3.4")
SPACING_MM = (2.5, 0.7, 0.9)


@pytest.fixture
def ct_hu() -> np.ndarray:
    return np.random.default_rng(1).integers(-1024, 2000, (5, 24, 32)).astype(np.int16)


def open_folder(folder):
    (files,) = find_series(folder).values()
    return open_series(files)


def test_series_is_sorted_and_in_hu(tmp_path, ct_hu):
    write_series(tmp_path, WHO, ct_hu, SPACING_MM)
    scan = open_folder(tmp_path)
    np.testing.assert_array_equal(scan.read(), ct_hu)
    np.testing.assert_array_equal(scan.read([3]), ct_hu[3:4])
    assert scan.frame.spacing_mm == SPACING_MM
    assert (scan.patient_id, len(scan), scan.frame.shape, scan.warnings) == ("LIDC-IDRI-0001", 5, (24, 32), ())


def test_prone_slices_are_turned(tmp_path, ct_hu):
    write_series(tmp_path, WHO, ct_hu[:, ::-1, ::-1], SPACING_MM, ImageOrientationPatient=[-1, 0, 0, 0, -1, 0])
    np.testing.assert_array_equal(open_folder(tmp_path).read(), ct_hu)


def test_slices_of_a_patient_on_the_side_are_turned_with_their_spacing(tmp_path, ct_hu):
    lying = ct_hu.transpose(0, 2, 1)[:, ::-1]
    orientation = [0, 1, 0, -1, 0, 0]
    spacing_mm = (2.5, 0.9, 0.7)
    write_series(tmp_path, WHO, lying, spacing_mm, ImageOrientationPatient=orientation)
    scan = open_folder(tmp_path)
    np.testing.assert_array_equal(scan.read(), ct_hu)
    assert scan.frame.spacing_mm == SPACING_MM
    assert scan.frame.shape == (24, 32)


def test_duplicate_and_missing_slices_are_told(tmp_path, ct_hu):
    write_series(tmp_path / "a", WHO, ct_hu, SPACING_MM)
    (tmp_path / "a" / "1-003.dcm").unlink()
    (tmp_path / "a" / "copy.dcm").write_bytes((tmp_path / "a" / "1-002.dcm").read_bytes())
    scan = open_folder(tmp_path)
    np.testing.assert_array_equal(scan.read(), ct_hu[[0, 1, 3, 4]])
    assert "1 slices at a place already taken left out" in scan.warnings
    assert "slices missing in 1 place" in scan.warnings


@pytest.mark.parametrize("numbers", [(2, 7), (7, 2), (9, 10)])
def test_of_two_slices_at_one_place_the_lowest_instance_number_is_kept(tmp_path, ct_hu, numbers):
    write_series(tmp_path, WHO, ct_hu, SPACING_MM)
    first, second = tmp_path / "1-003.dcm", tmp_path / "0-again.dcm"
    for path, number, hu in ((second, numbers[1], -300), (first, numbers[0], -700)):
        dataset = pydicom.dcmread(first)
        dataset.InstanceNumber, dataset.SOPInstanceUID = number, f"1.2.9.{number}"
        stored = np.full((24, 32), hu - int(dataset.RescaleIntercept), np.int16)
        dataset.PixelData = stored.tobytes()
        dataset.save_as(path)
    kept_hu = -700 if numbers[0] < numbers[1] else -300
    assert np.unique(open_folder(tmp_path).read([2])).tolist() == [kept_hu]


def test_slice_spacing_is_the_usual_step_where_a_slice_is_missing(tmp_path, ct_hu):
    write_series(tmp_path, WHO, ct_hu, SPACING_MM)
    (tmp_path / "1-003.dcm").unlink()
    assert open_folder(tmp_path).frame.spacing_mm == SPACING_MM  # and not 5 mm, the longest


def test_xray_and_other_files_are_left_alone(tmp_path, ct_hu):
    write_series(tmp_path / "ct", WHO, ct_hu, SPACING_MM)
    write_xray(tmp_path / "dx", WHO)
    (tmp_path / "LICENSE.txt").write_text("words")
    assert list(find_series(tmp_path)) == [("LIDC-IDRI-0001", "1.2.3", "1.2.3.4")]


@pytest.mark.parametrize("layout", ["1.2.3/1.2.3.4", "01-01-2000-NA/3000000-NA"])
def test_series_folder_is_found_in_both_layouts(tmp_path, ct_hu, layout):
    write_xray(tmp_path / "01-01-2000-NA" / "1000000-NA", WHO)
    write_series(tmp_path / layout, WHO, ct_hu, SPACING_MM)
    assert find_series_folder(tmp_path, "1.2.3", "1.2.3.4") == tmp_path / layout
    assert find_series_folder(tmp_path, "1.2.3", "9.9") is None


def test_sagittal_slices_are_refused(tmp_path, ct_hu):
    write_series(tmp_path, WHO, ct_hu, SPACING_MM, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    with pytest.raises(LungError, match="not axial"):
        open_folder(tmp_path)


def test_missing_tags_are_named_with_their_file(tmp_path, ct_hu):
    write_series(tmp_path, WHO, ct_hu, SPACING_MM)
    ((path, header), *rest) = next(iter(find_series(tmp_path).values()))
    del header.values["PixelSpacing"]
    with pytest.raises(LungError, match=r"1-001\.dcm: no PixelSpacing"):
        open_series([(path, header), *rest])
