import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.io.image import Metadata, RasterImage
from ddnsr_cli.processing.resize import OutputSize, resize, resize_samples
from tests.helpers.image_files import noise, smooth

SIDE = st.integers(1, 20_000)


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        ({}, (400, 300)),
        ({"scale": 2.5}, (250, 188)),
        ({"scale": 0.001}, (1, 1)),
        ({"width": 1000}, (1000, 750)),
        ({"height": 30}, (40, 30)),
        ({"width": 50, "height": 1000}, (50, 38)),
        ({"width": 1000, "height": 30}, (40, 30)),
        ({"long_side": 640}, (640, 480)),
        ({"megapixels": 12}, (4000, 3000)),
    ],
)
def test_known_sizes(asked, size):
    assert OutputSize(**asked).pixels(100, 75, 4) == size


def test_the_name_of_a_size():
    sizes = [{}, {"scale": 4.0}, {"scale": 2.5}, {"long_side": 99}, {"width": 1920}, {"height": 1080}]
    sizes += [{"width": 1920, "height": 1080}, {"megapixels": 12.5}, {"megapixels": 12.0}, {"scale": 1.23456789}]
    names = [OutputSize(**size).ending for size in sizes]
    assert names[:6] == ["_x4", "_x4", "_x2.5", "_99px", "_1920w", "_1080h"]
    assert names[6:] == ["_1920x1080", "_12.5mp", "_12mp", "_x1.23456789"]


def test_long_side_counts_for_tall_images_too():
    assert OutputSize(long_side=640).pixels(75, 100, 4) == (480, 640)


@given(SIDE, SIDE, SIDE, SIDE)
def test_both_sides_given_fits_inside_and_touches_one(width, height, across, down):
    got = OutputSize(width=across, height=down).pixels(width, height, 4)
    assert got[0] <= across
    assert got[1] <= down
    assert got[0] == across or got[1] == down


@given(SIDE, SIDE, SIDE)
def test_the_long_side_is_met_and_proportions_hold(width, height, long_side):
    got = OutputSize(long_side=long_side).pixels(width, height, 4)
    assert max(got) == long_side
    exact = min(width, height) * long_side / max(width, height)
    assert min(got) == max(1, math.floor(exact + 0.5))


@given(SIDE, SIDE, st.floats(0.01, 200))
def test_megapixels_are_met_within_rounding(width, height, megapixels):
    got = OutputSize(megapixels=megapixels).pixels(width, height, 4)
    factor = math.sqrt(megapixels * 1e6 / (width * height))
    assert abs(got[0] - max(1, width * factor)) <= 0.5 + 1e-6
    assert abs(got[1] - max(1, height * factor)) <= 0.5 + 1e-6


@pytest.mark.parametrize("asked", [{"scale": 2, "width": 10}, {"long_side": 9, "megapixels": 1, "height": 2}])
def test_two_ways_at_once_are_refused(asked):
    with pytest.raises(ConfigError, match="Give one of them"):
        OutputSize(**asked)


@pytest.mark.parametrize("asked", [{"scale": 0}, {"width": -1}, {"megapixels": math.inf}, {"scale": math.nan}])
def test_senseless_sizes_are_refused(asked):
    with pytest.raises(ConfigError, match="must be above 0"):
        OutputSize(**asked)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_8_and_16_bits_give_the_same_image(channels, dtype):
    samples = noise(40, 50, channels)
    white = np.iinfo(dtype).max // 255
    got = resize_samples(samples.astype(dtype) * white, 33, 21)
    assert (got.shape, got.dtype) == ((21, 33, channels), dtype)
    reference = resize_samples(samples.astype(np.uint16) * 257, 33, 21)
    assert np.abs(got / (255.0 * white) - reference / 65535).max() < 0.6 / 255 + 1e-6


def test_shrinking_is_antialiased():
    stripes = np.zeros((64, 64, 1), np.uint16)
    stripes[:, ::2] = 65535
    inner = resize_samples(stripes, 8, 8)[1:-1, 1:-1]
    assert np.abs(inner.astype(int) - 32768).max() < 700
    assert set(np.unique(stripes[::8, ::8])) == {65535}  # what picking pixels would give


def test_the_extremes_are_clamped_not_wrapped():
    edge = np.zeros((32, 32, 1), np.uint16)
    edge[:, 16:] = 65535
    big = resize_samples(edge, 128, 128)[..., 0].astype(int)
    assert (big[:, :60] < 2000).all()
    assert (big[:, 68:] > 63000).all()


def test_the_same_size_changes_nothing():
    samples = noise(9, 9, 3)
    assert resize_samples(samples, 9, 9) is samples


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colors_under_transparency_do_not_bleed(dtype):
    white = np.iinfo(dtype).max
    alpha = np.zeros((40, 40), dtype)
    alpha[10:30, 10:30] = white
    pixels = np.zeros((40, 40, 3), dtype)
    pixels[...] = (0, white, 0)  # green lies under the transparent part
    pixels[10:30, 10:30] = (white, 0, 0)
    for size in (13, 97):
        small = resize(RasterImage(pixels=pixels, alpha=alpha), size, size)
        visible = small.alpha > 0
        assert (small.pixels[visible] == (white, 0, 0)).all()
        assert visible.any()
    plain = resize_samples(pixels, 97, 97)
    assert not (plain[resize_samples(alpha[..., None], 97, 97)[..., 0] > 0] == (white, 0, 0)).all()


def test_the_rest_of_the_image_stays():
    metadata = Metadata(dpi=(72, 72))
    image = resize(RasterImage(pixels=smooth(8, 8), metadata=metadata, notes=("said",)), 4, 2)
    assert (image.width, image.height) == (4, 2)
    assert (image.metadata, image.notes) == (metadata, ("said",))
