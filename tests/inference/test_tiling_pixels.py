import numpy as np
import pytest

from ddnsr_cli.inference.tiling import PixelSource, as_pixels, to_planes
from tests.helpers.image_files import noise


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_there_and_back_is_exact(dtype, channels):
    pixels = noise(17, 19, channels, dtype)
    planes = to_planes(pixels)
    assert (planes.shape, planes.dtype) == ((channels, 17, 19), np.float32)
    assert (planes.min() >= 0, planes.max() <= 1) == (True, True)
    back = as_pixels(planes, dtype)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, pixels)


def test_channels_stay_in_order():
    pixels = np.array([[[255, 128, 0]]], np.uint8)
    np.testing.assert_allclose(to_planes(pixels)[:, 0, 0], [1.0, 128 / 255, 0.0], rtol=1e-7)


def test_results_are_rounded_and_clamped():
    sr = np.array([0.6 / 255, 0.4 / 255, -3.0, 7.0, 254.6 / 255], np.float32)[None, None]
    np.testing.assert_array_equal(as_pixels(sr, np.uint8)[0, :, 0], [1, 0, 0, 255, 255])


def test_a_source_repeats_gray_for_windows_and_not_for_rows():
    pixels = noise(17, 19, 1, np.uint8)
    source, planes = PixelSource(pixels), to_planes(pixels)
    window = source.read(2, 3, 5, 7)
    assert window.shape == (3, 5, 7)
    np.testing.assert_array_equal(window, planes[:, 2:7, 3:10].repeat(3, 0))
    np.testing.assert_array_equal(source.rows(2, 7), planes[:, 2:7])


def test_read_only_pixels_are_no_trouble():
    pixels = noise(3, 3, 3)
    pixels.flags.writeable = False
    assert to_planes(pixels).flags.writeable
