"""What a training step is made of: the data, the schedule, the loss.

B batch, H rows, W columns. Everything works on the device where the batch lies.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lungct import LungError
from lungct.files import read_npy
from lungct.parallel import some_of
from lungct.slices import SliceRow, by_scan, is_lung, pixel_mm, read_stack, slice_path
from lungct.training.augment import PADDING_HU
from lungct.training.disease import add_disease

P_THICK_SLICE, THICK_MM = 0.2, 8.0  # chance that three slices are averaged to one, where it gets no thicker than that


class SliceSet:
    """Slices in memory: ct int16 HU and lung bool, each (N, H, W), smaller ones filled up with air."""

    def __init__(self, rows: list[SliceRow], ct_root: Path, lung_root: Path, show_progress: bool = True):
        scans = by_scan(rows).values()
        shapes = [read_npy(slice_path(ct_root, scan[0]), on_disk=True).shape for scan in scans]
        shape = tuple(max(sides) for sides in zip(*shapes, strict=True))
        self.ct = np.full((len(rows), *shape), PADDING_HU, np.int16)
        self.lung = np.zeros((len(rows), *shape), bool)
        self.has_thin_neighbours = np.zeros(len(rows), bool)
        self.pixel_mm = np.empty(len(rows))
        start = 0
        for scan in tqdm(scans, desc="reading", unit="scan", leave=False, disable=not show_progress):
            ct, lung_images = read_stack(ct_root, scan), read_stack(lung_root, scan)
            lung = is_lung(lung_images)
            for images, root in ((ct, ct_root), (lung_images, lung_root)):
                if images.dtype != np.int16:
                    where = slice_path(root, scan[0]).parent
                    raise LungError(f"{where}: {images.dtype}, slices are int16 HU; run: python prepare_lung_image.py")
            if ct.shape != lung.shape:
                where = slice_path(lung_root, scan[0]).parent
                raise LungError(
                    f"{where}: shape {lung.shape}, but its CT has {ct.shape}; run: python prepare_lung_image.py"
                )
            place = slice(start, start + len(ct)), slice(ct.shape[1]), slice(ct.shape[2])
            self.ct[place], self.lung[place] = ct, lung
            self.pixel_mm[place[0]] = [pixel_mm(row.spacing_mm) for row in scan]
            z_mm = np.array([row.z_mm for row in scan])
            self.has_thin_neighbours[start + 1 : start + len(ct) - 1] = 1.5 * (z_mm[2:] - z_mm[:-2]) <= THICK_MM
            start += len(ct)
        if not self.lung.any():
            patients = some_of(sorted({row.patient_id for row in rows}))
            raise LungError(f"{lung_root}: no lung in any slice of {patients}; look at the labels in overview.png")

    def __len__(self) -> int:
        return len(self.ct)

    def batch(
        self,
        numbers: np.ndarray,
        device: torch.device,
        thick_slice: np.ndarray | None = None,
        disease: np.random.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(HU, target), float32 (B, 1, H, W) on the device.

        thick_slice: (B,) bool, CT averaged with its neighbours'
        disease:     paint disease and gas, as this generator decides
        """
        ct, lung = self.ct[numbers], self.lung[numbers]  # copies
        if thick_slice is not None:
            for place in np.flatnonzero(thick_slice & self.has_thin_neighbours[numbers]):
                ct[place] = self.ct[numbers[place] - 1 : numbers[place] + 2].mean(0)
        if disease is not None:
            add_disease(ct, lung, self.pixel_mm[numbers], disease)
        pair = [torch.from_numpy(part)[:, None] for part in (ct, lung)]
        if device.type == "cuda":  # from pinned memory the copy does not hold up the next step
            pair = [part.pin_memory() for part in pair]
        return tuple(part.to(device, non_blocking=True).float() for part in pair)


def split_patients(
    rows: list[SliceRow], share: float, seed: int, seen: frozenset[str] = frozenset()
) -> tuple[list[SliceRow], list[SliceRow]]:
    """(training rows, validation rows): whole patients, shuffled by the seed.

    seen: patients whom the weights to start from were trained on; they are not validated on
    Raises LungError for fewer than two patients, and where all of them were seen.
    """
    patients = sorted({row.patient_id for row in rows})
    if len(patients) < 2:
        raise LungError(f"{len(patients)} patient is too few to train: one is needed to learn from and one to check on")
    order = [name for name in np.random.default_rng(seed).permutation(patients).tolist() if name not in seen]
    if not order:
        raise LungError("the weights of --init were trained on all of these patients: add some, to check on them")
    held_out = set(order[: min(len(patients) - 1, max(1, round(share * len(patients))))])
    return [r for r in rows if r.patient_id not in held_out], [r for r in rows if r.patient_id in held_out]


def batches(total: int, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The slices of each step of an epoch, shuffled by seed and epoch; a last batch of one joins its neighbour."""
    order = np.random.default_rng((seed, epoch)).permutation(total)
    return np.array_split(order, max(1, round(total / size)))
