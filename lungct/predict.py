"""Weights and a volume to lungs; and what training shares with it: device, precision, window.

B batch, Z slices, H rows, W columns.
"""

import hashlib
import json
import pickle
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import cc3d
import fill_voids
import numpy as np
import torch
from torch import Tensor, nn

from lungct import LungError
from UNet_nn import UNet
from utils import find_body

BATCH = 8
SMALLEST_SHARE = 0.05  # of the largest piece of lung; smaller pieces are bowel gas, noise and the like
GAS_SHARE = 0.3
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


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
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
        if not file.is_file():
            raise LungError(f"no {file}; train first: python Lung_segmentation.py")
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
    except (RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise LungError(f"{path}: damaged, or not a file of tensors alone ({type(error).__name__})") from error


@torch.inference_mode()
def predict_slices(network: nn.Module, ct_hu: np.ndarray, window_hu: tuple[int, int], device: torch.device, amp: bool):
    """The network's own answer, slice by slice: (Z, H, W) int16 HU to (Z, H, W) bool."""
    lung = np.empty(ct_hu.shape, bool)
    for start in range(0, len(ct_hu), BATCH):
        batch = torch.from_numpy(np.ascontiguousarray(ct_hu[start : start + BATCH])).to(device)
        image = normalise(batch, window_hu)[:, None].to(memory_format=torch.channels_last)  # (B, 1, H, W)
        with torch.autocast(device.type, torch.bfloat16, enabled=amp):
            logits = network(image)
        lung[start : start + BATCH] = (logits[:, 0] > 0).cpu().numpy()  # logit 0 is a probability of one half
    return lung


def clean_volume(lung: np.ndarray, ct_hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Keep what can be lung of a predicted volume (Z, H, W), and fill what it encloses on all sides.

    Out: open air, small pieces, pieces beside the trunk (table, blanket), and pieces of pure air that are much
    smaller than a lung (stomach and bowel).
    """
    if not lung.any():
        return lung
    open_air, hull = find_body(ct_hu, spacing_mm)
    label = cc3d.connected_components(lung & ~open_air, connectivity=6)
    size = np.bincount(label.ravel())
    inside = np.bincount(label.ravel(), weights=hull.ravel())
    size[0], size[inside < size / 2] = 0, 0
    keep = size >= max(1, SMALLEST_SHARE * size.max())
    for number in np.flatnonzero(keep & (size < GAS_SHARE * size.max())):
        keep[number] = np.median(ct_hu[label == number]) > PURE_AIR_HU
    return fill_voids.fill(keep[label])
