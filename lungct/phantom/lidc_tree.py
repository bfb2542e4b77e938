"""A synthetic LIDC-IDRI: real patient IDs and UIDs, the folders of TCIA's downloader, synthetic patients in them."""

import io
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from tqdm import tqdm

from lungct import LungError
from lungct.files import replace_file
from lungct.parallel import run_parallel, single_threaded_children
from lungct.phantom.render import make_patient
from lungct.scans.lidc import LidcScan, scans_without_nodules

TRAINING_FOLDER, TEST_FOLDER, REFERENCE_FOLDER = "LIDC-IDRI", "LIDC-IDRI_test", "reference"
PATIENTS_PER_TEST_PATIENT = 4
RESCALE_INTERCEPT_HU = -1024


@dataclass(frozen=True)
class TreePatient:
    """One patient of the tree: the seed of the phantom, the folder below the root, and whose name it bears."""

    seed: int
    folder: str
    identity: LidcScan


def write_lidc_tree(root: Path, patients: int) -> tuple[int, int]:
    """Write `patients` synthetic scans below `root`; returns how many are to train and to test on.

    LIDC-IDRI/ and LIDC-IDRI_test/ hold DICOM files, reference/<patient>.npz the exact lungs.
    What is there already is kept. The identities are of LIDC patients without annotated nodules, so that
    the nodule audit has nothing to look for. Raises LungError where a tree of another size lies there.
    """
    identities = scans_without_nodules()[:patients]
    tests = max(1, patients // PATIENTS_PER_TEST_PATIENT)
    folders = [TEST_FOLDER] * tests + [TRAINING_FOLDER] * (patients - tests)
    tree = [TreePatient(seed, *who) for seed, who in enumerate(zip(folders, identities, strict=True))]
    wanted = {root / patient.folder / patient.identity.patient_id for patient in tree}
    if not wanted.issuperset(root.glob(f"{TRAINING_FOLDER}*/LIDC-IDRI-*")):
        raise LungError(f"{root}: its demo is not of {patients} patients; delete that folder and run this again")
    with single_threaded_children():
        outcomes = run_parallel(partial(_write_patient, root), tree, os.cpu_count(), root / "errors.log")
        for _, outcome in tqdm(outcomes, total=len(tree), desc="phantoms", unit=" patient"):
            if isinstance(outcome, LungError):
                raise outcome
    return patients - tests, tests


def _write_patient(root: Path, patient: TreePatient) -> None:
    identity = patient.identity
    reference = root / REFERENCE_FOLDER / f"{identity.patient_id}.npz"
    if reference.exists():  # written last
        return
    phantom = make_patient(patient.seed)
    study = root / patient.folder / identity.patient_id / f"01-01-2000-NA-NA-{identity.study_uid[-5:]}"
    write_series(study / f"3000000.000000-NA-{identity.series_uid[-5:]}", identity, phantom.ct_hu, phantom.spacing_mm)
    write_xray(study / "1000000.000000-NA-00001", identity)
    content = io.BytesIO()
    np.savez_compressed(content, lung=phantom.lung, spacing_mm=phantom.spacing_mm)
    replace_file(reference, content.getvalue())


def write_series(folder: Path, identity: LidcScan, ct_hu: np.ndarray, spacing_mm: tuple, **tags) -> None:
    """Write a volume (Z, H, W) int16 in HU, ascending z, as one DICOM file a slice; `tags` overrule any tag."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, image in enumerate(ct_hu):
        slice_ = _header(identity, CTImageStorage, f"{identity.series_uid} {k}", "CT")
        slice_.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        slice_.InstanceNumber = len(ct_hu) - k  # head first, as scanners number them
        slice_.ImagePositionPatient = [0, 0, round(k * spacing_mm[0], 4)]
        slice_.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        slice_.PixelSpacing = [round(spacing_mm[1], 6), round(spacing_mm[2], 6)]
        slice_.SliceThickness = round(spacing_mm[0], 4)
        slice_.RescaleSlope, slice_.RescaleIntercept = 1, RESCALE_INTERCEPT_HU
        _set_pixels(slice_, (image.astype(np.int32) - RESCALE_INTERCEPT_HU).astype(np.int16), signed=True)
        for tag, value in tags.items():
            setattr(slice_, tag, value)
        slice_.save_as(folder / f"1-{k + 1:03d}.dcm", enforce_file_format=True)


def write_xray(folder: Path, identity: LidcScan) -> None:
    """The chest X-ray that many LIDC patients have in the same folder, for the scripts to leave alone."""
    folder.mkdir(parents=True, exist_ok=True)
    image = _header(identity, DigitalXRayImageStorageForPresentation, f"{identity.study_uid} x", "DX")
    image.SeriesInstanceUID = generate_uid(entropy_srcs=[identity.study_uid, "x-ray"])
    _set_pixels(image, np.zeros((48, 40), np.int16), signed=False)
    image.save_as(folder / "1-1.dcm", enforce_file_format=True)


def _header(identity: LidcScan, sop_class: str, source: str, modality: str) -> Dataset:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = sop_class
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = generate_uid(entropy_srcs=[source])
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.PatientID, header.Modality = identity.patient_id, modality
    header.StudyInstanceUID, header.SeriesInstanceUID = identity.study_uid, identity.series_uid
    return header


def _set_pixels(header: Dataset, stored: np.ndarray, signed: bool) -> None:
    header.Rows, header.Columns = stored.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    header.PixelRepresentation = int(signed)
    header.PixelData = stored.astype("<i2").tobytes()
