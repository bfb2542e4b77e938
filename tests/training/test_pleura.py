"""Effusion is out and lies below; a pneumothorax is in and lies above."""

import numpy as np
import pytest
from chest import MM, canvas

from lungct.training import pleura
from lungct.training.pleura import EFFUSION_HU, add_effusion, add_pneumothorax, crescent


@pytest.fixture
def supine(monkeypatch):
    monkeypatch.setattr(pleura, "P_PRONE", 0)


def test_fluid_leaves_the_target_and_has_its_hu(supine, monkeypatch):
    monkeypatch.setattr(pleura, "P_ATELECTASIS", 0)
    removed = []
    for seed in range(12):
        board = canvas(seed)
        lung = board.lung.copy()
        add_effusion(board)
        assert not (board.lung & ~lung).any()
        fluid = lung & ~board.lung
        removed.append(fluid.sum())
        if fluid.sum() > 100:
            assert EFFUSION_HU[0] - 5 < np.median(board.ct_hu[fluid]) < EFFUSION_HU[1] + 5
            assert np.nonzero(fluid)[0].mean() > np.nonzero(board.lung)[0].mean() + 10  # at the back
        assert np.median(board.ct_hu[board.lung]) < -800
        assert board.lung.sum() > 0.3 * lung.sum()
    assert sum(n * MM**2 > 300 for n in removed) >= 8


def test_collapsed_lung_on_the_fluid_stays_lung(supine, monkeypatch):
    monkeypatch.setattr(pleura, "P_ATELECTASIS", 1)
    seen = 0
    for seed in range(8):
        board = canvas(seed)
        add_effusion(board)
        seen += ((board.ct_hu > -100) & board.lung).sum() > 50
    assert seen >= 5


def test_pneumothorax_is_room_air_at_the_front_and_leaves_the_target(supine):
    seen = 0
    for seed in range(12):
        board = canvas(seed)
        lung, before = board.lung.copy(), board.ct_hu.copy()
        add_pneumothorax(board)
        assert np.array_equal(board.lung, lung)
        assert np.array_equal(board.ct_hu[~lung], before[~lung])
        air = (board.ct_hu < -920) & lung
        if air.sum() > 100:
            seen += 1
            assert np.nonzero(air)[0].mean() < np.nonzero(lung)[0].mean()
            assert np.median(board.ct_hu[air]) == pytest.approx(board.air_hu, abs=6)
    assert seen >= 6


@pytest.mark.parametrize("add", [add_effusion, add_pneumothorax])
def test_a_slice_without_lung_stays_as_it_is(add):
    board = canvas(lungs=False)
    before = board.ct_hu.copy()
    add(board)
    assert np.array_equal(board.ct_hu, before)


def test_a_crescent_is_thickest_at_the_bottom_and_has_a_meniscus():
    board = canvas(3)
    lung = board.lungs()[0]
    shape, thickness = crescent(board, lung, 1, 30.0)
    inside = (shape < 0) & lung
    rows = np.nonzero(inside)[0]
    assert rows.min() > np.nonzero(lung)[0].mean() - lung.shape[0] // 4
    assert thickness[rows.max()].max() == thickness[inside].max()
    surface = [col[col > 0].size for col in inside.T if col.any()]
    assert surface[len(surface) // 2] < max(surface[: len(surface) // 2])  # it climbs at the wall


def test_a_crescent_leaves_enough_of_a_thin_lung():
    board = canvas(3)
    lung = board.lungs()[0]
    shape, _ = crescent(board, lung, 1, 500.0)
    assert ((shape < 0) & lung).sum() <= pleura.MAX_SHARE * lung.sum()
