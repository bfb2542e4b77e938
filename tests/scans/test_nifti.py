"""Masks as NIfTI lie on their scan, also as another reader (ITK) sees the DICOM files."""

import csv
import gzip

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from conftest import run, small_patient

from lungct import LungError
from lungct.phantom.lidc_tree import write_series
from lungct.scans.dicom import find_series, open_series
from lungct.scans.geometry import Frame
from lungct.scans.lidc import LidcScan
from lungct.scans.nifti import nifti_bytes, open_nifti

WHO = LidcScan("P", "1.2.3", "1.2.3.4")
SPACING_MM = (2.5, 0.7, 0.9)
FRAMES = {  # ImageOrientationPatient: as it is, prone, feet first (both mirrored), on its side, tilted gantry
    "supine": [1, 0, 0, 0, 1, 0],
    "prone": [-1, 0, 0, 0, -1, 0],
    "mirrored": [-1, 0, 0, 0, 1, 0],
    "lateral": [0, 1, 0, -1, 0, 0],
    "tilted": [1, 0, 0, 0, 0.984808, -0.173648],
}


def write_scan(folder, frame: str) -> np.ndarray:
    """Five slices of noise whose origin is nowhere near zero; returns their HU as stored."""
    ct_hu = np.random.default_rng(1).integers(-1000, 1000, (5, 24, 32)).astype(np.int16)
    write_series(folder, WHO, ct_hu, SPACING_MM, ImageOrientationPatient=FRAMES[frame])
    for k, path in enumerate(sorted(folder.glob("*.dcm"))):
        dataset = pydicom.dcmread(path)
        dataset.ImagePositionPatient = [-120.5, 33.25, -700 + SPACING_MM[0] * k]
        dataset.save_as(path)
    return ct_hu


def itk_points(image: SimpleITK.Image, mask: np.ndarray) -> np.ndarray:
    """Where the voxels of a mask (Z, H, W) lie, by ITK, sorted."""
    points = [image.TransformIndexToPhysicalPoint([int(i) for i in place[::-1]]) for place in np.argwhere(mask)]
    return np.array(sorted(np.round(points, 2).tolist()))


@pytest.mark.parametrize("frame", [name for name in FRAMES if name != "tilted"])
def test_a_mask_lies_where_itk_puts_the_same_voxels_of_the_dicom_files(tmp_path, frame):
    write_scan(tmp_path / "dicom", frame)
    (files,) = find_series(tmp_path / "dicom").values()
    scan = open_series(files)
    mask = scan.read() > 900  # scattered, so that no symmetry hides a mistake
    (tmp_path / "mask.nii.gz").write_bytes(nifti_bytes(mask, scan.frame))
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "dicom")))
    ct = reader.Execute()
    found = SimpleITK.ReadImage(str(tmp_path / "mask.nii.gz"))
    expected = itk_points(ct, SimpleITK.GetArrayFromImage(ct) > 900)
    assert len(expected) > 100
    np.testing.assert_allclose(itk_points(found, SimpleITK.GetArrayFromImage(found) > 0), expected, atol=0.02)


def test_a_tilted_gantry_makes_a_sheared_frame_that_lies_on_each_slice(tmp_path):
    write_scan(tmp_path / "dicom", "tilted")
    (files,) = find_series(tmp_path / "dicom").values()
    scan = open_series(files)
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(nifti_bytes(scan.read() > 900, scan.frame)))
    corner_of_slice_3 = image.affine @ [0, 0, 3, 1]
    np.testing.assert_allclose(corner_of_slice_3[:3], [120.5, -33.25, -700 + 3 * 2.5], atol=1e-3)
    down = (image.affine @ [0, 1, 0, 1] - image.affine @ [0, 0, 0, 1])[:3]
    np.testing.assert_allclose(down, [0, -0.7 * 0.984808, -0.7 * 0.173648], atol=1e-4)
    assert image.get_qform(coded=True)[1] == 0  # a rotation cannot say it


def test_what_is_written_is_read_back_in_the_same_frame(tmp_path):
    mask = np.random.default_rng(2).random((4, 6, 8)) > 0.5
    corners = np.array([[-10.0, 20.0, 30.0 + 2.5 * k] for k in range(4)])
    axes = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    (tmp_path / "a.nii.gz").write_bytes(nifti_bytes(mask, Frame(corners, axes, SPACING_MM, mask.shape[1:])))
    scan = open_nifti(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(scan.read() > 0, mask)
    np.testing.assert_allclose(scan.frame.corners_mm, corners, atol=1e-4)
    np.testing.assert_allclose(scan.frame.axes, axes, atol=1e-6)
    np.testing.assert_allclose(scan.frame.spacing_mm, SPACING_MM, atol=1e-6)


def test_a_missing_slice_becomes_an_empty_one_and_unequal_steps_are_refused(tmp_path):
    mask = np.ones((3, 6, 8), bool)
    axes = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    corners = np.array([[0.0, 0, z] for z in (0, 2.5, 7.5)])
    (tmp_path / "a.nii.gz").write_bytes(nifti_bytes(mask, Frame(corners, axes, SPACING_MM, mask.shape[1:])))
    assert open_nifti(tmp_path / "a.nii.gz").read().any((1, 2)).tolist() == [True, True, False, True]
    with pytest.raises(LungError, match="unequal distances"):
        nifti_bytes(mask, Frame(np.array([[0.0, 0, z] for z in (0, 1.2, 2.5)]), axes, SPACING_MM, (6, 8)))


def test_two_commands_give_lungs_as_nifti_on_the_ct(tmp_path):
    patient = small_patient(3)
    write_series(tmp_path / "dicom", WHO, patient.ct_hu, patient.spacing_mm)
    run("prepare_lung_image.py", "--test", "--dicom", "dicom", cwd=tmp_path)
    run("model_test.py", "--save", "nifti", "--png", "none", cwd=tmp_path)
    scan = open_nifti(tmp_path / "predictions" / "patient_P" / "P.nii.gz")
    lung = scan.read() > 0
    assert 2 * (lung & patient.lung).sum() / (lung.sum() + patient.lung.sum()) > 0.97
    with (tmp_path / "mydata/Image_test/manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    np.testing.assert_allclose(scan.frame.z_mm, [float(row["z_mm"]) for row in rows], atol=0.01)
    assert "1 done already" in run("model_test.py", "--save", "nifti", "--png", "none", cwd=tmp_path)
    assert "0 done already" in run("model_test.py", "--png", "none", cwd=tmp_path)
    assert "choose npy, nifti, nifti-sides" in run("model_test.py", "--save", "stl", cwd=tmp_path, status=1)


def test_nifti_is_turned_to_our_orientation(tmp_path):
    ct_hu = np.random.default_rng(1).integers(-1024, 2000, (5, 24, 32)).astype(np.int16)
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
