"""How a training batch is varied, so that the network meets more scanners, bodies and diseases than its slices show.

B batch, H rows, W columns; ct_hu and target are float32 (B, 1, H, W), target 0 or 1. Everything is computed on
the device where the batch lies; the random numbers come from the CPU, so that a seed gives the same variations
on every device.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lungct.slices import CT_RANGE_HU

PADDING_HU = CT_RANGE_HU[0]
ROTATION_DEG, ZOOM, STRETCH, SHIFT = 20, (0.6, 1.5), 0.1, 0.15  # rotation, size, width to depth, share of the slice
P_MIRROR = 0.5  # chance for columns, and for rows: a prone or feet-first patient
P_OPACITY, OPACITY_HU = 0.25, (-500, 120)  # chance of ground glass, consolidation, nodules; their HU
OPACITY_KNOTS, OPACITY_LEVEL, OPACITY_EDGE = (
    (4, 20),
    (0.6, 2.2),
    (3, 15),
)  # across the slice; how little of it; how sharp
SOFT_TISSUE_HU, FILLED_LUNG_HU = -200, 40  # tissue is above; what fills the lungs of a body that shall have none
P_SECOND_BODY, ROOM_HU = 0.3, -700  # chance of another body in the room's air, which is below
P_ROOM_OBJECT, ROOM_OBJECT_HU = 0.5, (-900, 200)  # chance, twice, of a thing in the room's air; its HU
ROOM_OBJECT_RADIUS, ROOM_OBJECT_WIDTH = (0.05, 4), (0.003, 0.12)  # of the arc that it is, as shares of the slice
CONTRAST_FACTOR = (0.5, 2.5)  # factor on what is above 0 HU: with and without contrast medium
NOISE_HU, SHARPEN = 80, (-1.0, 0.7)  # deviation; smooth to sharp reconstruction kernel
P_LOW_RES, LOW_RES_BLOCK = 0.25, (2, 4)  # chance of low resolution; pixels that become one
P_MISCALIBRATED, SLOPE, LEVEL_HU = 0.5, 0.1, 100  # chance of another calibration of the scanner; how far off it is
P_FOV_CIRCLE, FOV_RADIUS = (
    0.2,
    (0.8, 1.1),
)  # chance of a visible reconstruction circle; its radius in halves of the slice


@dataclass(frozen=True)
class BatchRandom:
    """Random numbers for a batch."""

    generator: torch.Generator
    device: torch.device

    def uniform(self, count: int, low: float, high: float) -> Tensor:
        """One number for each slice, (count, 1, 1, 1)."""
        return (torch.rand(count, 1, 1, 1, generator=self.generator) * (high - low) + low).to(self.device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator).to(self.device)

    def integer(self, low: int, high: int) -> int:
        """An integer number from low to high, both possible."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def subset(self, count: int, share: float) -> Tensor:
        """The numbers of a random share of the slices."""
        return (torch.rand(count, generator=self.generator) < share).nonzero()[:, 0].to(self.device)


def augment(ct_hu: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Vary a batch: posture, size, disease, surroundings, contrast, noise, kernel, resolution, calibration, view."""
    rng = BatchRandom(generator, ct_hu.device)
    size = len(ct_hu)
    ct_hu, target = warp(ct_hu, target, rng)
    for share, change in ADDITIONS:
        apply_to_subset(share, change, rng, ct_hu, target)
    ct_hu += ct_hu.clamp(min=0) * (rng.uniform(size, *CONTRAST_FACTOR) - 1)
    ct_hu += add_noise(ct_hu, rng)
    ct_hu += (ct_hu - blur(ct_hu)) * rng.uniform(size, *SHARPEN)
    apply_to_subset(P_LOW_RES, lower_resolution, rng, ct_hu)
    apply_to_subset(P_MISCALIBRATED, miscalibrate, rng, ct_hu)
    chosen = rng.subset(size, P_FOV_CIRCLE)
    if len(chosen):
        ct_hu[chosen], target[chosen] = crop_to_fov(ct_hu[chosen], target[chosen], rng)
    return ct_hu, target


def apply_to_subset(
    share: float, change: Callable[..., Tensor], rng: BatchRandom, ct_hu: Tensor, *more: Tensor
) -> None:
    """Change the HU of a random share of the slices, in place; `change` also gets what `more` says of them."""
    chosen = rng.subset(len(ct_hu), share)
    if len(chosen):
        ct_hu[chosen] = change(ct_hu[chosen], *(part[chosen] for part in more), rng)


def warp(ct_hu: Tensor, target: Tensor, rng: BatchRandom) -> tuple[Tensor, Tensor]:
    """Turn, zoom, stretch, shift and mirror; what comes in from outside is air."""
    size, (rows, cols) = len(ct_hu), ct_hu.shape[-2:]
    angle = torch.deg2rad(rng.uniform(size, -ROTATION_DEG, ROTATION_DEG))
    zoom, stretch = 1 / rng.uniform(size, *ZOOM), rng.uniform(size, 1 - STRETCH, 1 + STRETCH)
    signs = [torch.where(rng.uniform(size, 0, 1) < P_MIRROR, -1.0, 1.0) for _ in range(2)]
    x, y = ((torch.arange(n, device=ct_hu.device) * 2 + 1) / n - 1 for n in (cols, rows))  # -1 to 1
    x = x * signs[0] * zoom * stretch + rng.uniform(size, -2 * SHIFT, 2 * SHIFT)  # (B, 1, 1, W)
    y = y[:, None] * signs[1] * zoom + rng.uniform(size, -2 * SHIFT, 2 * SHIFT)  # (B, 1, H, 1)
    cos, sin, long = torch.cos(angle), torch.sin(angle), rows / cols  # turned in pixels, not in shares
    grid = torch.stack([cos * x - sin * long * y, sin / long * x + cos * y], -1)[:, 0]
    both = torch.cat([ct_hu - PADDING_HU, target], 1)  # air is 0, which is what grid_sample fills in
    moved = F.grid_sample(both, grid, align_corners=False)
    return moved[:, :1] + PADDING_HU, (moved[:, 1:] > 0.5).float()


def add_opacity(ct_hu: Tensor, target: Tensor, rng: BatchRandom) -> Tensor:
    """Ground glass, consolidation or nodules in the lung; they stay lung."""
    knots = rng.integer(*OPACITY_KNOTS)
    field = F.interpolate(rng.normal(len(ct_hu), 1, knots, knots), ct_hu.shape[-2:], mode="bicubic")
    edge = rng.uniform(len(ct_hu), *OPACITY_EDGE)
    weight = torch.sigmoid((field - rng.uniform(len(ct_hu), *OPACITY_LEVEL)) * edge) * target
    return torch.lerp(ct_hu, torch.maximum(ct_hu, rng.uniform(len(ct_hu), *OPACITY_HU)), weight)


def add_second_body(ct_hu: Tensor, target: Tensor, rng: BatchRandom) -> Tensor:
    """Another body of the batch in the room's air, without its lungs: air shut in as between arms, chin and chest."""
    shift = [rng.integer(n // 4, n - n // 4) for n in ct_hu.shape[-2:]]
    shift[rng.integer(0, 1)] *= rng.integer(0, 1)  # beside it, above it, or both
    other, lung = (part.roll((1, *shift), (0, 2, 3)) for part in (ct_hu, target))
    other = torch.where(lung > 0.5, FILLED_LUNG_HU, other)
    return torch.where((other > SOFT_TISSUE_HU) & (ct_hu < ROOM_HU) & (target < 0.5), other, ct_hu)


def add_room_object(ct_hu: Tensor, target: Tensor, rng: BatchRandom) -> Tensor:
    """A cover, table, cushion or tube: an arc in the room's air, which may enclose some of it; none of it is lung."""
    size, (rows, cols) = len(ct_hu), ct_hu.shape[-2:]
    y, x = (torch.linspace(0, 1, n, device=ct_hu.device) for n in (rows, cols))
    radius, width = (rng.uniform(size, *map(math.log, ends)).exp() for ends in (ROOM_OBJECT_RADIUS, ROOM_OBJECT_WIDTH))
    angle = rng.uniform(size, 0, 2 * math.pi)  # in which the arc's centre lies, from a point of the slice
    y = y[:, None] - rng.uniform(size, 0, 1) - radius * torch.sin(angle)
    x = x - rng.uniform(size, 0, 1) - radius * torch.cos(angle)
    sheet = (torch.sqrt(y * y + x * x) - radius).abs() < width / 2
    return torch.where(sheet & (target < 0.5) & (ct_hu < ROOM_HU), rng.uniform(size, *ROOM_OBJECT_HU), ct_hu)


ADDITIONS = (
    (P_OPACITY, add_opacity),
    (P_SECOND_BODY, add_second_body),
    (P_ROOM_OBJECT, add_room_object),
    (P_ROOM_OBJECT, add_room_object),
)


def add_noise(ct_hu: Tensor, rng: BatchRandom) -> Tensor:
    """Noise; the slices of a batch share one field, each shifted by its own way (drawing is slow on a CPU)."""
    field = rng.normal(*ct_hu.shape[-2:])
    shifts = [[rng.integer(0, n - 1) for n in field.shape] for _ in ct_hu]
    rolled = torch.stack([field.roll(shift, (0, 1)) for shift in shifts])[:, None]
    return rolled * rng.uniform(len(ct_hu), 0, NOISE_HU)


def blur(ct_hu: Tensor) -> Tensor:
    """Mean over 3x3 pixels, the frame left as it is."""
    rows = ct_hu.clone()
    rows[..., 1:-1, :] += ct_hu[..., :-2, :] + ct_hu[..., 2:, :]
    rows[..., 1:-1, :] /= 3
    both = rows.clone()
    both[..., 1:-1] += rows[..., :-2] + rows[..., 2:]
    both[..., 1:-1] /= 3
    return both


def lower_resolution(ct_hu: Tensor, rng: BatchRandom) -> Tensor:
    """The slice as a matrix of two to four times fewer rows and columns shows it."""
    block = rng.integer(*LOW_RES_BLOCK)
    return F.interpolate(F.avg_pool2d(ct_hu, block, ceil_mode=True), ct_hu.shape[-2:], mode="bilinear")


def miscalibrate(ct_hu: Tensor, rng: BatchRandom) -> Tensor:
    """HU off by a factor and a level. Not in every slice: that air is the darkest of all must keep its worth."""
    size = len(ct_hu)
    return ct_hu * rng.uniform(size, 1 - SLOPE, 1 + SLOPE) + rng.uniform(size, -LEVEL_HU, LEVEL_HU)


def crop_to_fov(ct_hu: Tensor, target: Tensor, rng: BatchRandom) -> tuple[Tensor, Tensor]:
    """Padding outside the reconstruction circle; a lung that reaches beyond it is cut."""
    y, x = (torch.linspace(-1, 1, n, device=ct_hu.device) for n in ct_hu.shape[-2:])
    inside = y[:, None] ** 2 + x**2 < rng.uniform(len(ct_hu), *FOV_RADIUS) ** 2
    return torch.where(inside, ct_hu, PADDING_HU), target * inside
