"""Synthetic chest CT whose lungs are known exactly, different for every seed.

Large organs are signed distances (mm, negative inside) on a coarse grid, sampled slice by slice; vessels,
airways, ribs and nodules are tubes drawn at full resolution. The same distances give the HU, with partial
volume at the edges, and the truth. No patient's data went in: sizes are those of anatomy text books.

Axes are LPS in mm about the middle of the trunk: x to the patient's left, y to the back, z to the head;
z = 0 is the floor of the rib cage. Z slices, H rows, W columns.
"""

from dataclasses import dataclass

import numpy as np

FIELD_GRID_MM = 3.0
AIR_HU, FAT, MUSCLE, BLOOD, LIVER, FLUID, FOAM, SHELL = -1000, -95, 50, 45, 60, 8, -920, 150  # HU
BELOW_MM, ABOVE_MM = 40, 35  # belly and neck that the scan shows below and above the rib cage


@dataclass(frozen=True)
class Build:
    """What makes one patient, and one scan of it, differ from the next; lengths in mm."""

    seed: int
    half_width: float  # rib cage, inside
    half_depth: float
    height: float  # rib cage floor to lung apex
    wall: float  # chest wall
    fat: float
    dome: tuple[float, float]  # tops of the right and left diaphragm
    heart: float  # size, 1 is usual
    contrast: float  # HU added to blood
    lung_hu: float
    gradient_hu: float  # front to back; the lung that lies below is denser
    emphysema: float  # 0 none
    consolidation: float
    effusion: float  # height of the fluid
    arms_down: bool
    prone: bool
    nodules: int
    noise_hu: float
    grain_px: float  # correlation of the noise: smooth or sharp kernel
    padding: int | None  # HU outside the reconstruction circle
    fov: float
    off_centre: tuple[float, float]


def draw_build(seed: int) -> Build:
    """A random patient."""
    rng = np.random.default_rng(seed)
    half_width = rng.uniform(112, 142)
    wall = rng.uniform(22, 42)
    height = rng.uniform(205, 275)
    dome = rng.uniform(62, 92)
    arms_down = rng.random() < 0.2
    return Build(
        seed=seed,
        half_width=half_width,
        half_depth=half_width * rng.uniform(0.66, 0.78),
        height=height,
        wall=wall,
        fat=rng.uniform(0.25, 0.6) * wall,
        dome=(dome + rng.uniform(5, 18), dome),
        heart=rng.uniform(0.85, 1.2),
        contrast=rng.choice([0, rng.uniform(60, 280)]),
        lung_hu=rng.uniform(-885, -800),
        gradient_hu=rng.uniform(10, 90),
        emphysema=rng.choice([0, rng.uniform(0.3, 1)], p=[0.7, 0.3]),
        consolidation=rng.choice([0, rng.uniform(0.3, 1)], p=[0.85, 0.15]),
        effusion=rng.choice([0, rng.uniform(10, 35)], p=[0.85, 0.15]),
        arms_down=arms_down,
        prone=rng.random() < 0.1,
        nodules=int(rng.integers(1, 7)),
        noise_hu=rng.uniform(8, 40),
        grain_px=rng.uniform(0.5, 1.1),
        padding=rng.choice([None, -1024, -2048, -3024]),
        fov=2 * (half_width + wall) * rng.uniform(0.9, 1.25) + 110 * arms_down,
        off_centre=tuple(rng.uniform(-8, 8, 2)),
    )


class Organs:
    """Signed distances of the large organs, sampled on any plane of the scan."""

    names = ("trunk", "cavity", "lung", "blood", "spine", "belly", "fluid", "thick", "dense", "offal")

    def __init__(self, build: Build, x: np.ndarray, y: np.ndarray, z: np.ndarray, rng: np.random.Generator):
        self.x, self.y = x, y
        nodes = [
            np.arange(v.min() - 2 * FIELD_GRID_MM, v.max() + 3 * FIELD_GRID_MM, FIELD_GRID_MM, np.float32)
            for v in (z, y, x)
        ]
        self.z_nodes = nodes[0]
        self.rows = linear_weights(nodes[1], y)
        self.cols = linear_weights(nodes[2], x).T
        self.fields = np.stack(distances(build, *np.meshgrid(*nodes, indexing="ij", sparse=True), rng)).astype(
            np.float32
        )

    def plane(self, z_mm: float) -> dict[str, np.ndarray]:
        """Every field at one height, each (H, W) float32."""
        below = int(np.clip(np.searchsorted(self.z_nodes, z_mm) - 1, 0, len(self.z_nodes) - 2))
        part = np.float32((z_mm - self.z_nodes[below]) / FIELD_GRID_MM)
        coarse = (1 - part) * self.fields[:, below] + part * self.fields[:, below + 1]
        return dict(zip(self.names, self.rows @ coarse @ self.cols, strict=True))

    def depth_in_lung(self, point: np.ndarray) -> float:
        """Distance of (z, y, x) to the lung's edge at the nearest node, positive inside, mm."""
        rows = self.y[0] - 2 * FIELD_GRID_MM, self.x[0] - 2 * FIELD_GRID_MM
        index = [round((point[0] - self.z_nodes[0]) / FIELD_GRID_MM)]
        index += [round((p - start) / FIELD_GRID_MM) for p, start in zip(point[1:], rows, strict=True)]
        index = [min(max(i, 0), n - 1) for i, n in zip(index, self.fields.shape[1:], strict=True)]
        return -float(self.fields[self.names.index("lung")][tuple(index)])


def linear_weights(nodes: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Matrix (T, N) that interpolates values at `nodes` (FIELD_GRID_MM apart) to `targets`."""
    weights = 1 - np.abs(targets[:, None] - nodes[None]) / FIELD_GRID_MM
    return np.maximum(weights, 0).astype(np.float32)


def distances(build: Build, z: np.ndarray, y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """The fields of Organs.names on the grid; distances in mm but for the last three, which are 0 to 1."""
    shape = np.broadcast_shapes(z.shape, y.shape, x.shape)
    level = np.clip(z / build.height, -0.4, 1.3)  # 0 floor, 1 apex
    width = build.half_width * np.interp(level, [-0.4, 0.1, 0.35, 0.7, 0.9, 1.05], [0.95, 1, 1, 0.86, 0.66, 0.5])
    depth = build.half_depth * np.interp(level, [-0.4, 0.1, 0.35, 0.7, 0.9, 1.05], [0.95, 1, 1, 0.88, 0.72, 0.6])
    wobble = smooth_noise(shape, 45, rng) * 3
    cavity = oval(x, y, width, depth) + wobble

    shoulders = np.interp(level, [0.6, 0.85, 1.0, 1.06, 1.2], [1, 1.08, 1.05, 0.75, 0.42])
    trunk = oval(x, y, (build.half_width + build.wall) * shoulders, (build.half_depth + build.wall) * shoulders**0.5)
    trunk = trunk + smooth_noise(shape, 70, rng) * 2
    if build.arms_down:
        arm = [np.hypot(x - side * (build.half_width + build.wall + 52), y - 10) - 42 for side in (-1, 1)]
        trunk = np.minimum(trunk, np.minimum(*arm) + 0 * z)

    blood = heart_and_vessels(build, z, y, x, level)
    spine = np.hypot(x, (y - build.half_depth * 0.78) * 0.9) - 19 + 0 * z
    front, back = -build.half_depth * 0.45, build.half_depth * 0.5
    half = np.interp(y, [front - 25, front, 0, back], [3.5, 9, 24, 16]) * np.interp(level, [0.5, 1], [1, 1.25])
    mediastinum = np.minimum(np.minimum(np.abs(x) - half, blood - 3), spine - 4)
    belly = np.minimum(*(z - dome(build, side, y, x) for side in (0, 1))) * 0.7 + smooth_noise(shape, 40, rng) * 2
    domes = np.where(x < 0, z - dome(build, 0, y, x), z - dome(build, 1, y, x)) * 0.7
    bend = ((np.abs(x) - 0.33 * build.half_width) ** 2 + (y - 8) ** 2) / 45
    apex = (z - (build.height - bend)) * 0.6
    lung = np.maximum.reduce(np.broadcast_arrays(cavity + 2, -mediastinum + wobble * 0.3, -domes, apex))

    down = -y if build.prone else y
    level_mm = build.half_depth * 0.85 - build.effusion
    fluid = np.maximum(level_mm - down, lung) if build.effusion else np.full(shape, 99.0)
    if build.effusion:
        lung = np.maximum(lung, down - level_mm)
    patches = smooth_noise(shape, 30, rng)
    thick = build.consolidation * np.clip((patches + 0.35 * (down / build.half_depth) - 1.6) * 2.5, 0, 1)
    dense = build.emphysema * np.clip(smooth_noise(shape, 22, rng) - 0.1, 0, 1)
    bowel_fat = np.clip(smooth_noise(shape, 25, rng) + 0.6 * (x / build.half_width) - 0.3, 0, 1)  # fat between bowels
    fields = (trunk, cavity, lung, blood, spine, belly, fluid, thick, dense, bowel_fat)
    return [np.broadcast_to(field, shape) for field in fields]


def heart_and_vessels(build: Build, z: np.ndarray, y: np.ndarray, x: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Heart, aorta, vena cava and pulmonary trunk, one distance."""
    size = build.heart * build.half_width / 125
    u, v, w = (x - 20 * size) * 0.9 + (z - 0.38 * build.height) * 0.25, y + 22, z - 0.36 * build.height
    heart = (np.sqrt((u / (52 * size)) ** 2 + (v / (42 * size)) ** 2 + (w / (56 * size)) ** 2) - 1) * 45 * size
    top = np.maximum(z - 0.72 * build.height, 0)
    aorta_down = np.hypot(np.hypot(x - 22, y - 0.42 * build.half_depth), top) - 12.5
    aorta_up = (
        np.hypot(np.hypot(x + 6, y + 18), np.maximum(np.abs(z - 0.58 * build.height) - 0.13 * build.height, 0)) - 15
    )
    along = np.clip((x + 6) / 28, 0, 1)
    arch = np.sqrt(
        (x + 6 - 28 * along) ** 2
        + (y + 18 - (18 + 0.42 * build.half_depth) * along) ** 2
        + (z - 0.72 * build.height) ** 2
    )
    cava = np.hypot(x + 27, y + 14) - 9 + np.maximum(0.45 - level, 0) * 100
    trunk = np.sqrt(np.maximum(np.abs(x) - 34, 0) ** 2 + (y + 8) ** 2 + (z - 0.53 * build.height) ** 2) - 11
    return np.minimum.reduce(np.broadcast_arrays(heart, aorta_down, aorta_up, arch - 13, cava, trunk))


def dome(build: Build, side: int, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Height of the right (0) or left (1) diaphragm above the floor of the rib cage, mm."""
    middle = (-0.45, 0.48)[side] * build.half_width
    fall = ((x - middle) / (0.62 * build.half_width)) ** 2 + ((y + 8) / (0.8 * build.half_depth)) ** 2
    return build.dome[side] * (1.05 - 0.95 * fall)


def oval(x: np.ndarray, y: np.ndarray, half_width: np.ndarray, half_depth: np.ndarray) -> np.ndarray:
    """Distance to a super-ellipse, the shape of a trunk."""
    radius = (np.abs(x / half_width) ** 2.4 + np.abs(y / half_depth) ** 2.4) ** (1 / 2.4)
    return (radius - 1) * np.minimum(half_width, half_depth)


def smooth_noise(shape: tuple[int, ...], scale_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Random field on the grid with about unit deviation that varies over `scale_mm`."""
    step = scale_mm / FIELD_GRID_MM
    field = rng.standard_normal([int(n / step) + 3 for n in shape]).astype(np.float32)
    for axis, n in enumerate(shape):
        position = np.arange(n) / step
        low, part = position.astype(int), (position % 1).reshape([-1 if a == axis else 1 for a in range(3)])
        part = part * part * (3 - 2 * part)  # no kinks at the knots
        field = np.take(field, low, axis) * (1 - part) + np.take(field, low + 1, axis) * part
    return field.astype(np.float32) * 1.6
