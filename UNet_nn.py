"""The network: a U-Net with padding, so that the mask has the size of the slice. Slices may have any size.

B batch, C channels, H rows, W columns.
"""

import copy
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class DoubleConv(nn.Sequential):
    """Two 3x3 convolutions with padding, each followed by batch normalisation (optional) and ReLU."""

    def __init__(self, n_in: int, n_out: int, normalise: bool):
        layers = []
        for channels in (n_in, n_out):
            layers.append(nn.Conv2d(channels, n_out, 3, padding=1, bias=not normalise))
            layers += [nn.BatchNorm2d(n_out)] if normalise else []
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class UNet(nn.Module):
    """U-Net (Ronneberger, Fischer and Brox, MICCAI 2015, arXiv:1505.04597) with padding, on space-to-depth patches.

    n_channels: channels of the input; n_classes: channels of the output
    width:      channels of the first level, doubled at each further level
    depth:      number of levels; each further level has half the rows and columns
    patch:      patches of patch x patch pixels become channels before the first layer, and pixels again after the
                last one, so that the layers in between have `patch` times fewer rows and columns; 1: a plain U-Net
    normalise:  batch normalisation after each convolution

    The first version of this project is UNet(width=64, depth=5, patch=1, normalise=False).
    """

    def __init__(
        self,
        n_channels: int = 1,
        n_classes: int = 1,
        width: int = 16,
        depth: int = 5,
        patch: int = 4,
        normalise: bool = True,
    ):
        super().__init__()
        self.patch = patch
        self.multiple = patch * 2 ** (depth - 1)
        widths = [width * 2**level for level in range(depth)]
        self.stem = DoubleConv(n_channels * patch**2, width, normalise)
        self.down = nn.ModuleList(DoubleConv(a, b, normalise) for a, b in pairwise(widths))
        pairs = list(pairwise(widths))[::-1]
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairs)
        self.merge = nn.ModuleList(DoubleConv(2 * a, a, normalise) for a, _ in pairs)
        self.head = nn.Conv2d(width, n_classes, 1)
        if patch > 1:  # sees the pixels again, to draw the edge where they say
            self.head = nn.Sequential(
                nn.Conv2d(width + n_channels * patch**2, 2 * width, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(2 * width, n_classes * patch**2, 1),
            )

    def forward(self, image: Tensor) -> Tensor:
        """(B, n_channels, H, W) float, normalised, to logits (B, n_classes, H, W)."""
        rows, cols = image.shape[-2:]
        padding = (0, -cols % self.multiple, 0, -rows % self.multiple)
        level = F.pad(image, padding, value=-1.0) if any(padding) else image  # -1 is air
        pixels = F.pixel_unshuffle(level, self.patch)  # (B, n_channels * patch^2, H / patch, W / patch)
        if self.patch > 1:  # ordered as what it is joined to in the end, which else would be ordered again
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        level = self.stem(pixels)
        skips = []
        for down in self.down:
            skips.append(level)
            level = down(F.max_pool2d(level, 2))
        for up, merge, skip in zip(self.up, self.merge, reversed(skips), strict=True):
            level = merge(torch.cat([skip, up(level)], dim=1))
        logits = self.draw(level, pixels) if self.patch > 1 else self.head(level)
        return F.pixel_shuffle(logits, self.patch)[..., :rows, :cols]

    def draw(self, level: Tensor, pixels: Tensor) -> Tensor:
        """The head, on the last level concatenated with the pixels.

        In training the first convolution is split in two, so that no gradient is computed for the pixels.
        """
        if not self.training:
            return self.head(torch.cat([level, pixels], dim=1))
        first, *others = self.head
        of_level, of_pixels = first.weight.split([level.shape[1], pixels.shape[1]], dim=1)
        level = F.conv2d(pixels, of_pixels, first.bias, padding=1) + F.conv2d(level, of_level, padding=1)
        for layer in others:
            level = layer(level)
        return level


def fold_norms(network: UNet) -> UNet:
    """A copy for prediction, with each batch normalisation merged into the convolution before it; same output."""
    folded = copy.deepcopy(network).eval()
    for block in [module for module in folded.modules() if isinstance(module, DoubleConv)]:
        for at, layer in enumerate(block):
            if isinstance(layer, nn.BatchNorm2d):
                block[at - 1], block[at] = fuse_conv_bn_eval(block[at - 1], layer), nn.Identity()
    return folded
