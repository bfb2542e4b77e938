"""Builds are various, and the distances are those that their sizes say."""

from dataclasses import replace

import numpy as np
import pytest

from lungct.phantom.anatomy import (
    GRID_MM,
    LEFT_DOME,
    RIGHT_DOME,
    Build,
    Fields,
    Organs,
    diaphragm_height,
    draw_build,
    linear_weights,
    organ_fields,
    smooth_noise,
    superellipse_distance,
)

HEALTHY = {"consolidation": 0.0, "effusion_mm": 0.0, "emphysema": 0.0, "arms_down": False, "prone": False}


def healthy(seed: int = 0, **build) -> Build:
    return replace(draw_build(seed), **{**HEALTHY, **build})


def at_point(build: Build, z: float, y: float, x: float) -> Fields:
    """The fields at one point."""
    fields = organ_fields(build, *(np.full((1, 1, 1), v) for v in (z, y, x)), np.random.default_rng(0))
    return Fields(*(float(field[0, 0, 0]) for field in fields))


def on_grid(build: Build) -> tuple[Fields, np.ndarray, np.ndarray, np.ndarray]:
    """The fields of a whole patient, and z, y, x of their points."""
    nodes = [np.arange(low, high, GRID_MM) for low, high in ((-30, 280), (-150, 150), (-180, 180))]
    z, y, x = np.meshgrid(*nodes, indexing="ij", sparse=True)
    return organ_fields(build, z, y, x, np.random.default_rng(1)), z, y, x


def test_same_seed_same_build_and_another_seed_another():
    assert draw_build(3) == draw_build(3)
    assert draw_build(3) != draw_build(4)


def test_builds_differ_in_all_that_is_hostile():
    builds = [draw_build(seed) for seed in range(200)]
    for name in ("arms_down", "prone", "padding_hu"):
        assert len({getattr(build, name) for build in builds}) > 1
    for name in ("emphysema", "consolidation", "effusion_mm", "contrast_hu"):
        share = np.mean([getattr(build, name) > 0 for build in builds])
        assert 0.05 < share < 0.8


def test_right_half_of_the_diaphragm_is_the_higher_one():
    for seed in range(20):
        right, left = draw_build(seed).dome_tops_mm
        assert 5 <= right - left <= 18


@pytest.mark.parametrize(("x", "y", "distance"), [(0, 0, -60), (100, 0, 0), (0, -60, 0), (-200, 0, 60), (0, 30, -30)])
def test_distance_to_a_trunk_of_200_by_120_mm(x, y, distance):
    found = superellipse_distance(np.float64(x), np.float64(y), np.float64(100), np.float64(60))
    assert found == pytest.approx(distance)


def test_a_superellipse_has_fuller_corners_than_an_ellipse():
    x = y = np.float64(np.sqrt(0.5) * 100)  # on the circle of 100 mm
    assert superellipse_distance(x, y, np.float64(100), np.float64(100)) < -4


def test_spine_and_aorta_are_as_deep_as_their_radii_on_their_axes():
    build = healthy()
    y = 0.78 * build.half_depth_mm
    assert at_point(build, 120, y, 0).spine == pytest.approx(-19)
    assert at_point(build, 120, y, 19).spine == pytest.approx(0)
    assert at_point(build, 120, y, 29).spine == pytest.approx(10)
    assert at_point(build, 20, 0.42 * build.half_depth_mm, 22).blood == pytest.approx(-12.5)


def test_arms_hang_beside_the_trunk_or_are_not_in_the_scan():
    down, up = healthy(arms_down=True), healthy(arms_down=False)
    for side in (-1, 1):
        elbow = (100, 10, side * (down.half_width_mm + down.wall_mm + 52))
        assert at_point(down, *elbow).trunk == pytest.approx(-42)
        assert at_point(up, *elbow).trunk > 20


@pytest.mark.parametrize("side", [RIGHT_DOME, LEFT_DOME])
def test_diaphragm_is_highest_in_the_middle_of_its_half_and_falls_to_the_sides(side):
    build = healthy()
    middle = (-0.45, 0.48)[side] * build.half_width_mm
    height = diaphragm_height(build, side, np.float64(-8), np.array([middle - 40, middle, middle + 40]))
    assert height[1] == pytest.approx(1.05 * build.dome_tops_mm[side])
    assert height[0] == pytest.approx(height[2])
    assert height[0] < height[1] - 10


@pytest.mark.parametrize("seed", range(4))
def test_lung_lies_in_the_rib_cage_above_the_domes_and_beside_heart_and_spine(seed):
    build = healthy(seed)
    fields, z, y, x = on_grid(build)
    inside = fields.lung < 0
    assert inside.sum() * GRID_MM**3 > 1.5e6  # mm3
    for side, half in ((RIGHT_DOME, x < 0), (LEFT_DOME, x >= 0)):
        above = z > diaphragm_height(build, side, y, x)
        assert above[inside & half].all()
    assert (fields.cavity[inside] < -2).all()
    assert (fields.trunk[inside] < -5).all()
    assert (fields.blood[inside] > 0).mean() > 0.999
    assert (fields.spine[inside] > 0).mean() > 0.999
    assert not inside[np.broadcast_to(z > build.height_mm, inside.shape)].any()


@pytest.mark.parametrize("prone", [False, True])
def test_effusion_takes_the_lowest_part_of_the_lung_and_lies_on_the_other_side_when_prone(prone):
    build = healthy(effusion_mm=30.0, prone=prone)
    fields, _, y, _ = on_grid(build)
    whole, *_ = on_grid(replace(build, effusion_mm=0.0))
    lung, fluid = fields.lung < 0, fields.fluid < 0
    np.testing.assert_array_equal(lung | fluid, whole.lung < 0)
    assert not (lung & fluid).any()
    surface = 0.85 * build.half_depth_mm - 30
    down = np.broadcast_to(-y if prone else y, lung.shape)
    assert fluid.any()
    assert down[fluid].min() > surface > down[lung].max()
    assert (whole.fluid > 50).all()


def test_shares_are_none_in_health_and_at_most_the_severity():
    fields, *_ = on_grid(healthy())
    assert not fields.consolidation.any()
    assert not fields.emphysema.any()
    fields, *_ = on_grid(healthy(consolidation=0.8, emphysema=0.5))
    assert fields.consolidation.max() == pytest.approx(0.8)
    assert fields.emphysema.max() == pytest.approx(0.5)
    assert fields.consolidation.min() == fields.emphysema.min() == 0


def test_linear_weights_are_known_by_hand():
    weights = linear_weights(np.array([0.0, 3.0, 6.0]), np.array([1.0, 6.0]))
    np.testing.assert_allclose(weights, [[2 / 3, 1 / 3, 0], [0, 0, 1]], atol=1e-6)


@pytest.fixture(scope="module")
def organs() -> Organs:
    """Pixels of 3 mm, which lie on the nodes of the grid: 71 rows, 101 columns."""
    x_mm, y_mm, z_mm = np.arange(-150, 151, 3.0), np.arange(-105, 106, 3.0), np.arange(60, 121, 5.0)
    return Organs(healthy(), x_mm, y_mm, z_mm, np.random.default_rng(1))


def test_fields_on_a_plane_are_those_of_the_grid_and_their_mean_half_way(organs):
    z_mm = organs.z_nodes_mm
    lung = organs.fields_at(z_mm[4]).lung
    assert lung.shape == (71, 101)
    np.testing.assert_allclose(lung, organs.grid[Fields._fields.index("lung"), 4, 2:-2, 2:-2], atol=1e-4)
    between = organs.fields_at(z_mm[4] + 1.5)
    for name in Fields._fields:
        below, above = (getattr(organs.fields_at(z_mm[k]), name) for k in (4, 5))
        np.testing.assert_allclose(getattr(between, name), (below + above) / 2, atol=1e-3)


def test_depth_in_the_lung_is_the_distance_turned_round_at_the_nearest_node(organs):
    z_mm = float(organs.z_nodes_mm[6])
    lung = organs.fields_at(z_mm).lung
    deepest = np.unravel_index(lung.argmin(), lung.shape)
    for row, col in (deepest, (35, 50), (0, 0)):
        point = np.array([z_mm + 1, organs.y_mm[row] - 1, organs.x_mm[col] + 1])
        assert organs.depth_in_lung_mm(point) == pytest.approx(-lung[row, col], abs=1e-3)
    assert organs.depth_in_lung_mm(np.array([z_mm, 0, 1e4])) < 0  # far outside the grid: as at its edge


def test_noise_as_fine_as_the_grid_is_that_of_the_generator():
    noise = smooth_noise((4, 5, 6), GRID_MM, np.random.default_rng(7))
    drawn = np.random.default_rng(7).standard_normal((7, 8, 9)).astype(np.float32)
    np.testing.assert_allclose(noise, 1.6 * drawn[:4, :5, :6])


def test_noise_has_about_unit_deviation_and_varies_over_its_scale():
    noise = smooth_noise((80, 80, 80), 24.0, np.random.default_rng(7))
    assert noise.dtype == np.float32
    assert 0.8 < noise.std() < 1.2
    assert np.abs(np.diff(noise, axis=0)).mean() < 0.3 * noise.std()
    assert abs(np.corrcoef(noise[:-20].ravel(), noise[20:].ravel())[0, 1]) < 0.1
