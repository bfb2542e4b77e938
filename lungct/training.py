"""What a training step is made of: the data, how it is varied, the loss.

B batch, H rows, W columns. Everything works on the device where the batch lies.
"""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from lungct import LungError
from lungct.files import read_npy
from lungct.slices import CT_RANGE_HU, by_scan, is_lung, read_stack, slice_path

AIR_HU = CT_RANGE_HU[0]
TURN_DEG, ZOOM, SHIFT = 15, (0.6, 1.4), 0.1  # rotation, size, and shift as a share of the slice
LEVEL_HU, SLOPE, NOISE_HU = 60, 0.1, 60  # calibration of the scanner, and its noise
MIRROR, LOW_RESOLUTION, BUBBLES = 0.5, 0.25, 0.7  # chances
BUBBLE_SHARE = (0.01, 0.1)  # radius as a share of the slice
SOFT_TISSUE_HU = -200
WARM_UP = 0.15  # share of the steps before the learning rate is at its peak
LAST_RATE = 0.01  # of the peak, at the end


class SliceSet:
    """Slices in memory: ct int16 HU and lung bool, each (N, H, W), smaller ones filled up with air."""

    def __init__(self, rows: list[dict], ct_root: Path, lung_root: Path):
        scans = by_scan(rows).values()
        shapes = [read_npy(slice_path(ct_root, scan[0]), on_disk=True).shape for scan in scans]
        shape = tuple(max(sides) for sides in zip(*shapes, strict=True))
        self.ct = np.full((len(rows), *shape), AIR_HU, np.int16)
        self.lung = np.zeros((len(rows), *shape), bool)
        start = 0
        for scan in tqdm(scans, desc="reading", unit="scan", leave=False):
            ct, lung = read_stack(ct_root, scan), is_lung(read_stack(lung_root, scan))
            if ct.shape != lung.shape:
                where = slice_path(lung_root, scan[0]).parent
                raise LungError(
                    f"{where}: shape {lung.shape}, but its CT has {ct.shape}; run: python prepare_lung_image.py"
                )
            place = slice(start, start + len(ct)), slice(ct.shape[1]), slice(ct.shape[2])
            self.ct[place], self.lung[place] = ct, lung
            start += len(ct)

    def __len__(self) -> int:
        return len(self.ct)

    def batch(self, numbers: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        """(HU, target), float32 (B, 1, H, W) on the device."""
        ct = torch.from_numpy(self.ct[numbers])[:, None].to(device, non_blocking=True).float()
        return ct, torch.from_numpy(self.lung[numbers])[:, None].to(device, non_blocking=True).float()


def split_patients(rows: list[dict], share: float, seed: int) -> tuple[list[dict], list[dict]]:
    """(training rows, validation rows): whole patients, shuffled by the seed. Raises LungError for fewer than two."""
    patients = sorted({row["patient_id"] for row in rows})
    if len(patients) < 2:
        raise LungError(f"{len(patients)} patient is too few to train: one is needed to learn from and one to check on")
    order = np.random.default_rng(seed).permutation(patients)
    held_out = set(order[: min(len(patients) - 1, max(1, round(share * len(patients))))].tolist())
    return [r for r in rows if r["patient_id"] not in held_out], [r for r in rows if r["patient_id"] in held_out]


def learning_rate(step: int, steps: int, peak: float) -> float:
    """One cycle: up along a cosine, down along a longer one."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return peak * (LAST_RATE + (1 - LAST_RATE) * (1 - math.cos(math.pi * step / warm)) / 2)
    part = (step - warm) / max(1, steps - warm)
    return peak * (LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * part)) / 2)


def batches(total: int, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The slices of each step of an epoch, shuffled by seed and epoch; a last batch of one joins its neighbour."""
    order = np.random.default_rng((seed, epoch)).permutation(total)
    return np.array_split(order, max(1, round(total / size)))


def augment(ct_hu: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Vary a batch as scanners, postures and bodies do: HU and target (B, 1, H, W), target stays 0 or 1.

    The generator is on the CPU, so that a seed gives the same variations on every device.
    """
    size, device = len(ct_hu), ct_hu.device

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return (torch.rand(size, *shape, generator=generator) * (high - low) + low).to(device)

    def chance(share: float) -> Tensor:
        return draw(0, 1, 1, 1, 1) < share

    ct_hu, target = move(ct_hu, target, draw)
    ct_hu = torch.where(chance(BUBBLES), add_bubble(ct_hu, target, draw), ct_hu)
    coarse = F.interpolate(F.avg_pool2d(ct_hu, 4, ceil_mode=True), ct_hu.shape[-2:], mode="bilinear")
    ct_hu = torch.where(chance(LOW_RESOLUTION), coarse, ct_hu)
    ct_hu = ct_hu * (1 + draw(-SLOPE, SLOPE, 1, 1, 1)) + draw(-LEVEL_HU, LEVEL_HU, 1, 1, 1)
    noise = torch.randn(ct_hu.shape, generator=generator).to(device)
    return ct_hu + noise * draw(0, NOISE_HU, 1, 1, 1), target


def move(ct_hu: Tensor, target: Tensor, draw) -> tuple[Tensor, Tensor]:
    """Turn, zoom, shift and mirror; what comes in from outside is air."""
    angle = torch.deg2rad(draw(-TURN_DEG, TURN_DEG))
    zoom = 1 / draw(*ZOOM)
    mirror = torch.where(draw(0, 1, 2) < MIRROR, -1.0, 1.0)  # columns, rows: a prone or feet-first patient
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    across = torch.stack([cos * mirror[:, 0], -sin * mirror[:, 1], draw(-SHIFT, SHIFT)], 1)
    along = torch.stack([sin * mirror[:, 0], cos * mirror[:, 1], draw(-SHIFT, SHIFT)], 1)
    grid = F.affine_grid(torch.stack([across, along], 1), list(ct_hu.shape), align_corners=False)
    both = torch.cat([ct_hu - AIR_HU, target], 1)  # air is 0, which is what grid_sample fills in
    moved = F.grid_sample(both, grid, align_corners=False)
    return moved[:, :1] + AIR_HU, (moved[:, 1:] > 0.5).float()


def add_bubble(ct_hu: Tensor, target: Tensor, draw) -> Tensor:
    """A ball of air somewhere in soft tissue, like gas in the bowel: not lung, and the target says so."""
    rows, cols = ct_hu.shape[-2:]
    y = torch.linspace(0, 1, rows, device=ct_hu.device)[:, None]
    x = torch.linspace(0, 1, cols, device=ct_hu.device)[None]
    far = (y - draw(0.2, 0.8, 1, 1, 1)) ** 2 + ((x - draw(0.2, 0.8, 1, 1, 1)) * draw(0.5, 1, 1, 1, 1)) ** 2
    inside = (far < draw(*BUBBLE_SHARE, 1, 1, 1) ** 2) & (target < 0.5) & (ct_hu > SOFT_TISSUE_HU)
    return torch.where(inside, torch.full_like(ct_hu, AIR_HU + 24), ct_hu)


def lung_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy plus one minus the soft Dice of the batch, a scalar."""
    logits = logits.float()
    probability = torch.sigmoid(logits)
    overlap = (probability * target).sum()
    dice = (2 * overlap + 1) / (probability.sum() + target.sum() + 1)
    return F.binary_cross_entropy_with_logits(logits, target) + 1 - dice


def count_overlap(predicted: Tensor, target: Tensor) -> Tensor:
    """For each slice of two masks (B, 1, H, W): pixels in both, and the sum of their sizes: (B, 2) int64."""
    both = (predicted & target).sum((1, 2, 3))
    return torch.stack([both, predicted.sum((1, 2, 3)) + target.sum((1, 2, 3))], 1)
