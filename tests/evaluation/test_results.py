"""A scan's folder: what is wanted, what is missing, what may be reused."""

import numpy as np
import pytest

from lungct import LungError
from lungct.evaluation.results import (
    Wanted,
    add_files,
    choose_files,
    choose_kinds,
    flags_of_files,
    has_all,
    missing_kinds,
    why_predict_again,
)
from lungct.evaluation.scores import ScanScore
from lungct.evaluation.written import with_record
from lungct.files import replace_file
from lungct.masks.write import KEPT, keep_bytes, mask_checksum

NAMES = ["A_slice000", "A_slice001"]
LUNG = np.ones((2, 4, 5), bool)


def score(**changes) -> ScanScore:
    return ScanScore("A", "A", 2, 4.5, **{"save": "nifti", "png": "none", "mask": mask_checksum(LUNG), **changes})


class Case:
    """A scan whose DICOM is there or not."""

    def __init__(self, scan: str, is_there: bool):
        self.scan, self.is_there = scan, is_there

    def find_dicom(self) -> None:
        if not self.is_there:
            raise LungError("not there")


def fill(folder, *names: str) -> None:
    for name in names:
        replace_file(folder / name, b"x")


@pytest.mark.parametrize(
    ("save", "is_given", "from_files", "kinds"),
    [
        ("npy", False, False, ("npy",)),
        ("nifti", True, False, ("npy", "nifti")),  # the slices of step 4 always get theirs
        ("npy", False, True, ("nifti",)),  # as step 1 writes lung.conf
        ("npy", True, True, ("npy",)),
        ("dicom-seg,nifti", False, True, ("nifti", "dicom-seg")),
    ],
)
def test_masks_that_are_written(save, is_given, from_files, kinds):
    assert choose_kinds(save, is_given, from_files, anonymous=False) == kinds


@pytest.mark.parametrize(
    ("save", "from_files", "kinds"),
    [
        ("rtstruct,nifti,dicom-seg", True, ("nifti", "dicom-seg-anonymous", "rtstruct-anonymous")),
        ("rtstruct", False, ("npy", "rtstruct-anonymous")),
    ],
)
def test_anonymous_files_come_in_place_of_those_with_names(save, from_files, kinds):
    assert choose_kinds(save, True, from_files, anonymous=True) == kinds


@pytest.mark.parametrize("save", ["npy", "nifti,sides,nrrd"])
def test_anonymous_without_a_format_that_holds_names_is_refused(save):
    with pytest.raises(LungError, match="--anonymous goes with --save dicom-seg or rtstruct"):
        choose_kinds(save, True, True, anonymous=True)


def test_scans_without_dicom_get_the_other_formats_and_are_named(capsys):
    cases = [Case("A", True), Case("B", False)]
    chosen = choose_files(cases, Wanted(("npy", "dicom-seg"), "all"))
    assert {name: wanted.kinds for name, wanted in chosen.items()} == {"A": ("npy", "dicom-seg"), "B": ("npy",)}
    assert capsys.readouterr().out == "no .seg.dcm of B: not there\n"
    assert choose_files(cases, Wanted(("dicom-seg",), "all"))["B"].kinds == ("nifti",)
    with pytest.raises(LungError, match="--save dicom-seg: not there"):
        choose_files(cases[1:], Wanted(("dicom-seg",), "all"))
    with pytest.raises(LungError, match="--save rtstruct: not there"):
        choose_files(cases[1:], Wanted(("rtstruct-anonymous",), "all"))
    assert choose_files(cases[1:], Wanted(("nifti",), "all"))["B"].kinds == ("nifti",)


def test_what_a_scan_was_given_before_stays():
    wanted = Wanted(("dicom-seg",), "some").with_earlier(score(save="npy,nifti", png="all"))
    assert wanted == Wanted(("npy", "nifti", "dicom-seg"), "all")
    assert Wanted(("npy",), "some").with_earlier(score(save="", png="")) == Wanted(("npy",), "some")


def test_what_is_missing_and_what_cannot_be_made(tmp_path):
    fill(tmp_path, "A.nii.gz", "A_slice000.npy")
    wanted = Wanted(("npy", "nifti", "sides", "dicom-seg"), "none")
    assert missing_kinds(tmp_path, wanted, score(), NAMES) == ("npy", "sides", "dicom-seg")
    fill(tmp_path, "A_slice001.npy")
    flagged = score(flags="one lung only; no _sides.nii.gz: unequal; no .seg.dcm: failed", save="npy,nifti,sides")
    assert missing_kinds(tmp_path, wanted, flagged, NAMES) == ("dicom-seg",)


def test_pictures_belong_to_all(tmp_path):
    add_files(tmp_path, with_record({"A.nii.gz": b"x"}, {}))
    assert not has_all(tmp_path, Wanted(("nifti",), "none"), score(), NAMES)
    fill(tmp_path, "view/thumbnail.jpg")
    assert has_all(tmp_path, Wanted(("nifti",), "none"), score(), NAMES)
    assert not has_all(tmp_path, Wanted(("nifti",), "some"), score(), NAMES)
    fill(tmp_path, "A_slice000.png", "view/A_slice000.js")
    assert not has_all(tmp_path, Wanted(("nifti",), "some"), score(), NAMES)
    fill(tmp_path, "view/view.js")
    assert has_all(tmp_path, Wanted(("nifti",), "some"), score(), NAMES)
    assert not has_all(tmp_path, Wanted(("nifti",), "all"), score(), NAMES)
    (tmp_path / "view/files.csv").unlink()
    assert not has_all(tmp_path, Wanted(("nifti",), "some"), score(), NAMES)


def test_flags_of_files_that_stay_are_kept_and_others_not():
    flags = "one lung only; 1 missing slice empty in the .nii.gz; no _sides.nii.gz: unequal; no .seg.dcm: none"
    base = ["one lung only"]
    assert flags_of_files(score(flags=flags), base, ("dicom-seg",)) == flags.split("; ")[1:3]
    assert flags_of_files(score(flags=flags), base, ("npy", "nifti")) == flags.split("; ")[2:]
    assert (
        flags_of_files(score(flags=flags), [], ("dicom-seg",)) == flags.split("; ")[1:3]
    )  # said of an earlier reference
    assert flags_of_files(score(), base, ("nifti",)) == []


def test_a_mask_counts_where_it_is_the_row_s_and_no_strange_slice_lies_beside_it(tmp_path):
    def why(made_from: str = "ab", **changes) -> str:
        return why_predict_again(tmp_path, score(fingerprint="ab-cd", **changes), made_from, NAMES)

    assert why() == "slices.csv and view/mask.npz missing"
    add_files(tmp_path, {KEPT: keep_bytes(LUNG, np.zeros(2), np.zeros(LUNG.shape, np.int16)), "A_slice000.npy": b"x"})
    assert why() == "slices.csv missing"  # which says what slices they are
    fill(tmp_path, "slices.csv")
    assert why() == ""
    assert why("ac") == "other slices, weights, options or code"
    assert why(mask="0123456789abcdef") == "view/mask.npz damaged, or another mask in it"
    (tmp_path / KEPT).unlink()
    assert why() == "view/mask.npz missing"
    fill(tmp_path, "A_slice002.npy")
    assert why() == "slices of other names among the masks"
