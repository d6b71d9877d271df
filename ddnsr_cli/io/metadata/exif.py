"""EXIF and XMP mended in place: upright, of the picture's size, without the old thumbnail.

Only the stale bytes change. Maker notes hold offsets into the block, so a block that is taken apart and put
together again is often a block with broken maker notes.
"""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from ddnsr_cli.io.metadata.ifd import EXIF_IFD, LONG, SHORT, Entry, Layout, entries, parse_header

IMAGE_WIDTH, IMAGE_LENGTH, ORIENTATION = 0x0100, 0x0101, 0x0112
PIXEL_X_DIMENSION, PIXEL_Y_DIMENSION = 0xA002, 0xA003
THUMBNAIL_TAGS = ((0x0201, 0x0202), (0x0111, 0x0117))  # where it is, how long it is: JPEG, then bare strips

_PREFIX = b"Exif\0\0"


class _Block(NamedTuple):
    """EXIF to be changed in place."""

    data: bytearray
    layout: Layout

    first: int
    """Where the first directory is."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Bytes of the block, fewer at its end."""
        return bytes(self.data[offset : offset + length])

    def entries(self, directory: int) -> Iterator[Entry]:
        """Raises struct.error where the directory runs out of the block, ValueError for too many."""
        return entries(self.read_at, self.layout, directory)


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
        first, order = block.first, block.layout.order
        (count,) = struct.unpack_from(order + "H", block.data, first)
        entry = next((one for one in block.entries(first) if one.tag == ORIENTATION), None)
        if entry is None:
            return exif
        end = first + 2 + 12 * count + 4  # behind the link to the second directory
        block.data[entry.at : end] = block.data[entry.at + 12 : end] + bytes(12)
        struct.pack_into(order + "H", block.data, first, count - 1)
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
        values = (entry.number(block.layout) for entry in block.entries(block.first) if entry.tag == ORIENTATION)
        return next((value for value in values if 1 <= value <= 8), None)
    except (struct.error, ValueError):
        return None  # damaged EXIF tells nothing


def _block(exif: bytes) -> _Block:
    layout, first = parse_header(exif)
    if layout.big:
        raise ValueError("no EXIF is a BigTIFF")
    return _Block(bytearray(exif), layout, first)


def _mend_directories(block: _Block, width: int, height: int) -> None:
    sizes = {IMAGE_WIDTH: width, IMAGE_LENGTH: height, PIXEL_X_DIMENSION: width, PIXEL_Y_DIMENSION: height}
    first = list(block.entries(block.first))
    # One such entry is what the standard has; thousands, all to one long directory, would take hours.
    inner = next((block.entries(entry.number(block.layout)) for entry in first if entry.tag == EXIF_IFD), ())
    for entry in (*first, *inner):
        if entry.tag == ORIENTATION:
            struct.pack_into(block.layout.order + "HIHH", block.data, entry.at + 2, SHORT, 1, 1, 0)
        elif entry.tag in sizes:
            struct.pack_into(block.layout.order + "HII", block.data, entry.at + 2, LONG, 1, sizes[entry.tag])


def _drop_thumbnail(block: _Block) -> None:
    """Unlink the second directory, which describes the thumbnail, and blank the thumbnail's bytes."""
    order = block.layout.order
    link = block.first + 2 + 12 * struct.unpack_from(order + "H", block.data, block.first)[0]
    (second,) = struct.unpack_from(order + "I", block.data, link)
    struct.pack_into(order + "I", block.data, link, 0)
    if not 0 < second < len(block.data):
        return
    values = {entry.tag: entry.number(block.layout) for entry in block.entries(second) if entry.values == 1}
    for start_tag, length_tag in THUMBNAIL_TAGS:
        start, length = values.get(start_tag, 0), values.get(length_tag, 0)
        if start > link and start + length <= len(block.data):  # never over the first directory
            block.data[start : start + length] = bytes(length)
