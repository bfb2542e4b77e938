"""Whether it is known which lung of a mask is the right one, and which the left.

Z slices, H rows, W columns; column 0 is the patient's right.
"""

import numpy as np

from lungct.scans.geometry import BY_SCANNER, GUESS, Middle
from lungct.slices import LEFT, RIGHT

ONE_LUNG = 0.01  # share of the smaller side: what is less is no lung
CLOSE_MM = 90  # between the mean columns of the sides; in seven scans 119 to 136
BESIDE_MM = 30  # from the patient's middle to the mean column of one lung; in seven scans 52 to 75


def side_columns(sides: np.ndarray) -> np.ndarray:
    """Of the right lung and the left, 1 and 2 of (Z, H, W), the pixels in each column: (2, W)."""
    return np.stack([np.count_nonzero(sides == side, axis=(0, 1)) for side in (RIGHT, LEFT)])


def smaller_side_share(columns: np.ndarray) -> float:
    """The share of the lungs that the smaller one has, of `side_columns`."""
    return min(columns.sum(axis=1)) / max(1, columns.sum())


def doubt_sides(columns: np.ndarray, col_mm: float, middle: Middle) -> list[str]:
    """What a reader must know of right and left, of `side_columns` and the middle by which they were told apart.

    Two lungs that lie well apart are told from each other in any picture; of one alone, its place must say which it is.
    """
    if not columns.any():
        return []
    right_mm, left_mm = (
        (np.average(np.arange(len(n)), weights=n) - middle.column) * col_mm if n.any() else 0.0 for n in columns
    )
    if smaller_side_share(columns) >= ONE_LUNG:
        is_guess = middle.source == GUESS and left_mm - right_mm < CLOSE_MM
        return ["right or left is a guess"] if is_guess else []
    off_mm = abs((right_mm, left_mm)[int(columns.sum(axis=1).argmax())])
    if middle.source == GUESS or off_mm < BESIDE_MM:
        return ["one lung only, right or left is a guess"]
    return ["one lung only, right or left by its place in the scanner"] if middle.source == BY_SCANNER else []
