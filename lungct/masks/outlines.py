"""The outline of a mask in a slice, as radiotherapy wants it: closed polygons, holes joined to what is around them.

H rows, W columns; places are (row, column), in pixels, whole numbers at the middle of a pixel.
"""

import numpy as np

CHANNEL = 0.25  # of a pixel, off the row that a hole begins on: a channel never runs through the middle of a pixel


def outline(mask: np.ndarray) -> list[np.ndarray]:
    """A mask (H, W) bool as closed polygons, (N, 2) each, half-way between the pixels in and out.

    The last point is not the first again. No polygon lies in another but as an island in a hole: a hole is joined to
    what is around it by a channel without width, the keyhole of DICOM PS3.3 C.8.8.6.3, since not all programs leave
    out what is inside an inner contour.
    """
    from skimage.measure import find_contours  # takes a while to import

    rows, cols = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not len(rows):
        return []
    corner = np.array([rows[0], cols[0]])
    box = np.pad(mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1], 1).astype(np.float32)
    curves = [points[:-1] + (corner - 1) for points in find_contours(box, 0.5)]
    polygons = [points for points in curves if signed_area(points) > 0]
    holes = [points for points in curves if signed_area(points) < 0]
    for hole in sorted(holes, key=lambda points: points[:, 1].min()):
        join(polygons, hole)
    return [drop_straight(points) for points in polygons]


def signed_area(points: np.ndarray) -> float:
    """Of a polygon (N, 2); above 0 where `find_contours` has gone around what is in the mask."""
    rows, cols = points.T
    return float(cols @ np.roll(rows, -1) - rows @ np.roll(cols, -1)) / 2


def join(polygons: list[np.ndarray], hole: np.ndarray) -> None:
    """Join a hole to the polygon that lies to the left of its first column, in place.

    Holes that begin further to the left are joined before, so that what lies there is the outline around the hole.
    """
    row = hole[hole[:, 1].argmin(), 0] + CHANNEL
    edge, col = min(crossings(hole, row), key=lambda crossing: crossing[1])
    there = [
        (crossing_col, number, crossing_edge)
        for number, points in enumerate(polygons)
        for crossing_edge, crossing_col in crossings(points, row)
        if crossing_col < col
    ]
    outer_col, number, outer_edge = max(there)
    polygons[number] = np.concatenate(
        [
            np.roll(polygons[number], -outer_edge - 1, axis=0),
            [[row, outer_col], [row, col]],
            np.roll(hole, -edge - 1, axis=0),
            [[row, col], [row, outer_col]],
        ]
    )


def crossings(points: np.ndarray, row: float) -> list[tuple[int, float]]:
    """Where the outline of a polygon crosses a row: (edge, column), edge n being that from point n to the next."""
    after = np.roll(points, -1, axis=0)
    edges = np.flatnonzero((points[:, 0] > row) != (after[:, 0] > row))
    (rows, cols), (next_rows, next_cols) = points[edges].T, after[edges].T
    crossed = cols + (next_cols - cols) * (row - rows) / (next_rows - rows)
    return list(zip(edges.tolist(), crossed.tolist(), strict=True))


def drop_straight(points: np.ndarray) -> np.ndarray:
    """A closed polygon without the points at which it goes straight on."""
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    comes_back = (before * after).sum(1) < 0
    return points[(np.abs(turns) > 1e-9) | comes_back]
