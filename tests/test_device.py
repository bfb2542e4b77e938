"""What is computed on, and how precisely."""

import pytest
import torch

from lungct import LungError
from lungct.device import pick_amp, pick_device

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
