import numpy as np
import pytest

from ddnsr_cli.io.image import RasterImage, rounded, to_8_bits
from tests.helpers.image_files import noise


def test_the_facts_of_an_image():
    image = RasterImage(pixels=noise(3, 5, 1, np.uint16), alpha=noise(3, 5, 1, np.uint16)[..., 0])
    assert (image.width, image.height, image.depth_bits) == (5, 3, 16)
    assert (image.is_gray, image.has_alpha) == (True, True)
    assert not RasterImage(pixels=noise(3, 5, 3)).is_gray


@pytest.mark.parametrize(
    "pixels",
    [noise(3, 5, 2), noise(3, 5, 4), noise(3, 5, 3)[..., 0], np.zeros((0, 5, 3), np.uint8), np.zeros((3, 5, 3))],
)
def test_other_arrays_are_refused(pixels):
    with pytest.raises(ValueError, match="pixels must be"):
        RasterImage(pixels=pixels)


@pytest.mark.parametrize("alpha", [noise(3, 5, 1), noise(5, 3, 1)[..., 0], noise(3, 5, 1, np.uint16)[..., 0]])
def test_alpha_must_match(alpha):
    with pytest.raises(ValueError, match="alpha must be"):
        RasterImage(pixels=noise(3, 5, 3), alpha=alpha)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_values_are_rounded_and_clamped(dtype):
    white = np.iinfo(dtype).max
    values = np.array([-7, 0.4, 0.6, white - 0.6, white - 0.4, white + 7], np.float32)
    got = rounded(values, np.zeros(1, dtype))
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, [0, 0, 1, white - 1, white, white])


def test_16_bits_become_8_by_rounding_everywhere():
    levels = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(to_8_bits(levels), np.rint(levels / 257))
    assert to_8_bits(levels[:3].astype(np.uint8)).dtype == np.uint8
