"""Network, optimiser and data of one training: its steps, its validation, its state.

B batch, H rows, W columns.
"""

import copy
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

from lungct import LungError
from lungct.device import to_device
from lungct.training.augment import augment
from lungct.training.data import P_THICK_SLICE, SliceSet, batches
from lungct.training.distributed import Team, share_norms
from lungct.training.loss import count_overlap, lung_loss
from lungct.weights import Model, normalise, read_torch

MAX_NON_FINITE_STEPS = 10  # non-finite losses in a row
EMA_DECAY = 0.99  # of the averaged weights, a step: they are those of about the last hundred steps


@dataclass(frozen=True)
class TrainSettings:
    """What step 3 uses. Raises LungError for a window without width."""

    lung_ct_path: Path
    lung_image_path: Path
    run_path: Path
    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    validation_share: float
    clip_norm: float
    augment: bool
    width: int
    depth: int
    patch: int
    window_low_hu: int
    window_high_hu: int
    seed: int
    device: str
    amp: str

    def __post_init__(self) -> None:
        if self.window_low_hu >= self.window_high_hu:
            window = f"window_low_hu = {self.window_low_hu}, window_high_hu = {self.window_high_hu}"
            raise LungError(f"{window}: the first must be the lower one")


@dataclass
class Progress:
    """What a resumed training must know besides weights and optimiser."""

    epoch: int = 0
    best_dice: float = -1.0
    best_epoch: int = 0
    amp: bool = False
    history: list[dict] = field(default_factory=list)


class Trainer:
    """Network, optimiser and data of one training.

    `ema` follows the network's weights (Polyak and Juditsky, SIAM J Control Optim 30 (1992) 838-855, here
    exponentially). It is what is validated and kept: a step at a high learning rate does not show in it.
    """

    def __init__(
        self, settings: TrainSettings, model: Model, train: SliceSet, val: SliceSet, device: torch.device, team: Team
    ):
        self.settings, self.model, self.train_set, self.val_set = settings, model, train, val
        self.device, self.team, self.progress = device, team, Progress()
        torch.manual_seed(settings.seed)
        network = model.build()
        self.network = to_device(share_norms(network) if team.size > 1 else network, device)
        self.ema = copy.deepcopy(self.network)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), fused=True)
        self.wrapped: nn.Module = self.network
        if team.size > 1:
            self.wrapped = DistributedDataParallel(self.network)
        self.steps_per_epoch = len(batches(len(train), settings.batch_size, 0, 0))
        self.non_finite_steps = torch.zeros((), device=device)  # in a row

    @property
    def precision(self) -> torch.dtype:
        """In which the network computes; autocast alone would cast the image in every layer that sees it."""
        return torch.bfloat16 if self.progress.amp else torch.float32

    def make_batch(self, numbers: np.ndarray, seed: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """A batch as it reaches the network and the loss: CT in [-1, 1] and target 0 or 1, (B, 1, H, W).

        The seed says how it is varied: in a team each varies the whole batch, so that all draw as one would.
        """
        if self.settings.augment:
            rng = np.random.default_rng(seed)
            thick = rng.random(len(numbers)) < P_THICK_SLICE
            ct_hu, target = self.train_set.batch(numbers, self.device, thick)
            ct_hu, target = augment(ct_hu, target, torch.Generator().manual_seed(int(rng.integers(2**63))))
        else:
            ct_hu, target = self.train_set.batch(numbers, self.device)
        return normalise(ct_hu, self.model.window_hu).contiguous(memory_format=torch.channels_last), target

    def step(self, image: Tensor, target: Tensor, number: int) -> Tensor:
        """One update by a whole batch, of which each of a team takes its share; returns the loss of all.

        NaN where the step was skipped. Nothing here waits for the device.
        """
        own, own_target = self.team.share(image), self.team.share(target)
        steps = self.settings.epochs * self.steps_per_epoch
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(number, steps, self.settings.learning_rate)
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.progress.amp):
            logits = self.wrapped(own.to(self.precision))
        loss = lung_loss(logits, own_target, len(own) / len(image))
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip_norm)
        non_finite = ~torch.isfinite(norm)
        self.optimiser.found_inf = (
            non_finite.float()
        )  # as a GradScaler does: a fused optimiser leaves all as it is at 1
        self.optimiser.step()
        self.update_ema(number)
        self.non_finite_steps = torch.where(non_finite, self.non_finite_steps + 1, 0)
        return torch.where(non_finite, torch.nan, loss.detach())

    @torch.no_grad()
    def update_ema(self, number: int) -> None:
        """Draw the averaged weights and running statistics after the network's; quicker in the first steps."""
        pairs = list(zip(self.ema.state_dict().values(), self.network.state_dict().values(), strict=True))
        means, weights = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
        decay = min(EMA_DECAY, (1 + number) / (10 + number))
        get_ema_multi_avg_fn(decay)(list(means), list(weights), None)
        for count, now in (pair for pair in pairs if not pair[0].is_floating_point()):
            count.copy_(now)

    def train_epoch(self) -> tuple[float, int]:
        """(mean loss, steps skipped) over the training slices."""
        self.wrapped.train()
        epoch, losses = self.progress.epoch, []
        todo = batches(len(self.train_set), self.settings.batch_size, self.settings.seed, epoch)
        bar = tqdm(todo, desc=f"epoch {epoch + 1}", leave=False, disable=not self.team.leads)
        for number, numbers in enumerate(bar):
            image, target = self.make_batch(numbers, (self.settings.seed, epoch, number))
            total = epoch * self.steps_per_epoch + number
            losses.append(self.step(image, target, total))
            if total % MAX_NON_FINITE_STEPS == 0 and self.non_finite_steps >= MAX_NON_FINITE_STEPS:
                raise LungError(
                    f"{MAX_NON_FINITE_STEPS} losses in a row were not finite; lower --learning-rate or --amp off"
                )
        losses = torch.stack(losses).cpu()
        good = torch.isfinite(losses)
        return float(losses[good].mean()) if good.any() else math.nan, int((~good).sum())

    @torch.inference_mode()
    def validate(self) -> tuple[float, float, float]:
        """(loss, Dice, Dice of the worst slice with lung) over the validation slices, not varied.

        Dice is of all slices together: of an empty slice alone it would be 0 or 1 by a single pixel.
        """
        self.ema.eval()
        losses, counts, with_lung = [], [], []
        for numbers in np.array_split(np.arange(len(self.val_set)), -(-len(self.val_set) // self.settings.batch_size)):
            ct_hu, target = self.val_set.batch(numbers, self.device)
            image = normalise(ct_hu, self.model.window_hu).contiguous(memory_format=torch.channels_last)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.progress.amp):
                logits = self.ema(image.to(self.precision))
            losses.append(float(lung_loss(logits, target)) * len(numbers))
            counts.append(count_overlap(logits > 0, target > 0.5).cpu())
            with_lung.append((target > 0.5).flatten(1).any(1).cpu())
        both, sizes = torch.cat(counts).double().T
        by_slice = (2 * both / sizes.clamp(min=1))[torch.cat(with_lung)]
        dice = float(2 * both.sum() / sizes.sum().clamp(min=1))
        return sum(losses) / len(self.val_set), dice, float(by_slice.min()) if len(by_slice) else math.nan

    def halve_batch(self) -> None:
        """Where the device's decay did not do: the epoch starts again with half the slices a step."""
        size = self.settings.batch_size // 2
        if self.team.size > 1:  # the others wait for this one's sums
            raise LungError(f"out of decay with {self.settings.batch_size} slices a step; lower --batch-size")
        if not size:
            raise LungError("out of decay even with one slice a step; take a smaller --width, or --device cpu")
        print(f"out of decay: batch_size {self.settings.batch_size} -> {size}; the epoch starts again")
        self.settings = replace(self.settings, batch_size=size)
        self.steps_per_epoch = len(batches(len(self.train_set), size, 0, 0))
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def state(self) -> dict:
        """All that a checkpoint holds."""
        return {
            "network": self.network.state_dict(),
            "average": self.ema.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "progress": vars(self.progress),
        }

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint. Raises LungError where it is damaged or of another network."""
        try:
            state = read_torch(path, self.device)
            self.network.load_state_dict(state["network"])
            self.ema.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.progress = Progress(**state["progress"])
        except (LungError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise LungError(
                f"{path}: not a checkpoint of this training ({reason}); start again with --fresh"
            ) from error


WARM_UP = 0.15  # share of the steps before the learning rate is at its peak
LAST_RATE = 0.01  # of the peak, at the end


def learning_rate(step: int, steps: int, peak: float) -> float:
    """One cycle: up along a cosine, down along a longer one."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return peak * (LAST_RATE + (1 - LAST_RATE) * (1 - math.cos(math.pi * step / warm)) / 2)
    part = (step - warm) / max(1, steps - warm)
    return peak * (LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * part)) / 2)
