"""The loss and the overlap of masks counted by hand."""

import torch

from lungct.training.loss import count_overlap, lung_loss


def test_loss_is_near_zero_for_the_truth_and_large_for_its_opposite():
    target = torch.zeros(2, 1, 8, 9)
    target[:, :, 2:5, 3:8] = 1
    assert lung_loss((target - 0.5) * 40, target) < 0.01
    assert lung_loss((0.5 - target) * 40, target) > 10
    assert torch.isfinite(lung_loss(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)))


def test_overlap_is_counted_by_slice():
    empty, full = torch.zeros(1, 1, 4, 5, dtype=bool), torch.ones(1, 1, 4, 5, dtype=bool)
    counts = count_overlap(torch.cat([empty, full, empty]), torch.cat([empty, full, full]))
    assert counts.tolist() == [[0, 0], [20, 40], [0, 20]]
