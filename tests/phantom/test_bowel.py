"""Gas in the belly of a phantom: where it lies, what holds it, and that it stays off the lung."""

import math
from dataclasses import replace

import numpy as np
import pytest

from lungct.phantom.anatomy import AIR_HU, LEFT_DOME, MUSCLE_HU, draw_build
from lungct.phantom.bowel import (
    CONTENTS_HU,
    FOLD_MM,
    GAS_TO_LUNG_MM,
    WALL_MM,
    bowel_tubes,
    colon_tubes,
    filled_bowel,
    folds,
    inside_cavity,
    loop_tubes,
    stomach_tubes,
)

BUILD = replace(draw_build(0), prone=False)
POINTS = [np.array([0.0, 0, 0]), np.array([0.0, 0, 30]), np.array([0.0, 10, 50])]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_all_gas_keeps_off_the_lung_and_lies_in_a_wall():
    for seed in range(20):
        tubes = list(bowel_tubes(draw_build(seed), rng(seed)))
        gas = [tube for tube in tubes if tube.hu == AIR_HU]
        walls = {(t.start, t.end, round(t.radius_mm, 6)) for t in tubes if t.hu == MUSCLE_HU}
        assert {tube.keep_off_mm for tube in gas} == {GAS_TO_LUNG_MM}
        assert all((t.start, t.end, round(t.radius_mm + WALL_MM, 6)) in walls for t in gas)
        assert not any(tube.cuts_lung for tube in tubes)


def test_stomach_bubble_lies_below_the_left_dome():
    for seed in range(20):
        build = draw_build(seed)
        for tube in stomach_tubes(build, rng(seed)):
            if tube.hu == AIR_HU:
                assert tube.high_mm < build.dome_tops_mm[LEFT_DOME]
        assert tube.start[2] > 0


def test_colon_has_gas_under_both_domes_in_some_patients_and_lies_outside():
    sides = set()
    for seed in range(20):
        for tube in colon_tubes(BUILD, rng(seed)):
            if tube.hu == AIR_HU and tube.high_mm > 20:
                sides.add(np.sign(tube.start[2]))
                assert abs(tube.start[2]) > 0.25 * BUILD.half_width_mm
    assert sides == {-1, 1}


def test_loops_are_two_to_six():
    counts = {sum(t.hu == AIR_HU for t in loop_tubes(BUILD, rng(seed))) // 3 for seed in range(60)}
    assert counts == {2, 3, 4, 5, 6}


def test_half_of_what_holds_gas_has_a_level_with_fluid_below_it():
    levels = 0
    for seed in range(100):
        tubes = list(filled_bowel(BUILD, POINTS, [10, 8], rng(seed)))
        gas = [tube for tube in tubes if tube.hu == AIR_HU]
        contents = [tube for tube in tubes if tube.hu == CONTENTS_HU]
        assert len(gas) == 2
        if contents:
            levels += 1
            assert len(contents) == 2
            (bounds,) = {tube.y_range_mm for tube in gas}
            assert bounds[0] == -math.inf
            assert -2 <= bounds[1] <= 13  # the middle lies at 3 mm, its radius is 10 mm
    assert 35 < levels < 65


def test_gas_rises_to_the_back_of_a_prone_patient():
    prone = replace(BUILD, prone=True)
    bounds = {tube.y_range_mm for seed in range(9) for tube in filled_bowel(prone, POINTS, [10, 8], rng(seed))}
    assert {high for _, high in bounds} == {math.inf}
    assert len(bounds) > 2


def test_folds_lie_along_the_course():
    points = folds(np.array([[0.0, 0, 0], [0, 0, 44], [0, 33, 44]]))
    assert len(points) == 4 + 3 + 1
    assert np.linalg.norm(np.diff(points, axis=0), axis=1) == pytest.approx([FOLD_MM] * 7)


def test_a_point_near_the_ribs_is_moved_inwards_and_another_is_not():
    assert inside_cavity(BUILD, np.array([5.0, 3, -4]), 10) == (5, 3, -4)
    z, y, x = inside_cavity(BUILD, np.array([5.0, 0, 500]), 10)
    assert (z, y) == (5, 0)
    assert x == pytest.approx(0.95 * BUILD.half_width_mm - 10)
