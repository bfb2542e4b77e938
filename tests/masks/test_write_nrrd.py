"""Masks as .seg.nrrd: what SimpleITK and this project read, and the fields that 3D Slicer asks for."""

import gzip

import numpy as np
import pytest
import SimpleITK
from placed import FRAMES, NOISE, frame_at, itk_points, save_nifti, write_scan

from lungct.masks.read import find_label, read_lung
from lungct.masks.segments import SIDES
from lungct.masks.write_nrrd import nrrd_bytes
from lungct.scans.dicom import find_series, open_series
from lungct.scans.nifti import open_nifti


def write(path, labels, frame, *segments) -> SimpleITK.Image:
    """A mask on disk, as ITK reads it."""
    path.write_bytes(nrrd_bytes(labels, frame, *segments))
    return SimpleITK.ReadImage(str(path))


@pytest.mark.parametrize("frame", [name for name in FRAMES if name != "tilted"])
def test_a_mask_lies_where_itk_puts_the_same_voxels_of_the_dicom_files(tmp_path, frame):
    write_scan(tmp_path / "dicom", frame)
    scan = open_series(*find_series(tmp_path / "dicom").values())
    found = write(tmp_path / "a.seg.nrrd", scan.read() > 900, scan.frame)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "dicom")))
    ct = reader.Execute()
    expected = itk_points(ct, SimpleITK.GetArrayFromImage(ct) > 900)
    assert len(expected) > 100
    np.testing.assert_allclose(itk_points(found, SimpleITK.GetArrayFromImage(found) > 0), expected, atol=0.02)


@pytest.mark.parametrize("code", ["LPS", "RAS", "LAS", "PIR", "SAR", "IRP", "ALS"])
def test_a_mask_has_the_grid_and_the_axis_order_of_its_scan(tmp_path, code):
    image = save_nifti(tmp_path / "ct.nii.gz", NOISE, code)
    scan = open_nifti(tmp_path / "ct.nii.gz")
    found = write(tmp_path / "a.seg.nrrd", scan.read() > 0, scan.frame)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(found).T, np.asarray(image.dataobj) > 0)
    to_lps = np.diag([-1, -1, 1, 1]) @ image.affine
    np.testing.assert_allclose(found.GetOrigin(), to_lps[:3, 3], atol=1e-4)
    steps_mm = np.reshape(found.GetDirection(), (3, 3)) * found.GetSpacing()
    np.testing.assert_allclose(steps_mm, to_lps[:3, :3], atol=1e-4)


@pytest.mark.parametrize("frame", FRAMES)
def test_our_reader_puts_it_back_on_the_slices_of_its_scan(tmp_path, frame):
    write_scan(tmp_path / "dicom", frame)
    scan = open_series(*find_series(tmp_path / "dicom").values())
    sides = np.random.default_rng(3).integers(0, 3, (len(scan), *scan.frame.shape)).astype(np.uint8)
    (tmp_path / "masks").mkdir()
    write(tmp_path / "masks" / "P1.seg.nrrd", sides, scan.frame, SIDES)
    path = find_label(tmp_path / "masks", (scan.patient_id, scan.series_uid))
    assert path.name == "P1.seg.nrrd"
    np.testing.assert_array_equal(read_lung(path, scan)[0], sides > 0)


def test_the_fields_are_those_of_3d_slicer(tmp_path):
    labels = np.zeros((4, 6, 8), np.uint8)
    labels[1, 2, 3], labels[2, 3, 4] = 1, 2
    image = write(tmp_path / "a.seg.nrrd", labels, frame_at([0, 2.5, 5, 7.5], x_mm=-12.5), SIDES)
    fields = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    for number, (name, side) in enumerate([("Right lung", "SCT^24028007^Right"), ("Left lung", "SCT^7771000^Left")]):
        assert fields[f"Segment{number}_Name"] == name
        assert fields[f"Segment{number}_ID"] == f"Segment_{number + 1}"
        assert fields[f"Segment{number}_LabelValue"] == str(number + 1)
        assert fields[f"Segment{number}_Layer"] == "0"
        assert fields[f"Segment{number}_Extent"] == "0 7 0 5 0 3"  # the whole volume, columns first
        colour = [float(part) for part in fields[f"Segment{number}_Color"].split()]
        np.testing.assert_allclose(colour, np.divide(SIDES[number].rgb, 255), atol=1e-5)
        assert fields[f"Segment{number}_Tags"] == (
            "TerminologyEntry:Segmentation category and type - 3D Slicer General Anatomy list~"
            f"SCT^123037004^Anatomical Structure~SCT^39607008^Lung~{side}~Anatomic codes - DICOM master list~^^~^^|"
        )
    assert fields["Segmentation_SourceRepresentation"] == "Binary labelmap"
    assert fields["Segmentation_ContainedRepresentationNames"] == "Binary labelmap|"
    assert fields["Segmentation_ReferenceImageExtentOffset"] == "0 0 0"
    assert "Segment2_ID" not in fields


def test_the_header_is_plain_text_and_the_voxels_are_gzip():
    labels = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4) % 2
    content = nrrd_bytes(labels, frame_at([0, 2.5], shape=(3, 4), x_mm=-12.5))
    header, voxels = content.split(b"\n\n", 1)
    lines = header.decode("ascii").splitlines()
    assert lines[0] == "NRRD0004"
    for line in ("space: left-posterior-superior", "sizes: 4 3 2", "type: unsigned char", "encoding: gzip"):
        assert line in lines
    assert "space directions: (0.9,0.0,0.0) (0.0,0.7,0.0) (0.0,0.0,2.5)" in lines
    assert "space origin: (-12.5,0.0,0.0)" in lines
    assert gzip.decompress(voxels) == labels.tobytes()  # columns run fastest, as in memory
    assert "Segment0_Name:=Lung" in lines
