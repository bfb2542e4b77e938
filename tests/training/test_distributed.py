"""Several processes make the same updates, stop together, and leave writing and printing to the main one."""

import contextlib
import math
import os
import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from conftest import free_port
from torch import nn
from training_runs import read_history, save_patients, write_settings

import Lung_segmentation as step
from lungct import LungError
from lungct.training import distributed, trainer
from lungct.training.distributed import Processes, distribute, join_processes
from lungct.training.loss import lung_loss
from UNet_nn import UNet

CPU = torch.device("cpu")
SLICES = 5  # a batch, of which one process takes three and the other two
needs_gloo = pytest.mark.skipif(sys.platform == "win32", reason="gloo wants a network adapter's name there")


@pytest.fixture(scope="module")
def conf(tmp_path_factory) -> Path:
    """A lung.conf for two patients with five random slices each; one is trained on, a batch an epoch."""
    rng = np.random.default_rng(0)
    patients = {}
    for name in "AB":
        lung = rng.random((SLICES, 40, 56)) > 0.6
        patients[name] = np.where(lung, -800, 40).astype(np.int16), lung
    folder = tmp_path_factory.mktemp("slices")
    save_patients(folder, patients)
    write_settings(folder, augment=False)
    return folder / "lung.conf"


def run_two(main: Callable[[int, Path], None], conf: Path) -> list[int]:
    """Run main(rank, conf) in two processes that know of each other as torchrun's do; returns their exit statuses."""
    port = free_port()
    running = [get_context("spawn").Process(target=be_one_of_two, args=(rank, port, main, conf)) for rank in (0, 1)]
    for process in running:
        process.start()
    for process in running:
        process.join(timeout=120)
    statuses = [process.exitcode for process in running]
    for process in running:
        process.kill()
    return statuses


def be_one_of_two(rank: int, port: int, main: Callable[[int, Path], None], conf: Path) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    main(rank, conf)


def make_trainer(conf: Path, *flags: str) -> trainer.Trainer:
    settings, flags = step.parse_step("", step.TrainSettings, ["--conf", str(conf), *flags], step.add_flags)
    return step.make_trainer(settings, flags)[0]


def results(made: trainer.Trainer) -> dict:
    """What must be the same in every process after a training."""
    states = {"network": made.network.state_dict(), "average": made.ema.state_dict()}
    progress = {name: value for name, value in vars(made.progress).items() if name != "history"}
    return {**states, **progress, "skipped": [row.skipped for row in made.progress.history]}


def load_both(conf: Path, name: str) -> list[dict]:
    """What each process saved as <name><rank>.pth."""
    return [torch.load(conf.with_name(f"{name}{rank}.pth"), weights_only=True) for rank in (0, 1)]


def train_where_rank_1_disagrees(rank: int, conf: Path) -> None:
    """A whole step 3 in which rank 1 would choose bfloat16, would not stop, and has a NaN in its first loss."""
    made, calls, make = [], [], step.make_trainer

    def keep(*args: object) -> tuple:
        made.append(make(*args))
        return made[0]

    def loss_of_rank(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return lung_loss(logits, target) * (torch.nan if rank == 1 and len(calls) == 1 else 1)

    step.make_trainer = keep
    step.pick_amp = lambda *_: rank == 1
    trainer.lung_loss = loss_of_rank
    trainer.Trainer.validate = lambda training: (1.0, 0.5 if rank == 0 else 0.5 + len(calls) / 100, 0.5)
    flags = ("--conf", conf, "--run-path", conf.with_name(f"run{rank}"), "--patience", 2, "--epochs", 9)
    with conf.with_name(f"printed{rank}.txt").open("w") as file, contextlib.redirect_stdout(file):
        step.main([str(flag) for flag in flags])
    torch.save(results(made[0][0]), conf.with_name(f"trained{rank}.pth"))


@pytest.fixture(scope="module")
def disagreement(conf) -> list[dict]:
    """The results of both processes."""
    assert run_two(train_where_rank_1_disagrees, conf) == [0, 0]
    return load_both(conf, "trained")


@needs_gloo
def test_two_processes_end_with_identical_weights(disagreement):
    main, other = disagreement
    for part in ("network", "average"):
        assert main[part].keys() == other[part].keys()
        for name, tensor in main[part].items():
            assert torch.isfinite(tensor).all()
            assert torch.equal(tensor, other[part][name]), (part, name)


@needs_gloo
def test_the_main_process_decides_on_precision_and_stopping_and_all_skip_the_same_step(disagreement):
    for found in disagreement:
        assert (found["amp"], found["epoch"], found["best_epoch"], found["best_dice"]) == (False, 3, 1, 0.5)
        assert found["skipped"] == [1, 0, 0]


@needs_gloo
def test_only_the_main_process_writes_and_prints(disagreement, conf):
    assert "float32; from epoch 1" in conf.with_name("printed0.txt").read_text()
    assert len(read_history(conf.with_name("run0"))) == 3
    assert conf.with_name("printed1.txt").read_text() == ""
    assert not conf.with_name("run1").exists()


def train_until_rank_1_fails(rank: int, conf: Path) -> None:
    """Save what comes out of an epoch of one batch whose gradient is not clipped; then rank 0 starts another."""
    made = make_trainer(conf, "--clip-norm", "1e6")
    loss, _ = made.train_epoch()
    gradients = {name: weight.grad for name, weight in made.network.named_parameters()}
    torch.save({"loss": loss, **gradients}, conf.with_name(f"batch{rank}.pth"))
    if rank == 1:
        raise LungError("this slice cannot be read")
    made.train_epoch()


@pytest.fixture(scope="module")
def statuses_and_gradients(conf) -> tuple[list[int], list[dict]]:
    return run_two(train_until_rank_1_fails, conf), load_both(conf, "batch")


@needs_gloo
def test_a_process_that_fails_does_not_leave_the_other_waiting(statuses_and_gradients):
    assert statuses_and_gradients[0] == [1, 1]


@needs_gloo
def test_gradient_of_unequal_shares_is_the_mean_over_slices(statuses_and_gradients, conf):
    made = make_trainer(conf)
    numbers = trainer.batches(len(made.train_set), SLICES, made.settings.seed, 0)[0]
    assert len(numbers) == SLICES
    loss = 0
    for own in (numbers[::2], numbers[1::2]):  # three slices, two slices
        image, target = made.make_batch(own, (0,))
        loss = loss + lung_loss(made.network(image), target) * len(own) / SLICES
    loss.backward()
    for found in statuses_and_gradients[1]:
        assert found["loss"] == pytest.approx(loss.item(), rel=1e-5)
        for name, weight in made.network.named_parameters():
            torch.testing.assert_close(found[name], weight.grad, rtol=1e-4, atol=1e-6)


def test_each_slice_of_a_batch_belongs_to_one_process():
    shares = [Processes(rank, 3).share(np.arange(8)).tolist() for rank in range(3)]
    assert shares == [[0, 3, 6], [1, 4, 7], [2, 5]]
    assert Processes().share(np.arange(8)).tolist() == list(range(8))


def test_a_batch_that_is_too_small_for_the_processes_is_an_error():
    with pytest.raises(LungError, match="2 slices for 3 processes: raise --batch-size"):
        Processes(0, 3).share(np.arange(2))


def test_each_process_augments_its_share_differently_and_rank_0_as_if_alone(conf, monkeypatch):
    monkeypatch.setattr(Processes, "broadcast_tensors", lambda *_: None)
    monkeypatch.setattr(Processes, "mean", lambda _, values: values)
    made, seeds = make_trainer(conf), {}
    made.progress.epoch = 4
    monkeypatch.setattr(made, "step", lambda *_: torch.zeros(()))
    monkeypatch.setattr(made, "finish_batch", lambda *_: (None, None))
    for processes in (Processes(), Processes(0, 2), Processes(1, 2)):
        made.processes = processes
        monkeypatch.setattr(made, "read_batch", lambda _, seed: (seeds.setdefault(made.processes, seed),))
        made.train_epoch()
    assert seeds == {Processes(): (1, 4, 0), Processes(0, 2): (1, 4, 0), Processes(1, 2): (1, 4, 0, 1)}


@pytest.mark.parametrize(("kind", "expected"), [("cuda", nn.SyncBatchNorm), ("cpu", nn.BatchNorm2d)])
def test_batch_norm_is_synchronised_on_cuda_alone(kind, expected, monkeypatch):
    monkeypatch.setattr(distributed, "DistributedDataParallel", lambda network: network)
    network = UNet(width=4, depth=3)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    wrapped = distribute(network, torch.device(kind))
    norms = [layer for layer in wrapped.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    assert [type(layer) for layer in norms] == [expected] * 10
    assert wrapped is network
    assert wrapped.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in wrapped.state_dict().items())


def test_the_average_is_validated_with_plain_batch_norm_also_on_cuda(conf, monkeypatch):
    def distribute_as_on_cuda(network: nn.Module, _: torch.device) -> nn.Module:
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)

    monkeypatch.setattr(trainer, "distribute", distribute_as_on_cuda)
    single = make_trainer(conf)
    made = trainer.Trainer(single.settings, single.model, single.train_set, single.val_set, CPU, Processes(0, 2))
    assert any(isinstance(layer, nn.SyncBatchNorm) for layer in made.network.modules())
    assert not any(isinstance(layer, nn.SyncBatchNorm) for layer in made.ema.modules())
    with torch.no_grad():
        made.network.get_parameter("stem.0.weight").fill_(2)
        made.network.get_buffer("stem.1.running_mean").fill_(2)
    for number in range(100):
        made.update_ema(number, torch.tensor(False))
    for average, now in zip(made.ema.state_dict().values(), made.network.state_dict().values(), strict=True):
        torch.testing.assert_close(average, now, rtol=0.05, atol=0.01)
    assert math.isfinite(made.validate()[0])


def use_torchrun(monkeypatch, local_rank: int, gpus: int) -> list:
    """Set what torchrun sets, for rank 3 of 4; returns a list that fills with what torch is asked to do."""
    calls = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", calls.append)
    monkeypatch.setattr(dist, "init_process_group", calls.append)
    for name, value in {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": str(local_rank)}.items():
        monkeypatch.setenv(name, value)
    return calls


@pytest.mark.parametrize(("kind", "expected"), [("cuda", [1, "nccl"]), ("cpu", ["gloo"])])
def test_each_process_takes_a_gpu_of_its_own(kind, expected, monkeypatch):
    calls = use_torchrun(monkeypatch, local_rank=1, gpus=2)
    assert join_processes(torch.device(kind)) == Processes(3, 4)
    assert calls == expected


def test_more_processes_than_gpus_is_an_error(monkeypatch):
    use_torchrun(monkeypatch, local_rank=2, gpus=2)
    with pytest.raises(LungError, match=r"more processes than GPUs, .*--nproc-per-node=2"):
        join_processes(torch.device("cuda"))


def test_torchrun_on_mps_is_refused_and_a_single_process_is_not(monkeypatch):
    assert join_processes(torch.device("mps")) == Processes()
    calls = use_torchrun(monkeypatch, local_rank=1, gpus=0)
    with pytest.raises(LungError, match=r"torchrun cannot train on MPS; .*--device cpu"):
        join_processes(torch.device("mps"))
    assert calls == []
