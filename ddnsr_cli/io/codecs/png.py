"""PNG of any depth and color type: pixels through libvips, what its other chunks tell by our own code."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from ddnsr_cli.io.codecs.encoders import save_png
from ddnsr_cli.io.codecs.pillow import (
    Decoded,
    alone_with_pillow,
    beyond_palette,
    check_size,
    decode_with_pillow,
    first_of,
    with_samples,
)
from ddnsr_cli.io.codecs.png_chunks import (
    IPTC_KEYWORD,
    XMP_KEYWORD,
    PngParts,
    check_rows,
    orientation_chunks,
    read_chunks,
    read_header,
    take_apart,
    write_chunk,
)
from ddnsr_cli.io.codecs.vips import whole_samples
from ddnsr_cli.io.codecs.wholeness import left_out_behind
from ddnsr_cli.io.image import Metadata, Pixels, Writable
from ddnsr_cli.io.metadata.exif import orientation_of, raw_profile, resource_block

_DEEP_COLOR = (2, 4, 6)  # RGB, gray with alpha, RGB with alpha; Pillow is exact for plain gray
_PALETTE = 3
_HEADER_END = 33  # of the signature and the header, behind which our chunks go
_INCHES_PER_METER = 1 / 0.0254
_KEYWORD_BYTES = 79


def decode_png(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """The first image of a PNG. Damage raises ValueError, or whatever the decoders raise."""
    parts = take_apart(file, lambda width, height: check_size(path, width, height, max_pixels))
    metadata, notes = read_chunks(parts.chunks)
    decoded = _whole(parts, metadata)
    if decoded is None:  # damaged, or it ends behind its last pixel
        check_rows(parts)
        if parts.header.bits == 16 and parts.header.color_type in _DEEP_COLOR:
            raise ValueError("its pixels are damaged")
        decoded = decode_with_pillow(path, parts.pixels, file_format="PNG", max_pixels=max_pixels, metadata=metadata)
    frames = (first_of(parts.frames),) if parts.frames > 1 else ()
    others = left_out_behind(file.read())
    return replace(decoded, notes=(*frames, *parts.notes, *notes, *decoded.notes, *others))


def _whole(parts: PngParts, metadata: Metadata) -> Decoded | None:
    """None where the pixels are not whole in every way."""
    samples = whole_samples(parts.pixels.getvalue(), "PNG")
    if samples is None:
        return None
    orientation = orientation_of(metadata.exif, metadata.xmp)
    decoded = with_samples(Decoded(pixels=samples, alpha=None, metadata=metadata, orientation=orientation), samples)
    if parts.header.color_type != _PALETTE:
        return decoded
    pixels, decoded = decoded.pixels, replace(decoded, damage=_beyond_palette(parts, decoded.pixels))
    is_gray = pixels.shape[2] == 3 and bool((pixels == pixels[..., :1]).all())
    if is_gray and metadata.icc is None:  # a profile of such a file is for RGB
        decoded = replace(decoded, pixels=pixels[..., :1])
    return decoded


def _beyond_palette(parts: PngParts, pixels: Pixels) -> str:
    """A word on places that stand for no color; empty: there are none. libvips makes black of them and says nothing."""
    if (pixels[..., 0] | pixels[..., -1]).all():  # nothing is black
        return ""
    size = parts.header.width * parts.header.height
    with alone_with_pillow(size), suppress(Exception), Image.open(parts.pixels, formats=["PNG"]) as image:
        image.load()
        return beyond_palette(image)
    return ""


def png_size(file: BinaryIO) -> tuple[int, int, int]:
    """(width, height, orientation) as stored; the pixels are passed over. Damage raises ValueError and others."""
    header = read_header(file)
    metadata, _ = read_chunks(orientation_chunks(file))
    return header.width, header.height, orientation_of(metadata.exif, metadata.xmp)


def stored_png_size(file: BinaryIO) -> tuple[int, int, int]:
    """(width, height, 1): what may tell of a turn can lie behind the pixels, and is not looked for."""
    header = read_header(file)
    return header.width, header.height, 1


def write_png(image: Writable, file: BinaryIO, *, level: int) -> None:
    """Write an image; level: 0 (stored) to 9 (smallest). Raises OSError as the file does."""
    about = BytesIO()
    for kind, data in _metadata_chunks(image.metadata):
        write_chunk(about, kind, data)
    save_png(image, _Around(file, about.getvalue()), level=level)


class _Around:
    """A file for the encoder: what stands between its header and its pixels gives way to our own chunks."""

    def __init__(self, file: BinaryIO, about: bytes) -> None:
        self._file = file
        self._about = about
        self._head = b""
        self._is_in_pixels = False

    def write(self, data: bytes) -> int:
        """Takes the next bytes of the encoder's file."""
        if self._is_in_pixels:
            return self._file.write(data)
        self._head += data
        start = self._head.find(b"IDAT", _HEADER_END)
        if start >= 0:
            self._is_in_pixels = True
            self._file.write(self._head[:_HEADER_END] + self._about + self._head[start - 4 :])
        return len(data)


def _metadata_chunks(metadata: Metadata) -> Iterator[tuple[bytes, bytes]]:
    yield from metadata.png_color
    if metadata.icc:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)
    if metadata.dpi:
        yield b"pHYs", struct.pack(">IIB", *(round(dpi * _INCHES_PER_METER) for dpi in metadata.dpi), 1)
    if metadata.exif:
        yield b"eXIf", metadata.exif
    if metadata.xmp:
        yield b"iTXt", XMP_KEYWORD.encode() + b"\0\0\0\0\0" + metadata.xmp
    if metadata.iptc:
        profile = zlib.compress(raw_profile("iptc", resource_block(metadata.iptc)))
        yield b"zTXt", IPTC_KEYWORD.encode() + b"\0\0" + profile
    for key, value in metadata.text.items():
        if keyword := key.encode("latin-1", "replace")[:_KEYWORD_BYTES]:
            yield _text_chunk(keyword, value.replace("\0", ""), metadata.languages.get(key))


def _text_chunk(keyword: bytes, value: str, tag: tuple[str, str] | None) -> tuple[bytes, bytes]:
    """A text; tag: its language and the translated keyword."""
    if tag is None:
        try:
            return b"tEXt", keyword + b"\0" + value.encode("latin-1")
        except UnicodeEncodeError:
            pass  # iTXt holds all of Unicode
    language, translated = tag or ("", "")
    heading = b"\0".join((keyword, b"\0", language.encode("ascii", "replace"), translated.encode(), b""))
    return b"iTXt", heading + value.encode("utf-8", "replace")
