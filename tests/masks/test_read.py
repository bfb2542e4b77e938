"""Masks made elsewhere: file names, formats, codes and places."""

import os
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from conftest import run
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage

from lungct import LungError
from lungct.masks import read
from lungct.masks.read import (
    are_labels,
    choose_lung,
    find_label,
    find_labels,
    label_files,
    label_stamps,
    parse_values,
    read_lung,
    read_npz,
)
from lungct.masks.segments import SIDES
from lungct.masks.write_nrrd import nrrd_bytes
from lungct.phantom.lidc_tree import write_series
from lungct.scans.geometry import Frame, Scan
from lungct.scans.lidc import LidcScan

SHAPE = (3, 5, 7)
SPACING_MM = (2.0, 0.5, 0.7)
CORNER_MM = np.array([-11.0, 4.0, 100.0])
SCAN = Scan(
    "P", "1.2.3", (), Frame(CORNER_MM + [[0, 0, 2.0 * z] for z in range(3)], np.eye(3)[:2], SPACING_MM, SHAPE[1:])
)
AFFINE = np.diag([-0.7, -0.5, 2.0, 1.0])  # NIfTI counts to the right and to the front
AFFINE[:3, 3] = 11, -4, 100


@pytest.fixture
def mask() -> np.ndarray:
    return np.random.default_rng(1).random(SHAPE) > 0.5


def save_nifti(path, values: np.ndarray, affine=AFFINE) -> None:
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), affine), path)


def save_itk(path, values: np.ndarray, corner_mm=CORNER_MM) -> None:
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing(SPACING_MM[::-1])
    image.SetOrigin(tuple(corner_mm))
    SimpleITK.WriteImage(image, str(path))


def test_every_format_gives_the_same_mask(tmp_path, mask):
    np.save(tmp_path / "a.npy", mask.astype(np.uint8))
    np.savez(tmp_path / "b.npz", lung=mask, spacing_mm=(1, 2, 3))
    save_nifti(tmp_path / "c.nii.gz", mask.astype(np.uint8))
    for name in ("d.mhd", "e.mha", "f.nrrd"):
        save_itk(tmp_path / name, mask.astype(np.uint8))
    for path in tmp_path.glob("[a-f].[nm]*"):
        lung, warnings = read_lung(path, SCAN)
        np.testing.assert_array_equal(lung, mask)
        assert warnings == ()


def test_nifti_stored_from_the_other_side_is_turned(tmp_path, mask):
    affine = np.diag([0.7, -0.5, -2.0, 1.0])
    affine[:3, 3] = 11 - 6 * 0.7, -4, 104
    save_nifti(tmp_path / "a.nii", mask.astype(np.uint8)[::-1, :, ::-1], affine)
    np.testing.assert_array_equal(read_lung(tmp_path / "a.nii", SCAN)[0], mask)


def test_a_mask_that_lies_elsewhere_is_refused(tmp_path, mask):
    save_nifti(tmp_path / "identity.nii.gz", mask.astype(np.uint8), np.eye(4))
    with pytest.raises(LungError, match="saved without the CT's position"):
        read_lung(tmp_path / "identity.nii.gz", SCAN)
    save_itk(tmp_path / "away.nrrd", mask.astype(np.uint8), CORNER_MM + np.array([0, 0, 900]))
    with pytest.raises(LungError, match=r"from \(-11\.0, 4\.0, 1000\.0\) mm"):
        read_lung(tmp_path / "away.nrrd", SCAN)


def test_another_shape_is_told_with_both(tmp_path, mask):
    np.save(tmp_path / "a.npy", mask.transpose(0, 2, 1))
    with pytest.raises(LungError, match=r"shape \(3, 7, 5\), but the CT has \(3, 5, 7\)"):
        read_lung(tmp_path / "a.npy", SCAN)


def test_an_empty_mask_is_refused(tmp_path, mask):
    np.save(tmp_path / "a.npy", mask & False)
    with pytest.raises(LungError, match=r"a\.npy: no lung in it"):
        read_lung(tmp_path / "a.npy", SCAN)


def lung_of(values, codes=(), kind=np.uint8) -> tuple[list[bool], tuple[str, ...]]:
    lung, warnings = choose_lung(Path("a.npy"), np.array(values, kind), codes)
    return lung.tolist(), warnings


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_codes_of_luna16_leave_the_trachea_out(kind):
    values = [3] * 9 + [4] * 9 + [5, 0]
    assert lung_of(values, kind=kind) == ([True] * 18 + [False] * 2, ())


def test_the_trachea_of_luna16_is_a_tenth_of_what_is_marked_at_most():
    assert lung_of([3] * 5 + [4] * 4 + [5])[0] == [True] * 9 + [False]
    assert lung_of([3] * 5 + [4] * 3 + [5])[0] == [True] * 9


def test_five_lobes_are_all_lung_however_small_the_fifth():
    assert lung_of([1, 2] + [3] * 9 + [4] * 9 + [5]) == ([True] * 21, ())
    assert lung_of([5, 0]) == ([True, False], ())


def test_three_lobes_of_a_right_lung_are_not_taken_for_the_codes_of_luna16():
    assert lung_of([3, 3, 4, 5, 5, 0])[0] == [True] * 5 + [False]


@pytest.mark.parametrize("codes", [[1], [255], [1, 2], [1, 2, 3, 4, 5], [10, 11, 12, 13, 14]])
def test_lobes_sides_and_a_single_value_are_all_lung(codes):
    assert lung_of([0, *codes]) == ([False] + [True] * len(codes), ())


def test_other_values_are_taken_with_a_warning_that_lists_them():
    lung, (warning,) = lung_of([0, 1, 2, 7, 52])
    assert lung == [False] + [True] * 4
    assert "taken as lung: 1, 2, 7, 52; --label-values" in warning
    assert "taken as lung: 1, 7; " in lung_of([0, 1, 7])[1][0]
    for few in ([1, 2, 3], [3, 4, 5, 5], [10, 11]):  # right and left lung and the airways? some of the lobes?
        assert f"taken as lung: {', '.join(map(str, dict.fromkeys(few)))}; " in lung_of(few)[1][0]
    assert lung_of([0, 7]) == ([False, True], ())
    assert "1, 2, 3, 4, 5, 6, 7, 8; " in lung_of(range(9))[1][0]
    assert "1, 2, 3, 4, 5, 6, 7, 8 and 2 more; " in lung_of(range(11))[1][0]


def test_named_values_alone_are_lung():
    assert lung_of([0, 1, 2, 7, 52], (2, 7)) == ([False, False, True, True, False], ())
    assert lung_of([0, 3, 4, 5, 5], (5,)) == ([False, False, False, True, True], ())
    with pytest.raises(LungError, match="no value 9; it holds 1, 2"):
        lung_of([0, 1, 2], (9,))
    assert parse_values("3,1,2") == (1, 2, 3)


@pytest.mark.parametrize(
    ("right", "left", "lung", "left_out"),
    [
        *(("Right lung", "Airways", [1], "Airways"), ("Lung nodule", "Lung_L", [2], "Lung nodule")),
        *(("Right lung", "Left lung", [1, 2], ""), ("Segment_1", "Segment_2", [1, 2], "")),
    ],
)
def test_of_the_named_segments_of_a_nrrd_the_lungs_are_taken(tmp_path, mask, right, left, lung, left_out):
    labels = mask + mask[::-1].astype(np.uint8)
    content = nrrd_bytes(labels, SCAN.frame, SIDES)
    content = content.replace(b"Right lung", right.encode()).replace(b"Left lung", left.encode())
    (tmp_path / "a.seg.nrrd").write_bytes(content)
    found, warnings = read_lung(tmp_path / "a.seg.nrrd", SCAN)
    np.testing.assert_array_equal(found, np.isin(labels, lung))
    assert warnings == ((f"not taken as lung in a.seg.nrrd: {left_out}",) if left_out else ())


def test_of_probabilities_more_than_half_is_lung():
    assert lung_of([0, 0.2, 0.5, 0.51, 0.999, np.nan], kind=np.float32)[0] == [False] * 3 + [True] * 2 + [False]


@pytest.mark.parametrize(
    ("values", "ends"),
    [([-2048, -850, 40], "-2048 to 40"), ([0, 0.4, 1.9, 3.7], "0.4 to 3.7"), ([-1, 0, 0.5, 1], "-1 to 1")],
)
def test_values_that_are_no_labels_are_refused(values, ends):
    with pytest.raises(LungError, match=f"values {ends} are no labels; save a mask, 1 in the lung"):
        lung_of(values, kind=np.float32)


def test_numbers_that_are_integers_but_for_rounding_are_those():
    assert lung_of([0, 0.0004, 0.9996, 1.0004], kind=np.float32) == ([False, False, True, True], ())


def test_file_is_found_by_patient_or_series(tmp_path):
    (tmp_path / "1.2.3.npy").touch()
    assert find_label(tmp_path, ("P", "P", "1.2.3")) == tmp_path / "1.2.3.npy"
    with pytest.raises(LungError, match=r"looked for P or 9\.9 with"):
        find_label(tmp_path, ("P", "P", "9.9"))


@pytest.mark.parametrize(
    ("file", "patient"),
    [("P.NII.GZ", "P"), ("lung_1.nii.gz", "lung_1_0000"), ("A_B.nrrd", "A/B"), ("P.mha", "P"), ("P 1.nii", "P 1")],
)
def test_names_of_the_trade_are_found(tmp_path, file, patient):
    (tmp_path / file).touch()
    (tmp_path / f"._{file}").touch()
    assert find_label(tmp_path, (patient, patient, "1.2.3")) == tmp_path / file


def test_a_patient_id_does_not_lead_out_of_the_folder(tmp_path):
    (tmp_path / "masks").mkdir()
    (tmp_path / "secret.npy").touch()
    with pytest.raises(LungError, match="no label"):
        find_label(tmp_path / "masks", ("../secret", "secret_1", "1.2.3"))


def test_the_name_of_one_scan_comes_before_that_of_its_patient(tmp_path):
    for name in ("P.npy", "P_scan2.npy"):
        (tmp_path / name).touch()
    assert find_label(tmp_path, ("P", "P_scan2", "1.2.4")).name == "P_scan2.npy"


def test_a_ct_that_is_called_so_for_every_patient_is_not_the_name_of_a_label(tmp_path):
    for name in ("ct.nii.gz", "s0001.nii.gz"):
        (tmp_path / name).touch()
    assert find_label(tmp_path, ("s0001", "s0001", "ct")).name == "s0001.nii.gz"


def test_masks_in_folders_within_are_found_but_no_ct(tmp_path):
    for name in ("labelsTr/P.nii.gz", "imagesTr/P_0000.nii.gz", "s1/ct.nii.gz", "s2/ct.nii.gz", "Q.npy", "old/Q.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_label(tmp_path, ("P", "P", "P_0000")) == tmp_path / "labelsTr/P.nii.gz"
    assert find_label(tmp_path, ("Q", "Q", "1.2.3")) == tmp_path / "Q.npy"  # what lies less deep comes first
    with pytest.raises(LungError, match=r"no label in .*: looked for s1 or ct with"):
        find_label(tmp_path, ("s1", "s1", "ct"))


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_linked_masks_are_found_once(tmp_path):
    masks, elsewhere = tmp_path / "masks", tmp_path / "elsewhere"
    (elsewhere / "s1" / "segmentations").mkdir(parents=True)
    masks.mkdir()
    for name in ("P.NII.GZ", "s1/segmentations/LUNG_upper_lobe_left.NII.gz", "s1/segmentations/._lung_x_lobe_y.nii.gz"):
        (elsewhere / name).touch()
    (masks / "first").symlink_to(elsewhere)
    (masks / "second").symlink_to(elsewhere)
    (elsewhere / "loop").symlink_to(masks)
    assert find_label(masks, ("P", "P", "1.2.3")).samefile(elsewhere / "P.NII.GZ")
    lobes = find_label(masks, ("s1", "s1", "ct"))
    assert lobes.samefile(elsewhere / "s1/segmentations")
    assert [path.name for path in label_files(lobes)] == ["LUNG_upper_lobe_left.NII.gz"]


def test_lobes_of_two_scans_of_one_name_are_not_mixed_up(tmp_path):
    for site in ("a", "b"):
        (tmp_path / site / "s1").mkdir(parents=True)
        (tmp_path / site / "s1" / "lung_upper_lobe_left.nii.gz").touch()
    assert find_label(tmp_path, ("a/s1", "a_s1", "ct")) == tmp_path / "a" / "s1"
    with pytest.raises(LungError, match="are both of this scan"):
        find_label(tmp_path, ("s1", "s1", "ct"))


def test_two_masks_of_one_name_are_told(tmp_path):
    for name in ("P.npy", "P.nii.gz"):
        (tmp_path / name).touch()
    with pytest.raises(LungError, match=r"P\.nii\.gz and P\.npy are both of this scan"):
        find_label(tmp_path, ("P", "P", "1.2.3"))


def test_what_is_no_file_of_a_mask_is_none(tmp_path):
    (tmp_path / "P.nii").mkdir()
    (tmp_path / "P.txt").touch()
    for patient in ("P", "P.txt"):
        with pytest.raises(LungError, match="no label"):
            find_label(tmp_path, (patient, patient, "1.2.3"))


def save_structures(path: Path, series_uid: str) -> None:
    """An RTSTRUCT that says of which series it is, and nothing else."""
    dataset, series, study, frame = (pydicom.Dataset() for _ in range(4))
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = RTStructureSetStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.9"
    series.SeriesInstanceUID = series_uid
    study.RTReferencedSeriesSequence, frame.RTReferencedStudySequence = [series], [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    path.parent.mkdir(exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def test_structures_belong_to_the_series_that_they_name_whatever_their_file_is_called(tmp_path):
    mine, other = tmp_path / "a" / "any.dcm", tmp_path / "a" / "P_2.dcm"
    save_structures(mine, "1.2.3")
    save_structures(other, "1.2.4")
    names = ("P", "P_2", "1.2.3")
    assert find_label(tmp_path / "a", names) == find_label(mine, names, alone=True) == mine
    with pytest.raises(LungError, match=r"P_2\.dcm: not the label of P or P_2 or 1\.2\.3; it is of series 1\.2\.4"):
        find_label(other, names, alone=True)
    save_structures(tmp_path / "b" / "one.dcm", "1.2.3")
    save_structures(tmp_path / "b" / "two.dcm", "1.2.3")
    with pytest.raises(LungError, match=r"one\.dcm and two\.dcm are both of this scan"):
        find_label(tmp_path / "b", names)


def test_a_mask_is_not_given_to_two_patients(tmp_path):
    (tmp_path / "A_B.nii.gz").touch()
    labels = find_labels(tmp_path, [("A/B", "A_B", "1"), ("A_B", "A_B_2", "2")])
    assert ["its name fits several scans" in str(label) for label in labels] == [True, True]


def test_scans_of_a_patient_share_a_mask_only_where_it_says_where_it_lies(tmp_path):
    (tmp_path / "P.npy").touch()
    (tmp_path / "Q.nii.gz").touch()
    scans = [("P", "P", "1"), ("P", "P_2", "2"), ("Q", "Q", "3"), ("Q", "Q_2", "4")]
    assert find_labels(tmp_path, scans[:1]) == [tmp_path / "P.npy"]
    labels = find_labels(tmp_path, scans)
    assert [isinstance(label, LungError) for label in labels] == [True, True, False, False]


def test_one_file_is_the_label_of_the_only_scan_or_of_the_one_it_names(tmp_path):
    (tmp_path / "any.nii.gz").touch()
    assert find_labels(tmp_path / "any.nii.gz", [("P", "P", "1")]) == [tmp_path / "any.nii.gz"]
    (tmp_path / "P.nii.gz").touch()
    mine, other = find_labels(tmp_path / "P.nii.gz", [("P", "P", "1"), ("Q", "Q", "2")])
    assert mine == tmp_path / "P.nii.gz"
    assert "not the label of Q or 2; give a folder with a mask for each scan" in str(other)


def test_the_five_lobes_of_totalsegmentator_are_united(tmp_path, mask):
    folder = tmp_path / "s0001" / "segmentations"
    folder.mkdir(parents=True)
    names = ["upper_lobe_left", "lower_lobe_left", "upper_lobe_right", "middle_lobe_right", "lower_lobe_right"]
    for n, name in enumerate(names):
        save_nifti(folder / f"lung_{name}.nii.gz", (mask & (np.arange(7) % 5 == n)).astype(np.uint8))
    save_nifti(folder / "lung_vessels.nii.gz", np.ones(SHAPE, np.uint8))
    label = find_label(tmp_path, ("s0001", "s0001", "s0001"))
    assert len(label_files(label)) == 5
    np.testing.assert_array_equal(read_lung(label, SCAN)[0], mask)
    (folder / "lung_upper_lobe_left.nii.gz").unlink()
    with pytest.raises(LungError, match=r"4 files .* but a lung has 5 lobes"):
        read_lung(label, SCAN)


def test_of_several_arrays_in_a_file_the_one_named_lung_counts(tmp_path, mask):
    np.savez(tmp_path / "one.npz", anything=mask)
    np.testing.assert_array_equal(read_npz(tmp_path / "one.npz"), mask)
    np.savez(tmp_path / "two.npz", a=mask, b=mask)
    with pytest.raises(LungError, match=r"two\.npz: no array named lung; it holds a, b"):
        read_npz(tmp_path / "two.npz")


def test_words_are_no_mask():
    with pytest.raises(LungError, match="holds no numbers"):
        choose_lung(Path("a.npy"), np.array(["lung", ""]))


def test_an_array_that_unpacks_to_more_than_any_scan_is_refused(tmp_path, mask, monkeypatch):
    np.savez(tmp_path / "a.npz", lung=mask)  # 105 bytes and a header of 128
    monkeypatch.setattr(read, "MAX_BYTES", 233)
    assert read_npz(tmp_path / "a.npz").shape == SHAPE
    monkeypatch.setattr(read, "MAX_BYTES", 232)
    with pytest.raises(LungError, match="when unpacked; that is no lung mask"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half"])
def test_broken_file_is_told(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(LungError, match=r"a\.npz: no readable \.npz"):
        read_npz(tmp_path / "a.npz")


def test_step_2_refuses_a_turned_mask_and_lists_the_values_that_it_took(tmp_path):
    lung = np.zeros((6, 40, 56), bool)
    lung[1:5, 8:30, 5:20] = lung[1:6, 10:34, 30:50] = True
    ct_hu = np.where(lung, -850, 40).astype(np.int16)
    ct_hu[:, :2] = -1000
    write_series(tmp_path / "ct", LidcScan("P1", "1.2.3", "1.2.3.4"), ct_hu, (2.5, 0.7, 0.9))
    flags = ("--test", "--dicom", "ct", "--labels", "P1.npy")
    np.save(tmp_path / "P1.npy", lung[:, ::-1])
    assert "with rows reversed" in run("prepare_lung_image.py", *flags, cwd=tmp_path, status=1)
    np.save(tmp_path / "P1.npy", np.where(lung, 7, 0) + np.where(lung & (np.arange(56) < 25), 1, 0))
    assert "all values of P1.npy are taken as lung: 7, 8" in run("prepare_lung_image.py", *flags, cwd=tmp_path)
    run("prepare_lung_image.py", *flags, "--label-values", "8", cwd=tmp_path)
    stored = np.stack([np.load(f) for f in sorted((tmp_path / "mydata/Image_test/lung/P1").glob("*.npy"))])
    np.testing.assert_array_equal(stored != -2048, lung & (np.arange(56) < 25))


def test_an_edited_mask_another_folder_and_other_values_are_noticed(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "P.nii").write_bytes(b"1")
    before = label_stamps(tmp_path / "a" / "P.nii", ())
    assert label_stamps(tmp_path / "a" / "P.nii", ()) == before
    assert label_stamps(tmp_path / "a" / "P.nii", (2,)) != before
    assert label_stamps(tmp_path / "b" / "P.nii", ()) != before
    (tmp_path / "a" / "P.nii").write_bytes(b"12")
    assert label_stamps(tmp_path / "a" / "P.nii", ()) != before


@pytest.mark.parametrize(
    ("values", "is_mask"),
    [
        ([0, 1], True),
        ([0, 1, 2], True),
        ([0, 255], True),
        ([0, 0], True),  # an empty one
        (range(118), True),  # TotalSegmentator
        (range(256), False),  # 8-bit grey levels
        ([0, 256], False),
        ([-1000, 0, 1], False),
        ([-1, 1], False),
    ],
)
def test_a_mask_is_told_from_ct_by_its_few_small_values(values, is_mask):
    assert are_labels(np.array(values, np.int16).reshape(1, 1, -1)) == is_mask
