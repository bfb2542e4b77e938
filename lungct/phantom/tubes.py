"""The fine structures of a synthetic patient: airways, vessels, bones and nodules, all of them tubes.

They are drawn at full resolution, plane by plane. H rows, W columns; points are (z, y, x) in mm, axes as in `anatomy`.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lungct.phantom.anatomy import (
    AIR_HU,
    AIRWAY_WALL_HU,
    BLOOD_HU,
    BONE_HU,
    MARROW_HU,
    NODULE_HU,
    Build,
)

AIRWAY_WALL_MM = 1.5
BONE_TO_LUNG_MM = 1.5  # at least: the pleura
VESSEL_TIPS = 900  # points in each lung's box that a vessel supplies, where they lie in the lung


@dataclass(frozen=True)
class Tube:
    """A straight piece with round ends, from `start` to `end` (z, y, x in mm); a ball where these are one point."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius_mm: float
    hu: float
    cuts_lung: bool = False  # trachea and main bronchi are no lung
    keep_off_mm: float | None = None  # bone and bowel stay so far outside the lung; None may lie in it
    y_range_mm: tuple[float, float] = (-math.inf, math.inf)  # cut off in front of and behind it: a level of fluid

    @property
    def low_mm(self) -> float:
        """The least z of the tube."""
        return min(self.start[0], self.end[0]) - self.radius_mm

    @property
    def high_mm(self) -> float:
        """The greatest z of the tube."""
        return max(self.start[0], self.end[0]) + self.radius_mm


@dataclass(frozen=True)
class Plane:
    """A plane of the scan on which tubes are drawn.

    x_mm, y_mm:       (W,) and (H,), ascending, where the pixels lie
    lung_distance_mm: (H, W), signed distance to the lung, negative inside
    """

    x_mm: np.ndarray
    y_mm: np.ndarray
    z_mm: float
    thickness_mm: float
    lung_distance_mm: np.ndarray

    @property
    def pixel_mm(self) -> float:
        """Side of a pixel."""
        return float(self.x_mm[1] - self.x_mm[0])


def covered_share(distance_mm: np.ndarray, pixel_mm: float) -> np.ndarray:
    """Share of each pixel, 0 to 1, that lies inside, from its centre's signed distance to the edge."""
    return np.clip(0.5 - distance_mm / pixel_mm, 0, 1)


def draw_tube(image_hu: np.ndarray, tube: Tube, plane: Plane) -> None:
    """Draw a tube on a plane's HU (H, W) float, in place; one that is thinner than the plane fades."""
    box = bounding_box(tube, plane)
    share = min(1.0, 2 * tube.radius_mm / plane.thickness_mm)
    part = image_hu[box]
    part += (tube.hu - part) * covered_share(tube_distance(tube, plane, box), plane.pixel_mm) * share


def cut_tube(mask: np.ndarray, tube: Tube, plane: Plane) -> None:
    """Take a tube out of a mask (H, W) bool, in place: a pixel whose centre is inside."""
    box = bounding_box(tube, plane)
    mask[box] &= tube_distance(tube, plane, box) >= 0


def bounding_box(tube: Tube, plane: Plane) -> tuple[slice, slice]:
    """Rows and columns that a tube can touch, whatever the height."""
    margin = tube.radius_mm + plane.pixel_mm
    box = []
    for axis, places_mm in ((1, plane.y_mm), (2, plane.x_mm)):
        low, high = sorted((tube.start[axis], tube.end[axis]))
        box.append(slice(*np.searchsorted(places_mm, [low - margin, high + margin])))
    return tuple(box)


def tube_distance(tube: Tube, plane: Plane, box: tuple[slice, slice]) -> np.ndarray:
    """Signed distance of the plane's pixels within a box to the surface of a tube, mm, negative inside.

    Across a plane with thickness the nearest of its heights counts.
    """
    rows, cols = box
    start, axis = np.array(tube.start), np.subtract(tube.end, tube.start)
    length2 = max(float(axis @ axis), 1e-9)
    dz, dy, dx = plane.z_mm - start[0], plane.y_mm[rows, None] - start[1], plane.x_mm[None, cols] - start[2]
    along = np.clip((dz * axis[0] + dy * axis[1] + dx * axis[2]) / length2, 0, 1)
    off_plane = np.maximum(np.abs(dz - along * axis[0]) - plane.thickness_mm / 2, 0)
    distance = np.sqrt((dy - along * axis[1]) ** 2 + (dx - along * axis[2]) ** 2 + off_plane**2) - tube.radius_mm
    distance = np.maximum(
        distance, np.maximum(tube.y_range_mm[0] - plane.y_mm, plane.y_mm - tube.y_range_mm[1])[rows, None]
    )
    if tube.keep_off_mm is not None:
        distance = np.maximum(distance, tube.keep_off_mm - plane.lung_distance_mm[box])
    return distance


def airway_tubes(build: Build, rng: np.random.Generator) -> Iterator[Tube]:
    """Trachea and main bronchi (no lung), then lobar bronchi (lung); walls first, lumen over them."""
    carina = (0.6 * build.height_mm, 6.0, -2.0)
    trachea = [((build.height_mm + 60, -12.0, 0.0), carina, rng.uniform(7.5, 10))]
    hilum = {-1: (0.52 * build.height_mm, 10.0, -40.0), 1: (0.5 * build.height_mm, 14.0, 46.0)}
    main = [(carina, hilum[side], rng.uniform(5, 6.5)) for side in (-1, 1)]
    lobar = []
    for side in (-1, 1):
        for _ in range(3):
            step = rng.normal([0, 6, side * 22], [18, 12, 5])
            lobar.append((hilum[side], tuple(np.add(hilum[side], step)), rng.uniform(2, 3)))
    for start, end, radius in trachea + main:
        yield Tube(start, end, radius + AIRWAY_WALL_MM, AIRWAY_WALL_HU, cuts_lung=True)
    for start, end, radius in lobar:
        yield Tube(start, end, radius + AIRWAY_WALL_MM, AIRWAY_WALL_HU)
    for start, end, radius in trachea + main + lobar:
        yield Tube(start, end, radius, AIR_HU)


def vessel_tubes(
    build: Build, depth_in_lung_mm: Callable[[np.ndarray], float], rng: np.random.Generator
) -> Iterator[Tube]:
    """A tree for each lung: every point to be supplied is joined to the nearest one nearer to the hilum."""
    low, high = [0, -build.half_depth_mm, 0], [build.height_mm, build.half_depth_mm, build.half_width_mm]
    for side in (-1, 1):
        hilum = np.array([0.52 * build.height_mm, 6.0, side * 38.0])
        points = rng.uniform(low, high, (VESSEL_TIPS, 3))
        points[:, 2] *= side
        points = np.array([p for p in points if depth_in_lung_mm(p) > 4])
        if not len(points):
            continue
        away = np.linalg.norm(points - hilum, axis=1)
        tree = np.concatenate([hilum[None], points[np.argsort(away)]])
        away = np.concatenate([[0], np.sort(away)])
        for number in range(1, len(tree)):
            cost = np.linalg.norm(tree[:number] - tree[number], axis=1) + 0.3 * away[:number]
            parent = int(np.argmin(cost))
            radius = max(0.6, 3.6 * np.exp(-away[number] / 40))
            yield Tube(tuple(tree[parent]), tuple(tree[number]), radius, BLOOD_HU + build.contrast_hu)


def nodule_tubes(
    build: Build, depth_in_lung_mm: Callable[[np.ndarray], float], rng: np.random.Generator
) -> Iterator[Tube]:
    """Balls of 4 to 12 mm, by turns at the wall of the lung and inside it."""
    low = [0, -build.half_depth_mm, -build.half_width_mm]
    high = [build.height_mm, build.half_depth_mm, build.half_width_mm]
    placed = 0
    for _ in range(2000):
        if placed == build.nodules:
            return
        point = rng.uniform(low, high)
        radius = rng.uniform(2, 6)
        at_wall = placed % 2 == 0
        depth = depth_in_lung_mm(point)
        if (radius * 0.5 < depth < radius) if at_wall else depth > 2 * radius:
            placed += 1
            yield Tube(tuple(point), tuple(point), radius, NODULE_HU)


def bone_tubes(build: Build) -> Iterator[Tube]:
    """Ribs, sternum, clavicles, scapulae and spinous processes."""
    yield from rib_tubes(build)
    wide, deep, height = build.half_width_mm, build.half_depth_mm, build.height_mm
    front = -(deep + 9)
    for x in (-9.0, 0.0, 9.0):  # sternum
        yield _bone((0.35 * height, front, x), (0.85 * height, front * 0.86, x), 6, MARROW_HU)
    for side in (-1, 1):  # clavicle, scapula
        yield _bone((0.9 * height, front * 0.8, side * 18), (1.02 * height, -15, side * wide), 6)
        yield _bone((0.6 * height, deep + 8, side * wide * 0.7), (0.95 * height, deep * 0.6, side * wide), 5)
    for z in np.arange(-40, height + 60, 24.0):  # spinous processes
        yield _bone((z, deep * 0.95, 0), (z - 12, deep * 1.15, 0), 4)


def rib_tubes(build: Build) -> Iterator[Tube]:
    """Eleven pairs of ribs that slope down to the front: bone, and marrow in it."""
    wide, deep, height = build.half_width_mm, build.half_depth_mm, build.height_mm
    for rib in range(11):
        top = height * (1.02 - 0.085 * rib)
        scale = np.interp(top / height, [0.1, 0.35, 0.7, 0.9, 1.05], [1, 1, 0.87, 0.68, 0.52])
        angle = np.linspace(0.15, 2.5 if rib < 9 else 1.7, 13)
        z = top - 55 * scale * angle / np.pi
        y, x = (deep * scale + 7) * np.cos(angle), (wide * scale + 7) * np.sin(angle) ** 0.8
        for side in (-1, 1):
            for start, end in pairwise(np.stack([z, y, side * x], axis=1)):
                yield _bone(tuple(start), tuple(end), 5.0)
                yield _bone(tuple(start), tuple(end), 3.0, MARROW_HU, keep_off_mm=2 * BONE_TO_LUNG_MM)


def _bone(
    start: tuple, end: tuple, radius_mm: float, hu: float = BONE_HU, keep_off_mm: float = BONE_TO_LUNG_MM
) -> Tube:
    return Tube(start, end, radius_mm, hu, keep_off_mm=keep_off_mm)
