"""The same seed gives the same bytes; how many threads or processes work does not show in masks or manifests."""

import shutil

import pytest
from killing import undisturbed


@pytest.fixture(scope="module")
def homes(ready_home, tmp_path_factory):
    """Two copies of a folder ready for step 2, in which each test runs the next step."""
    return tuple(shutil.copytree(ready_home, tmp_path_factory.mktemp("determinism") / name) for name in ("a", "b"))


def test_step_2_gives_the_same_bytes_with_one_process_and_eight(homes):
    first, second = homes
    one, _ = undisturbed(first, "prepare_lung_image.py", "--workers", "1")
    assert undisturbed(second, "prepare_lung_image.py", "--workers", "8")[0] == one
    assert sum(name.endswith(".npy") for name in one) > 80


def test_step_3_gives_the_same_history_and_weights_twice(homes):
    first, second = homes
    once, _ = undisturbed(first, "Lung_segmentation.py")
    assert undisturbed(second, "Lung_segmentation.py")[0] == once
    assert {"runs/lung/history.csv", "runs/lung/unet_model.pth"} <= set(once)


@pytest.mark.parametrize("amp", ["off", "on"])
def test_step_5_gives_the_same_masks_with_one_thread_and_two(homes, amp):
    first, second = homes
    shutil.copytree(first / "runs", second / "runs", dirs_exist_ok=True)
    for home in homes:
        shutil.rmtree(home / "predictions", ignore_errors=True)
    one, _ = undisturbed(first, "model_test.py", "--amp", amp, threads=1)
    assert undisturbed(second, "model_test.py", "--amp", amp, threads=2)[0] == one
    assert any(name.startswith("predictions/patient_") and name.endswith(".npy") for name in one)
