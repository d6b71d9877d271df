from pathlib import Path

import numpy as np
import pytest
import torch

from ddnsr_cli.data.noise_patches import (
    PATCH_PX,
    NoiseInputs,
    PatchLimits,
    SmoothPatches,
    noise_field,
    slow_part,
    smooth_noise_input,
    smooth_patches,
)
from ddnsr_cli.errors import ConfigError
from tests.helpers.drawn_images import drawn_image, noisy


def flat(height=96, width=128, level=120):
    return np.full((height, width, 3), level, np.uint8)


def of_places(image, places):
    return [image[top : top + PATCH_PX, left : left + PATCH_PX].astype(float) for top, left in places]


def field(image, patches, height=300, width=280, seed=0):
    return noise_field(image, patches, flat(height, width).astype(np.float32), np.random.default_rng(seed))


def test_a_field_has_the_noise_of_the_image():
    image = noisy(flat(), 6)
    noise = field(image, smooth_patches(image, PatchLimits()))
    assert noise.shape == (300, 280, 3)
    assert noise.std(axis=(0, 1)) == pytest.approx([6, 6, 6], rel=0.06)
    assert np.abs(noise.mean(axis=(0, 1))).max() < 0.3


def test_a_field_is_as_strong_where_patches_meet():
    image = noisy(flat(), 6)
    power = np.square(field(image, smooth_patches(image, PatchLimits()), 1200, 1200)).mean(2)
    rows = power.mean(1).reshape(-1, 12).mean(0)  # patches begin every 12 pixels
    assert rows.min() / rows.max() > 0.9


def test_correlation_of_noise_survives():
    white = np.random.default_rng(0).normal(0, 8, (96, 129, 3))
    image = np.clip(np.rint(120 + (white[:, 1:] + white[:, :-1]) / 2), 0, 255).astype(np.uint8)
    noise = field(image, smooth_patches(image, PatchLimits()))
    across = np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]
    down = np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]
    assert across == pytest.approx(0.5, abs=0.1)
    assert abs(down) < 0.1


def test_patches_lie_where_nothing_is_to_be_seen():
    image = flat(128, 256)
    image[:, 128:] = np.random.default_rng(0).integers(0, 256, (128, 128, 3))
    places = smooth_patches(noisy(image, 5), PatchLimits()).places
    assert places[:, 1].max() <= 128 - PATCH_PX
    assert len(places) > 20


def test_slopes_are_not_noise():
    slope = np.repeat(np.linspace(60, 180, 128).astype(np.uint8)[None, :, None], 96, axis=0).repeat(3, axis=2)
    assert smooth_patches(noisy(slope, 1), PatchLimits(most_variance=100)) is None
    assert smooth_patches(noisy(flat(), 1), PatchLimits(most_variance=100)) is not None


def test_of_a_drawn_scene_the_noise_is_found():
    image = noisy(drawn_image(3, 256), 5)
    deviations = [
        patch.std(axis=(0, 1)).mean() for patch in of_places(image, smooth_patches(image, PatchLimits()).places)
    ]
    assert np.mean(deviations) == pytest.approx(5, rel=0.15)


@pytest.mark.parametrize("level", [3, 252])
def test_clipped_noise_is_left_out(level):
    image = flat(96, 192)
    image[:, 96:] = level
    places = smooth_patches(noisy(image, 5), PatchLimits()).places
    assert places[:, 1].max() <= 96 - PATCH_PX


def test_what_has_no_noise_at_all_gives_none():
    assert smooth_patches(flat(), PatchLimits()) is None
    assert smooth_patches(flat(level=255), PatchLimits()) is None
    assert smooth_patches(flat(15, 200), PatchLimits()) is None


def test_the_largest_variance_can_be_given():
    image = noisy(flat(), 6)
    assert smooth_patches(image, PatchLimits(most_variance=25)) is None
    assert len(smooth_patches(image, PatchLimits(most_variance=50)).places) > 50


def test_the_same_draws_give_the_same_field():
    image = noisy(flat(), 6)
    patches = smooth_patches(image, PatchLimits())
    assert np.array_equal(field(image, patches), field(image, patches))
    assert not np.array_equal(field(image, patches), field(image, patches, seed=1))


@pytest.fixture(scope="module")
def camera():
    """An image with little noise in its dark half and much in its bright one."""
    image = np.concatenate([flat(128, 128, 60), flat(128, 128, 200)], axis=1)
    sigma = np.where(image > 128, 9, 3)
    drawn = np.random.default_rng(0).normal(size=image.shape) * sigma
    return np.clip(np.rint(image + drawn), 0, 255).astype(np.uint8)


def test_noise_follows_the_brightness_of_what_it_is_laid_on(camera):
    like = np.concatenate([flat(96, 96, 200), flat(96, 96, 60)], axis=1).astype(np.float32)  # the other way round
    patches = smooth_patches(camera, PatchLimits(most_variance=120))
    noise = noise_field(camera, patches, like, np.random.default_rng(0))
    assert noise[:, :84].std() == pytest.approx(9, rel=0.1)
    assert noise[:, 108:].std() == pytest.approx(3, rel=0.1)


def test_where_nothing_is_as_bright_the_nearest_is_taken(camera):
    patches = smooth_patches(camera, PatchLimits(most_variance=120))
    noise = noise_field(camera, patches, flat(96, 96, 250).astype(np.float32), np.random.default_rng(0))
    assert noise.std() == pytest.approx(9, rel=0.1)


def test_thinned_patches_are_of_every_brightness(camera):
    patches = smooth_patches(camera, PatchLimits(most_variance=120))
    few = patches.thinned(20)
    assert 10 <= len(few.places) == len(few.brightness) <= 20
    assert few.brightness.min() < 65
    assert few.brightness.max() > 195


def test_of_a_large_image_some_patches_are_kept():
    tile = noisy(flat(128, 128), 6)
    found = smooth_patches(np.tile(tile, (5, 9, 1)), PatchLimits(most_variance=80))
    assert 2048 < len(found.places) <= 4096
    assert (found.brightness[1:] >= found.brightness[:-1]).all()


def scene(sigma):
    """Texture on the left, nothing on the right."""
    image = flat(128, 256)
    image[:, :128] = np.kron(np.random.default_rng(3).integers(60, 190, (64, 64, 3)), np.ones((2, 2, 1)))
    return noisy(image, sigma)


def test_a_noise_input_has_the_noise_and_not_the_subject():
    image = scene(6)
    like = drawn_image(1, 128).astype(np.float32)
    made = smooth_noise_input(image, smooth_patches(image, PatchLimits()), like, np.random.default_rng(0))
    assert made.shape == (128, 128, 3)
    planes = torch.from_numpy(like).permute(2, 0, 1)[None]
    noise = made - slow_part(planes)[0].permute(1, 2, 0).numpy()
    assert noise.std() == pytest.approx(6, rel=0.1)
    for subject in (like, image[:, :128].astype(np.float32)):
        assert abs(np.corrcoef(noise.ravel(), subject.ravel())[0, 1]) < 0.03


def test_the_slow_part_keeps_means_and_slopes_and_no_texture():
    slope = torch.linspace(0, 1, 61).expand(1, 3, 45, 61)
    board = (torch.arange(61) % 2).float() - 0.5
    slow = slow_part(slope + 0.2 * board)
    assert slow.shape == slope.shape
    assert (slow - slope)[..., 8:-8].abs().max() < 0.02


def crops_of(image, count=3, side=32):
    return torch.from_numpy(np.stack([image[8 * at : 8 * at + side, :side] for at in range(count)])).permute(0, 3, 1, 2)


def test_training_crops_get_the_noise_of_their_image():
    image, inputs = scene(6), NoiseInputs()
    crops = crops_of(image)
    first, same, other = (inputs(Path("a.png"), image, crops, seed=(0, seed)) for seed in (1, 1, 2))
    assert first.shape == crops.shape
    assert first.dtype == torch.uint8
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    noise = first.float() - slow_part(crops.float())
    assert noise.std().item() == pytest.approx(6, rel=0.1)


def test_of_an_image_without_smooth_parts_crops_are_taken_as_they_are():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    crops = crops_of(image)
    assert NoiseInputs()(Path("a.png"), image, crops, seed=(0,)) is crops


@pytest.mark.parametrize(
    "nonsense",
    [
        {"most_variance": 0.0},
        {"most_variance": float("nan")},
        {"most_variance": float("inf")},
        {"least_mean": 200.0, "most_mean": 100.0},
        {"most_structure": 0.0},
    ],
)
def test_limits_that_mean_nothing_are_refused(nonsense):
    with pytest.raises(ConfigError):
        PatchLimits(**nonsense)


def test_thinned_patches_keep_no_others_alive():
    patches = SmoothPatches(places=np.zeros((10_000, 2), np.intp), brightness=np.zeros(10_000)).thinned(100)
    assert len(patches.places) == 100
    assert patches.places.base is None
    assert patches.brightness.base is None


def test_an_image_that_is_replaced_by_a_smaller_one_is_looked_at_again():
    rng = np.random.default_rng(0)
    inputs, crops = NoiseInputs(), torch.full((2, 3, 32, 32), 128, dtype=torch.uint8)
    for side in (256, 64):
        image = (128 + 4 * rng.standard_normal((side, side, 3))).astype(np.uint8)
        made = inputs(Path("a.png"), image, crops, seed=(0,))
        assert made.float().std() == pytest.approx(4, rel=0.15)
