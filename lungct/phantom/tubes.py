"""The fine structures of the phantom: airways, vessels, bones, bowel gas and nodules, all of them tubes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lungct.phantom.anatomy import Build

AIR_HU, WALL_HU, BONE_HU, MARROW_HU, NODULE_HU, VESSEL_HU = -1000, 20, 700, 250, 40, 45
AIRWAY_WALL_MM = 1.5
RIB_OFF_MM, BOWEL_OFF_MM = 1.5, 4.5  # pleura; diaphragm and stomach wall


@dataclass(frozen=True)
class Tube:
    """A straight piece with round ends, from `start` to `end` (z, y, x in mm)."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius_mm: float
    hu: float
    cuts_lung: bool = False  # trachea and main bronchi are no lung
    keep_off_mm: float | None = None  # bone and bowel stay so far outside the lung; None may lie in it

    @property
    def low_mm(self) -> float:
        return min(self.start[0], self.end[0]) - self.radius_mm

    @property
    def high_mm(self) -> float:
        return max(self.start[0], self.end[0]) + self.radius_mm


def pixel_coverage(distance: np.ndarray, pixel_mm: float) -> np.ndarray:
    """Share of a pixel that lies inside, from its centre's signed distance to the edge."""
    return np.clip(0.5 - distance / pixel_mm, 0, 1)


def draw_tube(
    image: np.ndarray, tube: Tube, lung: np.ndarray, x: np.ndarray, y: np.ndarray, z_mm: float, thickness_mm: float
) -> None:
    """Draw one tube on one plane, in place: HU on a float image, False on a bool one (the truth).

    image, lung (H, W): lung is the signed distance to the lung, mm
    """
    a, b = np.array(tube.start), np.array(tube.end)
    pixel_mm = x[1] - x[0]
    margin = tube.radius_mm + pixel_mm
    rows = slice(*np.searchsorted(y, [min(a[1], b[1]) - margin, max(a[1], b[1]) + margin]))
    cols = slice(*np.searchsorted(x, [min(a[2], b[2]) - margin, max(a[2], b[2]) + margin]))
    if rows.start == rows.stop or cols.start == cols.stop:
        return
    axis = b - a
    length2 = max(float(axis @ axis), 1e-9)
    dy, dx, dz = y[rows, None] - a[1], x[None, cols] - a[2], z_mm - a[0]
    along = np.clip((dz * axis[0] + dy * axis[1] + dx * axis[2]) / length2, 0, 1)
    off_plane = np.maximum(np.abs(dz - along * axis[0]) - thickness_mm / 2, 0)
    distance = np.sqrt((dy - along * axis[1]) ** 2 + (dx - along * axis[2]) ** 2 + off_plane**2) - tube.radius_mm
    if tube.keep_off_mm is not None:
        distance = np.maximum(distance, tube.keep_off_mm - lung[rows, cols])
    part = image[rows, cols]
    if image.dtype == bool:
        part &= distance >= 0
    else:
        share = min(1.0, 2 * tube.radius_mm / thickness_mm)  # what is thinner than the slice fades
        part += (tube.hu - part) * pixel_coverage(distance, pixel_mm) * share


def airway_tubes(build: "Build", rng: np.random.Generator) -> Iterator[Tube]:
    """Trachea and main bronchi (no lung), then lobar bronchi (lung); walls first, lumen over them."""
    carina = (0.6 * build.height, 6.0, -2.0)
    trachea = [((build.height + 60, -12.0, 0.0), carina, rng.uniform(7.5, 10))]
    hilum = {-1: (0.52 * build.height, 10.0, -40.0), 1: (0.5 * build.height, 14.0, 46.0)}
    main = [(carina, hilum[side], rng.uniform(5, 6.5)) for side in (-1, 1)]
    lobar = []
    for side in (-1, 1):
        for _ in range(3):
            step = rng.normal([0, 6, side * 22], [18, 12, 5])
            lobar.append((hilum[side], tuple(np.add(hilum[side], step)), rng.uniform(2, 3)))
    for start, end, radius in trachea + main:
        yield Tube(start, end, radius + AIRWAY_WALL_MM, WALL_HU, cuts_lung=True)
    for start, end, radius in lobar:
        yield Tube(start, end, radius + AIRWAY_WALL_MM, WALL_HU)
    for start, end, radius in trachea + main + lobar:
        yield Tube(start, end, radius, AIR_HU)


def vessel_tubes(build: "Build", depth_in_lung: Callable, rng: np.random.Generator) -> Iterator[Tube]:
    """A tree for each lung: every point to be supplied is joined to the nearest one nearer to the hilum."""
    for side in (-1, 1):
        hilum = np.array([0.52 * build.height, 6.0, side * 38.0])
        points = rng.uniform([0, -build.half_depth, 0], [build.height, build.half_depth, build.half_width], (900, 3))
        points[:, 2] *= side
        points = np.array([p for p in points if depth_in_lung(p) > 4])
        if not len(points):
            continue
        away = np.linalg.norm(points - hilum, axis=1)
        tree = np.concatenate([hilum[None], points[np.argsort(away)]])
        away = np.concatenate([[0], np.sort(away)])
        for number in range(1, len(tree)):
            cost = np.linalg.norm(tree[:number] - tree[number], axis=1) + 0.3 * away[:number]
            parent = int(np.argmin(cost))
            radius = max(0.6, 3.6 * np.exp(-away[number] / 40))
            yield Tube(tuple(tree[parent]), tuple(tree[number]), radius, VESSEL_HU + build.contrast)


def wall_nodules(build: "Build", depth_in_lung: Callable, rng: np.random.Generator) -> Iterator[Tube]:
    """Balls of 4 to 12 mm, inside the lung and at its wall."""
    placed = 0
    for _ in range(2000):
        if placed == build.nodules:
            return
        point = rng.uniform(
            [0, -build.half_depth, -build.half_width], [build.height, build.half_depth, build.half_width]
        )
        radius = rng.uniform(2, 6)
        at_wall = placed % 2 == 0
        depth = depth_in_lung(point)
        if (radius * 0.5 < depth < radius) if at_wall else depth > 2 * radius:
            placed += 1
            yield Tube(tuple(point), tuple(point), radius, NODULE_HU)


def bone_tubes(build: "Build") -> Iterator[Tube]:
    """Ribs that slope down to the front, sternum, clavicles, scapulae, the spinous processes."""
    wide, deep = build.half_width, build.half_depth
    for rib in range(11):
        top = build.height * (1.02 - 0.085 * rib)
        scale = np.interp(top / build.height, [0.1, 0.35, 0.7, 0.9, 1.05], [1, 1, 0.87, 0.68, 0.52])
        angle = np.linspace(0.15, 2.5 if rib < 9 else 1.7, 13)
        path = np.stack(
            [
                top - 55 * scale * angle / np.pi,
                (deep * scale + 7) * np.cos(angle),
                (wide * scale + 7) * np.sin(angle) ** 0.8,
            ],
            axis=1,
        )
        for side in (-1, 1):
            points = path * (1, 1, side)
            for start, end in pairwise(points):
                yield Tube(tuple(start), tuple(end), 5.0, BONE_HU, keep_off_mm=RIB_OFF_MM)
                yield Tube(tuple(start), tuple(end), 3.0, MARROW_HU, keep_off_mm=2 * RIB_OFF_MM)
    front = -(deep + 9)
    for x in (-9.0, 0.0, 9.0):
        yield Tube(
            (0.35 * build.height, front, x),
            (0.85 * build.height, front * 0.86, x),
            6,
            MARROW_HU,
            keep_off_mm=RIB_OFF_MM,
        )
    for side in (-1, 1):
        yield Tube(
            (0.9 * build.height, front * 0.8, side * 18),
            (1.02 * build.height, -15, side * wide),
            6,
            BONE_HU,
            keep_off_mm=RIB_OFF_MM,
        )
        yield Tube(
            (0.6 * build.height, deep + 8, side * wide * 0.7),
            (0.95 * build.height, deep * 0.6, side * wide),
            5,
            BONE_HU,
            keep_off_mm=RIB_OFF_MM,
        )
    for z in np.arange(-40, build.height + 60, 24.0):
        yield Tube((z, deep * 0.95, 0), (z - 12, deep * 1.15, 0), 4, BONE_HU, keep_off_mm=RIB_OFF_MM)


def bowel_gas(build: "Build", rng: np.random.Generator) -> Iterator[Tube]:
    """A stomach bubble right under the left diaphragm, and loops of bowel further down."""
    radius = rng.uniform(14, 26)
    top = build.dome[1] * 0.9 - radius - rng.uniform(5, 12)
    centre = np.array([top, -0.15 * build.half_depth, 0.42 * build.half_width])
    yield Tube(
        tuple(centre),
        tuple(np.add(centre, (0, rng.uniform(-20, 10), rng.uniform(-15, 10)))),
        radius,
        AIR_HU,
        keep_off_mm=BOWEL_OFF_MM,
    )
    for _ in range(int(rng.integers(2, 7))):
        start = rng.uniform([-50, -0.7, -0.7], [15, 0.1, 0.7]) * (1, build.half_depth, build.half_width)
        yield Tube(
            tuple(start), tuple(start + rng.normal(0, 18, 3)), rng.uniform(6, 14), AIR_HU, keep_off_mm=BOWEL_OFF_MM
        )
