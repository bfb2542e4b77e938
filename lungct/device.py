"""What to compute on: processor, GPU, precision."""

import time

import torch
from torch import nn

from lungct import LungError

TRIAL_RUNS = 5


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


def to_device(network: nn.Module, device: torch.device) -> nn.Module:
    """The network on a device, in the memory order in which its convolutions are fastest."""
    return network.to(device, memory_format=torch.channels_last)
