"""Each volume below a folder is found once, under a name of its own."""

import os
from pathlib import Path

import pytest

from lungct import LungError
from lungct.scans.layouts import find_volumes


def touch(root, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (
            ["b.nii", "a 1.nii.gz", "notes.txt", "c.mha", "d.nrrd"],
            {"a 1": "a 1.nii.gz", "b": "b.nii", "c": "c.mha", "d": "d.nrrd"},
        ),
        (["A.NII.GZ", "B.Mhd", "B.raw"], {"A": "A.NII.GZ", "B": "B.Mhd"}),
        (["._a.nii.gz", "a.nii.gz", ".cache/b.nii"], {"a": "a.nii.gz"}),
        (
            ["s0001/ct.nii.gz", "s0001/segmentations/lung_left.nii.gz", "s0002/ct.nii.gz", "meta.csv"],
            {"s0001": "s0001/ct.nii.gz", "s0002": "s0002/ct.nii.gz"},
        ),
        (
            ["case_1/imaging.nii.gz", "case_1/segmentation.nii.gz"],
            {"case_1": "case_1/imaging.nii.gz"},
        ),
        (["ct/CT.nii", "t1/p/ct.nii"], {"ct": "ct/CT.nii", "t1/p": "t1/p/ct.nii"}),
        (
            ["D1/imagesTr/lung_1_0000.nii.gz", "D1/labelsTr/lung_1.nii.gz", "D1/imagesTs/lung_2_0000.nii.gz"],
            {"lung_1": "D1/imagesTr/lung_1_0000.nii.gz", "lung_2": "D1/imagesTs/lung_2_0000.nii.gz"},
        ),
        (  # numbered, not channels
            ["img_0000.nii", "img_0001.nii", "img_0002.nii"],
            {f"img_000{n}": f"img_000{n}.nii" for n in range(3)},
        ),
        (
            ["a/scan.nii", "b/scan.nii", "b/other.nii"],
            {"a/scan": "a/scan.nii", "b/scan": "b/scan.nii", "other": "b/other.nii"},
        ),
        (["a.nii", "A.nii.gz"], {"a.nii": "a.nii", "A.nii.gz": "A.nii.gz"}),
        (["p/ct.nii.gz", "p/image.nii"], {"p/ct": "p/ct.nii.gz", "p/image": "p/image.nii"}),
    ],
)
def test_a_folder_is_read_as_its_layout_says(tmp_path, files, found):
    touch(tmp_path, *files)
    assert dict(find_volumes(tmp_path)) == {name: tmp_path / file for name, file in found.items()}
    assert [file for _, file in find_volumes(tmp_path)] == sorted(tmp_path / file for file in found.values())


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("s0001/ct.nii.gz", "s0001"),
        ("imagesTr/lung_1_0000.nii.gz", "lung_1"),
        ("luna/1.3.6.mhd", "1.3.6"),
        ("x/SCAN.NRRD", "SCAN"),
    ],
)
def test_a_file_has_the_same_name_when_given_alone(tmp_path, monkeypatch, file, name):
    touch(tmp_path, file)
    assert find_volumes(tmp_path / file) == [(name, tmp_path / file)]
    monkeypatch.chdir((tmp_path / file).parent)
    assert find_volumes(Path((tmp_path / file).name))[0][0] == name


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_are_followed_once(tmp_path):
    touch(tmp_path, "elsewhere/b.nii", "scans/a.nii")
    (tmp_path / "scans/again.nii").symlink_to(tmp_path / "scans/a.nii")
    (tmp_path / "scans/0.nii").symlink_to(tmp_path / "scans/a.nii")
    (tmp_path / "scans/gone.nii").symlink_to(tmp_path / "nowhere.nii")
    for name in ("one", "two"):
        (tmp_path / f"scans/{name}").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "scans/round").symlink_to(tmp_path / "scans")
    assert find_volumes(tmp_path / "scans") == [("a", tmp_path / "scans/a.nii"), ("b", tmp_path / "scans/one/b.nii")]


def test_where_there_is_none_it_is_told(tmp_path):
    touch(tmp_path, "notes.txt", "labelsTr/a.nii")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(LungError, match=r"holds no \.nii\.gz.* file; DICOM goes with --dicom"):
            find_volumes(path)
    with pytest.raises(LungError, match="does not exist"):
        find_volumes(tmp_path / "nowhere")
