"""PNG of any depth and color type, with everything that its chunks tell; written streamed, by bands of rows."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.io.codecs.deflate import sample_bands, zlib_stream
from ddnsr_cli.io.codecs.pillow import Decoded, check_size, decode_with_pillow, first_of, with_samples
from ddnsr_cli.io.codecs.png_chunks import IPTC_KEYWORD, XMP_KEYWORD, read_chunks, take_apart
from ddnsr_cli.io.codecs.vips import vips_samples
from ddnsr_cli.io.image import Metadata, Picture
from ddnsr_cli.io.metadata.iptc import raw_profile, resource_block

_DEEP_COLOUR = (2, 4, 6)  # RGB, gray with alpha, RGB with alpha; Pillow is exact for plain gray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {(True, False): 0, (False, False): 2, (True, True): 4, (False, True): 6}  # gray?, alpha?
_UP = 2
_INCHES_PER_METRE = 1 / 0.0254
_KEYWORD_BYTES = 79


def decode_png(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """The first picture of a PNG. Damage raises ValueError, or whatever the decoders raise."""
    parts = take_apart(file, lambda width, height: check_size(path, width, height, max_pixels))
    metadata, notes = read_chunks(parts.chunks)
    decoded = decode_with_pillow(path, parts.pixels, file_format="PNG", max_pixels=max_pixels, metadata=metadata)
    if parts.bits == 16 and parts.colour_type in _DEEP_COLOUR:
        samples, _ = vips_samples(parts.pixels.getvalue(), "PNG")
        decoded = with_samples(decoded, samples)
    frames = (first_of(parts.frames),) if parts.frames > 1 else ()
    return replace(decoded, notes=(*frames, *parts.notes, *notes, *decoded.notes))


def write_png(picture: Picture, file: BinaryIO, *, level: int) -> None:
    """Write a picture; level: 0 (stored) to 9 (smallest). Raises OSError as the file does."""
    file.write(_SIGNATURE)
    colour_type = _COLOUR_TYPES[picture.is_gray, picture.has_alpha]
    header = struct.pack(">IIBBBBB", picture.width, picture.height, picture.depth_bits, colour_type, 0, 0, 0)
    _write_chunk(file, b"IHDR", header)
    for kind, data in _metadata_chunks(picture.metadata):
        _write_chunk(file, kind, data)
    for piece in zlib_stream(_filtered_bands(picture), level=level):
        _write_chunk(file, b"IDAT", piece)
    _write_chunk(file, b"IEND", b"")


def _write_chunk(file: BinaryIO, kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind)
    file.write(data)
    file.write(struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))))


def _filtered_bands(picture: Picture) -> Iterator[bytes]:
    """The rows as PNG wants them: big-endian, each less the row above it, a filter byte in front."""
    above: NDArray[np.uint8] | None = None
    for samples in sample_bands(picture, order=">"):
        rows = samples.view(np.uint8).reshape(len(samples), -1)
        filtered = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
        filtered[:, 0] = _UP
        filtered[0, 1:] = rows[0] if above is None else rows[0] - above
        np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
        above = rows[-1]
        yield filtered.tobytes()


def _metadata_chunks(metadata: Metadata) -> Iterator[tuple[bytes, bytes]]:
    yield from metadata.png_colour
    if metadata.icc:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)
    if metadata.dpi:
        yield b"pHYs", struct.pack(">IIB", *(round(dpi * _INCHES_PER_METRE) for dpi in metadata.dpi), 1)
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


def _text_chunk(keyword: bytes, value: str, told: tuple[str, str] | None) -> tuple[bytes, bytes]:
    """A text; told: its language and the translated keyword."""
    if told is None:
        try:
            return b"tEXt", keyword + b"\0" + value.encode("latin-1")
        except UnicodeEncodeError:
            pass  # iTXt holds all of Unicode
    language, translated = told or ("", "")
    heading = b"\0".join((keyword, b"\0", language.encode("ascii", "replace"), translated.encode(), b""))
    return b"iTXt", heading + value.encode("utf-8", "replace")
