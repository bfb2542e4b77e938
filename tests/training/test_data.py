"""What reaches a step is the lung, and every slice comes once."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from conftest import small_patient
from training_runs import save_patients

from lungct import LungError
from lungct.evaluation.metrics import dice
from lungct.files import npy_bytes, replace_folder
from lungct.training.data import SliceSet, batches, same_slice_notes


def test_target_is_the_lung_and_not_the_ring_around_it(phantom_rows):
    root, rows = phantom_rows
    data = SliceSet(rows, root / "ct", root / "lung")
    _, target = data.read(np.arange(6))
    phantom = small_patient(0)
    truth = phantom.lung[len(phantom.lung) // 2 - 3 : len(phantom.lung) // 2 + 3]
    assert dice(target, truth) > 0.98
    ring_and_vessels = (phantom.ct_hu > -300)[len(phantom.lung) // 2 - 3 : len(phantom.lung) // 2 + 3]
    assert dice(target, ring_and_vessels) < 0.2


def test_labels_of_another_shape_are_told(tmp_path):
    lung = np.ones((2, 30, 40), bool)
    rows = save_patients(tmp_path, {"A": (np.zeros((2, 30, 40), np.int16), lung)})
    files = {f"A_slice00{z}.npy": npy_bytes(np.zeros((40, 30), np.int16)) for z in range(2)}
    replace_folder(tmp_path / "lung" / "A", files)
    with pytest.raises(LungError, match=r"lung.A.A_slice000\.npy: int16 \(40, 30\) is not the slice"):
        SliceSet(rows, tmp_path / "ct", tmp_path / "lung")


def test_slices_that_are_not_int16_are_told(tmp_path):
    ct_hu = np.zeros((2, 30, 40), np.int16)
    rows = save_patients(tmp_path, {"A": (ct_hu, ct_hu == 0)})
    files = {f"A_slice00{z}.npy": npy_bytes(np.full((30, 40), np.nan, np.float32)) for z in range(2)}
    replace_folder(tmp_path / "ct" / "A", files)
    with pytest.raises(LungError, match=r"ct.A.A_slice000\.npy: float32 \(30, 40\) is not the slice"):
        SliceSet(rows, tmp_path / "ct", tmp_path / "lung")


@pytest.mark.parametrize("kind", ["ct", "lung"])
def test_a_slice_that_changes_in_the_middle_of_a_training_is_refused(tmp_path, kind):
    ct_hu = np.arange(240, dtype=np.int16).reshape(2, 10, 12)
    lung = np.zeros(ct_hu.shape, bool)
    lung[:, 3:6] = True
    data = SliceSet(save_patients(tmp_path, {"A": (ct_hu, lung)}), tmp_path / "ct", tmp_path / "lung")
    np.testing.assert_array_equal(data.read([0, 1])[0], ct_hu)
    (ct_hu if kind == "ct" else lung)[:, 0] += True  # step 2 again, with another scan or other labels
    save_patients(tmp_path, {"A": (ct_hu, lung)})
    with pytest.raises(LungError, match=rf"{kind}.A.A_slice000\.npy: int16 \(10, 12\) is not the slice that manifest"):
        data.read([0, 1])


def test_a_neighbour_that_a_thick_slice_is_made_of_is_checked_too(tmp_path):
    ct_hu = np.zeros((3, 10, 12), np.int16)
    rows = [replace(row, z_mm=2.0 * row.z_index) for row in save_patients(tmp_path, {"A": (ct_hu, ct_hu == 0)})]
    data = SliceSet(rows, tmp_path / "ct", tmp_path / "lung")
    (tmp_path / "ct/A/A_slice000.npy").write_bytes(npy_bytes(ct_hu[0] + 1))
    data.read([1])
    with pytest.raises(LungError, match=r"A_slice000\.npy"):
        data.read(np.array([1]), np.ones(1, bool))


def test_labels_without_any_lung_are_refused(tmp_path):
    empty = np.zeros((2, 30, 40), np.int16)
    rows = save_patients(tmp_path, {"A": (empty, empty > 0)})
    with pytest.raises(LungError, match=r"lung: no lung in any slice of A; look at the labels"):
        SliceSet(rows, tmp_path / "ct", tmp_path / "lung")


def test_slices_of_several_sizes_are_filled_up_with_air(tmp_path):
    small, large = (np.full((1, *shape), 40, np.int16) for shape in ((20, 50), (30, 40)))
    rows = save_patients(tmp_path, {"A": (small, small > 0), "B": (large, large > 0)})
    data = SliceSet(rows, tmp_path / "ct", tmp_path / "lung")
    ct_hu, lung = data.read([0, 1])
    assert ct_hu.shape == lung.shape == (2, 30, 50)
    assert (ct_hu[0, 20:] == -1024).all()
    assert lung.sum() == 20 * 50 + 30 * 40


def test_a_thick_slice_is_the_mean_of_three_neighbours_of_one_scan(tmp_path):
    thin = np.arange(4, dtype=np.int16)[:, None, None] ** 2 * np.ones((4, 6, 9), np.int16) * 30
    rows = save_patients(tmp_path, {"A": (thin, thin > 0), "B": (thin, thin > 0)})
    rows = [replace(row, z_mm=row.z_index * (2.5 if row.patient_id == "A" else 5.0)) for row in rows]
    data = SliceSet(rows, tmp_path / "ct", tmp_path / "lung")
    wanted = np.ones(8, bool)
    ct_hu, _ = data.read(np.arange(8), wanted)
    assert ct_hu[:, 0, 0].tolist() == [0, 50, 140, 270, 0, 30, 120, 270]  # A: (0 + 30 + 120) / 3; B is thick enough
    ct_hu, _ = data.read(np.arange(8), ~wanted)
    assert ct_hu[1, 0, 0] == 30


def test_disease_is_painted_on_copies_and_follows_its_generator(phantom_rows):
    root, rows = phantom_rows
    data = SliceSet(rows, root / "ct", root / "lung")
    numbers = np.arange(len(rows)).repeat(4)[:24]
    before = data.read(range(len(rows)))
    healthy, first, again, other = (
        data.read(numbers, disease=None if seed is None else np.random.default_rng(seed)) for seed in (None, 1, 1, 2)
    )
    np.testing.assert_array_equal(data.read(range(len(rows))), before)
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0], healthy[0])


def test_sizes_of_pixels_follow_the_manifest(tmp_path):
    ct_hu = np.zeros((2, 6, 9), np.int16)
    rows = save_patients(tmp_path, {"A": (ct_hu, ct_hu == 0)})
    rows = [replace(row, row_mm=0.5, col_mm=0.72) for row in rows]
    assert SliceSet(rows, tmp_path / "ct", tmp_path / "lung").pixel_mm.tolist() == pytest.approx([0.6, 0.6])


def test_a_slice_is_resized_to_the_pixels_of_the_network(tmp_path):
    coarse = np.zeros((2, 6, 10), np.int16)
    lung = np.zeros(coarse.shape, bool)
    lung[:, 2:4, 2:6], coarse[:, 2:4, 2:6] = True, -800
    usual = np.full((2, 20, 16), 40, np.int16)
    patients = {"A": (coarse, lung), "B": (usual, usual > 0)}
    rows = save_patients(tmp_path, patients, {"A": 2.1, "B": 0.7})
    data = SliceSet(rows, tmp_path / "ct", tmp_path / "lung", model_mm=0.7)
    assert data.zoom.tolist() == [3, 3, 1, 1]
    assert data.read([0])[0].shape == (1, 6, 10)
    ct_hu, seen = data.read([0], resized=True)
    assert ct_hu.shape == seen.shape == (1, 18, 30)
    assert seen.sum() == 9 * 8 - 4  # its corners are rounded
    assert (ct_hu[0, 7:11, 7:17] < -600).all()
    assert data.read([2], resized=True)[0].shape == (1, 20, 16)
    assert data.read([0, 2], resized=True)[0].shape == (2, 20, 30)
    assert [part.tolist() for part in data.predicted_together()] == [[0, 1], [2, 3]]


def test_slices_of_the_scale_of_the_network_are_as_they_were(tmp_path):
    ct_hu = np.random.default_rng(0).integers(-1024, 3071, (2, 7, 9)).astype(np.int16)
    rows = save_patients(tmp_path, {"A": (ct_hu, ct_hu > 0)}, {"A": 1.0})
    data = SliceSet(rows, tmp_path / "ct", tmp_path / "lung", model_mm=0.7)
    seen = data.read([0, 1], resized=True)
    np.testing.assert_array_equal(seen[0], ct_hu)
    np.testing.assert_array_equal(seen[1], ct_hu > 0)


def test_slices_stay_on_disk(tmp_path):
    """244,527 slices of LIDC-IDRI would take 190 GB."""
    ct_hu = np.zeros((40, 256, 256), np.int16)
    rows = save_patients(tmp_path, {"A": (ct_hu, ct_hu == 0)})
    tracemalloc.start()
    data = SliceSet(rows, tmp_path / "ct", tmp_path / "lung", show_progress=False)
    data.read(np.arange(4))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < ct_hu.nbytes / 2


def test_batches_hold_every_slice_once():
    parts = batches(23, 5, seed=1, epoch=2)
    assert sorted(np.concatenate(parts).tolist()) == list(range(23))
    assert {len(part) for part in parts} == {4, 5}


def test_one_patient_under_two_ids_is_told(tmp_path):
    """B is A, anonymised once more; C and D have but a slice without lung in common."""
    ct_hu = np.random.default_rng(1).integers(-1000, 500, (4, 2, 8, 8)).astype(np.int16)
    lung = np.zeros((2, 8, 8), bool)
    lung[0, 2:6, 2:6] = True
    ct_hu[3, 1] = ct_hu[2, 1]
    a, b, c, d = (
        save_patients(tmp_path, {name: (ct_hu[n], lung)}) for name, n in zip("ABCD", (0, 0, 2, 3), strict=True)
    )
    (note,) = same_slice_notes(a + c, b + d)
    assert note.startswith("warning: the same slices under two patient IDs: A and B; ")
    assert same_slice_notes(a + c, d) == []
