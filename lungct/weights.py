"""A trained network on disk: weights, and the card that describes them; how it sees a slice: HU window, scale."""

import hashlib
import json
import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from lungct import LungError
from lungct.files import fingerprint, replace_file
from lungct.parallel import count
from UNet_nn import UNet

BY_FILE = "named_by_file"  # in a card: patients who may go by another name in DICOM
SHIPPED = Path(__file__).parent.parent / "weights" / "lung_unet.pth"


@dataclass(frozen=True)
class Model:
    """The shape of a network and the window that it was trained with; stored beside the weights."""

    width: int
    depth: int
    patch: int
    normalise: bool
    window_hu: tuple[int, int]
    pixel_mm: float  # median pixel of the first training's slices; much finer or coarser ones are resized to it

    def build(self) -> UNet:
        return UNet(width=self.width, depth=self.depth, patch=self.patch, normalise=self.normalise)


def scale_hu(ct_hu: Tensor, window_hu: tuple[int, int]) -> Tensor:
    """HU to float32 in [-1, 1] by one fixed window, the same for every slice and every step."""
    low, high = window_hu
    return (ct_hu.float() - low).mul_(2 / (high - low)).sub_(1).clamp_(-1, 1)


def integer_scale(pixel_mm: float, model_mm: float) -> float:
    """The factor 1, 2, 3... or 1/2, 1/3... that brings pixels nearest to those that a network was trained with."""
    ratio = pixel_mm / model_mm
    return float(round(ratio)) if ratio > 1 else 1 / round(1 / ratio)


def resize(images: Tensor, shape: Sequence[int]) -> Tensor:
    """Images (B, C, H, W) of floats with other rows and columns."""
    return F.interpolate(images, tuple(shape), mode="bilinear", antialias=True)


def see(network: Callable[[Tensor], Tensor], image: Tensor, zoom: float) -> tuple[Tensor, Tensor]:
    """What a network says of an image that it sees `zoom` times as large: (logits as it gives them, of each pixel).

    image: (B, 1, H, W), as `scale_hu` gives it. Validation of step 3 and prediction of step 5 come here, so that one
    measures the other.
    """
    if zoom == 1:
        logits = network(image)
        return logits, logits
    shape = image.shape[-2:]
    logits = network(resize(image, zoomed(shape, zoom)))
    return logits, resize(logits.float(), shape)


def zoomed(shape: Sequence[int], zoom: float) -> tuple[int, ...]:
    """Rows and columns of a slice that is `zoom` times as large."""
    return tuple(round(zoom * n) for n in shape)


def choose_weights(path: Path, default: Path) -> Path:
    """The user's weights; the shipped ones where the user has trained none and named none. Raises LungError."""
    if path.is_file():
        return path
    if path.exists():
        raise LungError(f"{path} is a folder; give the .pth file in it")
    if path.resolve() != default.resolve():
        raise LungError(f"no {path}; give a file that is there, or leave weights_path out to use the shipped weights")
    if folds := sorted(path.parent.glob(f"fold_*/{path.name}")):
        raise LungError(f"no {path}, but {count(len(folds), 'fold')}; say which: --weights-path {folds[0]}")
    print(f"no {path} yet: predicting with the shipped weights/{SHIPPED.name}; see weights/MODEL_CARD.md")
    return SHIPPED


def seen_in_training(card: dict, patient_id: str, series_uid: str) -> str:
    """Whether a patient took part in the training: no, train or val; unknown where a file's name stands for a patient.

    series_uid: of DICOM, which names the patient; empty for a volume
    """
    known = card.get("patients", {})
    parts = [part for part in ("train", "val") if patient_id in known.get(part, ())]
    return parts[0] if parts else "no" if series_uid and not known.get(BY_FILE) else "unknown"


def all_who_took_part(
    split: dict[str, list[str]], first_card: dict, by_file: Iterable[str] = ()
) -> dict[str, list[str]]:
    """Patient IDs by part, `train` and `val`, of a training and of those that made the weights that it started from.

    split: of this training alone; first_card: of the weights that it started from, empty where there are none
    by_file: patients of this training who are known by the name of a volume's file alone

    Whom any of them has learned from is in `train`, whatever the others did. Where there are any whom a file's name
    stands for, they are in BY_FILE as well.
    """
    first = first_card.get("patients", {})
    train = {*split["train"], *first.get("train", ())}
    found = {"train": sorted(train), "val": sorted({*split["val"], *first.get("val", ())} - train)}
    volumes = {*by_file, *first.get(BY_FILE, ())}
    return {**found, BY_FILE: sorted(volumes)} if volumes else found


def require_file(path: Path) -> None:
    """Raises LungError where a file of a training is missing."""
    if not path.is_file():
        raise LungError(f"no {path}; train first: python Lung_segmentation.py")


def checksum(path: Path) -> str:
    """SHA-256 of a file. Raises LungError where it is missing."""
    require_file(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weights_identity(card: dict) -> str:
    """Sixteen hexadecimal digits that change with the weights, and with what their card says of model and patients."""
    return fingerprint(card["sha256"], card["model"], card.get("patients"))


def describe_weights(path: Path, sha256: str) -> str:
    """Which weights are used: their file, the beginning of their SHA-256, and when that file was written."""
    return f"weights {path} ({sha256[:12]}, of {datetime.fromtimestamp(path.stat().st_mtime):%Y-%m-%d %H:%M})"


def model_card(model: Model, **more) -> dict:
    """What stands in the JSON beside the weights."""
    return {"model": asdict(model), **more}


def write_card(path: Path, card: dict) -> None:
    """Put a card beside its weights. Raises LungError where the disk does not take it."""
    replace_file(path.with_suffix(".json"), json.dumps(card, indent=1).encode())


def read_card(path: Path) -> tuple[Model, dict]:
    """(model, card) of some weights. Raises LungError where a file is missing, or the card not theirs or damaged."""
    card_path = path.with_suffix(".json")
    require_file(path)
    if not card_path.is_file():
        raise LungError(f"no {card_path} beside {path.name}; only weights that Lung_segmentation.py saved can be used")
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        model = Model(**{**card["model"], "window_hu": tuple(card["model"]["window_hu"])})
    except (ValueError, KeyError, TypeError) as error:
        raise LungError(f"{card_path}: not written by Lung_segmentation.py, or damaged ({error})") from error
    if card.get("sha256") != checksum(path):
        raise LungError(f"{path}: not the weights that {card_path.name} describes (checksum); train again")
    return model, card


def load_weights(path: Path) -> tuple[UNet, Model, dict]:
    """(network on the CPU, its model, its card) from a bare state_dict and the JSON beside it.

    Nothing in the file is run (`weights_only`). Raises LungError where one is missing, damaged or not the other's.
    """
    model, card = read_card(path)
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
