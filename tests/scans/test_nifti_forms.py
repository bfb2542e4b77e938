"""NIfTI headers whose sform, qform and pixdim differ: masks take over all of them, and one line says it."""

import struct
import warnings

import nibabel
import numpy as np
import pytest
import SimpleITK
from conftest import make_row
from placed import NOISE, itk_points

from lungct.masks.check import take_slices
from lungct.masks.write_nifti import nifti_bytes, nifti_flags
from lungct.masks.write_nrrd import nrrd_flags
from lungct.scans.geometry import frame_of, row_fields
from lungct.scans.nifti import open_nifti
from lungct.scans.nifti_forms import FIELDS, form_warnings, read_forms

HERE = np.array([[-0.9, 0, 0, 30], [0, -0.7, 0, 40], [0, 0, 2.5, -500], [0, 0, 0, 1.0]])
MOVED, MIRRORED, SHEARED, NEARLY = (HERE.copy() for _ in range(4))
MOVED[:3, 3] += [1, 2, 3]
MIRRORED[0] *= -1
SHEARED[:3, 1] += [0.2, 0, 0.0]
NEARLY[:3, 3] += [0.4, 0.3, 1.2]
HEADERS = {  # sform, its code, qform, its code, unit, bytes that are written over the file's, what is said
    "same": (HERE, 1, HERE, 1, "mm", {}, ""),
    "same in two spaces": (HERE, 4, HERE, 1, "mm", {}, ""),
    "less than half a voxel": (HERE, 1, NEARLY, 1, "mm", {}, ""),
    "moved": (HERE, 2, MOVED, 1, "mm", {}, "its sform and qform lie 3.7 mm apart"),
    "moved, one space": (HERE, 1, MOVED, 1, "mm", {}, "its sform and qform lie 3.7 mm apart"),
    "mirrored": (HERE, 4, MIRRORED, 1, "mm", {}, "its sform and qform mirror each other"),
    "sheared": (SHEARED, 1, HERE, 1, "mm", {}, "its sform and qform lie 1.2 mm apart"),
    "sform": (HERE, 2, MOVED, 0, "mm", {}, ""),
    "qform": (MOVED, 0, HERE, 2, "mm", {}, ""),
    "neither": (MOVED, 0, HERE, 0, "mm", {}, ""),
    "slices reversed by qfac": (HERE, 0, HERE, 1, "mm", {76: (-1,)}, ""),
    "no qfac": (HERE, 0, HERE, 1, "mm", {76: (0,)}, ""),
    "other sides": (HERE, 1, HERE, 0, "mm", {80: (1, 1, 1)}, "its sform and pixdim lie 6.3 mm apart"),
    "no sides": (HERE, 1, HERE, 0, "mm", {80: (0, 0, 0)}, "its sform and pixdim lie 6.3 mm apart"),
    "negative side": (HERE, 0, HERE, 1, "mm", {80: (-0.9,)}, "its qform and pixdim mirror each other"),
    "in metres": (np.diag([1e-3] * 3 + [1]) @ HERE, 1, np.diag([1e-3] * 3 + [1]) @ HERE, 1, "meter", {}, ""),
}


def write_ct(path, sform, sform_code, qform, qform_code, units, over, said) -> str:
    """NOISE with a header; returns what is said of it."""
    image = nibabel.Nifti1Image(NOISE.T, None)
    image.set_qform(qform, qform_code)  # sets pixdim, too
    image.set_sform(sform, sform_code)
    image.header.set_xyzt_units(units)
    content = bytearray(image.to_bytes())
    for at, numbers in over.items():
        struct.pack_into(f"<{len(numbers)}f", content, at, *numbers)
    path.write_bytes(content)
    return said


def as_itk_has_it(path) -> list:
    image = SimpleITK.ReadImage(str(path))
    return [*image.GetOrigin(), *image.GetSpacing(), *image.GetDirection()]


@pytest.mark.parametrize("name", HEADERS)
def test_a_mask_has_all_that_the_header_of_its_ct_says_of_its_place(tmp_path, name):
    write_ct(tmp_path / "ct.nii", *HEADERS[name])
    scan = open_nifti(tmp_path / "ct.nii")
    rows = [make_row("ct", z, **row_fields(scan.frame, z)) for z in range(len(scan))]  # as steps 4 and 5 pass it on
    for frame in (scan.frame, frame_of(rows)):
        (tmp_path / "mask.nii.gz").write_bytes(nifti_bytes(scan.read() > 0, frame))
        ct, mask = (nibabel.load(tmp_path / file) for file in ("ct.nii", "mask.nii.gz"))
        assert read_forms(mask) == read_forms(ct)
        np.testing.assert_array_equal(np.asanyarray(mask.dataobj), NOISE.T > 0)
        assert as_itk_has_it(tmp_path / "mask.nii.gz") == as_itk_has_it(tmp_path / "ct.nii")


@pytest.mark.parametrize("name", HEADERS)
def test_one_line_says_where_programs_differ_and_what_is_followed(tmp_path, name):
    said = write_ct(tmp_path / "ct.nii", *HEADERS[name])
    form = "qform" if "qform and pixdim" in said else "sform"
    end = f", and programs differ in which they follow: position and sides here follow the {form}"
    warned = [text for text in open_nifti(tmp_path / "ct.nii").warnings if "left and right" not in text]
    assert warned == ([said + end] if said else [])


@pytest.mark.parametrize("name", ["moved", "mirrored", "slices reversed by qfac", "in metres"])
def test_a_mask_of_some_slices_lies_on_them_by_either_form(tmp_path, name):
    write_ct(tmp_path / "ct.nii", *HEADERS[name])
    scan = open_nifti(tmp_path / "ct.nii")
    lung = scan.read() > 0
    (tmp_path / "part.nii.gz").write_bytes(nifti_bytes(lung[1:3], take_slices(scan.frame, np.arange(1, 3))))
    part = SimpleITK.ReadImage(str(tmp_path / "part.nii.gz"))
    ct = SimpleITK.ReadImage(str(tmp_path / "ct.nii"))
    values = SimpleITK.GetArrayFromImage(ct) > 0
    values[[0, 3]] = False
    np.testing.assert_allclose(itk_points(part, SimpleITK.GetArrayFromImage(part) > 0), itk_points(ct, values))
    again = open_nifti(tmp_path / "part.nii.gz").frame
    np.testing.assert_allclose(again.corners_mm, scan.frame.corners_mm[1:3], atol=1e-4)


def test_the_corner_that_differs_most_is_looked_at():
    image = nibabel.Nifti1Image(np.zeros((100, 80, 40), np.int16), HERE)
    image.set_qform(HERE, 1)
    image.header["quatern_b"] = 0.01  # turned by some degrees about the first voxel, which stays
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forms = " ".join(str(number) for name in FIELDS for number in np.ravel(image.header[name])[: FIELDS[name]])
        assert form_warnings(forms, (2, 2, 2)) == []
        assert "its sform and qform lie" in form_warnings(forms, (100, 80, 40))[0]


def test_only_a_mask_that_itk_cannot_open_is_said_to_be_sheared(tmp_path):
    for name, said in (("sheared", False), ("sform", False), ("only sheared", True)):
        header = HEADERS.get(name, (SHEARED, 1, HERE, 0, "mm", {}, ""))
        write_ct(tmp_path / "ct.nii", *header)
        frame = open_nifti(tmp_path / "ct.nii").frame
        content = nifti_bytes(NOISE > 0, frame)
        (tmp_path / "mask.nii.gz").write_bytes(content)
        flags = nifti_flags(frame, content, ".nii.gz")
        assert [flag.startswith("the .nii.gz is sheared") for flag in flags] == [True] * said
        if said:
            with pytest.raises(RuntimeError, match="orthonormal"):
                SimpleITK.ReadImage(str(tmp_path / "mask.nii.gz"))
        else:
            SimpleITK.ReadImage(str(tmp_path / "mask.nii.gz"))


@pytest.mark.parametrize(("name", "said"), [("same", False), ("moved", True), ("neither", True), ("sform", False)])
def test_a_seg_nrrd_says_where_it_lies_beside_its_nifti_file(tmp_path, name, said):
    write_ct(tmp_path / "ct.nii", *HEADERS[name])
    flags = nrrd_flags(open_nifti(tmp_path / "ct.nii").frame, b"", ".seg.nrrd")
    assert [flag.startswith("the .seg.nrrd lies on the CT only") for flag in flags] == [True] * said
