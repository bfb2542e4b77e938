"""The slices of a training: read from disk, split by patient, dealt out to batches.

B batch, H rows, W columns.
"""

from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from lungct import LungError
from lungct.parallel import count, some_of
from lungct.slice_files import read_slice
from lungct.slices import StoredSlice, is_lung, pixel_mm
from lungct.training.augment import PADDING_HU
from lungct.training.disease import add_disease
from lungct.weights import integer_scale, resize, zoomed

P_THICK_SLICE, THICK_MM = 0.2, 8.0  # chance that three slices are averaged to one, where it gets no thicker than that


class SliceSet:
    """Slices on disk, read when a batch needs them, so that a training may be larger than the memory.

    The system keeps in memory what was read last, as far as there is room. Slices that are smaller than others are
    filled up with air. Raises LungError, also when a batch is read, where a slice is not as step 2 wrote it.

    model_mm: the pixel of the network; `zoom` is the factor by which it sees each slice, 1 where there is no network
    """

    def __init__(
        self,
        rows: list[StoredSlice],
        ct_root: Path,
        lung_root: Path,
        model_mm: float | None = None,
        show_progress: bool = True,
    ):
        if not any(row.lung_px > 0 for row in rows):
            patients = some_of(sorted({row.patient_id for row in rows}))
            raise LungError(f"{lung_root}: no lung in any slice of {patients}; look at the labels in overview.png")
        self.rows, self.ct_root, self.lung_root = rows, ct_root, lung_root
        bar = tqdm(rows, desc="checking", unit=" slice", leave=False, disable=not show_progress)
        self.shapes = np.array([check_pair(row, ct_root, lung_root) for row in bar])
        self.pixel_mm = np.array([pixel_mm(row.spacing_mm) for row in rows])
        self.model_mm = model_mm
        self.zoom = np.array([integer_scale(mm, model_mm) if model_mm else 1.0 for mm in self.pixel_mm])
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
        resized: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """CT int16 HU and lung bool of some slices, each (B, H, W).

        thick_slice: (B,) bool, CT averaged with its neighbours'
        disease:     paint disease and gas, as this generator decides
        resized:     by `zoom`, as the network sees them; else as they are
        """
        zoom = self.zoom if resized else np.ones(len(self))
        shape = self.batch_shape(numbers, zoom)

        def read_ct(number: int) -> np.ndarray:
            return fill_up(self.read_ct(number, zoom[number]), shape, PADDING_HU)

        pairs = [(read_ct(number), fill_up(self.read_lung(number, zoom[number]), shape, False)) for number in numbers]
        ct, lung = (np.stack(part) for part in zip(*pairs, strict=True))
        if thick_slice is not None:
            for place in np.flatnonzero(thick_slice & self.has_thin_neighbours[numbers]):
                ct[place] = np.mean([read_ct(numbers[place] - 1), ct[place], read_ct(numbers[place] + 1)], 0)
        if disease is not None:
            add_disease(ct, lung, (self.pixel_mm / zoom)[numbers], disease)
        return ct, lung

    def batch_shape(self, numbers: np.ndarray, zoom: np.ndarray) -> tuple[int, int]:
        """Rows and columns of a batch: those of its largest slice; with one at the network's scale, of all of these.

        So a few slices that are resized to very large ones do not make each batch as large.
        """
        numbers = np.asarray(numbers)
        if (self.zoom[numbers] == 1).any():
            numbers = np.concatenate([numbers, np.flatnonzero(self.zoom == 1)])
        return tuple(max(sides) for sides in zip(*(zoomed(self.shapes[n], zoom[n]) for n in numbers), strict=True))

    def predicted_together(self) -> list[np.ndarray]:
        """The numbers of all slices in parts: all at the network's scale; of each other scale and shape."""
        parts: dict[tuple, list[int]] = {}
        for number, (zoom, shape) in enumerate(zip(self.zoom, self.shapes, strict=True)):
            parts.setdefault((zoom, *(shape if zoom != 1 else ())), []).append(number)
        return [np.array(part) for part in parts.values()]

    def read_ct(self, number: int, zoom: float = 1.0) -> np.ndarray:
        """One slice, (H, W) int16 HU."""
        ct_hu = read_slice(self.ct_root, self.rows[number], "ct")
        return ct_hu if zoom == 1 else np.rint(resize_slice(ct_hu, zoom)).astype(np.int16)

    def read_lung(self, number: int, zoom: float = 1.0) -> np.ndarray:
        """Its lung, (H, W) bool."""
        lung = is_lung(read_slice(self.lung_root, self.rows[number], "lung"))
        return lung if zoom == 1 else resize_slice(lung, zoom) > 0.5


def resize_slice(image: np.ndarray, zoom: float) -> np.ndarray:
    """A slice `zoom` times as large, float32, resized as step 5 resizes it."""
    pixels = torch.from_numpy(image.astype(np.float32))[None, None]
    return resize(pixels, zoomed(image.shape, zoom))[0, 0].numpy()


def fill_up(image: np.ndarray, shape: tuple[int, int], outside: float) -> np.ndarray:
    """A slice in the upper left corner of a larger one."""
    filled = np.full(shape, outside, image.dtype)
    filled[: image.shape[0], : image.shape[1]] = image
    return filled


def print_resized(*sets: SliceSet) -> None:
    """How many slices a network sees resized; nothing where it sees all of them as they are."""
    if resized := sum(np.count_nonzero(part.zoom != 1) for part in sets):
        near = f"pixels near the network's {sets[0].model_mm:g} mm"
        print(f"{count(resized, 'slice')} resized to {near}, as in step 5")


def same_slice_notes(train: list[StoredSlice], val: list[StoredSlice]) -> list[str]:
    """A warning where slices to validate on are those of a patient to learn from: one patient under two IDs."""
    owners = {row.ct_checksum: row.patient_id for row in train if row.lung_px > 0}
    pairs = sorted({(owners[row.ct_checksum], row.patient_id) for row in val if row.ct_checksum in owners})
    listed = some_of([f"{one} and {other}" for one, other in pairs])
    advice = "the validation knows them from the training; leave one of each two out in step 2 (--patients)"
    return [f"warning: the same slices under two patient IDs: {listed}; {advice}"] if pairs else []


def check_pair(row: StoredSlice, ct_root: Path, lung_root: Path) -> tuple[int, int]:
    """Rows and columns of a slice, whose CT and label are as step 2 wrote them. Raises LungError where they are not."""
    read_slice(lung_root, row, "lung")
    return read_slice(ct_root, row, "ct").shape


def batches(total: int, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The slices of each step of an epoch, shuffled by seed and epoch; a last batch of one joins its neighbour."""
    order = np.random.default_rng((seed, epoch)).permutation(total)
    return np.array_split(order, max(1, round(total / size)))
