"""EXIF and XMP mended in place: upright, of the picture's size, without the old thumbnail.

Only the stale bytes change. Maker notes hold offsets into the block, so a block that is taken apart and put
together again is often a block with broken maker notes.
"""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from ddnsr_cli.io.metadata.ifd import EXIF_IFD, LONG, SHORT

IMAGE_WIDTH, IMAGE_LENGTH, ORIENTATION = 0x0100, 0x0101, 0x0112
PIXEL_X_DIMENSION, PIXEL_Y_DIMENSION = 0xA002, 0xA003
THUMBNAIL_TAGS = ((0x0201, 0x0202), (0x0111, 0x0117))  # where it is, how long it is: JPEG, then bare strips

_PREFIX = b"Exif\0\0"


class _Block(NamedTuple):
    data: bytearray
    order: str  # "<" or ">", for struct


class _Entry(NamedTuple):
    at: int  # where the entry's 12 bytes begin
    tag: int
    kind: int
    values: int  # how many


def bare_exif(exif: bytes) -> bytes:
    """EXIF without the prefix of JPEG, which some writers put twice."""
    while exif.startswith(_PREFIX):
        exif = exif[len(_PREFIX) :]
    return exif


def orientation_of(exif: bytes | None, xmp: bytes | None) -> int:
    """The orientation, 1 to 8; EXIF goes before XMP, as in Pillow; 1 where none is told or it makes no sense."""
    found = _exif_orientation(exif) if exif else None
    if found is None and xmp and (match := re.search(rb"tiff:Orientation(?:=[\"']|>)\s*([1-8])\b", xmp)):
        found = int(match[1])
    return found or 1


def mend_exif(exif: bytes, *, width: int, height: int) -> bytes | None:
    """EXIF that says upright, `width` by `height` pixels, no thumbnail. None: damaged beyond reading.

    exif: as `bare_exif` gives it. The length stays the same; no tag is added that was not there.
    """
    try:
        block = _block(exif)
        _mend_directories(block, width, height)
        _drop_thumbnail(block)
    except (struct.error, ValueError):
        return None
    return bytes(block.data)


def without_orientation(exif: bytes) -> bytes:
    """EXIF without an orientation tag; every other byte stays where it is. Damaged EXIF stays as it is."""
    try:
        block = _block(exif)
        first = _first(block)
        count = _unpack(block, "H", first)
        entry = next((one for one in _entries(block, first) if one.tag == ORIENTATION), None)
        if entry is None:
            return exif
        end = first + 2 + 12 * count + 4  # behind the link to the second directory
        block.data[entry.at : end] = block.data[entry.at + 12 : end] + bytes(12)
        struct.pack_into(block.order + "H", block.data, first, count - 1)
    except (struct.error, ValueError):
        return exif
    return bytes(block.data)


def mend_xmp(xmp: bytes, *, width: int, height: int) -> bytes:
    """XMP that says upright, `width` by `height` pixels, without thumbnails and without word of a second packet.

    A packet that is not UTF-8 stays as it is.
    """
    for name, value in (
        (b"tiff:Orientation", 1),
        (b"tiff:ImageWidth", width),
        (b"tiff:ImageLength", height),
        (b"exif:PixelXDimension", width),
        (b"exif:PixelYDimension", height),
    ):
        xmp = re.sub(rb"(" + name + rb"(?:=[\"']|>)\s*)\d+", rb"\g<1>%d" % value, xmp)
    return _without_thumbnails(re.sub(rb"\s?xmpNote:HasExtendedXMP=(\"[^\"<]*\"|'[^'<]*')", b"", xmp))


def _without_thumbnails(xmp: bytes) -> bytes:
    for prefix in (b"xmp", b"xap"):
        start, end = b"<%b:Thumbnails>" % prefix, b"</%b:Thumbnails>" % prefix
        kept, behind = [], 0
        while (at := xmp.find(start, behind)) >= 0 and (stop := xmp.find(end, at)) >= 0:
            kept.append(xmp[behind:at])
            behind = stop + len(end)
        xmp = b"".join((*kept, xmp[behind:]))
    return xmp


def _exif_orientation(exif: bytes) -> int | None:
    try:
        block = _block(exif)
        values = (_number(block, entry) for entry in _entries(block, _first(block)) if entry.tag == ORIENTATION)
        return next((value for value in values if 1 <= value <= 8), None)
    except (struct.error, ValueError):
        return None  # damaged EXIF tells nothing


def _block(exif: bytes) -> _Block:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        raise ValueError("not a TIFF structure")
    return _Block(bytearray(exif), order)


def _mend_directories(block: _Block, width: int, height: int) -> None:
    sizes = {IMAGE_WIDTH: width, IMAGE_LENGTH: height, PIXEL_X_DIMENSION: width, PIXEL_Y_DIMENSION: height}
    first = list(_entries(block, _first(block)))
    # One such entry is what the standard has; thousands, all to one long directory, would take hours.
    inner = next((_entries(block, _number(block, entry)) for entry in first if entry.tag == EXIF_IFD), ())
    for entry in (*first, *inner):
        if entry.tag == ORIENTATION:
            _set_short(block, entry, 1)
        elif entry.tag in sizes:
            _set_long(block, entry, sizes[entry.tag])


def _drop_thumbnail(block: _Block) -> None:
    """Unlink the second directory, which describes the thumbnail, and blank the thumbnail's bytes."""
    first = _first(block)
    link = first + 2 + 12 * _unpack(block, "H", first)
    second = _unpack(block, "I", link)
    struct.pack_into(block.order + "I", block.data, link, 0)
    if not 0 < second < len(block.data):
        return
    values = {entry.tag: _number(block, entry) for entry in _entries(block, second) if entry.values == 1}
    for start_tag, length_tag in THUMBNAIL_TAGS:
        start, length = values.get(start_tag, 0), values.get(length_tag, 0)
        if start > link and start + length <= len(block.data):  # never over the first directory
            block.data[start : start + length] = bytes(length)


def _first(block: _Block) -> int:
    return _unpack(block, "I", 4)


def _entries(block: _Block, ifd: int) -> Iterator[_Entry]:
    """The entries of the directory at `ifd`. Raises struct.error where it runs out of the block."""
    for index in range(_unpack(block, "H", ifd)):
        at = ifd + 2 + 12 * index
        yield _Entry(at, *struct.unpack_from(block.order + "HHI", block.data, at))


def _number(block: _Block, entry: _Entry) -> int:
    """The first number of an entry that holds whole numbers."""
    return _unpack(block, "H" if entry.kind == SHORT else "I", entry.at + 8)


def _set_short(block: _Block, entry: _Entry, value: int) -> None:
    struct.pack_into(block.order + "HIHH", block.data, entry.at + 2, SHORT, 1, value, 0)


def _set_long(block: _Block, entry: _Entry, value: int) -> None:
    struct.pack_into(block.order + "HII", block.data, entry.at + 2, LONG, 1, value)


def _unpack(block: _Block, kind: str, at: int) -> int:
    return int(struct.unpack_from(block.order + kind, block.data, at)[0])
