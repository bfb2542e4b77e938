"""The surface of a mask, cut into elements that each have an area and a distance to another mask's surface.

An element sits at a corner where eight voxels meet, some of them mask and some not. Its area is that of the
triangles which marching cubes lays through those eight voxels. What lies outside the volume is not mask: a mask
that touches the volume's face has a surface there.

Elements, areas and distances are those of google-deepmind's surface-distance. Its tables of areas are used as they
are; its distances are computed anew, since its own take several times longer than the prediction that they judge.
"""

from dataclasses import dataclass

import numpy as np

from lungct.segmentation.morphology import bounding_box, distance_mm

ALL_EIGHT = 0b11111111


@dataclass(frozen=True)
class SurfaceElements:
    """The elements of one mask's surface (N,): distance to the other mask's surface, ascending, and own area."""

    distance_mm: np.ndarray
    area_mm2: np.ndarray


def corner_codes(mask: np.ndarray) -> np.ndarray:
    """Which of the eight voxels around each corner are mask, a bit each: (Z, H, W) bool to (Z+1, H+1, W+1) uint8.

    The highest bit is the voxel before the corner on all three axes, the lowest the one behind it.
    """
    codes = np.pad(mask, 1).view(np.uint8)
    codes = codes[:, :, :-1] << 1 | codes[:, :, 1:]
    codes = codes[:, :-1] << 2 | codes[:, 1:]
    return codes[:-1] << 4 | codes[1:]


def measure_surfaces(
    a: np.ndarray, b: np.ndarray, spacing_mm: tuple[float, float, float]
) -> tuple[SurfaceElements, SurfaceElements]:
    """The elements of both surfaces, each with its distance to the other. Masks (Z, H, W) bool, neither empty."""
    # here: it takes a while to import, and scans without a reference do not need it
    from surface_distance.lookup_tables import create_table_neighbour_code_to_surface_area

    box = bounding_box(a | b, spacing_mm, margin_mm=0)
    codes = [corner_codes(mask[box]) for mask in (a, b)]
    on_surface = [(code != 0) & (code != ALL_EIGHT) for code in codes]
    area_mm2 = create_table_neighbour_code_to_surface_area(spacing_mm)
    elements = []
    for code, here, other in zip(codes, on_surface, reversed(on_surface), strict=True):
        distance = distance_mm(~other, spacing_mm)[here]
        nearest_first = np.argsort(distance)
        elements.append(SurfaceElements(distance[nearest_first], area_mm2[code[here]][nearest_first]))
    return tuple(elements)
