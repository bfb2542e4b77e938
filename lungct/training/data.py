"""The slices of a training: read from disk, split by patient, dealt out to batches.

B batch, H rows, W columns.
"""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from lungct import LungError
from lungct.parallel import some_of
from lungct.slice_files import read_slice
from lungct.slices import StoredSlice, is_lung, pixel_mm
from lungct.training.augment import PADDING_HU
from lungct.training.disease import add_disease

P_THICK_SLICE, THICK_MM = 0.2, 8.0  # chance that three slices are averaged to one, where it gets no thicker than that


class SliceSet:
    """Slices on disk, read when a batch needs them, so that a training may be larger than the memory.

    The system keeps in memory what was read last, as far as there is room. Slices that are smaller than others are
    filled up with air. Raises LungError, also when a batch is read, where a slice is not as step 2 wrote it.
    """

    def __init__(self, rows: list[StoredSlice], ct_root: Path, lung_root: Path, show_progress: bool = True):
        if not any(row.lung_px > 0 for row in rows):
            patients = some_of(sorted({row.patient_id for row in rows}))
            raise LungError(f"{lung_root}: no lung in any slice of {patients}; look at the labels in overview.png")
        self.rows, self.ct_root, self.lung_root = rows, ct_root, lung_root
        bar = tqdm(rows, desc="checking", unit=" slice", leave=False, disable=not show_progress)
        shapes = [check_pair(row, ct_root, lung_root) for row in bar]
        self.shape = tuple(max(sides) for sides in zip(*shapes, strict=True))
        self.pixel_mm = np.array([pixel_mm(row.spacing_mm) for row in rows])
        z_mm = np.array([row.z_mm for row in rows])
        scans = np.array([row.scan for row in rows])
        self.has_thin_neighbours = np.zeros(len(rows), bool)
        self.has_thin_neighbours[1:-1] = (scans[2:] == scans[:-2]) & (1.5 * (z_mm[2:] - z_mm[:-2]) <= THICK_MM)

    def __len__(self) -> int:
        return len(self.rows)

    def read(
        self,
        numbers: np.ndarray,
        thick_slice: np.ndarray | None = None,
        disease: np.random.Generator | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """CT int16 HU and lung bool of some slices, each (B, H, W).

        thick_slice: (B,) bool, CT averaged with its neighbours'
        disease:     paint disease and gas, as this generator decides
        """
        pairs = [(self.read_ct(number), self.read_lung(number)) for number in numbers]
        ct, lung = (np.stack(part) for part in zip(*pairs, strict=True))
        if thick_slice is not None:
            for place in np.flatnonzero(thick_slice & self.has_thin_neighbours[numbers]):
                ct[place] = np.mean([self.read_ct(numbers[place] - 1), ct[place], self.read_ct(numbers[place] + 1)], 0)
        if disease is not None:
            add_disease(ct, lung, self.pixel_mm[numbers], disease)
        return ct, lung

    def read_ct(self, number: int) -> np.ndarray:
        """One slice, (H, W) int16 HU."""
        return self.fill_up(read_slice(self.ct_root, self.rows[number], "ct"), PADDING_HU)

    def read_lung(self, number: int) -> np.ndarray:
        """Its lung, (H, W) bool."""
        return self.fill_up(is_lung(read_slice(self.lung_root, self.rows[number], "lung")), False)

    def fill_up(self, image: np.ndarray, outside: float) -> np.ndarray:
        """A slice in the upper left corner of one as large as the largest."""
        filled = np.full(self.shape, outside, image.dtype)
        filled[: image.shape[0], : image.shape[1]] = image
        return filled


def check_pair(row: StoredSlice, ct_root: Path, lung_root: Path) -> tuple[int, int]:
    """Rows and columns of a slice, whose CT and label are as step 2 wrote them. Raises LungError where they are not."""
    read_slice(lung_root, row, "lung")
    return read_slice(ct_root, row, "ct").shape


def batches(total: int, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The slices of each step of an epoch, shuffled by seed and epoch; a last batch of one joins its neighbour."""
    order = np.random.default_rng((seed, epoch)).permutation(total)
    return np.array_split(order, max(1, round(total / size)))
