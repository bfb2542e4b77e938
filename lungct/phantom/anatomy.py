"""A synthetic patient whose lungs are known exactly: sizes, and the large organs as signed distances.

Large organs are signed distances (mm, negative inside) on a coarse grid, sampled slice by slice. The same distances
give the HU, with partial volume at the edges, and the truth. No patient's data went in: sizes are those of anatomy
text books.

Axes are LPS in mm about the middle of the trunk: x to the patient's left, y to the back, z to the head;
z = 0 is the floor of the rib cage. Z slices, H rows, W columns.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

GRID_MM = 3.0
BELOW_MM, ABOVE_MM = 40, 35  # belly and neck that the scan shows below and above the rib cage
ABSENT_MM = 99.0  # distance to an organ that this patient does not have
RIGHT_DOME, LEFT_DOME = 0, 1  # in dome_tops_mm

AIR_HU = -1000
FAT_HU, MUSCLE_HU, BLOOD_HU, LIVER_HU, FLUID_HU = -95, 50, 45, 60, 8
MEDIASTINUM_HU = -15  # fat and nodes
SPINE_HU, BONE_HU, MARROW_HU = 180, 700, 250
AIRWAY_WALL_HU, NODULE_HU, CONSOLIDATED_HU = 20, 40, 40
TABLE_FOAM_HU, TABLE_SHELL_HU = -920, 150


@dataclass(frozen=True)
class Build:
    """What makes one patient, and one scan of it, differ from the next."""

    seed: int
    half_width_mm: float  # rib cage, inside
    half_depth_mm: float
    height_mm: float  # rib cage floor to lung apex
    wall_mm: float  # chest wall
    fat_mm: float
    dome_tops_mm: tuple[float, float]  # right and left half of the diaphragm
    heart_size: float  # 1 is usual
    contrast_hu: float  # added to blood
    lung_hu: float
    gradient_hu: float  # front to back; the lung that lies below is denser
    emphysema: float  # 0 none, 1 severe
    consolidation: float  # 0 none, 1 severe
    effusion_mm: float  # height of the fluid
    arms_down: bool
    prone: bool
    nodules: int
    noise_hu: float
    grain_px: float  # correlation of the noise: smooth or sharp kernel
    padding_hu: int | None  # outside the reconstruction circle
    fov_mm: float
    off_centre_mm: tuple[float, float]


def draw_build(seed: int) -> Build:
    """A random patient."""
    rng = np.random.default_rng(seed)
    half_width_mm = rng.uniform(112, 142)
    wall_mm = rng.uniform(22, 42)
    height_mm = rng.uniform(205, 275)
    left_dome_mm = rng.uniform(62, 92)
    arms_down = rng.random() < 0.2
    return Build(
        seed=seed,
        half_width_mm=half_width_mm,
        half_depth_mm=half_width_mm * rng.uniform(0.66, 0.78),
        height_mm=height_mm,
        wall_mm=wall_mm,
        fat_mm=rng.uniform(0.25, 0.6) * wall_mm,
        dome_tops_mm=(left_dome_mm + rng.uniform(5, 18), left_dome_mm),
        heart_size=rng.uniform(0.85, 1.2),
        contrast_hu=rng.choice([0, rng.uniform(60, 280)]),
        lung_hu=rng.uniform(-885, -800),
        gradient_hu=rng.uniform(10, 90),
        emphysema=rng.choice([0, rng.uniform(0.3, 1)], p=[0.7, 0.3]),
        consolidation=rng.choice([0, rng.uniform(0.3, 1)], p=[0.85, 0.15]),
        effusion_mm=rng.choice([0, rng.uniform(10, 35)], p=[0.85, 0.15]),
        arms_down=arms_down,
        prone=rng.random() < 0.1,
        nodules=int(rng.integers(1, 7)),
        noise_hu=rng.uniform(8, 40),
        grain_px=rng.uniform(0.5, 1.1),
        padding_hu=rng.choice([None, -1024, -2048, -3024]),
        fov_mm=2 * (half_width_mm + wall_mm) * rng.uniform(0.9, 1.25) + 110 * arms_down,
        off_centre_mm=tuple(rng.uniform(-8, 8, 2)),
    )


class Fields(NamedTuple):
    """The large organs at the same points: signed distances in mm, negative inside, then shares from 0 to 1."""

    trunk: np.ndarray  # with arms that hang down
    cavity: np.ndarray  # inside of the rib cage
    lung: np.ndarray
    blood: np.ndarray  # heart and great vessels
    spine: np.ndarray
    belly: np.ndarray  # all below the diaphragm
    fluid: np.ndarray  # effusion beside the lung
    consolidation: np.ndarray  # share of the lung that is filled
    emphysema: np.ndarray  # share of the lung that is lost
    bowel_fat: np.ndarray  # share of the belly that is fat


class Organs:
    """The fields of one patient on a coarse grid, sampled on any plane of the scan."""

    def __init__(self, build: Build, x_mm: np.ndarray, y_mm: np.ndarray, z_mm: np.ndarray, rng: np.random.Generator):
        self.x_mm, self.y_mm = x_mm, y_mm
        nodes = [
            np.arange(v.min() - 2 * GRID_MM, v.max() + 3 * GRID_MM, GRID_MM, np.float32) for v in (z_mm, y_mm, x_mm)
        ]
        self.z_nodes_mm = nodes[0]
        self.grid_start_mm = nodes[0][0], y_mm[0] - 2 * GRID_MM, x_mm[0] - 2 * GRID_MM
        self.row_weights = linear_weights(nodes[1], y_mm)
        self.col_weights = np.ascontiguousarray(linear_weights(nodes[2], x_mm).T)  # half the time of the product
        self.grid = np.stack(organ_fields(build, *np.meshgrid(*nodes, indexing="ij", sparse=True), rng))
        self.grid = self.grid.astype(np.float32)

    def fields_at(self, z_mm: float) -> Fields:
        """Every field on the plane at one height, each (H, W) float32."""
        return Fields(*self._sample(slice(None), z_mm))

    def lung_at(self, z_mm: float) -> np.ndarray:
        """The lung's field alone."""
        return self._sample(Fields._fields.index("lung"), z_mm)

    def _sample(self, which: int | slice, z_mm: float) -> np.ndarray:
        below = int(np.clip(np.searchsorted(self.z_nodes_mm, z_mm) - 1, 0, len(self.z_nodes_mm) - 2))
        part = np.float32((z_mm - self.z_nodes_mm[below]) / GRID_MM)
        coarse = (1 - part) * self.grid[which, below] + part * self.grid[which, below + 1]
        return self.row_weights @ coarse @ self.col_weights

    def depth_in_lung_mm(self, point_mm: np.ndarray) -> float:
        """Distance of (z, y, x) to the lung's edge at the nearest node of the grid, positive inside."""
        lung = self.grid[Fields._fields.index("lung")]
        nearest = [round((p - start) / GRID_MM) for p, start in zip(point_mm, self.grid_start_mm, strict=True)]
        return -float(lung[tuple(min(max(i, 0), n - 1) for i, n in zip(nearest, lung.shape, strict=True))])


def linear_weights(nodes_mm: np.ndarray, targets_mm: np.ndarray) -> np.ndarray:
    """Matrix (targets, nodes) that interpolates values at nodes GRID_MM apart to the targets."""
    weights = 1 - np.abs(targets_mm[:, None] - nodes_mm[None]) / GRID_MM
    return np.maximum(weights, 0).astype(np.float32)


def organ_fields(build: Build, z: np.ndarray, y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> Fields:
    """The fields at the points (z, y, x) in mm, which broadcast to three dimensions, GRID_MM apart."""
    shape = np.broadcast_shapes(z.shape, y.shape, x.shape)
    level = np.clip(z / build.height_mm, -0.4, 1.3)  # 0 floor of the rib cage, 1 apex of the lung
    wobble = smooth_noise(shape, 45, rng) * 3
    cavity = cavity_distance(build, level, y, x) + wobble
    trunk = trunk_distance(build, level, y, x) + smooth_noise(shape, 70, rng) * 2
    if build.arms_down:
        trunk = np.minimum(trunk, arms_distance(build, y, x))
    blood = blood_distance(build, z, y, x, level)
    spine = np.hypot(x, (y - build.half_depth_mm * 0.78) * 0.9) - 19

    right, left = (z - diaphragm_height(build, side, y, x) for side in (RIGHT_DOME, LEFT_DOME))
    belly = np.minimum(right, left) * 0.7 + smooth_noise(shape, 40, rng) * 2
    above_diaphragm = np.where(x < 0, right, left) * 0.7
    mediastinum = mediastinum_distance(build, level, y, x, blood, spine)
    bend = ((np.abs(x) - 0.33 * build.half_width_mm) ** 2 + (y - 8) ** 2) / 45
    apex = (z - (build.height_mm - bend)) * 0.6
    parts = np.broadcast_arrays(cavity + 2, -mediastinum + wobble * 0.3, -above_diaphragm, apex)
    lung = np.maximum.reduce(parts)

    down = -y if build.prone else y
    fluid = np.full(shape, ABSENT_MM)
    if build.effusion_mm:
        surface = build.half_depth_mm * 0.85 - build.effusion_mm
        fluid, lung = np.maximum(surface - down, lung), np.maximum(lung, down - surface)
    patches = smooth_noise(shape, 30, rng) + 0.35 * (down / build.half_depth_mm)
    consolidation = build.consolidation * np.clip((patches - 1.6) * 2.5, 0, 1)
    emphysema = build.emphysema * np.clip(smooth_noise(shape, 22, rng) - 0.1, 0, 1)
    bowel_fat = np.clip(smooth_noise(shape, 25, rng) + 0.6 * (x / build.half_width_mm) - 0.3, 0, 1)
    fields = (trunk, cavity, lung, blood, spine, belly, fluid, consolidation, emphysema, bowel_fat)
    return Fields(*(np.broadcast_to(field, shape) for field in fields))


def cavity_distance(build: Build, level: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Distance to the inside of the rib cage, which is widest a third of the way up."""
    levels = [-0.4, 0.1, 0.35, 0.7, 0.9, 1.05]
    width = build.half_width_mm * np.interp(level, levels, [0.95, 1, 1, 0.86, 0.66, 0.5])
    depth = build.half_depth_mm * np.interp(level, levels, [0.95, 1, 1, 0.88, 0.72, 0.6])
    return superellipse_distance(x, y, width, depth)


def trunk_distance(build: Build, level: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Distance to the skin of trunk, shoulders and neck."""
    scale = np.interp(level, [0.6, 0.85, 1.0, 1.06, 1.2], [1, 1.08, 1.05, 0.75, 0.42])
    width, depth = build.half_width_mm + build.wall_mm, build.half_depth_mm + build.wall_mm
    return superellipse_distance(x, y, width * scale, depth * scale**0.5)


def arms_distance(build: Build, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Distance to the skin of arms that lie beside the trunk."""
    middle = build.half_width_mm + build.wall_mm + 52
    return np.minimum(*(np.hypot(x - side * middle, y - 10) - 42 for side in (-1, 1)))


def mediastinum_distance(
    build: Build, level: np.ndarray, y: np.ndarray, x: np.ndarray, blood: np.ndarray, spine: np.ndarray
) -> np.ndarray:
    """Distance to all that lies between the lungs."""
    front, back = -build.half_depth_mm * 0.45, build.half_depth_mm * 0.5
    half = np.interp(y, [front - 25, front, 0, back], [3.5, 9, 24, 16]) * np.interp(level, [0.5, 1], [1, 1.25])
    return np.minimum(np.minimum(np.abs(x) - half, blood - 3), spine - 4)


def blood_distance(build: Build, z: np.ndarray, y: np.ndarray, x: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Distance to the nearest of heart, aorta, vena cava and pulmonary trunk."""
    height = build.height_mm
    size = build.heart_size * build.half_width_mm / 125
    u, v, w = (x - 20 * size) * 0.9 + (z - 0.38 * height) * 0.25, y + 22, z - 0.36 * height
    heart = (np.sqrt((u / (52 * size)) ** 2 + (v / (42 * size)) ** 2 + (w / (56 * size)) ** 2) - 1) * 45 * size
    top = np.maximum(z - 0.72 * height, 0)
    aorta_down = np.hypot(np.hypot(x - 22, y - 0.42 * build.half_depth_mm), top) - 12.5
    beyond_ends = np.maximum(np.abs(z - 0.58 * height) - 0.13 * height, 0)
    aorta_up = np.hypot(np.hypot(x + 6, y + 18), beyond_ends) - 15
    along = np.clip((x + 6) / 28, 0, 1)
    arch_x, arch_y = x + 6 - 28 * along, y + 18 - (18 + 0.42 * build.half_depth_mm) * along
    arch = np.sqrt(arch_x**2 + arch_y**2 + (z - 0.72 * height) ** 2) - 13
    cava = np.hypot(x + 27, y + 14) - 9 + np.maximum(0.45 - level, 0) * 100
    trunk = np.sqrt(np.maximum(np.abs(x) - 34, 0) ** 2 + (y + 8) ** 2 + (z - 0.53 * height) ** 2) - 11
    return np.minimum.reduce(np.broadcast_arrays(heart, aorta_down, aorta_up, arch, cava, trunk))


def diaphragm_height(build: Build, side: int, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Height of the RIGHT_DOME or LEFT_DOME half of the diaphragm above the floor of the rib cage, mm."""
    middle = (-0.45, 0.48)[side] * build.half_width_mm
    fall = ((x - middle) / (0.62 * build.half_width_mm)) ** 2 + ((y + 8) / (0.8 * build.half_depth_mm)) ** 2
    return build.dome_tops_mm[side] * (1.05 - 0.95 * fall)


def superellipse_distance(x: np.ndarray, y: np.ndarray, half_width: np.ndarray, half_depth: np.ndarray) -> np.ndarray:
    """Distance to an ellipse with fuller corners, the shape of a trunk; exact on the axes, close elsewhere."""
    radius = (np.abs(x / half_width) ** 2.4 + np.abs(y / half_depth) ** 2.4) ** (1 / 2.4)
    return (radius - 1) * np.minimum(half_width, half_depth)


def smooth_noise(shape: tuple[int, ...], scale_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Random field on the grid with about unit deviation that varies over `scale_mm`: `shape` float32."""
    step = scale_mm / GRID_MM
    field = rng.standard_normal([int(n / step) + 3 for n in shape]).astype(np.float32)
    for axis, n in enumerate(shape):
        position = np.arange(n) / step
        low, part = position.astype(int), (position % 1).reshape([-1 if a == axis else 1 for a in range(3)])
        part = part * part * (3 - 2 * part)  # no kinks at the knots
        field = np.take(field, low, axis) * (1 - part) + np.take(field, low + 1, axis) * part
    return field.astype(np.float32) * 1.6
