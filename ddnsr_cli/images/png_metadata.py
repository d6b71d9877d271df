"""What the chunks of a PNG say about the picture."""

import struct
import zlib
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ddnsr_cli.images.exif import bare_exif
from ddnsr_cli.images.iptc import iptc_of, profile_bytes
from ddnsr_cli.images.picture import Metadata
from ddnsr_cli.images.png_chunks import COLOUR_CHUNKS

MAX_TEXT_BYTES = 16 << 20
"""The texts of a file together, inflated, are no longer than this; what is beyond is left out."""

MAX_ICC_BYTES = 64 << 20
"""No profile comes near."""

XMP_KEYWORD = "XML:com.adobe.xmp"
IPTC_KEYWORD = "Raw profile type iptc"

_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
_PROFILES = tuple(f"Raw profile type {kind}" for kind in ("exif", "APP1", "iptc", "8bim", "xmp"))
_INCHES_PER_METRE = 0.0254
_PER_METRE = 1


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
        if unit == _PER_METRE:
            found.metadata = replace(before, dpi=(across * _INCHES_PER_METRE, down * _INCHES_PER_METRE))
    elif kind in COLOUR_CHUNKS:
        if len(data) != COLOUR_CHUNKS[kind]:
            raise ValueError(kind)
        if kind not in dict(before.png_colour):  # there may be one of each
            found.metadata = replace(before, png_colour=(*before.png_colour, (kind, data)))
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
