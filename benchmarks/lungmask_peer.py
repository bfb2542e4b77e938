"""lungmask (Hofmanninger et al., Eur Radiol Exp 4 (2020) 50; PyPI lungmask) on a DICOM folder, for whole_scan.py.

Runs in an environment of its own. Its weights cannot be fetched offline and do not change the time, so the network
runs with random ones, and two ovals answer in their place: the least work that its clean-up can have.
"""

import sys
import tempfile
from pathlib import Path

import SimpleITK
import torch
from lungmask import LMInferer, utils
from lungmask.resunet import UNet

R231 = {"n_classes": 3, "padding": True, "depth": 5, "up_mode": "upsample", "batch_norm": True, "residual": False}


class Answer(torch.nn.Module):
    """Runs the network, then answers that an oval on the right and one on the left are lung."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scores = self.network(image)
        y, x = torch.linspace(-1, 1, image.shape[2])[:, None], torch.linspace(-1, 1, image.shape[3])
        for side in (1, 2):
            scores[:, side] = (((x + (3 - 2 * side) * 0.45) / 0.3) ** 2 + (y / 0.5) ** 2 < 1).float()
        scores[:, 0] = 0.5
        return scores


def main(folder: str, out: str) -> None:
    """Read, segment, write, as lungmask's own command does."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "random.pth"
        torch.save(UNet(**R231).state_dict(), path)
        inferer = LMInferer(modelname="R231", modelpath=str(path), force_cpu=True, tqdm_disable=True)
    inferer.model = Answer(inferer.model).eval()
    image = utils.load_input_image(folder)
    mask = SimpleITK.GetImageFromArray(inferer.apply(image))
    mask.CopyInformation(image)
    SimpleITK.WriteImage(mask, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
