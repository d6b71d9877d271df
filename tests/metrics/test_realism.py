"""Sets of images: medians over them, spectra and colors."""

import numpy as np
import pytest

from ddnsr_cli.metrics.realism import gather, measure_image
from tests.helpers.noisy_images import noise, scene, whole

SHAPE = (192, 192, 3)


def noisy(sigma, *, seed=0):
    return measure_image(whole(scene(seed=seed) + noise(SHAPE, sigma, seed=seed)))


def test_the_spectrum_of_white_noise_is_its_level():
    found = measure_image(128 + noise((512, 512, 3), 8))
    assert len(found.spectrum) == 16
    np.testing.assert_allclose(found.spectrum[1:], 8, rtol=0.05)


def test_a_wave_stands_at_its_frequency():
    image = 128 + 40 * np.sin(2 * np.pi * np.arange(128) * 8 / 32) * np.ones((128, 3, 1))
    found = measure_image(image.transpose(0, 2, 1))
    assert int(np.argmax(found.spectrum)) == 8 - 1


def test_mean_color_and_contrast():
    image = np.zeros((64, 64, 3))
    image[:] = (40, 80, 160)
    image[:32] += 20
    found = measure_image(image)
    assert found.mean_rgb == pytest.approx((50, 90, 170))
    assert found.contrast == pytest.approx(10)


def test_a_set_gives_medians():
    """One image of another kind moves nothing, as it would a mean."""
    set_ = gather([noisy(8, seed=1), noisy(8, seed=2), noisy(30, seed=3)])
    assert (set_.images, set_.measured) == (3, 3)
    assert set_.noise == pytest.approx(8, rel=0.06)
    assert set_.each_noise == tuple(sorted(set_.each_noise))
    assert set_.each_noise[-1] > 25
    assert set_.noise == set_.each_noise[1]


def test_a_brightness_that_few_images_know_is_left_open():
    gradient, dark = noisy(4), measure_image(whole(np.full(SHAPE, 16) + noise(SHAPE, 1)))
    assert dark.noise.by_brightness[0] is not None
    known = gather([gradient, gradient, gradient, dark]).by_brightness
    assert known[0] is None
    assert any(known)
    assert gather([dark]).by_brightness[0] == pytest.approx(1, rel=0.1)


def test_images_that_tell_nothing_are_counted_and_left_out():
    black = measure_image(np.zeros(SHAPE, np.uint8))
    assert black.noise is None
    set_ = gather([black, noisy(8)])
    assert (set_.images, set_.measured) == (2, 1)
    assert set_.noise == pytest.approx(8, rel=0.06)
    none = gather([black])
    assert (none.noise, none.neighbors, none.noise_rgb, none.noise_spectrum) == (None, None, None, ())
    assert set(none.by_brightness) == {None}


def test_what_is_no_image_is_refused():
    with pytest.raises(ValueError, match=r"at least 32, got \(31, 64, 3\)"):
        measure_image(np.zeros((31, 64, 3), np.uint8))
    with pytest.raises(ValueError, match="at least one"):
        gather([])


def test_16_bits_are_measured_in_the_same_levels():
    rng = np.random.default_rng(0)
    image = (120 + 10 * rng.standard_normal((96, 96, 3))).astype(np.uint8)
    shallow, deep = measure_image(image), measure_image(image.astype(np.uint16) * 257)
    assert deep.mean_rgb == pytest.approx(shallow.mean_rgb)
    assert deep.contrast == pytest.approx(shallow.contrast, rel=1e-5)
    assert deep.spectrum == pytest.approx(shallow.spectrum, rel=1e-4)
