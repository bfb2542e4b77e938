"""Scans and volumes for tests of where masks lie: patients in all positions, files with their axes in any order."""

import io

import nibabel
import numpy as np
import pydicom
import SimpleITK
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage

from lungct.phantom.lidc_tree import write_series
from lungct.scans.geometry import Frame
from lungct.scans.lidc import LidcScan

WHO = LidcScan("P1", "1.2.3", "1.2.3.4")
SPACING_MM = (2.5, 0.7, 0.9)
FRAMES = {  # ImageOrientationPatient: as it is, prone, feet first (both mirrored), on its side, tilted gantry
    "supine": [1, 0, 0, 0, 1, 0],
    "prone": [-1, 0, 0, 0, -1, 0],
    "mirrored": [-1, 0, 0, 0, 1, 0],
    "lateral": [0, 1, 0, -1, 0, 0],
    "tilted": [1, 0, 0, 0, 0.984808, -0.173648],
}
NOISE = np.random.default_rng(3).integers(-1000, 1000, (4, 6, 8)).astype(np.int16)
CT_HU = np.random.default_rng(1).integers(-1024, 1000, (6, 8, 10)).astype(np.int16)
PLAIN_TAGS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "RescaleSlope")


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


def frame_at(z_mm, shape=(6, 8), x_mm=0.0) -> Frame:
    """Axial slices at some heights, their first pixels at `x_mm` sideways (one value or one each)."""
    corners = np.zeros((len(z_mm), 3))
    corners[:, 0], corners[:, 2] = x_mm, z_mm
    return Frame(corners, np.eye(3)[:2], SPACING_MM, shape)


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


def rotation(degrees: float, axis: int) -> np.ndarray:
    """(3, 3), about one of the axes."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(3)
    turn[np.ix_(*[[n for n in range(3) if n != axis]] * 2)] = [[c, -s], [s, c]]
    return turn


def item(**tags) -> Sequence:
    """A sequence of one dataset with these tags."""
    dataset = Dataset()
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    return Sequence([dataset])


def write_enhanced(path, ct_hu=CT_HU, order=None, orientation=(1, 0, 0, 0, 1, 0), phases=1, slopes=(1, 1)):
    """Enhanced CT, one file; `order` gives the slice in each frame, `slopes` those of even and odd frames."""
    write_series(path.parent / "one", WHO, ct_hu[:1], SPACING_MM)
    dataset = pydicom.dcmread(path.parent / "one" / "1-001.dcm")
    (path.parent / "one" / "1-001.dcm").unlink()
    for tag in (*PLAIN_TAGS, "RescaleIntercept"):
        delattr(dataset, tag)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    shared = Dataset()
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=list(orientation))
    shared.PixelMeasuresSequence = item(PixelSpacing=list(SPACING_MM[1:]), SliceThickness=SPACING_MM[0])
    shared.CTImageFrameTypeSequence = item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    frames, pixels = [], []
    for number, k in enumerate(list(order or range(len(ct_hu))) * phases):
        own, slope = Dataset(), slopes[number % 2]
        own.PlanePositionSequence = item(ImagePositionPatient=[0, 0, SPACING_MM[0] * k])
        own.PixelValueTransformationSequence = item(RescaleSlope=slope, RescaleIntercept=-1024)
        own.FrameContentSequence = item(TemporalPositionIndex=1 + number // len(ct_hu))
        frames.append(own)
        pixels.append((ct_hu[k].astype(int) + 1024) // slope)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    dataset.NumberOfFrames = len(frames)
    dataset.PixelData = np.stack(pixels).astype("<i2").tobytes()
    dataset.save_as(path)


def read_strictly(content: bytes) -> Dataset:
    """A DICOM file; a value that its type does not allow is an error."""
    settings = pydicom.config.settings
    before, settings.reading_validation_mode = settings.reading_validation_mode, pydicom.config.RAISE
    try:
        dataset = pydicom.dcmread(io.BytesIO(content))
        dataset.walk(lambda _, element: element.value)
    finally:
        settings.reading_validation_mode = before
    return dataset
