"""What the viewer shows of a patient's folder: the lungs that are of its CT, and a line for those that are not."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import image_test
from lungct import LungError
from lungct.masks.write import KEPT
from lungct.masks.write_nifti import nifti_bytes
from lungct.slices import lung_image


def put_another_ct(ct: Path) -> None:
    """As step 4 does for another scan of the same name and place: its slices, and their lungs."""
    for path in ct.glob("*.npy"):
        other = np.load(path)[:, ::-1] + np.int16(1)
        np.save(path, other)
        np.save(ct.parent.with_name("lung") / "P" / path.name, lung_image(other, other < -300))


def test_the_masks_of_another_ct_are_not_shown_on_it(slices, tmp_path, capsys):
    ct, lung = slices
    conf, predicted = tmp_path / "lung.conf", tmp_path / "predictions" / "patient_P"
    (predicted / "P.nii.gz").write_bytes(nifti_bytes(lung, image_test.open_path(ct, conf).frame))
    put_another_ct(ct)
    for path in (predicted, predicted / "P_slice001.npy", predicted / "P.nii.gz"):
        with pytest.raises(
            LungError, match=r"patient_P: its masks are of another CT in 3 of 3 slices, such as P_slice000"
        ):
            image_test.open_path(path, conf)
    for path in (ct, ct.parent.with_name("lung") / "P", ct / "P_slice001.npy"):
        stack = image_test.open_path(path, conf)
        assert stack.predicted is None
        assert stack.reference is not None
        assert stack.agreement("axial", 0) == ""
        assert "no prediction shown: " in capsys.readouterr().out


def test_masks_are_shown_on_the_ct_that_they_are_of_wherever_it_lies(slices, tmp_path):
    ct, lung = slices
    training = tmp_path / "mydata" / "Image" / "ct" / "P"
    shutil.copytree(ct, training)
    (training / "P_slice000.npy").unlink()  # the middle of a scan
    put_another_ct(ct)
    for path in (tmp_path / "predictions" / "patient_P", training):
        stack = image_test.open_path(path, tmp_path / "lung.conf")
        np.testing.assert_array_equal(stack.predicted.lung, np.roll(lung, 2, 2)[1:])
        np.testing.assert_array_equal(stack.ct_hu == -800, lung[1:])


@pytest.mark.parametrize("name", ["changed_patient_P", "changed_patient_P_2"])
def test_masks_that_were_set_aside_are_shown_where_they_are_asked_for_and_nowhere_else(slices, tmp_path, name, capsys):
    ct, lung = slices
    predicted = tmp_path / "predictions" / "patient_P"
    aside = predicted.rename(predicted.with_name(name))
    (aside / "P.nii.gz").write_bytes(nifti_bytes(lung, image_test.open_path(ct, tmp_path / "lung.conf").frame))
    path = aside / "P_slice001.npy"
    corrected = np.load(path)
    corrected[0, 0] = 1
    np.save(path, corrected)
    assert image_test.open_path(ct, tmp_path / "lung.conf").predicted is None
    capsys.readouterr()
    stack = image_test.open_path(aside, tmp_path / "lung.conf")
    assert stack.scan == "P"
    np.testing.assert_array_equal(stack.predicted.lung[1], corrected > 0)
    np.testing.assert_array_equal(image_test.open_path(aside / "P.nii.gz", tmp_path / "lung.conf").predicted.lung, lung)


def test_where_it_is_not_said_of_which_ct_the_masks_are_none_is_shown(slices, tmp_path, capsys):
    ct, _ = slices
    predicted = tmp_path / "predictions" / "patient_P"
    (predicted / KEPT).unlink()
    with pytest.raises(LungError, match="does not say of which CT its masks are; predict it again: python model_test"):
        image_test.open_path(predicted, tmp_path / "lung.conf")
    assert image_test.open_path(ct, tmp_path / "lung.conf").predicted is None
    assert "no prediction shown" in capsys.readouterr().out


def test_a_reference_of_another_ct_is_not_shown(slices, tmp_path, capsys):
    ct, lung = slices
    path = ct.parent.with_name("lung") / "P" / "P_slice001.npy"
    np.save(path, lung_image(np.full((24, 30), -700, np.int16), lung[1]))
    stack = image_test.open_path(ct, tmp_path / "lung.conf")
    assert (stack.reference, stack.agreement("axial", 0)) == (None, "")
    assert "no reference shown: " in capsys.readouterr().out
    assert image_test.open_path(ct / "P_slice002.npy", tmp_path / "lung.conf").reference is not None


@pytest.mark.parametrize("kind", ["prediction", "reference"])
def test_slices_that_are_not_there_are_named(slices, tmp_path, capsys, kind):
    ct, _ = slices
    folder = tmp_path / "predictions" / "patient_P" if kind == "prediction" else ct.parent.with_name("lung") / "P"
    (folder / "P_slice001.npy").unlink()
    stack = image_test.open_path(ct, tmp_path / "lung.conf")
    assert [mask.name for mask in stack.masks] == [{"prediction": "reference", "reference": "prediction"}[kind]]
    assert capsys.readouterr().out == f"no {kind} shown: {folder} lacks P_slice001.npy\n"


def test_a_mask_of_step_5_on_other_hu_at_its_place_has_a_warning(slices, tmp_path, capsys):
    ct, lung = slices
    conf, path = tmp_path / "lung.conf", tmp_path / "predictions" / "patient_P" / "P.nii.gz"
    stack = image_test.open_path(ct, conf)
    path.write_bytes(nifti_bytes(lung, stack.frame))
    image_test.add_mask(stack, path)
    assert capsys.readouterr().out == ""
    image_test.add_mask(replace(stack, ct_hu=stack.ct_hu[:, :, ::-1]), path)
    assert "warning " in (said := capsys.readouterr().out)
    assert "patient_P: its masks were predicted from other HU at this place" in said


def test_slices_of_a_patient_whose_name_begins_as_folders_of_step_5_do_are_shown(slices, tmp_path):
    ct, lung = slices
    for folder in (ct, ct.parent.with_name("lung") / "P"):
        folder.rename(folder.with_name("patient_1"))
    (tmp_path / "predictions/patient_P").rename(tmp_path / "predictions/patient_patient_1")
    for path in (ct.with_name("patient_1"), ct.parent.with_name("lung") / "patient_1"):
        stack = image_test.open_path(path, tmp_path / "lung.conf")
        assert stack.scan == "patient_1"
        np.testing.assert_array_equal(stack.reference.lung, lung)
        np.testing.assert_array_equal(stack.predicted.lung, np.roll(lung, 2, 2))
