"""What is measured in a slice, and how a shape is painted on it."""

import numpy as np
import pytest
from chest import MM, NOISE_HU, ROOM_HU, canvas, chest

from lungct.training.canvas import USUAL_AIR_HU, Canvas, blob, block_mean, interpolate, log_uniform, tiled, widen


def test_air_noise_and_lungs_are_those_of_the_slice():
    board = canvas()
    assert board.air_hu == pytest.approx(ROOM_HU, abs=3)
    assert board.noise.std() == pytest.approx(NOISE_HU, rel=0.2)
    right, left = board.lungs()
    assert right.sum() == pytest.approx(left.sum(), rel=0.05)
    assert not (right & left).any()
    assert board.area_mm2(right | left) == pytest.approx(2 * np.pi * 55 * 85, rel=0.05)


def test_a_slice_without_room_has_the_usual_air():
    ct_hu = np.full((60, 60), 40, np.int16)
    board = Canvas(ct_hu, ct_hu > 99, MM, np.random.default_rng(0))
    assert board.air_hu == USUAL_AIR_HU
    assert board.lungs() == []


def test_padding_is_no_room_air():
    ct_hu, lung = chest()
    ct_hu[ct_hu < -900] = -1024
    assert Canvas(ct_hu, lung, MM, np.random.default_rng(0)).air_hu == USUAL_AIR_HU


def test_noise_follows_the_grain_of_the_slice():
    ct_hu, lung = chest()
    coarse = np.random.default_rng(1).normal(0, 30, (85, 100)).repeat(2, 0).repeat(2, 1)  # two pixels are one
    smooth = Canvas(
        np.where(ct_hu > -200, 50 + coarse, ct_hu).astype(np.int16), lung, MM, np.random.default_rng(0)
    ).noise
    sharp = canvas().noise
    likeness = [np.corrcoef(n[:, 1:].ravel(), n[:, :-1].ravel())[0, 1] for n in (sharp, smooth)]
    assert likeness[0] < 0.15 < 0.3 < likeness[1]


def test_a_disc_is_painted_with_partial_volume_at_its_edge():
    ct_hu = np.zeros((100, 100), np.int16)
    board = Canvas(ct_hu, ct_hu > 0, 1.0, np.random.default_rng(0))
    board.noise = np.zeros((4, 4), np.float32)
    disc = np.hypot(board.y_mm - 48, board.x_mm - 48) - 20
    board.paint(disc, 1000, in_lung=False)
    assert ct_hu[49, 49] == 1000
    assert ct_hu.sum() / 1000 == pytest.approx(np.pi * 20**2, rel=0.05)
    edge = (ct_hu > 0) & (ct_hu < 1000)
    assert 60 < edge.sum() < 260


def test_painting_in_the_lung_fills_its_blurred_edge_and_leaves_airways_and_tissue():
    ct_hu = np.full((40, 60), 50, np.int16)
    lung = np.zeros((40, 60), bool)
    lung[:, 20:40], ct_hu[:, 20:40], ct_hu[:, 40], ct_hu[:, 19], ct_hu[:, 50:55] = True, -850, -200, -980, -980
    before = ct_hu.copy()
    board = Canvas(ct_hu, lung, 1.0, np.random.default_rng(0))
    board.noise = np.zeros((4, 4), np.float32)
    board.paint(np.full(board.coarse_hu.shape, -99, np.float32), 40, in_lung=True)
    assert (ct_hu[:, 20:41] == 40).all()
    assert np.array_equal(ct_hu[:, 41:], before[:, 41:])
    assert np.array_equal(ct_hu[:, :20], before[:, :20])


def test_painting_outside_leaves_the_lung():
    board = canvas()
    before = board.ct_hu.copy()
    board.paint(np.full(board.coarse_hu.shape, -99, np.float32), -1000, in_lung=False)
    assert np.array_equal(board.ct_hu[board.lung], before[board.lung])
    assert (board.ct_hu[~board.lung] < -850).all()


def test_a_shape_that_is_nowhere_changes_nothing():
    board = canvas()
    before = board.ct_hu.copy()
    assert board.paint(np.full(board.coarse_hu.shape, 99, np.float32), 40, in_lung=True) is None
    assert np.array_equal(board.ct_hu, before)


def test_depth_is_the_distance_to_the_edge():
    board = Canvas(np.zeros((20, 20), np.int16), np.zeros((20, 20), bool), 3.0, np.random.default_rng(0))
    nodes = np.zeros((20, 20), bool)
    nodes[5:10, 5:10] = True
    assert board.depth_mm(nodes)[7, 7] == 9
    assert board.depth_mm(nodes)[5, 7] == 3
    assert not board.depth_mm(nodes)[~nodes].any()
    assert not board.depth_mm(nodes & ~nodes).any()


def test_block_mean_and_interpolation_by_hand():
    image = np.arange(25, dtype=np.int16).reshape(5, 5)
    assert block_mean(image, 2).tolist() == [[3, 5], [13, 15]]
    assert block_mean(np.full((4, 4), 3000, np.int16), 4).tolist() == [[3000]]  # the sum does not fit into int16
    assert interpolate(np.array([[0.0, 10, 30]]), np.array([0, 0.5, 1.5, 2]), axis=1).tolist() == [[0, 5, 20, 30]]


def test_a_tile_is_repeated_without_a_seam():
    tile = np.arange(6).reshape(2, 3)
    large = tiled(tile, (slice(10, 15), slice(0, 7)), np.random.default_rng(3))
    assert large.shape == (5, 7)
    assert np.array_equal(large[2:], large[:-2])
    assert np.array_equal(large[:, 3:], large[:, :-3])
    assert set(large.ravel()) == set(range(6))


def test_widening_by_hand():
    mask = np.zeros((5, 5), bool)
    mask[2, 2] = True
    assert widen(mask, 1).sum() == 5
    assert widen(mask, 2).sum() == 13
    assert mask.sum() == 1


def test_a_smooth_blob_is_an_ellipse():
    board = canvas()
    inside = blob(board, (25, 30), (40, 20), roughness=0) < 0
    assert board.area_mm2(inside) == pytest.approx(np.pi * 40 * 20, rel=0.1)


def test_each_doubling_is_as_likely():
    rng = np.random.default_rng(0)
    numbers = np.array([log_uniform(rng, 10, 80) for _ in range(3000)])
    assert 10 <= numbers.min() < 11
    assert 75 < numbers.max() <= 80
    assert np.histogram(numbers, [10, 20, 40, 80])[0] == pytest.approx([1000] * 3, rel=0.1)


def test_noise_that_varies_slowly_has_unit_deviation():
    board = canvas()
    slow, quick = board.smooth_noise(80), board.smooth_noise(6)
    assert slow.std() == pytest.approx(1, rel=0.01)
    assert np.abs(np.diff(slow)).mean() < 0.3 * np.abs(np.diff(quick)).mean()
