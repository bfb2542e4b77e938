"""What every benchmark needs: times side by side, the machine in words, a section of RESULTS.md."""

import math
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lungct.files import replace_file

QUICK_S = 1.0
ROOT = Path(__file__).parent.parent
WORK = ROOT / "benchmarks" / "scratch"  # scans, slices and runs of the benchmarks; kept, so that a second run is quick
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
REAL = ROOT.parent / "shared" / "data"


def medians_s(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median time of each function, all of them called in turn, so that a slow spell of the machine meets all.

    A quick function is called several times in its turn, the first of which warms the caches, and the mean counts.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            seconds = mean_s(function, 1)
            times[name].append(mean_s(function, math.ceil(QUICK_S / seconds)) if seconds < QUICK_S else seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def mean_s(function: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def run(*command: object, cwd: Path) -> tuple[float, float]:
    """Run a command in a folder; returns seconds and the peak memory of this process's children so far in GiB."""
    start = time.perf_counter()
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(str(part) for part in command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def step(script: str, *flags: object, cwd: Path) -> tuple[float, float]:
    """Run one of the five steps as a user does."""
    return run(sys.executable, ROOT / script, *flags, cwd=cwd)


def copy_gb_s() -> float:
    """Bytes that this machine copies in memory, GB a second."""
    block = np.ones(2**27, np.uint8)
    return len(block) / medians_s({"copy": lambda: block.copy()}, 5)["copy"] / 1e9


def multiply_adds_g_s(dtype: torch.dtype) -> float:
    """The rate of a large 3x3 convolution, 1e9 multiply-adds a second: as fast as this processor gets."""
    layer = nn.Conv2d(128, 128, 3, padding=1, bias=False).to(dtype=dtype, memory_format=torch.channels_last)
    image = torch.zeros(8, 128, 64, 64, dtype=dtype).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        layer(image)
        seconds = medians_s({"layer": lambda: layer(image)}, 7)["layer"]
    return 8 * 64 * 64 * 128 * 128 * 9 / seconds / 1e9


def multiply_adds(network: nn.Module, image: torch.Tensor) -> float:
    """Multiply-adds of all convolutions for one slice."""
    count = 0

    def add(layer: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        nonlocal count
        if isinstance(layer, nn.ConvTranspose2d):
            count += inputs[0][0].numel() * layer.weight[0].numel()
        else:
            count += output[0].numel() * layer.weight[0].numel()

    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [layer.register_forward_hook(add) for layer in convolutions]
    with torch.inference_mode():
        network(image[:1])
    for hook in hooks:
        hook.remove()
    return count


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def machine() -> str:
    """One line: date, processor, versions."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    where = f"{processor()}, {os.cpu_count()} cores, {gpu}"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}"
    return f"{date.today()}; {where}; {platform.system()}; {versions}"


def table(head: tuple[str, ...], rows: list[tuple]) -> list[str]:
    """A Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]


def write_section(title: str, lines: list[str], page: Path = RESULTS) -> None:
    """Put a section into a page in place of the one of the same title; the others stay. Prints it, too."""
    section = "\n".join([f"## {title}", "", f"Measured: {machine()}.", "", *lines, ""])
    old = page.read_text(encoding="utf-8") if page.is_file() else "# Results of the benchmarks"
    parts = re.split(r"(?m)^(?=## )", old.rstrip("\n") + "\n\n")
    fits = [n for n, part in enumerate(parts) if part.startswith(f"## {title}\n")]
    if fits:
        parts[fits[0]] = section + "\n"
    else:
        parts.append(section + "\n")
    replace_file(page, ("".join(parts).rstrip("\n") + "\n").encode())
    print(section)
    print(f"wrote the section into {page}")
