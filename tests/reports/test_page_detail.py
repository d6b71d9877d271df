import numpy as np
import pytest

from ddnsr_cli.reports.page import most_different
from tests.helpers.evaluation_results import drawn


def changed(image, top, left, height, width):
    other = image.copy()
    other[top : top + height, left : left + width] = 255 - other[top : top + height, left : left + width]
    return other


@pytest.mark.parametrize(("top", "left"), [(0, 0), (8, 40), (64, 64), (96, 128)])
def test_the_window_lies_on_the_one_place_that_differs(top, left):
    image = drawn(0, 128, 160)
    window = most_different([image, image, changed(image, top, left, 32, 32)], side_px=32)
    assert (window.top, window.left, window.height, window.width) == (top, left, 32, 32)


def test_of_two_places_the_one_of_greater_difference_is_taken():
    image = np.full((64, 64, 3), 100, np.uint8)
    faint, strong = image.copy(), image.copy()
    faint[:16, :16] = 120
    strong[48:, 48:] = 160
    window = most_different([image, faint, strong], side_px=16)
    assert (window.top, window.left) == (48, 48)


def test_it_is_the_best_of_all_windows_on_the_grid():
    images = [np.random.default_rng(seed).integers(0, 256, (50, 61, 3), np.uint8) for seed in range(3)]
    window = most_different(images, side_px=20)
    spread = np.stack(images).astype(float).var(axis=0).sum(axis=2)
    sums = {(y, x): spread[y : y + 20, x : x + 20].sum() for y in range(0, 31, 4) for x in range(0, 42, 4)}
    assert (window.top, window.left) == max(sums, key=sums.get)


def test_an_image_smaller_than_the_window_is_the_window():
    image = drawn(0, 40, 100)
    window = most_different([image, changed(image, 0, 50, 40, 30)], side_px=64)
    assert (window.top, window.height, window.width) == (0, 40, 64)
    assert 16 <= window.left <= 36
    assert window.cut(image).shape == (40, 64, 3)


def test_equal_images_give_the_first_window():
    window = most_different([drawn(0), drawn(0)], side_px=32)
    assert (window.top, window.left) == (0, 0)
