"""Scans as they should not be: a kind for each way in which a folder of CT can be wrong, odd or merely rare.

Each kind writes one scan of a phantom into a folder and says what is to come of it: the CT as the pipeline must
store it, or a part of the one-line reason for which the scan is refused, and a part of what is remarked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from lungct.phantom.lidc_tree import write_series
from lungct.phantom.render import make_patient
from lungct.scans.lidc import LidcScan

WHO = LidcScan("ODD-1", "1.2.826.1", "1.2.826.1.1")
MATRIX = (60, 72)


@dataclass(frozen=True)
class Outcome:
    """What must come of a scan: the CT that is stored, or why it is refused; and what is remarked."""

    ct_hu: np.ndarray | None = None
    refused: str = ""
    remark: str = ""


KINDS: dict[str, Callable[[Path], Outcome]] = {}


def kind(name: str) -> Callable:
    """Register what makes a scan of this kind."""

    def register(make: Callable[[Path], Outcome]) -> Callable[[Path], Outcome]:
        KINDS[name] = make
        return make

    return register


@cache
def phantom() -> tuple[np.ndarray, tuple[float, float, float]]:
    """CT in HU (Z, H, W) and spacing."""
    patient = make_patient(2, MATRIX, slice_mm=20.0)
    return np.clip(patient.ct_hu, -1024, 3071), patient.spacing_mm


def write(folder: Path, ct_hu: np.ndarray | None = None, **tags) -> list[Path]:
    """Write the phantom (or another volume) and return its files in ascending z."""
    volume, spacing = phantom()
    write_series(folder, WHO, volume if ct_hu is None else ct_hu, spacing, **tags)
    return sorted(folder.glob("1-*.dcm"))


def edit(path: Path, **tags) -> None:
    """Set tags of a file; None deletes."""
    dataset = pydicom.dcmread(path)
    for tag, value in tags.items():
        if value is None:
            delattr(dataset, tag)
        else:
            setattr(dataset, tag, value)
    dataset.save_as(path)


def middle_file(folder: Path) -> Path:
    files = write(folder)
    return files[len(files) // 2]


@kind("truncated in the pixels")
def _(folder):
    path = middle_file(folder)
    path.write_bytes(path.read_bytes()[:-3000])
    return Outcome(refused=f"{path.name}: cannot decode the pixels")


@kind("truncated in the header")
def _(folder):
    path = middle_file(folder)
    path.write_bytes(path.read_bytes()[:400])
    rest = np.delete(phantom()[0], len(phantom()[0]) // 2, 0)
    return Outcome(rest, refused="cut off", remark="slices missing in 1 place")


@kind("zero bytes")
def _(folder):
    path = middle_file(folder)
    path.write_bytes(b"")
    rest = np.delete(phantom()[0], len(phantom()[0]) // 2, 0)
    return Outcome(rest, refused="an empty file", remark="slices missing in 1 place")


@kind("text named .dcm")
def _(folder):
    write(folder)
    (folder / "notes.dcm").write_text("not an image " * 40)
    return Outcome(phantom()[0])


for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):

    @kind(f"no {tag}")
    def _(folder, tag=tag):
        path = middle_file(folder)
        edit(path, **{tag: None})
        return Outcome(refused=f"{path.name}: no {tag} in the header")


for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):

    @kind(f"{tag} without a value")
    def _(folder, tag=tag):
        path = middle_file(folder)
        edit(path, **{tag: ""})
        return Outcome(refused=f"{path.name}: no {tag} in the header")


@kind("no pixel data")
def _(folder):
    path = middle_file(folder)
    edit(path, PixelData=None)
    return Outcome(refused=f"{path.name}: cannot decode the pixels")


@kind("no transfer syntax")
def _(folder):
    path = middle_file(folder)
    dataset = pydicom.dcmread(path)
    del dataset.file_meta.TransferSyntaxUID
    dataset.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=False)
    return Outcome(refused=f"{path.name}: cannot decode the pixels")


for syntax in (JPEG2000Lossless, RLELossless):

    @kind(f"compressed as {syntax.name}")
    def _(folder, syntax=syntax):
        stored = phantom()[0].astype(np.int32) + 1024  # encoders take no negative 16-bit values
        for path, image in zip(write(folder), stored, strict=True):
            dataset = pydicom.dcmread(path)
            dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 0, 12, 11
            dataset.PixelData = image.astype("<u2").tobytes()
            dataset.compress(syntax)
            dataset.save_as(path)
        return Outcome(phantom()[0])


@kind("compressed as JPEG lossless")
def _(folder):
    import SimpleITK

    for path, image in zip(write(folder), phantom()[0], strict=True):
        writer = SimpleITK.ImageFileWriter()
        writer.SetFileName(str(folder / "coded.dcm"))
        writer.UseCompressionOn()
        writer.SetCompressor("JPEG")
        writer.Execute(SimpleITK.GetImageFromArray((image.astype(np.int32) + 1024).astype(np.uint16)))
        coded = pydicom.dcmread(folder / "coded.dcm")
        (folder / "coded.dcm").unlink()
        assert coded.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.70"
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = coded.file_meta.TransferSyntaxUID
        for tag in ("PixelRepresentation", "BitsAllocated", "BitsStored", "HighBit"):
            setattr(dataset, tag, getattr(coded, tag))
        dataset.PixelData = coded.PixelData
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(path)
    return Outcome(phantom()[0])


for syntax in (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian):

    @kind(syntax.name)
    def _(folder, syntax=syntax):
        for path in write(folder):
            read = pydicom.dcmread(path)
            dataset = pydicom.Dataset(read)  # forgets how it was encoded
            dataset.file_meta = read.file_meta
            dataset.file_meta.TransferSyntaxUID = syntax
            if syntax == ExplicitVRBigEndian:
                dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
                dataset["PixelData"].VR = "OW"
            dataset.save_as(path, enforce_file_format=True)
        return Outcome(phantom()[0])


for signed, bits in ((0, 12), (0, 16), (1, 16)):

    @kind(f"{'signed' if signed else 'unsigned'}, {bits} bits stored")
    def _(folder, signed=signed, bits=bits):
        for path, image in zip(write(folder), phantom()[0], strict=True):
            stored = (image.astype(np.int32) + (0 if signed else 1024)).astype("<i2" if signed else "<u2")
            tags = {"PixelRepresentation": signed, "BitsStored": bits, "HighBit": bits - 1}
            edit(path, **tags, PixelData=stored.tobytes(), RescaleIntercept=0 if signed else -1024)
        return Outcome(phantom()[0])


@kind("slope not 1")
def _(folder):
    even = phantom()[0] // 2 * 2
    for path, image in zip(write(folder), even, strict=True):
        stored = (image.astype(np.int32) + 1024) // 2
        edit(path, PixelData=stored.astype("<i2").tobytes(), RescaleSlope=2, RescaleIntercept=-1024)
    return Outcome(even)


@kind("a slice twice")
def _(folder):
    path = middle_file(folder)
    (folder / "copy.dcm").write_bytes(path.read_bytes())
    return Outcome(phantom()[0], remark="1 slice at a place already taken left out")


@kind("a slice missing in the middle")
def _(folder):
    middle_file(folder).unlink()
    return Outcome(np.delete(phantom()[0], len(phantom()[0]) // 2, 0), remark="slices missing in 1 place")


@kind("unequal spacing")
def _(folder):
    files = write(folder)
    for n, path in enumerate(files):
        edit(path, ImagePositionPatient=[0, 0, 20.0 * n + (7 if n > len(files) // 2 else 0)])
    return Outcome(phantom()[0], remark="unequal")


@kind("two series in a folder")
def _(folder):
    write(folder)
    for path in write(folder / "scout", phantom()[0][:4]):
        edit(path, SeriesInstanceUID="1.2.826.1.2")
        path.rename(folder / f"other-{path.name}")
    return Outcome(phantom()[0])


@kind("localiser in the series")
def _(folder):
    path = write(folder)[0]
    (folder / "scout.dcm").write_bytes(path.read_bytes())
    edit(folder / "scout.dcm", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    return Outcome(phantom()[0])


@kind("dose report beside it")
def _(folder):
    path = write(folder)[0]
    (folder / "dose.dcm").write_bytes(path.read_bytes())
    edit(folder / "dose.dcm", Modality="SR", PixelData=None, ImagePositionPatient=None)
    return Outcome(phantom()[0])


@kind("multi-frame enhanced CT")
def _(folder):
    path = write(folder)[0]
    for other in folder.glob("1-*.dcm"):
        if other != path:
            other.unlink()
    stored = phantom()[0].astype("<i2")
    edit(path, NumberOfFrames=len(stored), PixelData=stored.tobytes(), SOPClassUID=EnhancedCTImageStorage)
    edit(path, ImagePositionPatient=None, ImageOrientationPatient=None, PixelSpacing=None)
    return Outcome(refused="multi-frame")


@kind("feet first")
def _(folder):
    files = write(folder)
    for n, path in enumerate(files):
        edit(path, PatientPosition="FFS", InstanceNumber=n + 1)
    return Outcome(phantom()[0])


@kind("prone")
def _(folder):
    write(folder, phantom()[0][:, ::-1, ::-1], ImageOrientationPatient=[-1, 0, 0, 0, -1, 0], PatientPosition="HFP")
    return Outcome(phantom()[0])


@kind("sagittal")
def _(folder):
    write(folder, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    return Outcome(refused="not axial")


@kind("oblique")
def _(folder):
    write(folder, ImageOrientationPatient=[0.6, 0, 0.8, 0, 1, 0])
    return Outcome(refused="not axial")


@kind("gantry tilt")
def _(folder):
    files = write(folder, ImageOrientationPatient=[1, 0, 0, 0, 0.9659, -0.2588])
    for n, path in enumerate(files):
        edit(path, ImagePositionPatient=[0, 0, 20.0 * n])
    return Outcome(phantom()[0])


@kind("one slice")
def _(folder):
    write(folder, phantom()[0][8:9])
    return Outcome(phantom()[0][8:9])


@kind("1,000 slices")
def _(folder):
    small = np.repeat(phantom()[0][8:9, ::4, ::4], 1000, 0)
    write(folder, small)
    return Outcome(small)


for shape in ((256, 256), (768, 768), (1024, 1024), (96, 160)):

    @kind("{} x {} pixels".format(*shape))
    def _(folder, shape=shape):
        rows, cols = (np.linspace(0, n - 1, m).astype(int) for n, m in zip(MATRIX, shape, strict=True))
        volume = phantom()[0][7:10][:, rows][:, :, cols]
        write(folder, volume)
        return Outcome(volume)


@kind("HU off by 1024")
def _(folder):
    write(folder, RescaleIntercept=0)
    return Outcome(refused="not HU")


@kind("values from 0 to 1")
def _(folder):
    write(folder, ((phantom()[0].astype(float) + 1024) / 4095).round().astype(np.int16))
    return Outcome(refused="not HU")


@kind("values from 0 to 255")
def _(folder):
    grey = np.clip((phantom()[0].astype(float) + 1000) / 1400 * 255, 0, 255).astype(np.int16)
    write(folder, grey, RescaleIntercept=0, PixelData=None)
    for path, image in zip(sorted(folder.glob("1-*.dcm")), grey, strict=True):
        edit(path, PixelData=image.astype("<i2").tobytes())
    return Outcome(refused="8-bit grey levels, not HU")


@kind("constant image")
def _(folder):
    write(folder, np.full((4, *MATRIX), 40, np.int16))
    return Outcome(refused="not HU")


@kind("MR")
def _(folder):
    write(folder, Modality="MR")
    return Outcome(refused="holds no CT")


@kind("X-ray")
def _(folder):
    write(folder, Modality="DX")
    return Outcome(refused="holds no CT")


@kind("no lungs in it")
def _(folder):
    belly = phantom()[0][:2]
    write(folder, belly)
    return Outcome(belly)


def save_nifti(folder: Path, volume: np.ndarray, units: str = "mm") -> None:
    """Write (Z, H, W) in LPS as a NIfTI file."""
    folder.mkdir(parents=True, exist_ok=True)
    z, y, x = phantom()[1]
    image = nibabel.Nifti1Image(volume.T, np.diag([-x, -y, z, 1]))
    image.header.set_xyzt_units(units)
    nibabel.save(image, folder / "odd.nii.gz")


@kind("NaN in NIfTI")
def _(folder):
    volume = phantom()[0].astype(np.float32)
    volume[:, :5] = np.nan
    save_nifti(folder, volume)
    return Outcome(np.nan_to_num(volume, nan=-1024).astype(np.int16))


@kind("NIfTI with four dimensions")
def _(folder):
    save_nifti(folder, np.stack([phantom()[0], phantom()[0]]))
    return Outcome(refused="4 dimensions")


@kind("NIfTI without units")
def _(folder):
    save_nifti(folder, phantom()[0], units="unknown")
    return Outcome(phantom()[0])


@kind("NIfTI cut short")
def _(folder):
    save_nifti(folder, phantom()[0])
    path = folder / "odd.nii.gz"
    path.write_bytes(path.read_bytes()[:2000])
    return Outcome(refused="odd.nii.gz: no readable volume")
