"""What is computed on, and how precisely."""

import pytest
import torch

from lungct import LungError
from lungct.device import pick_amp, pick_device, shared_processors

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
