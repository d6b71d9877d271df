import struct

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.io.codecs.tiff import in_parallel
from tests.helpers.image_files import encoded, noise, vips_image


def test_results_come_in_order():
    parts = [str(index).encode() for index in range(500)]
    assert list(in_parallel(lambda part: part[::-1], iter(parts))) == [part[::-1] for part in parts]


def test_parts_are_taken_as_they_are_needed():
    taken = []

    def parts():
        for index in range(10_000):
            taken.append(index)
            yield b"x"

    stream = in_parallel(bytes, parts())
    next(stream)
    stream.close()
    assert len(taken) < 100


def test_an_error_in_the_work_comes_out():
    with pytest.raises(ZeroDivisionError):
        list(in_parallel(lambda _: bytes(1 // 0), [b"x"]))


def without_byte_counts(tiff):
    """A little-endian file with one directory, as old programs wrote it: where its strips are, and not how long."""
    (at,) = struct.unpack_from("<I", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, at)
    fields = [tiff[start : start + 12] for start in range(at + 2, at + 2 + 12 * count, 12)]
    kept = [field for field in fields if not field.startswith(struct.pack("<H", 279))]
    table = struct.pack("<H", len(kept)) + b"".join(kept) + bytes(4)
    return tiff[:at] + table + tiff[at + len(table) :]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_strips_without_byte_counts_are_read(read, channels, dtype):
    samples = noise(40, 50, channels, dtype) | 1
    interpretation = {1: "grey16", 3: "rgb16"}[channels] if dtype == np.uint16 else {1: "b-w", 3: "srgb"}[channels]
    data = vips_image(samples, interpretation).tiffsave_buffer(compression="none", tile=False)
    image = read(without_byte_counts(data))
    np.testing.assert_array_equal(image.pixels, samples)
    assert image.damage == ""


def test_a_hole_in_strips_without_byte_counts_is_found(read):
    samples = noise(40, 50, 3) | 1
    samples.reshape(-1)[3 * (8 * 50 + 10) :][:1024] = 0
    data = without_byte_counts(vips_image(samples, "srgb").tiffsave_buffer(compression="none"))
    assert read(data).damage.startswith("1024 bytes of its samples are zeros, from row 8 on")


def test_other_strips_without_byte_counts_are_read(read):
    levels = noise(40, 50, 1)[..., 0] | 1
    indexed = Image.fromarray(levels)
    indexed.putpalette(bytes(range(256)) * 3)
    for image in (indexed.convert("L"), indexed):
        for compression in ("raw", "tiff_lzw"):
            data = encoded(image, "TIFF", compression=compression)
            np.testing.assert_array_equal(read(without_byte_counts(data)).pixels, read(data).pixels)
