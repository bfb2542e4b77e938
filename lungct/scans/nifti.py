"""A volume in one file, NIfTI or MetaImage, turned to the one orientation (LPS) that scans.py describes.

Z slices, H rows, W columns.
"""

import gzip
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lungct import LungError
from lungct.scans.geometry import Frame, Scan, check_size
from lungct.scans.headers import DECODE_ERRORS, first_line
from lungct.scans.hu import to_hu

NIFTI_ENDINGS = (".nii", ".nii.gz")
NOT_A_NUMBER_HU = -1024  # what some tools write outside the field of view as NaN


@dataclass(frozen=True)
class NiftiScan(Scan):
    """One file a volume, turned to LPS and held in memory: volume (Z, H, W)."""

    volume: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0), np.int16))

    def _read_slice(self, z_index: int) -> np.ndarray:
        return self.volume[z_index]


def open_nifti(path: Path) -> NiftiScan:
    """Open a NIfTI volume in HU; patient and series are named after the file.

    Raises LungError where the file is no 3-D volume.
    """
    volume, frame = read_volume(path)
    hu = np.nan_to_num(volume.astype(np.float32), nan=NOT_A_NUMBER_HU)
    name = stem(path)
    return NiftiScan(
        patient_id=name,
        series_uid=name,
        files=(path,),
        frame=frame,
        volume=to_hu(hu, 1, 0.0),
    )


def read_volume(path: Path) -> tuple[np.ndarray, Frame]:
    """A NIfTI or MetaImage file turned to LPS: (Z, H, W) array, and where it lies.

    Raises LungError where it is no 3-D volume.
    """
    read = _read_nifti if path.name.endswith(NIFTI_ENDINGS) else _read_metaimage
    volume, corner_mm, directions, spacing_mm = read(path)
    corners_mm = corner_mm + spacing_mm[0] * np.arange(len(volume))[:, None] * directions[2]
    return volume, Frame(corners_mm, directions[:2], spacing_mm, volume.shape[1:])


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[float, float, float]]:
    import nibabel  # here, as SimpleITK below: DICOM users never need them. SimpleITK would turn NaN into 0

    try:
        image = nibabel.load(path)
        if image.ndim != 3:
            raise LungError(f"{path}: {image.ndim} dimensions, a volume has 3; split it first")
        check_size(path, image.shape)
        axes = nibabel.orientations.axcodes2ornt("LPS")
        axes = nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), axes)
        image = image.as_reoriented(axes)
        volume = np.asanyarray(image.dataobj)
    except (*DECODE_ERRORS, nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError) as error:
        raise LungError(f"{path}: no readable volume ({first_line(error)})") from error
    col_mm, row_mm, slice_mm = (float(mm) for mm in image.header.get_zooms())
    affine = RAS_TO_LPS @ image.affine
    directions = (affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)).T
    return volume.transpose(2, 1, 0), affine[:3, 3], directions, (slice_mm, row_mm, col_mm)


def _read_metaimage(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[float, float, float]]:
    import SimpleITK

    try:
        image = SimpleITK.ReadImage(str(path))
        if image.GetDimension() != 3:
            raise LungError(f"{path}: {image.GetDimension()} dimensions, a volume has 3; split it first")
        image = SimpleITK.DICOMOrient(image, "LPS")
    except RuntimeError as error:
        raise LungError(f"{path}: no readable volume ({str(error).strip().splitlines()[-1]})") from error
    col_mm, row_mm, slice_mm = image.GetSpacing()
    directions = np.reshape(image.GetDirection(), (3, 3)).T
    return SimpleITK.GetArrayFromImage(image), np.array(image.GetOrigin()), directions, (slice_mm, row_mm, col_mm)


def stem(path: Path) -> str:
    """File name without its ending, .nii.gz being one."""
    return path.name.removesuffix(".gz").rpartition(".")[0] or path.name


MAX_OFF = 0.25  # of a slice's distance, between its place and the one that NIfTI gives it
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # NIfTI counts to the right and to the front


def nifti_bytes(mask: np.ndarray, frame: Frame) -> bytes:
    """A mask or labels (Z, H, W) as the bytes of a .nii.gz (uint8) that lies where its scan lies.

    A missing slice becomes an empty one. A tilted gantry makes a sheared affine, which NIfTI can say (sform). Raises
    LungError where the slices are not equally spaced: it cannot say that.
    """
    import nibabel

    corners_mm, spacing_mm, z_mm = frame.corners_mm, frame.spacing_mm, frame.z_mm
    places = np.rint((z_mm - z_mm[0]) / spacing_mm[0]).astype(int)
    step_mm = np.array([0, 0, spacing_mm[0]])
    if len(places) > 1:
        step_mm = (corners_mm[-1] - corners_mm[0]) / places[-1]
    if len(set(places)) < len(places) or np.abs(z_mm - z_mm[0] - places * step_mm[2]).max() > MAX_OFF * spacing_mm[0]:
        raise LungError("slices at unequal distances cannot be a NIfTI file; use --save npy")
    volume = np.zeros((places[-1] + 1, *mask.shape[1:]), np.uint8)
    volume[places] = mask
    affine = np.eye(4)
    affine[:3] = np.column_stack([frame.axes[0] * spacing_mm[2], frame.axes[1] * spacing_mm[1], step_mm, corners_mm[0]])
    image = nibabel.Nifti1Image(volume.transpose(2, 1, 0), RAS_TO_LPS @ affine)
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    image.set_sform(image.affine, code="scanner")
    image.set_qform(image.affine, code="scanner" if np.allclose(unit.T @ unit, np.eye(3), atol=1e-3) else "unknown")
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), compresslevel=3, mtime=0)
