"""Weights and a volume to lungs; and what training shares with it: device, precision, window.

B batch, Z slices, H rows, W columns.
"""

import hashlib
import json
import math
import pickle
import time
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path

import cc3d
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lungct import LungError
from lungct.body import AIR_HU, Body, find_body
from lungct.masks import bounding_box, count_labels, enlarge, fill_slices, fill_volume, fine_box
from lungct.slices import pixel_mm
from UNet_nn import UNet, fold_norms
from utils import HOLE_MM2

SHIPPED = Path(__file__).parent.parent / "weights" / "lung_unet.pth"
BATCH = 8
SMALLEST_SHARE = 0.05  # of the largest piece of lung; smaller pieces are bowel gas, noise and the like
GAS_SHARE = 0.3
TRUNK_MARGIN_MM = 20  # around the trunk; a lung that the field of view cuts may reach so far beyond it
GRID_MM = 3.2  # coarse enough to be quick, and fine enough to tell the trunk from what lies around it
PURE_AIR_HU = -950  # no lung has a median like this
TRIAL_RUNS = 5


@dataclass(frozen=True)
class Model:
    """The shape of a network and the window that it was trained with; stored beside the weights."""

    width: int
    depth: int
    patch: int
    normalise: bool
    window_hu: tuple[int, int]
    pixel_mm: float  # median pixel of the training slices; slices of much finer or coarser ones are resized to it

    def build(self) -> UNet:
        return UNet(width=self.width, depth=self.depth, patch=self.patch, normalise=self.normalise)


def pick_device(name: str) -> torch.device:
    """'auto' is CUDA, else Apple's MPS, else the CPU. Raises LungError for one that this machine lacks."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, found in there.items() if found))
    if not there.get(name.split(":")[0], False):
        found = ", ".join(kind for kind, found in there.items() if found)
        raise LungError(f"--device {name}: not on this machine; there is {found}")
    return torch.device(name)


def pick_amp(choice: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16. 'auto' on a CPU tries it: only some have units that make it faster."""
    if choice in ("on", "off"):
        return choice == "on"
    if choice != "auto":
        raise LungError(f"amp = {choice}: choose on, off or auto")
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and _trial_ms(torch.bfloat16) < 0.8 * _trial_ms(torch.float32)


def _trial_ms(dtype: torch.dtype) -> float:
    """The quickest of a few convolutions like the network's, in milliseconds."""
    layer = nn.Conv2d(64, 64, 3, padding=1).to(dtype=dtype, memory_format=torch.channels_last)
    image = torch.zeros(4, 64, 64, 64, dtype=dtype).to(memory_format=torch.channels_last)
    times = []
    with torch.inference_mode():
        for _ in range(TRIAL_RUNS):
            start = time.perf_counter()
            layer(image)
            times.append(time.perf_counter() - start)
    return min(times) * 1e3


def normalise(ct_hu: Tensor, window_hu: tuple[int, int]) -> Tensor:
    """HU to float32 in [-1, 1] by one fixed window, the same for every slice and every step."""
    low, high = window_hu
    return ((ct_hu.float() - low) * (2 / (high - low)) - 1).clamp_(-1, 1)


def to_device(network: nn.Module, device: torch.device) -> nn.Module:
    """The network on a device, in the memory order in which its convolutions are fastest."""
    return network.to(device, memory_format=torch.channels_last)


def must_be_there(path: Path) -> None:
    """Raises LungError where a file of a training is missing."""
    if not path.is_file():
        raise LungError(f"no {path}; train first: python Lung_segmentation.py")


def checksum(path: Path) -> str:
    """SHA-256 of a file. Raises LungError where it is missing."""
    must_be_there(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def model_card(model: Model, **more) -> dict:
    """What stands in the JSON beside the weights."""
    return {"model": asdict(model), **more}


def load_weights(path: Path) -> tuple[UNet, Model, dict]:
    """(network on the CPU, its model, its card) from a bare state_dict and the JSON beside it.

    Nothing in the file is run (`weights_only`). Raises LungError where one is missing, damaged or not the other's.
    """
    card_path = path.with_suffix(".json")
    for file in (path, card_path):
        must_be_there(file)
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        model = Model(**{**card["model"], "window_hu": tuple(card["model"]["window_hu"])})
    except (ValueError, KeyError, TypeError) as error:
        raise LungError(f"{card_path}: not the description of a network of ours ({error})") from error
    if card.get("sha256") != checksum(path):
        raise LungError(f"{path}: not the weights that {card_path.name} describes (checksum); train again")
    network = model.build()
    try:
        network.load_state_dict(read_torch(path, torch.device("cpu")))
    except (RuntimeError, TypeError, AttributeError) as error:
        raise LungError(f"{path}: no weights of this network ({str(error).splitlines()[0]})") from error
    return network.eval(), model, card


def read_torch(path: Path, device: torch.device) -> dict:
    """Tensors from a .pth file; code in it is not run. Raises LungError where it is damaged or holds more."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise LungError(f"{path}: damaged, or not a file of tensors alone ({type(error).__name__})") from error


def for_prediction(network: UNet, device: torch.device, amp: bool) -> UNet:
    """A copy of a network that only predicts, on its device, in bfloat16 where `amp`."""
    return to_device(fold_norms(network), device).to(torch.bfloat16 if amp else torch.float32)


def whole_zoom(pixel_mm: float, model_mm: float) -> float:
    """The factor 1, 2, 3... or 1/2, 1/3... that brings pixels nearest to those that a network was trained with."""
    ratio = pixel_mm / model_mm
    return float(round(ratio)) if ratio > 1 else 1 / round(1 / ratio)


@torch.inference_mode()
def predict_slices(network: nn.Module, ct_hu: np.ndarray, window_hu: tuple[int, int], zoom: float = 1.0) -> np.ndarray:
    """The network's own answer, slice by slice, in its own precision: (Z, H, W) int16 HU to (Z, H, W) bool.

    zoom: the network sees slices with so many times the rows and columns
    """
    weight = next(network.parameters())
    shape = ct_hu.shape[1:]
    seen = [round(zoom * n) for n in shape]
    lung = np.empty(ct_hu.shape, bool)
    for start in range(0, len(ct_hu), BATCH):
        batch = torch.from_numpy(np.ascontiguousarray(ct_hu[start : start + BATCH])).to(weight.device)
        image = normalise(batch, window_hu)[:, None]  # (B, 1, H, W)
        if zoom != 1:
            image = F.interpolate(image, seen, mode="bilinear", antialias=True)
        logits = network(image.to(weight.dtype, memory_format=torch.channels_last))
        if zoom != 1:
            logits = F.interpolate(logits.float(), shape, mode="bilinear", antialias=True)
        lung[start : start + BATCH] = (logits[:, 0] > 0).cpu().numpy()  # logit 0 is a probability of one half
    return lung


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
def same_predictor(weights: Path, sha256: str, device: str, amp: str) -> Predictor:
    """`load_predictor`, once in a process as long as the weights' checksum stays the same."""
    predictor = load_predictor(weights, device, amp)
    if predictor.card["sha256"] != sha256:
        raise LungError(f"{weights}: was trained again while scans were predicted; run the same command again")
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

    Rows may run to the back or to the front, slices to the head or to the feet. The network sees the rows and
    columns of the trunk alone: there is no lung elsewhere. Raises LungError for what is no volume of numbers.
    """
    predictor = predictor or shipped_predictor()
    ct_hu = as_volume(ct_hu, spacing_mm)
    body = find_body(ct_hu, spacing_mm, GRID_MM)
    trunk = (slice(None), *fine_box(bounding_box(body.hull, body.spacing_mm, TRUNK_MARGIN_MM), body.steps)[1:])
    zoom = whole_zoom(pixel_mm(spacing_mm), predictor.model.pixel_mm)
    lung = np.zeros(ct_hu.shape, bool)
    lung[trunk] = predict_slices(predictor.network, ct_hu[trunk], predictor.model.window_hu, zoom)
    return clean_volume(lung, ct_hu, spacing_mm, body)


def as_volume(ct_hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """A volume as the network takes it, int16 (Z, H, W). Raises LungError where it or its spacing is none."""
    if len(spacing_mm) != 3 or not all(0 < mm < math.inf for mm in spacing_mm):
        raise LungError(f"spacing_mm = {spacing_mm}: give slice, row and column spacing in mm")
    if ct_hu.ndim != 3 or not ct_hu.size or ct_hu.dtype.kind not in "iuf":
        raise LungError(f"{ct_hu.dtype} {ct_hu.shape}: give a volume in HU, (slices, rows, columns)")
    if ct_hu.dtype == np.int16:
        return ct_hu
    if not np.isfinite(ct_hu).all():
        raise LungError("the volume holds NaN or infinity; np.nan_to_num(ct_hu, nan=-1024) makes them air")
    return np.clip(np.rint(ct_hu), -32768, 32767).astype(np.int16)


def clean_volume(lung: np.ndarray, ct_hu: np.ndarray, spacing_mm: tuple[float, float, float], body: Body) -> np.ndarray:
    """Keep what can be lung of a predicted volume (Z, H, W), and fill what it encloses.

    Out: the air of the room, small pieces, pieces beside the trunk (table, blanket), and pieces of pure air that are
    much smaller than a lung (stomach and bowel). In: a hole in a slice as small as a nodule, any hole on all sides.
    """
    rows, cols = body.steps
    clean = np.zeros(lung.shape, bool)
    sample = lung[:, ::rows, ::cols]  # a pixel of each block tells well enough where a piece lies
    if not sample.any():
        return clean
    coarse = bounding_box(sample, body.spacing_mm, margin_mm=0)
    fine = fine_box(coarse, body.steps)
    lung, ct_hu = lung[fine], ct_hu[fine]
    like_lung = (body.coarse_hu[coarse] > PURE_AIR_HU) & (body.coarse_hu[coarse] < AIR_HU)
    room = body.open_air[coarse] & ~like_lung  # a lung that the field of view cuts is open to its frame, too
    label = cc3d.connected_components(lung & ~enlarge(room, body.steps, lung.shape), connectivity=6)
    size = count_labels(label)
    size[0] = 0
    sample = label[:, ::rows, ::cols]
    inside, sampled = (np.bincount(part.ravel(), minlength=len(size)) for part in (sample[body.hull[coarse]], sample))
    size[2 * inside < sampled] = 0
    keep = size >= max(1, SMALLEST_SHARE * size.max())
    for number in np.flatnonzero(keep & (size < GAS_SHARE * size.max())):
        keep[number] = np.median(ct_hu[label == number]) > PURE_AIR_HU
    clean[fine] = fill_volume(fill_slices(keep[label], HOLE_MM2, spacing_mm[1] * spacing_mm[2]))
    return clean
