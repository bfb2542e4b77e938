"""The loss of a training, and the overlap that its validation counts.

B batch, H rows, W columns.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def lung_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy plus one minus the soft Dice of all slices together, a scalar.

    logits and target, 0 or 1, are (B, 1, H, W).
    """
    logits = logits.float()
    probability = torch.sigmoid(logits)
    overlap, sizes = (probability * target).sum(), probability.sum() + target.sum()
    return F.binary_cross_entropy_with_logits(logits, target) + 1 - (2 * overlap + 1) / (sizes + 1)


def count_overlap(predicted: Tensor, target: Tensor) -> Tensor:
    """For each slice of two masks (B, 1, H, W): pixels in both, and the sum of their sizes: (B, 2) int64."""
    both = (predicted & target).sum((1, 2, 3))
    return torch.stack([both, predicted.sum((1, 2, 3)) + target.sum((1, 2, 3))], 1)
