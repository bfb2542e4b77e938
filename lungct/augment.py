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

AIR_HU = CT_RANGE_HU[0]
TURN_DEG, ZOOM, STRETCH, SHIFT = 20, (0.6, 1.5), 0.1, 0.15  # rotation, size, width to depth, share of the slice
MIRROR = 0.5  # chance for columns, and for rows: a prone or feet-first patient
CLOUDS, CLOUD_HU = 0.25, (-500, 120)  # chance of ground glass, consolidation, nodules; their HU
CLOUD_KNOTS, CLOUD_LEVEL, CLOUD_EDGE = (4, 20), (0.6, 2.2), (3, 15)  # across the slice; how little of it; how sharp
BUBBLES, BUBBLE_HU, BUBBLE_SHARE = 0.7, -1000, (0.01, 0.1)  # bowel gas; its radius as a share of the slice
SOFT_TISSUE_HU, FILLED_HU = -200, 40  # tissue is above; what fills the lungs of a body that shall have none
NEIGHBOURS, ROOM_HU = 0.3, -700  # chance of another body in the room's air, which is below
SHEETS, SHEET_HU = 0.5, (-900, 200)  # chance, twice, of a thing in the room's air; its HU
SHEET_RADIUS, SHEET_WIDTH = (0.05, 4), (0.003, 0.12)  # of the arc that it is, as shares of the slice
BLOOD = (0.5, 2.5)  # factor on what is above 0 HU: with and without contrast medium
NOISE_HU, SHARPEN = 80, (-1.0, 0.7)  # deviation; smooth to sharp reconstruction kernel
COARSE, COARSE_BLOCK = 0.25, (2, 4)  # chance of low resolution; pixels that become one
OFF, SLOPE, LEVEL_HU = 0.5, 0.1, 100  # chance of another calibration of the scanner; how far off it is
ROUND, RADIUS = 0.2, (0.8, 1.1)  # chance of a visible reconstruction circle; its radius in halves of the slice


@dataclass(frozen=True)
class Chance:
    """Random numbers for a batch."""

    generator: torch.Generator
    device: torch.device

    def uniform(self, count: int, low: float, high: float) -> Tensor:
        """One number for each slice, (count, 1, 1, 1)."""
        return (torch.rand(count, 1, 1, 1, generator=self.generator) * (high - low) + low).to(self.device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator).to(self.device)

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both possible."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def some(self, count: int, share: float) -> Tensor:
        """The numbers of a random share of the slices."""
        return (torch.rand(count, generator=self.generator) < share).nonzero()[:, 0].to(self.device)


def augment(ct_hu: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Vary a batch: posture, size, disease, surroundings, contrast, noise, kernel, resolution, calibration, view."""
    chance = Chance(generator, ct_hu.device)
    size = len(ct_hu)
    ct_hu, target = move(ct_hu, target, chance)
    for share, change in ADDED:
        change_some(share, change, chance, ct_hu, target)
    ct_hu += ct_hu.clamp(min=0) * (chance.uniform(size, *BLOOD) - 1)
    ct_hu += grain(ct_hu, chance)
    ct_hu += (ct_hu - blur(ct_hu)) * chance.uniform(size, *SHARPEN)
    change_some(COARSE, coarsen, chance, ct_hu)
    change_some(OFF, miscalibrate, chance, ct_hu)
    chosen = chance.some(size, ROUND)
    if len(chosen):
        ct_hu[chosen], target[chosen] = cut_circle(ct_hu[chosen], target[chosen], chance)
    return ct_hu, target


def change_some(share: float, change: Callable[..., Tensor], chance: Chance, ct_hu: Tensor, *more: Tensor) -> None:
    """Change the HU of a random share of the slices, in place; `change` also gets what `more` says of them."""
    chosen = chance.some(len(ct_hu), share)
    if len(chosen):
        ct_hu[chosen] = change(ct_hu[chosen], *(part[chosen] for part in more), chance)


def move(ct_hu: Tensor, target: Tensor, chance: Chance) -> tuple[Tensor, Tensor]:
    """Turn, zoom, stretch, shift and mirror; what comes in from outside is air."""
    size, (rows, cols) = len(ct_hu), ct_hu.shape[-2:]
    angle = torch.deg2rad(chance.uniform(size, -TURN_DEG, TURN_DEG))
    zoom, stretch = 1 / chance.uniform(size, *ZOOM), chance.uniform(size, 1 - STRETCH, 1 + STRETCH)
    signs = [torch.where(chance.uniform(size, 0, 1) < MIRROR, -1.0, 1.0) for _ in range(2)]
    x, y = ((torch.arange(n, device=ct_hu.device) * 2 + 1) / n - 1 for n in (cols, rows))  # -1 to 1
    x = x * signs[0] * zoom * stretch + chance.uniform(size, -2 * SHIFT, 2 * SHIFT)  # (B, 1, 1, W)
    y = y[:, None] * signs[1] * zoom + chance.uniform(size, -2 * SHIFT, 2 * SHIFT)  # (B, 1, H, 1)
    cos, sin, long = torch.cos(angle), torch.sin(angle), rows / cols  # turned in pixels, not in shares
    grid = torch.stack([cos * x - sin * long * y, sin / long * x + cos * y], -1)[:, 0]
    both = torch.cat([ct_hu - AIR_HU, target], 1)  # air is 0, which is what grid_sample fills in
    moved = F.grid_sample(both, grid, align_corners=False)
    return moved[:, :1] + AIR_HU, (moved[:, 1:] > 0.5).float()


def add_cloud(ct_hu: Tensor, target: Tensor, chance: Chance) -> Tensor:
    """Ground glass, consolidation or nodules in the lung; they stay lung."""
    knots = chance.whole(*CLOUD_KNOTS)
    field = F.interpolate(chance.normal(len(ct_hu), 1, knots, knots), ct_hu.shape[-2:], mode="bicubic")
    edge = chance.uniform(len(ct_hu), *CLOUD_EDGE)
    weight = torch.sigmoid((field - chance.uniform(len(ct_hu), *CLOUD_LEVEL)) * edge) * target
    return torch.lerp(ct_hu, torch.maximum(ct_hu, chance.uniform(len(ct_hu), *CLOUD_HU)), weight)


def add_bubble(ct_hu: Tensor, target: Tensor, chance: Chance) -> Tensor:
    """A ball of air somewhere in soft tissue, like gas in the bowel; it is not lung."""
    size, (rows, cols) = len(ct_hu), ct_hu.shape[-2:]
    y, x = (torch.linspace(0, 1, n, device=ct_hu.device) for n in (rows, cols))
    y = y[:, None] - chance.uniform(size, 0.2, 0.8)
    x = (x - chance.uniform(size, 0.2, 0.8)) * chance.uniform(size, 0.5, 1)
    inside = (y * y + x * x < chance.uniform(size, *BUBBLE_SHARE) ** 2) & (target < 0.5) & (ct_hu > SOFT_TISSUE_HU)
    return torch.where(inside, BUBBLE_HU, ct_hu)


def add_neighbour(ct_hu: Tensor, target: Tensor, chance: Chance) -> Tensor:
    """Another body of the batch in the room's air, without its lungs: air shut in as between arms, chin and chest."""
    shift = [chance.whole(n // 4, n - n // 4) for n in ct_hu.shape[-2:]]
    shift[chance.whole(0, 1)] *= chance.whole(0, 1)  # beside it, above it, or both
    other, lung = (part.roll((1, *shift), (0, 2, 3)) for part in (ct_hu, target))
    other = torch.where(lung > 0.5, FILLED_HU, other)
    return torch.where((other > SOFT_TISSUE_HU) & (ct_hu < ROOM_HU) & (target < 0.5), other, ct_hu)


def add_sheet(ct_hu: Tensor, target: Tensor, chance: Chance) -> Tensor:
    """A cover, table, cushion or tube: an arc in the room's air, which may shut some of it in; none of it is lung."""
    size, (rows, cols) = len(ct_hu), ct_hu.shape[-2:]
    y, x = (torch.linspace(0, 1, n, device=ct_hu.device) for n in (rows, cols))
    radius, width = (chance.uniform(size, *map(math.log, ends)).exp() for ends in (SHEET_RADIUS, SHEET_WIDTH))
    angle = chance.uniform(size, 0, 2 * math.pi)  # in which the arc's centre lies, from a point of the slice
    y = y[:, None] - chance.uniform(size, 0, 1) - radius * torch.sin(angle)
    x = x - chance.uniform(size, 0, 1) - radius * torch.cos(angle)
    sheet = (torch.sqrt(y * y + x * x) - radius).abs() < width / 2
    return torch.where(sheet & (target < 0.5) & (ct_hu < ROOM_HU), chance.uniform(size, *SHEET_HU), ct_hu)


ADDED = (
    (CLOUDS, add_cloud),
    (BUBBLES, add_bubble),
    (NEIGHBOURS, add_neighbour),
    (SHEETS, add_sheet),
    (SHEETS, add_sheet),
)


def grain(ct_hu: Tensor, chance: Chance) -> Tensor:
    """Noise; the slices of a batch share one field, each shifted by its own way (drawing is slow on a CPU)."""
    field = chance.normal(*ct_hu.shape[-2:])
    shifts = [[chance.whole(0, n - 1) for n in field.shape] for _ in ct_hu]
    rolled = torch.stack([field.roll(shift, (0, 1)) for shift in shifts])[:, None]
    return rolled * chance.uniform(len(ct_hu), 0, NOISE_HU)


def blur(ct_hu: Tensor) -> Tensor:
    """Mean over 3x3 pixels, the frame left as it is."""
    rows = ct_hu.clone()
    rows[..., 1:-1, :] += ct_hu[..., :-2, :] + ct_hu[..., 2:, :]
    rows[..., 1:-1, :] /= 3
    both = rows.clone()
    both[..., 1:-1] += rows[..., :-2] + rows[..., 2:]
    both[..., 1:-1] /= 3
    return both


def coarsen(ct_hu: Tensor, chance: Chance) -> Tensor:
    """The slice as a matrix of two to four times fewer rows and columns shows it."""
    block = chance.whole(*COARSE_BLOCK)
    return F.interpolate(F.avg_pool2d(ct_hu, block, ceil_mode=True), ct_hu.shape[-2:], mode="bilinear")


def miscalibrate(ct_hu: Tensor, chance: Chance) -> Tensor:
    """HU off by a factor and a level. Not in every slice: that air is the darkest of all must keep its worth."""
    size = len(ct_hu)
    return ct_hu * chance.uniform(size, 1 - SLOPE, 1 + SLOPE) + chance.uniform(size, -LEVEL_HU, LEVEL_HU)


def cut_circle(ct_hu: Tensor, target: Tensor, chance: Chance) -> tuple[Tensor, Tensor]:
    """Padding outside the reconstruction circle; a lung that reaches beyond it is cut."""
    y, x = (torch.linspace(-1, 1, n, device=ct_hu.device) for n in ct_hu.shape[-2:])
    inside = y[:, None] ** 2 + x**2 < chance.uniform(len(ct_hu), *RADIUS) ** 2
    return torch.where(inside, ct_hu, AIR_HU), target * inside
