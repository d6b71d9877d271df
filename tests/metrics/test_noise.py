"""Known noise is given back; what is no noise is not taken for it."""

import numpy as np
import pytest
from skimage import data

from ddnsr_cli.metrics.noise import measure_noise
from tests.helpers.noisy_images import noise, scene, whole

SHAPE = (192, 192, 3)


@pytest.mark.parametrize("sigma", [2, 8, 20])
@pytest.mark.parametrize("seed", [0, 1])
def test_white_noise_is_given_back(sigma, seed):
    found = measure_noise(whole(scene(seed=seed) + noise(SHAPE, sigma, seed=seed)))
    assert found.level == pytest.approx(sigma, rel=0.06)
    assert found.neighbors == pytest.approx(0, abs=0.06)
    assert found.channels == pytest.approx(0, abs=0.06)
    np.testing.assert_allclose(found.spectrum, sigma, rtol=0.12)


def test_each_channel_has_its_own():
    found = measure_noise(scene() + noise(SHAPE, 1) * (3, 6, 12))
    np.testing.assert_allclose(found.rgb, (3, 6, 12), rtol=0.08)
    assert found.level == pytest.approx(np.sqrt((9 + 36 + 144) / 3), rel=0.06)


@pytest.mark.parametrize("edge", [1 / 6, 1 / 3, 1 / 2])
def test_the_correlation_of_neighbors_is_given_back(edge):
    """Levels, too: the smooth patches have lost the lowest frequencies, where coarse noise is strongest."""
    found = measure_noise(whole(scene() + noise(SHAPE, 8, grain=(edge, 1, edge))))
    assert found.neighbors == pytest.approx(2 * edge / (2 * edge**2 + 1), abs=0.06)
    assert found.level == pytest.approx(8, rel=0.08)
    assert found.spectrum[0] > 1.3 * found.spectrum[-1]


@pytest.mark.parametrize("gray", [0.4, 0.9])
def test_the_correlation_of_channels_is_given_back(gray):
    found = measure_noise(whole(scene() + noise(SHAPE, 8, gray=gray)))
    assert found.channels == pytest.approx(gray, abs=0.06)
    assert found.level == pytest.approx(8, rel=0.08)


@pytest.mark.parametrize("brightness", [48, 112, 176, 208])
def test_noise_is_told_by_brightness(brightness):
    """Variance 4 + 0.3 I, as of photons. The darker half, at 32 levels less, has less noise."""
    image = np.full((256, 256, 3), brightness - 32.0)
    image[:, 64:] = brightness
    found = measure_noise(whole(image + noise(image.shape, 1) * np.sqrt(4 + 0.3 * image)))
    stretch = brightness // 32
    dark, bright = found.by_brightness[stretch - 1 : stretch + 1]
    assert dark == pytest.approx(np.sqrt(4 + 0.3 * (brightness - 32)), rel=0.15)
    assert bright == pytest.approx(np.sqrt(4 + 0.3 * brightness), rel=0.15)
    assert dark < bright
    assert set(found.by_brightness) == {None, dark, bright}


def test_an_image_without_noise_has_hardly_any():
    found = measure_noise(whole(scene()))
    assert found.level < 0.5
    assert (found.neighbors, found.channels) == (None, None)


def test_a_constant_image_has_none():
    found = measure_noise(np.full(SHAPE, 128, np.uint8))
    assert found.level == pytest.approx(0, abs=1e-4)
    assert found.rgb == pytest.approx((0, 0, 0), abs=1e-4)
    assert (found.neighbors, found.channels) == (None, None)
    assert [level is None for level in found.by_brightness] == [True] * 4 + [False] + [True] * 3


def test_a_small_smooth_part_is_enough():
    image = np.random.default_rng(0).uniform(50, 205, SHAPE)
    image[:60, :80] = scene()[100:160, 100:180]
    found = measure_noise(whole(image + noise(SHAPE, 8, gray=0.5)))
    assert found.level == pytest.approx(8, rel=0.08)
    assert found.channels == pytest.approx(0.5, abs=0.08)


def test_texture_counts_where_nothing_is_smooth():
    """The limit of the method; and the twin of the test above."""
    textured = np.random.default_rng(0).uniform(50, 205, SHAPE)
    assert measure_noise(whole(textured)).level > 30


def test_neither_size_nor_turning_matter():
    image = whole(scene() + noise(SHAPE, 8, grain=(0.3, 1, 0.3), gray=0.5))
    found, turned = measure_noise(image), measure_noise(np.rot90(image, 2).copy())
    assert turned.level == pytest.approx(found.level, rel=1e-6)
    assert turned.neighbors == pytest.approx(found.neighbors, abs=1e-6)
    assert measure_noise(image[:96, 96:]).level == pytest.approx(8, rel=0.1)


def test_whole_levels_and_floats_agree():
    image = whole(scene() + noise(SHAPE, 8))
    assert measure_noise(image) == measure_noise(image.astype(np.float32))


@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_tell_nothing(level):
    assert measure_noise(whole(np.full(SHAPE, level) + noise(SHAPE, 1))) is None


@pytest.mark.parametrize("side", [1, 5, 6, 20])
def test_too_few_pixels_tell_nothing(side):
    assert measure_noise(np.full((side, side, 3), 128, np.uint8)) is None


IMAGES = {"rocket": data.rocket, "astronaut": data.astronaut, "cat": data.chelsea}


@pytest.mark.parametrize("sigma", [4, 8, 15])
@pytest.mark.parametrize("name", IMAGES)
def test_known_noise_on_images_is_reported_within_five_percent(name, sigma):
    """With what each image has of its own, 0.5 to 2 levels."""
    image = IMAGES[name]()
    own = measure_noise(image).level
    made = whole(image + np.random.default_rng(1).normal(0, sigma, image.shape))
    assert measure_noise(made).level == pytest.approx(np.hypot(sigma, own), rel=0.05)
    assert own < 2


@pytest.mark.parametrize("sigma", [4, 8, 15])
def test_gray_and_sixteen_bits_are_reported_alike(sigma):
    image = data.rocket()
    made = whole(image + noise(image.shape, sigma))
    found = measure_noise(made)
    assert measure_noise(made.astype(np.uint16) * 257).level == pytest.approx(found.level, rel=1e-4)
    assert measure_noise(made[..., :1]).level == pytest.approx(sigma, rel=0.05)
    assert measure_noise(made[..., :1]).channels is None


def test_a_large_image_is_measured_on_patches_spread_over_it():
    image = whole(np.full((1800, 1500, 3), 128.0) + noise((1800, 1500, 3), 8))
    found = measure_noise(image)
    assert found.level == pytest.approx(8, rel=0.02)
    assert found.patches < 4000  # a twentieth of 65,536


def test_the_course_over_brightness_knows_every_stretch_and_believes_no_texture():
    """The other figures rest on the calmest parts alone."""
    image = np.full((300, 300, 3), 60.0)
    image[100:200] = 150
    image[200:] = 210
    made = image + noise(image.shape, 1) * np.where(image < 100, 4, np.where(image < 200, 5, 10))
    found = measure_noise(whole(made))
    assert found.course[1] == pytest.approx(4, rel=0.1)
    assert found.course[4] == pytest.approx(5, rel=0.1)
    assert found.course[6] == pytest.approx(1.5 * found.level)
    assert found.course[0] is None
