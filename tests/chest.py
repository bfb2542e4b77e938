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


def chest_with_ribs() -> tuple[np.ndarray, np.ndarray]:
    """(ct_hu, lung), (40, 90, 120), 5 x 3 x 3 mm: lungs of 40 columns, each 6 mm from the ribs beside and behind it."""
    ct_hu = np.full((40, 90, 120), -1000, np.int16)
    ct_hu[:, 8:82, 6:114] = 40
    ct_hu[::2, 14:74, 10:12] = ct_hu[::2, 14:74, 108:110] = ct_hu[::2, 72:74, 10:110] = 500  # in every second slice
    lung = np.zeros(ct_hu.shape, bool)
    lung[4:36, 16:70, 14:54] = lung[4:36, 16:70, 66:106] = True
    ct_hu[lung] = -850
    return ct_hu, lung
