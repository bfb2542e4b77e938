"""Gas of stomach, colon and rectum, and organs in the place of lung: a dome of the diaphragm, a belly between ribs.

Gas is never lung and never covers lung; it measures what the room's air of the same slice does.
"""

import numpy as np
from scipy import ndimage

from lungct.training.canvas import EVERYWHERE_MM, NOWHERE_MM, Box, Canvas, blob, log_uniform, random_node

GAS_MM, GAS_RATIO, POCKETS = (8, 110), (0.45, 1), 4  # length, from a loop to a full stomach; width to length; number
GAS_ROUGHNESS = (0.05, 0.4)  # from a smooth bubble to a colon with its folds
P_NEAR_LUNG, NEAR_LUNG_MM = 0.5, 30  # chance of a pocket right under the lung; so far away
LUNG_WALL_MM, BODY_WALL_MM = (2.5, 8), (6, 22)  # tissue that stays between gas and lung; and bone, airways, skin
BOWEL_WALL_MM, BOWEL_WALL_HU = (1.0, 4.0), (20, 70)
P_LEVEL, CONTENTS_HU = 0.5, (-30, 60)  # chance of a fluid level; what lies below it
P_PRONE = 0.15
P_STOOL, STOOL_HU = 0.08, (-900, 50)  # chance that a pocket is gas and stool mixed; from one to the other
P_ORAL_CONTRAST, ORAL_CONTRAST_HU = 0.15, (100, 500)
FILLED_HU, FAT_HU, FILLED_GRAIN_MM = (20, 90), -100, (15, 50)  # organs, fat between, and how coarse they alternate
DOME_HU, DOME_MM, DOME_RATIO, DOME_ROUGHNESS = (20, 130), (50, 180), (0.6, 1), (0, 0.12)  # liver, spleen, stomach
RIM_MM, DOME_EDGE_MM = (-8, 25), (1, 8)  # of lung that stays around a dome, none below 0; a dome's edge is slanting
P_BOTH_DOMES, P_BELLY = 0.5, 0.4
BELLY_SIZE, BELLY_SHIFT, BELLY_TURN = (0.55, 1.05), 0.1, 0.15  # of both lungs' extent in rows and columns; radians


def add_gas(canvas: Canvas) -> None:
    """One to four pockets of gas of free shape in soft tissue, half of them with a level of fluid."""
    to_lung_mm = canvas.depth_mm(~canvas.touches_lung) if canvas.touches_lung.any() else None
    to_other_mm = rough_depth_mm(canvas, canvas.is_tissue | canvas.touches_lung)
    for _ in range(canvas.rng.integers(1, POCKETS + 1)):
        add_pocket(canvas, to_lung_mm, to_other_mm)


def add_pocket(canvas: Canvas, to_lung_mm: np.ndarray | None, to_other_mm: np.ndarray) -> None:
    """One pocket; the distances (h, w) are those of each node to lung, if there is any, and to all else but tissue."""
    rng = canvas.rng
    room_mm = to_other_mm - rng.uniform(*BODY_WALL_MM)
    if to_lung_mm is not None:
        room_mm = np.minimum(room_mm, to_lung_mm - canvas.node_mm / 2 - rng.uniform(*LUNG_WALL_MM))
    room_mm = ndimage.uniform_filter(room_mm, 3)  # no sharp corners
    near = room_mm > 0
    if to_lung_mm is not None and rng.random() < P_NEAR_LUNG and (near & (to_lung_mm < NEAR_LUNG_MM)).any():
        near &= to_lung_mm < NEAR_LUNG_MM
    place = random_node(canvas, near & (room_mm >= rng.uniform(0, 1) * room_mm[near].max(initial=0)))
    if place is None:
        return
    length = log_uniform(rng, *GAS_MM) / 2
    shape = blob(canvas, place, (length, length * rng.uniform(*GAS_RATIO)), rng.uniform(*GAS_ROUGHNESS))
    shape = np.maximum(shape, -room_mm).astype(np.float32)
    paint_bowel(canvas, shape, place[0] * canvas.node_mm)


def rough_depth_mm(canvas: Canvas, nodes: np.ndarray) -> np.ndarray:
    """As `Canvas.depth_mm`, from every second row and column: four times as quick, off by a node or two."""
    depth = 2 * canvas.depth_mm(nodes[::2, ::2])
    return depth.repeat(2, 0)[: nodes.shape[0]].repeat(2, 1)[:, : nodes.shape[1]]


def paint_bowel(canvas: Canvas, shape: np.ndarray, middle_mm: float) -> None:
    """Wall, contents and gas of a bowel, a signed distance (h, w); its middle lies so far down the slice."""
    rng = canvas.rng
    edge_mm = rng.uniform(0.5, 3)  # a slice is thick, and bowel moves
    canvas.paint(shape - rng.uniform(*BOWEL_WALL_MM), rng.uniform(*BOWEL_WALL_HU), in_lung=False)
    gas = shape
    if rng.random() < P_LEVEL:
        down = -1 if rng.random() < P_PRONE else 1
        inside = shape < 0
        half = np.sqrt(canvas.area_mm2(inside) / np.pi)
        below = (canvas.y_mm - middle_mm) * down - rng.uniform(-0.4, 0.8) * half  # mm below the level
        contents = ORAL_CONTRAST_HU if rng.random() < P_ORAL_CONTRAST else CONTENTS_HU
        canvas.paint(shape, rng.uniform(*contents), in_lung=False)
        gas = np.maximum(shape, below)
    elif rng.random() < P_STOOL:
        canvas.paint(shape, stool_hu(canvas), in_lung=False, edge_mm=edge_mm)
        return
    canvas.paint(gas.astype(np.float32), canvas.air_hu, in_lung=False, edge_mm=edge_mm)


def stool_hu(canvas: Canvas):
    """Gas and stool mixed, HU at the pixels of a box."""
    mix = np.clip(canvas.smooth_noise(canvas.node_mm * 1.5) * 350 - 400, *STOOL_HU)
    return lambda box: canvas.upsample(mix, box)


def fill_lungs(canvas: Canvas) -> None:
    """No lung: organs and fat fill the chest, as in a slice of the belly; the target is empty."""
    rng = canvas.rng
    if not canvas.lung.any():
        return
    mix = np.clip(canvas.smooth_noise(log_uniform(rng, *FILLED_GRAIN_MM)) * 2 + rng.uniform(-1, 3), 0, 1)
    organs_hu = FAT_HU + (rng.uniform(*FILLED_HU) - FAT_HU) * mix
    near = ndimage.binary_dilation(canvas.touches_lung, iterations=2)
    shape = np.where(near, EVERYWHERE_MM, NOWHERE_MM).astype(np.float32)

    def pattern(box: Box) -> np.ndarray:
        return canvas.upsample(organs_hu, box)

    canvas.paint(shape, pattern, in_lung=True)
    canvas.lung[:] = False


def raise_domes(canvas: Canvas) -> None:
    """Organs under one or both domes of the diaphragm, or all across the belly; a rim of lung may stay around them."""
    rng, lungs = canvas.rng, canvas.lungs()
    if not lungs:
        return
    hu, edge_mm = rng.uniform(*DOME_HU), rng.uniform(*DOME_EDGE_MM)
    if rng.random() < P_BELLY:
        paint_organs(canvas, belly(canvas), canvas.coarse_lung, hu, edge_mm)
        return
    if len(lungs) == 2 and rng.random() > P_BOTH_DOMES:
        del lungs[rng.integers(2)]
    for lung in lungs:
        paint_organs(canvas, dome(canvas, lung), lung, hu, edge_mm)


def dome(canvas: Canvas, lung: np.ndarray) -> np.ndarray:
    """Signed distance (h, w) to a dome in the middle of a lung or at its edge."""
    rng, depth_mm = canvas.rng, canvas.depth_mm(lung)
    middle = random_node(canvas, depth_mm > rng.uniform(0.3, 0.9) * depth_mm.max())
    radius_mm = log_uniform(rng, *DOME_MM) / 2
    shape = blob(canvas, middle, (radius_mm, radius_mm * rng.uniform(*DOME_RATIO)), rng.uniform(*DOME_ROUGHNESS))
    return np.maximum(shape, rng.uniform(*RIM_MM) - depth_mm)


def belly(canvas: Canvas) -> np.ndarray:
    """Signed distance (h, w) to an oval that leaves lung in front of it, behind it or at its sides."""
    rng, spans = canvas.rng, [np.nonzero(canvas.coarse_lung.any(1 - axis))[0][[0, -1]] for axis in (0, 1)]
    middle = [rng.normal(np.mean(span), BELLY_SHIFT * np.ptp(span)) for span in spans]
    radii_mm = [rng.uniform(*BELLY_SIZE) * (np.ptp(span) + 1) / 2 * canvas.node_mm for span in spans]
    return blob(canvas, middle, radii_mm[::-1], rng.uniform(*DOME_ROUGHNESS), angle=rng.normal(0, BELLY_TURN))


def paint_organs(canvas: Canvas, shape: np.ndarray, lung: np.ndarray, hu: float, edge_mm: float) -> None:
    """Fill a shape as far as it lies in some lung, (h, w) bool, and take it out of the target."""
    near = ndimage.binary_dilation(lung, iterations=2)
    if painted := canvas.paint(np.where(near, shape, NOWHERE_MM).astype(np.float32), hu, in_lung=True, edge_mm=edge_mm):
        box, share = painted
        canvas.lung[box] &= share < 0.5
