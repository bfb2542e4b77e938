"""Which rows and columns of a slice a network has to see: those near air in the body.

Z slices, h and w rows and columns of the coarse grid; boxes are of the fine one.
"""

import math

import numpy as np

from lungct.segmentation.body import Body
from lungct.segmentation.morphology import bounding_box, fine_box

TRUNK_MARGIN_MM = 20  # around the trunk; a lung that the field of view cuts may reach so far beyond it
AIR_MARGIN_MM = 30  # in front of air, and beside it: benchmarks/RESULTS.md, "Less to look at"

Box = tuple[slice, slice]  # rows and columns


def box_of_trunk(body: Body, shape: tuple[int, int]) -> Box:
    """The rows and columns of the trunk in all slices, of an image of this shape."""
    box = fine_box(bounding_box(body.hull, body.spacing_mm, TRUNK_MARGIN_MM), body.steps)[1:]
    return tuple(slice(part.start, min(part.stop, size)) for part, size in zip(box, shape, strict=True))


def box_near_air(body: Body, slices: slice, trunk: Box, multiple: int) -> Box:
    """The rows and columns that can hold lung in some slices; those of the trunk where these show no air.

    multiple: of rows and columns, to which a network fills up what it sees

    The box is symmetric about the middle of the trunk and reaches its back, so that a lung without air, or one that is
    dense at the back, where fluid collects, is seen, too.
    """
    air = body.air_in_trunk[slices]
    if not air.any():
        return trunk
    rows, columns = fine_box(bounding_box(air, body.spacing_mm, AIR_MARGIN_MM), body.steps)[1:]
    across = 2 * (body.middle[1] + 0.5) * body.steps[1]  # a column and its mirror image are so much together
    start, stop = math.floor(across - columns.stop), math.ceil(across - columns.start)
    wanted = slice(rows.start, trunk[0].stop), slice(min(start, columns.start), max(stop, columns.stop))
    return tuple(fill_up(part, whole, multiple) for part, whole in zip(wanted, trunk, strict=True))


def fill_up(part: slice, whole: slice, multiple: int) -> slice:
    """A part of rows or columns made as long as a multiple, within the whole: at its end first, then at its start."""
    start, stop = max(part.start, whole.start), min(part.stop, whole.stop)
    size = -(-(stop - start) // multiple) * multiple
    stop = min(whole.stop, start + size)
    return slice(max(whole.start, stop - size), stop)


def reaches_edge(lung: np.ndarray, box: Box, trunk: Box) -> bool:
    """Whether a lung, bool (Z, rows, columns of the box), reaches an edge of its box that is not one of the trunk's."""
    edges = []
    for axis, (part, whole) in enumerate(zip(box, trunk, strict=True), start=1):
        edges += [lung.take(0, axis)] if part.start > whole.start else []
        edges += [lung.take(-1, axis)] if part.stop < whole.stop else []
    return any(edge.any() for edge in edges)
