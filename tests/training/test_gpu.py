"""A training step never makes the CPU wait for a GPU: most of these tests find out without one."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from training_runs import write_settings

import Lung_segmentation as step
from lungct.training import augment, trainer

WAITING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::equal"}


class Waits(TorchDispatchMode):
    """Lists the calls that would make the CPU wait for what a GPU computes: for a number, or for a shape."""

    def __init__(self):
        super().__init__()
        self.found, self.calls = [], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls += 1
        name = function.name().split(".")[0]
        by_mask = name in ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_") and any(
            places is not None and places.dtype in (torch.bool, torch.uint8) for places in args[1]
        )
        if name in WAITING or by_mask:
            self.found.append(name)
        return function(*args, **(kwargs or {}))


def make_trainer(root, device: str = "cpu") -> trainer.Trainer:
    """A trainer on slices of phantoms, all of whose augmentation is certain."""
    write_settings(root)
    settings, flags = step.parse_step("", step.TrainSettings, ["--conf", str(root / "lung.conf")], step.add_flags)
    made = step.make_trainer(settings, flags)[0]
    model, slices = made.model, (made.train_set, made.val_set)
    return trainer.Trainer(settings, model, *slices, torch.device(device), made.processes)


@pytest.fixture
def all_changes(monkeypatch):
    """Every slice gets every change."""
    for name in [name for name in vars(augment) if name.startswith("P_")]:
        monkeypatch.setattr(augment, name, 1)


@pytest.mark.parametrize(
    ("wait", "found"),
    [
        (lambda x: x.sum().item(), ["aten::_local_scalar_dense"]),
        (lambda x: bool((x > 1).any()), ["aten::_local_scalar_dense"]),
        (lambda x: x.nonzero(), ["aten::nonzero"]),
        (lambda x: x[x > 1], ["aten::index"]),
        (lambda x: x.index_put_((x > 1,), x[0]), ["aten::index_put_"]),
        (lambda x: x[torch.arange(2)] + torch.where(x > 1, x, 0)[:2], []),
    ],
)
def test_what_waits_is_found(wait, found):
    with Waits() as waits:
        wait(torch.rand(5))
    assert waits.found == found


@pytest.mark.parametrize("amp", [False, True])
def test_a_step_asks_the_device_for_nothing(phantom_rows, all_changes, amp):
    made = make_trainer(phantom_rows[0])
    made.progress.amp = amp
    read = made.read_batch(np.arange(4), (0,))
    made.step(*made.finish_batch(*read), 0)
    sent, send = [], augment.send
    with pytest.MonkeyPatch.context() as patch, Waits() as waits:
        patch.setattr(augment, "send", lambda *args: sent.append(len(waits.found)) or send(*args))
        loss = made.step(*made.finish_batch(*read), 1)
        assert waits.calls > 500
        assert waits.found[sent[0] :] == []
    assert len(sent) == 1  # all that is random is copied at once
    assert torch.isfinite(loss)


@pytest.mark.parametrize("wait", [torch.Tensor.cpu, torch.Tensor.tolist, torch.Tensor.item, torch.Tensor.nonzero])
def test_what_asks_for_a_value_is_an_error_on_the_meta_device(wait):
    with pytest.raises((NotImplementedError, RuntimeError)):
        wait(torch.rand(1, device="meta"))


def test_a_step_runs_where_tensors_have_no_values(phantom_rows, all_changes, monkeypatch):
    """On the meta device: so nothing is copied back to the CPU either, which between CPU and CPU is not seen."""
    made = make_trainer(phantom_rows[0], "meta")
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it knows no meta device,
    monkeypatch.setattr(made.optimiser, "step", lambda: None)  # nor does the fused optimiser
    image, target = made.make_batch(np.arange(4), (0,))
    loss = made.step(image, target, 0)
    assert (image.device.type, target.device.type, loss.device.type) == ("meta", "meta", "meta")
    assert (image.shape, target.shape, loss.shape) == ((4, 1, *made.train_set.shapes.max(0)),) * 2 + ((),)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("amp", [False, True])
def test_a_step_on_a_gpu_does_not_wait_and_gives_what_the_cpu_gives(phantom_rows, all_changes, amp):
    seen = {}
    for device in ("cpu", "cuda"):
        made = make_trainer(phantom_rows[0], device)
        made.progress.amp = amp
        made.step(*made.make_batch(np.arange(4), (0,)), 0)
        torch.cuda.set_sync_debug_mode("error" if device == "cuda" else "default")
        try:
            read = made.read_batch(np.arange(4), (1,))
            image, target = made.finish_batch(*read)
            loss = made.step(image, target, 1)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        seen[device] = image.cpu(), target.cpu(), loss.cpu()
    assert ((seen["cpu"][0] - seen["cuda"][0]).abs() > 0.02).float().mean() < 0.01  # edges may fall to either side
    assert (seen["cpu"][1] != seen["cuda"][1]).float().mean() < 0.01
    torch.testing.assert_close(seen["cpu"][2], seen["cuda"][2], atol=0.05, rtol=0.05)
