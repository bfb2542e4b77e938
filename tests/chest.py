"""A drawn slice of a chest for tests of what is painted on slices: two lungs in soft tissue in a room."""

import numpy as np

from lungct.training.canvas import Canvas

MM = 2.0  # of a pixel
NOISE_HU, ROOM_HU = 12, -970


def chest(lungs: bool = True, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(ct_hu int16, lung bool), (170, 200): tissue of 50 HU, lungs of -850, a room of -970, noise of 12 HU."""
    y, x = np.mgrid[-85:85, -100:100] * MM
    ct_hu = np.where((x / 170) ** 2 + (y / 130) ** 2 < 1, 50.0, ROOM_HU)
    lung = ((np.abs(x) - 75) / 55) ** 2 + (y / 85) ** 2 < 1
    lung &= lungs
    ct_hu[lung] = -850
    ct_hu += np.random.default_rng(seed).normal(0, NOISE_HU, ct_hu.shape)
    return np.rint(ct_hu).astype(np.int16), lung


def canvas(seed: int = 0, lungs: bool = True) -> Canvas:
    """Such a slice to paint on."""
    return Canvas(*chest(lungs), MM, np.random.default_rng(seed))
