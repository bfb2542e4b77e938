"""The same seed gives the same bytes; how many threads or processes work does not show in masks or manifests."""

import shutil

from killing import undisturbed

TWO = ("--patients", "LIDC-IDRI-0028,LIDC-IDRI-0032")


def test_step_2_gives_the_same_bytes_with_one_process_and_eight(undisturbed_steps, tmp_path):
    step = undisturbed_steps["prepare_lung_image.py"]
    for workers in ("1", "8"):
        home = shutil.copytree(step.before, tmp_path / workers)
        assert undisturbed(home, "prepare_lung_image.py", "--workers", workers)[0] == step.expected  # of two processes
    assert sum(name.endswith(".npy") for name in step.expected) > 80


def test_step_3_gives_the_same_history_and_weights_twice(undisturbed_steps, tmp_path):
    step = undisturbed_steps["Lung_segmentation.py"]
    home = shutil.copytree(step.before, tmp_path / "home")
    assert undisturbed(home, "Lung_segmentation.py")[0] == step.expected
    assert {"runs/lung/history.csv", "runs/lung/unet_model.pth"} <= set(step.expected)


def test_step_5_gives_the_same_masks_with_one_thread_and_two(undisturbed_steps, tmp_path):
    step = undisturbed_steps["model_test.py"]
    home = shutil.copytree(step.before, tmp_path / "home")
    assert undisturbed(home, "model_test.py", threads=2)[0] == step.expected  # of one thread
    assert any(name.startswith("predictions/patient_") and name.endswith(".npy") for name in step.expected)


def test_step_5_gives_the_same_masks_in_bfloat16_with_one_thread_and_two(undisturbed_steps, tmp_path):
    step = undisturbed_steps["model_test.py"]
    found = []
    for threads in (1, 2):
        home = shutil.copytree(step.before, tmp_path / str(threads))
        found.append(undisturbed(home, "model_test.py", "--amp", "on", *TWO, threads=threads)[0])
    assert found[0] == found[1]
    assert any(name.startswith("predictions/patient_") and name.endswith(".npy") for name in found[0])
