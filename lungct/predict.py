"""Lung segmentation with a trained network: from a CT volume or file to a mask, from Python.

B batch, Z slices, H rows, W columns.
"""

import gzip
import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lungct import LungError
from lungct.device import is_out_of_memory, pick_amp, pick_device, to_device
from lungct.files import replace_file
from lungct.masks.sides import doubt_sides, side_columns
from lungct.masks.write import FORMATS, LungMask, kind_of
from lungct.scans.dicom import as_dicom
from lungct.scans.find import open_largest
from lungct.scans.geometry import Frame, Scan, as_in_rows
from lungct.scans.hu import check_hu_range
from lungct.scans.nifti import VOLUME_ENDINGS, has_ending, open_nifti
from lungct.scans.series import SAME_SPACING
from lungct.segmentation.body import Body, find_body
from lungct.segmentation.cleanup import clean_volume
from lungct.segmentation.morphology import all_in_blocks
from lungct.segmentation.near_air import Box, box_near_air, box_of_trunk, reaches_edge
from lungct.slices import clip_ct, pixel_mm
from lungct.weights import SHIPPED, Model, integer_scale, load_weights, scale_hu, see, weights_identity
from UNet_nn import UNet, fold_norms

BATCH = 8
UNSURE_LOGIT = math.log(9)  # nearer to 0 the probability lies between 0.1 and 0.9
UNSURE_BLOCK = 4  # rows and columns that the network sees: more than the edge of a lung, where it is never sure;
UNSURE_STEP = 2  # every second of them is looked at, 4 pixels of 16: 0.1 ms a slice, and 5 with torch's pooling


def for_prediction(network: UNet, device: torch.device, amp: bool) -> UNet:
    """A copy of a network that only predicts, on its device, in bfloat16 where `amp`."""
    return to_device(fold_norms(network), device).to(torch.bfloat16 if amp else torch.float32)


def predict_slices(network: nn.Module, ct_hu: np.ndarray, window_hu: tuple[int, int], zoom: float = 1.0) -> np.ndarray:
    """The network's mask, not cleaned, slice by slice, in its own precision: (Z, H, W) int16 HU to (Z, H, W) bool.

    zoom: the network sees slices with so many times the rows and columns
    """
    return predict_with_doubt(network, ct_hu, window_hu, zoom)[0]


@torch.inference_mode()
def predict_with_doubt(
    network: nn.Module, ct_hu: np.ndarray, window_hu: tuple[int, int], zoom: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """What `predict_slices` gives; which blocks of pixels are unsure, bool (Z, rows, columns).

    A block has UNSURE_BLOCK rows and columns as the network sees them; it is unsure where none of the pixels that
    UNSURE_STEP looks at is sure.
    """
    weight = next(network.parameters())
    lung, unsure = np.empty(ct_hu.shape, bool), []
    for start in range(0, len(ct_hu), BATCH):
        batch = torch.from_numpy(np.require(ct_hu[start : start + BATCH], requirements="CW")).to(weight.device)
        image = scale_hu(batch, window_hu)[:, None]  # (B, 1, H, W)
        raw, logits = see(lambda seen: network(seen.to(weight.dtype, memory_format=torch.channels_last)), image, zoom)
        looked_at = raw[:, 0, ::UNSURE_STEP, ::UNSURE_STEP].abs() < UNSURE_LOGIT
        unsure.append(all_in_blocks(looked_at.cpu().numpy(), UNSURE_BLOCK // UNSURE_STEP))
        lung[start : start + BATCH] = (logits[:, 0] > 0).cpu().numpy()  # logit 0 is a probability of one half
    return lung, np.concatenate(unsure)


@dataclass(frozen=True)
class Segmentation:
    """The lungs of a volume, bool (Z, H, W); where the network was unsure of each slice, (Z,) in cm2; the body."""

    lung: np.ndarray
    unsure_cm2: np.ndarray
    body: Body | None = None


@dataclass(frozen=True)
class Predictor:
    """A network on its device, ready to predict; `card` is what stands in the JSON beside its weights."""

    network: nn.Module
    model: Model
    card: dict
    device: torch.device
    amp: bool  # bfloat16


def load_predictor(weights: Path = SHIPPED, device: str = "auto", amp: str = "auto") -> Predictor:
    """The network of some weights; raises LungError as `load_weights` and `pick_device` do."""
    where = pick_device(device)
    network, model, card = load_weights(weights)
    in_bfloat16 = pick_amp(amp, where)
    return Predictor(for_prediction(network, where, in_bfloat16), model, card, where, in_bfloat16)


@lru_cache(maxsize=1)
def cached_predictor(weights: Path, identity: str, device: str, amp: str) -> Predictor:
    """`load_predictor`, once in a process as long as the `weights_identity` of what is there stays the same."""
    predictor = load_predictor(weights, device, amp)
    if weights_identity(predictor.card) != identity:
        raise LungError(f"{weights}: it or its card changed while scans were predicted; run the same command again")
    return predictor


@cache
def shipped_predictor() -> Predictor:
    """The weights that come with this project, loaded once."""
    return load_predictor()


def segment(
    ct_hu: np.ndarray, spacing_mm: tuple[float, float, float], predictor: Predictor | None = None
) -> np.ndarray:
    """The lungs of a CT volume, cleaned in three dimensions: (Z, H, W) in HU to (Z, H, W) bool.

    spacing_mm: slice, row and column spacing
    predictor:  of `load_predictor`; the shipped weights where there is none

    Slices run from the feet to the head, rows from front to back, as `read_ct` gives them; where rows are reversed,
    masses at the back wall are missed, and some of the heart may be taken in. Warns where the values cannot be HU, and
    where slices seem to be the last axis. Raises LungError for what is not a numeric volume.
    """
    given, ct_hu = ct_hu, as_volume(ct_hu, spacing_mm)
    if has_slices_last(ct_hu.shape, spacing_mm):
        warnings.warn(f"ct_hu {ct_hu.shape} seems to have its slices last: give (slices, rows, columns)", stacklevel=2)
    if fault := check_hu_range(given):
        warnings.warn(f"ct_hu looks like {fault}, not HU: the lungs will be wrong", stacklevel=2)
    return segment_volume(ct_hu, spacing_mm, predictor or shipped_predictor()).lung


def segment_volume(ct_hu: np.ndarray, spacing_mm: tuple[float, float, float], predictor: Predictor) -> Segmentation:
    """What `segment` does with a volume (Z, H, W) int16, clipped, that is known to be in HU.

    Raises MemoryError also where it is the GPU that has none left.
    """
    body = find_body(ct_hu, spacing_mm)
    try:
        lung, unsure_cm2 = predict_in_body(ct_hu, spacing_mm, predictor, body)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise MemoryError from error
        raise
    return Segmentation(clean_volume(lung, ct_hu, spacing_mm, body), unsure_cm2, body)


def predict_in_body(
    ct_hu: np.ndarray, spacing_mm: tuple[float, float, float], predictor: Predictor, body: Body
) -> tuple[np.ndarray, np.ndarray]:
    """The network's mask, not cleaned, (Z, H, W) bool; and the area where it was unsure in each slice, (Z,) cm2.

    It sees a few slices at a time, and of these the rows and columns near air in the body; those of the whole trunk
    where they show no air, or where the lung that it finds does not end in what it saw.
    """
    model, network = predictor.model, predictor.network
    zoom = integer_scale(pixel_mm(spacing_mm), model.pixel_mm)
    multiple = max(1, int(network.multiple / zoom))
    trunk = box_of_trunk(body, ct_hu.shape[1:])
    lung, unsure_blocks = np.zeros(ct_hu.shape, bool), []
    for start in range(0, len(ct_hu), BATCH):
        slices = slice(start, start + BATCH)
        for box in (box_near_air(body, slices, trunk, multiple), trunk):
            part, unsure = predict_with_doubt(network, ct_hu[(slices, *box)], model.window_hu, zoom)
            if not reaches_edge(part, box, trunk):
                break
        lung[(slices, *box)] = part
        unsure_blocks.append(count_in_body(unsure, body, start, box))
    block_cm2 = (UNSURE_BLOCK / zoom) ** 2 * spacing_mm[1] * spacing_mm[2] / 100
    return lung, np.concatenate(unsure_blocks) * block_cm2


def count_in_body(blocks: np.ndarray, body: Body, first: int, box: Box) -> np.ndarray:
    """How many blocks, bool (Z, rows, columns) in equal parts of a box, lie in the body in each slice, (Z,).

    first: the body's slice that is their first
    """
    places = list(np.nonzero(blocks))
    for axis, (part, step) in enumerate(zip(box, body.steps, strict=True), start=1):
        middles = part.start + (places[axis] + 0.5) * (part.stop - part.start) / blocks.shape[axis]
        places[axis] = middles.astype(int) // step
    there = (places[0] + first, *places[1:])
    in_body = body.hull[there] & ~body.open_air[there]
    return np.bincount(places[0][in_body], minlength=len(blocks))


def open_ct(path: Path | str) -> Scan:
    """A CT, its pixels still on disk. Takes and raises what `read_ct` does."""
    path = Path(path).expanduser()
    if path.is_dir():
        return open_largest(path)
    if not path.is_file():
        raise LungError(f"{path} does not exist")
    if not has_ending(path):
        raise LungError(f"{path}: give a {', '.join(VOLUME_ENDINGS)} file, or the folder that holds the DICOM files")
    return open_nifti(path)


def read_ct(path: Path | str) -> tuple[np.ndarray, Frame]:
    """A CT as `segment` takes it: (Z, H, W) int16 in HU, and where it lies (`frame.spacing_mm` in mm).

    path: a NIfTI, MetaImage or NRRD file, or a folder of DICOM files, of which the series with most slices is read

    Slices run from the feet to the head, rows from front to back, columns from the patient's right to the left,
    however they lie in the file. Warns of what is unusual about the files, such as missing slices. Raises LungError
    where there is no CT.
    """
    scan = open_ct(path)
    warn_of(path, scan.warnings)
    return scan.read(), scan.frame


def warn_of(source: Path | str, texts: Iterable[str]) -> None:
    """Python's warnings about a CT, as if its caller's caller gave them."""
    for text in texts:
        warnings.warn(f"{source}: {text}", stacklevel=3)


def segment_file(source: Path | str, target: Path | str, predictor: Predictor | None = None) -> np.ndarray:
    """Segment the lungs of a CT and write the mask on the CT's own grid; returns it, (Z, H, W) bool as `segment` does.

    source: a NIfTI, MetaImage or NRRD file, or a folder of DICOM files, as `read_ct` takes it
    target: the file to write; its ending chooses the format: .nii.gz or .nii (1 is lung), _sides.nii.gz (right lung 1,
            left 2), .seg.nrrd; for a source in DICOM also .seg.dcm, .rtstruct.dcm, and
            _anonymous.seg.dcm, _anonymous.rtstruct.dcm without the patient's name and dates

    The mask is that of model_test.py. Warns where the values cannot be HU, where something is unusual about the CT or
    the mask file, such as missing slices, and where right and left are not certain. Raises LungError where there is no
    CT, for another ending, and where the format cannot hold the mask; then nothing is written.
    """
    target, predictor = Path(target).expanduser(), predictor or shipped_predictor()
    kind = kind_of(target)
    scan = open_ct(source)
    if target.exists() and any(map(target.samefile, scan.files)):
        raise LungError(f"{target} is the CT itself, which its mask would overwrite; give another name")
    warn_of(source, scan.warnings)
    ct_hu, frame = scan.read(), as_in_rows(scan.frame)
    if fault := check_hu_range(ct_hu):
        warnings.warn(f"{source} looks like {fault}, not HU: the lungs will be wrong", stacklevel=2)
    found = segment_volume(clip_ct(ct_hu), frame.spacing_mm, predictor)
    mask = LungMask(found.lung, frame, partial(as_dicom, scan), predictor.card["sha256"], found.unsure_cm2)
    content, flags = FORMATS[kind].encode(mask)
    if content is None:
        raise LungError(f"{target}: {'; '.join(flags)}")
    if kind != "nifti":
        flags += doubt_sides(side_columns(mask.sides), frame.spacing_mm[2], frame.middle)
    warn_of(target, flags)
    replace_file(target, gzip.decompress(content) if target.suffix.lower() == ".nii" else content)
    return found.lung


def has_slices_last(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> bool:
    """Whether the first two axes look like a slice, square with square pixels, and the last two do not, as in nibabel.

    Of a cube it cannot be told.
    """

    def is_square(a: int, b: int) -> bool:
        return shape[a] == shape[b] and math.isclose(spacing_mm[a], spacing_mm[b], rel_tol=SAME_SPACING)

    return is_square(0, 1) and not is_square(1, 2)


def as_volume(ct_hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """A volume as the network takes it, int16 (Z, H, W), clipped as step 4 stores it: padding becomes air.

    Raises LungError where it is not a volume of numbers, or a spacing is not positive.
    """
    if len(spacing_mm) != 3 or not all(0 < mm < math.inf for mm in spacing_mm):
        raise LungError(f"spacing_mm = {spacing_mm}: give slice, row and column spacing in mm")
    if ct_hu.ndim != 3 or not ct_hu.size or ct_hu.dtype.kind not in "iuf":
        raise LungError(f"{ct_hu.dtype} {ct_hu.shape}: give a volume in HU, (slices, rows, columns)")
    if ct_hu.dtype == np.int16:
        return clip_ct(ct_hu)
    if not np.isfinite(ct_hu).all():
        raise LungError("the volume holds NaN or infinity; np.nan_to_num(ct_hu, nan=-1024) makes them air")
    return clip_ct(np.rint(ct_hu))
