import struct

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.io.codecs.tiff import in_parallel
from ddnsr_cli.io.image import Metadata, RasterImage
from ddnsr_cli.io.write import write_image
from tests.helpers.image_files import encoded, exif_block, noise, vips_image


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


DESCRIBED = {269: "a document", 285: "a page", 18249: 75, 50341: b"PrintIM\x000300\0\0\0\0"}


@pytest.mark.parametrize("source", ["TIFF", "JPEG"])
def test_what_the_first_directory_describes_is_kept(read, tmp_path, source):
    exif = Image.Exif()
    exif.update(DESCRIBED)
    image = read(encoded(Image.new("RGB", (8, 8)), source, exif=exif))
    assert image.notes == ()
    write_image(image, tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as result:
        found = dict(result.getexif())
    assert {tag: found.get(tag) for tag in DESCRIBED} == DESCRIBED


def test_private_fields_of_a_tiff_are_left_out_and_told(read):
    exif = Image.Exif()
    exif.update({65000: "of some program", 42113: "-9999", 270: "a title"})
    image = read(encoded(Image.new("RGB", (8, 8)), "TIFF", exif=exif))
    assert image.notes == ("private fields of its header were left out (42113, 65000)",)
    assert b"a title" in image.metadata.exif


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_maker_note_stays_where_it_is_in_its_block(tmp_path, order):
    exif, path = exif_block(order, orientation=1), tmp_path / "a.tif"
    image = RasterImage(pixels=noise(8, 9, 3), metadata=Metadata(exif=exif))
    assert write_image(image, path) == ()
    assert path.read_bytes().index(b"MAKER\0") == exif.index(b"MAKER\0")
    with Image.open(path) as result:
        assert result.getexif().get_ifd(0x8769)[0x927C] == b"MAKER\0\1\2\3" * 9
        assert result.getexif().get_ifd(0x8825) == {1: "N", 3: "E"}
        np.testing.assert_array_equal(np.asarray(result), image.pixels)


def test_a_maker_note_that_is_read_from_a_tiff_is_moved_and_it_is_said(read):
    exif = b"Exif\0\0" + exif_block(orientation=1)
    image = read(encoded(Image.new("RGB", (8, 8)), "TIFF", exif=exif))
    assert image.notes == ("its maker note was moved: what it tells by places in the file may be lost",)
