"""A PNG taken apart: its pixels as a file of their own, and all else that is worth keeping, within bounds.

Pillow and libpng each refuse a picture, or drop things without a word, for what stands in the chunks beside the
pixels. Here a damaged or oversized one costs itself and a note, never the picture; damaged pixels are always told.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO, NamedTuple

MAX_CHUNK_BYTES = 64 << 20
"""A chunk beside the pixels that is longer is left out."""

COLOUR_CHUNKS = {b"cICP": 4, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1}
"""Chunks that say what the colours mean, but for the ICC profile, and how long each is."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FOR_PIXELS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
_ANIMATION = frozenset((b"acTL", b"fcTL"))
_METADATA = frozenset((b"iCCP", b"eXIf", b"pHYs", b"tEXt", b"zTXt", b"iTXt", *COLOUR_CHUNKS))
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_DEPTHS = (1, 2, 4, 8, 16)
_WHOLE = ((0, 0, 1, 1),)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_INFLATED_AT_ONCE = 1 << 20


class PngParts(NamedTuple):
    """What `take_apart` finds."""

    pixels: BytesIO
    """A PNG of the first picture alone: header, palette, transparency, pixels."""

    bits: int
    """Of a sample."""

    colour_type: int
    """0 gray, 2 RGB, 3 palette, 4 gray with alpha, 6 RGB with alpha."""

    frames: int
    """Pictures in the file; more than 1 in an animation."""

    chunks: list[tuple[bytes, bytes]]
    """(kind, data) of the chunks that hold metadata, in the order of the file."""

    notes: list[str]
    """What was left out."""


def take_apart(file: BinaryIO, check_size: Callable[[int, int], None]) -> PngParts:
    """Read a PNG to its end. check_size(width, height) raises where the picture is too large; it is asked first.

    Raises ValueError where the pixels are damaged or cut short.
    """
    header = _header(file.read(33))
    check_size(header.width, header.height)
    file.seek(len(_SIGNATURE))
    parts = PngParts(BytesIO(), header.bits, header.colour_type, 1, [], [])
    parts.pixels.write(_SIGNATURE)
    rows = _Rows(header.raw_bytes)
    for kind, data in _chunks(file, rows, parts.notes):
        if kind in _FOR_PIXELS:
            _write_chunk(parts.pixels, kind, data)
        elif kind in _METADATA or not rows.seen:  # an animation's later frames are of no use
            parts.chunks.append((kind, data))
    if rows.missing:
        raise ValueError("it is cut short")
    if bytes(parts.pixels.getbuffer()[-8:-4]) != b"IEND":
        _write_chunk(parts.pixels, b"IEND", b"")
        parts.notes.append("its end is missing, but all its pixels are there")
    parts.pixels.seek(0)
    return parts._replace(frames=_frames(parts.chunks))


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    bits: int
    colour_type: int
    interlaced: int

    @property
    def raw_bytes(self) -> int:
        """How many bytes the rows have, each with its filter byte, before they are deflated."""
        bits = self.bits * _CHANNELS[self.colour_type]
        total = 0
        for left, top, across, down in _ADAM7 if self.interlaced else _WHOLE:
            width, height = -(-(self.width - left) // across), -(-(self.height - top) // down)
            if width > 0 and height > 0:
                total += height * (1 + -(-width * bits // 8))
        return total


def _header(data: bytes) -> _Header:
    good_start = len(data) == 33 and data.startswith(_SIGNATURE + b"\0\0\0\x0dIHDR")
    if not good_start or zlib.crc32(data[12:29]) != int.from_bytes(data[29:], "big"):
        raise ValueError("its header makes no sense")
    width, height, bits, colour_type, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    if colour_type not in _CHANNELS or min(width, height) == 0 or bits not in _DEPTHS:
        raise ValueError("its header makes no sense")
    return _Header(width, height, bits, colour_type, interlaced)


class _Rows:
    """Counts what the pixels inflate to: where it is too little, decoders leave rows black without a word."""

    def __init__(self, wanted: int) -> None:
        self.missing = wanted
        self.room = 2 * wanted + (1 << 16)  # deflate makes nothing longer by more than some per mille
        self.seen = False
        self._inflate = zlib.decompressobj()

    def see(self, data: bytes) -> None:
        """One more piece. Raises ValueError where it cannot be inflated."""
        self.seen = True
        self.room -= len(data)
        while self.missing > 0 and data:
            try:
                self.missing -= len(self._inflate.decompress(data, _INFLATED_AT_ONCE))
            except zlib.error as error:
                raise ValueError("its pixels are damaged") from error
            data = self._inflate.unconsumed_tail
        self.missing = max(0, self.missing)


def _chunks(file: BinaryIO, rows: _Rows, notes: list[str]) -> Iterator[tuple[bytes, bytes]]:
    """The chunks up to the end mark, or as far as the file goes; those that nobody needs are passed over."""
    kind = b""
    while kind != b"IEND" and len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind in _FOR_PIXELS:
            data = _read_needed(file, kind, length, rows)
            if data is not None:
                yield kind, data
        elif not kind.isalpha() or kind[:1].isupper():
            raise ValueError("it is damaged between its chunks, or of a newer kind")
        elif kind not in _METADATA | _ANIMATION:
            file.seek(length + 4, 1)
        elif length > MAX_CHUNK_BYTES:
            notes.append(f"its {kind.decode()} chunk has more than {MAX_CHUNK_BYTES >> 20} MiB and was left out")
            file.seek(length + 4, 1)
        elif _is_sound(kind, data := file.read(length), file.read(4)):
            yield kind, data
        else:
            notes.append(f"its {kind.decode()} chunk is damaged and was left out")


def _read_needed(file: BinaryIO, kind: bytes, length: int, rows: _Rows) -> bytes | None:
    """A chunk that makes the picture; None for an end mark that is damaged: nothing comes behind it."""
    if length > (rows.room if kind == b"IDAT" else MAX_CHUNK_BYTES):
        raise ValueError("it holds more data than its pixels can need")
    data, checksum = file.read(length), file.read(4)
    whole = len(checksum) == 4
    sound = _is_sound(kind, data, checksum)
    if whole and not sound and kind != b"IEND":
        raise ValueError(f"the checksum of its {kind.decode()} chunk is wrong")
    if kind == b"IDAT":
        rows.see(data)  # cut short it may be all the same, behind the last pixel
    return data if sound or kind != b"IEND" else None


def _is_sound(kind: bytes, data: bytes, checksum: bytes) -> bool:
    return len(checksum) == 4 and zlib.crc32(data, zlib.crc32(kind)) == int.from_bytes(checksum, "big")


def _write_chunk(file: BinaryIO, kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind)
    file.write(data)
    file.write(struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))))


def _frames(chunks: list[tuple[bytes, bytes]]) -> int:
    """How many pictures an APNG holds, by the chunks before its pixels."""
    control = next((data for kind, data in chunks if kind == b"acTL" and len(data) == 8), None)
    if control is None:
        return 1
    pixels_are_a_frame = any(kind == b"fcTL" for kind, _ in chunks)
    return max(1, int.from_bytes(control[:4], "big")) + (not pixels_are_a_frame)
