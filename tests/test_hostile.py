"""Files that mean harm: none writes outside its folder, runs code, exhausts memory or lets a name out."""

import gzip
import os
import struct
import zipfile

import nibabel
import numpy as np
import pytest
from corpus import WHO, phantom, write

import prepare_lung_image
from lungct import LungError
from lungct.files import read_npy
from lungct.masks.read import read_npz
from lungct.phantom.lidc_tree import write_series
from lungct.scans.lidc import LidcScan
from lungct.scans.nifti import open_nifti
from lungct.slices import safe_name

NAMES = [
    "../../escape",
    "/etc/passwd",
    "C:\\Windows\\x",
    "a\0b",
    "two\nlines",
    "CON",
    "nul.txt",
    "x" * 300,
    "<script>alert(1)</script>",
    "..",
    "",
    "  ",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_becomes_one_plain_folder(name):
    safe = safe_name(name)
    assert 0 < len(safe) <= 81
    assert set(safe) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
    assert safe.strip(".") == safe
    assert safe.split(".")[0].upper() not in ("CON", "NUL")


def test_hostile_patient_ids_stay_in_the_output_folder(tmp_path, monkeypatch):
    home = tmp_path / "a" / "b"
    home.mkdir(parents=True)
    monkeypatch.chdir(home)
    for n, name in enumerate(("../../escape", "/tmp/escape", "<b>bold</b>", "x" * 64)):
        write_series(home / "scans" / str(n), LidcScan(name, f"1.{n}", f"1.{n}.1"), *phantom())
    prepare_lung_image.main(["--test", "--workers", "1", "--dicom", "scans"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["b"]
    assert len(list((home / "mydata/Image_test/ct").iterdir())) == 4


def test_ids_that_come_out_as_one_name_are_kept_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for n, name in enumerate(("P/1", "P 1", "p_1")):
        volume = np.roll(phantom()[0], n, axis=2)
        write_series(tmp_path / "scans" / str(n), LidcScan(name, f"1.{n}", f"1.{n}.1"), volume, phantom()[1])
    prepare_lung_image.main(["--test", "--workers", "1", "--dicom", "scans"])
    folders = sorted((tmp_path / "mydata/Image_test/ct").iterdir())
    assert len({folder.name.casefold() for folder in folders}) == 3
    assert len({next(folder.glob("*_slice008.npy")).read_bytes() for folder in folders}) == 3


def test_no_name_or_birth_date_gets_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    secret = {"PatientName": "Roe^Jane", "PatientBirthDate": "19610203", "InstitutionName": "Mercy Hospital"}
    write(tmp_path / "scans", **secret)
    prepare_lung_image.main(["--test", "--workers", "1", "--dicom", "scans"])
    written = b"".join(p.read_bytes() for p in (tmp_path / "mydata").rglob("*") if p.is_file())
    written += capsys.readouterr().out.encode()
    assert WHO.patient_id.encode() in written
    for value in (b"Roe", b"Jane", b"19610203", b"Mercy"):
        assert value not in written


def test_npy_that_claims_more_than_there_is_memory_for_is_refused(tmp_path):
    header = b"{'descr': '<i2', 'fortran_order': False, 'shape': (99999999, 99999999), }"
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(LungError, match=r"a\.npy: no readable \.npy file"):
        read_npy(tmp_path / "a.npy")


def test_npy_with_pickled_objects_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(LungError, match="no readable"):
        read_npy(tmp_path / "a.npy")


def test_nifti_bomb_is_refused_before_it_is_unpacked(tmp_path):
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((30000, 30000, 30000))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    with gzip.open(tmp_path / "bomb.nii.gz", "wb") as file:
        file.write(header.binaryblock + b"\0" * 10_000_004)
    with pytest.raises(LungError, match="are no scan"):
        open_nifti(tmp_path / "bomb.nii.gz")


def test_zip_bomb_among_labels_is_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("lung.npy", b"\0" * 1000)
    content = (tmp_path / "bomb.npz").read_bytes()
    huge = struct.pack("<I", 0xFFFFFFF0)
    content = content.replace(struct.pack("<I", 1000), huge)  # the sizes that the archive claims
    (tmp_path / "bomb.npz").write_bytes(content)
    with pytest.raises(LungError, match=r"bomb\.npz"):
        read_npz(tmp_path / "bomb.npz")


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_in_the_place_of_an_output_folder_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("mine")
    write(tmp_path / "scans")
    (tmp_path / "mydata/Image_test/ct").mkdir(parents=True)
    (tmp_path / "mydata/Image_test/ct" / WHO.patient_id).symlink_to(outside)
    with pytest.raises(LungError):
        prepare_lung_image.main(["--test", "--workers", "1", "--dicom", "scans"])
    assert [p.name for p in outside.iterdir()] == ["precious.txt"]
