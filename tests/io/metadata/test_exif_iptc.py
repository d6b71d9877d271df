import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddnsr_cli.io.metadata.exif import iptc_of, profile_bytes, raw_profile, resource_block

RECORDS = b"\x1c\x02\x78\x00\x05hello"


@given(st.binary(min_size=1))
def test_records_come_back_from_their_frames(data):
    records = b"\x1c" + data
    assert iptc_of(records) == records
    assert iptc_of(resource_block(records)) == records
    assert profile_bytes(raw_profile("iptc", resource_block(records)).decode()) == resource_block(records)


@pytest.mark.parametrize("name", [b"\0\0", b"\x01a", b"\x02ab\0"])
@pytest.mark.parametrize("size", [0, 1, 6, 7])
def test_they_are_found_behind_other_blocks(name, size):
    other = b"8BIM\x03\xed" + name + struct.pack(">I", size) + bytes(size + size % 2)
    assert iptc_of(other + resource_block(RECORDS)) == RECORDS


@settings(max_examples=300)
@given(st.binary())
def test_damage_gives_records_or_nothing(data):
    for block in (data, b"8BIM" + data, resource_block(RECORDS)[: len(data)] + data):
        assert isinstance(iptc_of(block), bytes | None)


def test_text_that_is_no_profile_is_nothing():
    assert profile_bytes("\niptc\n 2\nzz\n") is None
