"""Disease of the lung changes the CT and never the target."""

import numpy as np
import pytest
from chest import MM, canvas
from scipy import ndimage

from lungct.training import lesions
from lungct.training.canvas import RIM_PX, widen
from lungct.training.lesions import (
    CYST_WALL_HU,
    add_bronchi,
    add_bullae,
    add_consolidation,
    add_honeycombing,
    add_masses,
    add_tumour_across,
    cyst_pattern_hu,
    draw_bronchus,
)

LESIONS = (add_masses, add_consolidation, add_tumour_across, add_bullae, add_honeycombing)
SEEDS = range(12)


@pytest.mark.parametrize("add", LESIONS)
def test_a_lesion_changes_the_lung_and_leaves_target_and_tissue(add):
    changed = 0
    for seed in SEEDS:
        board = canvas(seed)
        before, lung = board.ct_hu.copy(), board.lung.copy()
        add(board)
        assert np.array_equal(board.lung, lung)
        beyond = ~widen(lung, RIM_PX)
        assert np.array_equal(board.ct_hu[beyond], before[beyond])
        changed += np.count_nonzero(board.ct_hu != before) * MM**2 > 50
    assert changed >= 10


@pytest.mark.parametrize("add", LESIONS)
def test_a_slice_without_lung_stays_as_it_is(add):
    board = canvas(lungs=False)
    before = board.ct_hu.copy()
    add(board)
    assert np.array_equal(board.ct_hu, before)
    assert not board.lung.any()


@pytest.mark.parametrize("add", [add_masses, add_consolidation, add_tumour_across])
def test_what_fills_lung_has_the_hu_of_soft_tissue_and_leaves_some_air(add):
    for seed in SEEDS:
        board = canvas(seed)
        add(board)
        inside = board.ct_hu[board.lung]
        filled = inside[inside > -100]
        if len(filled) > 200:
            assert -20 < np.median(filled) < 130
        assert (inside < -700).mean() > 0.15


def test_most_masses_touch_the_edge_and_their_sizes_span_the_range():
    areas, touching = [], 0
    for seed in range(40):
        board = canvas(seed)
        board.rng = np.random.default_rng((seed, 1))
        add_masses(board)
        filled = (board.ct_hu > -300) & board.lung
        areas.append(np.count_nonzero(filled) * MM**2)
        touching += (
            filled & (np.roll(~board.lung, 1, 0) | np.roll(~board.lung, 1, 1) | np.roll(~board.lung, -1, 1))
        ).any()
    assert touching > 28
    assert min(areas) < 200
    assert max(areas) > 2000


def test_consolidation_reaches_more_than_a_lobe_of_one_lung_and_leaves_the_other():
    shares = []
    for seed in range(30):
        board = canvas(seed)
        add_consolidation(board)
        filled = (board.ct_hu > -300) & board.lung
        sides = [filled[:, :95].sum(), filled[:, 105:].sum()]
        assert min(sides) == 0
        shares.append(2 * max(sides) / board.lung.sum())
    assert max(shares) > 0.6
    assert min(shares) < 0.3


def test_a_tumour_across_cuts_a_lung_in_two():
    pieces = []
    for seed in range(10):
        board = canvas(seed)
        add_tumour_across(board)
        label, count = ndimage.label((board.ct_hu < -600) & board.lung)
        pieces.append(sum(np.bincount(label.ravel())[1:] > 30) if count else 0)
    assert pieces.count(3) >= 7


def test_bullae_are_as_dark_as_the_room():
    board = canvas(1)
    add_bullae(board)
    assert np.count_nonzero((board.ct_hu < -910) & board.lung) * MM**2 > 100
    assert board.ct_hu[board.lung].min() > board.air_hu - 70


def test_cysts_repeat_without_a_seam_and_have_walls():
    board = canvas(2)
    tile = cyst_pattern_hu(board)
    assert tile.min() == board.air_hu + 40
    assert CYST_WALL_HU[0] - 150 < tile.max() <= CYST_WALL_HU[1]  # a wall may be thinner than a pixel
    assert 0.1 < (tile > -600).mean() < 0.9
    steps = np.abs(np.diff(np.concatenate([tile, tile]), axis=0))
    assert steps[len(tile) - 1].mean() < 2 * steps.mean()


def test_a_bronchus_is_air_within_its_radius():
    board = canvas()
    board.ct_hu[:], board.lung[:] = 50, True
    draw_bronchus(board, np.ones(board.coarse_hu.shape, bool), np.array([100.0, 100]), np.array([100.0, 160]), 6.0)
    dark = board.ct_hu == lesions.BRONCHUS_HU
    assert dark[50, 50:81].all()
    assert not (board.ct_hu[[45, 55]] < 50).any()  # 10 mm beside it


def test_bronchi_stay_in_what_is_filled():
    board = canvas(4)
    before, filled = board.ct_hu.copy(), board.coarse_lung.copy()
    filled[:, filled.shape[1] // 2 :] = False
    board.ct_hu[board.lung] = 50
    add_bronchi(board, filled)
    assert (board.ct_hu[board.lung] < -300).any()
    assert (board.ct_hu[board.lung & (np.arange(200) > 102)] == 50).all()
    assert np.array_equal(board.ct_hu[~board.lung], before[~board.lung])
