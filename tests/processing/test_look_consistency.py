"""How far a result is from its input."""

import math

import numpy as np
import pytest

from ddnsr_cli.processing.look import MOST_DRIFT_LEVELS, SQUARE_PX, Consistency, Drift

LEVEL = np.float32(1 / 255)


@pytest.fixture
def lr():
    return np.random.default_rng(0).random((3, 43, 61), dtype=np.float32) * np.float32(0.8)


def drift_of(result, lr, step=100):
    drift = Drift(*lr.shape[1:], lr.shape[0])
    for top in range(0, lr.shape[1], step):
        drift.add(top, result[:, top : top + step], lr[:, top : top + step])
    return drift.levels


def test_one_level_everywhere_is_48_decibels(lr):
    consistency = Consistency()
    consistency.add(lr + LEVEL, lr)
    assert consistency.db == pytest.approx(20 * math.log10(255), abs=1e-3)


def test_equal_images_have_no_figure(lr):
    consistency = Consistency()
    consistency.add(lr, lr)
    assert consistency.db is None


def test_portions_add_up(lr):
    result = lr.copy()
    result[:, 5:20] += 0.1
    once, parts = Consistency(), Consistency()
    once.add(result, lr)
    parts.add(result[:, :7], lr[:, :7])
    parts.add(result[:, 7:], lr[:, 7:])
    assert parts.db == pytest.approx(once.db)


def test_drift_tells_a_shift_of_color(lr):
    assert drift_of(lr + 6 * LEVEL, lr) == pytest.approx(6, abs=1e-3)


@pytest.mark.parametrize("step", [1, 5, 8, 32])
def test_drift_does_not_depend_on_portions(lr, step):
    result = lr + np.random.default_rng(1).random(lr.shape, dtype=np.float32)
    assert drift_of(result, lr, step) == pytest.approx(drift_of(result, lr), rel=1e-6)


def test_strong_noise_taken_away_is_no_drift():
    clean = np.full((3, 160, 160), 0.5, np.float32)
    noisy = clean + 30 * LEVEL * np.random.default_rng(2).standard_normal(clean.shape, np.float32)
    assert 3 < drift_of(clean, noisy) < 5 < MOST_DRIFT_LEVELS  # 30 / 8


def test_swapped_colors_are_drift():
    lr = np.stack([np.full((32, 32), value, np.float32) for value in (0.8, 0.5, 0.2)])
    assert drift_of(lr[::-1], lr) > 10 * MOST_DRIFT_LEVELS


def test_slivers_of_squares_do_not_count():
    lr = np.full((1, SQUARE_PX, SQUARE_PX + 1), 0.5, np.float32)
    result = lr.copy()
    result[..., -1] = 1
    assert drift_of(result, lr) == 0


def test_of_a_tiny_image_nothing_can_be_told():
    assert drift_of(np.ones((3, 2, 2), np.float32), np.zeros((3, 2, 2), np.float32)) is None
