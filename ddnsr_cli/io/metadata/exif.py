"""Directories of fields, the common ground of TIFF and EXIF, and EXIF and XMP mended in place.

Read and written without touching the values: these stay bytes in the byte order of their block, so names in any
alphabet, odd rationals and unknown types come out as they went in. Mended: upright, of the image's size, without the
old thumbnail. Only the stale bytes change. Maker notes hold offsets into the block, so a block that is taken apart and
put together again is often a block with broken maker notes.

At the end IPTC data in the frames that files put around them: Photoshop's resource blocks, hexadecimal text in PNG.
"""

import binascii
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

IPTC_RESOURCE = 0x0404
SEGMENT_PREFIX = b"Photoshop 3.0\0"
"""What an APP13 segment of a JPEG with resource blocks starts with."""

_PLACES = {0x0408: "guides", 0x041A: "slices", 0x0435: "layer selections", 0x0BB7: "a clipping path"}
_FIRST_PATH, _LAST_PATH = 0x07D0, 0x0BB6
_BLOCK, _RECORD = b"8BIM", b"\x1c"
_HEX_PER_LINE = 72

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 1, 2, 3, 4, 5, 7, 16
EXIF_IFD, GPS_IFD, INTEROP_IFD = 0x8769, 0x8825, 0xA005

POINTERS = {0: (EXIF_IFD, GPS_IFD), EXIF_IFD: (INTEROP_IFD,), GPS_IFD: (), INTEROP_IFD: ()}
"""Which fields of a directory point to directories of their own; 0 is the first directory."""

MAX_FIELDS = 4096
"""More fields than this in one directory are damage."""

MAX_VALUE_BYTES = 64 << 20
"""Together the values of one directory are no longer than this; what is beyond is left out."""

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_NUMBER_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


class Layout(NamedTuple):
    """How numbers and offsets are written."""

    order: Literal["<", ">"]
    """ "<" little-endian ("II") or ">" big-endian ("MM"), as struct wants it."""

    big: bool = False
    """BigTIFF: counts and offsets of 64 bits."""

    @property
    def count_code(self) -> str:
        """The struct code of the number of fields in a directory."""
        return self.order + ("Q" if self.big else "H")

    @property
    def offset_code(self) -> str:
        """The struct code of an offset."""
        return self.order + ("Q" if self.big else "I")

    @property
    def field_code(self) -> str:
        """The struct code of a field without its value: tag, kind, number of values."""
        return self.order + ("HHQ" if self.big else "HHI")


@dataclass(frozen=True)
class Field:
    """One field of a directory."""

    tag: int
    kind: int
    """The type of its values: BYTE, ASCII, SHORT, ..."""

    count: int
    """How many values."""

    data: bytes = b""
    """The values, in the byte order of the block."""

    directory: "tuple[Field, ...] | None" = None
    """The directory that this field points to, instead of values."""

    def numbers(self, layout: Layout) -> tuple[int, ...]:
        """The values, if they are whole numbers without sign; else nothing."""
        code = _NUMBER_CODES.get(self.kind)
        return struct.unpack(f"{layout.order}{self.count}{code}", self.data) if code else ()

    def rationals(self, layout: Layout) -> tuple[float, ...]:
        """The values, if they are rationals above or at zero; x/0 counts as 0."""
        if self.kind != RATIONAL:
            return ()
        pairs = struct.iter_unpack(layout.order + "II", self.data)
        return tuple(above / below if below else 0.0 for above, below in pairs)


class Entry(NamedTuple):
    """An entry of a directory, as it stands there."""

    at: int
    """Where it begins in the block."""

    tag: int
    kind: int

    values: int
    """How many."""

    inline: bytes
    """The values where they are short enough, else the offset of them."""

    def number(self, layout: Layout) -> int:
        """The first value, taken for a whole number; one of an unknown kind is read as if it were a LONG."""
        code = _NUMBER_CODES.get(self.kind, "I")
        if struct.calcsize(code) > len(self.inline):
            code = "I"
        return int(struct.unpack_from(layout.order + code, self.inline)[0])


def numbers_field(layout: Layout, tag: int, kind: int, *values: int) -> Field:
    """A field of whole numbers: BYTE, SHORT, LONG or LONG8."""
    return Field(tag, kind, len(values), struct.pack(f"{layout.order}{len(values)}{_NUMBER_CODES[kind]}", *values))


def parse_header(head: bytes) -> tuple[Layout, int]:
    """Byte order and width of offsets, and where the first directory is, from a block's first 16 bytes.

    Raises ValueError where it is neither TIFF nor EXIF, struct.error where it is too short.
    """
    layouts = {b"II*\0": Layout("<"), b"MM\0*": Layout(">"), b"II+\0": Layout("<", True), b"MM\0+": Layout(">", True)}
    layout = layouts.get(head[:4])
    if layout is None:
        raise ValueError("not a TIFF structure")
    return layout, struct.unpack_from(layout.offset_code, head, 8 if layout.big else 4)[0]


def pack_header(layout: Layout) -> bytes:
    """The header of a block whose first directory follows at once: 8 bytes, 16 in BigTIFF."""
    letters = b"II" if layout.order == "<" else b"MM"
    if layout.big:
        return letters + struct.pack(layout.order + "HHHQ", 43, 8, 0, 16)
    return letters + struct.pack(layout.order + "HI", 42, 8)


def read_fields(
    read_at: Callable[[int, int], bytes], layout: Layout, offset: int, *, parent: int = 0
) -> tuple[Field, ...]:
    """The fields of the directory at `offset`, with the EXIF, GPS and interoperability directories below it.

    read_at(offset, length) gives bytes of the block, fewer at its end. Fields whose values cannot be had are
    left out, and so are further fields of a tag that was there. Raises struct.error or ValueError where the directory
    itself cannot be read.
    """
    fields: dict[int, Field | None] = {}  # once a tag: thousands that point to one directory would take hours
    budget = MAX_VALUE_BYTES
    for entry in entries(read_at, layout, offset):
        if entry.tag not in fields:
            fields[entry.tag] = field = _read_field(read_at, layout, entry, parent=parent, budget=budget)
            budget -= len(field.data) if field is not None else 0
    return tuple(field for field in fields.values() if field is not None)


def entries(read_at: Callable[[int, int], bytes], layout: Layout, offset: int) -> Iterator[Entry]:
    """The entries of the directory at `offset`, as they stand there.

    Raises ValueError for too many, struct.error where the directory runs out of its block.
    """
    head, room = struct.calcsize(layout.count_code), struct.calcsize(layout.offset_code)
    (count,) = struct.unpack(layout.count_code, read_at(offset, head))
    if count > MAX_FIELDS:
        raise ValueError(f"a directory of {count} fields")
    start = struct.calcsize(layout.field_code)
    table = read_at(offset + head, (start + room) * count)
    for index in range(count):
        raw = table[index * (start + room) : (index + 1) * (start + room)]
        tag, kind, values = struct.unpack_from(layout.field_code, raw)
        yield Entry(offset + head + index * (start + room), tag, kind, values, raw[start:])


def directories(read_at: Callable[[int, int], bytes], layout: Layout, offset: int) -> Iterator[bytes]:
    """The table of fields of each directory of a file, in the order of its chain, as far as it can be followed."""
    head, link = struct.calcsize(layout.count_code), struct.calcsize(layout.offset_code)
    size = struct.calcsize(layout.field_code) + link
    seen: set[int] = set()
    while offset and offset not in seen and len(raw := read_at(offset, head)) == head:
        seen.add(offset)
        (count,) = struct.unpack(layout.count_code, raw)
        table = read_at(offset + head, min(count, MAX_FIELDS) * size)
        yield table
        after = read_at(offset + head + len(table), link)
        offset = struct.unpack(layout.offset_code, after)[0] if len(after) == link else 0


def _read_field(
    read_at: Callable[[int, int], bytes], layout: Layout, entry: Entry, *, parent: int, budget: int
) -> Field | None:
    size = entry.values * _SIZES.get(entry.kind, 0)
    (pointed,) = struct.unpack(layout.offset_code, entry.inline)
    if entry.tag in POINTERS[parent]:
        return _read_pointer(read_at, layout, entry.tag, entry.number(layout))
    if not 0 < size <= budget:
        return None
    data = entry.inline[:size] if size <= len(entry.inline) else read_at(pointed, size)
    return Field(entry.tag, entry.kind, entry.values, data) if len(data) == size else None


def _read_pointer(read_at: Callable[[int, int], bytes], layout: Layout, tag: int, offset: int) -> Field | None:
    try:
        directory = read_fields(read_at, layout, offset, parent=tag)
    except (struct.error, ValueError):
        return None  # one damaged branch does not spoil the others
    return Field(tag, LONG, 1, directory=directory) if directory else None


def pack_fields(fields: Iterable[Field], layout: Layout, at: int) -> bytes:
    """A directory that will lie at offset `at`, its long values and the directories below it right behind it."""
    ordered = sorted(fields, key=lambda field: field.tag)
    room = struct.calcsize(layout.offset_code)
    end = at + struct.calcsize(layout.count_code) + len(ordered) * (struct.calcsize(layout.field_code) + room) + room
    table, tail = struct.pack(layout.count_code, len(ordered)), b""
    for field in ordered:
        where = end + len(tail)
        if field.directory is not None:
            kind = LONG8 if layout.big else LONG
            value, behind = struct.pack(layout.offset_code, where), pack_fields(field.directory, layout, where)
        elif len(field.data) <= room:
            kind, value, behind = field.kind, field.data.ljust(room, b"\0"), b""
        else:
            kind, value, behind = field.kind, struct.pack(layout.offset_code, where), field.data
        table += struct.pack(layout.field_code, field.tag, kind, field.count) + value
        tail += behind + bytes(len(behind) % 2)  # values begin at even offsets
    return table + struct.pack(layout.offset_code, 0) + tail


IMAGE_WIDTH, IMAGE_LENGTH, ORIENTATION = 0x0100, 0x0101, 0x0112
RESOLUTION, RESOLUTION_UNIT = (0x011A, 0x011B), 0x0128
"""Dots per unit, across and down; 2 inch (also where it is not told), 3 centimeter."""

_INCH, _CENTIMETER = 2, 3
WHITE_POINT, PRIMARIES, COLOR_SPACE, GAMMA, INTEROP_INDEX = 0x013E, 0x013F, 0xA001, 0xA500, 0x0001
_SRGB, _SRGB_RULE = 1, b"R98\0"
PIXEL_X_DIMENSION, PIXEL_Y_DIMENSION = 0xA002, 0xA003
THUMBNAIL_TAGS = ((0x0201, 0x0202), (0x0111, 0x0117))  # where it is, how long it is: JPEG, then bare strips

EXIF_PREFIX = b"Exif\0\0"


class Block(NamedTuple):
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

    def drop(self, directory: int, tag: int) -> None:
        """Take an entry out of a directory; every byte outside it stays where it is. Raises as `entries`."""
        entry = next((one for one in self.entries(directory) if one.tag == tag), None)
        if entry is None:
            return
        (count,) = struct.unpack_from(self.layout.order + "H", self.data, directory)
        end = directory + 2 + 12 * count + 4  # behind the link to the next directory
        self.data[entry.at : end] = self.data[entry.at + 12 : end] + bytes(12)
        struct.pack_into(self.layout.order + "H", self.data, directory, count - 1)


def bare_exif(exif: bytes) -> bytes:
    """EXIF without the prefix of JPEG, which some writers put twice."""
    while exif.startswith(EXIF_PREFIX):
        exif = exif[len(EXIF_PREFIX) :]
    return exif


_XMP_STARTS = (
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"<\0\0\0", "utf-32-le"),
    (b"\0\0\0<", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
"""A byte order mark, or the first bracket, and what follows is in; the longer first."""


def orientation_of(exif: bytes | None, xmp: bytes | None) -> int:
    """The orientation, 1 to 8; EXIF goes before XMP, as in Pillow; 1 where none is reported or it makes no sense."""
    found = _exif_orientation(exif) if exif else None
    if found is None and xmp and (match := re.search(rb"tiff:Orientation(?:=[\"']|>)\s*([1-8])\b", utf8_xmp(xmp))):
        found = int(match[1])
    return found or 1


def dpi_of(exif: bytes) -> tuple[float, float] | None:
    """Dots per inch, across and down, as EXIF tells them; None where it does not, or is damaged."""
    try:
        block = parse_block(exif)
        fields = {field.tag: field for field in read_fields(block.read_at, block.layout, block.first)}
    except (struct.error, ValueError):
        return None
    across, down = (fields[tag].rationals(block.layout)[:1] if tag in fields else () for tag in RESOLUTION)
    unit = fields[RESOLUTION_UNIT].numbers(block.layout) if RESOLUTION_UNIT in fields else (_INCH,)
    per_inch = {_INCH: 1.0, _CENTIMETER: 2.54}.get(unit[0] if unit else _INCH)
    return (across[0] * per_inch, down[0] * per_inch) if across and down and per_inch else None


def utf8_xmp(xmp: bytes) -> bytes:
    """XMP in UTF-8, whichever of the Unicode forms that its specification allows it comes in."""
    for start, encoding in _XMP_STARTS:
        if xmp.startswith(start):
            return xmp.decode(encoding, "replace").removeprefix("\ufeff").encode("utf-8", "replace")
    return xmp


def mend_exif(exif: bytes, *, width: int, height: int) -> bytes | None:
    """EXIF that says upright, `width` by `height` pixels, no thumbnail. None: damaged beyond reading.

    exif: as `bare_exif` gives it. The length stays the same; no tag is added that was not there.
    """
    try:
        block = parse_block(exif)
        _mend_directories(block, width, height)
        _drop_thumbnail(block)
    except (struct.error, ValueError):
        return None
    return bytes(block.data)


def without_orientation(exif: bytes) -> bytes:
    """EXIF without an orientation tag; every other byte stays where it is. Damaged EXIF stays as it is."""
    try:
        block = parse_block(exif)
        block.drop(block.first, ORIENTATION)
    except (struct.error, ValueError):
        return exif
    return bytes(block.data)


def exif_of_srgb(exif: bytes) -> bytes:
    """EXIF that says sRGB where it tells a color space; of another white, primaries or gamma it says no more.

    Damaged EXIF stays as it is.
    """
    try:
        block = parse_block(exif)
        inner = next((one.number(block.layout) for one in block.entries(block.first) if one.tag == EXIF_IFD), None)
        for directory, tag in ((block.first, WHITE_POINT), (block.first, PRIMARIES), (inner, GAMMA)):
            if directory is not None:
                block.drop(directory, tag)
        fields = {} if inner is None else {entry.tag: entry for entry in block.entries(inner)}
        if COLOR_SPACE in fields:
            at = fields[COLOR_SPACE].at + 2
            struct.pack_into(block.layout.order + "HIHH", block.data, at, SHORT, 1, _SRGB, 0)
        interop = block.entries(fields[INTEROP_IFD].number(block.layout)) if INTEROP_IFD in fields else ()
        for entry in (one for one in interop if (one.tag, one.values) == (INTEROP_INDEX, len(_SRGB_RULE))):
            block.data[entry.at + 8 : entry.at + 12] = _SRGB_RULE
    except (struct.error, ValueError):
        return exif
    return bytes(block.data)


def _exif_orientation(exif: bytes) -> int | None:
    try:
        block = parse_block(exif)
        values = (entry.number(block.layout) for entry in block.entries(block.first) if entry.tag == ORIENTATION)
        return next((value for value in values if 1 <= value <= 8), None)
    except (struct.error, ValueError):
        return None  # damaged EXIF tells nothing


def parse_block(exif: bytes) -> Block:
    """EXIF to be changed in place. Raises ValueError or struct.error where it is damaged."""
    layout, first = parse_header(exif)
    if layout.big:
        raise ValueError("no EXIF is a BigTIFF")
    return Block(bytearray(exif), layout, first)


def _mend_directories(block: Block, width: int, height: int) -> None:
    sizes = {IMAGE_WIDTH: width, IMAGE_LENGTH: height, PIXEL_X_DIMENSION: width, PIXEL_Y_DIMENSION: height}
    first = list(block.entries(block.first))
    # One such entry is what the standard has; thousands, all to one long directory, would take hours.
    inner = next((block.entries(entry.number(block.layout)) for entry in first if entry.tag == EXIF_IFD), ())
    for entry in (*first, *inner):
        if entry.tag == ORIENTATION:
            struct.pack_into(block.layout.order + "HIHH", block.data, entry.at + 2, SHORT, 1, 1, 0)
        elif entry.tag in sizes:
            struct.pack_into(block.layout.order + "HII", block.data, entry.at + 2, LONG, 1, sizes[entry.tag])


def thumbnail_of(exif: bytes) -> bytes | None:
    """The thumbnail in EXIF, where it is a JPEG; None: there is none, or the block is damaged."""
    try:
        block = parse_block(exif)
        order = block.layout.order
        link = block.first + 2 + 12 * struct.unpack_from(order + "H", block.data, block.first)[0]
        (second,) = struct.unpack_from(order + "I", block.data, link)
        values = {entry.tag: entry.number(block.layout) for entry in block.entries(second)} if second else {}
    except (struct.error, ValueError):
        return None
    start, length = (values.get(tag, 0) for tag in THUMBNAIL_TAGS[0])
    data = block.read_at(start, length)
    return data if data.startswith(b"\xff\xd8\xff") else None


def _drop_thumbnail(block: Block) -> None:
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
