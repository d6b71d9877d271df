import numpy as np
import pytest

from ddnsr_cli.io.image import RasterImage
from ddnsr_cli.processing.resize import fill_transparent, resize_samples
from tests.helpers.image_files import noise


def sprite(dtype, background, size=61):
    """A hard-edged disc of one color; `background` lies under full transparency."""
    white = np.iinfo(dtype).max
    y, x = np.mgrid[:size, :size] - size // 2
    inside = x**2 + y**2 < (size // 3) ** 2
    pixels = np.full((size, size, 3), background, dtype)
    pixels[inside] = (white, white // 2, 0)
    return pixels, inside.astype(dtype) * white


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_no_fringes_after_filling_and_enlarging(dtype):
    results = []
    for background in (0, np.iinfo(dtype).max):
        pixels, alpha = sprite(dtype, background)
        large = resize_samples(fill_transparent(pixels, alpha), 244, 244)
        seen = resize_samples(alpha[..., None], 244, 244)[..., 0] > 0
        assert (large[seen] == pixels[30, 30]).all()
        results.append(large)
    np.testing.assert_array_equal(*results)  # what lay under transparency leaves no trace


def test_without_filling_there_are_fringes():
    pixels, alpha = sprite(np.uint8, 0)
    large = resize_samples(pixels, 244, 244)
    seen = resize_samples(alpha[..., None], 244, 244)[..., 0] > 0
    assert not (large[seen] == pixels[30, 30]).all()


def test_visible_pixels_stay_bit_for_bit():
    pixels, alpha = noise(37, 53, 3, np.uint16), noise(37, 53, 1, np.uint16, seed=3)[..., 0]
    alpha[alpha < 30_000] = 0
    filled = fill_transparent(pixels, alpha)
    np.testing.assert_array_equal(filled[alpha > 0], pixels[alpha > 0])
    assert filled.dtype == np.uint16


def test_holes_take_colors_from_near_by():
    pixels = np.zeros((64, 128, 1), np.uint8)
    pixels[:, :20], pixels[:, 108:] = 50, 200
    alpha = np.where(pixels[..., 0] > 0, 255, 0).astype(np.uint8)
    filled = fill_transparent(pixels, alpha)[..., 0]
    assert (filled[:, :32] == 50).all()
    assert (filled[:, 96:] == 200).all()
    assert filled.min() >= 50


@pytest.mark.parametrize("level", [0, 1, 255])
def test_nothing_to_do_gives_the_same_pixels(level):
    pixels = noise(5, 7, 3)
    assert fill_transparent(pixels, np.full((5, 7), level, np.uint8)) is pixels


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (3, 1), (5, 7)])
def test_small_and_odd_sizes(size):
    pixels, alpha = noise(*size, 1), np.zeros(size, np.uint8)
    alpha[0, 0] = 9
    filled = fill_transparent(pixels, alpha)
    assert (filled == pixels[0, 0]).all()
    assert RasterImage(pixels=filled, alpha=alpha).has_alpha
