"""A volume in one file: NIfTI, MetaImage or NRRD, turned to the one orientation (LPS) that geometry.py describes.

Z slices, H rows, W columns; I, J, K the axes of the file's own array.
"""

import glob
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lungct import LungError
from lungct.scans.geometry import (
    AXIAL_COSINE,
    GUESSED,
    Frame,
    Scan,
    check_size,
    check_spacing,
    frame_warnings,
    normal_of,
)
from lungct.scans.headers import DECODE_ERRORS, first_line
from lungct.scans.hu import to_hu
from lungct.scans.nifti_forms import affine_of, followed_form, form_warnings, header_of, read_forms
from lungct.slices import DICOM_UID, SliceRow

NIFTI_ENDINGS = (".nii.gz", ".nii")
VOLUME_ENDINGS = (*NIFTI_ENDINGS, ".mhd", ".mha", ".nrrd", ".nhdr")
NOT_A_NUMBER_HU = -1024  # what some tools write outside the field of view as NaN or infinity
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # NIfTI counts to the right and to the front
MAX_HEADER = 2**20  # bytes of a header that lists the files of its slices
LIST = re.compile(r"LIST(\s.*)?")
NUMBER, PATTERN = re.compile(r"%\d*d"), re.compile(r".*%\d*d\S*")  # of file names, as printf has them: s%03d.raw 1 16 1
NRRD_SAYS_SIDES = re.compile(rb"(?im)^space:\s*((left|right)-|[LR][AP]S)")  # not 3D-right-handed, scanner-xyz
METAIMAGE_SAYS_SIDES = re.compile(  # RAI is what ITK takes where there is no matrix, whatever else stands there
    rb"(?m)^\s*((TransformMatrix|Rotation|Orientation)\s*[=:]|AnatomicalOrientation\s*[=:]\s*RAI\b)"
)
UNITS = re.compile(rb"(?m)^\s*(?:DistanceUnits\s*[=:]|(?:space )?units:(?!=))(.*)$")  # MetaImage, NRRD
MILLIMETRES = {"mm", "millimeter", "millimeters", "millimetre", "millimetres"}
UNSAID = {"?", "??", "???", "none", "unknown"}
DATA_FILE = re.compile(rb"(?im)^(?:ElementDataFile|data ?file)\s*[=:]\s*(\S.*?)\s*$")  # MetaImage, NRRD


@dataclass(frozen=True)
class NiftiScan(Scan):
    """One file a volume, turned to LPS and held in memory: volume (Z, H, W)."""

    volume: np.ndarray = field(kw_only=True)

    def _read_slice(self, z_index: int) -> np.ndarray:
        return self.volume[z_index]


def open_nifti(path: Path) -> NiftiScan:
    """Open a volume of any of VOLUME_ENDINGS in HU; patient and series are named after the file.

    Raises LungError as `read_volume` does.
    """
    volume, frame = read_volume(path)
    if volume.dtype.kind == "f":
        volume = np.nan_to_num(
            volume.astype(np.float32, copy=False), nan=NOT_A_NUMBER_HU, posinf=NOT_A_NUMBER_HU, neginf=NOT_A_NUMBER_HU
        )
    name, forms = stem(path), frame.nifti_forms
    warnings = form_warnings(forms, frame.source_shape) if forms else []
    return NiftiScan(
        patient_id=name,
        series_uid=name,
        files=volume_files(path),
        frame=frame,
        warnings=(*warnings, *frame_warnings(frame)),
        volume=to_hu(volume, 1, 0.0),
    )


def read_volume(path: Path) -> tuple[np.ndarray, Frame]:
    """A NIfTI, MetaImage or NRRD file turned to LPS: (Z, H, W) array, and where it lies.

    Raises LungError where it is no 3-D volume of numbers, is not axial, or its millimetres cannot be.
    """
    from nibabel import orientations  # here, as SimpleITK below: DICOM users never need them

    read = _read_nifti if has_ending(path, NIFTI_ENDINGS) else _read_by_itk
    volume, affine, forms, is_placed = read(path)  # (I, J, K), to millimetres to the right, front and head
    check_affine(path, affine)
    as_stored = orientations.io_orientation(affine)
    source_axes = "".join(orientations.ornt2axcodes(as_stored)) + ("" if is_placed else GUESSED)
    turn = orientations.ornt_transform(as_stored, orientations.axcodes2ornt("LPS"))
    affine = RAS_TO_LPS @ affine @ orientations.inv_ornt_aff(turn, volume.shape)
    volume = orientations.apply_orientation(volume, turn).transpose(2, 1, 0)
    col_mm, row_mm = (float(mm) for mm in np.linalg.norm(affine[:3, :2], axis=0))
    axes = affine[:3, :2].T / [[col_mm], [row_mm]]
    slice_mm = float(affine[:3, 2] @ normal_of(axes))
    check_spacing(path, (slice_mm, row_mm, col_mm))
    corners_mm = affine[:3, 3] + np.arange(len(volume))[:, None] * affine[:3, 2]
    return volume, Frame(corners_mm, axes, (slice_mm, row_mm, col_mm), volume.shape[1:], source_axes, forms)


def check_affine(path: Path, affine: np.ndarray) -> None:
    """Raises LungError where an affine (4, 4) says nothing of a place, or the slices are far from axial."""
    lengths_mm = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not all(1e-6 < mm < 1e6 for mm in lengths_mm):
        raise LungError(
            f"{path}: its affine makes voxels of {' x '.join(f'{mm:.4g}' for mm in lengths_mm)} mm; correct its header"
        )
    unit = affine[:3, :3] / lengths_mm
    along_body = int(np.abs(unit[2]).argmax())  # the axis that runs from slice to slice
    across = np.cross(*np.delete(unit, along_body, axis=1).T)
    if min(abs(np.linalg.det(unit)), abs(unit[2, along_body]), abs(across[2])) < AXIAL_COSINE:
        raise LungError(f"{path}: its axes are oblique or sheared by more than 37 degrees; resample it to axial slices")


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray, str, bool]:
    """(An array (I, J, K); its affine in millimetres, RAS; `Frame.nifti_forms`; whether the file says where it lies).

    Raises LungError.
    """
    import nibabel  # SimpleITK would turn NaN into 0

    try:
        image = nibabel.load(path)
        check_dimensions(path, image.shape)
        if image.get_data_dtype().kind not in "iuf":
            raise LungError(f"{path}: not a numeric volume (colours or complex numbers); export it in HU")
        volume = np.asanyarray(image.dataobj).reshape(image.shape[:3])
        forms = read_forms(image)
        header = header_of(forms)
        form = followed_form(header)
        affine = affine_of(header, form) if form else image.affine  # nibabel's guess
    except (*DECODE_ERRORS, nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError) as error:
        raise LungError(f"{path}: no readable volume ({first_line(error)})") from error
    return volume, affine, forms, bool(form)


def _read_by_itk(path: Path) -> tuple[np.ndarray, np.ndarray, str, bool]:
    """The same of MetaImage and NRRD. Raises LungError."""
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    is_nrrd = has_ending(path, (".nrrd", ".nhdr"))
    reader.SetImageIO("NrrdImageIO" if is_nrrd else "MetaImageIO")
    reader.SetFileName(str(path))
    try:
        header = header_text(path)
        reader.ReadImageInformation()
        shape = reader.GetSize()
        check_dimensions(path, shape)
        if reader.GetNumberOfComponents() != 1 or "complex" in SimpleITK.GetPixelIDValueAsString(reader.GetPixelID()):
            raise LungError(f"{path}: not a numeric volume (colours or complex numbers); export it in HU")
        check_units(path, header)
        image = reader.Execute()
    except (OSError, RuntimeError) as error:
        raise LungError(f"{path}: no readable volume ({str(error).strip().splitlines()[-1]})") from error
    directions = np.reshape(image.GetDirection(), (len(shape), len(shape)))
    affine = np.eye(4)
    affine[:3, :3] = (directions * image.GetSpacing())[:3, :3]
    affine[:3, 3] = image.GetOrigin()[:3]
    is_placed = bool((NRRD_SAYS_SIDES if is_nrrd else METAIMAGE_SAYS_SIDES).search(header))
    return SimpleITK.GetArrayFromImage(image).T.reshape(shape[:3]), RAS_TO_LPS @ affine, "", is_placed


def header_text(path: Path) -> bytes:
    """The header of a MetaImage or NRRD file, lines of text, without the numbers that may follow."""
    with path.open("rb") as file:
        text = file.read(MAX_HEADER)
    end = re.search(rb"\r?\n\r?\n|^ElementDataFile.*$", text, re.MULTILINE)
    return text[: end.start()] if end else text


def check_units(path: Path, header: bytes) -> None:
    """Raises LungError where a header says that its lengths are no millimetres, which ITK passes over."""
    for line in UNITS.findall(header):
        for unit in re.findall(r'"[^"]*"|[^\s"]+', line.decode(errors="replace"))[:3]:  # axes
            if unit.strip('" ').lower() not in {"", *MILLIMETRES, *UNSAID}:
                raise LungError(f"{path}: its lengths are in {unit}, which most programs take for mm; save it in mm")


def check_dimensions(path: Path, shape: tuple[int, ...]) -> None:
    """Raises LungError where an array (I, J, K, ...) is not one volume, or larger than any."""
    if len(shape) < 3 or any(size != 1 for size in shape[3:]):
        remedy = "give the whole volume" if len(shape) < 3 else "split it first"
        raise LungError(f"{path}: {len(shape)} dimensions ({' x '.join(map(str, shape))}), a volume has 3; {remedy}")
    check_size(path, shape)


def has_ending(path: Path, endings: tuple[str, ...] = VOLUME_ENDINGS) -> bool:
    """Whether a file's name ends in one of them, in small letters or capitals."""
    return path.name.casefold().endswith(endings)


def stem(path: Path) -> str:
    """File name without its ending, .nii.gz being one."""
    ending = next((ending for ending in VOLUME_ENDINGS if has_ending(path, (ending,))), path.suffix)
    return path.name[: len(path.name) - len(ending)] or path.name


def dicom_series(row: SliceRow) -> str:
    """The DICOM series that a slice was read from; empty for a volume, also where its file is named after a series."""
    return "" if has_ending(Path(row.source)) or not DICOM_UID.fullmatch(row.series_uid) else row.series_uid


def volume_files(path: Path) -> tuple[Path, ...]:
    """The file of a volume, and those that hold its numbers where its header (.mhd, .nhdr) names others."""
    if not has_ending(path, (".mhd", ".nhdr")):
        return (path,)
    with path.open("rb") as file:
        header = file.read(MAX_HEADER)
    found = DATA_FILE.search(header)
    files = data_files(path.parent, found[1], header[found.end() :]) if found else []
    return (path, *(file for file in files if file != path and file.is_file()))


def data_files(folder: Path, named: bytes, lines_below: bytes) -> list[Path]:
    """The files that a header names: one, a list below, or all of a pattern, whichever numbers it asks for."""
    text = named.decode(errors="replace")
    if LIST.fullmatch(text):
        return [folder / line.strip() for line in lines_below.decode(errors="replace").splitlines() if line.strip()]
    if pattern := PATTERN.match(text):
        place = folder / pattern[0]
        return sorted(place.parent.glob(NUMBER.sub("*", glob.escape(place.name))))
    return [folder / text]
