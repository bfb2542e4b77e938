"""Disease and gas painted into training slices, so that the network sees what few of its slices show.

In, the target stays as it is: nodules and masses, consolidation and collapse, a tumour across a lung, honeycombing,
bullae, pneumothorax (see `pleura`). Out, the target loses it or never has it: effusion, gas of stomach and bowel,
trachea and main bronchi. Ground glass is painted by `augment`.
"""

import numpy as np

from lungct.training.bowel_gas import add_gas, fill_lungs, raise_domes
from lungct.training.canvas import Canvas
from lungct.training.lesions import add_bullae, add_consolidation, add_honeycombing, add_masses, add_tumour_across
from lungct.training.pleura import add_effusion, add_pneumothorax

P_GAS = 0.4  # gas in soft tissue; less leaves the gas of a full stomach in the mask
CHANCES = (  # of one change to a slice with lung; 0.4 have none
    (0.14, raise_domes),  # the middle slices of a scan, which most trainings take, show no base of a lung
    (0.08, fill_lungs),  # that air in a body means lung must not be learned
    (0.14, add_masses),  # what lung masks cut off most often, and what readers look for
    (0.08, add_consolidation),  # common, and left out by every threshold
    (0.04, add_tumour_across),  # rare, and the piece beyond it is easily lost
    (0.05, add_effusion),  # common in the ill; the only disease that is out
    (0.03, add_bullae),  # rare; as dark as gas, from which it must be told
    (0.02, add_honeycombing),  # rare, and half seen already by emphysema and noise
    (0.02, add_pneumothorax),  # rare
)


def add_disease(ct_hu: np.ndarray, lung: np.ndarray, pixel_mm: np.ndarray, rng: np.random.Generator) -> None:
    """Paint disease and gas on slices, in place: ct_hu (B, H, W) int16, lung (B, H, W) bool, pixel_mm (B,).

    At most one of CHANCES in a slice. The same state of `rng` gives the same slices.
    """
    for image, mask, mm in zip(ct_hu, lung, pixel_mm, strict=True):
        change = pick(rng.random())
        has_gas = change is fill_lungs or rng.random() < P_GAS
        if change is None and not has_gas:
            continue
        canvas = Canvas(image, mask, mm, rng)
        if change is not None and canvas.coarse_lung.any():
            change(canvas)
            canvas.measure()
        if has_gas:
            add_gas(canvas)


def pick(number: float):
    """The change that a number from 0 to 1 stands for; None for most."""
    for chance, change in CHANCES:
        if number < chance:
            return change
        number -= chance
    return None
