"""A synthetic LIDC-IDRI: real patient IDs and UIDs, the folders of TCIA's downloader, phantoms in them."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from tqdm import tqdm

from lungct import LungError
from lungct.phantom.render import make_patient
from lungct.scans.lidc import LidcScan, scans_without_nodules

TEST_SHARE = 4  # one patient in so many is for testing
STORED_ZERO_HU = -1024


def write_demo(root: Path, patients: int) -> tuple[int, int]:
    """Write `patients` synthetic scans below `root`; returns how many are to train and to test on.

    LIDC-IDRI/ and LIDC-IDRI_test/ hold DICOM files, reference/<patient>.npz the exact lungs.
    What is there already is kept. The identities are of LIDC patients without annotated nodules, so that
    the nodule audit has nothing to look for. Raises LungError where a demo of another size lies there.
    """
    test = max(1, patients // TEST_SHARE)
    identities = scans_without_nodules()[:patients]
    folders = ["LIDC-IDRI_test"] * test + ["LIDC-IDRI"] * (len(identities) - test)
    placed = list(zip(folders, identities, strict=True))
    wanted = {root / folder / who.patient_id for folder, who in placed}
    if not wanted.issuperset(root.glob("LIDC-IDRI*/LIDC-IDRI-*")):
        raise LungError(f"{root}: its demo is not of {patients} patients; delete that folder and run this again")
    jobs = [(root, folder, who, seed) for seed, (folder, who) in enumerate(placed)]
    with single_threaded_children(), ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        list(tqdm(pool.map(_write_patient, *zip(*jobs, strict=True)), total=len(jobs), desc="phantoms", unit="patient"))
    return len(identities) - test, test


@contextmanager
def single_threaded_children() -> Iterator[None]:
    """For processes started meanwhile: their numpy must not fight for the processors. Ours stays as it was."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _write_patient(root: Path, folder: str, who: LidcScan, seed: int) -> None:
    reference = root / "reference" / f"{who.patient_id}.npz"
    if reference.exists():  # written last
        return
    phantom = make_patient(seed)
    study = root / folder / who.patient_id / f"01-01-2000-NA-NA-{who.study_uid[-5:]}"
    write_series(study / f"3000000.000000-NA-{who.series_uid[-5:]}", who, phantom.ct_hu, phantom.spacing_mm)
    write_xray(study / "1000000.000000-NA-00001", who)
    reference.parent.mkdir(parents=True, exist_ok=True)
    beside = reference.with_name(f".{reference.stem}.tmp.npz")
    np.savez_compressed(beside, lung=phantom.lung, spacing_mm=phantom.spacing_mm)
    beside.replace(reference)


def write_series(folder: Path, who: LidcScan, ct_hu: np.ndarray, spacing_mm: tuple, **tags) -> None:
    """Write a volume (Z, H, W) int16 in HU, ascending z, as one DICOM file a slice; `tags` overrule any tag."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, image in enumerate(ct_hu):
        slice_ = _header(who, CTImageStorage, f"{who.series_uid} {k}", "CT")
        slice_.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        slice_.InstanceNumber = len(ct_hu) - k  # head first, as scanners number them
        slice_.ImagePositionPatient = [0, 0, round(k * spacing_mm[0], 4)]
        slice_.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        slice_.PixelSpacing = [round(spacing_mm[1], 6), round(spacing_mm[2], 6)]
        slice_.SliceThickness = round(spacing_mm[0], 4)
        slice_.RescaleSlope, slice_.RescaleIntercept = 1, STORED_ZERO_HU
        _set_pixels(slice_, (image.astype(np.int32) - STORED_ZERO_HU).astype(np.int16), signed=True)
        for tag, value in tags.items():
            setattr(slice_, tag, value)
        slice_.save_as(folder / f"1-{k + 1:03d}.dcm", enforce_file_format=True)


def write_xray(folder: Path, who: LidcScan) -> None:
    """The chest X-ray that many LIDC patients have in the same folder, for the scripts to leave alone."""
    folder.mkdir(parents=True, exist_ok=True)
    image = _header(who, DigitalXRayImageStorageForPresentation, f"{who.study_uid} x", "DX")
    image.SeriesInstanceUID = generate_uid(entropy_srcs=[who.study_uid, "x-ray"])
    _set_pixels(image, np.zeros((48, 40), np.int16), signed=False)
    image.save_as(folder / "1-1.dcm", enforce_file_format=True)


def _header(who: LidcScan, sop_class: str, source: str, modality: str) -> Dataset:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = sop_class
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = generate_uid(entropy_srcs=[source])
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.PatientID, header.Modality = who.patient_id, modality
    header.StudyInstanceUID, header.SeriesInstanceUID = who.study_uid, who.series_uid
    return header


def _set_pixels(header: Dataset, stored: np.ndarray, signed: bool) -> None:
    header.Rows, header.Columns = stored.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    header.PixelRepresentation = int(signed)
    header.PixelData = stored.astype("<i2").tobytes()
