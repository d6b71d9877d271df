"""Colors that follow the input."""

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from ddnsr_cli.processing.look import DOUBT, FLAT, RADIUS_PX, REACH_PX, slow_error

LEVEL = np.float32(1 / 255)


def mended(result, lr):
    return result - slow_error(result, lr, 0, lr.shape[1])


def chart(patch_px, rng):
    """Gray and color patches, (3, 4 * patch_px, 6 * patch_px)."""
    colors = rng.integers(0, 256, (4, 6, 3))
    colors[0] = np.linspace(0, 255, 6, dtype=int)[:, None]
    return (colors.repeat(patch_px, axis=0).repeat(patch_px, axis=1).transpose(2, 0, 1) / 255).astype(np.float32)


def patch_means(planes, patch_px):
    channels, height, width = planes.shape
    return planes.reshape(channels, height // patch_px, patch_px, width // patch_px, patch_px).mean((2, 4))


@pytest.mark.parametrize("gray", [0, 1, 100, 200, 254, 255])
def test_a_flat_image_gets_its_own_gray_back(gray):
    lr = np.full((1, 40, 50), gray * LEVEL)
    assert np.abs(mended(lr * np.float32(0.9) + 5 * LEVEL, lr) - lr).max() < 0.01 * LEVEL


def test_a_ramp_keeps_its_brightness_everywhere():
    lr = np.broadcast_to(np.linspace(0, 1, 256, dtype=np.float32), (3, 64, 256))
    shifted = lr ** np.float32(1.15) + np.array([3, -2, 6], np.float32)[:, None, None] * LEVEL
    assert np.abs(patch_means(shifted, 32) - patch_means(lr, 32)).max() > 8 * LEVEL
    assert np.abs(patch_means(mended(shifted, lr), 32) - patch_means(lr, 32)).max() < 0.5 * LEVEL


@pytest.mark.parametrize("patch_px", [12, 24, 48])
def test_patches_of_a_chart_shift_by_less_than_half_a_level(patch_px):
    lr = chart(patch_px, np.random.default_rng(3))
    shifted = lr * np.float32(0.95) + np.array([5, 0, -4], np.float32)[:, None, None] * LEVEL
    assert np.abs(patch_means(shifted - lr, patch_px)).max() > 4 * LEVEL
    assert np.abs(patch_means(mended(shifted, lr) - lr, patch_px)).max() < 0.5 * LEVEL


def test_the_fault_of_an_object_does_not_spread_over_its_edge():
    lr = np.full((1, 64, 128), 0.2, np.float32)
    lr[..., 64:] = 0.8
    shifted = lr.copy()
    shifted[..., 64:] += 8 * LEVEL
    beside = mended(shifted, lr)[..., 64 - RADIUS_PX : 64]
    assert np.abs(beside - 0.2).max() < 0.5 * LEVEL  # a Gaussian of 8 pixels, the plain way, leaves 4 levels there


def test_noise_that_was_taken_away_does_not_come_back():
    rng = np.random.default_rng(1)
    clean = np.full((3, 96, 96), 0.5, np.float32)
    noisy = clean + (20 * LEVEL) * rng.standard_normal(clean.shape, np.float32)
    assert (mended(clean, noisy) - clean).std() < 20 * LEVEL / 13


def test_detail_that_was_made_stays():
    rng = np.random.default_rng(2)
    lr = np.full((1, 96, 96), 0.5, np.float32)
    detailed = lr + (10 * LEVEL) * rng.standard_normal(lr.shape, np.float32)
    change = mended(detailed, lr) - detailed
    assert change.std() < 1 * LEVEL


def test_portions_are_the_whole_bit_for_bit():
    rng = np.random.default_rng(4)
    result, lr = rng.random((2, 3, 61, 33), dtype=np.float32)
    whole = slow_error(result, lr, 0, 61)
    for step in (1, 7, 32):
        parts = [slow_error(result, lr, top, min(61, top + step)) for top in range(0, 61, step)]
        assert np.array_equal(np.concatenate(parts, axis=1), whole)


def test_rows_further_down_are_not_looked_at():
    rng = np.random.default_rng(5)
    result, lr = rng.random((2, 1, 60, 20), dtype=np.float32)
    early = result.copy()
    early[:, 10 + 2 * RADIUS_PX :] = np.nan
    assert np.array_equal(slow_error(early, lr, 0, 10), slow_error(result, lr, 0, 10))


@pytest.mark.parametrize(("top", "bottom"), [(0, 5), (30, 41), (56, 61)])
def test_a_part_of_the_image_is_enough(top, bottom):
    rng = np.random.default_rng(6)
    result, lr = rng.random((2, 3, 61, 33), dtype=np.float32)
    first, last = max(0, top - REACH_PX), min(61, bottom + REACH_PX)
    part = slow_error(result[:, first:last], lr[:, first:last], top - first, bottom - first)
    assert np.array_equal(part, slow_error(result, lr, top, bottom))


def test_the_slow_error_of_white_noise_is_that_of_the_guided_filter():
    rng = np.random.default_rng(7)
    result, lr = rng.random((2, 1, 31, 29))
    padded = [np.pad(planes[0], RADIUS_PX, mode="edge") for planes in (result, result - lr)]
    windows = [np.lib.stride_tricks.sliding_window_view(plane, (2 * RADIUS_PX + 1,) * 2) for plane in padded]
    bright, error = (window.reshape(31, 29, -1) for window in windows)
    covariance = (bright * error).mean(2) - bright.mean(2) * error.mean(2)
    slope = covariance / (bright.var(2) + DOUBT * error.var(2) + FLAT)
    offset = error.mean(2) - slope * bright.mean(2)
    means = [uniform_filter(fit, 2 * RADIUS_PX + 1, mode="nearest") for fit in (slope, offset)]
    expected = means[0] * result[0] + means[1]
    found = slow_error(result.astype(np.float32), lr.astype(np.float32), 0, 31)[0]
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 5)])
def test_small_images_are_done(size):
    lr = np.full((3, *size), 0.4, np.float32)
    assert np.abs(mended(lr + 9 * LEVEL, lr) - lr).max() < 0.01 * LEVEL
