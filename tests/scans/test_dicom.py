"""Scans from DICOM and NIfTI: order, HU, orientation, and what is odd about them."""

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from lungct import LungError
from lungct.phantom.lidc_tree import write_series, write_xray
from lungct.scans.dicom import find_series, find_series_folder, open_series
from lungct.scans.geometry import contiguous_runs
from lungct.scans.hu import stored_values, to_hu
from lungct.scans.lidc import LidcScan
from lungct.scans.nifti import open_nifti

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


def test_fractional_slope_is_rounded_to_the_nearest_hu():
    np.testing.assert_array_equal(to_hu(np.array([0, 1, 3]), 1.6, -1024.0), [-1024, -1022, -1019])


@pytest.mark.parametrize(
    ("stored", "kind", "intercept", "expected"),
    [
        ([0, 4095], np.uint16, -1024, [-1024, 3071]),
        ([40000, 65535], np.uint16, -32768, [7232, 32767]),
        ([40000, 65535], np.uint16, -1024, [32767, 32767]),
        ([-32768, 100], np.int16, -1024, [-32768, -924]),
        ([-5, 7], np.int16, 40000, [32767, 32767]),
        ([0, 70000], np.int32, -70000, [-32768, 0]),
    ],
)
def test_whole_intercepts_never_wrap_around(stored, kind, intercept, expected):
    found = to_hu(np.array(stored, kind), 1.0, float(intercept))
    assert found.dtype == np.int16
    assert found.tolist() == expected


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize(("signed", "bits"), [(0, 12), (0, 16), (1, 12), (1, 16)])
def test_pixels_taken_as_they_lie_are_those_that_pydicom_decodes(tmp_path, syntax, signed, bits):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    stored = np.random.default_rng(2).integers(low, high, (1, 24, 32))
    tags = {
        "PixelRepresentation": signed,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelData": stored.astype("<i4").astype("<i2").tobytes(),
    }
    write_series(tmp_path, WHO, stored.astype(np.int16), SPACING_MM, **tags)
    dataset = pydicom.dcmread(tmp_path / "1-001.dcm")
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(tmp_path / "again.dcm", implicit_vr=syntax == ImplicitVRLittleEndian)
    dataset = pydicom.dcmread(tmp_path / "again.dcm")
    np.testing.assert_array_equal(stored_values(dataset), stored[0])
    np.testing.assert_array_equal(dataset.pixel_array, stored[0])


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


def test_slice_spacing_is_the_usual_step_where_a_slice_is_missing(tmp_path, ct_hu):
    write_series(tmp_path, WHO, ct_hu, SPACING_MM)
    (tmp_path / "1-003.dcm").unlink()
    assert open_folder(tmp_path).spacing_mm == SPACING_MM  # and not 5 mm, the longest


def test_runs_are_cut_where_a_slice_is_missing():
    assert contiguous_runs(np.array([0, 2, 4, 10, 12.0])) == [slice(0, 3), slice(3, 5)]
    assert contiguous_runs(np.array([7.0])) == [slice(0, 1)]


def test_xray_and_other_files_are_left_alone(tmp_path, ct_hu):
    write_series(tmp_path / "ct", WHO, ct_hu, SPACING_MM)
    write_xray(tmp_path / "dx", WHO)
    (tmp_path / "LICENSE.txt").write_text("words")
    assert list(find_series(tmp_path)) == ["1.2.3.4"]


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


def test_nifti_is_turned_to_our_orientation(tmp_path, ct_hu):
    image = SimpleITK.GetImageFromArray(ct_hu)
    image.SetSpacing((0.9, 0.7, 2.5))
    SimpleITK.WriteImage(SimpleITK.DICOMOrient(image, "RAI"), str(tmp_path / "p.nii.gz"))
    scan = open_nifti(tmp_path / "p.nii.gz")
    np.testing.assert_array_equal(scan.read(), ct_hu)
    np.testing.assert_allclose(scan.frame.spacing_mm, SPACING_MM, rtol=1e-6)
    np.testing.assert_allclose(np.diff(scan.frame.z_mm), 2.5, rtol=1e-6)
    assert scan.patient_id == "p"


def test_nan_in_nifti_becomes_air(tmp_path):
    volume = np.zeros((2, 8, 9), np.float32)
    volume[0, 0, 0] = np.nan
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(volume), str(tmp_path / "p.nii"))
    assert open_nifti(tmp_path / "p.nii").read()[0, 0, 0] == -1024


def test_broken_nifti_is_told(tmp_path):
    (tmp_path / "p.nii").write_bytes(b"no volume")
    with pytest.raises(LungError, match=r"p\.nii: no readable volume"):
        open_nifti(tmp_path / "p.nii")
