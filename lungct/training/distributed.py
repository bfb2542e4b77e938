"""Several processes that train one network together: what torchrun starts, by torch's own means.

Each process takes its share of every batch; DistributedDataParallel averages their gradients, so that every process
makes the same update. Gradients and decisions go over NCCL between GPUs, over gloo between CPUs.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lungct import LungError
from lungct.parallel import count


@dataclass(frozen=True)
class Processes:
    """How many processes train together, and which of them this one is; a process alone is the main one."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process decides, writes and prints."""
        return self.rank == 0

    def share(self, numbers: np.ndarray) -> np.ndarray:
        """This process's slices of a batch. Raises LungError where there are more processes than slices."""
        if len(numbers) < self.world_size:
            raise LungError(
                f"a batch of {count(len(numbers), 'slice')} for {self.world_size} processes: raise --batch-size"
            )
        return numbers[self.rank :: self.world_size]

    def broadcast(self, value: Any) -> Any:
        """The main process's value, whatever the value is here."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def broadcast_tensors(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors by those of the main process."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all processes, element by element."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values / self.world_size

    def leave(self) -> None:
        """Wait for the others, so that none is cut off, and close the connections."""
        if self.world_size > 1:
            dist.barrier()
            dist.destroy_process_group()


def join_processes(device: torch.device) -> Processes:
    """Connect to the other processes that torchrun started; without torchrun there is one.

    Raises LungError on MPS, and where there are more processes than GPUs.
    """
    processes = Processes(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))
    if processes.world_size == 1:
        return processes
    if device.type == "mps":
        raise LungError("torchrun cannot train on MPS; run python Lung_segmentation.py, or choose --device cpu")
    if device.type == "cuda":
        local_rank, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local_rank >= gpus:
            raise LungError(
                f"more processes than GPUs, of which there are {gpus}; run torchrun --nproc-per-node={gpus}"
            )
        torch.cuda.set_device(local_rank)  # from here on 'cuda' means this process's own GPU
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return processes


def distribute(network: nn.Module, device: torch.device) -> DistributedDataParallel:
    """The network, changed in place and wrapped so that its gradients are the mean over all processes.

    On CUDA its batch normalisation takes the statistics of the whole batch. torch has that for CUDA alone: on a CPU
    each process normalises by its own share, and before each step takes the main process's running statistics.
    """
    if device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return DistributedDataParallel(network)
