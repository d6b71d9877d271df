import numpy as np
import pytest

from ddnsr_cli.errors import ImageReadError
from tests.helpers.image_files import (
    deep_png,
    noise,
    planar_tiff,
    png,
    smooth,
    vips_image,
)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_16_bit_png_keeps_all_its_bits(read, channels):
    samples = noise(12, 9, channels, np.uint16)
    image = read(deep_png(samples))
    colors = 1 if channels < 3 else 3
    np.testing.assert_array_equal(image.pixels, samples[..., :colors])
    assert image.depth_bits == 16
    if channels in {2, 4}:
        np.testing.assert_array_equal(image.alpha, samples[..., -1])


def test_metadata_behind_the_pixels_of_a_16_bit_png_are_found(read):
    samples = noise(4, 5, 3, np.uint16)
    rows = [row.astype(">u2").tobytes() for row in samples]
    data = png(5, 4, bits=16, color_type=2, rows=rows, late_chunks=[(b"tEXt", b"Title\0late")])
    assert read(data).metadata.text == {"Title": "late"}


@pytest.mark.parametrize("compression", ["none", "lzw", "deflate"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_16_bit_tiff_keeps_all_its_bits(read, compression, channels):
    samples = noise(31, 33, channels, np.uint16)
    image = vips_image(samples, "grey16" if channels == 1 else "rgb16")
    raster = read(image.tiffsave_buffer(compression=compression, predictor="horizontal"))
    np.testing.assert_array_equal(raster.pixels, samples[..., : min(channels, 3)])
    assert raster.has_alpha == (channels == 4)


def test_tiled_and_big_tiffs_are_read(read):
    samples = noise(70, 90, 3, np.uint16)
    data = vips_image(samples, "rgb16").tiffsave_buffer(tile=True, tile_width=32, tile_height=32, bigtiff=True)
    np.testing.assert_array_equal(read(data).pixels, samples)


def test_planar_16_bit_tiffs_are_exact(read):
    samples = noise(9, 11, 3, np.uint16)
    np.testing.assert_array_equal(read(planar_tiff(samples)).pixels, samples)


def test_float_tiffs_are_clipped_and_it_is_said(read):
    samples = np.array([[[0.0, 0.5, 1.0], [-1.0, 2.0, np.nan]]], np.float32)
    image = read(vips_image(samples, "rgb").tiffsave_buffer())
    np.testing.assert_array_equal(image.pixels, [[[0, 32768, 65535], [0, 65535, 0]]])
    assert "floating point" in image.notes[0]


def test_32_bit_tiffs_are_rounded_to_16(read):
    samples = np.array([[[0], [2**32 - 1], [65537 * 1000 + 40000]]], np.uint32)
    image = read(vips_image(samples, "b-w").tiffsave_buffer())
    np.testing.assert_array_equal(image.pixels.ravel(), [0, 65535, 1001])


def test_signed_tiffs_are_refused(read):
    samples = np.zeros((3, 3, 1), np.int16)
    with pytest.raises(ImageReadError, match="no agreed white"):
        read(vips_image(samples, "b-w").tiffsave_buffer())


def test_10_bit_avif_keeps_more_than_8_bits(read):
    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16)[None, :, None], (64, 1, 3))
    data = vips_image(ramp, "rgb16").heifsave_buffer(compression="av1", bitdepth=10, Q=100, subsample_mode="off")
    image = read(data)
    assert image.depth_bits == 16
    assert image.pixels[5, -1].tolist() == [65535] * 3
    assert np.abs(image.pixels.astype(int) - ramp).mean() < 100  # half a step of 8 bits is 128


@pytest.mark.parametrize("largest", [255, 100, 65535, 1000])
@pytest.mark.parametrize("kind", ["P5", "P6", "P2", "P3"])
def test_pnm_of_any_depth_is_scaled_to_white(read, kind, largest):
    channels = 3 if kind in {"P3", "P6"} else 1
    levels = np.random.default_rng(2).integers(0, largest + 1, (5, 4, channels))
    head = f"{kind}\n# made by a test\n4 5\n{largest}\n".encode()
    plain = " ".join(map(str, levels.ravel())).encode()
    body = plain if kind in {"P2", "P3"} else levels.astype("u1" if largest < 256 else ">u2").tobytes()
    white = 255 if largest < 256 else 65535
    image = read(head + body)
    assert image.pixels.dtype == (np.uint8 if largest < 256 else np.uint16)
    np.testing.assert_array_equal(image.pixels, np.floor(levels * white / largest + 0.5))


@pytest.mark.parametrize("space", ["lab", "labs"], ids=["floating point", "signed"])
def test_deep_lab_becomes_rgb(read, space):
    image = vips_image(smooth(32, 32), "srgb")
    raster = read(image.colourspace(space).tiffsave_buffer())
    assert raster.depth_bits == 16
    assert np.abs(raster.pixels / 257 - smooth(32, 32)).mean() < 1
