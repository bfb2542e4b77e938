"""Masks as NIfTI lie on their scan, also as another reader (ITK) sees the DICOM files, and name their values."""

import csv
import gzip
import struct
from xml.etree import ElementTree

import nibabel
import numpy as np
import pytest
import SimpleITK
from conftest import make_row, run, small_patient
from placed import FRAMES, NOISE, SPACING_MM, WHO, frame_at, itk_points, rotation, save_nifti, write_scan

from lungct.masks.segments import SIDES, WHOLE
from lungct.masks.write import LungMask, encode_masks
from lungct.masks.write_nifti import nifti_bytes
from lungct.phantom.lidc_tree import write_series
from lungct.scans.dicom import find_series, open_series
from lungct.scans.geometry import Frame, frame_of, row_fields
from lungct.scans.nifti import open_nifti


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
    mask = LungMask(scan.read() > 900, scan.frame, lambda: scan, "", np.zeros(5))
    _, flags, _ = encode_masks(mask, ["nifti", "sides", "nrrd"], "P1")
    refused = "is sheared as the gantry was tilted: SimpleITK, 3D Slicer and ITK-SNAP do not open it"
    assert flags == [f"the {ending} {refused}" for ending in (".nii.gz", "_sides.nii.gz")]


def test_a_mask_of_a_file_that_says_nothing_of_its_orientation_says_nothing_either(tmp_path):
    image = nibabel.Nifti1Image(NOISE.T, None)
    image.header.set_zooms((0.9, 0.7, 2.5))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / "ct.nii.gz")
    scan = open_nifti(tmp_path / "ct.nii.gz")
    rows = [make_row("ct", z, **row_fields(scan.frame, z)) for z in range(len(scan))]  # as steps 4 and 5 pass it on
    for frame in (scan.frame, frame_of(rows)):
        (tmp_path / "mask.nii.gz").write_bytes(nifti_bytes(scan.read() > 0, frame))
        mask = nibabel.load(tmp_path / "mask.nii.gz")
        assert (int(mask.header["sform_code"]), int(mask.header["qform_code"])) == (0, 0)
        np.testing.assert_array_equal(np.asanyarray(mask.dataobj), NOISE.T > 0)
        np.testing.assert_allclose(mask.affine, nibabel.load(tmp_path / "ct.nii.gz").affine, atol=1e-4)
        itk, ct = (SimpleITK.ReadImage(str(tmp_path / f"{name}.nii.gz")) for name in ("mask", "ct"))
        np.testing.assert_allclose(itk.GetOrigin(), ct.GetOrigin(), atol=1e-4)
        assert itk.GetDirection() == ct.GetDirection()


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


def test_a_single_slice_is_as_thick_as_its_frame_says(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(nifti_bytes(np.ones((1, 6, 8), bool), frame_at([7.5])))
    frame = open_nifti(tmp_path / "a.nii.gz").frame
    np.testing.assert_allclose(frame.spacing_mm, SPACING_MM, rtol=1e-6)
    np.testing.assert_allclose(frame.corners_mm, [[0, 0, 7.5]])


@pytest.mark.parametrize("code", ["LPS", "RAS", "LAS", "PIR", "SAR", "IRP", "ALS"])
def test_a_mask_has_the_grid_and_the_axis_order_of_its_nifti(tmp_path, code):
    image = save_nifti(tmp_path / "ct.nii.gz", NOISE, code)
    scan = open_nifti(tmp_path / "ct.nii.gz")
    np.testing.assert_array_equal(scan.read(), NOISE)
    assert scan.frame.source_axes == code
    mask = nibabel.Nifti1Image.from_bytes(gzip.decompress(nifti_bytes(scan.read() > 0, scan.frame)))
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(image.dataobj) > 0)
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)


@pytest.mark.parametrize(("degrees", "axis"), [(3, 0), (20, 0), (-15, 1), (12, 2)])
def test_a_rotated_nifti_keeps_its_frame(tmp_path, degrees, axis):
    affine = np.eye(4)
    affine[:3, :3] = rotation(degrees, axis) @ np.diag([-0.9, -0.7, 2.5])
    volume = np.random.default_rng(3).integers(-1000, 1000, (60, 6, 8)).astype(np.int16)
    image = save_nifti(tmp_path / "ct.nii.gz", volume, "RAS", affine)
    scan = open_nifti(tmp_path / "ct.nii.gz")
    np.testing.assert_allclose(scan.frame.spacing_mm, SPACING_MM, rtol=1e-5)
    np.testing.assert_allclose(scan.frame.extents_mm, 2.5, rtol=1e-5)
    mask = nibabel.Nifti1Image.from_bytes(gzip.decompress(nifti_bytes(scan.read() > 0, scan.frame)))
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(image.dataobj) > 0)
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-3)


def test_two_commands_give_lungs_as_nifti_on_the_ct(tmp_path):
    patient = small_patient(3)
    write_series(tmp_path / "dicom", WHO, patient.ct_hu, patient.spacing_mm)
    run("prepare_lung_image.py", "--test", "--dicom", "dicom", cwd=tmp_path)
    run("model_test.py", "--save", "nifti", "--png", "none", cwd=tmp_path)
    scan = open_nifti(tmp_path / "predictions" / "patient_P1" / "P1.nii.gz")
    lung = scan.read() > 0
    assert 2 * (lung & patient.lung).sum() / (lung.sum() + patient.lung.sum()) > 0.97
    with (tmp_path / "mydata/Image_test/manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    np.testing.assert_allclose(scan.frame.z_mm, [float(row["z_mm"]) for row in rows], atol=0.01)
    assert "1 done already" in run("model_test.py", "--save", "nifti", "--png", "none", cwd=tmp_path)
    assert "1 done already" in run("model_test.py", "--png", "none", cwd=tmp_path)
    assert "choose one or more of npy, nifti" in run("model_test.py", "--save", "stl", cwd=tmp_path, status=1)


@pytest.mark.parametrize(("segments", "names"), [(WHOLE, ["Lung"]), (SIDES, ["Right lung", "Left lung"])])
def test_the_header_names_the_values_as_workbench_and_totalsegmentator_read_them(segments, names):
    labels = np.ones((3, 6, 8), np.uint8)
    labels[1] = len(names)
    content = gzip.decompress(nifti_bytes(labels, frame_at([0, 1, 2]), segments))
    image = nibabel.Nifti1Image.from_bytes(content)
    size, code = struct.unpack_from("<ii", content, 352)  # of the first extension; Workbench looks into no other
    assert (code, 352 + size) == (30, struct.unpack_from("<f", content, 108)[0])  # where the voxels begin
    root = ElementTree.fromstring(content[360 : 352 + size].rstrip(b"\0"))
    assert root.tag == "CaretExtension"
    found = {int(label.get("Key")): label for label in root.iterfind("VolumeInformation/LabelTable/Label")}
    assert [found[key].text for key in sorted(found)] == ["???", *names]
    assert root.find("VolumeInformation/VolumeType").text == "Label"
    assert found[0].get("Alpha") == "0"
    last = [round(255 * float(found[len(names)].get(part))) for part in ("Red", "Green", "Blue")]
    assert tuple(last) == segments[-1].rgb
    np.testing.assert_array_equal(np.asarray(image.dataobj), labels.T)
    assert image.get_data_dtype() == np.uint8


def test_the_same_mask_gives_the_same_bytes():
    mask = np.ones((3, 6, 8), bool)
    assert nifti_bytes(mask, frame_at([0, 1, 2])) == nifti_bytes(mask, frame_at([0, 1, 2]))
