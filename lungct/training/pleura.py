"""What fills the space between lung and chest wall.

Effusion is out: fluid around the lung, which `segment_lung` leaves out, too. Air in that space, a pneumothorax, is
in: no single slice tells it from a large bulla, which is lung, and the labels take in both.
"""

import numpy as np

from lungct.training.canvas import NOWHERE_MM, Canvas
from lungct.training.lesions import CONSOLIDATED_HU, projection, same_side

EFFUSION_MM, EFFUSION_HU = (10, 70), (-5, 22)  # thickest place; from water to blood
P_BOTH_SIDES, P_PRONE = 0.4, 0.15  # chance of a second effusion; of a patient who lies on the belly
P_ATELECTASIS, ATELECTASIS_MM = 0.6, (3, 20)  # lung that the fluid has pressed empty
PNEUMOTHORAX_MM, PLEURA_MM, PLEURA_HU = (5, 50), 0.8, (-500, -200)
MAX_SHARE = 0.7  # of one lung


def add_effusion(canvas: Canvas) -> None:
    """Fluid where a patient who lies on the back or on the belly collects it, with a meniscus: not lung."""
    rng, lungs = canvas.rng, canvas.lungs()
    down = -1 if rng.random() < P_PRONE else 1
    if len(lungs) == 2 and rng.random() > P_BOTH_SIDES:
        del lungs[rng.integers(2)]
    for lung in lungs:
        shape, thickness = crescent(canvas, lung, down, rng.uniform(*EFFUSION_MM))
        if rng.random() < P_ATELECTASIS:
            pressed = shape - rng.uniform(*ATELECTASIS_MM) * np.clip(thickness / 10, 0, 1)
            canvas.paint(pressed, rng.uniform(*CONSOLIDATED_HU), in_lung=True, edge_mm=rng.uniform(1, 4))
        painted = canvas.paint(shape, rng.uniform(*EFFUSION_HU), in_lung=True)
        if painted is not None:
            box, share = painted
            canvas.lung[box] &= share < 0.5


def add_pneumothorax(canvas: Canvas) -> None:
    """Air in front of one lung, without vessels, as dark as the room; the lung's own skin is a fine line."""
    rng, lungs = canvas.rng, canvas.lungs()
    if not lungs:
        return
    up = 1 if rng.random() < P_PRONE else -1
    shape, _ = crescent(canvas, lungs[rng.integers(len(lungs))], up, rng.uniform(*PNEUMOTHORAX_MM))
    canvas.paint(shape, canvas.air_hu, in_lung=True)
    canvas.paint(shape, rng.uniform(*PLEURA_HU), in_lung=True, shell_mm=PLEURA_MM)


def crescent(canvas: Canvas, lung: np.ndarray, down: int, thickest_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance to a crescent along the edge of one lung, and its thickness, mm, both (h, w).

    It is thickest at the back (`down` 1) or the front (-1) and thins out upwards; it is made thinner until it leaves
    enough of the lung.
    """
    rng = canvas.rng
    along = projection(canvas, np.array([down, rng.normal(0, 0.35)])) + canvas.smooth_noise(40) * 2
    start, end = np.quantile(along[lung], [rng.uniform(0.1, 0.8), 1])
    growth = np.clip((along - start) / max(end - start, canvas.node_mm), 0, 1) ** rng.uniform(0.5, 1)
    depth = canvas.depth_mm(lung) - canvas.node_mm / 2  # to the edge that the blocks share
    while np.count_nonzero(lung & (depth < thickest_mm * growth)) > MAX_SHARE * np.count_nonzero(lung):
        thickest_mm *= 0.7
    thickness = thickest_mm * growth
    edge = np.clip(canvas.node_mm - thickness, -canvas.node_mm, canvas.node_mm)  # the lung's blurred edge goes with it
    shape = np.where(lung, depth - thickness, edge)
    return np.where(same_side(canvas, lung), shape, NOWHERE_MM).astype(np.float32), thickness
