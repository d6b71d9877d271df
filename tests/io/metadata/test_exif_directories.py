import struct
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ddnsr_cli.io.metadata import exif as metadata_exif
from ddnsr_cli.io.metadata.exif import (
    ASCII,
    EXIF_IFD,
    LONG,
    RATIONAL,
    SHORT,
    Field,
    Layout,
    numbers_field,
    pack_fields,
    pack_header,
    parse_header,
    read_fields,
)
from tests.helpers.image_files import exif_block


def read_block(block):
    layout, first = parse_header(block[:16])
    return layout, read_fields(lambda offset, length: block[offset : offset + length], layout, first)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_what_is_packed_is_read_back(order, big):
    layout = Layout(order, big)
    inner = (Field(0x927C, 7, 20, b"m" * 20), Field(0xA005, LONG, 1, directory=(Field(1, ASCII, 4, b"R98\0"),)))
    fields = (
        numbers_field(layout, 256, SHORT, 5),
        numbers_field(layout, 273, LONG, 1, 2, 3, 70_000),
        Field(282, RATIONAL, 1, struct.pack(order + "II", 300, 2)),
        Field(315, ASCII, 5, "Zoë\0".encode()),
        Field(EXIF_IFD, LONG, 1, directory=inner),
    )
    header = pack_header(layout)
    packed = header + pack_fields(reversed(fields), layout, len(header))
    assert read_block(packed) == (layout, fields)
    assert fields[1].numbers(layout) == (1, 2, 3, 70_000)
    assert fields[2].rationals(layout) == (150.0,)
    assert fields[3].numbers(layout) == ()


def test_values_begin_at_even_offsets():
    layout = Layout("<")
    fields = [Field(tag, ASCII, 5, b"abcd\0") for tag in (1, 2, 3)]
    packed = pack_header(layout) + pack_fields(fields, layout, 8)
    offsets = [struct.unpack_from("<I", packed, 10 + 12 * index + 8)[0] for index in range(3)]
    assert [offset % 2 for offset in offsets] == [0, 0, 0]
    assert [packed[offset : offset + 4] for offset in offsets] == [b"abcd"] * 3


def test_pillow_reads_what_we_pack():
    layout, fields = read_block(exif_block(">"))
    exif = Image.Exif()
    exif.load(pack_header(layout) + pack_fields(fields, layout, 8))
    assert exif[0x10F] == "Camera"
    assert exif.get_ifd(0x8769)[0x927C].startswith(b"MAKER")
    assert exif.get_ifd(0x8825) == {1: "N", 3: "E"}


def test_a_damaged_branch_does_not_spoil_the_others():
    block = bytearray(exif_block())
    at = block.index(struct.pack("<HHI", 0x8769, 4, 1)) + 8
    block[at : at + 4] = b"\xff\xff\xff\x7f"
    tags = {field.tag for field in read_block(bytes(block))[1]}
    assert EXIF_IFD not in tags
    assert {0x10F, 0x8825} <= tags


def test_values_that_claim_too_much_together_are_left_out(monkeypatch):
    monkeypatch.setattr(metadata_exif, "MAX_VALUE_BYTES", 100)
    layout = Layout("<")
    fields = [Field(tag, ASCII, 60, b"x" * 60) for tag in (1, 2, 3)]
    packed = pack_header(layout) + pack_fields(fields, layout, 8)
    assert [field.tag for field in read_block(packed)[1]] == [1]


@settings(max_examples=200)
@given(st.data())
def test_damage_raises_only_what_is_said(data):
    block = bytearray(exif_block(data.draw(st.sampled_from("<>"))))
    for _ in range(data.draw(st.integers(1, 6))):
        block[data.draw(st.integers(4, len(block) - 1))] = data.draw(st.integers(0, 255))
    with suppress(struct.error, ValueError):
        read_block(bytes(block[: data.draw(st.integers(8, len(block)))]))


def test_thousands_of_fields_to_one_directory_take_no_time():
    count = 4096
    table = struct.pack("<HHII", EXIF_IFD, 4, 1, 8) * count
    begin = time.process_time()
    read_block(b"II*\0" + struct.pack("<IH", 8, count) + table + bytes(4))
    assert time.process_time() - begin < 2


def test_of_a_tag_that_comes_twice_the_first_counts():
    layout = Layout("<")
    header = pack_header(layout)
    fields = (numbers_field(layout, 256, SHORT, 5), numbers_field(layout, 256, SHORT, 6))
    assert read_block(header + pack_fields(fields, layout, len(header)))[1] == fields[:1]
