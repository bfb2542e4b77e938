"""What a batch may become, and what it must stay."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lungct.training import augment as module
from lungct.training.augment import (
    add_noise,
    add_opacity,
    add_room_object,
    add_second_body,
    augment,
    change_contrast,
    change_kernel,
    crop_to_fov,
    draw_fields,
    draw_theta,
    fill,
    lower_resolution,
    miscalibrate,
    warp,
)
from lungct.training.loss import count_overlap

CPU = torch.device("cpu")


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def body(size: int = 8) -> tuple[Tensor, Tensor]:
    """Soft tissue with a lung in it: HU and lung, (B, 90, 120)."""
    lung = torch.zeros(size, 90, 120)
    lung[:, 30:60, 20:70] = 1
    return 40 - 890 * lung, lung


def body_in_room() -> tuple[Tensor, Tensor]:
    """Air around soft tissue with a dark lung in it: HU and lung, (90, 120)."""
    ct_hu, lung = torch.full((90, 120), -1000.0), torch.zeros(90, 120)
    ct_hu[20:70, 30:100], ct_hu[30:60, 40:60], lung[30:60, 40:60] = 40, -950, 1
    return ct_hu, lung


def test_ct_and_target_move_together(rng):
    lung = body()[1]
    ct_hu = lung * 3000 - 1000  # lung is 2000 HU here, all else air: nothing that is added can hide it
    moved, target = augment(ct_hu, lung, rng)
    assert moved.shape == target.shape == (8, 1, 90, 120)
    assert set(target.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(target[:, 0], lung)
    both, sizes = count_overlap(moved > 700, target > 0.5).sum(0)
    assert 2 * both / sizes > 0.93


def test_augmentation_follows_its_seed_and_leaves_its_slices():
    ct_hu, lung = body(2)
    first, again, other = (augment(ct_hu, lung, np.random.default_rng(s))[0] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.stack([ct_hu, lung]), torch.stack(body(2)))


def test_slices_as_they_are_on_disk_give_the_same_as_float32():
    ct_hu, lung = body(2)
    for number, part in enumerate(augment(ct_hu, lung, np.random.default_rng(1))):
        small = augment(ct_hu.to(torch.int16), lung.to(torch.uint8), np.random.default_rng(1))
        assert torch.equal(part, small[number])


def test_a_slice_is_turned_zoomed_stretched_and_shifted_as_far_as_said(rng):
    thetas = np.array([draw_theta(100, 100, rng) for _ in range(2000)])
    scale = np.hypot(thetas[:, 0, 0], thetas[:, 1, 0]), np.hypot(thetas[:, 0, 1], thetas[:, 1, 1])  # of columns, rows
    assert 1 / 1.5 <= scale[1].min() < 0.68
    assert 1.62 < scale[1].max() <= 1 / 0.6
    assert 0.9 <= (scale[0] / scale[1]).min() < 0.91
    assert 1.09 < (scale[0] / scale[1]).max() <= 1.1
    turned = np.degrees(np.arctan(thetas[:, 1, 0] / thetas[:, 0, 0]))
    assert -20 <= turned.min() < -19
    assert 19 < turned.max() <= 20
    shift = np.hypot(thetas[:, 0, 2], thetas[:, 1, 2])
    assert 0.38 < shift.max() <= 0.3 * 2**0.5
    for mirrored in thetas[:, 0, 0] < 0, thetas[:, 1, 1] < 0:
        assert 0.46 < mirrored.mean() < 0.54


def test_a_slice_moves_as_affine_grid_defines_it():
    ct_hu, theta = torch.rand(3, 60, 80) * 1000, torch.tensor([[[0.9, 0.2, 0.1], [-0.3, 1.2, -0.2]]]).repeat(3, 1, 1)
    theta[1, 0, 0] = -1
    grid = F.affine_grid(theta, (3, 1, 60, 80), align_corners=False)
    expected = F.grid_sample((ct_hu + 1024)[:, None], grid, align_corners=False)[:, 0] - 1024
    torch.testing.assert_close(warp(ct_hu, ct_hu > 500, theta)[0], expected, atol=0.1, rtol=0)


def test_a_turned_disc_stays_round_where_rows_and_columns_differ(rng):
    y, x = torch.arange(160.0)[:, None] - 80, torch.arange(100.0) - 50
    disc = (y**2 + x**2 < 20**2).float().expand(16, 160, 100)
    moved = warp(disc * 1000 - 1000, disc, draw_fields(disc.shape, rng, CPU).theta)[1] > 0.5
    extents = torch.tensor([[m.any(1).sum(), m.any(0).sum()] for m in moved if m.any()], dtype=torch.float)
    stretch = extents[:, 0] / extents[:, 1]
    assert stretch.min() > 0.85
    assert stretch.max() < 1.15


def test_clouds_make_lung_denser_and_leave_the_rest(rng):
    ct_hu, lung = (part[0] for part in body(1))
    before = ct_hu.clone()
    add_opacity(ct_hu, lung, torch.randn(20, 20, generator=torch.Generator().manual_seed(1)), rng)
    assert torch.equal(ct_hu[lung == 0], before[lung == 0])
    assert (ct_hu >= before).all()
    assert (ct_hu > -500).logical_and(lung > 0).any()


def test_clouds_are_the_bicubic_surface_of_their_knots(monkeypatch):
    """From 0 to 1000 HU by the share that the surface says."""
    monkeypatch.setattr(module, "OPACITY_KNOTS", (7, 7))
    monkeypatch.setattr(module, "OPACITY_LEVEL", (0.5, 0.5))
    monkeypatch.setattr(module, "OPACITY_EDGE", (3, 3))
    monkeypatch.setattr(module, "OPACITY_HU", (1000, 1000))
    knots, ct_hu = torch.randn(20, 20, generator=torch.Generator().manual_seed(1)), torch.zeros(50, 70)
    surface = F.interpolate(knots[None, None, :7, :7], (50, 70), mode="bicubic")[0, 0]
    add_opacity(ct_hu, torch.ones(50, 70), knots, np.random.default_rng(1))
    torch.testing.assert_close(ct_hu, 1000 * torch.sigmoid((surface - 0.5) * 3), atol=0.01, rtol=1e-4)


def test_a_filled_body_has_no_lung():
    ct_hu, lung = body_in_room()
    filled = fill(ct_hu.clone(), lung, 40)
    assert (filled[lung > 0] == 40).all()
    assert torch.equal(filled[lung == 0], ct_hu[lung == 0])


def test_another_body_lies_in_the_air_of_the_room(rng):
    room, other = torch.full((90, 120), -1000.0), torch.full((90, 120), -1000.0)
    other[20:60, 30:100] = 40
    add_second_body(room, torch.zeros(90, 120), other, rng)
    assert (room == 40).sum() == 40 * 70  # all of it
    assert (room == -1000).sum() == 90 * 120 - 40 * 70
    assert not torch.equal(room, other)  # moved


def test_another_body_leaves_body_and_lung(rng):
    for _ in range(8):
        ct_hu, lung = body_in_room()
        before = ct_hu.clone()
        add_second_body(ct_hu, lung, fill(ct_hu.clone(), lung, 40), rng)
        assert torch.equal(ct_hu[before > -1000], before[before > -1000])
        assert (ct_hu != before).sum() > 500


def test_slices_of_a_batch_lend_each_other_their_bodies(monkeypatch):
    """All else switched off; three bodies of three HU: none beside itself, none changed by a third."""
    switch_off(monkeypatch, keep=("P_SECOND_BODY",))
    monkeypatch.setattr(module, "P_SECOND_BODY", 1)
    ct_hu, lung = torch.full((3, 90, 120), -1000.0), torch.zeros(3, 90, 120)
    for number in range(3):
        ct_hu[number, 40:50, 50:70], lung[number, 44:46, 55:60] = 100 * number, 1
    changed, target = augment(ct_hu, lung, np.random.default_rng(1))
    seen = [set(image.round().unique().tolist()) - {-1000.0} for image in changed]
    assert seen == [{0.0, 200.0, 40.0}, {100.0, 0.0, 40.0}, {200.0, 100.0, 40.0}]  # 40: lungs of the other, filled
    assert torch.equal(target[:, 0], lung)


def switch_off(monkeypatch, keep: tuple[str, ...] = ()) -> None:
    """Let `augment` change nothing but what is kept."""
    nothing = dict.fromkeys(("ROTATION_DEG", "STRETCH", "SHIFT", "NOISE_HU"), 0) | dict.fromkeys(CHANCES, 0)
    nothing |= {"ZOOM": (1, 1), "CONTRAST_FACTOR": (1, 1), "SHARPEN": (0, 0)}
    for name in nothing.keys() - set(keep):
        monkeypatch.setattr(module, name, nothing[name])


CHANCES = ("P_MIRROR", "P_OPACITY", "P_SECOND_BODY", "P_ROOM_OBJECT", "P_LOW_RES", "P_MISCALIBRATED", "P_FOV_CIRCLE")


def test_each_change_comes_as_often_as_said(monkeypatch):
    """The parts of 4000 slices counted, none of them made; room objects have two chances a slice."""
    counts = {}
    functions = {
        "add_opacity": 0.25,
        "add_second_body": 0.3,
        "add_room_object": 1.0,
        "change_contrast": 1.0,
        "add_noise": 1.0,
        "change_kernel": 1.0,
        "lower_resolution": 0.25,
        "miscalibrate": 0.5,
        "crop_to_fov": 0.2,
    }
    for name in functions:
        monkeypatch.setattr(module, name, lambda *_, name=name: counts.update({name: counts.get(name, 0) + 1}))
    augment(torch.zeros(4000, 4, 4), torch.zeros(4000, 4, 4), np.random.default_rng(1))
    for name, share in functions.items():
        assert counts[name] / 4000 == pytest.approx(share, abs=0.03), name


def test_sheets_are_arcs_in_the_air_of_the_room(rng):
    painted = []
    for _ in range(32):
        ct_hu, lung = body_in_room()
        before = ct_hu.clone()
        add_room_object(ct_hu, lung, rng)
        assert torch.equal(ct_hu[before > -1000], before[before > -1000])
        painted.append(ct_hu[ct_hu != before].unique())
    assert all(len(values) <= 1 for values in painted)
    assert sum(len(values) for values in painted) > 16  # an arc may miss the room
    values = torch.cat(painted)
    assert -900 <= values.min() < -500
    assert -300 < values.max() <= 200


@pytest.mark.parametrize(("radius", "width"), [(0.5, 0.1), (0.05, 0.12), (4, 0.003)])
def test_an_arc_has_the_radius_and_the_width_that_were_drawn(monkeypatch, radius, width):
    """In the second case it is a disc: the radius is less than half the width."""
    monkeypatch.setattr(module, "ROOM_OBJECT_RADIUS", (radius, radius))
    monkeypatch.setattr(module, "ROOM_OBJECT_WIDTH", (width, width))
    ct_hu = torch.full((400, 500), -1000.0)
    add_room_object(ct_hu, torch.zeros(400, 500), np.random.default_rng(3))
    rng = np.random.default_rng(3)
    rng.uniform(), rng.uniform()
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.linspace(0, 1, 400)[:, None], np.linspace(0, 1, 500)
    y, x = y - rng.uniform() - radius * np.sin(angle), x - rng.uniform() - radius * np.cos(angle)
    expected = np.abs(np.sqrt(y**2 + x**2) - radius) < width / 2
    assert expected.sum() > 100
    assert ((ct_hu.numpy() > -1000) != expected).mean() < 1e-4


def test_calibration_is_off_by_a_level_and_a_factor(rng):
    off = torch.tensor([0.0, 1000.0]).repeat(64, 1)
    for values in off:
        miscalibrate(values, rng)
    level, factor = off[:, 0], (off[:, 1] - off[:, 0]) / 1000
    assert 80 < level.abs().max() <= 100
    assert 0.9 <= factor.min() < 0.92 < 1.08 < factor.max() <= 1.1


def test_air_keeps_its_hu_in_about_half_of_the_slices():
    air = augment(torch.full((64, 60, 80), -1000.0), torch.zeros(64, 60, 80), np.random.default_rng(2))[0]
    kept = (air.flatten(1).median(1).values + 1000).abs() < 5
    assert 20 < kept.sum() < 45


def test_contrast_medium_changes_what_is_above_water_alone(rng):
    factors = []
    for _ in range(64):
        ct_hu = torch.tensor([-1000.0, -300, 0, 50, 200])
        change_contrast(ct_hu, rng)
        torch.testing.assert_close(ct_hu[:3], torch.tensor([-1000.0, -300, 0]))
        factors.append(float(ct_hu[4]) / 200)
        assert float(ct_hu[3]) / 50 == pytest.approx(factors[-1])
    assert 0.5 <= min(factors) < 0.6
    assert 2.4 < max(factors) <= 2.5


def test_grain_is_as_strong_as_said_and_differs_by_slice(rng):
    field, slices = torch.randn(90 * 120, generator=torch.Generator().manual_seed(1)), torch.zeros(6, 90, 120)
    for ct_hu in slices:
        add_noise(ct_hu, field, rng)
    deviation = slices.std((1, 2))
    assert deviation.max() <= 85
    assert len(set(deviation.tolist())) == 6
    scaled = slices / deviation[:, None, None]
    assert not torch.allclose(scaled[0], scaled[1], atol=0.1)
    torch.testing.assert_close(*(part.flatten().sort().values for part in scaled[:2]), atol=0.01, rtol=0)  # all of it


def test_a_kernel_moves_away_from_the_mean_of_nine_or_towards_it(monkeypatch):
    before = torch.rand(7, 9)
    means = F.avg_pool2d(before[None], 3, stride=1)[0]
    for strength in (-1, -0.4, 0.7):
        monkeypatch.setattr(module, "SHARPEN", (strength, strength))
        ct_hu = before.clone()
        change_kernel(ct_hu, np.random.default_rng(1))
        inner = before[1:-1, 1:-1]
        torch.testing.assert_close(ct_hu[1:-1, 1:-1], inner + (inner - means) * strength)
        ct_hu[1:-1, 1:-1] = inner
        assert torch.equal(ct_hu, before)


def test_coarse_slices_keep_their_mean(rng):
    fine = torch.randn(48, 96, generator=torch.Generator().manual_seed(4))
    rough = fine.clone()
    lower_resolution(rough, rng)
    assert rough.std() < 0.6 * fine.std()
    assert abs(rough.mean() - fine.mean()) < 0.02


def test_the_circle_cuts_ct_and_target_alike(rng):
    for _ in range(4):
        ct_hu, lung = torch.zeros(60, 80), torch.ones(60, 80)
        crop_to_fov(ct_hu, lung, rng)
        assert torch.equal(ct_hu == 0, lung == 1)
        assert torch.equal(ct_hu == -1024, lung == 0)
        assert lung[0, 0] == 0
        assert lung[30, 40] == 1


def test_a_batch_is_noisy_mirrored_and_of_other_contrast_with_some_chance(monkeypatch):
    """Through `augment` itself, all else switched off: the tests of its parts pass also where it calls none of them."""
    switch_off(monkeypatch, keep=("P_MIRROR", "CONTRAST_FACTOR", "NOISE_HU"))
    ct_hu, lung = torch.full((64, 90, 120), -1000.0), torch.zeros(64, 90, 120)
    ct_hu[..., :45, :60], lung[..., :45, 60:] = 200, 1
    changed, moved = augment(ct_hu, lung, np.random.default_rng(1))
    corners = {"up": (0, -1), "up left": (0, 0), "down": (-1, -1), "down left": (-1, 0)}
    seen = [next(name for name, (row, col) in corners.items() if mask[0, row, col]) for mask in moved]
    assert all(seen.count(name) >= 6 for name in corners)  # each of four ways about 16 times in 64
    quarters = {"up": (0, 0), "up left": (0, 1), "down": (1, 0), "down left": (1, 1)}  # where 200 HU are then
    soft = [
        image[0, 45 * row + 5 : 45 * row + 40, 60 * col + 5 : 60 * col + 55]
        for image, (row, col) in zip(changed, (quarters[name] for name in seen), strict=True)
    ]
    deviation, mean = torch.stack([part.std() for part in soft]), torch.stack([part.mean() for part in soft])
    assert 60 < deviation.max() <= 85
    assert deviation.min() < 20
    assert 90 < mean.min() < 130  # half of 200 HU, with contrast medium 2.5 times as much
    assert 450 < mean.max() < 510
