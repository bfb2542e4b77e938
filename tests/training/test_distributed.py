"""Two processes with half a batch each train as one process with the whole batch."""

import os
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from conftest import free_port
from torch.nn.parallel import DistributedDataParallel

from lungct import LungError
from lungct.training.distributed import Team, TeamNorm, join_team, share_norms
from lungct.training.loss import lung_loss
from UNet_nn import UNet

SLICES = 5  # of which one process takes three and the other two


def backward(team: Team) -> dict[str, torch.Tensor]:
    """Loss, gradients and running statistics after one batch."""
    torch.manual_seed(0)
    network = UNet(width=4, depth=3)
    image = torch.rand(SLICES, 1, 40, 56) * 2 - 1
    target = (torch.rand(SLICES, 1, 40, 56) > 0.6).float()
    wrapped = DistributedDataParallel(share_norms(network)) if team.size > 1 else network
    own, own_target = team.share(image), team.share(target)
    loss = lung_loss(wrapped(own), own_target, len(own) / SLICES)
    loss.backward()
    gradients = {f"gradient of {name}": weight.grad for name, weight in network.named_parameters()}
    return {"loss": loss.detach(), **gradients, **dict(network.named_buffers())}


def be_one_of_two(rank: int, port: int, out: Path) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    team = join_team(torch.device("cpu"))
    torch.save(backward(team), out / f"{rank}.pth")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.skipif(sys.platform == "win32", reason="gloo wants a network adapter's name there")
def test_gradients_of_two_processes_are_those_of_one(tmp_path):
    port = free_port()
    team = [get_context("spawn").Process(target=be_one_of_two, args=(rank, port, tmp_path)) for rank in (0, 1)]
    for process in team:
        process.start()
    for process in team:
        process.join(timeout=60)
    expected = backward(Team(0, 1))
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pth", weights_only=True)
        assert found.keys() == expected.keys()
        for name, tensor in found.items():
            torch.testing.assert_close(
                tensor, expected[name], rtol=1e-4, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}"
            )


def test_a_batch_that_is_too_small_for_the_team_is_told():
    with pytest.raises(LungError, match="2 slices for 3 processes: raise --batch-size"):
        Team(0, 3).share(torch.zeros(2, 1, 4, 5))


def test_shared_norms_keep_weights_and_answer():
    torch.manual_seed(0)
    network, image = UNet(width=4, depth=2), torch.rand(3, 1, 24, 40)
    network(image)  # moves the running statistics
    expected = network.eval()(image)
    shared = share_norms(network)
    assert sum(isinstance(layer, TeamNorm) for layer in shared.modules()) == 6
    torch.testing.assert_close(shared.eval()(image), expected)


def test_every_process_of_a_team_takes_a_gpu_of_its_own(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: calls.append(number))
    monkeypatch.setattr(dist, "init_process_group", lambda backend: calls.append(backend))
    for name, value in {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert join_team(torch.device("cuda")) == Team(3, 4)
    assert calls == [1, "nccl"]
