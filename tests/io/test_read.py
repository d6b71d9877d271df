import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tests.helpers.image_files import (
    deep_png,
    encoded,
    noise,
    packed_gray,
    pillow,
    png,
    smooth,
)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP", "PPM"])
def test_lossless_rgb_is_exact(read, file_format):
    samples = noise(11, 13, 3)
    image = read(encoded(pillow(samples), file_format))
    np.testing.assert_array_equal(image.pixels, samples)
    assert (image.depth_bits, image.alpha, image.notes) == (8, None, ())


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "AVIF"])
def test_lossy_rgb_is_close(read, file_format):
    image = read(encoded(pillow(smooth(40, 48)), file_format, quality=95))
    assert np.abs(image.pixels.astype(int) - smooth(40, 48)).mean() < 2


def test_a_gif_is_read(read):
    levels = noise(9, 8, 1)
    image = read(encoded(pillow(levels), "GIF"))
    np.testing.assert_array_equal(image.pixels, np.broadcast_to(levels, image.pixels.shape))


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "JPEG", "PPM"])
def test_gray_stays_gray(read, file_format):
    assert read(encoded(Image.linear_gradient("L"), file_format)).is_gray


def test_rgb_whose_values_are_gray_stays_rgb(read):
    assert not read(encoded(Image.linear_gradient("L").convert("RGB"), "PNG")).is_gray


@pytest.mark.parametrize(("mode", "channels"), [("LA", 1), ("RGBA", 3)])
@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_alpha_is_exact_and_so_are_the_colors_under_it(read, file_format, mode, channels):
    samples = noise(9, 10, channels + 1)
    samples[:4, ..., -1] = 0
    image = read(encoded(Image.fromarray(samples), file_format))
    np.testing.assert_array_equal(image.pixels, samples[..., :-1])
    np.testing.assert_array_equal(image.alpha, samples[..., -1])


def test_a_palette_becomes_rgb(read):
    samples = np.array([[[255, 0, 0], [0, 128, 0]], [[0, 0, 255], [9, 9, 9]]], np.uint8)
    palette = pillow(samples).convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    image = read(encoded(palette, "PNG"))
    np.testing.assert_array_equal(image.pixels, samples)
    assert image.alpha is None


@pytest.mark.parametrize("transparent", [0, bytes([0, 128, 255])])
def test_a_palette_with_transparency_gets_alpha(read, transparent):
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    raster = read(encoded(image, "PNG", transparency=transparent))
    np.testing.assert_array_equal(raster.pixels[0], [[255, 0, 0], [0, 255, 0], [0, 0, 255]])
    np.testing.assert_array_equal(raster.alpha[0], [0, 255, 255] if transparent == 0 else [0, 128, 255])


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("with_key", [False, True])
def test_gray_of_few_bits_spans_black_to_white_and_keeps_its_transparent_level(read, bits, with_key):
    top = (1 << bits) - 1
    levels = np.random.default_rng(1).integers(0, top + 1, (7, 13))
    chunks = [(b"tRNS", b"\0\1")] if with_key else []
    data = png(13, 7, bits=bits, color_type=0, rows=packed_gray(levels, bits), chunks=chunks)
    image = read(data)
    np.testing.assert_array_equal(image.pixels[..., 0], levels * (255 // top))
    if with_key:
        np.testing.assert_array_equal(image.alpha, np.where(levels == 1, 0, 255))
    else:
        assert image.alpha is None


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_one_transparent_color_becomes_alpha(read, channels, dtype):
    samples = noise(6, 7, channels, dtype)
    key = samples[2, 3].astype(">u2").tobytes()
    if dtype == np.uint16:
        data = deep_png(samples, [(b"tRNS", key)])
    else:
        rows = [row.tobytes() for row in samples]
        data = png(7, 6, bits=8, color_type=0 if channels == 1 else 2, rows=rows, chunks=[(b"tRNS", key)])
    image = read(data)
    np.testing.assert_array_equal(image.pixels, samples)
    clear = (samples == samples[2, 3]).all(axis=2)
    np.testing.assert_array_equal(image.alpha, np.where(clear, 0, np.iinfo(dtype).max))


def test_a_bitmap_of_one_bit_is_black_and_white(read):
    image = read(encoded(Image.fromarray(np.eye(9, dtype=bool)), "PPM"))
    np.testing.assert_array_equal(image.pixels[..., 0], np.eye(9) * 255)


def test_only_the_first_frame_is_read_and_it_is_said(read):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue", "lime")]
    for file_format in ("GIF", "WEBP", "PNG", "TIFF", "AVIF", "MPO"):
        options = {"lossless": True} if file_format == "WEBP" else {}
        data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
        image = read(data)
        assert image.pixels[4, 4, 0] > 240
        assert image.notes == ("only the first of 3 frames was read",)


def test_old_style_exif_in_png_text_is_found(read):
    exif = Image.Exif()
    exif[0x0112] = 6
    block = exif.tobytes()
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(block):8}\n{block.hex()}\n", zip=True)
    info.add_text("Author", "me")
    image = read(encoded(pillow(smooth(8, 16)), "PNG", pnginfo=info))
    assert (image.width, image.height) == (8, 16)
    assert image.metadata.exif is not None
    assert image.metadata.text == {"Author": "me"}


@pytest.mark.parametrize(("unit", "dpi"), [(1, None), (2, (100, 50)), (3, (254, 127))])
def test_the_resolution_of_a_tiff_is_reported_in_inches(read, unit, dpi):
    data = encoded(pillow(smooth(8, 8)), "TIFF", tiffinfo={282: 100.0, 283: 50.0, 296: unit})
    assert read(data).metadata.dpi == (dpi and pytest.approx(dpi))


@pytest.mark.parametrize("dpi", [(0, 0), (float("nan"), 1), (-1, 5)])
def test_senseless_resolution_is_left_out(dpi):
    from ddnsr_cli.io.read import sane_dpi

    assert sane_dpi(dpi) is None
    assert sane_dpi((72, 300)) == (72.0, 300.0)
