"""WebP, BMP, TGA, ICO, GIF and QOI through Pillow, with what their headers say of the fourth channel; PGM and PPM."""

import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import IcoImagePlugin, Image

from ddnsr_cli.io.codecs.pillow import (
    Decoded,
    alone_with_pillow,
    check_size,
    decode_with_pillow,
    divided,
    first_of,
    undeclared_alpha,
)
from ddnsr_cli.io.codecs.wholeness import RawPlace, check_no_zeros, hole_in, left_out_behind, zeros_in
from ddnsr_cli.io.image import COMMENT, Metadata, Pixels, oblong

_TGA_FOOTER, _TGA_FOOTER_BYTES = b"TRUEVISION-XFILE.\0", 26
_TGA_EXTENSION_BYTES, _TGA_ALPHA_TYPE_AT = 495, 494
_NO_ALPHA, _STRAIGHT_ALPHA, _MULTIPLIED_ALPHA = 0, 3, 4  # 1, 2: undefined
_TGA_RAW = (1, 2, 3)
_TGA_ONE_BIT = 16  # bits of a pixel, of which one is left
_TGA_ASPECT_AT = 474  # pixel width, pixel height
_GIF_EXTENSION, _GIF_IMAGE, _GIF_APPLICATION = 0x21, 0x2C, 0xFF
_GIF_ICC, _GIF_XMP, _GIF_XMP_TRAILER = b"ICCRGBG1012", b"XMP DataXMP", b"\x01\xff\xfe"
_GIF_ASPECT_AT = 12  # (width / height) * 64 - 15; 0: not told
_QOI_END = bytes(7) + b"\1"
_PNG_START, _DIB_HEADER_BYTES = b"\x89PNG", 40
_UNCOMPRESSED = (0, 3, 6)
_BITFIELDS, _BMP_HEADER_BYTES, _BMP_RGB_BITS = 3, 66, 24


def decode_bmp(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """A BMP. Of 32 bits a pixel the byte that is no color counts as alpha that nobody declared."""
    decoded = decode_with_pillow(path, file, file_format="BMP", max_pixels=max_pixels)
    file.seek(0)
    decoded = replace(decoded, notes=(*decoded.notes, *_behind_bmp(file.read())))
    if decoded.alpha is not None:
        return decoded
    decoded = replace(decoded, damage=decoded.damage or _hole_in_bmp(file, decoded.pixels))
    file.seek(0)
    spare = _spare_bytes(file, decoded.pixels.shape[0], decoded.pixels.shape[1])
    return decoded if spare is None else undeclared_alpha(decoded, spare)


def _hole_in_bmp(file: BinaryIO, pixels: Pixels) -> str:
    file.seek(0)
    head = file.read(_BMP_HEADER_BYTES)
    if len(head) < _BMP_HEADER_BYTES:
        return ""
    start, header_bytes = struct.unpack_from("<II", head, 10)
    rows, bits, coding = struct.unpack_from("<i2xHI", head, 22)
    if header_bytes < _DIB_HEADER_BYTES or coding not in _UNCOMPRESSED or bits < 8:
        return hole_in(pixels[::-1])
    place = RawPlace(file=file, start=start, stride=-(-pixels.shape[1] * bits // 32) * 4)
    if bits == _BMP_RGB_BITS:
        return hole_in(pixels[::-1] if rows > 0 else pixels, place)
    return hole_in(place.stored(len(pixels), pixels.shape[1], bits), place)


def _behind_bmp(data: bytes) -> tuple[str, ...]:
    """A note on what lies behind the pixels, where their place and size are told; of compressed ones they are not."""
    if len(data) < _BMP_HEADER_BYTES or data[14] < 40:
        return ()
    start, width, rows, bits, coding = struct.unpack_from("<I4xii2xHI", data, 10)
    end = start + -(-abs(width) * bits // 32) * 4 * abs(rows)
    return left_out_behind(data, end) if coding in _UNCOMPRESSED else ()


def _spare_bytes(file: BinaryIO, height: int, width: int) -> NDArray[np.uint8] | None:
    """(H, W): of each pixel of 32 bits the byte that holds no color; None where there is none."""
    head = file.read(_BMP_HEADER_BYTES)
    if len(head) < _BMP_HEADER_BYTES:
        return None
    start, header_bytes = struct.unpack_from("<II", head, 10)
    rows, bits, coding = struct.unpack_from("<i2xHI", head, 22)
    if bits != 32 or header_bytes < 40:
        return None
    place = 3
    if coding == _BITFIELDS:
        spare = ~(np.bitwise_or.reduce(struct.unpack_from("<III", head, 54))) & 0xFFFFFFFF
        place = {0xFF: 0, 0xFF00: 1, 0xFF0000: 2, 0xFF000000: 3}.get(spare, -1)
    if place < 0:
        return None
    file.seek(start)
    stored = np.frombuffer(file.read(4 * height * width), np.uint8)
    if stored.size < 4 * height * width:
        return None
    samples = stored.reshape(height, width, 4)[..., place]
    return samples[::-1] if rows > 0 else samples


def decode_tga(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """A TGA. Its fourth channel is alpha where the header counts bits for it and nothing behind the pixels objects."""
    head = file.read(18)
    extension = _tga_extension(file)
    file.seek(0)
    decoded = decode_with_pillow(path, file, file_format="TGA", max_pixels=max_pixels)
    if extension:
        width, height = struct.unpack_from("<HH", extension, _TGA_ASPECT_AT)
        decoded = replace(decoded, notes=(*decoded.notes, *oblong(height, width)))
    kind = extension[_TGA_ALPHA_TYPE_AT] if extension else None
    if head[2] in _TGA_RAW and decoded.alpha is None:
        decoded = replace(decoded, damage=decoded.damage or _hole_in_tga(file, head, decoded.pixels))
    if decoded.alpha is None:
        return decoded
    if head[16] == _TGA_ONE_BIT and decoded.pixels.shape[2] == 3:
        return _with_tga_bit(decoded, decoded.alpha, kind)
    return _with_tga_alpha(decoded, decoded.alpha, kind, bits=head[17] & 15)


def _hole_in_tga(file: BinaryIO, head: bytes, pixels: Pixels) -> str:
    start = len(head) + head[0] + head[1] * -(-head[7] // 8) * int.from_bytes(head[5:7], "little")
    bits = head[16]
    place = RawPlace(file=file, start=start, stride=pixels.shape[1] * -(-bits // 8))
    return hole_in(place.stored(len(pixels), pixels.shape[1], bits), place)


def _with_tga_bit(decoded: Decoded, alpha: Pixels, kind: int | None) -> Decoded:
    """Programs do not agree on whether the one bit means clear or opaque, so where all are alike it says nothing."""
    if kind == _NO_ALPHA or alpha.min() == alpha.max():
        return replace(decoded, alpha=None)
    note = "its one bit of transparency was read as 1 = clear, on which programs do not agree"
    return replace(decoded, notes=(*decoded.notes, note))


def _with_tga_alpha(decoded: Decoded, alpha: Pixels, kind: int | None, *, bits: int) -> Decoded:
    """kind: what the file says of its alpha, 0 to 4; None: nothing. bits: of alpha in a pixel, by the header."""
    if kind == _NO_ALPHA:
        return replace(decoded, alpha=None)
    if kind == _MULTIPLIED_ALPHA:
        return replace(decoded, pixels=divided(decoded.pixels, alpha))
    if kind == _STRAIGHT_ALPHA or (kind is None and bits > 0):
        return decoded
    return undeclared_alpha(replace(decoded, alpha=None), alpha)


def _tga_extension(file: BinaryIO) -> bytes:
    """The extension area that a TGA may have behind its pixels; empty: it has none."""
    end = file.seek(0, 2)
    file.seek(max(0, end - _TGA_FOOTER_BYTES))
    footer = file.read()
    if not footer.endswith(_TGA_FOOTER):
        return b""
    file.seek(struct.unpack_from("<I", footer)[0] or end)
    area = file.read(_TGA_EXTENSION_BYTES)
    return area if len(area) == _TGA_EXTENSION_BYTES else b""


def decode_ico(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """The largest image of an icon file."""
    decoded = decode_with_pillow(path, file, file_format="ICO", max_pixels=max_pixels)
    if decoded.alpha is not None and not decoded.alpha.any():
        decoded = _with_icon_mask(decoded, file, max_pixels)
    images = _icons(file)
    notes = (f"only the largest of {images} images was read",) if images > 1 else ()
    return replace(decoded, notes=notes + decoded.notes)


def _with_icon_mask(decoded: Decoded, file: BinaryIO, max_pixels: int) -> Decoded:
    """Old writers leave the alpha of a bitmap 0 everywhere: then its mask tells what is clear. A PNG means it."""
    height, width = decoded.pixels.shape[:2]
    file.seek(0)
    with alone_with_pillow(max_pixels), Image.open(file, formats=["ICO"]) as image:
        assert isinstance(image, IcoImagePlugin.IcoImageFile)
        entry = image.ico.entry[image.ico.getentryindex(image.size)]
    file.seek(entry.offset)
    data = file.read(entry.size)
    if data.startswith(_PNG_START):
        return decoded
    row = -(-width // 32) * 4
    stored = np.frombuffer(data[_DIB_HEADER_BYTES + 4 * width * height :][: row * height], np.uint8)
    if stored.size < row * height:
        return replace(decoded, alpha=None)
    is_clear = np.unpackbits(stored.reshape(height, row), axis=1)[::-1, :width].astype(bool)
    is_said = is_clear.any() and not is_clear.all()
    return replace(decoded, alpha=np.where(is_clear, 0, 255).astype(np.uint8) if is_said else None)


def _icons(file: BinaryIO) -> int:
    """How many images of an icon file lie in it, whatever its directory promises."""
    end = file.seek(0, 2)
    file.seek(4)
    table = file.read(2 + 16 * int.from_bytes(file.read(2), "little"))
    places = {struct.unpack_from("<II", table, at + 8) for at in range(0, len(table) - 15, 16)}
    return sum(size > 0 and start + size <= end for size, start in places)


def decode_gif(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """The first frame of a GIF, with its comment."""
    decoded = decode_with_pillow(path, file, file_format="GIF", max_pixels=max_pixels)
    file.seek(0)
    with alone_with_pillow(max_pixels), Image.open(file, formats=["GIF"]) as image:
        comment: Any = image.info.get("comment")
    text = {COMMENT: comment.decode("utf-8", "replace")} if isinstance(comment, bytes) and comment else {}
    file.seek(0)
    data = file.read()
    blocks, end = _blocks_of_gif(data)
    profile, packet = blocks.get(_GIF_ICC), blocks.get(_GIF_XMP)
    known = replace(
        decoded.metadata,
        text=text,
        icc=_joined(profile) if profile else None,
        xmp=packet[: packet.rfind(_GIF_XMP_TRAILER)] if packet else decoded.metadata.xmp,
    )
    aspect = data[_GIF_ASPECT_AT]
    notes = (*(oblong(64, aspect + 15) if aspect else ()), *left_out_behind(data, end))
    return replace(decoded, metadata=known, notes=(*decoded.notes, *notes))


def _blocks_of_gif(data: bytes) -> tuple[dict[bytes, bytes], int]:
    """What applications have put into a GIF, by their name, in blocks as it stands; and where the file ends."""
    at, found = 13 + _colors_bytes(data[10]), {}
    while at < len(data) and data[at] in (_GIF_EXTENSION, _GIF_IMAGE):
        flags = data[at + 9 : at + 10] if data[at] == _GIF_IMAGE else b""
        start = at = at + (11 + _colors_bytes(flags[0]) if flags else 2)
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
        if not flags and data[start - 1] == _GIF_APPLICATION:
            found[data[start + 1 : start + 12]] = data[start + 12 : at]
    return found, at + 1


def _joined(blocks: bytes) -> bytes:
    """The content of blocks, each with its length before it."""
    at, parts = 0, []
    while at < len(blocks) and blocks[at]:
        parts.append(blocks[at + 1 : at + 1 + blocks[at]])
        at += 1 + blocks[at]
    return b"".join(parts)


def _colors_bytes(flags: int) -> int:
    return 6 << (flags & 7) if flags & 0x80 else 0


def decode_qoi(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """A QOI. Damage raises ValueError, or whatever Pillow raises."""
    data = file.read()
    end = data.find(_QOI_END)
    check_no_zeros(data, 0, end if end >= 0 else None)  # two in a row are no code
    file.seek(0)
    decoded = decode_with_pillow(path, file, file_format="QOI", max_pixels=max_pixels)
    others = left_out_behind(data, end + len(_QOI_END)) if end >= 0 else ()
    return replace(decoded, notes=(*decoded.notes, *others))


_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"  # white space and comments
_HEADER = re.compile(rb"P([2356])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,5})\s")
_HEADER_BYTES = 1 << 14
_MOST_FRAMES = 10_000
_WORD_BYTES = 32  # of a plain sample, with the space and the comments around it: usual ones have 4
_PLAIN_GRAY, _PLAIN_RGB, _RGB = 2, 3, 6


def decode_pnm(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """A PBM, PGM or PPM. Samples are scaled so that the file's largest is white. Damage raises ValueError."""
    head = file.read(_HEADER_BYTES)
    if head[:2] in {b"P1", b"P4"}:
        file.seek(0)
        return decode_with_pillow(path, file, file_format="PPM", max_pixels=max_pixels)
    match = _HEADER.match(head)
    if match is None:
        raise ValueError("its header makes no sense")
    kind, width, height, largest = (int(group) for group in match.groups())
    if min(width, height) == 0 or not 0 < largest < 65536:
        raise ValueError("its header makes no sense")
    check_size(path, width, height, max_pixels)
    channels = 3 if kind in {_PLAIN_RGB, _RGB} else 1
    file.seek(match.end())
    read = _plain_samples if kind in {_PLAIN_GRAY, _PLAIN_RGB} else _binary_samples
    samples = read(file, width * height * channels, largest).reshape(height, width, channels)
    rest = file.read() if read is _binary_samples else b""
    stored = samples.astype(np.uint8) if largest < 256 else samples
    place = RawPlace(file=file, start=match.end(), stride=stored[0].nbytes)
    hole = hole_in(stored, place) if read is _binary_samples else ""
    frames = _further_images(rest)
    notes = (first_of(1 + frames),) if frames else left_out_behind(rest)
    return Decoded(pixels=_stretched(samples, largest), alpha=None, metadata=Metadata(), damage=hole, notes=notes)


def _further_images(rest: bytes) -> int:
    """How many more binary images follow: the format lets them stand one behind the other."""
    count, at = 0, 0
    while (match := _HEADER.match(rest, at)) and match[1] in b"56" and count < _MOST_FRAMES:
        _, width, height, largest = (int(group) for group in match.groups())
        at = match.end() + width * height * (3 if match[1] == b"6" else 1) * (1 if largest < 256 else 2)
        count += at <= len(rest)
    return count


def _binary_samples(file: BinaryIO, count: int, largest: int) -> NDArray[np.uint16]:
    kind = np.dtype(np.uint8 if largest < 256 else ">u2")
    raw = file.read(count * kind.itemsize)
    if len(raw) < count * kind.itemsize:
        raise ValueError("it is cut short")
    return np.frombuffer(raw, kind).astype(np.uint16)


def _plain_samples(file: BinaryIO, count: int, _largest: int) -> NDArray[np.uint16]:
    text = file.read(count * _WORD_BYTES + _HEADER_BYTES)
    words = re.sub(rb"#[^\r\n]*", b"", text).split(maxsplit=count)[:count]
    if len(words) < count:
        raise ValueError("it is cut short")
    levels = np.array(words, dtype="S10").astype(np.int64)
    if levels.min() < 0:
        raise ValueError("it has samples below zero")
    return np.minimum(levels, 65535).astype(np.uint16)


def _stretched(samples: NDArray[np.uint16], largest: int) -> Pixels:
    """Samples of 0 to `largest` as full 8 or 16 bits, rounded; what lies above is white."""
    white = 255 if largest < 256 else 65535
    clipped = np.minimum(samples, largest).astype(np.uint32)
    scaled = (clipped * white + largest // 2) // largest
    return scaled.astype(np.uint8) if white == 255 else scaled.astype(np.uint16)


_FRAME, _FRAME_HEAD_BYTES = b"ANMF", 16
_ALPHA_FLAG = 0x10  # of the file and, in the same place, of lossless data
_LOSSY, _LOSSLESS = b"VP8 ", b"VP8L"
_SLACK_BYTES = 4  # an encoder fills up the last bytes: of 1,500 sound files up to 3 are never read
_FEW_ZEROS = bytes(_SLACK_BYTES)


def decode_webp(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """The first image of a WebP. Damage raises ValueError, or whatever Pillow raises."""
    data = file.read()
    decoded = decode_with_pillow(path, BytesIO(data), file_format="WEBP", max_pixels=max_pixels)
    if (declaring := _with_declared_alpha(data)) != data:
        seen = decode_with_pillow(path, BytesIO(declaring), file_format="WEBP", max_pixels=max_pixels)
        decoded = replace(decoded, alpha=None)
        decoded = decoded if seen.alpha is None else undeclared_alpha(decoded, seen.alpha)
    for kind, start, stop in _chunks(data, 12, len(data)):
        payload = data[start:stop]
        if kind == _LOSSY and _FEW_ZEROS in payload and _has_hole(payload, max_pixels):
            raise ValueError("its data go on behind its last pixel, and some are zeros")
        if kind == _LOSSLESS and zeros_in(payload) and _is_readable(kind, payload[:-_SLACK_BYTES], max_pixels):
            raise ValueError("its data go on behind its last pixel: some are zeros")
    others = left_out_behind(data, 8 + int.from_bytes(data[4:8], "little"))
    return replace(decoded, notes=(*decoded.notes, *others))


def _with_declared_alpha(data: bytes) -> bytes:
    """The file with the flags set that say that its first image has alpha, where it may have some."""
    changed = bytearray(data)
    chunks = list(_chunks(data, 12, len(data)))
    if any(kind == b"ALPH" for kind, _, _ in chunks) and data[12:16] == b"VP8X":
        changed[20] |= _ALPHA_FLAG
    for kind, start, stop in chunks:
        if kind == _LOSSLESS and stop > start + 4:
            changed[start + 4] |= _ALPHA_FLAG
            changed[20] |= _ALPHA_FLAG if data[12:16] == b"VP8X" else 0
    return bytes(changed)


def _chunks(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of what is in each chunk of the first image."""
    while start + 8 <= end:
        kind, length = data[start : start + 4], struct.unpack_from("<I", data, start + 4)[0]
        stop = min(start + 8 + length, end)
        if kind == _FRAME:
            yield from _chunks(data, start + 8 + _FRAME_HEAD_BYTES, stop)
            return
        yield kind, start + 8, stop
        start = stop + length % 2


def _has_hole(payload: bytes, max_pixels: int) -> bool:
    """Whether lossy data are wrong somewhere: the code is arithmetic, so they end elsewhere than their pixels then, and
    a decoder that wants fewer than there are says nothing. Zeros alone are no sign: flat areas can be any number."""
    return _is_readable(_LOSSY, payload[: -_SLACK_BYTES - len(payload) % 2], max_pixels)


def _is_readable(kind: bytes, payload: bytes, max_pixels: int) -> bool:
    """Whether data can be decoded; without their end only where a decoder got out of step before it came there."""
    short = b"WEBP" + kind + struct.pack("<I", len(payload)) + payload + bytes(len(payload) % 2)
    file = BytesIO(b"RIFF" + struct.pack("<I", len(short)) + short)
    try:
        with alone_with_pillow(max_pixels), Image.open(file, formats=["WEBP"]) as image:
            image.load()
    except Exception:  # noqa: BLE001 - a damaged file raises anything; here it is the good sign
        return False
    return True
