"""Masks as NIfTI lie on their scan, also as another reader (ITK) sees the DICOM files."""

import csv
import gzip
from pathlib import Path

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
from lungct.scans.nifti import check_dimensions, nifti_bytes, nifti_or_flag, open_nifti, stem, volume_files

WHO = LidcScan("P1", "1.2.3", "1.2.3.4")
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


def frame_at(z_mm, shape=(6, 8), x_mm=0.0) -> Frame:
    """Axial slices at some heights, their first pixels at `x_mm` sideways (one value or one each)."""
    corners = np.zeros((len(z_mm), 3))
    corners[:, 0], corners[:, 2] = x_mm, z_mm
    return Frame(corners, np.eye(3)[:2], SPACING_MM, shape)


@pytest.mark.parametrize(
    ("z_mm", "there"),
    [
        ([0, 2.5, 7.5], [1, 1, 0, 1]),
        ([0, 5, 7.5, 10], [1, 0, 1, 1, 1]),
        ([*range(10), *range(11, 20)], [1] * 10 + [0] + [1] * 9),
        ([0, 2.45, 5.05, 7.5], [1, 1, 1, 1]),
    ],
)
def test_a_missing_slice_becomes_an_empty_one(tmp_path, z_mm, there):
    frame = frame_at(z_mm)
    (tmp_path / "a.nii.gz").write_bytes(nifti_bytes(np.ones((len(z_mm), 6, 8), bool), frame))
    scan = open_nifti(tmp_path / "a.nii.gz")
    assert scan.read().any((1, 2)).tolist() == [bool(n) for n in there]
    np.testing.assert_allclose(scan.frame.z_mm[scan.read().any((1, 2))], z_mm, atol=0.1)
    flags = nifti_or_flag(np.ones((len(z_mm), 6, 8), bool), frame)[1]
    assert flags == ["1 missing slice empty in the .nii.gz"] * there.count(0)


@pytest.mark.parametrize(
    "z_mm",
    [
        [*range(20), *range(20, 34, 3)],  # thin below, three times as far apart above
        [*range(0, 20, 2), *range(20, 40)],
        [*range(20), *np.arange(20, 30, 1.25)],
        [0, 2.5, 6.2],
        [*range(10), 30, 31, 32],  # more is missing than could have got lost
        [*range(10), 9.4, *range(10, 14)],
        [*range(10), 11, 13, *range(14, 25)],  # two holes side by side: a part with twice the step
    ],
)
def test_slices_on_no_regular_grid_are_no_nifti(z_mm):
    with pytest.raises(LungError, match="unequal distances"):
        nifti_bytes(np.ones((len(z_mm), 6, 8), bool), frame_at(sorted(z_mm)))
    content, (flag,) = nifti_or_flag(np.ones((len(z_mm), 6, 8), bool), frame_at(sorted(z_mm)))
    assert content is None
    assert flag.startswith("no .nii.gz: ")


def test_slices_that_are_shifted_sideways_are_no_nifti():
    mask = np.ones((6, 6, 8), bool)
    with pytest.raises(LungError, match="shifted sideways"):
        nifti_bytes(mask, frame_at(range(6), x_mm=[0, 0, 0, 4, 4, 4]))
    assert nifti_bytes(mask, frame_at(range(6), x_mm=[0, 0.34, 0, 0.34, 0, 0]))  # half a pixel is 0.35 mm
    with pytest.raises(LungError, match="shifted sideways"):
        nifti_bytes(mask, frame_at(range(6), x_mm=[0, 0.36, 0, 0.36, 0, 0]))


@pytest.mark.parametrize(("slices", "taken"), [(22, True), (21, False)])
def test_a_tenth_of_the_slices_may_be_missing(slices, taken):
    """Two of 22 leave 20, of which they are a tenth."""
    z_mm = [z for z in range(slices) if z not in (3, 9)]
    content, (flag,) = nifti_or_flag(np.ones((len(z_mm), 6, 8), bool), frame_at(z_mm))
    assert flag.startswith("2 missing slices empty in the .nii.gz" if taken else "no .nii.gz: NIfTI cannot hold")
    assert (content is not None) == taken


@pytest.mark.parametrize(("off_mm", "taken"), [(0.24, True), (0.26, False)])
def test_a_slice_may_lie_a_quarter_of_a_step_from_its_place(off_mm, taken):
    content, _ = nifti_or_flag(np.ones((7, 6, 8), bool), frame_at([0, 1, 2, 3 + off_mm, 4, 5, 6]))
    assert (content is not None) == taken


def test_a_single_slice_is_as_thick_as_its_frame_says(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(nifti_bytes(np.ones((1, 6, 8), bool), frame_at([7.5])))
    frame = open_nifti(tmp_path / "a.nii.gz").frame
    np.testing.assert_allclose(frame.spacing_mm, SPACING_MM, rtol=1e-6)
    np.testing.assert_allclose(frame.corners_mm, [[0, 0, 7.5]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.nii.gz", "a"), ("A.NII", "A"), (".nii.gz", ".nii.gz"), ("x.dcm", "x"), ("a.b.mha", "a.b")],
)
def test_volumes_are_named_after_their_file_without_its_ending(name, expected):
    assert stem(Path(name)) == expected


@pytest.mark.parametrize(
    ("shape", "told"),
    [((4, 5), r"2 dimensions \(4 x 5\), .* give the whole volume"), ((4, 5, 6, 2), r"4 dimensions .* split it first")],
)
def test_arrays_that_are_no_volume_are_told_what_to_do(shape, told):
    with pytest.raises(LungError, match=told):
        check_dimensions(Path("a.nii"), shape)
    check_dimensions(Path("a.nii"), (4, 5, 6, 1, 1))


def save_nifti(path, volume, code: str = "LPS", affine=None, units: str = "mm") -> nibabel.Nifti1Image:
    """A volume (Z, H, W) in LPS as a NIfTI file whose axes run as `code` says."""
    slice_mm, row_mm, col_mm = SPACING_MM
    image = nibabel.Nifti1Image(volume.T, np.diag([-col_mm, -row_mm, slice_mm, 1]) if affine is None else affine)
    image.affine[:3, 3] = 30, 40, -500
    axes = nibabel.orientations.io_orientation(image.affine)
    image = image.as_reoriented(nibabel.orientations.ornt_transform(axes, nibabel.orientations.axcodes2ornt(code)))
    image = nibabel.Nifti1Image(image.dataobj, image.affine)
    image.header.set_xyzt_units(units)
    nibabel.save(image, path)
    return image


NOISE = np.random.default_rng(3).integers(-1000, 1000, (4, 6, 8)).astype(np.int16)


@pytest.mark.parametrize("code", ["LPS", "RAS", "LAS", "PIR", "SAR", "IRP", "ALS"])
def test_a_mask_has_the_grid_and_the_axis_order_of_its_nifti(tmp_path, code):
    image = save_nifti(tmp_path / "ct.nii.gz", NOISE, code)
    scan = open_nifti(tmp_path / "ct.nii.gz")
    np.testing.assert_array_equal(scan.read(), NOISE)
    assert scan.frame.source_axes == code
    mask = nibabel.Nifti1Image.from_bytes(gzip.decompress(nifti_bytes(scan.read() > 0, scan.frame)))
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(image.dataobj) > 0)
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)


def rotation(degrees: float, axis: int) -> np.ndarray:
    """(3, 3), about one of the axes."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(3)
    turn[np.ix_(*[[n for n in range(3) if n != axis]] * 2)] = [[c, -s], [s, c]]
    return turn


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


def sheared(amount: float) -> np.ndarray:
    affine = np.diag([-0.9, -0.7, 2.5, 1.0])
    affine[1, 2] = amount
    return affine


@pytest.mark.parametrize(
    ("affine", "reason"),
    [
        (np.diag([-0.9, -0.7, 2.5, 1.0]) @ np.pad(rotation(40, 0), (0, 1)) + np.diag([0, 0, 0, 1.0]), "oblique"),
        (sheared(3.0), "oblique or sheared"),
        (np.diag([-0.9, 0.0, 2.5, 1.0]), "voxels of"),
        (np.diag([-0.9, np.nan, 2.5, 1.0]), "voxels of"),
        (np.diag([-0.0007, -0.7, 2.5, 1.0]), "columns 0.0007 mm apart"),
        (np.diag([-0.9, -700.0, 2.5, 1.0]), "rows 700 mm apart"),
        (np.diag([-0.9, -0.7, 25.0, 1.0]), "slices 25 mm apart"),
    ],
)
def test_an_affine_that_no_ct_has_is_refused(tmp_path, affine, reason):
    nibabel.save(nibabel.Nifti1Image(NOISE.T, None), tmp_path / "ct.nii")
    content = bytearray((tmp_path / "ct.nii").read_bytes())
    content[254:256] = (1).to_bytes(2, "little")  # sform_code; nibabel itself would not write all of these
    content[280:328] = affine[:3].astype("<f4").tobytes()
    (tmp_path / "ct.nii").write_bytes(content)
    with pytest.raises(LungError, match=reason):
        open_nifti(tmp_path / "ct.nii")


@pytest.mark.parametrize(("units", "mm"), [("meter", 1000), ("micron", 0.001), ("mm", 1), ("unknown", 1)])
def test_units_are_those_that_the_file_declares(tmp_path, units, mm):
    slice_mm, row_mm, col_mm = SPACING_MM
    save_nifti(tmp_path / "ct.nii", NOISE, affine=np.diag([-col_mm / mm, -row_mm / mm, slice_mm / mm, 1]), units=units)
    scan = open_nifti(tmp_path / "ct.nii")
    np.testing.assert_allclose(scan.frame.spacing_mm, SPACING_MM, rtol=1e-5)
    np.testing.assert_allclose(np.diff(scan.frame.z_mm), 2.5, rtol=1e-5)


def test_four_dimensions_of_one_volume_are_a_volume(tmp_path):
    affine = np.diag([-0.9, -0.7, 2.5, 1])
    nibabel.save(nibabel.Nifti1Image(NOISE.T[..., None], affine), tmp_path / "ct.nii")
    np.testing.assert_array_equal(open_nifti(tmp_path / "ct.nii").read(), NOISE)
    for shape, reason in (((2,), "4 dimensions"), ((1, 3), "5 dimensions")):
        many = np.broadcast_to(NOISE.T.reshape(*NOISE.T.shape, *[1] * len(shape)), (*NOISE.T.shape, *shape))
        nibabel.save(nibabel.Nifti1Image(many, affine), tmp_path / "ct.nii")
        with pytest.raises(LungError, match=reason):
            open_nifti(tmp_path / "ct.nii")


def test_colours_and_complex_numbers_are_no_ct(tmp_path):
    colours = np.zeros(NOISE.T.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for volume in (colours, NOISE.T.astype(np.complex64)):
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "ct.nii")
        with pytest.raises(LungError, match="not a numeric volume"):
            open_nifti(tmp_path / "ct.nii")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((4, 6, 8, 3), np.uint8), True), str(tmp_path / "ct.nrrd"))
    with pytest.raises(LungError, match="not a numeric volume"):
        open_nifti(tmp_path / "ct.nrrd")


@pytest.mark.parametrize("padding", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_becomes_air(tmp_path, padding):
    volume = NOISE.astype(np.float32)
    volume[:, 0] = padding
    save_nifti(tmp_path / "ct.nii", volume)
    expected = NOISE.copy()
    expected[:, 0] = -1024
    np.testing.assert_array_equal(open_nifti(tmp_path / "ct.nii").read(), expected)


@pytest.mark.parametrize("name", ["ct.mhd", "ct.mha", "ct.nrrd", "CT.MHD", "ct.NRRD", "ct.NII.GZ"])
def test_metaimage_and_nrrd_are_read_where_itk_has_them_and_masks_go_back(tmp_path, name):
    image = SimpleITK.GetImageFromArray(NOISE)
    image.SetSpacing((0.9, 0.7, 2.5))
    image.SetOrigin((-30, -40, -500))
    image = SimpleITK.DICOMOrient(image, "RAS")
    SimpleITK.WriteImage(image, str(tmp_path / name.lower()))
    (tmp_path / name.lower()).rename(tmp_path / name)
    scan = open_nifti(tmp_path / name)
    np.testing.assert_array_equal(scan.read(), NOISE)
    assert (scan.frame.source_axes, scan.patient_id.lower()) == ("RAS", "ct")
    np.testing.assert_allclose(scan.frame.corners_mm[0], [-30, -40, -500], atol=1e-4)
    (tmp_path / "mask.nii.gz").write_bytes(nifti_bytes(scan.read() > 0, scan.frame))
    mask = SimpleITK.ReadImage(str(tmp_path / "mask.nii.gz"))
    np.testing.assert_allclose(mask.GetOrigin(), image.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(mask.GetDirection(), image.GetDirection(), atol=1e-5)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(mask) > 0, SimpleITK.GetArrayFromImage(image) > 0)


def test_the_numbers_of_a_metaimage_belong_to_its_files(tmp_path):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(NOISE), str(tmp_path / "a.mhd"))
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(NOISE), str(tmp_path / "b.nhdr"))
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(NOISE), str(tmp_path / "c.mha"))
    files = [[path.name for path in volume_files(tmp_path / name)] for name in ("a.mhd", "b.nhdr", "c.mha")]
    assert files == [["a.mhd", "a.raw"], ["b.nhdr", "b.raw"], ["c.mha"]]


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
    (tmp_path / "p.nrrd").write_bytes(b"no volume")
    with pytest.raises(LungError, match=r"p\.nrrd: no readable volume \((?!Exception thrown)"):
        open_nifti(tmp_path / "p.nrrd")
