"""IPTC data in the frames that files put around them: Photoshop's resource blocks, hexadecimal text in PNG."""

import binascii
import struct
from collections.abc import Iterator

IPTC_RESOURCE = 0x0404
SEGMENT_PREFIX = b"Photoshop 3.0\0"
"""What an APP13 segment of a JPEG with resource blocks starts with."""

_PLACES = {0x0408: "guides", 0x041A: "slices", 0x0435: "layer selections", 0x0BB7: "a clipping path"}
_FIRST_PATH, _LAST_PATH = 0x07D0, 0x0BB6
_BLOCK, _RECORD = b"8BIM", b"\x1c"
_HEX_PER_LINE = 72


def iptc_of(block: bytes) -> bytes | None:
    """The records in what a file calls its IPTC data: they themselves, or resource blocks that hold them."""
    if block.startswith(_RECORD):
        return block
    return next((data for kind, data in _resources(block) if kind == IPTC_RESOURCE and data), None)


def resource_block(iptc: bytes) -> bytes:
    """Records as a Photoshop resource block, without a name."""
    return _BLOCK + struct.pack(">HHI", IPTC_RESOURCE, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)


def raw_profile(kind: str, data: bytes) -> bytes:
    """Bytes as text for a PNG, the way ImageMagick began and ExifTool reads: a heading, then hexadecimal digits."""
    digits = data.hex()
    lines = "\n".join(digits[at : at + _HEX_PER_LINE] for at in range(0, len(digits), _HEX_PER_LINE))
    return f"\n{kind}\n{len(data):8}\n{lines}\n".encode()


def profile_bytes(text: str) -> bytes | None:
    """The bytes that such a text stands for; None where it is damaged."""
    try:
        return binascii.unhexlify("".join(text.split("\n")[3:]))
    except ValueError:
        return None


def places_note(block: bytes) -> tuple[str, ...]:
    """A note on what the resource blocks of Photoshop tell of places in the image, which is left out; or none."""
    kinds = {kind for kind, _ in _resources(block)}
    named = [name for kind, name in _PLACES.items() if kind in kinds]
    named += ["paths"] if any(_FIRST_PATH <= kind <= _LAST_PATH for kind in kinds) else []
    return (f"Photoshop's {', '.join(named)} were left out",) if named else ()


def _resources(block: bytes) -> Iterator[tuple[int, bytes]]:
    """(kind, data) of each resource block, as far as they can be read."""
    at = 0
    while block[at : at + 4] == _BLOCK and at + 12 <= len(block):
        kind, name_bytes = struct.unpack_from(">HB", block, at + 4)
        at += 6 + (1 + name_bytes + 1) // 2 * 2  # the name with its length, to an even number of bytes
        if at + 4 > len(block):
            return
        (size,) = struct.unpack_from(">I", block, at)
        yield kind, block[at + 4 : at + 4 + size]
        at += 4 + size + size % 2
