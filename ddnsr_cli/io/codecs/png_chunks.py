"""A PNG taken apart: its pixels as a file of their own, and what its other chunks say about the image."""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import BinaryIO, NamedTuple

from ddnsr_cli.io.image import Metadata, oblong
from ddnsr_cli.io.metadata.exif import bare_exif, iptc_of, profile_bytes

MAX_CHUNK_BYTES = 64 << 20
"""A chunk beside the pixels that is longer is left out."""

COLOR_CHUNKS = {b"cICP": 4, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1}
"""Chunks that say what the colors mean, but for the ICC profile, and how long each is."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FOR_PIXELS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
_ANIMATION = frozenset((b"acTL", b"fcTL"))
_METADATA = frozenset((b"iCCP", b"eXIf", b"pHYs", b"tEXt", b"zTXt", b"iTXt", *COLOR_CHUNKS))
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by color type
_DEPTHS = (1, 2, 4, 8, 16)
_WHOLE = ((0, 0, 1, 1),)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_INFLATED_AT_ONCE = 1 << 20

MAX_TEXT_BYTES = 16 << 20
"""The texts of a file together, inflated, are no longer than this; what is beyond is left out."""

MAX_ICC_BYTES = 64 << 20
"""No profile comes near."""

XMP_KEYWORD = "XML:com.adobe.xmp"
IPTC_KEYWORD = "Raw profile type iptc"

_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
_PROFILES = tuple(f"Raw profile type {kind}" for kind in ("exif", "APP1", "iptc", "8bim", "xmp"))
_INCHES_PER_METER = 0.0254
_PER_METER = 1


class PngParts(NamedTuple):
    """What `take_apart` finds."""

    pixels: BytesIO
    """A PNG of the first image alone: header, palette, transparency, pixels."""

    header: "PngHeader"

    frames: int
    """Images in the file; more than 1 in an animation."""

    chunks: list[tuple[bytes, bytes]]
    """(kind, data) of the chunks that hold metadata, in the order of the file."""

    notes: list[str]
    """What was left out."""


def take_apart(file: BinaryIO, check_size: Callable[[int, int], None]) -> PngParts:
    """Read a PNG to its end. check_size(width, height) raises where the image is too large; it is asked first.

    Raises ValueError where the chunks are damaged; whether their pixels inflate, the decoder tells.
    """
    header = read_header(file)
    check_size(header.width, header.height)
    file.seek(len(_SIGNATURE))
    parts = PngParts(BytesIO(), header, 1, [], [])
    parts.pixels.write(_SIGNATURE)
    later = 0
    room = _Room(2 * header.raw_bytes + (1 << 16))  # deflate makes nothing longer by more than some per mille
    for kind, data in _chunks(file, room, parts.notes):
        if kind in _FOR_PIXELS:
            write_chunk(parts.pixels, kind, data)
        elif kind in _METADATA or not room.used:
            parts.chunks.append((kind, data))
        else:
            later += kind == b"fcTL"  # a further frame
    if bytes(parts.pixels.getbuffer()[-8:-4]) != b"IEND":
        write_chunk(parts.pixels, b"IEND", b"")
        parts.notes.append("its end is missing, but all its pixels are there")
    parts.pixels.seek(0)
    return parts._replace(frames=_frames(parts.chunks, later))


def check_rows(parts: PngParts) -> None:
    """Raises ValueError where the pixels cannot be inflated or are too few: some decoders leave rows black then."""
    file = BytesIO(parts.pixels.getvalue()[len(_SIGNATURE) :])
    missing, inflate = parts.header.raw_bytes, zlib.decompressobj()
    for kind, piece in _chunks(file, _Room(file.getbuffer().nbytes), []):
        waiting = piece if kind == b"IDAT" else b""
        while missing > 0 and waiting:
            try:
                missing -= len(inflate.decompress(waiting, _INFLATED_AT_ONCE))
            except zlib.error as error:
                raise ValueError("its pixels are damaged") from error
            waiting = inflate.unconsumed_tail
    if missing > 0:
        raise ValueError("it is cut short")


def orientation_chunks(file: BinaryIO) -> list[tuple[bytes, bytes]]:
    """The metadata chunks of a PNG from its header on; the pixels are passed over unread."""
    file.seek(len(_SIGNATURE))
    return [(kind, data) for kind, data in _chunks(file, None, []) if kind in _METADATA]


@dataclass(frozen=True)
class PngHeader:
    """What the first chunk says."""

    width: int
    height: int

    bits: int
    """Of a sample."""

    color_type: int
    """0 gray, 2 RGB, 3 palette, 4 gray with alpha, 6 RGB with alpha."""

    interlaced: int

    @property
    def raw_bytes(self) -> int:
        """How many bytes the rows have, each with its filter byte, before they are deflated."""
        bits = self.bits * _CHANNELS[self.color_type]
        total = 0
        for left, top, across, down in _ADAM7 if self.interlaced else _WHOLE:
            width, height = -(-(self.width - left) // across), -(-(self.height - top) // down)
            if width > 0 and height > 0:
                total += height * (1 + -(-width * bits // 8))
        return total


def read_header(file: BinaryIO) -> PngHeader:
    """The header of a PNG. Raises ValueError where it makes no sense."""
    data = file.read(33)
    good_start = len(data) == 33 and data.startswith(_SIGNATURE + b"\0\0\0\x0dIHDR")
    if not good_start or zlib.crc32(data[12:29]) != int.from_bytes(data[29:], "big"):
        raise ValueError("its header makes no sense")
    width, height, bits, color_type, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    if color_type not in _CHANNELS or min(width, height) == 0 or bits not in _DEPTHS:
        raise ValueError("its header makes no sense")
    return PngHeader(width, height, bits, color_type, interlaced)


@dataclass
class _Room:
    """Counts the bytes of the pixels, as they are deflated."""

    left: int
    """So many may still come."""

    used: bool = False


def _chunks(file: BinaryIO, room: _Room | None, notes: list[str]) -> Iterator[tuple[bytes, bytes]]:
    """The chunks up to the end mark, or as far as the file goes; those that nobody needs are passed over.

    room: for the pixels; None passes them over, and all that goes with them.
    """
    kind = b""
    while kind != b"IEND" and len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind in _FOR_PIXELS and room is None:
            file.seek(length + 4, 1)
        elif kind in _FOR_PIXELS and room is not None:
            data = _read_needed(file, kind, length, room)
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


def _read_needed(file: BinaryIO, kind: bytes, length: int, room: _Room) -> bytes | None:
    """A chunk that makes the image; None for an end mark that is damaged: nothing comes behind it."""
    if length > (room.left if kind == b"IDAT" else MAX_CHUNK_BYTES):
        raise ValueError("it holds more data than its pixels can need")
    data, checksum = file.read(length), file.read(4)
    whole = len(checksum) == 4
    sound = _is_sound(kind, data, checksum)
    if whole and not sound and kind != b"IEND":
        raise ValueError(f"the checksum of its {kind.decode()} chunk is wrong")
    if kind == b"IDAT":
        room.left -= len(data)  # cut short it may be all the same, behind the last pixel
        room.used = True
    return data if sound or kind != b"IEND" else None


def _is_sound(kind: bytes, data: bytes, checksum: bytes) -> bool:
    return len(checksum) == 4 and zlib.crc32(data, zlib.crc32(kind)) == int.from_bytes(checksum, "big")


def write_chunk(file: BinaryIO, kind: bytes, data: bytes) -> None:
    """One chunk with its length and checksum."""
    file.write(struct.pack(">I", len(data)) + kind)
    file.write(data)
    file.write(struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))))


def _frames(chunks: list[tuple[bytes, bytes]], later: int) -> int:
    """How many images there are: the first, and, of an APNG, those behind it, whatever its header promises."""
    return 1 + later if any(kind == b"acTL" for kind, _ in chunks) else 1


class _Text(NamedTuple):
    keyword: str
    value: bytes
    encoding: str
    language: str = ""
    translated: str = ""


class _TooLongError(ValueError):
    """Data that inflate to more than they may."""


@dataclass
class _Found:
    """What has been read so far."""

    metadata: Metadata = field(default_factory=Metadata)
    texts: list[_Text] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    text_room: int = MAX_TEXT_BYTES
    """Bytes of text that may still come."""


def read_chunks(chunks: list[tuple[bytes, bytes]]) -> tuple[Metadata, list[str]]:
    """The metadata in chunks (kind, data), and notes on those that could not be read."""
    found = _Found()
    for kind, data in chunks:
        try:
            _read(kind, data, found)
        except _TooLongError:
            found.notes.append(f"its {kind.decode()} chunk inflates to an unreasonable size and was left out")
        except (ValueError, IndexError, struct.error, zlib.error):
            found.notes.append(f"its {kind.decode()} chunk is damaged and was left out")
    return _with_texts(found.metadata, found.texts), found.notes


def _read(kind: bytes, data: bytes, found: _Found) -> None:
    before = found.metadata
    if kind == b"iCCP":
        profile = _inflated(data[data.index(b"\0") + 2 :], MAX_ICC_BYTES)
        found.metadata = replace(before, icc=profile or None)
    elif kind == b"eXIf":
        found.metadata = replace(before, exif=bare_exif(data) or None)
    elif kind == b"pHYs":
        across, down, unit = struct.unpack(">IIB", data)
        if unit == _PER_METER:
            found.metadata = replace(before, dpi=(across * _INCHES_PER_METER, down * _INCHES_PER_METER))
        else:
            found.notes += oblong(across, down)
    elif kind in COLOR_CHUNKS:
        if len(data) != COLOR_CHUNKS[kind]:
            raise ValueError(kind)
        if kind not in dict(before.png_color):  # there may be one of each
            found.metadata = replace(before, png_color=(*before.png_color, (kind, data)))
    elif kind in (b"tEXt", b"zTXt", b"iTXt"):
        found.texts.append(_text(kind, data, found.text_room))
        found.text_room -= len(found.texts[-1].value)


def _text(kind: bytes, data: bytes, most: int) -> _Text:
    keyword, rest = data.split(b"\0", 1)
    if not keyword:
        raise ValueError("no keyword")
    name = keyword.decode("latin-1")
    if kind == b"tEXt":
        return _Text(name, _bounded(rest, most), "latin-1")
    if kind == b"zTXt":
        return _Text(name, _inflated(rest[1:], most), "latin-1")
    language, translated, value = rest[2:].split(b"\0", 2)
    value = _inflated(value, most) if rest[0] else _bounded(value, most)
    return _Text(name, value, "utf-8", language.decode("ascii"), translated.decode())


def _inflated(data: bytes, most: int) -> bytes:
    inflate = zlib.decompressobj()
    inflated = inflate.decompress(data, most + 1)
    if not inflate.eof and len(inflated) <= most:
        raise ValueError("cut short")
    return _bounded(inflated, most)


def _bounded(data: bytes, most: int) -> bytes:
    if len(data) > most:
        raise _TooLongError
    return data


def _with_texts(metadata: Metadata, texts: list[_Text]) -> Metadata:
    """Profiles that stand among the texts, where they belong; the other texts by their keyword."""
    profiles = {
        text.keyword: profile_bytes(text.value.decode("latin-1")) for text in texts if text.keyword in _PROFILES
    }
    plain = [text for text in texts if text.keyword not in (*_PROFILES, XMP_KEYWORD)]
    values: dict[str, list[str]] = {}
    for text in plain:
        values.setdefault(text.keyword, []).append(text.value.decode(text.encoding, "replace"))
    exif = profiles.get("Raw profile type exif") or profiles.get("Raw profile type APP1")
    iptc = profiles.get(IPTC_KEYWORD) or profiles.get("Raw profile type 8bim")
    return replace(
        metadata,
        exif=metadata.exif or (bare_exif(exif) if exif and not exif.startswith(_XMP_PREFIX) else None),
        xmp=_xmp(texts, profiles),
        iptc=iptc_of(iptc) if iptc else None,
        text={keyword: "\n".join(several) for keyword, several in values.items()},
        languages={
            text.keyword: (text.language, text.translated) for text in plain if text.language or text.translated
        },
    )


def _xmp(texts: list[_Text], profiles: dict[str, bytes | None]) -> bytes | None:
    packet = next((text.value for text in texts if text.keyword == XMP_KEYWORD and text.value), None)
    if packet is None:
        packet = profiles.get("Raw profile type xmp")
    if packet is None and (block := profiles.get("Raw profile type APP1")) and block.startswith(_XMP_PREFIX):
        packet = block[len(_XMP_PREFIX) :]
    return packet or None
