"""Gas in soft tissue is never lung; lungs that are filled are none."""

import numpy as np
import pytest
from chest import MM, canvas

from lungct.training import bowel_gas
from lungct.training.bowel_gas import add_gas, fill_lungs, paint_bowel, raise_domes, rough_depth_mm


def painted(seed: int, lungs: bool = True):
    board = canvas(seed, lungs)
    before, lung = board.ct_hu.copy(), board.lung.copy()
    add_gas(board)
    return board, before, lung


def test_gas_leaves_lung_and_target():
    seen = 0
    for seed in range(15):
        board, before, lung = painted(seed)
        assert np.array_equal(board.lung, lung)
        assert np.array_equal(board.ct_hu[lung], before[lung])
        seen += ((board.ct_hu < -800) & (before > -200)).any()
    assert seen >= 10


def test_gas_measures_what_the_room_does(monkeypatch):
    monkeypatch.setattr(bowel_gas, "P_STOOL", 0)
    values = []
    for seed in range(10):
        board, before, _ = painted(seed)
        values.append(board.ct_hu[(board.ct_hu < -900) & (before > -200)])
    values = np.concatenate(values)
    assert np.median(values) == pytest.approx(-970, abs=6)
    assert values.min() > -970 - 60


def test_a_wall_stays_between_gas_and_lung_and_room():
    for seed in range(15):
        board, before, _ = painted(seed)
        changed = np.argwhere((board.ct_hu < -700) & (before > -200))
        others = np.argwhere(before < -700)
        for point in changed[:: max(1, len(changed) // 40)]:
            assert np.hypot(*(others - point).T).min() * MM >= 2


def test_gas_grows_as_large_as_a_full_stomach(monkeypatch):
    monkeypatch.setattr(bowel_gas, "P_STOOL", 0)
    areas = []
    for seed in range(30):
        board, before, _ = painted(seed, lungs=False)
        areas.append(((board.ct_hu < -800) & (before > -200)).sum() * MM**2)
    assert max(areas) > 100 * 60 * 0.6
    assert min(areas) < 500


@pytest.mark.parametrize(("p_level", "least", "most"), [(1, 0.45, 1), (0, 0, 0.4)])
def test_fluid_stands_level_below_the_gas(p_level, least, most, monkeypatch):
    for name, value in (("P_PRONE", 0), ("P_ORAL_CONTRAST", 0), ("P_STOOL", 0), ("P_LEVEL", p_level)):
        monkeypatch.setattr(bowel_gas, name, value)
    for seed in range(10):
        board = canvas(seed, lungs=False)
        disc = np.hypot(board.y_mm - 170, board.x_mm - 200) - 40
        before = board.ct_hu.copy()
        paint_bowel(board, disc.astype(np.float32), 170)
        air = (board.ct_hu < -500) & (before > -200)
        bottoms = np.array([np.nonzero(col)[0].max() for col in air.T if col.any()])
        assert least <= (bottoms >= bottoms.max() - 1).mean() <= most
        fluid = board.ct_hu[bottoms.max() + 4 : 102, 95:105]  # down to 36 mm below the middle
        assert not fluid.size or p_level == 0 or -50 < np.median(fluid) < 80


def test_filled_lungs_are_tissue_and_no_lung():
    for seed in range(5):
        board = canvas(seed)
        lung = board.lung.copy()
        fill_lungs(board)
        assert not board.lung.any()
        assert -130 < np.median(board.ct_hu[lung]) < 110
        assert (board.ct_hu[lung] > -200).all()


def test_a_slice_without_lung_is_not_filled():
    board = canvas(lungs=False)
    before = board.ct_hu.copy()
    fill_lungs(board)
    assert np.array_equal(board.ct_hu, before)


def test_a_dome_is_tissue_and_out_of_the_target():
    shares = []
    for seed in range(25):
        board = canvas(seed)
        before, lung = board.ct_hu.copy(), board.lung.copy()
        raise_domes(board)
        lost = lung & ~board.lung
        assert not (board.lung & ~lung).any()
        assert np.array_equal(board.ct_hu[before < -930], before[before < -930])  # the room is as it was
        assert -100 < np.median(board.ct_hu[lost]) < 180
        assert np.median(board.ct_hu[board.lung]) < -800
        shares.append(lost.sum() / lung.sum())
    assert min(shares) < 0.15 < 0.5 < max(shares)  # from the top of a dome to a base of which a rim is left


def test_no_lung_no_dome():
    board = canvas(lungs=False)
    before = board.ct_hu.copy()
    raise_domes(board)
    assert np.array_equal(board.ct_hu, before)


def test_no_tissue_no_gas():
    board = canvas()
    board.ct_hu[:] = -970
    board.measure()
    add_gas(board)
    assert (board.ct_hu == -970).all()


def test_rough_depth_is_near_the_exact_one():
    board = canvas()
    exact, rough = board.depth_mm(board.coarse_lung), rough_depth_mm(board, board.coarse_lung)
    assert rough.shape == exact.shape
    assert np.abs(rough - exact).max() <= 2.5 * board.node_mm
