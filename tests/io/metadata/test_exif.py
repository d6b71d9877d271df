import struct
import time
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from ddnsr_cli.io.metadata.exif import bare_exif, mend_exif, orientation_of, without_orientation
from ddnsr_cli.io.metadata.places import mend_xmp
from tests.helpers.image_files import encoded, exif_block


def parsed(block):
    exif = Image.Exif()
    exif.load(block)
    return exif


@pytest.mark.parametrize("order", ["<", ">"])
def test_stale_tags_are_mended_and_the_rest_stays(order):
    block = exif_block(order)
    mended = mend_exif(block, width=70000, height=4)
    exif = parsed(mended)
    inner = exif.get_ifd(0x8769)
    assert (exif[0x112], exif[0x100], inner[0xA002], inner[0xA003]) == (1, 70000, 70000, 4)
    assert exif[0x10F] == "Camera"
    assert inner[0x927C] == parsed(block).get_ifd(0x8769)[0x927C]
    assert exif.get_ifd(0x8825) == {1: "N", 3: "E"}
    assert "Zoë".encode() in mended
    assert mended.index(b"MAKER") == block.index(b"MAKER")  # maker notes point to places in the block


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_thumbnail_is_gone(order):
    block = exif_block(order)
    assert b"thumb" in block
    assert parsed(block).get_ifd(ExifTags.IFD.IFD1)
    mended = mend_exif(block, width=1, height=1)
    assert b"thumb" not in mended
    assert not parsed(mended).get_ifd(ExifTags.IFD.IFD1)


def test_mending_twice_changes_nothing_more():
    once = mend_exif(exif_block(), width=5, height=6)
    assert mend_exif(once, width=5, height=6) == once


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_orientation_tag_can_be_taken_out(order):
    block = exif_block(order)
    without = without_orientation(block)
    assert 0x112 not in parsed(without)
    expected = {tag: value for tag, value in parsed(block).items() if tag != 0x112}
    assert dict(parsed(without).items()) == expected
    assert parsed(without).get_ifd(ExifTags.IFD.IFD1) == parsed(block).get_ifd(ExifTags.IFD.IFD1)
    assert len(without) == len(block)
    assert without_orientation(without) == without


def test_the_prefix_is_taken_off_even_when_it_is_there_twice():
    assert bare_exif(b"Exif\0\0Exif\0\0II*\0") == b"II*\0"
    assert bare_exif(b"II*\0") == b"II*\0"


@pytest.mark.parametrize("block", [b"", b"II", b"junk" * 9, b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff"])
def test_damaged_exif_is_told_apart(block):
    assert mend_exif(block, width=1, height=1) is None
    assert orientation_of(block, None) == 1
    assert without_orientation(block) == block


@settings(max_examples=300)
@given(st.data())
def test_damage_anywhere_raises_nothing(data):
    block = bytearray(exif_block(data.draw(st.sampled_from("<>"))))
    for _ in range(data.draw(st.integers(1, 6))):
        block[data.draw(st.integers(4, len(block) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(block[: data.draw(st.integers(0, len(block)))])
    mended = mend_exif(cut, width=9, height=9)
    assert mended is None or len(mended) == len(cut)
    without_orientation(cut)


def test_an_offset_to_itself_ends():
    block = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + struct.pack("<HHII", 0x8769, 4, 1, 8)
    assert mend_exif(block + struct.pack("<I", 8), width=1, height=1) is not None


def test_xmp_is_mended():
    packet = (
        b'<x tiff:Orientation="6" tiff:ImageWidth=\'12\' exif:PixelXDimension = "3">'
        b"<tiff:ImageLength>34</tiff:ImageLength><exif:PixelYDimension>7</exif:PixelYDimension></x>"
    )
    mended = mend_xmp(packet, width=400, height=300)
    assert b'tiff:Orientation="1"' in mended
    assert b"tiff:ImageWidth='400'" in mended
    assert b"<tiff:ImageLength>300<" in mended
    assert b"<exif:PixelYDimension>300<" in mended


def test_pillow_and_we_read_the_same_orientation():
    exif = Image.Exif()
    exif[0x112] = 5
    data = encoded(Image.new("RGB", (8, 8)), "JPEG", exif=exif)
    with Image.open(BytesIO(data)) as image:
        assert orientation_of(bare_exif(image.info["exif"]), None) == 5


def test_thousands_of_fields_to_one_directory_take_no_time():
    count = 5400  # what fits into a JPEG
    table = struct.pack("<HHII", 0x8769, 4, 1, 8) * count
    begin = time.process_time()
    mend_exif(b"II*\0" + struct.pack("<IH", 8, count) + table + bytes(4), width=1, height=1)
    assert time.process_time() - begin < 2  # 5400 times 5400 fields would take a minute


def test_millions_of_thumbnails_take_no_time():
    begin = time.process_time()
    one = b"<xmp:Thumbnails></xmp:Thumbnails>"
    assert mend_xmp(b"<x>" + one * 200_000 + b"</x>", width=1, height=1) == b"<x></x>"
    opened = b"<xmp:Thumbnails>" * 400_000
    assert mend_xmp(opened, width=1, height=1) == opened
    padding = b" " * 10_000_000
    assert mend_xmp(padding, width=1, height=1) == padding
    assert time.process_time() - begin < 4
