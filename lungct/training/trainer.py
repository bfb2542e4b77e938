"""Network, optimiser and data of one training: its steps, its validation, its state.

B batch, H rows, W columns.
"""

import copy
import gc
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from lungct import LungError
from lungct.device import free_cached_memory, pinned, send, to_device
from lungct.training.augment import augment
from lungct.training.data import P_THICK_SLICE, SliceSet, batches
from lungct.training.distributed import Processes, distribute
from lungct.training.history import EpochRow
from lungct.training.loss import count_overlap, lung_loss
from lungct.training.read_ahead import read_ahead
from lungct.training.split import SplitOptions
from lungct.weights import Model, scale_hu, see

MAX_NON_FINITE_STEPS = 10  # skipped steps in a row that end the training
EMA_DECAY = 0.99  # a step: the averaged weights are those of about the last hundred steps
MAX_READERS = 4  # threads that read and paint slices while a GPU computes


@dataclass(frozen=True)
class TrainSettings:
    """What step 3 uses. Raises LungError for a window without width, and for folds that cannot be."""

    lung_ct_path: Path
    lung_image_path: Path
    run_path: Path
    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    validation_share: float
    folds: int
    fold: int
    train_patients: int
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
        self.split_options()

    @property
    def run_folder(self) -> Path:
        """Where this training writes: each fold has a folder of its own, so that none takes another's place."""
        return self.fold_folder(self.fold) if self.folds else self.run_path

    def fold_folder(self, fold: int) -> Path:
        """Where the training of a fold writes."""
        return self.run_path / f"fold_{fold}"

    def split_options(self, seen: frozenset[str] = frozenset()) -> SplitOptions:
        """How the patients are split; seen: as `SplitOptions` has it."""
        return SplitOptions(self.validation_share, self.seed, self.folds, self.fold, self.train_patients, seen)


@dataclass
class Progress:
    """What a resumed training must know besides weights and optimiser."""

    epoch: int = 0
    best_dice: float = -1.0
    best_epoch: int = 0
    amp: bool = False
    history: list[EpochRow] = field(default_factory=list)

    def is_over(self, settings: TrainSettings) -> bool:
        """Whether nothing is left to train: all epochs are done, or the last ones gained nothing."""
        return self.epoch >= settings.epochs or self.epoch - self.best_epoch >= settings.patience

    @classmethod
    def from_state(cls, state: dict) -> "Progress":
        """From what `asdict` made of one, as a checkpoint holds it."""
        return cls(**{**state, "history": [EpochRow(**row) for row in state["history"]]})


class Trainer:
    """Network, optimiser and data of one training.

    `ema` is the exponential moving average of the network's weights and running statistics (after Polyak and
    Juditsky, SIAM J Control Optim 30 (1992) 838-855). It is what is validated and kept: it does not show the noise of
    single steps at a high learning rate.
    """

    def __init__(
        self,
        settings: TrainSettings,
        model: Model,
        train: SliceSet,
        val: SliceSet,
        device: torch.device,
        processes: Processes,
        made_from: dict | None = None,
    ):
        self.made_from = made_from  # as `training_input` gives it; the checkpoint holds it
        self.settings, self.model, self.train_set, self.val_set = settings, model, train, val
        self.device, self.processes, self.progress = device, processes, Progress()
        torch.manual_seed(settings.seed)
        self.network = to_device(model.build(), device)
        self.ema = copy.deepcopy(self.network).eval()
        self.wrapped = distribute(self.network, device) if processes.world_size > 1 else self.network
        self.optimiser = torch.optim.AdamW(self.network.parameters(), fused=True)
        self.steps_per_epoch = len(batches(len(train), settings.batch_size, 0, 0))
        self.readers = 0 if device.type == "cpu" else min(MAX_READERS, os.cpu_count() or 1)
        self.non_finite_steps = torch.zeros((), device=device)  # in a row

    @property
    def precision(self) -> torch.dtype:
        """The image's type; in float32, autocast would cast it again in every layer that sees it."""
        return torch.bfloat16 if self.progress.amp else torch.float32

    def make_batch(self, numbers: np.ndarray, seed: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Slices as they reach the network and the loss: CT in [-1, 1] and target 0 or 1, (B, 1, H, W).

        The seed decides how they are augmented.
        """
        return self.finish_batch(*self.read_batch(numbers, seed))

    def read_batch(self, numbers: np.ndarray, seed: tuple[int, ...]) -> tuple[Tensor, Tensor, np.random.Generator]:
        """What of a batch is made on the CPU: HU int16 and lung uint8, (B, H, W), and what decides on the rest."""
        rng = np.random.default_rng(seed)
        varied = (rng.random(len(numbers)) < P_THICK_SLICE, rng) if self.settings.augment else ()
        ct_hu, lung = self.train_set.read(numbers, *varied, resized=True)
        return pinned(ct_hu, self.device), pinned(lung, self.device), rng

    def finish_batch(self, ct_hu: Tensor, lung: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The rest, on the device; nothing here and in `step` makes the CPU wait for a GPU."""
        ct_hu, lung = send(ct_hu, self.device), send(lung, self.device)
        if self.settings.augment:
            ct_hu, target = augment(ct_hu, lung, rng)
        else:
            ct_hu, target = ct_hu[:, None], lung[:, None].float()
        return scale_hu(ct_hu, self.model.window_hu).contiguous(memory_format=torch.channels_last), target

    def step(self, image: Tensor, target: Tensor, number: int, weight: float = 1.0) -> Tensor:
        """One update by this process's share of a batch; returns `weight` times its loss, NaN for a skipped step.

        weight: the slices of this share over the mean of all shares; DistributedDataParallel averages the gradients
            of unequal shares as if they were equal, and the weights make that the mean over the batch's slices
        A step whose gradient is not finite is skipped: weights, optimiser, running statistics and average stay as
        they were. All processes have the same gradient, hence skip the same steps.
        """
        steps = self.settings.epochs * self.steps_per_epoch
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(number, steps, self.settings.learning_rate)
        self.optimiser.zero_grad(set_to_none=True)
        before = flatten(self.network.buffers())
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.progress.amp):
            logits = self.wrapped(image.to(self.precision))
        loss = weight * lung_loss(logits, target)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip_norm)
        skipped = ~torch.isfinite(norm)  # a tensor: to ask for its value would make the CPU wait for the GPU
        self.update_weights(skipped)
        restore_buffers(self.network, before, skipped)
        self.update_ema(number, skipped)
        self.non_finite_steps = torch.where(skipped, self.non_finite_steps + 1, 0)
        return torch.where(skipped, torch.nan, loss.detach())

    def update_weights(self, skipped: Tensor) -> None:
        """One step of the optimiser, which leaves weights and its own state as they are where `skipped`."""
        if self.device.type == "mps":  # where fused AdamW ignores `found_inf`: wait for the device, and do not call it
            if not skipped:
                self.optimiser.step()
            return
        self.optimiser.found_inf = (
            skipped.float()
        )  # torch's switch, made for GradScaler: at 1 a fused step does nothing
        self.optimiser.step()

    @torch.no_grad()
    def update_ema(self, number: int, skipped: Tensor) -> None:
        """Move the average a little towards the network, further in the first steps, not at all where `skipped`."""
        weight = torch.where(skipped, 0.0, 1 - min(EMA_DECAY, (1 + number) / (10 + number)))
        pairs = list(zip(self.ema.state_dict().values(), self.network.state_dict().values(), strict=True))
        averages, now = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
        torch._foreach_lerp_(averages, now, [weight] * len(now))
        torch._foreach_copy_(*zip(*(pair for pair in pairs if not pair[0].is_floating_point()), strict=True))

    def deal(self, epoch: int) -> tuple[list[tuple], list[float]]:
        """For each step of an epoch what `read_batch` and `step` need: (slices of this process, seed), and weight."""
        todo = batches(len(self.train_set), self.settings.batch_size, self.settings.seed, epoch)
        own = [self.processes.share(numbers) for numbers in todo]
        more_seed = (self.processes.rank,) if self.processes.rank else ()  # rank 0 draws as a single process does
        jobs = [(numbers, (self.settings.seed, epoch, step, *more_seed)) for step, numbers in enumerate(own)]
        sizes = zip(own, todo, strict=True)
        return jobs, [self.processes.world_size * len(part) / len(numbers) for part, numbers in sizes]

    def train_epoch(self) -> tuple[float, int]:
        """(mean loss, steps skipped) over the training slices; all processes end with the same network and average."""
        self.wrapped.train()
        epoch, losses = self.progress.epoch, []
        jobs, weights = self.deal(epoch)
        bar = tqdm(weights, desc=f"epoch {epoch + 1}", leave=False, disable=not self.processes.is_main)
        with read_ahead(lambda job: self.read_batch(*job), jobs, self.readers) as read:
            for total, weight in enumerate(bar, start=epoch * self.steps_per_epoch):
                losses.append(self.step(*self.finish_batch(*next(read)), total, weight))
                if total % MAX_NON_FINITE_STEPS == 0 and self.non_finite_steps >= MAX_NON_FINITE_STEPS:
                    raise LungError(
                        f"{MAX_NON_FINITE_STEPS} losses in a row were not finite; lower --learning-rate or --amp off"
                    )
        self.processes.broadcast_tensors((*self.network.buffers(), *self.ema.buffers()))
        losses = self.processes.mean(torch.stack(losses)).cpu()
        good = torch.isfinite(losses)
        return float(losses[good].mean()) if good.any() else math.nan, int((~good).sum())

    @torch.inference_mode()
    def validate(self) -> tuple[float, float, float]:
        """(loss, Dice, Dice of the worst slice with lung) over the validation slices, seen as step 5 shows them.

        Dice is of all slices together: that of an empty slice alone is 0 or 1 by a single pixel.
        """
        losses, counts, with_lung, size = [], [], [], self.settings.batch_size
        parts = self.val_set.predicted_together()
        jobs = [numbers for part in parts for numbers in np.array_split(part, -(-len(part) // size))]
        with read_ahead(self.val_set.read, jobs, self.readers) as read:
            for numbers, (ct_hu, lung) in zip(jobs, read, strict=True):
                ct_hu, lung = (send(pinned(part, self.device), self.device)[:, None] for part in (ct_hu, lung))
                image = scale_hu(ct_hu, self.model.window_hu).contiguous(memory_format=torch.channels_last)
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.progress.amp):
                    zoom = float(self.val_set.zoom[numbers[0]])
                    _, logits = see(lambda seen: self.ema(seen.to(self.precision)), image, zoom)
                losses.append(lung_loss(logits, lung.float()) * len(lung))
                counts.append(count_overlap(logits > 0, lung > 0))
                with_lung.append((lung > 0).flatten(1).any(1))
        both, sizes = torch.cat(counts).cpu().double().T
        by_slice = (2 * both / sizes.clamp(min=1))[torch.cat(with_lung).cpu()]
        dice = float(2 * both.sum() / sizes.sum().clamp(min=1))
        loss = float(torch.stack(losses).cpu().double().sum()) / len(self.val_set)
        return loss, dice, float(by_slice.min()) if len(by_slice) else math.nan

    def halve_batch(self) -> None:
        """After the device ran out of memory: the epoch starts again with half the slices a step.

        Raises LungError for several processes, since the others wait for this one, and for a batch of one slice.
        """
        size = self.settings.batch_size // 2
        if self.processes.world_size > 1:
            raise LungError(f"out of memory with {self.settings.batch_size} slices a step; lower --batch-size")
        if not size:
            raise LungError("out of memory even with one slice a step; take a smaller --width, or --device cpu")
        print(f"out of memory: batch_size {self.settings.batch_size} -> {size}; the epoch starts again")
        self.settings = replace(self.settings, batch_size=size)
        self.steps_per_epoch = len(batches(len(self.train_set), size, 0, 0))
        self.optimiser.zero_grad(set_to_none=True)
        gc.collect()  # what was half done when memory ran out
        free_cached_memory(self.device)

    def state(self) -> dict:
        """All that a checkpoint holds."""
        return {
            "network": self.network.state_dict(),
            "average": self.ema.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "progress": asdict(self.progress),
            "made_from": self.made_from,
        }

    def resume(self, state: dict, path: Path) -> None:
        """Continue from what a checkpoint holds. Raises LungError where that is damaged or of another network."""
        try:
            self.network.load_state_dict(state["network"])
            self.ema.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.progress = Progress.from_state(state["progress"])
        except (LungError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise LungError(
                f"{path}: not a checkpoint of this training ({reason}); start again with --fresh"
            ) from error


def flatten(tensors: Iterable[Tensor]) -> Tensor:
    """All their numbers, one after the other; float32 where types differ, exact up to 2^24 batches that are counted."""
    return torch.cat([tensor.flatten() for tensor in tensors])


@torch.no_grad()
def restore_buffers(network: nn.Module, before: Tensor, skipped: Tensor) -> None:
    """Set running statistics back to what they were, flattened: all where `skipped`, else what is not finite."""
    buffers = list(network.buffers())
    now = flatten(buffers)
    parts = torch.where(skipped | ~torch.isfinite(now), before, now).split([buffer.numel() for buffer in buffers])
    torch._foreach_copy_(buffers, [part.view_as(buffer) for part, buffer in zip(parts, buffers, strict=True)])


WARM_UP = 0.15  # share of the steps before the learning rate is at its peak
LAST_RATE = 0.01  # of the peak, at the end


def learning_rate(step: int, steps: int, peak: float) -> float:
    """The learning rate of a step, one cycle: up along half a cosine, down along a longer one."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return peak * (LAST_RATE + (1 - LAST_RATE) * (1 - math.cos(math.pi * step / warm)) / 2)
    part = (step - warm) / max(1, steps - warm)
    return peak * (LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * part)) / 2)
