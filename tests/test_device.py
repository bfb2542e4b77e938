"""What is computed on, and how precisely."""

import sys

import numpy as np
import pytest
import torch

from lungct import LungError, device
from lungct.device import (
    free_cached_memory,
    is_out_of_memory,
    keep_freed_memory,
    pick_amp,
    pick_device,
    pinned,
    send,
    shared_processors,
)

CPU = torch.device("cpu")


def test_devices_and_precision():
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(LungError, match="there is"):
        pick_device("tpu")
    assert pick_amp("on", CPU)
    assert not pick_amp("off", CPU)
    with pytest.raises(LungError, match="choose auto, on or off"):
        pick_amp("perhaps", CPU)


@pytest.mark.parametrize(
    ("capabilities", "amp"), [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx2": True}, False)]
)
def test_precision_follows_the_processors_units(monkeypatch, capabilities, amp):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert pick_amp("auto", CPU) is amp


@pytest.mark.parametrize(("threads", "each"), [(0, 4), (1, 4), (2, 2), (3, 1), (9, 1)])
def test_networks_beside_each_other_share_the_processors(threads, each):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        with shared_processors(threads):
            assert torch.get_num_threads() == each
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def failure(function, *args) -> BaseException:
    """What a call raises."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        function(*args)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        failure(torch.empty, 2**46),  # real ones, of 256 TiB and more
        failure(np.empty, 2**46),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.cuda.OutOfMemoryError("HIP out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: not enough memory: you tried to"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.99 GB, max allowed: 9.07 GB)."),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_what_says_that_memory_ran_out(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("out of memory"),
        LungError("out of memory even with one slice a step"),
        KeyboardInterrupt(),
    ],
)
def test_what_does_not(error):
    assert not is_out_of_memory(error)


@pytest.mark.parametrize(("kind", "calls"), [("cuda", ["cuda"]), ("mps", ["mps"]), ("cpu", [])])
def test_each_gpu_gets_its_memory_back(monkeypatch, kind, calls):
    seen = []
    for name in ("cuda", "mps"):
        monkeypatch.setattr(getattr(torch, name), "empty_cache", lambda name=name: seen.append(name))
    free_cached_memory(torch.device(kind))
    assert seen == calls


def test_what_is_sent_arrives_unchanged():
    ct_hu, lung = np.arange(-3, 3, dtype=np.int16).reshape(2, 3), np.eye(3, dtype=bool)
    found = [send(pinned(part, CPU), CPU) for part in (ct_hu, lung)]
    assert [part.dtype for part in found] == [torch.int16, torch.uint8]
    np.testing.assert_array_equal(found[0], ct_hu)
    np.testing.assert_array_equal(found[1], lung)


def test_only_cuda_is_sent_from_pinned_memory_without_waiting(monkeypatch):
    seen = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: seen.append("pinned") or tensor)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device, non_blocking: seen.append((device, non_blocking)))
    for kind in ("cuda", "mps"):
        send(pinned(np.zeros(3), torch.device(kind)), torch.device(kind))
    assert seen == ["pinned", (torch.device("cuda"), True), (torch.device("mps"), False)]


@pytest.mark.parametrize(
    ("system", "calls"), [("linux", [(-3, 2**30), (-1, 2**31 - 1), (-8, 1)]), ("win32", []), ("darwin", [])]
)
def test_freed_memory_is_kept_where_that_can_be_asked_for(monkeypatch, system, calls):
    seen = []

    class Library:
        def mallopt(self, key, value):
            seen.append((key, value))

    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(device.ctypes, "CDLL", lambda _: Library())
    keep_freed_memory()
    assert seen == calls
    monkeypatch.setattr(device.ctypes, "CDLL", lambda _: object())  # a C library without it
    keep_freed_memory()
