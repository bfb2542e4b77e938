"""Where a NIfTI header says that its voxels lie: sform, qform and voxel sizes (pixdim), which may not be the same.

After a registration the one form often has the new place and the other the old one, and programs differ in which they
follow: nibabel the sform, ITK (3D Slicer, ITK-SNAP, SimpleITK) for some codes the qform, and pixdim for the voxel's
size even with the sform. A mask takes over all of them from its CT, so that it lies on the CT in every program.
I, J, K the axes of the file's own array; affines (4, 4) are to millimetres to the right, front and head.
"""

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nibabel import Nifti1Header, Nifti1Image

FIELDS = {
    "pixdim": 4,  # the turn of the qform (1 or -1), then the voxel's three sides
    **dict.fromkeys(("xyzt_units", "qform_code", "sform_code"), 1),
    **dict.fromkeys(("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"), 1),
    **dict.fromkeys(("srow_x", "srow_y", "srow_z"), 4),
}
UNIT_MM = {"meter": 1000.0, "micron": 0.001}  # by xyzt_units; all others are millimetres
MAX_OFF = 0.5  # voxels between two readings of a header; less is rounding
STRAIGHT = 5e-5  # in a cosine: ITK refuses an sform that is sheared by more, where there is no qform


def read_forms(image: "Nifti1Image") -> str:
    """The FIELDS of an image's file as they stand there, also where nibabel would correct them: numbers, by spaces."""
    with image.file_map["image"].get_prepare_fileobj("rb") as file:
        header = type(image.header).from_fileobj(file, check=False)
    numbers = np.hstack([np.ravel(header[name])[:size].astype(float) for name, size in FIELDS.items()])
    return " ".join(f"{number:.9g}" for number in numbers)  # all digits of a float32


def header_of(forms: str) -> "Nifti1Header":
    """A header with these FIELDS."""
    from nibabel import Nifti1Header  # here, as below: DICOM users never need it

    header, numbers = Nifti1Header(), [float(number) for number in forms.split()]
    for name, size in FIELDS.items():
        part, numbers = numbers[:size], numbers[size:]
        if name == "pixdim":
            header[name][:4] = part
        else:
            header[name] = part if size > 1 else part[0]
    return header


def followed_form(header: "Nifti1Header") -> str:
    """The form that says here where a file lies, as nibabel has it; empty where the header names none."""
    return next((form for form in ("sform", "qform") if header[f"{form}_code"] > 0), "")


def affine_of(header: "Nifti1Header", form: str) -> np.ndarray:
    """What a form says, in millimetres."""
    if form == "qform":
        return to_mm(header) @ rotation(header) @ np.diag([*np.abs(sides(header)), 1])
    return to_mm(header) @ np.vstack([header["srow_x"], header["srow_y"], header["srow_z"], [0, 0, 0, 1]])


def to_mm(header: "Nifti1Header") -> np.ndarray:
    """From a header's own unit: (4, 4)."""
    mm = UNIT_MM.get(header.get_xyzt_units()[0], 1.0)
    return np.diag([mm, mm, mm, 1.0])


def sides(header: "Nifti1Header") -> np.ndarray:
    """Of a voxel, by pixdim: (3,); 0 stands for 1, as NIfTI's own library has it."""
    given = header["pixdim"][1:4].astype(float)
    return np.where(given == 0, 1.0, given)


def rotation(header: "Nifti1Header") -> np.ndarray:
    """The qform (4, 4) with voxels of 1. Any quaternion will do: NIfTI's own library makes a rotation of it, too."""
    from nibabel.quaternions import quat2mat

    bcd = np.array([header[f"quatern_{letter}"] for letter in "bcd"], float)
    affine, turn = np.eye(4), -1.0 if header["pixdim"][0] < 0 else 1.0
    affine[:3, :3] = quat2mat([np.sqrt(max(0.0, 1 - bcd @ bcd)), *bcd]) * [1, 1, turn]
    affine[:3, 3] = [header[f"qoffset_{letter}"] for letter in "xyz"]
    return affine


def other_readings(header: "Nifti1Header", affine: np.ndarray) -> dict[str, np.ndarray]:
    """Where else programs may put a file, by what they follow; affine: the one that is followed here."""
    others, by_sides = {}, np.diag([*sides(header), 1])  # ITK mirrors along a negative side
    if header["qform_code"] > 0:
        others["qform"] = to_mm(header) @ rotation(header) @ by_sides
    if header["sform_code"] > 0:
        lengths_mm = np.linalg.norm(affine[:3, :3], axis=0)
        others["pixdim"] = affine @ np.diag([*(to_mm(header)[0, 0] * sides(header) / lengths_mm), 1])
    return others


def form_warnings(forms: str, shape: tuple[int, ...]) -> list[str]:
    """What to say of an array (I, J, K) that programs put in different places, a phrase."""
    header = header_of(forms)
    form = followed_form(header)
    affine = affine_of(header, form)
    corners = np.array(list(product(*[(0, size - 1, size) for size in shape], [1]))).T  # (4, 27)
    for other, place in other_readings(header, affine).items():
        away_mm = (place - affine) @ corners
        if not np.abs(np.linalg.solve(affine, away_mm)).max() <= MAX_OFF:
            is_mirrored = np.linalg.det(place[:3, :3]) * np.linalg.det(affine[:3, :3]) < 0
            how = "mirror each other" if is_mirrored else f"lie {np.linalg.norm(away_mm, axis=0).max():.1f} mm apart"
            how = f"{form} and {'pixdim' if other == form else other} {how}"
            return [f"its {how}, and programs differ in which they follow: position and sides here follow the {form}"]
    return []


def copy_forms(header: "Nifti1Header", forms: str, corner_mm: np.ndarray) -> None:
    """Give the header of a mask the FIELDS of its CT; where it begins at another voxel than the CT, moved to there.

    corner_mm: (3,), where the mask's first voxel lies by the form that is followed
    """
    given = header_of(forms)
    for name in FIELDS:
        header[name] = given[name]
    if not followed_form(given):
        return
    first = np.rint(np.linalg.solve(affine_of(given, followed_form(given)), [*corner_mm, 1]))
    if first[:3].any():
        for n, letter in enumerate("xyz"):
            header[f"srow_{letter}"][3] = given[f"srow_{letter}"] @ first
            header[f"qoffset_{letter}"] = (rotation(given) @ np.diag([*sides(given), 1]) @ first)[n]


def is_straight(affine: np.ndarray, within: float) -> bool:
    """Whether the axes of an affine are at right angles, so that a rotation can say it."""
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return np.allclose(unit.T @ unit, np.eye(3), atol=within)


def needs_shear(header: "Nifti1Header") -> bool:
    """Whether only a sheared sform says where a file lies, which ITK does not open."""
    only_sform = header["sform_code"] > 0 and header["qform_code"] <= 0
    return bool(only_sform and not is_straight(affine_of(header, "sform"), STRAIGHT))
