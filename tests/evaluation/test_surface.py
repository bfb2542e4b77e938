"""Surface elements of single voxels, boxes and sheets, whose areas and distances are known by hand."""

import math

import numpy as np
import pytest

from lungct.evaluation.surface import corner_codes, measure_surfaces

SPACING_MM = (3.0, 2.0, 1.5)
SHAPE = (12, 16, 20)


def box(*sides: slice) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[sides] = True
    return mask


def box_area_mm2(voxels: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> float:
    """Area of a box of so many voxels, its edges and corners cut half a voxel deep as marching cubes cuts them."""
    area = 0.0
    for axis in range(3):
        n, m = (voxels[other] - 1 for other in range(3) if other != axis)
        u, v = (spacing_mm[other] for other in range(3) if other != axis)
        area += 2 * n * u * m * v  # two faces
        area += 4 * (voxels[axis] - 1) * spacing_mm[axis] * math.hypot(u, v) / 2  # four edges
    z, y, x = spacing_mm
    return area + 8 * math.hypot(y * x, z * x, z * y) / 8  # eight corners, a triangle each


def test_the_eight_corners_of_a_voxel_each_have_a_bit_of_their_own():
    codes = corner_codes(np.ones((1, 1, 1), bool))
    assert codes.ravel().tolist() == [1, 2, 4, 8, 16, 32, 64, 128]


def test_inside_of_a_mask_is_full_and_outside_empty():
    codes = corner_codes(box(slice(2, 6), slice(3, 8), slice(4, 9)))
    assert (codes == 255).sum() == 3 * 4 * 4
    assert (codes > 0).sum() == 5 * 6 * 6


@pytest.mark.parametrize("start", [0, 3])  # 0: at three of the volume's faces
def test_area_of_a_box(start):
    mask = box(slice(start, start + 4), slice(start, start + 5), slice(start, start + 6))
    surface, _ = measure_surfaces(mask, mask, SPACING_MM)
    assert surface.area_mm2.sum() == pytest.approx(box_area_mm2((4, 5, 6), SPACING_MM))
    assert not surface.distance_mm.any()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("apart", [1, 3])
@pytest.mark.parametrize("spacing_mm", [SPACING_MM, (0.5, 0.7, 0.9)])  # slices are the largest step, the smallest
def test_two_sheets_are_so_many_voxels_apart_on_each_axis(axis, apart, spacing_mm):
    """A sheet one voxel thick has two sides: one is `apart` voxels from the other sheet, the other one fewer."""
    sides = [slice(2, 9)] * 3
    sheets = [box(*sides[:axis], slice(at, at + 1), *sides[axis + 1 :]) for at in (4, 4 + apart)]
    for surface in measure_surfaces(*sheets, spacing_mm):
        half = len(surface.distance_mm) // 2
        assert surface.distance_mm[:half] == pytest.approx(spacing_mm[axis] * (apart - 1))
        assert surface.distance_mm[half:] == pytest.approx(spacing_mm[axis] * apart)
        assert surface.area_mm2[:half].sum() == pytest.approx(surface.area_mm2[half:].sum())


def test_the_inside_of_a_mask_is_no_surface():
    """A box within a box, two voxels of 1.5 mm from its sides, 2 mm and 3 mm on the other axes."""
    outer, inner = box(slice(1, 11), slice(1, 12), slice(1, 13)), box(slice(3, 9), slice(3, 10), slice(3, 11))
    of_outer, of_inner = measure_surfaces(outer, inner, SPACING_MM)
    assert of_inner.distance_mm.min() == of_outer.distance_mm.min() == pytest.approx(3.0)
    assert of_inner.distance_mm.max() == pytest.approx(6.0)
    assert of_outer.distance_mm.max() == pytest.approx(math.sqrt(6**2 + 4**2 + 3**2))


def test_distances_and_areas_stay_together_and_ascend():
    """A sheet, and beside it the same one with a plate far away: the plate's area comes last."""
    sheet, plate = box(slice(1, 4), slice(2, 7), slice(3, 4)), box(slice(6, 8), slice(2, 5), slice(15, 19))
    alone, with_plate = measure_surfaces(sheet, sheet | plate, SPACING_MM)
    area = box_area_mm2((3, 5, 1), SPACING_MM)
    assert alone.area_mm2.sum() == pytest.approx(area)
    assert not alone.distance_mm.any()
    assert (np.diff(with_plate.distance_mm) >= 0).all()
    far = with_plate.distance_mm > 10
    assert with_plate.area_mm2[~far].sum() == pytest.approx(area)
    assert with_plate.area_mm2[far].sum() == pytest.approx(box_area_mm2((2, 3, 4), SPACING_MM))
