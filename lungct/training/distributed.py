"""Several processes that train one network on one batch: what torchrun starts.

Each takes its share of every batch. What is computed of the whole batch, the statistics of batch normalisation and
the sums of the loss, is added up over the processes, forwards and backwards: the training is that of one process
with the same batch. The same code runs on CPUs (gloo) and GPUs (NCCL).

B batch, C channels, H rows, W columns.
"""

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from lungct import LungError


@dataclass(frozen=True)
class Team:
    """The processes of a torchrun; alone, there is one."""

    rank: int
    size: int

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of a batch (B, ...). Raises LungError where there are more processes than slices."""
        if len(batch) < self.size:
            raise LungError(f"a batch of {len(batch)} slices for {self.size} processes: raise --batch-size")
        return batch[self.rank :: self.size]


def join_team(device: torch.device) -> Team:
    """Meet the other processes that torchrun started."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size > 1:
        if device.type == "cuda":  # a GPU each: from here on 'cuda' means this one
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Team(int(os.environ.get("RANK", 0)), size)


class AddUp(torch.autograd.Function):
    """The sum of a tensor over all processes; a gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: FunctionCtx, here: Tensor) -> Tensor:
        whole = here.clone()
        dist.all_reduce(whole)
        return whole

    backward = forward


def add_up(sums: Tensor) -> Tensor:
    """Sums over this process's slices to sums over the whole batch."""
    return AddUp.apply(sums)


class TeamNorm(nn.BatchNorm2d):
    """Batch normalisation with the statistics of the whole batch, which several processes hold.

    (B, C, H, W) to the same. torch's SyncBatchNorm does this for CUDA alone.
    """

    def forward(self, image: Tensor) -> Tensor:
        if not self.training:
            return super().forward(image)
        wide = image.float()
        here = wide.new_full((1,), wide.numel() / wide.shape[1])
        sums = add_up(torch.cat([wide.sum((0, 2, 3)), (wide * wide).sum((0, 2, 3)), here]))
        count, (mean, square) = sums[-1].detach(), (sums[:-1] / sums[-1].detach()).chunk(2)
        variance = square - mean * mean
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return torch.addcmul(shift[:, None, None], wide, scale[:, None, None]).to(image.dtype)


def share_norms(network: nn.Module) -> nn.Module:
    """Put TeamNorm in place of every BatchNorm2d, with its weights; returns the network."""
    for block in list(network.modules()):
        for name, layer in block.named_children():
            if type(layer) is nn.BatchNorm2d:
                shared = TeamNorm(layer.num_features)
                shared.load_state_dict(layer.state_dict())
                setattr(block, name, shared)
    return network
