"""A training goes on in smaller batches where the memory of the device ends, and holds nothing of the larger ones."""

import gc
import weakref

import pytest
import torch
from training_runs import write_settings

import Lung_segmentation as step
from lungct import LungError
from lungct.training import trainer
from lungct.training.distributed import Processes

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.99 GB, max allowed: 9.07 GB)."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: not enough memory: you tried to"),
    MemoryError("Unable to allocate 3.00 GiB for an array"),
]


@pytest.mark.parametrize("error", ERRORS, ids=["CUDA", "MPS", "CPU", "NumPy"])
def test_out_of_memory_halves_the_batch_and_says_so(phantom_rows, tmp_path, monkeypatch, capsys, error):
    root, _ = phantom_rows
    write_settings(root)
    take_step, sizes = trainer.Trainer.step, []

    def step_of_a_small_device(training, image, target, *more):
        sizes.append(len(image))
        if len(image) > 2:
            raise error
        return take_step(training, image, target, *more)

    monkeypatch.setattr(trainer.Trainer, "step", step_of_a_small_device)
    step.main(["--conf", str(root / "lung.conf"), "--run-path", str(tmp_path), "--epochs", "1"])
    assert "out of memory: batch_size 5 -> 2" in capsys.readouterr().out
    assert sizes[0] > 2 >= max(sizes[1:])
    assert (tmp_path / "unet_model.pth").is_file()


def test_another_error_is_not_taken_for_it(phantom_rows, tmp_path, monkeypatch):
    root, _ = phantom_rows
    write_settings(root)

    def broken(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(trainer.Trainer, "step", broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        step.main(["--conf", str(root / "lung.conf"), "--run-path", str(tmp_path), "--epochs", "1"])


def test_out_of_memory_with_one_slice_is_told(phantom_rows, tmp_path, monkeypatch):
    root, _ = phantom_rows
    write_settings(root)

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer.Trainer, "step", full)
    with pytest.raises(LungError, match="out of memory even with one slice a step"):
        step.main(["--conf", str(root / "lung.conf"), "--run-path", str(tmp_path), "--epochs", "1"])


def test_nothing_of_the_batch_is_held_when_the_smaller_one_begins(phantom_rows, tmp_path, monkeypatch):
    """Neither the batch, nor what the network made of it, nor its gradient: the error's frames would hold them all."""
    root, _ = phantom_rows
    write_settings(root)
    take_step, held, left, emptied = trainer.Trainer.step, [], [], []

    def step_of_a_small_device(training, image, target, *more):
        if len(image) > 2:
            logits = training.network(image)
            loss = logits.sum()
            loss.backward()
            gradient = next(training.network.parameters()).grad
            held.extend(weakref.ref(tensor) for tensor in (image, target, logits, loss, gradient))
            del gradient
            raise torch.OutOfMemoryError("CUDA out of memory")
        left.append([tensor for tensor in held if tensor() is not None])
        return take_step(training, image, target, *more)

    monkeypatch.setattr(trainer.Trainer, "step", step_of_a_small_device)
    monkeypatch.setattr(
        trainer, "free_cached_memory", lambda _: emptied.append([tensor for tensor in held if tensor() is not None])
    )
    gc.disable()  # by chance it could free what is held in a circle
    try:
        step.main(["--conf", str(root / "lung.conf"), "--run-path", str(tmp_path), "--epochs", "1"])
    finally:
        gc.enable()
    assert len(held) == 5
    assert emptied == [[]]
    assert left[0] == []


def test_several_processes_stop(phantom_rows, monkeypatch):
    root, _ = phantom_rows
    write_settings(root)
    settings, flags = step.parse_step("", step.TrainSettings, ["--conf", str(root / "lung.conf")], step.add_flags)
    made = step.make_trainer(settings, flags)[0]
    made.processes = Processes(0, 2)
    with pytest.raises(LungError, match="out of memory with 5 slices a step; lower --batch-size"):
        made.halve_batch()
