"""The loss of a training, and the overlap that its validation counts.

B batch, H rows, W columns.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lungct.training.distributed import add_up


def lung_loss(logits: Tensor, target: Tensor, share: float = 1.0) -> Tensor:
    """Cross-entropy plus one minus the soft Dice of the batch, a scalar.

    share: of the batch that is here; where that is not all, the others of the team hold the rest, and add theirs
    """
    logits = logits.float()
    probability = torch.sigmoid(logits)
    entropy = share * F.binary_cross_entropy_with_logits(logits, target)
    sums = torch.stack([entropy, (probability * target).sum(), probability.sum() + target.sum()])
    entropy, overlap, sizes = add_up(sums) if share < 1 else sums
    return entropy + 1 - (2 * overlap + 1) / (sizes + 1)


def count_overlap(predicted: Tensor, target: Tensor) -> Tensor:
    """For each slice of two masks (B, 1, H, W): pixels in both, and the sum of their sizes: (B, 2) int64."""
    both = (predicted & target).sum((1, 2, 3))
    return torch.stack([both, predicted.sum((1, 2, 3)) + target.sum((1, 2, 3))], 1)
