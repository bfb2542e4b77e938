"""What to compute on: processor or GPU, and in which precision."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

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
