"""Tubes: what they cover, how they fade, what they keep off, and which of them a patient has."""

from itertools import pairwise

import numpy as np
import pytest

from lungct.phantom.anatomy import AIR_HU, BLOOD_HU, BONE_HU, MARROW_HU, draw_build
from lungct.phantom.tubes import (
    AIRWAY_WALL_MM,
    BONE_TO_LUNG_MM,
    VESSEL_TIPS,
    Plane,
    Tube,
    airway_tubes,
    bone_tubes,
    bounding_box,
    covered_share,
    cut_tube,
    draw_tube,
    nodule_tubes,
    rib_tubes,
    tube_distance,
    vessel_tubes,
)

BUILD = draw_build(0)
ALL = (slice(None), slice(None))


def plane(z_mm: float = 0.0, thickness_mm: float = 1.0, lung_distance_mm: np.ndarray | None = None) -> Plane:
    """20 rows and 30 columns of 2 mm, far from the lung unless said otherwise."""
    x_mm, y_mm = np.arange(30) * 2.0, np.arange(20) * 2.0
    far = np.full((20, 30), 99.0)
    return Plane(x_mm, y_mm, z_mm, thickness_mm, far if lung_distance_mm is None else lung_distance_mm)


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_a_tube_cuts_out_the_pixels_within_its_radius():
    truth = np.ones((20, 30), bool)
    cut_tube(truth, Tube((0, 20, 10), (0, 20, 40), 5.0, 0), plane(thickness_mm=0.0))
    rows, cols = np.nonzero(~truth)
    nearest = np.clip(cols * 2.0, 10, 40)
    assert np.hypot(rows * 2.0 - 20, cols * 2.0 - nearest).max() < 5
    assert (~truth).sum() == 5 * 16 + 2 * 8  # 5 rows of 16 columns between the ends, and two round ends by hand


def test_bone_keeps_off_the_lung():
    image = np.zeros((20, 30))
    x = plane().x_mm
    lung = np.broadcast_to(x - 30, image.shape)  # inside where x < 30
    draw_tube(image, Tube((0, 20, 10), (0, 20, 50), 5.0, 700, keep_off_mm=2.0), plane(lung_distance_mm=lung))
    assert not image[:, x < 30].any()
    assert image[10, 20] == 700


def test_a_ball_has_the_volume_of_a_ball():
    places = np.arange(-14, 14.01, 0.5)
    far = np.full((len(places), len(places)), 99.0)
    volume = 0.0
    for z_mm in places:
        image = np.zeros(far.shape)
        draw_tube(image, Tube((0, 0, 0), (0, 0, 0), 10.0, 1.0), Plane(places, places, z_mm, 1e-6, far))
        volume += image.sum() * 0.5**3
    assert volume == pytest.approx(4 / 3 * np.pi * 10**3, rel=0.005)


def test_a_tube_that_is_thinner_than_the_plane_fades_and_a_thicker_one_does_not():
    along = Tube((0, 20, 10), (0, 20, 50), 1.2, 100)
    for thickness_mm, hu in ((12.0, 20), (4.8, 50), (2.4, 100), (1.0, 100)):
        image = np.zeros((20, 30))
        draw_tube(image, along, plane(thickness_mm=thickness_mm))
        assert image[10, 15] == pytest.approx(hu)
        assert not image[13:].any()


def test_half_of_a_pixel_at_the_edge_is_covered():
    np.testing.assert_allclose(
        covered_share(np.array([-3.0, -1.0, -0.5, 0, 0.5, 1, 9]), 2.0), [1, 1, 0.75, 0.5, 0.25, 0, 0]
    )


def test_distance_to_a_tube_is_known_by_hand():
    tube = Tube((0, 20, 10), (0, 20, 40), 5.0, 0)
    distance = tube_distance(tube, plane(z_mm=0.0, thickness_mm=0.0), ALL)
    assert distance[10, 5] == -5  # on its axis
    assert distance[14, 8] == 3  # 8 mm beside it
    assert distance[10, 28] == 11  # 16 mm behind its end
    assert tube_distance(tube, plane(z_mm=12.0, thickness_mm=0.0), ALL)[10, 5] == 7
    assert tube_distance(tube, plane(z_mm=12.0, thickness_mm=4.0), ALL)[10, 5] == 5  # the plane begins at 10 mm


def test_a_tube_across_the_planes_is_a_disc_that_moves_along():
    oblique = Tube((-40, 20, 10), (40, 20, 50), 4.0, 0)
    for z_mm, col in ((-20, 10), (0, 15), (20, 20)):
        distance = tube_distance(oblique, plane(z_mm=z_mm, thickness_mm=0.0), ALL)
        assert np.unravel_index(distance.argmin(), distance.shape) == (10, col)
        assert distance.min() == pytest.approx(-4)


def test_box_holds_all_that_a_tube_touches_whichever_end_comes_first():
    ends = (0, 8, 40), (0, 20, 12)
    for start, end in (ends, ends[::-1]):
        tube = Tube(start, end, 3.0, 1)
        rows, cols = bounding_box(tube, plane())
        outside = np.ones((20, 30), bool)
        outside[rows, cols] = False
        assert outside.any()
        touched = covered_share(tube_distance(tube, plane(), ALL), 2.0) > 0
        assert touched.any()
        assert not (touched & outside).any()


def test_a_tube_beside_the_picture_changes_nothing():
    image, mask = np.zeros((20, 30)), np.ones((20, 30), bool)
    beside = Tube((0, 20, 300), (0, 20, 400), 5.0, 700)
    draw_tube(image, beside, plane())
    cut_tube(mask, beside, plane())
    assert not image.any()
    assert mask.all()


def test_a_tube_reaches_a_radius_beyond_its_ends():
    tube = Tube((40, 0, 0), (10, 9, 9), 5.0, 0)
    assert (tube.low_mm, tube.high_mm) == (5, 45)


def test_trachea_and_main_bronchi_are_no_lung_and_every_lumen_has_its_wall():
    tubes = list(airway_tubes(BUILD, rng()))
    walls, lumens = tubes[:9], tubes[9:]
    assert [wall.cuts_lung for wall in walls] == [True] * 3 + [False] * 6
    assert all(lumen.hu == AIR_HU and not lumen.cuts_lung for lumen in lumens)
    for wall, lumen in zip(walls, lumens, strict=True):
        assert (wall.start, wall.end) == (lumen.start, lumen.end)
        assert wall.radius_mm == pytest.approx(lumen.radius_mm + AIRWAY_WALL_MM)
    trachea, *main = walls[:3]
    assert trachea.start[0] == BUILD.height_mm + 60
    assert {bronchus.start for bronchus in main} == {trachea.end}
    assert sorted(bronchus.end[2] for bronchus in main) == [-40, 46]


def test_vessels_are_two_trees_that_grow_thinner_and_stay_on_their_side():
    tubes = list(vessel_tubes(BUILD, lambda point: 10.0, rng()))
    assert len(tubes) == 2 * VESSEL_TIPS
    for side, tree in ((-1, tubes[:VESSEL_TIPS]), (1, tubes[VESSEL_TIPS:])):
        reached = {(0.52 * BUILD.height_mm, 6.0, side * 38.0)}
        for tube in tree:
            assert tube.start in reached
            reached.add(tube.end)
            assert side * tube.end[2] > 0
            assert tube.hu == BLOOD_HU + BUILD.contrast_hu
        radii = [tube.radius_mm for tube in tree]  # from the hilum outwards
        assert all(a >= b for a, b in pairwise(radii))
        assert 0.6 <= radii[-1] < radii[0] < 3.6


def test_only_points_in_the_lung_are_supplied():
    tubes = list(vessel_tubes(BUILD, lambda point: 5.0 if point[0] > 100 else 4.0, rng()))
    assert 0 < len(tubes) < 2 * VESSEL_TIPS
    assert min(tube.end[0] for tube in tubes) > 100
    assert not list(vessel_tubes(BUILD, lambda point: -1.0, rng()))


def test_nodules_lie_by_turns_at_the_wall_and_inside():
    def depth_mm(point):
        return 40 - abs(abs(point[2]) - 60)

    nodules = list(nodule_tubes(BUILD, depth_mm, rng()))
    assert len(nodules) == BUILD.nodules > 1
    for number, nodule in enumerate(nodules):
        assert nodule.start == nodule.end
        assert 2 <= nodule.radius_mm <= 6
        depth = depth_mm(nodule.start)
        at_wall = nodule.radius_mm / 2 < depth < nodule.radius_mm
        assert at_wall if number % 2 == 0 else depth > 2 * nodule.radius_mm
    assert not list(nodule_tubes(BUILD, lambda point: -1.0, rng()))


def test_ribs_are_eleven_pairs_of_bone_around_marrow_that_slope_down_to_the_front():
    ribs = list(rib_tubes(BUILD))
    assert len(ribs) == 11 * 2 * 12 * 2
    bone, marrow = ribs[::2], ribs[1::2]
    assert all((a.start, a.end) == (b.start, b.end) for a, b in zip(bone, marrow, strict=True))
    assert {(tube.radius_mm, tube.hu) for tube in bone} == {(5.0, BONE_HU)}
    assert {(tube.radius_mm, tube.hu) for tube in marrow} == {(3.0, MARROW_HU)}
    for piece in bone:
        assert piece.start[0] > piece.end[0]
        assert piece.start[1] > piece.end[1]
    right, left = bone[:12], bone[12:24]
    for a, b in zip(right, left, strict=True):
        assert a.start == (*b.start[:2], -b.start[2])


def test_every_bone_keeps_off_the_lung():
    bones = list(bone_tubes(BUILD))
    assert min(tube.keep_off_mm for tube in bones) == BONE_TO_LUNG_MM
    assert not any(tube.cuts_lung for tube in bones)


def test_a_level_cuts_a_tube_off_in_front_or_behind():
    for y_range_mm, rows in (((-np.inf, 20), range(6, 11)), ((20, np.inf), range(10, 15))):
        image = np.zeros((20, 30))
        draw_tube(image, Tube((0, 20, 10), (0, 20, 40), 9.0, -1000, y_range_mm=y_range_mm), plane())
        assert set(np.nonzero(image[:, 15] < -499)[0]) == set(rows)
