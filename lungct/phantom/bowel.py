"""Stomach, colon and small bowel of a synthetic patient, with the gas in them: tubes, as in `tubes`.

Gas is what lung is most easily mistaken for. It lies right under both domes, on levels of fluid, in folds, in loops.
Points are (z, y, x) in mm, axes as in `anatomy`.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from lungct.phantom.anatomy import AIR_HU, FLUID_HU, LEFT_DOME, MUSCLE_HU, RIGHT_DOME, Build
from lungct.phantom.tubes import Tube

GAS_TO_LUNG_MM = 4.5  # at least: diaphragm and the bowel's own wall
WALL_MM = 2.0
CONTENTS_HU = FLUID_HU + 15  # of fluid and food
P_LEVEL = 0.5  # chance that fluid stands in what holds gas
P_RIGHT_FLEXURE, P_LEFT_FLEXURE, P_ACROSS = 0.5, 0.7, 0.5  # chance that there is gas in this part of the colon
STOMACH_MM, COLON_MM, LOOP_MM = (14, 30), (9, 20), (5, 13)  # radii
FOLD_MM, FOLD = 11, 0.75  # distance of a colon's folds; radius at them, as a share
LOOPS = (2, 6)


def bowel_tubes(build: Build, rng: np.random.Generator) -> Iterator[Tube]:
    """Stomach, colon and small bowel that hold gas: wall, contents, gas over them."""
    yield from stomach_tubes(build, rng)
    yield from colon_tubes(build, rng)
    yield from loop_tubes(build, rng)


def stomach_tubes(build: Build, rng: np.random.Generator) -> Iterator[Tube]:
    """A bubble right under the left dome, and the stomach's body from there downwards and to the middle."""
    radius = rng.uniform(*STOMACH_MM)
    top = build.dome_tops_mm[LEFT_DOME] * 0.9 - radius - rng.uniform(5, 12)
    start = np.array([top, -0.1 * build.half_depth_mm, 0.42 * build.half_width_mm])
    body = start - rng.uniform([5, 5, 5], [35, 20, 30])
    outlet = body - rng.uniform([0, 0, 15], [15, 10, 40])
    yield from filled_bowel(build, [start, body, outlet], [radius, 0.8 * radius], rng)


def colon_tubes(build: Build, rng: np.random.Generator) -> Iterator[Tube]:
    """Gas in the flexures, on the outside under each dome, and in the part that crosses the belly in front."""
    wide, deep = build.half_width_mm, build.half_depth_mm
    right_top, left_top = (
        build.dome_tops_mm[RIGHT_DOME] * rng.uniform(0.1, 0.6),
        build.dome_tops_mm[LEFT_DOME] * rng.uniform(0.3, 0.75),
    )
    right = [(-45, 0.25 * deep, -0.72 * wide), (right_top, 0.1 * deep, -0.7 * wide), (-15, -0.5 * deep, -0.45 * wide)]
    left = [(-15, -0.4 * deep, 0.5 * wide), (left_top, 0.25 * deep, 0.68 * wide), (-45, 0.4 * deep, 0.7 * wide)]
    across = [(-15, -0.5 * deep, -0.45 * wide), (-30, -0.6 * deep, 0), (-15, -0.4 * deep, 0.5 * wide)]
    for chance, course in ((P_RIGHT_FLEXURE, right), (P_LEFT_FLEXURE, left), (P_ACROSS, across)):
        if rng.random() > chance:
            continue
        points = folds(np.array(course) + rng.normal(0, 6, (3, 3)))
        radius = rng.uniform(*COLON_MM)
        radii = [radius * (FOLD if k % 2 else 1) * rng.uniform(0.9, 1.1) for k in range(len(points) - 1)]
        yield from filled_bowel(build, points, radii, rng)


def loop_tubes(build: Build, rng: np.random.Generator) -> Iterator[Tube]:
    """Loops of small bowel further down, each bent."""
    for _ in range(int(rng.integers(LOOPS[0], LOOPS[1] + 1))):
        start = rng.uniform([-50, -0.7, -0.7], [15, 0.1, 0.7]) * (1, build.half_depth_mm, build.half_width_mm)
        points = np.cumsum([start, *rng.normal(0, 14, (3, 3))], axis=0)
        yield from filled_bowel(build, points, [rng.uniform(*LOOP_MM)] * 3, rng)


def folds(course: np.ndarray) -> np.ndarray:
    """Points (N, 3) at about FOLD_MM along a course through some points, both ends among them."""
    pieces = []
    for start, end in pairwise(course):
        count = max(1, round(float(np.linalg.norm(end - start)) / FOLD_MM))
        pieces.append(start + (end - start) * np.arange(count)[:, None] / count)
    return np.concatenate([*pieces, course[-1:]])


def filled_bowel(build: Build, points: list, radii: list[float], rng: np.random.Generator) -> Iterator[Tube]:
    """Wall, contents and gas of a bowel through some points, one radius for each piece between two of them."""
    points = [inside_cavity(build, point, max(radii) + WALL_MM) for point in points]
    pieces = [(*ends, radius) for ends, radius in zip(pairwise(points), radii, strict=True)]
    keep_off_mm = GAS_TO_LUNG_MM - WALL_MM
    for start, end, radius in pieces:
        yield Tube(start, end, radius + WALL_MM, MUSCLE_HU, keep_off_mm=keep_off_mm)
    y_range_mm = (-math.inf, math.inf)
    if rng.random() < P_LEVEL:
        for start, end, radius in pieces:
            yield Tube(start, end, radius, CONTENTS_HU, keep_off_mm=GAS_TO_LUNG_MM)
        level = float(np.mean([point[1] for point in points])) + rng.uniform(-0.5, 0.9) * max(radii)
        y_range_mm = (level, math.inf) if build.prone else (-math.inf, level)
    for start, end, radius in pieces:
        yield Tube(start, end, radius, AIR_HU, keep_off_mm=GAS_TO_LUNG_MM, y_range_mm=y_range_mm)


def inside_cavity(build: Build, point: np.ndarray, radius: float) -> tuple[float, float, float]:
    """A point, moved towards the middle where a ball about it would reach into the ribs."""
    z, y, x = (float(v) for v in point)
    share = math.hypot(y / (0.95 * build.half_depth_mm - radius), x / (0.95 * build.half_width_mm - radius))
    return z, y / max(share, 1), x / max(share, 1)
