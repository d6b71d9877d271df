"""TIFF of every depth, color space, compression and layout."""

import re
import struct
import time
from io import BytesIO

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.helpers.image_files import encoded, noise, pillow, planar_tiff, smooth, vips_image
from tests.helpers.round_trip import check

RNG = np.random.default_rng(5)


def flat(dtype, channels, size=(12, 18)):
    """(H, W, C) over the whole range, in blocks of 3x3; the last of 2 or 4 channels is clear, opaque, or between."""
    white = np.iinfo(dtype).max
    samples = RNG.integers(0, white, (size[0] // 3, size[1] // 3, channels), dtype, endpoint=True)
    if channels in {2, 4}:
        samples[0, :, -1], samples[1, :, -1] = 0, white
    return samples.repeat(3, axis=0).repeat(3, axis=1)


def tiff(samples, **options):
    """Through tifffile; samples (H, W, C) or (pages, H, W, C)."""
    buffer = BytesIO()
    channels = samples.shape[-1]
    options = {"photometric": "rgb" if channels > 2 else "minisblack", "metadata": None, **options}
    if channels in {2, 4} and "extrasamples" not in options and options["photometric"] != "separated":
        options["extrasamples"] = ["unassalpha"]
    tifffile.imwrite(buffer, samples[..., 0] if channels == 1 else samples, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True], ids=["classic", "big"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4], ids=["gray", "LA", "RGB", "RGBA"])
def test_depths_and_byte_orders(enlarged, channels, dtype, bigtiff, byteorder):
    samples = flat(dtype, channels)
    check(enlarged(tiff(samples, byteorder=byteorder, bigtiff=bigtiff)), samples)


@pytest.mark.parametrize("compression", ["lzw", "deflate", "packbits", "none"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("tile", [False, True], ids=["strips", "tiles"])
def test_compressions(enlarged, compression, dtype, tile):
    samples = flat(dtype, 3, size=(36, 33))
    image = vips_image(samples, "srgb" if dtype == np.uint8 else "rgb16")
    size = {"tile": True, "tile_width": 16, "tile_height": 16} if tile else {}
    predictor = "horizontal" if compression in {"lzw", "deflate"} else "none"
    check(enlarged(image.tiffsave_buffer(compression=compression, predictor=predictor, **size)), samples)


def test_planes_one_after_the_other(enlarged):
    deep, plain = flat(np.uint16, 3), flat(np.uint8, 3)
    check(enlarged(planar_tiff(deep)), deep)
    check(enlarged(tiff(plain.transpose(2, 0, 1), planarconfig="separate", photometric="rgb")), plain)


@pytest.mark.parametrize("compression", ["raw", "group3", "group4", "packbits"])
def test_one_bit(enlarged, compression):
    levels = RNG.integers(0, 2, (7, 11)).astype(bool).repeat(3, 0).repeat(3, 1)
    data = encoded(Image.fromarray(levels), "TIFF", compression=compression)
    check(enlarged(data), (levels * 255).astype(np.uint8)[..., None])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero(enlarged, dtype):
    samples = flat(dtype, 1)
    check(enlarged(tiff(samples, photometric="miniswhite")), np.iinfo(dtype).max - samples)


def test_a_palette(enlarged):
    colors = flat(np.uint8, 3, size=(6, 9))
    image = pillow(colors).convert("P", palette=Image.Palette.ADAPTIVE, colors=6)
    check(enlarged(encoded(image, "TIFF")), colors)


@pytest.mark.parametrize("what", ["outside", "short", "missing"])
def test_a_palette_that_is_not_there_is_refused(enlarged, what):
    image = pillow(flat(np.uint8, 3, size=(6, 9))).convert("P", palette=Image.Palette.ADAPTIVE, colors=6)
    data = bytearray(encoded(image, "TIFF"))
    at = data.index(struct.pack("<HHI", 320, 3, 768))
    if what == "missing":
        struct.pack_into("<H", data, at, 65000)
    else:
        struct.pack_into("<II", data, at + 4, *((768, 1 << 20) if what == "outside" else (12, 8)))
    result = enlarged(bytes(data))
    assert result.code == 3
    assert "its color map is missing or too short" in result.err


def test_floating_point_is_read_from_0_to_1_and_it_is_said(enlarged):
    levels = flat(np.uint16, 3)
    data = tiff((levels / 65535).astype(np.float32))
    check(enlarged(data), levels, note="floating point samples were read as 0 = black, 1 = white")
    gray = np.clip(flat(np.uint16, 1).astype(np.float32) / 40000, 0, 2)
    expected = np.rint(np.clip(gray.astype(float), 0, 1) * 65535).astype(np.uint16)
    check(enlarged(tiff(gray)), expected, note="clipped to that range")


def test_32_bits_are_rounded_to_16_and_it_is_said(enlarged):
    levels = flat(np.uint32, 3)
    expected = np.rint(levels / 65537).astype(np.uint16)
    check(enlarged(tiff(levels)), expected, note="32-bit samples were rounded to 16 bits")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_cmyk_keeps_its_depth(enlarged, dtype):
    inks, white = flat(dtype, 4), float(np.iinfo(dtype).max)
    data = vips_image(inks, "cmyk").tiffsave_buffer()
    light = white - inks
    expected = np.rint(light[..., :3] * light[..., 3:] / white).astype(dtype)
    check(enlarged(data), expected, note="CMYK without a usable profile was converted to RGB by rule of thumb")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("to", ["out.png", "out.tif"])
def test_of_several_pages_the_first_is_read_and_it_is_said(enlarged, dtype, to):
    pages = np.stack([flat(dtype, 3) for _ in range(3)])
    check(enlarged(tiff(pages), to=to), pages[0], note="only the first of 3 frames was read")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_multiplied_into_the_colors_is_divided_out(enlarged, dtype):
    samples, white = flat(dtype, 4), float(np.iinfo(dtype).max)
    samples[..., -1][samples[..., -1] > 0] |= np.iinfo(dtype).max // 2 + 1  # little alpha leaves little of the color
    multiplied = samples.copy()
    multiplied[..., :3] = np.rint(samples[..., :3] * (samples[..., 3:] / white))
    data = tiff(multiplied, extrasamples=["assocalpha"])
    check(enlarged(data), samples, tolerance=2)


def test_what_is_a_map_is_reported(enlarged):
    data = tiff(flat(np.uint8, 3), extratags=[(33550, "d", 3, (1.0, 1.0, 0.0), True)])
    assert "GeoTIFF" in enlarged(data).err


def test_jpeg_inside_a_tiff(enlarged):
    data = encoded(pillow(smooth(48, 48)), "TIFF", compression="jpeg", quality=97)
    check(enlarged(data), smooth(48, 48), tolerance=6)


@pytest.mark.parametrize(
    ("dtype", "said"),
    [(np.int8, "signed"), (np.int16, "signed"), (np.int32, "signed"), (np.uint64, "64 bits"), (np.float64, "64 bits"),
     (np.complex64, "64 bits")],
)  # fmt: skip
def test_samples_without_an_agreed_meaning_are_refused_by_name(enlarged, dtype, said):
    result = enlarged(tiff(noise(6, 6, 1, np.uint16).astype(dtype)), "odd.tif")
    assert (result.code, result.err.count("\n")) == (3, 1)
    assert "odd.tif" in result.err
    assert said in result.err


@pytest.mark.parametrize("photometric", [9, 10, 32845], ids=["ICCLab", "ITULab", "LogLuv"])
def test_colors_that_would_come_out_as_others_are_refused(enlarged, photometric):
    data = bytearray(tiff(flat(np.uint8, 3)))
    at = data.index(struct.pack("<HHI", 262, 3, 1)) + 8
    data[at : at + 2] = struct.pack("<H", photometric)
    result = enlarged(bytes(data), "odd.tif")
    assert (result.code, result.err.count("\n")) == (3, 1)
    assert "its colors are of an unknown kind" in result.err


def test_smaller_copies_behind_the_image_are_no_pages(enlarged):
    samples = flat(np.uint8, 3, size=(48, 48))
    buffer = BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(samples, photometric="rgb", metadata=None)
        writer.write(np.ascontiguousarray(samples[::2, ::2]), photometric="rgb", metadata=None, subfiletype=1)
    check(enlarged(buffer.getvalue()), samples)


@pytest.mark.parametrize("bits", [8, 16])
def test_thousands_of_pages_take_no_time(enlarged, bits):
    strip = bytes(4 * 4 * bits // 8)
    fields = [(256, 4), (257, 4), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, 4), (279, len(strip))]
    table = struct.pack("<H", len(fields)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields)
    data, first = b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip, 8 + len(strip)
    pages = 60_000
    places = [first + page * (len(table) + 4) for page in range(1, pages)]
    data += b"".join(table + struct.pack("<I", place) for place in (*places, 0))
    start = time.process_time()
    result = enlarged(data)
    assert result.code == 0
    assert "only the first of 10000 frames was read" in result.err
    assert time.process_time() - start < 3


def test_channels_of_no_known_meaning_are_reported(enlarged):
    samples = noise(12, 10, 5)
    data = tiff(samples, extrasamples=[0, 0])
    check(enlarged(data), samples[..., :3], note="2 channels beyond its colors were left out")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_compression_that_nobody_knows_is_reported_without_words_for_programmers(enlarged, dtype):
    data = bytearray(tiff(flat(dtype, 3)))
    at = data.index(struct.pack("<HHI", 259, 3, 1)) + 8
    data[at : at + 2] = struct.pack("<H", 60_000)
    result = enlarged(bytes(data), "odd.tif")
    assert (result.code, result.err.count("\n")) == (3, 1)
    assert "ompress" in result.err
    assert not re.search("vips|error -", result.err)
