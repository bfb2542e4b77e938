"""UNet_nn: shapes, sizes, and what the first version was."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from UNet_nn import UNet, fold_norms


@pytest.mark.parametrize("shape", [(512, 512), (130, 201), (64, 1), (33, 96)])
def test_mask_is_as_large_as_the_slice(shape):
    network = UNet(width=4, depth=3).eval()
    assert network(torch.zeros(2, 1, *shape)).shape == (2, 1, *shape)


def test_padding_is_air_and_changes_nothing_far_away():
    torch.manual_seed(1)
    network = UNet(width=4, depth=2, patch=2).eval()
    image = torch.rand(1, 1, 61, 83) * 2 - 1
    padded = torch.nn.functional.pad(image, (0, 1, 0, 3), value=-1.0)
    torch.testing.assert_close(network(image), network(padded)[..., :61, :83])


def test_default_has_about_two_million_parameters():
    assert sum(p.numel() for p in UNet().parameters()) == pytest.approx(2e6, rel=0.05)


def test_first_version_is_one_setting_of_it():
    network = UNet(width=64, depth=5, patch=1, normalise=False)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(31.03e6, rel=0.001)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in network.modules())


def test_every_parameter_learns():
    network = UNet(n_channels=2, n_classes=3, width=4, depth=3)
    network(torch.rand(2, 2, 48, 80)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_a_training_computes_what_a_prediction_does():
    """The head's first convolution is taken in two parts in training alone; batch normalisation differs by purpose."""
    torch.manual_seed(3)
    network, image = UNet(n_channels=2, n_classes=3, width=4, depth=3, normalise=False), torch.rand(2, 2, 48, 80)
    torch.testing.assert_close(network.train()(image), network.eval()(image))
    gradients = []
    for _ in range(2):  # of the prediction's way first
        network.zero_grad()
        network(image).square().mean().backward()
        gradients.append([part.grad.clone() for part in network.parameters()])
        network.train()
    for part, other in zip(*gradients, strict=True):
        torch.testing.assert_close(part, other)


def test_a_training_computes_no_gradient_of_the_pixels():
    network, image = UNet(width=4, depth=3), torch.rand(2, 1, 48, 80)
    seen = []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function.name() == "aten::convolution_backward":
                seen.append((args[1].shape[1], args[-1][0]))
            return function(*args, **(kwargs or {}))

    with Count():
        network(image).sum().backward()
    assert [(channels, needed) for channels, needed in seen if not needed] == [(16, False)] * 2  # stem and head


def test_folded_norms_give_the_same_answer():
    torch.manual_seed(3)
    network = UNet(width=4, depth=3)
    image = torch.rand(4, 1, 48, 80) * 2 - 1
    for _ in range(3):
        network(image)  # so that the norms have statistics of their own
    network.eval()
    folded = fold_norms(network)
    torch.testing.assert_close(folded(image), network(image), rtol=1e-4, atol=1e-5)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in folded.modules())
    assert any(isinstance(layer, torch.nn.BatchNorm2d) for layer in network.modules())
