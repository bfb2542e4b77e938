"""How a training batch is varied, so that the network meets more scanners, bodies and diseases than its slices show.

B batch, H rows, W columns. Everything is computed on the device where the batch lies, and nothing waits for it: what
is decided by chance is decided on the CPU, so that a seed gives the same variations on every device, and reaches the
device as numbers in a call or in one copy (`Fields`).

Each slice is changed alone and in place: so it stays in a processor's cache from one change to the next. Where a change
depends on the pixel, masks are float32, 0 or 1: comparing and choosing by bool takes several times longer on a CPU.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lungct.device import pinned, send
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
class Fields:
    """Random numbers that a batch needs on its device, float32; they were drawn on the CPU and copied at once."""

    theta: Tensor  # (B, 2, 3), from the places of a slice's new pixels to its old ones, as `affine_grid` defines it
    knots: Tensor  # (B, K, K), normal; each slice takes the first rows and columns, as many as it needs
    noise: Tensor  # (H * W), normal


def augment(ct_hu: Tensor, lung: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Vary a batch: posture, size, disease, surroundings, contrast, noise, kernel, resolution, calibration, view.

    ct_hu (B, H, W) int16 or float32, lung (B, H, W) 0 or 1 of any dtype; returns ct_hu and target, both float32
    (B, 1, H, W), target 0 or 1.
    """
    fields = draw_fields(ct_hu.shape, rng, ct_hu.device)
    images, lungs = warp(ct_hu, lung, fields.theta)
    for image, mask, knots in zip(images, lungs, fields.knots, strict=True):
        if rng.random() < P_OPACITY:
            add_opacity(image, mask, knots, rng)
    chosen = [pair for pair in zip(images, lungs, strict=True) if rng.random() < P_SECOND_BODY]
    bodies = [fill(image.clone(), mask, FILLED_LUNG_HU) for image, mask in chosen]
    for (image, mask), body in zip(chosen, bodies[-1:] + bodies[:-1], strict=True):
        add_second_body(image, mask, body, rng)
    for image, mask in zip(images, lungs, strict=True):
        for _ in range(2):
            if rng.random() < P_ROOM_OBJECT:
                add_room_object(image, mask, rng)
        change_contrast(image, rng)
        add_noise(image, fields.noise, rng)
        change_kernel(image, rng)
        if rng.random() < P_LOW_RES:
            lower_resolution(image, rng)
        if rng.random() < P_MISCALIBRATED:
            miscalibrate(image, rng)
        if rng.random() < P_FOV_CIRCLE:
            crop_to_fov(image, mask, rng)
    return images[:, None], lungs[:, None]


def draw_fields(shape: tuple[int, int, int], rng: np.random.Generator, device: torch.device) -> Fields:
    """The fields of a batch of this shape (B, H, W), on its device."""
    size, rows, cols = shape
    theta = torch.tensor([draw_theta(rows, cols, rng) for _ in range(size)], dtype=torch.float32)
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    knots = max(OPACITY_KNOTS)
    counts = size * 6, size * knots**2, rows * cols
    numbers = torch.cat([theta.flatten(), torch.randn(sum(counts[1:]), generator=generator)])
    parts = send(pinned(numbers.numpy(), device), device).split(counts)
    return Fields(parts[0].view(size, 2, 3), parts[1].view(size, knots, knots), parts[2])


def draw_theta(rows: int, cols: int, rng: np.random.Generator) -> list[list[float]]:
    """Turn, zoom, stretch, shift and mirror one slice: a row of a `theta`."""
    angle = math.radians(rng.uniform(-ROTATION_DEG, ROTATION_DEG))
    zoom, stretch = 1 / rng.uniform(*ZOOM), rng.uniform(1 - STRETCH, 1 + STRETCH)
    x, y = (-zoom if rng.random() < P_MIRROR else zoom for _ in range(2))
    x *= stretch
    right, down = rng.uniform(-2 * SHIFT, 2 * SHIFT, 2)  # a slice is 2 wide: -1 to 1
    cos, sin, long = math.cos(angle), math.sin(angle), rows / cols  # turned in pixels, not in shares
    return [
        [cos * x, -sin * long * y, cos * right - sin * long * down],
        [sin / long * x, cos * y, sin / long * right + cos * down],
    ]


def warp(ct_hu: Tensor, lung: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Both (B, H, W) float32, moved as theta says; what comes in from outside is air."""
    size, rows, cols = ct_hu.shape
    both = torch.empty(size, 2, rows, cols, device=ct_hu.device)
    both[:, 0], both[:, 1] = ct_hu, lung
    both[:, 0] -= PADDING_HU  # air is 0, which is what grid_sample fills in
    x, y = ((torch.arange(n, device=ct_hu.device) * 2 + 1) / n - 1 for n in (cols, rows))  # -1 to 1
    grid = torch.empty(size, rows, cols, 2, device=ct_hu.device)
    for axis in (0, 1):  # `affine_grid` takes many times longer
        factor_x, factor_y, offset = theta[:, axis, :, None, None].unbind(1)  # (B, 1, 1) each
        torch.add(factor_x * x, factor_y * y[:, None] + offset, out=grid[..., axis])
    images, lungs = F.grid_sample(both, grid, align_corners=False).unbind(1)
    return images.add_(PADDING_HU), lungs.gt_(0.5)


def add_opacity(ct_hu: Tensor, lung: Tensor, knots: Tensor, rng: np.random.Generator) -> None:
    """Ground glass, consolidation or nodules in the lung; they stay lung."""
    count = rng.integers(*OPACITY_KNOTS, endpoint=True)
    knots = (knots[:count, :count] - rng.uniform(*OPACITY_LEVEL)) * rng.uniform(*OPACITY_EDGE)
    one = torch.eye(count, device=ct_hu.device)[None, None]
    to_rows, to_cols = (F.interpolate(one, (n, count), mode="bicubic")[0, 0] for n in ct_hu.shape)
    weight = (to_rows @ knots @ to_cols.T).sigmoid_().mul_(lung)  # bicubic interpolation, axis by axis
    ct_hu.lerp_(ct_hu.clamp(min=rng.uniform(*OPACITY_HU)), weight)


def add_second_body(ct_hu: Tensor, lung: Tensor, body: Tensor, rng: np.random.Generator) -> None:
    """Another body without lungs, moved, in the room's air: air shut in as between arms, chin and chest."""
    shift = [int(rng.integers(n // 4, n - n // 4, endpoint=True)) for n in ct_hu.shape]
    shift[rng.integers(2)] *= int(rng.integers(2))  # beside it, above it, or both
    body = body.roll(shift, (0, 1))
    ct_hu.lerp_(body, room_air(ct_hu, lung).mul_(is_true(torch.gt, body, SOFT_TISSUE_HU)))


def add_room_object(ct_hu: Tensor, lung: Tensor, rng: np.random.Generator) -> None:
    """A cover, table, cushion or tube: an arc in the room's air, which may enclose some of it; none of it is lung."""
    radius, width = (math.exp(rng.uniform(*map(math.log, ends))) for ends in (ROOM_OBJECT_RADIUS, ROOM_OBJECT_WIDTH))
    angle = rng.uniform(0, 2 * math.pi)  # in which the arc's centre lies, from a point of the slice
    middle = rng.uniform() + radius * math.sin(angle), rng.uniform() + radius * math.cos(angle)
    y, x = (torch.linspace(0, 1, n, device=ct_hu.device) - at for n, at in zip(ct_hu.shape, middle, strict=True))
    inner, outer = max(0, radius - width / 2), radius + width / 2
    between = (inner**2 + outer**2) / 2  # squares: without a root for each pixel
    arc = (x * x + (y * y - between)[:, None]).abs_().lt_(outer**2 - between)
    fill(ct_hu, room_air(ct_hu, lung).mul_(arc), rng.uniform(*ROOM_OBJECT_HU))


def room_air(ct_hu: Tensor, lung: Tensor) -> Tensor:
    """Where a slice (H, W) shows air outside the body, 0 or 1."""
    return is_true(torch.lt, ct_hu, ROOM_HU).mul_(is_true(torch.lt, lung, 0.5))


def is_true(compare: Callable[..., Tensor], image: Tensor, limit: float) -> Tensor:
    """A comparison as float32, 0 or 1."""
    return compare(image, limit, out=torch.empty_like(image))


def fill(ct_hu: Tensor, mask: Tensor, hu: float) -> Tensor:
    """Set the HU of a mask (0 or 1), in place."""
    return ct_hu.addcmul_(ct_hu, mask, value=-1).add_(mask, alpha=hu)


def change_contrast(ct_hu: Tensor, rng: np.random.Generator) -> None:
    """What is above 0 HU times a factor."""
    factor = rng.uniform(*CONTRAST_FACTOR)
    F.leaky_relu_(ct_hu, 1 / factor).mul_(factor)  # the slope is that of what is below 0


def add_noise(ct_hu: Tensor, noise: Tensor, rng: np.random.Generator) -> None:
    """Noise (H * W); the slices of a batch share it, each from its own place on (drawing is slow on a CPU)."""
    start, deviation = int(rng.integers(len(noise))), rng.uniform(0, NOISE_HU)
    pixels = ct_hu.view(-1)
    pixels[: len(noise) - start].add_(noise[start:], alpha=deviation)
    pixels[len(noise) - start :].add_(noise[:start], alpha=deviation)


def change_kernel(ct_hu: Tensor, rng: np.random.Generator) -> None:
    """A smoother or sharper reconstruction: to or from the mean over 3x3 pixels, the frame left as it is."""
    strength = rng.uniform(*SHARPEN)
    sums = (ct_hu[:-2] + ct_hu[1:-1]).add_(ct_hu[2:])
    sums = (sums[:, :-2] + sums[:, 1:-1]).add_(sums[:, 2:])
    ct_hu[1:-1, 1:-1].mul_(1 + strength).sub_(sums, alpha=strength / 9)


def lower_resolution(ct_hu: Tensor, rng: np.random.Generator) -> None:
    """The slice as a matrix of two to four times fewer rows and columns shows it."""
    block = int(rng.integers(*LOW_RES_BLOCK, endpoint=True))
    rough = F.avg_pool2d(ct_hu[None, None], block, ceil_mode=True)
    ct_hu.copy_(F.interpolate(rough, ct_hu.shape, mode="bilinear")[0, 0])


def miscalibrate(ct_hu: Tensor, rng: np.random.Generator) -> None:
    """HU off by a factor and a level. Not in every slice: that air is the darkest of all must keep its worth."""
    ct_hu.mul_(rng.uniform(1 - SLOPE, 1 + SLOPE)).add_(rng.uniform(-LEVEL_HU, LEVEL_HU))


def crop_to_fov(ct_hu: Tensor, lung: Tensor, rng: np.random.Generator) -> None:
    """Padding outside the reconstruction circle; a lung that reaches beyond it is cut."""
    y, x = (torch.linspace(-1, 1, n, device=ct_hu.device) for n in ct_hu.shape)
    outside = (x * x + (y * y - rng.uniform(*FOV_RADIUS) ** 2)[:, None]).ge_(0)
    fill(ct_hu, outside, PADDING_HU)
    fill(lung, outside, 0)
