"""Grain made after the noise of an image."""

import numpy as np
import pytest

from ddnsr_cli.processing.look import Grain, GrainLayer, grain_like


def noisy(sigma, *, level=128, side=192, channels=3, seed=0, kind=np.uint8):
    noise = np.random.default_rng(seed).standard_normal((side, side, channels))
    factor = 257 if kind == np.uint16 else 1
    return np.rint(np.clip(level + sigma * noise, 0, 255) * factor).astype(kind)


def constant(strength, channels=3):
    return Grain(
        brightness=np.array([0.5], np.float32),
        strength=np.array([strength], np.float32),
        mixing=np.eye(channels, dtype=np.float32),
    )


def add_grain(pixels, like, *, amount, seed):
    GrainLayer(like, pixels.shape[1], white=np.iinfo(pixels.dtype).max, amount=amount, seed=seed).lay_on(pixels)


def levels(grain):
    """Its strength over all brightnesses."""
    return 255 * float(np.sqrt(np.square(grain.strength).mean()))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [2, 8, 20])
def test_grain_is_as_strong_as_the_grain_like_a_flat_image(sigma, channels, kind):
    assert levels(grain_like(noisy(sigma, channels=channels, kind=kind))) == pytest.approx(sigma, rel=0.08)


@pytest.mark.parametrize("axis", [0, 1])
def test_slopes_are_no_noise(axis):
    ramp = np.arange(30, 222, dtype=np.uint8).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    assert levels(grain_like(np.ascontiguousarray(np.broadcast_to(ramp, (192, 192, 3))))) < 0.2


@pytest.mark.parametrize("level", [0, 255])
def test_what_is_clipped_is_not_held_for_clean(level):
    half = noisy(8)
    assert levels(grain_like(np.concatenate([half, np.full_like(half, level)]))) == pytest.approx(8, rel=0.1)


def test_grain_follows_the_noise_over_brightness():
    dark, bright = noisy(3, level=60), noisy(6, level=190, seed=1)
    grain = grain_like(np.concatenate([dark, bright]))
    low, high = np.interp([60 / 255, 190 / 255], grain.brightness, grain.strength) * 255
    assert (low, high) == pytest.approx((3, 4.5), rel=0.15)  # what is far above the flattest parts is held for texture


def test_channels_that_go_together_do_so_in_the_grain():
    gray = noisy(8, channels=1).repeat(3, axis=2)
    assert np.allclose(
        np.cov((np.random.default_rng(0).standard_normal((9999, 3)) @ grain_like(gray).mixing.T).T), 1, atol=0.1
    )


@pytest.mark.parametrize("shape", [(4, 4, 3), (5, 500, 1), (8, 64, 3)])
def test_of_a_tiny_image_no_noise_is_reported(shape):
    assert grain_like(np.full(shape, 100, np.uint8)) is None


def test_black_and_white_tell_nothing():
    assert grain_like(np.full((64, 64, 3), 255, np.uint8)) is None


@pytest.mark.parametrize("amount", [0.5, 1, 2])
def test_grain_is_as_strong_as_asked(amount):
    pixels = np.full((200, 300, 3), 128, np.uint8)
    add_grain(pixels, constant(8 / 255), amount=amount, seed=(0,))
    assert pixels.std() == pytest.approx(8 * amount, rel=0.03)
    assert pixels.mean() == pytest.approx(128, abs=0.1)


def test_grain_of_a_noisy_image_is_as_strong_as_its_noise():
    pixels = np.full((400, 400, 3), 128, np.uint8)
    add_grain(pixels, grain_like(noisy(6)), amount=1, seed=(0,))
    assert pixels.std() == pytest.approx(6, rel=0.1)


def test_grain_at_16_bits_is_the_same_share_of_white():
    pixels = np.full((200, 300, 1), 128 * 257, np.uint16)
    add_grain(pixels, constant(8 / 255, channels=1), amount=1, seed=(0,))
    assert pixels.std() / 257 == pytest.approx(8, rel=0.03)


@pytest.mark.parametrize("level", [0, 2, 10, 245, 253, 255])
def test_grain_shifts_no_color_near_black_and_white(level):
    pixels = np.full((200, 300, 3), level, np.uint8)
    add_grain(pixels, constant(20 / 255), amount=1, seed=(0,))
    assert pixels.mean() == pytest.approx(level, abs=0.2)


def test_the_same_seed_gives_the_same_grain_and_another_another():
    first, again, other = (np.full((70, 80, 3), 128, np.uint8) for _ in range(3))
    for pixels, seed in ((first, (7, 1)), (again, (7, 1)), (other, (8, 1))):
        add_grain(pixels, constant(0.05), amount=1, seed=seed)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_grain_has_no_seams():
    pixels = np.full((256, 600, 1), 128 * 257, np.uint16)
    add_grain(pixels, constant(0.05, channels=1), amount=1, seed=(0,))
    rows = pixels[..., 0].astype(float) - 128 * 257
    alike = [np.corrcoef(rows[row - 1], rows[row])[0, 1] for row in range(1, len(rows))]
    assert min(alike) > 0.5  # as between any two rows: 2/3
    assert np.mean(alike) == pytest.approx(2 / 3, abs=0.03)


@pytest.mark.parametrize("heights", [(200,), (1, 2, 97, 100), (128, 72)])
def test_grain_is_the_same_in_bands_of_any_heights(heights):
    image = noisy(10, side=200)
    whole, bands = image.copy(), []
    add_grain(whole, constant(0.05), amount=1, seed=(3,))
    layer = GrainLayer(constant(0.05), 200, white=255, amount=1, seed=(3,))
    for bottom, height in zip(np.cumsum(heights), heights, strict=True):
        bands.append(layer.over(image[bottom - height : bottom]))
    assert np.array_equal(np.concatenate(bands), whole)
