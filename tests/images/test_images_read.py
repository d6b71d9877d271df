import numpy as np
import pytest
from picture_files import (
    GRAY,
    SRGB,
    cmyk_profile,
    deep_png,
    encoded,
    noise,
    packed_gray,
    pillow,
    planar_tiff,
    png,
    smooth,
    vips_image,
)
from PIL import Image, ImageCms, PngImagePlugin

from ddnsr_cli.errors import ImageReadError
from ddnsr_cli.images.read import read_picture


@pytest.fixture
def read(tmp_path):
    """`read(data)`: the picture that a file with these bytes holds; the name tells nothing."""

    def run(data, **options):
        path = tmp_path / "picture.bin"
        path.write_bytes(data)
        return read_picture(path, **options)

    return run


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP", "PPM"])
def test_lossless_rgb_is_exact(read, file_format):
    samples = noise(11, 13, 3)
    picture = read(encoded(pillow(samples), file_format))
    np.testing.assert_array_equal(picture.pixels, samples)
    assert (picture.depth_bits, picture.alpha, picture.notes) == (8, None, ())


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "AVIF"])
def test_lossy_rgb_is_close(read, file_format):
    picture = read(encoded(pillow(smooth(40, 48)), file_format, quality=95))
    assert np.abs(picture.pixels.astype(int) - smooth(40, 48)).mean() < 2


def test_a_gif_is_read(read):
    levels = noise(9, 8, 1)
    picture = read(encoded(pillow(levels), "GIF"))
    np.testing.assert_array_equal(picture.pixels, np.broadcast_to(levels, picture.pixels.shape))


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "JPEG", "PPM"])
def test_gray_stays_gray(read, file_format):
    assert read(encoded(Image.linear_gradient("L"), file_format)).is_gray


def test_rgb_whose_values_are_gray_stays_rgb(read):
    assert not read(encoded(Image.linear_gradient("L").convert("RGB"), "PNG")).is_gray


@pytest.mark.parametrize(("mode", "channels"), [("LA", 1), ("RGBA", 3)])
@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_alpha_is_exact_and_so_are_the_colours_under_it(read, file_format, mode, channels):
    samples = noise(9, 10, channels + 1)
    samples[:4, ..., -1] = 0
    picture = read(encoded(Image.fromarray(samples), file_format))
    np.testing.assert_array_equal(picture.pixels, samples[..., :-1])
    np.testing.assert_array_equal(picture.alpha, samples[..., -1])


def test_a_palette_becomes_rgb(read):
    samples = np.array([[[255, 0, 0], [0, 128, 0]], [[0, 0, 255], [9, 9, 9]]], np.uint8)
    palette = pillow(samples).convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    picture = read(encoded(palette, "PNG"))
    np.testing.assert_array_equal(picture.pixels, samples)
    assert picture.alpha is None


@pytest.mark.parametrize("transparent", [0, bytes([0, 128, 255])])
def test_a_palette_with_transparency_gets_alpha(read, transparent):
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    picture = read(encoded(image, "PNG", transparency=transparent))
    np.testing.assert_array_equal(picture.pixels[0], [[255, 0, 0], [0, 255, 0], [0, 0, 255]])
    np.testing.assert_array_equal(picture.alpha[0], [0, 255, 255] if transparent == 0 else [0, 128, 255])


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("with_key", [False, True])
def test_gray_of_few_bits_spans_black_to_white_and_keeps_its_transparent_level(read, bits, with_key):
    top = (1 << bits) - 1
    levels = np.random.default_rng(1).integers(0, top + 1, (7, 13))
    chunks = [(b"tRNS", b"\0\1")] if with_key else []
    data = png(13, 7, bits=bits, colour_type=0, rows=packed_gray(levels, bits), chunks=chunks)
    picture = read(data)
    np.testing.assert_array_equal(picture.pixels[..., 0], levels * (255 // top))
    if with_key:
        np.testing.assert_array_equal(picture.alpha, np.where(levels == 1, 0, 255))
    else:
        assert picture.alpha is None


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_one_transparent_colour_becomes_alpha(read, channels, dtype):
    samples = noise(6, 7, channels, dtype)
    key = samples[2, 3].astype(">u2").tobytes()
    if dtype == np.uint16:
        data = deep_png(samples, [(b"tRNS", key)])
    else:
        rows = [row.tobytes() for row in samples]
        data = png(7, 6, bits=8, colour_type=0 if channels == 1 else 2, rows=rows, chunks=[(b"tRNS", key)])
    picture = read(data)
    np.testing.assert_array_equal(picture.pixels, samples)
    clear = (samples == samples[2, 3]).all(axis=2)
    np.testing.assert_array_equal(picture.alpha, np.where(clear, 0, np.iinfo(dtype).max))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_16_bit_png_keeps_all_its_bits(read, channels):
    samples = noise(12, 9, channels, np.uint16)
    picture = read(deep_png(samples))
    colours = 1 if channels < 3 else 3
    np.testing.assert_array_equal(picture.pixels, samples[..., :colours])
    assert picture.depth_bits == 16
    if channels in {2, 4}:
        np.testing.assert_array_equal(picture.alpha, samples[..., -1])


def test_metadata_behind_the_pixels_of_a_16_bit_png_are_found(read):
    samples = noise(4, 5, 3, np.uint16)
    rows = [row.astype(">u2").tobytes() for row in samples]
    data = png(5, 4, bits=16, colour_type=2, rows=rows, late_chunks=[(b"tEXt", b"Title\0late")])
    assert read(data).metadata.text == {"Title": "late"}


@pytest.mark.parametrize("compression", ["none", "lzw", "deflate"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_16_bit_tiff_keeps_all_its_bits(read, compression, channels):
    samples = noise(31, 33, channels, np.uint16)
    image = vips_image(samples, "grey16" if channels == 1 else "rgb16")
    picture = read(image.tiffsave_buffer(compression=compression, predictor="horizontal"))
    np.testing.assert_array_equal(picture.pixels, samples[..., : min(channels, 3)])
    assert picture.has_alpha == (channels == 4)


def test_tiled_and_big_tiffs_are_read(read):
    samples = noise(70, 90, 3, np.uint16)
    data = vips_image(samples, "rgb16").tiffsave_buffer(tile=True, tile_width=32, tile_height=32, bigtiff=True)
    np.testing.assert_array_equal(read(data).pixels, samples)


def test_planar_16_bit_tiffs_are_exact(read):
    samples = noise(9, 11, 3, np.uint16)
    np.testing.assert_array_equal(read(planar_tiff(samples)).pixels, samples)


def test_float_tiffs_are_clipped_and_it_is_said(read):
    samples = np.array([[[0.0, 0.5, 1.0], [-1.0, 2.0, np.nan]]], np.float32)
    picture = read(vips_image(samples, "rgb").tiffsave_buffer())
    np.testing.assert_array_equal(picture.pixels, [[[0, 32768, 65535], [0, 65535, 0]]])
    assert "floating point" in picture.notes[0]


def test_32_bit_tiffs_are_rounded_to_16(read):
    samples = np.array([[[0], [2**32 - 1], [65537 * 1000 + 40000]]], np.uint32)
    picture = read(vips_image(samples, "b-w").tiffsave_buffer())
    np.testing.assert_array_equal(picture.pixels.ravel(), [0, 65535, 1001])


def test_signed_tiffs_are_refused(read):
    samples = np.zeros((3, 3, 1), np.int16)
    with pytest.raises(ImageReadError, match="no agreed white"):
        read(vips_image(samples, "b-w").tiffsave_buffer())


def test_10_bit_avif_keeps_more_than_8_bits(read):
    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16)[None, :, None], (64, 1, 3))
    data = vips_image(ramp, "rgb16").heifsave_buffer(compression="av1", bitdepth=10, Q=100, subsample_mode="off")
    picture = read(data)
    assert picture.depth_bits == 16
    assert picture.pixels[5, -1].tolist() == [65535] * 3
    assert np.abs(picture.pixels.astype(int) - ramp).mean() < 100  # half a step of 8 bits is 128


@pytest.mark.parametrize("largest", [255, 100, 65535, 1000])
@pytest.mark.parametrize("kind", ["P5", "P6", "P2", "P3"])
def test_pnm_of_any_depth_is_scaled_to_white(read, kind, largest):
    channels = 3 if kind in {"P3", "P6"} else 1
    levels = np.random.default_rng(2).integers(0, largest + 1, (5, 4, channels))
    head = f"{kind}\n# made by a test\n4 5\n{largest}\n".encode()
    plain = " ".join(map(str, levels.ravel())).encode()
    body = plain if kind in {"P2", "P3"} else levels.astype("u1" if largest < 256 else ">u2").tobytes()
    white = 255 if largest < 256 else 65535
    picture = read(head + body)
    assert picture.pixels.dtype == (np.uint8 if largest < 256 else np.uint16)
    np.testing.assert_array_equal(picture.pixels, np.floor(levels * white / largest + 0.5))


def test_a_bitmap_of_one_bit_is_black_and_white(read):
    picture = read(encoded(Image.fromarray(np.eye(9, dtype=bool)), "PPM"))
    np.testing.assert_array_equal(picture.pixels[..., 0], np.eye(9) * 255)


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk_goes_through_its_profile(read, file_format):
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    picture = read(encoded(cyan, file_format, icc_profile=cmyk_profile()))
    red, green, blue = picture.pixels[8, 8].astype(int)
    assert red > green + 100
    assert red > blue + 100
    assert picture.metadata.icc is None
    assert picture.notes == ("CMYK was converted to sRGB by its profile",)


@pytest.mark.parametrize("profile", [None, b"junk", SRGB, cmyk_profile()[:300]])
def test_cmyk_without_a_good_profile_is_converted_by_rule_of_thumb(read, profile):
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    picture = read(encoded(cyan, "TIFF", **({"icc_profile": profile} if profile else {})))
    np.testing.assert_array_equal(picture.pixels[8, 8], [0, 255, 255])
    assert picture.metadata.icc is None
    assert "rule of thumb" in picture.notes[0]


def test_16_bit_cmyk_is_read(read):
    samples = np.zeros((8, 8, 4), np.uint16)
    samples[..., 0] = 65535
    picture = read(vips_image(samples, "cmyk").tiffsave_buffer())
    np.testing.assert_array_equal(picture.pixels[4, 4], [0, 255, 255])


@pytest.mark.parametrize("mode", ["LAB", "YCbCr"])
def test_other_colour_spaces_become_rgb(read, mode):
    image = pillow(smooth(32, 32))
    if mode == "LAB":
        spaces = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
        image = ImageCms.profileToProfile(image, *spaces, outputMode="LAB")
    else:
        image = image.convert("YCbCr")
    picture = read(encoded(image, "TIFF"))
    assert np.abs(picture.pixels.astype(int) - smooth(32, 32)).mean() < 3


def test_deep_lab_becomes_rgb(read):
    image = vips_image(smooth(32, 32), "srgb")
    picture = read(image.colourspace("lab").tiffsave_buffer())
    assert picture.depth_bits == 16
    assert np.abs(picture.pixels / 257 - smooth(32, 32)).mean() < 1


@pytest.mark.parametrize("bits", [8, 16])
def test_multiplied_alpha_is_divided_out(read, bits):
    white = (1 << bits) - 1
    dtype = np.uint8 if bits == 8 else np.uint16
    samples = np.full((4, 4, 4), (white // 2, white // 4, 0, white // 2), dtype)
    samples[0] = 0
    data = vips_image(samples, "srgb" if bits == 8 else "rgb16").tiffsave_buffer(compression="none")
    extra = data.index(b"\x52\x01\x03\0")  # ExtraSamples, little-endian
    assert data[extra + 8] == 2
    picture = read(data[: extra + 8] + b"\1" + data[extra + 9 :])
    np.testing.assert_array_equal(picture.alpha, samples[..., 3])
    assert np.abs(picture.pixels[1:] / white - [1, 0.5, 0]).max() < 0.01


def test_only_the_first_frame_is_read_and_it_is_said(read):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    for file_format in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        options = {"lossless": True} if file_format == "WEBP" else {}
        data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
        picture = read(data)
        assert picture.pixels[4, 4, 0] > 240
        assert picture.notes == ("only the first of 3 frames was read",)


def test_profiles_are_kept_byte_for_byte_if_they_fit(read):
    assert read(encoded(pillow(smooth(8, 8)), "PNG", icc_profile=SRGB)).metadata.icc == SRGB
    assert read(encoded(Image.new("L", (8, 8)), "PNG", icc_profile=GRAY)).metadata.icc == GRAY


@pytest.mark.parametrize("profile", [GRAY, cmyk_profile(), b"junk" * 50])
def test_profiles_that_do_not_fit_are_left_out_and_it_is_said(read, profile):
    picture = read(encoded(pillow(smooth(8, 8)), "JPEG", icc_profile=profile))
    assert picture.metadata.icc is None
    assert picture.notes == ("its colour profile does not fit its pixels and was left out",)


def test_old_style_exif_in_png_text_is_found(read):
    exif = Image.Exif()
    exif[0x0112] = 6
    block = exif.tobytes()
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(block):8}\n{block.hex()}\n", zip=True)
    info.add_text("Author", "me")
    picture = read(encoded(pillow(smooth(8, 16)), "PNG", pnginfo=info))
    assert (picture.width, picture.height) == (8, 16)
    assert picture.metadata.exif is not None
    assert picture.metadata.text == {"Author": "me"}


@pytest.mark.parametrize("dpi", [(0, 0), (float("nan"), 1), (-1, 5)])
def test_senseless_resolution_is_left_out(dpi):
    from ddnsr_cli.images.read import _sane_dpi

    assert _sane_dpi(dpi) is None
    assert _sane_dpi((72, 300)) == (72.0, 300.0)
