"""One training slice on which disease and gas are painted: measured once, painted where something changes.

Shapes are signed distances (mm, negative inside) on a coarse grid of about GRID_MM, which is quick; only the pixels
that a shape can touch are computed at full resolution, with partial volume at its edge.

H rows, W columns; h and w are rows and columns of the coarse grid. Rows run to the back of a patient who lies on it.
"""

from collections.abc import Callable
from functools import cached_property

import numpy as np
from scipy import fft, ndimage

from lungct.slices import CT_RANGE_HU

GRID_MM = 3.0
TISSUE_HU, DENSE_HU = -250, 250  # between them fat, muscle, organs, vessels; above bone and much contrast medium
SOFT_HU = (0, 150)  # soft tissue of which the noise is taken
PATCH_PX, MIN_SOFT_SHARE = 32, 0.7  # side of the square that shows the noise, and how much of it is soft tissue
NOISE_PX = 64  # side of the square of noise that is made like it
USUAL_NOISE_HU, USUAL_GRAIN_PX = 20, 0.6  # where a slice has no such square
ROOM_HU, USUAL_AIR_HU, MIN_ROOM_NODES = -900, -985, 50  # room air is below; its HU where a slice shows none
GAS_HU = (-1000, -940)  # what gas in a body measures
RIM_PX, RIM_HU = 2, -700  # a lung's blurred edge is so wide; darker pixels around it are airways and other air
MIN_LUNG_MM2 = 300  # a smaller lung in a slice is its very tip
EVERYWHERE_MM, NOWHERE_MM = -999.0, 999.0  # distance to a shape that is all, or nothing

Box = tuple[slice, slice]  # rows and columns


class Canvas:
    """ct_hu (H, W) int16 and lung (H, W) bool, both changed in place, and what was measured in them at the start."""

    def __init__(self, ct_hu: np.ndarray, lung: np.ndarray, pixel_mm: float, rng: np.random.Generator):
        self.ct_hu, self.lung, self.pixel_mm, self.rng = ct_hu, lung, pixel_mm, rng
        self.step = max(1, min(round(GRID_MM / pixel_mm), min(ct_hu.shape) // 4))
        self.node_mm = self.step * pixel_mm
        self.measure()
        self.y_mm, self.x_mm = (np.arange(n, dtype=np.float32) * self.node_mm for n in self.coarse_hu.shape)
        self.y_mm = self.y_mm[:, None]

    def measure(self) -> None:
        """Look again where lung and tissue are, each (h, w): after something was painted."""
        self.coarse_hu = block_mean(self.ct_hu, self.step)
        lung_share = block_mean(self.lung, self.step)
        self.coarse_lung, self.touches_lung = lung_share > 0.5, lung_share > 0
        self.is_tissue = (self.coarse_hu > TISSUE_HU) & (self.coarse_hu < DENSE_HU) & ~self.touches_lung

    @cached_property
    def air_hu(self) -> float:
        """HU of this scan's room air, as far as gas in a body can have it."""
        room = self.coarse_hu[(self.coarse_hu > CT_RANGE_HU[0] + 0.5) & (self.coarse_hu < ROOM_HU) & ~self.touches_lung]
        return float(np.clip(np.median(room), *GAS_HU)) if len(room) >= MIN_ROOM_NODES else USUAL_AIR_HU

    @cached_property
    def noise(self) -> np.ndarray:
        """A square of noise as strong and as coarse as that in this slice's soft tissue, HU; it repeats without seams.

        White noise, filtered with what a square of soft tissue differs from its mean: that has the square's spectrum.
        """
        soft = (self.coarse_hu > SOFT_HU[0]) & (self.coarse_hu < SOFT_HU[1]) & self.is_tissue
        share = ndimage.uniform_filter(soft.astype(np.float32), max(1, PATCH_PX // self.step), mode="constant")
        middle = np.unravel_index(share.argmax(), share.shape)
        white = self.rng.standard_normal((NOISE_PX, NOISE_PX), np.float32)
        if share[middle] < MIN_SOFT_SHARE:
            noise = ndimage.gaussian_filter(white, USUAL_GRAIN_PX, mode="wrap")
            return noise * (USUAL_NOISE_HU / noise.std())
        start = [max(0, i * self.step - PATCH_PX // 2) for i in middle]
        patch = self.ct_hu[start[0] : start[0] + PATCH_PX, start[1] : start[1] + PATCH_PX].astype(np.float32)
        patch -= np.median(patch)
        deviation = 1.48 * np.median(np.abs(patch))
        patch[np.abs(patch) > 3 * deviation] = 0  # fat, vessels, bone
        noise = fft.irfft2(fft.rfft2(white) * fft.rfft2(patch, white.shape), white.shape)
        return noise / np.sqrt(patch.size)

    def noise_like(self, box: Box) -> np.ndarray:
        """This slice's noise for a box of pixels, HU."""
        return tiled(self.noise, box, self.rng)

    def lungs(self) -> list[np.ndarray]:
        """The right and the left lung on the coarse grid, (h, w) bool; a missing or tiny one is left out."""
        cols = np.nonzero(self.is_tissue.any(0))[0]
        middle = (cols[0] + cols[-1]) // 2 if len(cols) else self.coarse_lung.shape[1] // 2
        sides = [self.coarse_lung.copy(), self.coarse_lung.copy()]
        sides[0][:, middle:], sides[1][:, :middle] = False, False
        return [side for side in sides if self.area_mm2(side) > MIN_LUNG_MM2]

    def area_mm2(self, nodes: np.ndarray) -> float:
        """Area of some nodes of the coarse grid."""
        return float(np.count_nonzero(nodes)) * self.node_mm**2

    def depth_mm(self, nodes: np.ndarray) -> np.ndarray:
        """Distance of each of these nodes to the edge of all of them, 0 elsewhere: (h, w) float32."""
        depth = np.zeros(nodes.shape, np.float32)
        spans = [np.nonzero(nodes.any(1 - axis))[0] for axis in (0, 1)]
        if len(spans[0]):
            box = tuple(slice(max(0, span[0] - 1), span[-1] + 2) for span in spans)
            depth[box] = ndimage.distance_transform_edt(nodes[box]) * self.node_mm
        return depth

    @cached_property
    def white_spectrum(self) -> np.ndarray:
        """Of white noise a little larger than the coarse grid."""
        shape = [fft.next_fast_len(n, real=True) for n in self.coarse_hu.shape]
        return fft.rfft2(self.rng.standard_normal(shape, np.float32))

    def smooth_noise(self, scale_mm: float) -> np.ndarray:
        """Random (h, w) float32 field of unit deviation whose hills are about `scale_mm` wide.

        All fields of a slice come from the same white noise, each shifted by its own way.
        """
        rows, cols = (fft.next_fast_len(n, real=True) for n in self.coarse_hu.shape)
        sigma = scale_mm / self.node_mm / 2.5
        down, right = (
            np.exp(-2 * (np.pi * sigma * steps) ** 2).astype(np.float32)
            for steps in (fft.fftfreq(rows), fft.rfftfreq(cols))
        )
        field = fft.irfft2(self.white_spectrum * down[:, None] * right, (rows, cols))
        field = tiled(field, tuple(slice(0, n) for n in self.coarse_hu.shape), self.rng)
        return field / max(float(field.std()), 1e-6)

    def upsample(self, field: np.ndarray, box: Box) -> np.ndarray:
        """A coarse field (h, w) at the pixels of a box."""
        for axis, pixels in enumerate(box):
            places = (np.arange(pixels.start, pixels.stop) + 0.5) / self.step - 0.5
            field = interpolate(field, np.clip(places, 0, field.shape[axis] - 1), axis)
        return field

    def box(self, nodes: np.ndarray) -> Box | None:
        """The pixels around some nodes; None where there are no nodes."""
        spans = [np.nonzero(nodes.any(1 - axis))[0] for axis in (0, 1)]
        if not len(spans[0]):
            return None
        return tuple(
            slice(max(0, int(span[0] - 1) * self.step), min(n, int(span[-1] + 2) * self.step))
            for span, n in zip(spans, self.ct_hu.shape, strict=True)
        )

    def paint(
        self,
        distance_mm: np.ndarray,
        hu: float | Callable[[Box], np.ndarray],
        in_lung: bool,
        edge_mm: float = 0.0,
        shell_mm: float | None = None,
    ) -> tuple[Box, np.ndarray] | None:
        """Fill a shape with a material and its noise; returns where, and the share (0 to 1) of each pixel that is it.

        distance_mm: (h, w), negative inside
        hu:          a number, or what gives the HU at the pixels of a box
        in_lung:     fill the lung and its blurred edge, or all but the lung
        edge_mm:     width of the edge; a pixel at least
        shell_mm:    paint only the surface, so thick
        """
        edge_mm = max(edge_mm, self.pixel_mm)
        box = self.box(distance_mm < edge_mm + self.node_mm)
        if box is None:
            return None
        distance = self.upsample(distance_mm, box)
        if shell_mm is not None:
            distance = np.abs(distance) - shell_mm / 2
        part, lung = self.ct_hu[box], self.lung[box]
        material = hu(box) if callable(hu) else hu
        may_change = ~lung
        if in_lung:
            may_change = lung | (widen(lung, RIM_PX) & (part > RIM_HU) & (part < material))
        share = np.clip(0.5 - distance / edge_mm, 0, 1) * may_change
        change = (material + self.noise_like(box) - part) * share
        part[:] = np.clip(np.rint(part + change), *CT_RANGE_HU)
        return box, share


def block_mean(image: np.ndarray, step: int) -> np.ndarray:
    """Mean over squares of step x step pixels, (H // step, W // step) float32; what is left over at the end is cut."""
    h, w = (n // step * step for n in image.shape)
    rows = image[0:h:step, :w].astype(np.float32)
    for k in range(1, step):
        rows += image[k:h:step, :w]
    return sum(rows[:, k::step] for k in range(step)) / np.float32(step**2)


def interpolate(field: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """A field between its nodes along one axis, linear; places are in nodes."""
    low = np.minimum(places.astype(int), max(field.shape[axis] - 2, 0))
    high = np.minimum(low + 1, field.shape[axis] - 1)
    part = (places - low).astype(np.float32)
    part = part[:, None] if axis == 0 else part
    first = field.take(low, axis)
    return first + (field.take(high, axis) - first) * part


def tiled(tile: np.ndarray, box: Box, rng: np.random.Generator) -> np.ndarray:
    """A tile repeated from a random start, as large as the box."""
    sizes = [pixels.stop - pixels.start for pixels in box]
    starts = [int(rng.integers(n)) for n in tile.shape]
    repeats = [-(-(start + size) // n) for start, size, n in zip(starts, sizes, tile.shape, strict=True)]
    rows, cols = (slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
    return np.tile(tile, repeats)[rows, cols]


def widen(mask: np.ndarray, pixels: int) -> np.ndarray:
    """A mask and what lies so many pixels beside it along rows and columns."""
    for _ in range(pixels):
        wide = mask.copy()
        wide[1:] |= mask[:-1]
        wide[:-1] |= mask[1:]
        wide[:, 1:] |= mask[:, :-1]
        wide[:, :-1] |= mask[:, 1:]
        mask = wide
    return mask


def blob(
    canvas: Canvas,
    middle: tuple[float, float],
    radii_mm: tuple[float, float],
    roughness: float,
    angle: float | None = None,
) -> np.ndarray:
    """Signed distance (h, w) to an ellipse about a node, its edge lobed by `roughness`, 0 none.

    angle: of the first radius to the rows, random where it is not given
    """
    angle = canvas.rng.uniform(0, np.pi) if angle is None else angle
    y, x = canvas.y_mm - middle[0] * canvas.node_mm, canvas.x_mm - middle[1] * canvas.node_mm
    u = (x * np.cos(angle) + y * np.sin(angle)) / radii_mm[0]
    v = (y * np.cos(angle) - x * np.sin(angle)) / radii_mm[1]
    radius = np.sqrt(u * u + v * v)
    if roughness:
        radius += roughness * canvas.smooth_noise(0.8 * min(radii_mm))
    return (radius - 1) * min(radii_mm)


def random_node(canvas: Canvas, nodes: np.ndarray) -> tuple[int, int] | None:
    """One of some nodes (h, w) bool by chance; None where there are none."""
    places = np.flatnonzero(nodes)
    if not len(places):
        return None
    return tuple(int(i) for i in np.unravel_index(canvas.rng.choice(places), nodes.shape))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number from low to high; each doubling is as likely as the next."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
