"""Disease of the lung itself: it stays lung, whatever its HU. Nothing here changes the target.

Each function paints one disease on a canvas that has lung, and does nothing where there is too little of it.
"""

import numpy as np

from lungct.training.canvas import (
    NOWHERE_MM,
    Box,
    Canvas,
    blob,
    log_uniform,
    random_node,
    tiled,
    widen,
)

MAX_SHARE = 0.8  # of a slice's lung that a lesion fills: with no air left, a slice does not show that it is lung
MASS_MM, MASS_HU, MASSES = (10, 80), (10, 90), 3  # from a nodule to a mass of a lobe; without and with contrast medium
P_AT_EDGE = 0.8  # of the masses touch chest wall, mediastinum, hilum or diaphragm: where masks cut them off
CONSOLIDATED_HU, CONSOLIDATED_SHARE = (25, 110), (0.1, 0.85)  # of one lung: up to more than a lobe
P_FISSURE = 0.5  # ends sharply at one; else it fades out in patches
P_BRONCHOGRAM, BRONCHI, BRONCHUS_MM, BRONCHUS_HU = 0.4, (3, 8), (0.7, 1.6), -850  # air in them; number, radius
BAND_MM = (10, 40)  # width of a tumour across a lung
BULLA_MM, BULLAE, BULLA_WALL_MM, BULLA_WALL_HU = (10, 80), 4, 0.8, (-700, -300)
CYST_MM, CYST_WALL_SHARE, CYST_WALL_HU = (3, 8), (0.2, 0.45), (-500, -50)
CYSTS, HONEYCOMB_DEPTH_MM = 12, (5, 25)  # in a row before the pattern is repeated; how far from the pleura inwards


def add_masses(canvas: Canvas) -> None:
    """Nodules and masses of 10 to 80 mm, most of them at the edge of the lung; vessels end at them."""
    rng = canvas.rng
    for _ in range(rng.integers(1, MASSES + 1)):
        place = place_in_lung(canvas, P_AT_EDGE)
        if place is None:
            return
        largest = min(MASS_MM[1], np.sqrt(MAX_SHARE * canvas.area_mm2(canvas.coarse_lung)))
        radius = log_uniform(rng, MASS_MM[0], max(largest, MASS_MM[0])) / 2
        shape = blob(canvas, place, (radius, radius * rng.uniform(0.6, 1)), rng.uniform(0, 0.25))
        if fits(canvas, shape):
            canvas.paint(shape, rng.uniform(*MASS_HU), in_lung=True, edge_mm=rng.uniform(0.5, 2))


def add_consolidation(canvas: Canvas) -> None:
    """One lung filled from one side up to a fissure or in patches, to the wall; now and then bronchi show in it."""
    rng, lungs = canvas.rng, canvas.lungs()
    if not lungs:
        return
    lung = lungs[rng.integers(len(lungs))]
    down, right = rng.normal([1.5, 0], 1)  # from the back more often than from elsewhere
    across = projection(canvas, np.array([-right, down]))
    bend = rng.normal(0, 0.004) * (across - across[lung].mean()) ** 2
    is_sharp = rng.random() < P_FISSURE
    along = projection(canvas, np.array([down, right])) + bend + canvas.smooth_noise(30) * (2 if is_sharp else 9)
    start = np.quantile(along[lung], 1 - rng.uniform(*CONSOLIDATED_SHARE))
    shape = np.where(same_side(canvas, lung), start - along, NOWHERE_MM).astype(np.float32)
    if not fits(canvas, shape):
        return
    canvas.paint(shape, rng.uniform(*CONSOLIDATED_HU), in_lung=True, edge_mm=1 if is_sharp else rng.uniform(3, 10))
    if rng.random() < P_BRONCHOGRAM:
        add_bronchi(canvas, lung & (shape < 0))


def add_tumour_across(canvas: Canvas) -> None:
    """Tumour across one lung, which cuts a piece, as an apex, off from the rest: both pieces stay lung."""
    rng, lungs = canvas.rng, canvas.lungs()
    if not lungs:
        return
    lung = lungs[rng.integers(len(lungs))]
    along = projection(canvas, rng.normal(0, 1, 2)) + canvas.smooth_noise(50) * 6
    low, middle, high = np.quantile(along[lung], [0.1, rng.uniform(0.3, 0.7), 0.9])
    half = min(log_uniform(rng, *BAND_MM), 0.6 * (high - low)) / 2 * (1 + 0.35 * canvas.smooth_noise(20))
    shape = np.where(same_side(canvas, lung), np.abs(along - middle) - half, NOWHERE_MM).astype(np.float32)
    canvas.paint(shape, rng.uniform(*MASS_HU), in_lung=True, edge_mm=rng.uniform(0.5, 2))


def add_bullae(canvas: Canvas) -> None:
    """Air in thin walls, mostly below the pleura: as dark as the room, without vessels, but lung."""
    rng = canvas.rng
    for _ in range(rng.integers(1, BULLAE + 1)):
        place = place_in_lung(canvas, P_AT_EDGE)
        if place is None:
            return
        radius = log_uniform(rng, *BULLA_MM) / 2
        shape = blob(canvas, place, (radius, radius * rng.uniform(0.6, 1)), 0.1)
        canvas.paint(shape, canvas.air_hu + rng.uniform(0, 40), in_lung=True)
        canvas.paint(shape, rng.uniform(*BULLA_WALL_HU), in_lung=True, shell_mm=BULLA_WALL_MM)


def add_honeycombing(canvas: Canvas) -> None:
    """Cysts in thick walls side by side below the pleura, in patches: fibrosis."""
    rng, lung = canvas.rng, canvas.coarse_lung
    if canvas.area_mm2(lung) == 0:
        return
    at_back = (canvas.y_mm - canvas.y_mm.mean()) / 100
    patches = canvas.smooth_noise(30) + rng.uniform(-0.5, 0.5) + at_back
    shape = np.maximum(canvas.depth_mm(lung) - rng.uniform(*HONEYCOMB_DEPTH_MM), -10 * patches).astype(np.float32)
    tile = cyst_pattern_hu(canvas)

    def pattern(box: Box) -> np.ndarray:
        return tiled(tile, box, rng)

    canvas.paint(shape, pattern, in_lung=True, edge_mm=3)


def cyst_pattern_hu(canvas: Canvas) -> np.ndarray:
    """A square of cysts, HU: the cells around points of a lattice that were moved by chance, and walls between.

    It repeats without seams.
    """
    rng = canvas.rng
    cell_mm = rng.uniform(*CYST_MM)
    wall_mm = cell_mm * rng.uniform(*CYST_WALL_SHARE)
    places = np.arange(max(1, round(CYSTS * cell_mm / canvas.pixel_mm)), dtype=np.float32)
    places *= CYSTS / len(places)  # in cells
    jitter = rng.uniform(0, 1, (2, CYSTS, CYSTS)).astype(np.float32)
    nearest = np.full((2, len(places), len(places)), 9, np.float32)  # distance to the nearest point and the next, cells
    cell = places.astype(int)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            i, j = (cell + down)[:, None], cell + right
            moved = jitter[:, i % CYSTS, j % CYSTS]
            away = np.hypot(i + moved[0] - places[:, None], j + moved[1] - places)
            nearest[1] = np.minimum(nearest[1], np.maximum(nearest[0], away))
            nearest[0] = np.minimum(nearest[0], away)
    wall = np.clip(0.5 + (wall_mm - (nearest[1] - nearest[0]) * cell_mm) / canvas.pixel_mm / 2, 0, 1)
    air_hu = canvas.air_hu + 40
    return air_hu + wall * (rng.uniform(*CYST_WALL_HU) - air_hu)


def add_bronchi(canvas: Canvas, filled: np.ndarray) -> None:
    """Air in bronchi of filled lung (h, w) bool: bent tubes that fork, from the side of the hilum outwards."""
    rng, places = canvas.rng, np.argwhere(filled) * canvas.node_mm
    if not len(places):
        return
    hilum = np.argwhere(canvas.coarse_lung).mean(0) * canvas.node_mm  # between the lungs
    starts = places[rng.integers(len(places), size=10)]
    start = starts[np.hypot(*(starts - hilum).T).argmin()]
    outwards = np.arctan2(*(places.mean(0) - start))
    for _ in range(rng.integers(*BRONCHI)):
        point, radius, angle = start, rng.uniform(*BRONCHUS_MM), outwards + rng.normal(0, 0.6)
        for _ in range(4):
            angle += rng.normal(0, 0.35)
            end = point + rng.uniform(5, 14) * np.array([np.sin(angle), np.cos(angle)])
            draw_bronchus(canvas, filled, point, end, radius)
            point, radius = end, 0.8 * radius


def draw_bronchus(canvas: Canvas, filled: np.ndarray, start_mm: np.ndarray, end_mm: np.ndarray, radius: float) -> None:
    """One straight piece with round ends, from row and column in mm to others, at full resolution."""
    low, high = np.minimum(start_mm, end_mm) - radius - 1, np.maximum(start_mm, end_mm) + radius + 1
    first = np.maximum(0, low / canvas.pixel_mm).astype(int)
    last = np.minimum(canvas.ct_hu.shape, high / canvas.pixel_mm).astype(int)
    if (last <= first).any():
        return
    box = slice(first[0], last[0]), slice(first[1], last[1])
    y, x = (
        np.arange(b.start, b.stop, dtype=np.float32) * canvas.pixel_mm - s for b, s in zip(box, start_mm, strict=True)
    )
    dy, dx = end_mm - start_mm
    part = np.clip((y[:, None] * dy + x * dx) / (dy * dy + dx * dx), 0, 1)
    distance = np.hypot(y[:, None] - part * dy, x - part * dx) - radius
    share = np.clip(0.5 - distance / canvas.pixel_mm, 0, 1) * canvas.lung[box]
    share *= canvas.upsample(filled.astype(np.float32), box)
    image = canvas.ct_hu[box]
    image[:] = image + (BRONCHUS_HU - image) * share


def place_in_lung(canvas: Canvas, p_at_edge: float) -> tuple[int, int] | None:
    """A node of the lung: at its edge in a share of the cases, anywhere in the others; None where there is no lung."""
    lung = canvas.coarse_lung
    return random_node(canvas, lung & widen(~lung, 2) if canvas.rng.random() < p_at_edge else lung)


def fits(canvas: Canvas, shape: np.ndarray) -> bool:
    """Whether enough of the slice's lung stays free of a shape, signed distances (h, w)."""
    return np.count_nonzero(canvas.coarse_lung & (shape < 0)) <= MAX_SHARE * np.count_nonzero(canvas.coarse_lung)


def projection(canvas: Canvas, direction: np.ndarray) -> np.ndarray:
    """How far each node lies along a direction (down, right), mm: (h, w)."""
    down, right = direction / max(np.hypot(*direction), 1e-6)
    return canvas.y_mm * down + canvas.x_mm * right


def same_side(canvas: Canvas, lung: np.ndarray) -> np.ndarray:
    """The columns of one lung, a little more on each side: (w,) bool."""
    cols = np.nonzero(lung.any(0))[0]
    near = np.zeros(lung.shape[1], bool)
    near[max(0, cols[0] - 1) : cols[-1] + 2] = True
    return near
