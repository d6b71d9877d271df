"""Directories of fields, the common ground of TIFF and EXIF: read and written without touching the values.

The values stay bytes in the byte order of their block, so names in any alphabet, odd rationals and unknown types
come out as they went in.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

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
    head = struct.calcsize(layout.count_code)
    (count,) = struct.unpack(layout.count_code, read_at(offset, head))
    if count > MAX_FIELDS:
        raise ValueError(f"a directory of {count} fields")
    room = struct.calcsize(layout.offset_code)
    size = struct.calcsize(layout.field_code) + room
    table = read_at(offset + head, size * count)
    fields: dict[int, Field | None] = {}  # once a tag: thousands that point to one directory would take hours
    budget = MAX_VALUE_BYTES
    for at in range(0, size * count, size):
        raw = table[at : at + size]
        (tag,) = struct.unpack_from(layout.order + "H", raw)
        if tag not in fields:
            fields[tag] = field = _read_field(read_at, layout, raw, parent=parent, budget=budget)
            budget -= len(field.data) if field is not None else 0
    return tuple(field for field in fields.values() if field is not None)


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
    read_at: Callable[[int, int], bytes], layout: Layout, raw: bytes, *, parent: int, budget: int
) -> Field | None:
    tag, kind, count = struct.unpack_from(layout.field_code, raw)
    start = struct.calcsize(layout.field_code)
    size = count * _SIZES.get(kind, 0)
    inline = raw[start : start + struct.calcsize(layout.offset_code)]
    (pointed,) = struct.unpack(layout.offset_code, inline)
    if tag in POINTERS[parent]:
        return _read_pointer(read_at, layout, tag, _pointer(layout, kind, inline))
    if not 0 < size <= budget:
        return None
    data = inline[:size] if size <= len(inline) else read_at(pointed, size)
    return Field(tag, kind, count, data) if len(data) == size else None


def _pointer(layout: Layout, kind: int, inline: bytes) -> int:
    return int(struct.unpack_from(layout.order + _NUMBER_CODES.get(kind, "I"), inline)[0])


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
