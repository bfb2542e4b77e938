"""NIfTI, MetaImage and NRRD: read in HU, turned to our orientation, refused where they are no CT."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from conftest import make_row
from placed import NOISE, SPACING_MM, rotation, save_nifti

from lungct import LungError
from lungct.masks.write_nifti import nifti_bytes
from lungct.scans.nifti import check_dimensions, check_units, dicom_series, open_nifti, stem, volume_files


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.nii.gz", "a"), ("A.NII", "A"), (".nii.gz", ".nii.gz"), ("x.dcm", "x"), ("a.b.mha", "a.b")],
)
def test_volumes_are_named_after_their_file_without_its_ending(name, expected):
    assert stem(Path(name)) == expected


@pytest.mark.parametrize(
    ("series_uid", "source", "is_dicom"),
    [("1.2", "a/1.2", True), ("1.2", "a/1.2.nii.gz", False), ("1.2", "1.2.MHD", False), ("P1", "P1.nrrd", False)],
)
def test_a_volume_that_is_named_after_a_dicom_series_is_none(series_uid, source, is_dicom):
    assert dicom_series(make_row("S", 0, series_uid=series_uid, source=source)) == (series_uid if is_dicom else "")


@pytest.mark.parametrize(
    ("shape", "told"),
    [((4, 5), r"2 dimensions \(4 x 5\), .* give the whole volume"), ((4, 5, 6, 2), r"4 dimensions .* split it first")],
)
def test_arrays_that_are_no_volume_are_told_what_to_do(shape, told):
    with pytest.raises(LungError, match=told):
        check_dimensions(Path("a.nii"), shape)
    check_dimensions(Path("a.nii"), (4, 5, 6, 1, 1))


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


@pytest.mark.parametrize(("sform", "qform", "is_guessed"), [(0, 0, True), (1, 0, False), (0, 1, False), (2, 4, False)])
def test_a_file_that_does_not_say_where_left_and_right_are_is_warned_of(tmp_path, sform, qform, is_guessed):
    image = nibabel.Nifti1Image(NOISE.T, np.diag([-0.9, -0.7, 2.5, 1]))
    image.header.set_zooms((0.9, 0.7, 2.5))
    image.set_sform(image.affine, sform)
    image.set_qform(np.diag([-0.9, -0.7, 2.5, 1]), qform)
    nibabel.save(image, tmp_path / "ct.nii")
    scan = open_nifti(tmp_path / "ct.nii")
    assert scan.frame.is_guessed == is_guessed
    assert scan.warnings == ("the file says nothing of left and right: sides may be swapped",) * is_guessed


STEPS = "space directions: (0.9,0,0) (0,0.7,0) (0,0,2.5)\n"


@pytest.mark.parametrize(
    ("space", "steps", "is_guessed"),
    [
        ("space: RAS\n", "space directions: (0.9,0,0) (0,0.7,0) (0,0,2.5)\nspace origin: (1,2,3)\n", False),
        ("space dimension: 3\n", "space directions: (0.9,0,0) (0,0.7,0) (0,0,2.5)\nspace origin: (1,2,3)\n", True),
        ("", "spacings: 0.9 0.7 2.5\n", True),
        ("space: left-anterior-superior\n", f"{STEPS}space origin: (1,2,3)\n", False),
        ("space: left-posterior-superior\n", STEPS, False),
        ("space: 3D-right-handed\n", f"{STEPS}space origin: (1,2,3)\n", True),
        ("space: 3D-left-handed\n", f"{STEPS}space origin: (1,2,3)\n", True),
        ("space: scanner-xyz\n", f"{STEPS}space origin: (1,2,3)\n", True),
    ],
    ids=["RAS", "unnamed", "none", "LAS", "LPS without origin", "right-handed", "left-handed", "scanner"],
)
def test_an_nrrd_without_a_space_is_warned_of_and_its_mask_lies_where_itk_has_it(tmp_path, space, steps, is_guessed):
    sizes = " ".join(map(str, NOISE.shape[::-1]))
    header = f"NRRD0004\ntype: short\ndimension: 3\n{space}sizes: {sizes}\n{steps}endian: little\nencoding: raw\n\n"
    (tmp_path / "ct.nrrd").write_bytes(header.encode() + NOISE.tobytes())
    scan = open_nifti(tmp_path / "ct.nrrd")
    assert scan.frame.is_guessed == is_guessed
    assert scan.warnings == ("the file says nothing of left and right: sides may be swapped",) * is_guessed
    (tmp_path / "mask.nii.gz").write_bytes(nifti_bytes(scan.read() > 0, scan.frame))
    ct, mask = (SimpleITK.ReadImage(str(tmp_path / name)) for name in ("ct.nrrd", "mask.nii.gz"))
    np.testing.assert_allclose(mask.GetOrigin(), ct.GetOrigin(), atol=1e-5)
    np.testing.assert_allclose(mask.GetDirection(), ct.GetDirection(), atol=1e-5)


@pytest.mark.parametrize(
    ("line", "is_guessed"),
    [
        ("", True),
        ("TransformMatrix = 1 0 0 0 1 0 0 0 1", False),
        ("Orientation: 1 0 0 0 1 0 0 0 1", False),
        ("AnatomicalOrientation = RAI", False),
        ("AnatomicalOrientation = ???", True),
        ("AnatomicalOrientation = LPS", True),  # ITK takes RAI all the same
        ("Comment = TransformMatrix = 1", True),
    ],
)
def test_a_metaimage_without_a_matrix_is_warned_of(tmp_path, line, is_guessed):
    header = f"{HEADERS['ct.mhd'].replace('8 6 3', '8 6 4')}{line}\nElementDataFile = LOCAL\n".replace("\n\n", "\n")
    (tmp_path / "ct.mha").write_bytes(header.encode() + NOISE.tobytes() + b"\nTransformMatrix = 1\n")
    scan = open_nifti(tmp_path / "ct.mha")
    np.testing.assert_array_equal(scan.read(), NOISE)
    assert scan.frame.is_guessed == is_guessed
    assert scan.warnings == ("the file says nothing of left and right: sides may be swapped",) * is_guessed


@pytest.mark.parametrize(
    ("name", "line"), [("ct.nhdr", 'space units: "cm" "cm" "cm"'), ("ct.mhd", "DistanceUnits = cm")]
)
def test_lengths_that_are_no_millimetres_are_refused(tmp_path, name, line):
    (tmp_path / "ct.raw").write_bytes(NOISE[:3].tobytes())
    last = "data file: ct.raw" if name == "ct.nhdr" else "ElementDataFile = ct.raw"
    (tmp_path / name).write_text(f"{HEADERS[name]}{line}\n{last}\n")
    with pytest.raises(LungError, match=f'{name}: its lengths are in "?cm"?, .* save it in mm'):
        open_nifti(tmp_path / name)
    (tmp_path / name).write_text(f"{HEADERS[name]}{line.replace('cm', 'mm')}\n{last}\n")
    assert open_nifti(tmp_path / name).frame.spacing_mm == pytest.approx(SPACING_MM)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (b'space units: "" "" "m"', '"m"'),
        (b'units: "mm" "um" "mm"', '"um"'),
        (b"DistanceUnits: um", "um"),
        (b'space units: "mm" "Millimeters" ""', ""),
        (b'units: "mm" "mm" "mm" "s"', ""),
        (b"units:=cm", ""),  # a key of somebody's own
        (b"DistanceUnits = ?", ""),
    ],
)
def test_units_that_are_not_said_are_millimetres(line, named):
    header = b"dimension: 3\n" + line + b"\nsizes: 8 6 4"
    if not named:
        check_units(Path("a.nrrd"), header)
        return
    with pytest.raises(LungError, match=rf"a\.nrrd: its lengths are in {named}, .* save it in mm"):
        check_units(Path("a.nrrd"), header)


def test_the_slices_of_a_sheared_volume_are_as_far_apart_as_their_planes(tmp_path):
    affine = np.array([[-0.9, 0, 0, 0], [0, -0.7, 1.0, 0], [0, 0, 2.5, 0], [0, 0, 0, 1.0]])
    save_nifti(tmp_path / "ct.nii", NOISE, affine=affine)
    frame = open_nifti(tmp_path / "ct.nii").frame
    np.testing.assert_allclose(frame.spacing_mm, SPACING_MM, rtol=1e-6)  # not 2.69, the way from pixel to pixel
    np.testing.assert_allclose(frame.extents_mm, 2.5, rtol=1e-6)


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


NAMED = {  # of three slices
    "pattern": ("ct.mhd", "ElementDataFile = raw[1]/s%02d.raw 1 3 1\n"),
    "list": ("ct.mhd", "ElementDataFile = LIST\nraw[1]/s01.raw\nraw[1]/s02.raw\nraw[1]/s03.raw\n"),
    "nrrd pattern": ("ct.nhdr", "data file: raw[1]/s%02d.raw 1 3 1 2\n"),
    "nrrd list": ("ct.nhdr", "data file: LIST 2\nraw[1]/s01.raw\nraw[1]/s02.raw\nraw[1]/s03.raw\n"),
}
HEADERS = {
    "ct.mhd": "ObjectType = Image\nNDims = 3\nDimSize = 8 6 3\nElementSpacing = 0.9 0.7 2.5\n"
    "ElementType = MET_SHORT\nElementByteOrderMSB = False\n",
    "ct.nhdr": "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 8 6 3\n"
    "space directions: (0.9,0,0) (0,0.7,0) (0,0,2.5)\nspace origin: (0,0,0)\nendian: little\nencoding: raw\n",
}


@pytest.mark.parametrize("named", NAMED)
def test_the_numbers_of_a_volume_in_many_files_belong_to_all_of_them(tmp_path, named):
    name, last = NAMED[named]
    (tmp_path / "raw[1]").mkdir()
    files = [tmp_path / "raw[1]" / f"s{number:02d}.raw" for number in (1, 2, 3)]
    for file, image in zip(files, NOISE, strict=False):
        file.write_bytes(image.tobytes())
    path = tmp_path / name
    path.write_text(HEADERS[name] + last)
    np.testing.assert_array_equal(open_nifti(path).read(), NOISE[:3])
    assert volume_files(path) == (path, *files)


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
