"""What a batch may become, and what it must stay."""

import pytest
import torch
import torch.nn.functional as F

from lungct.training import augment as module
from lungct.training.augment import (
    BatchRandom,
    add_noise,
    add_opacity,
    add_room_object,
    add_second_body,
    augment,
    blur,
    crop_to_fov,
    lower_resolution,
    miscalibrate,
    warp,
)
from lungct.training.loss import count_overlap


@pytest.fixture
def rng():
    return BatchRandom(torch.Generator().manual_seed(1), torch.device("cpu"))


def body(size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Soft tissue with a lung in it: HU and target, (B, 1, 90, 120)."""
    target = torch.zeros(size, 1, 90, 120)
    target[:, :, 30:60, 20:70] = 1
    return 40 - 890 * target, target


def body_in_room(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Air around soft tissue with a dark lung in it: HU and target, (B, 1, 90, 120)."""
    ct_hu, target = torch.full((size, 1, 90, 120), -1000.0), torch.zeros(size, 1, 90, 120)
    ct_hu[..., 20:70, 30:100], ct_hu[..., 30:60, 40:60], target[..., 30:60, 40:60] = 40, -950, 1
    return ct_hu, target


def test_ct_and_target_move_together():
    target = body()[1]
    ct_hu = target * 3000 - 1000  # lung is 2000 HU here, all else air: nothing that is added can hide it
    moved, moved_target = augment(ct_hu, target, torch.Generator().manual_seed(1))
    assert set(moved_target.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(moved_target, target)
    both, sizes = count_overlap(moved > 700, moved_target > 0.5).sum(0)
    assert 2 * both / sizes > 0.93


def test_augmentation_follows_its_seed():
    first, again, other = (augment(*body(2), torch.Generator().manual_seed(s))[0] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_turned_disc_stays_round_where_rows_and_columns_differ(rng):
    y, x = torch.arange(160.0)[:, None] - 80, torch.arange(100.0) - 50
    disc = (y**2 + x**2 < 20**2).float().expand(16, 1, 160, 100).contiguous()
    moved = warp(disc * 1000 - 1000, disc, rng)[1][:, 0] > 0.5
    extents = torch.tensor([[m.any(1).sum(), m.any(0).sum()] for m in moved if m.any()], dtype=torch.float)
    stretch = extents[:, 0] / extents[:, 1]
    assert stretch.min() > 0.85
    assert stretch.max() < 1.15


def test_clouds_make_lung_denser_and_leave_the_rest(rng):
    ct_hu, target = body()
    cloudy = add_opacity(ct_hu, target, rng)
    assert torch.equal(cloudy[target == 0], ct_hu[target == 0])
    assert (cloudy >= ct_hu).all()
    assert (cloudy > -500).logical_and(target > 0).any()


def test_a_neighbour_has_no_lungs_and_lies_in_the_air_of_the_room(rng):
    ct_hu, target = torch.full((2, 1, 90, 120), -1000.0), torch.zeros(2, 1, 90, 120)
    ct_hu[1, :, 20:60, 30:100], ct_hu[1, :, 30:50, 40:60], target[1, :, 30:50, 40:60] = 40, -850, 1
    beside = add_second_body(ct_hu, target, rng)
    assert (beside[0] == 40).sum() == 40 * 70  # the integer body of the other, its lung filled
    assert (beside[0] == -1000).sum() == 90 * 120 - 40 * 70
    assert torch.equal(beside[1], ct_hu[1])  # the other is air alone


def test_a_neighbour_leaves_body_and_lung(rng):
    ct_hu, target = body_in_room(8)
    beside = add_second_body(ct_hu, target, rng)
    assert torch.equal(beside[ct_hu > -1000], ct_hu[ct_hu > -1000])
    assert ((beside != ct_hu).sum((1, 2, 3)) > 500).all()


def test_sheets_are_arcs_in_the_air_of_the_room(rng):
    ct_hu, target = body_in_room(32)
    covered = add_room_object(ct_hu, target, rng)
    assert torch.equal(covered[ct_hu > -1000], ct_hu[ct_hu > -1000])
    painted = [slice_hu[slice_hu != before].unique() for slice_hu, before in zip(covered, ct_hu, strict=True)]
    assert all(len(values) <= 1 for values in painted)
    assert sum(len(values) for values in painted) > 16  # an arc may miss the room
    values = torch.cat(painted)
    assert values.min() < -500
    assert values.max() > -300
    assert -900 <= values.min() <= values.max() <= 200


def test_calibration_is_off_by_a_level_and_a_factor(rng):
    ct_hu = torch.tensor([0.0, 1000.0]).expand(64, 1, 3, 2)
    off = miscalibrate(ct_hu, rng)
    level, factor = off[:, 0, 0, 0], (off[:, 0, 0, 1] - off[:, 0, 0, 0]) / 1000
    assert 80 < level.abs().max() <= 100
    assert 0.9 <= factor.min() < 0.92 < 1.08 < factor.max() <= 1.1


def test_air_keeps_its_hu_in_about_half_of_the_slices():
    air = augment(torch.full((64, 1, 60, 80), -1000.0), torch.zeros(64, 1, 60, 80), torch.Generator().manual_seed(2))[0]
    kept = (air.flatten(1).median(1).values + 1000).abs() < 5
    assert 20 < kept.sum() < 45


def test_grain_is_as_strong_as_said_and_differs_by_slice(rng):
    noise = add_noise(torch.zeros(6, 1, 90, 120), rng)
    deviation = noise.std((1, 2, 3))
    assert deviation.max() <= 85
    assert len(set(deviation.tolist())) == 6
    scaled = noise / deviation[:, None, None, None]
    assert not torch.allclose(scaled[0], scaled[1], atol=0.1)


def test_blur_is_the_mean_of_nine():
    ct_hu = torch.rand(2, 1, 7, 9)
    expected = F.avg_pool2d(ct_hu, 3, stride=1)
    torch.testing.assert_close(blur(ct_hu)[..., 1:-1, 1:-1], expected)


def test_coarse_slices_keep_their_mean(rng):
    ct_hu = torch.randn(2, 1, 48, 96, generator=torch.Generator().manual_seed(4))
    rough = lower_resolution(ct_hu, rng)
    assert rough.std() < 0.6 * ct_hu.std()
    assert abs(rough.mean() - ct_hu.mean()) < 0.02


def test_the_circle_cuts_ct_and_target_alike(rng):
    ct_hu, target = crop_to_fov(torch.zeros(4, 1, 60, 80), torch.ones(4, 1, 60, 80), rng)
    assert torch.equal(ct_hu == 0, target == 1)
    assert (target[:, :, 0, 0] == 0).all()
    assert (target[:, :, 30, 40] == 1).all()


def test_a_batch_is_noisy_mirrored_and_of_other_contrast_with_some_chance(monkeypatch):
    """Through `augment` itself, all else switched off: the tests of its parts pass also where it calls none of them."""
    for name in ("P_OPACITY", "P_LOW_RES", "P_MISCALIBRATED", "P_FOV_CIRCLE", "ROTATION_DEG", "STRETCH", "SHIFT"):
        monkeypatch.setattr(module, name, 0)
    monkeypatch.setattr(module, "ADDITIONS", ())
    monkeypatch.setattr(module, "ZOOM", (1, 1))
    monkeypatch.setattr(module, "SHARPEN", (0, 0))
    ct_hu, target = torch.full((64, 1, 90, 120), -1000.0), torch.zeros(64, 1, 90, 120)
    ct_hu[..., :45, :60], target[..., :45, 60:] = 200, 1
    changed, moved = augment(ct_hu.clone(), target, torch.Generator().manual_seed(1))
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
