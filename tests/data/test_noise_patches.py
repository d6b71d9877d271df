import numpy as np
import pytest

from ddnsr_cli.data.noise_patches import PATCH_PX, PatchLimits, noise_field, smooth_patches
from ddnsr_cli.errors import ConfigError
from tests.helpers.drawn_images import drawn_image, noisy


def flat(height=96, width=128, level=120):
    return np.full((height, width, 3), level, np.uint8)


def of_places(image, places):
    return [image[top : top + PATCH_PX, left : left + PATCH_PX].astype(float) for top, left in places]


def field(image, places, height=300, width=280, seed=0):
    return noise_field(image, places, height=height, width=width, rng=np.random.default_rng(seed))


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
    places = smooth_patches(noisy(image, 5), PatchLimits())
    assert places[:, 1].max() <= 128 - PATCH_PX
    assert len(places) > 20


def test_slopes_are_not_noise():
    slope = np.repeat(np.linspace(60, 180, 128).astype(np.uint8)[None, :, None], 96, axis=0).repeat(3, axis=2)
    assert smooth_patches(noisy(slope, 1), PatchLimits(most_variance=100)) is None
    assert smooth_patches(noisy(flat(), 1), PatchLimits(most_variance=100)) is not None


def test_of_a_drawn_scene_the_noise_is_found():
    image = noisy(drawn_image(3, 256), 5)
    deviations = [patch.std(axis=(0, 1)).mean() for patch in of_places(image, smooth_patches(image, PatchLimits()))]
    assert np.mean(deviations) == pytest.approx(5, rel=0.15)


@pytest.mark.parametrize("level", [3, 252])
def test_clipped_noise_is_left_out(level):
    image = flat(96, 192)
    image[:, 96:] = level
    places = smooth_patches(noisy(image, 5), PatchLimits())
    assert places[:, 1].max() <= 96 - PATCH_PX


def test_what_has_no_noise_at_all_gives_none():
    assert smooth_patches(flat(), PatchLimits()) is None
    assert smooth_patches(flat(level=255), PatchLimits()) is None
    assert smooth_patches(flat(15, 200), PatchLimits()) is None


def test_the_largest_variance_can_be_given():
    image = noisy(flat(), 6)
    assert smooth_patches(image, PatchLimits(most_variance=25)) is None
    assert len(smooth_patches(image, PatchLimits(most_variance=50))) > 50


def test_the_same_draws_give_the_same_field():
    image = noisy(flat(), 6)
    places = smooth_patches(image, PatchLimits())
    assert np.array_equal(field(image, places), field(image, places))
    assert not np.array_equal(field(image, places), field(image, places, seed=1))


@pytest.mark.parametrize(
    "nonsense", [{"most_variance": 0.0}, {"least_mean": 200.0, "most_mean": 100.0}, {"most_structure": 0.0}]
)
def test_limits_that_mean_nothing_are_refused(nonsense):
    with pytest.raises(ConfigError):
        PatchLimits(**nonsense)
