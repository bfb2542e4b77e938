"""What to compute on: processor or GPU, in which precision; its memory."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from lungct import LungError

BFLOAT16_UNITS = ("avx512_bf16", "amx_bf16")  # as torch calls them; without these a CPU only emulates it, slowly


def pick_device(name: str) -> torch.device:
    """'auto' is CUDA, else Apple's MPS, else the CPU. Raises LungError for one that this machine lacks."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, found in available.items() if found))
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or not available.get(device.type, False):
        found = ", ".join(kind for kind, found in available.items() if found)
        raise LungError(f"--device {name}: not on this machine; there is {found}")
    return device


def pick_amp(choice: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16: 'on', 'off', or 'auto', where the hardware has units for it.

    A question of capability, not of speed on the day: precision changes masks, and a machine must always give the same.
    """
    if choice in ("on", "off"):
        return choice == "on"
    if choice != "auto":
        raise LungError(f"amp = {choice}: choose auto, on or off")
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and cpu_has_bfloat16()


def cpu_has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16; False where torch is too old to tell (before `get_capabilities`)."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(unit, False) for unit in BFLOAT16_UNITS)


def to_device(network: nn.Module, device: torch.device) -> nn.Module:
    """The network on a device, in the memory order in which its convolutions are fastest."""
    return network.to(device, memory_format=torch.channels_last)


@contextmanager
def shared_processors(threads: int) -> Iterator[None]:
    """Inside the block, networks in so many threads have an equal share of the processors each."""
    all_of_them = torch.get_num_threads()
    torch.set_num_threads(max(1, all_of_them // max(1, threads)))
    try:
        yield
    finally:
        torch.set_num_threads(all_of_them)


def pinned(array: np.ndarray, device: torch.device) -> Tensor:
    """An array as a tensor of the CPU, bool as uint8; for CUDA in memory whose copy does not make the CPU wait."""
    tensor = torch.from_numpy(array.view(np.uint8) if array.dtype == bool else array)
    return tensor.pin_memory() if device.type == "cuda" else tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """What `pinned` gives, on its device. MPS waits: it may read the source after it was freed."""
    return tensor.to(device, non_blocking=device.type == "cuda")


OUT_OF_MEMORY = (  # what torch says in a RuntimeError that has no class of its own
    "can't allocate memory",  # CPU, Linux and macOS
    "not enough memory",  # CPU, Windows
    "out of memory",  # CUDA and MPS
    "ALLOC_FAILED",  # cuDNN, cuBLAS
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that CPU or GPU have no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def free_cached_memory(device: torch.device) -> None:
    """Give back to the GPU what torch keeps for later."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).empty_cache()


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for the next use, instead of giving it back to Linux; elsewhere nothing changes.

    A training step, or the clean-up of a scan, frees and takes hundreds of megabytes, each page of which Linux would
    clear again. All threads take from one heap: others cannot hold large arrays.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_ARENA_MAX, 1)
