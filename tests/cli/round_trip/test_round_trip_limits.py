"""What a format cannot hold is said before work starts; what is too large to be true is refused by its header."""

import os
import struct
import sys
import time

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.inference.upscaler import Upscaler
from tests.helpers.image_files import deep_png, encoded, noise, pillow, png, png_chunk, smooth


@pytest.fixture
def no_work(monkeypatch):
    """The network may not be asked."""

    def refuse(*_, **__):
        raise AssertionError("the work began")

    monkeypatch.setattr(Upscaler, "bands", refuse)


def refused(result, *parts):
    assert result.code not in (0, 70)
    assert result.err.count("\n") == 1
    for part in parts:
        assert part in result.err


@pytest.mark.usefixtures("no_work")
class TestBeforeWork:
    def test_transparency_into_jpeg(self, enlarged):
        clear = encoded(Image.fromarray(np.full((8, 8, 4), 99, np.uint8)), "PNG")
        refused(enlarged(clear, to="out.jpg"), "out.jpg", "JPEG holds no transparency", "Use .png")

    @pytest.mark.parametrize(
        ("to", "side", "most"),
        [("out.jpg", 16_376, "65,500"), ("out.webp", 4_096, "16,383"), ("out.avif", 8_193, "32,768")],
    )
    def test_sides_beyond_the_format(self, enlarged, to, side, most):
        long = encoded(Image.new("L", (side, 1)), "PNG")
        refused(enlarged(long, to=to), to, f"{4 * side} x 4 is too large", most, "Use .png or .tif")

    def test_an_extension_that_is_not_written(self, enlarged):
        refused(enlarged(encoded(pillow(smooth(8, 8)), "PNG"), to="out.gif"), "out.gif", ".png .jpg")


def test_16_bits_into_8_are_rounded_and_it_is_said_first(enlarged, monkeypatch):
    levels = noise(6, 6, 3, np.uint16)
    result = enlarged(deep_png(levels), to="out.webp")
    assert result.code == 0
    assert "WebP is written with 8 bits a sample: 16 are rounded to 8; .png and .tif keep them" in result.err

    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Upscaler, "bands", fail)
    assert "8 bits a sample" in enlarged(deep_png(levels), to="out.jpg").err


def test_png_takes_what_the_others_do_not(enlarged):
    result = enlarged(encoded(Image.new("L", (16_376, 1)), "PNG"))
    assert (result.code, result.err) == (0, "")
    assert result.samples.shape == (4, 65_504, 1)


def tiff_bomb(width, height, *, rows_per_strip, strip_bytes):
    """An 8-bit gray TIFF of one strip that claims to be huge."""
    fields = [(256, width), (257, height), (258, 8), (259, 5), (262, 1), (273, 8), (277, 1)]
    fields += [(278, rows_per_strip), (279, strip_bytes)]
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(fields)) + table + bytes(4)


def claiming(data, width, height):
    """A PNG whose header lies."""
    header = struct.pack(">II", width, height) + data[24:29]
    return data[:8] + png_chunk(b"IHDR", header) + data[33:]


SMALL_PNG = png(4, 4, bits=8, color_type=0, rows=[bytes(4)] * 4)
BOMBS = {
    "pixels.png": png(60_000, 60_000, bits=1, color_type=0, rows=[b""]),
    "claims.png": claiming(SMALL_PNG, 2**31 - 1, 2**31 - 1),
    "claims.ppm": b"P6 4000000 4000000 255\n",
    "claims.bmp": encoded(pillow(smooth(4, 4)), "BMP")[:18]
    + struct.pack("<ii", 60_000, 60_000)
    + encoded(pillow(smooth(4, 4)), "BMP")[26:],
    "claims.gif": b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + encoded(pillow(smooth(4, 4)), "GIF")[10:],
    "claims.tif": tiff_bomb(200_000, 200_000, rows_per_strip=200_000, strip_bytes=2**32 - 1),
    "claims.qoi": b"qoif" + struct.pack(">II", 2**31, 2**31) + b"\3\0" + bytes(20),
    "claims.tga": b"\0\0\2" + bytes(9) + struct.pack("<HHBB", 65_535, 65_535, 24, 0),
}


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_by_their_header_with_the_flag_that_lets_them_in(enlarged, name):
    start = time.process_time()
    refused(enlarged(BOMBS[name], name), name, "--max-pixels")
    assert time.process_time() - start < 2


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("name", sorted(BOMBS.keys() - {"pixels.png"}))
def test_let_in_what_lies_is_still_told(enlarged, name):
    """Nothing is set aside for what a header only claims, as far as the file does not bear it out."""
    small = {"claims.tif": tiff_bomb(9_000, 9_000, rows_per_strip=9_000, strip_bytes=2**32 - 1)}
    small["claims.png"] = claiming(SMALL_PNG, 9_000, 9_000)
    refused(enlarged(small.get(name, BOMBS[name]), name, "--max-pixels", "100000000"), name)


@pytest.mark.parametrize("file_format", ["JPEG", "GIF", "BMP", "WEBP", "PNG", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA"])
def test_the_message_has_the_number_that_lets_it_in(enlarged, file_format):
    data, name = encoded(Image.new("L", (300, 200), 77), file_format), f"large.{file_format.lower()}"
    refused(enlarged(data, name, "--max-pixels", "29999"), "--max-pixels 60000")
    assert enlarged(data, name, "--max-pixels", "60000").code == 0


def test_thousands_of_texts_take_no_time(enlarged):
    data, texts = png(4, 4, bits=8, color_type=0, rows=[bytes(4)] * 4), png_chunk(b"tEXt", b"k\0v") * 20_000
    start = time.process_time()
    assert enlarged(data[:33] + texts + data[33:]).code == 0
    assert time.process_time() - start < 3


def test_the_flag_lets_a_large_image_in(enlarged):
    data = encoded(Image.new("L", (300, 200), 77), "PNG")
    refused(enlarged(data, "large.png", "--max-pixels", "59999"), "300 x 200", "--max-pixels 60000")
    assert enlarged(data, "large.png", "--max-pixels", "60000").code == 0


def test_png_pixels_that_do_not_fill_their_rows_are_reported(enlarged):
    rows = [row.tobytes() for row in smooth(20, 16)]
    for count in (0, 1, 19):
        refused(enlarged(png(16, 20, bits=8, color_type=2, rows=rows[:count]), "few.png"), "few.png", "cut short")


def test_a_wrong_checksum_over_pixels_is_reported(enlarged):
    data = bytearray(encoded(pillow(noise(20, 20, 3)), "PNG"))
    data[data.index(b"IDAT") + 300] ^= 1
    refused(enlarged(bytes(data), "flip.png"), "flip.png", "checksum of its IDAT chunk is wrong")


def test_more_data_than_pixels_is_refused(enlarged):
    data = png(4, 4, bits=8, color_type=0, rows=[bytes(4)] * 4, chunks=[(b"IDAT", noise(300, 300, 1).tobytes())])
    refused(enlarged(data, "more.png"), "more.png", "more data than its pixels can need")


def test_an_end_that_is_missing_behind_the_pixels_is_reported(enlarged):
    data = encoded(pillow(smooth(8, 8)), "PNG")
    assert "its end is missing" in enlarged(data[:-1] + b"!").err  # its checksum is wrong
    for cut in (1, 4, 12):
        result = enlarged(data[:-cut])
        assert result.code == 0
        assert "its end is missing, but all its pixels are there" in result.err
    refused(enlarged(data[:-30], "cut.png"), "cut.png", "cut short")


@pytest.mark.skipif(sys.platform == "win32", reason="files with holes")
@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("huge.jpg", encoded(pillow(smooth(8, 8)), "JPEG")),
        ("huge.webp", encoded(pillow(smooth(8, 8)), "WEBP")),
        ("huge.png", SMALL_PNG[:33] + struct.pack(">I", 2**31 - 1) + b"IDAT"),
        ("huge.ppm", b"P3 90 90 255\n1 2 3 "),
    ],
)
def test_files_of_many_gigabytes_are_not_taken_into_memory(ddnsr, repeating_model, tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    os.truncate(path, 5 << 30)  # a hole: it takes no room on the disk
    start = time.process_time()
    done = ddnsr("upscale", path, "-o", tmp_path / "out.png", "-m", repeating_model)
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert name in done.err
    assert time.process_time() - start < 2
