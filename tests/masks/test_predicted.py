"""Masks of step 5 as labels: accepted ones alone, of the same series, on the same slices, as they were predicted."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import make_row

from lungct import LungError
from lungct.files import npy_bytes, replace_file, table_bytes
from lungct.masks import read
from lungct.masks.predicted import (
    NotAccepted,
    find_accepted,
    find_predictions,
    is_predictions,
    mask_fingerprint,
    prediction_files,
    read_fingerprint,
    read_prediction,
    slices_table,
    take_reviews,
)
from lungct.masks.read import find_labels, label_stamps, read_lung, read_slices
from lungct.masks.reviews import Review, read_reviews
from lungct.masks.write import FORMATS, KEPT, NPY, LungMask, encode_masks, keep_bytes
from lungct.scans.geometry import Scan, frame_of
from lungct.slices import SliceRow

UID = "1.2.3"
NAMES = ("P", "a", UID)
CT_HU = np.arange(120, dtype=np.int16).reshape(6, 4, 5)


def lungs() -> np.ndarray:
    """Six slices of 4 x 5 pixels, each with another mask."""
    lung = np.zeros((6, 4, 5), bool)
    for z in range(6):
        lung[z, 1:3, : 1 + z % 5] = True
    return lung


def predict(place, scan="a", uid=UID, lung=None, forms=(NPY,)) -> list[SliceRow]:
    """Write a predicted scan as step 5 does; returns its rows."""
    lung = lungs() if lung is None else lung
    rows = [make_row(scan, z, series_uid=uid, patient_id="P") for z in range(6)]
    folder = place / f"patient_{scan}"
    for row, mask in zip(rows, lung, strict=True):
        if NPY in forms:
            replace_file(folder / f"{row.slice_name}.npy", npy_bytes(mask.astype(np.uint8)))
    if KEPT in forms:
        replace_file(folder / KEPT, keep_bytes(lung, np.zeros(len(lung)), CT_HU))
    made = LungMask(lung, frame_of(rows), lambda: None, "0", np.zeros(len(lung)))
    for name, content in encode_masks(made, [form for form in forms if form in FORMATS], scan)[0].items():
        replace_file(folder / name, content)
    replace_file(folder / "slices.csv", slices_table(rows, lung))
    return rows


def review(place, kept=None, mark=None, **verdicts: str) -> None:
    """Verdicts on the masks that lie there now, or on those of another fingerprint, by scan."""
    marks = {scan: mark or read_fingerprint(place / f"patient_{scan}") for scan in verdicts}
    rows = [Review(scan, "P", marks[scan], "w", verdict, "") for scan, verdict in verdicts.items()]
    replace_file(kept or place / "reviews.csv", table_bytes(rows, Review))


def scan_of(rows: list[SliceRow], uid=UID) -> Scan:
    return Scan("P", uid, (), frame_of(rows))


def test_the_accepted_mask_of_a_series_is_found_and_read(tmp_path):
    rows = predict(tmp_path)
    review(tmp_path, a="accept")
    (label,) = find_labels(tmp_path, [("another", "name", UID)])
    assert label == tmp_path / "patient_a"
    lung, warnings = read_lung(label, scan_of(rows))
    np.testing.assert_array_equal(lung, lungs())
    assert warnings == ()


@pytest.mark.parametrize("forms", [(KEPT,), (KEPT, "nifti"), ("nifti",), ("sides",), ("nrrd",), (KEPT, NPY, "nifti")])
def test_the_mask_is_read_from_any_form_that_is_there(tmp_path, forms):
    rows = predict(tmp_path, forms=forms)
    np.testing.assert_array_equal(read_prediction(tmp_path / "patient_a", scan_of(rows)), lungs())
    assert len(prediction_files(tmp_path / "patient_a")) == 1 + len(forms) + 5 * (NPY in forms)


def test_a_damaged_kept_mask_or_some_slices_that_are_gone_leave_the_other_forms(tmp_path):
    rows = predict(tmp_path, forms=(KEPT, NPY))
    folder = tmp_path / "patient_a"
    kept = (folder / KEPT).read_bytes()
    (folder / KEPT).write_bytes(kept[:100])
    np.testing.assert_array_equal(read_prediction(folder, scan_of(rows)), lungs())
    (folder / "a_slice003.npy").unlink()
    with pytest.raises(LungError, match="patient_a: holds no mask any more; predict it again"):
        read_prediction(folder, scan_of(rows))
    (folder / KEPT).write_bytes(kept)
    np.testing.assert_array_equal(read_prediction(folder, scan_of(rows)), lungs())


@pytest.mark.parametrize("form", ["nifti", "nrrd"])
def test_a_volume_that_was_corrected_by_hand_is_not_passed_over_for_the_kept_mask(tmp_path, form):
    rows = predict(tmp_path, forms=(KEPT, form))
    corrected = lungs()
    corrected[2, 0, 0] = True
    other = tmp_path / "other"
    predict(other, lung=corrected, forms=(form,))
    name = f"a{FORMATS[form].ending}"
    (other / "patient_a" / name).replace(tmp_path / "patient_a" / name)
    with pytest.raises(LungError, match=rf"patient_a/{name}: a mask was changed after the prediction; to train on it"):
        read_prediction(tmp_path / "patient_a", scan_of(rows))


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        ({"a": "reject"}, "rejected"),
        ({"a": ""}, "not reviewed"),
        ({"b": "accept"}, "not reviewed"),
        ({"a": "accept", "mark": "0123456789abcdef"}, "predicted again since its review"),
    ],
)
def test_what_was_not_accepted_is_left_out_and_no_fault(tmp_path, verdicts, words):
    predict(tmp_path)
    review(tmp_path, **verdicts)
    (reason,) = find_labels(tmp_path, [NAMES])
    assert isinstance(reason, NotAccepted)
    assert str(reason) == words


def test_no_mask_of_another_series_is_taken_whatever_its_name(tmp_path):
    predict(tmp_path, uid="1.2.4")
    review(tmp_path, a="accept")
    (reason,) = find_accepted(tmp_path, [NAMES])
    assert isinstance(reason, NotAccepted)
    assert "no prediction of it" in str(reason)
    with pytest.raises(LungError, match=r"not predicted from series 1\.2\.3"):
        read_prediction(tmp_path / "patient_a", scan_of(predict(tmp_path, scan="b")))


def test_a_volume_without_series_uid_goes_by_all_its_names(tmp_path):
    predict(tmp_path, uid="ct")
    review(tmp_path, a="accept")
    assert find_accepted(tmp_path, [("P", "a", "ct")]) == [tmp_path / "patient_a"]
    assert isinstance(find_accepted(tmp_path, [("P", "b", "ct")])[0], NotAccepted)
    assert isinstance(find_accepted(tmp_path, [("Q", "a", "ct")])[0], NotAccepted)


def test_two_accepted_masks_of_one_series_are_a_fault_for_a_scan_of_another_name(tmp_path):
    predict(tmp_path)
    predict(tmp_path, scan="b")
    review(tmp_path, a="accept", b="accept")
    (error,) = find_accepted(tmp_path, [("P", "c", UID)])
    assert not isinstance(error, NotAccepted)
    assert "patient_b are both of this scan" in str(error)
    review(tmp_path, a="reject", b="accept")
    assert find_accepted(tmp_path, [("P", "c", UID)]) == [tmp_path / "patient_b"]


def test_each_phase_of_a_series_has_its_own_mask_and_verdict(tmp_path):
    phases = [("P", "a", UID), ("P", "b", UID)]
    predict(tmp_path)
    review(tmp_path, a="accept")
    first, second = find_accepted(tmp_path, phases)
    assert first == tmp_path / "patient_a"
    assert isinstance(second, NotAccepted)
    assert "no prediction of it" in str(second)
    predict(tmp_path, scan="b", lung=~lungs())
    review(tmp_path, a="accept", b="reject")
    for order in (phases, phases[::-1], phases[1:]):
        found = dict(zip(order, find_accepted(tmp_path, order), strict=True))
        assert str(found["P", "b", UID]) == "rejected"
        assert found.get(("P", "a", UID), tmp_path / "patient_a") == tmp_path / "patient_a"
    review(tmp_path, a="accept", b="accept")
    assert find_accepted(tmp_path, phases) == [tmp_path / "patient_a", tmp_path / "patient_b"]


def test_a_mask_of_another_ct_of_the_same_series_and_place_is_refused(tmp_path):
    rows = predict(tmp_path, forms=(KEPT, NPY))
    label, whole = tmp_path / "patient_a", CT_HU.copy()
    whole[lungs()] = -800
    replace_file(label / KEPT, keep_bytes(lungs(), np.zeros(6), whole))
    lung, _ = read_slices(label, scan_of(rows[1:]), range(1, 4), whole[2:5])
    np.testing.assert_array_equal(lung, lungs()[2:5])
    whole[4, 0, 0] += 1
    with pytest.raises(LungError, match="patient_a: its masks were predicted from other HU at this place"):
        read_slices(label, scan_of(rows[1:]), range(1, 4), whole[2:5])


def test_slices_are_matched_by_their_place(tmp_path):
    rows = predict(tmp_path)
    lung = read_prediction(tmp_path / "patient_a", scan_of(rows[1:5]))  # a scan of which two files are gone
    np.testing.assert_array_equal(lung, lungs()[1:5])
    for moved in (
        [replace(row, z_mm=row.z_mm + 3) for row in rows],
        [replace(row, x_mm=2.0) for row in rows],
        [replace(row, rows=5, columns=4) for row in rows],
        [*rows, replace(rows[-1], z_index=6, z_mm=30.0)],
    ):
        with pytest.raises(LungError, match="does not lie on the CT"):
            read_prediction(tmp_path / "patient_a", scan_of(moved))


@pytest.mark.parametrize("z", [0, 5])
def test_a_mask_that_is_not_the_predicted_one_is_refused(tmp_path, z):
    rows = predict(tmp_path)
    path = tmp_path / "patient_a" / f"a_slice{z:03d}.npy"
    replace_file(path, npy_bytes(lungs()[3].astype(np.uint8)))
    with pytest.raises(LungError, match=r"patient_a/\*\.npy: a mask was changed after the prediction"):
        read_prediction(tmp_path / "patient_a", scan_of(rows))


def test_masks_moved_to_the_folder_of_another_scan_are_refused(tmp_path):
    rows = predict(tmp_path, scan="b", uid="1.2.4", lung=~lungs())
    predict(tmp_path)
    for row in rows:
        mask = tmp_path / "patient_b" / f"{row.slice_name}.npy"
        mask.replace(tmp_path / "patient_a" / f"{row.slice_name.replace('b_', 'a_')}.npy")
    with pytest.raises(LungError, match="a mask was changed"):
        read_prediction(tmp_path / "patient_a", scan_of(rows))


def test_a_fingerprint_is_of_mask_series_and_place(tmp_path):
    rows = predict(tmp_path)
    marks = {
        mask_fingerprint(rows, lungs()),
        mask_fingerprint(rows, ~lungs()),
        mask_fingerprint(rows, lungs().transpose(0, 2, 1)),
        mask_fingerprint([replace(row, series_uid="1.2.4") for row in rows], lungs()),
        mask_fingerprint([replace(row, z_mm=row.z_mm + 1) for row in rows], lungs()),
    }
    assert len(marks) == 5
    assert mask_fingerprint([replace(row, fingerprint="new", label_source="x") for row in rows], lungs()) in marks


def test_without_reviews_nothing_is_taken(tmp_path):
    predict(tmp_path)
    with pytest.raises(LungError, match=r"no .*reviews\.csv; review the scans in report\.html"):
        find_labels(tmp_path, [NAMES])
    (tmp_path / "patient_a" / "a.nii.gz").write_bytes(b"")
    with pytest.raises(LungError, match="which holds the reviews"):
        find_labels(tmp_path / "patient_a", [NAMES])
    above = tmp_path / "study"
    predict(above / "predictions")
    (above / "predictions/patient_a/a.nii.gz").write_bytes(b"")
    (reason,) = find_labels(above, [NAMES])
    assert "no label in" in str(reason)


def test_the_folder_of_an_earlier_version_gives_nothing(tmp_path):
    (tmp_path / "scores.csv").write_text("scan\n")
    (tmp_path / "patient_a").mkdir()
    assert read_fingerprint(tmp_path / "patient_a") == ""
    assert is_predictions(tmp_path)
    assert not is_predictions(tmp_path / "patient_a")
    review(tmp_path, a="accept")
    assert "by this version" in str(find_labels(tmp_path, [NAMES])[0])


def test_another_prediction_changes_the_stamps_of_the_label(tmp_path):
    predict(tmp_path)
    before = label_stamps(tmp_path / "patient_a", ())
    assert len(before[1]) == 7
    predict(tmp_path, lung=~lungs())
    assert label_stamps(tmp_path / "patient_a", ()) != before


def test_reviews_are_added_to_those_beside_the_predictions(tmp_path, capsys):
    place, later = tmp_path / "predictions", tmp_path / "later.csv"
    predict(place)
    predict(place, scan="b", uid="1.2.4")
    review(place, a="accept", b="reject")
    review(place, kept=later, a="")  # taken back
    take_reviews(later, place)
    verdicts = {scan: row.verdict for (scan, _), row in read_reviews(place / "reviews.csv").items()}
    assert verdicts == {"a": "", "b": "reject"}
    assert "0 accepted, 1 rejected, 1 without a verdict" in capsys.readouterr().out
    take_reviews(place / "reviews.csv", place)
    assert len(read_reviews(place / "reviews.csv")) == 2


def test_masks_that_were_set_aside_are_no_label_unless_one_is_given_as_a_file(tmp_path, monkeypatch):
    place = tmp_path / "predictions"
    rows = predict(place, forms=(NPY, "nifti", KEPT))
    aside = place / "changed_patient_a"
    for name in ("changed_patient_a_2", aside.name):
        shutil.copytree(place / "patient_a", place / name)
    (place / "changed_patient_a_2" / "slices.csv").unlink()
    review(place, a="accept")
    assert [one.folder.name for one in find_predictions(place)] == ["patient_a"]
    assert find_labels(place, [NAMES]) == [place / "patient_a"]
    shutil.rmtree(place / "patient_a")
    (place / "scores.csv").touch()
    (label,) = find_labels(place, [NAMES])
    assert isinstance(label, NotAccepted)
    (place / "changed_patient_a_2" / "a.seg.dcm").touch()
    monkeypatch.setattr(read, "index_folder", lambda _: {UID: (place / "changed_patient_a_2" / "a.seg.dcm",)})
    (label,) = find_labels(tmp_path, [NAMES])
    assert str(label).startswith(f"no label in {tmp_path}")
    with pytest.raises(LungError, match="set aside with masks that were changed; give the one to train on as a file"):
        find_labels(aside, [NAMES])
    assert find_labels(aside / "a.nii.gz", [NAMES]) == [aside / "a.nii.gz"]
    np.testing.assert_array_equal(read_lung(aside / "a.nii.gz", scan_of(rows))[0], lungs())
