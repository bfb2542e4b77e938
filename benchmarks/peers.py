"""What we are measured against: our own code for methods of others, from their descriptions.

First version: the pipeline that this project replaces. Labels by two-class k-means on the standardised slice after
a median and a Perona-Malik diffusion filter, as in the tutorials that followed the Data Science Bowl 2017; a plain
U-Net of 64 to 1024 channels (Ronneberger et al., arXiv:1505.04597); whole volumes decoded by pylidc.
R231: the network of Hofmanninger et al., Eur Radiol Exp 4 (2020) 50, by its shape.
"""

import numpy as np
import torch
from scipy import ndimage
from scipy.cluster.vq import kmeans2
from torch import nn

from UNet_nn import UNet

MIDDLE = slice(100, 400)
KAPPA, GAMMA = 50.0, 0.1


def first_network() -> UNet:
    return UNet(width=64, depth=5, patch=1, normalise=False)


def r231_network() -> UNet:
    return UNet(width=64, depth=5, patch=1, normalise=True)


def diffuse(image: np.ndarray) -> np.ndarray:
    """One step of Perona and Malik, IEEE TPAMI 12 (1990) 629-639."""
    change = np.zeros_like(image)
    for axis in (0, 1):
        slope = np.diff(image, axis=axis, append=np.take(image, [-1], axis))
        flow = np.exp(-((slope / KAPPA) ** 2)) * slope
        change += flow - np.roll(flow, 1, axis)
    return image + GAMMA * change


def first_label(ct_hu: np.ndarray) -> np.ndarray:
    """The lung of one slice (H, W) by the first version's recipe."""
    image = (ct_hu - ct_hu.mean()) / ct_hu.std()
    middle = image[MIDDLE, MIDDLE]
    image[(image == image.max()) | (image == image.min())] = middle.mean()
    image = diffuse(ndimage.median_filter(image, 3))
    centres, _ = kmeans2(image[MIDDLE, MIDDLE].reshape(-1, 1), 2, minit="++", rng=0)
    mask = ndimage.binary_erosion(image < centres.mean(), np.ones((4, 4)))
    mask = ndimage.binary_dilation(mask, np.ones((10, 10)))
    label, _ = ndimage.label(mask)
    lung = np.zeros(mask.shape, bool)
    for number, (rows, cols) in enumerate(ndimage.find_objects(label), start=1):
        high, wide = rows.stop - rows.start, cols.stop - cols.start
        if high < 475 and wide < 475 and rows.start > 40 and cols.stop < 472:
            lung |= label == number
    return ndimage.binary_dilation(lung, np.ones((10, 10)))


def first_step(network: nn.Module, optimiser: torch.optim.Optimizer, image: torch.Tensor, target: torch.Tensor) -> None:
    """One training step as the first version takes it: float32, cross-entropy, clipped gradient."""
    optimiser.zero_grad()
    nn.functional.binary_cross_entropy_with_logits(network(image), target).backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()
