"""JPEG, with its comment and IPTC data, and a word on damage that decoders pass over in silence."""

import struct
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from ddnsr_cli.io.codecs.encoders import save_jpeg
from ddnsr_cli.io.codecs.pillow import (
    Decoded,
    alone_with_pillow,
    check_size,
    decode_with_pillow,
    first_of,
    pillow_metadata,
)
from ddnsr_cli.io.codecs.vips import first_difference, jpeg_complaint, whole_samples
from ddnsr_cli.io.codecs.wholeness import JpegStream, behind, left_out, look_at_jpeg
from ddnsr_cli.io.image import COMMENT, ImageRows, Metadata, Writable, oblong, to_8_bits
from ddnsr_cli.io.metadata.exif import (
    EXIF_PREFIX,
    SEGMENT_PREFIX,
    iptc_of,
    orientation_of,
    places_note,
    resource_block,
)

MAX_SCANS = 500
"""Every scan of a progressive file goes over the whole image; usual ones have ten, crafted ones thousands."""


_START, _END, _SCAN = b"\xff\xd8", b"\xff\xd9", b"\xff\xda"
_APP0, _APP1, _APP2, _APP13, _COM = 0xE0, 0xE1, 0xE2, 0xED, 0xFE
_ICC_BYTES = 65_519  # of a part: the length of a segment has 16 bits
MAX_ICC_BYTES = 255 * _ICC_BYTES
"""Longer profiles have no place: the number of a part has 8 bits."""

_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_CODINGS = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
_PLAIN_MODES = {"L": 1, "RGB": 3}
_UNREADABLE = dict.fromkeys((195, 199, 203, 207), "a lossless JPEG")
_UNREADABLE |= dict.fromkeys((197, 198, 205, 206), "a hierarchical JPEG") | {0xF7: "a JPEG-LS image"}
_END_IS_MISSING = "its end is missing, but all its pixels are there"
_MAY_BE_COARSE = "some of its scans are missing: its pixels are there, but not all their detail"
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_THERMAL = b"FLIR\0"
_IMAGES_OF_INDEX = 0xB002  # of the Multi-Picture Format
_SPARE_BYTES = 4


def decode_jpeg(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """The first image of a JPEG. Damage raises whatever Pillow raises.

    A file that ends behind its last pixel but before its end mark is read: cards and transfers leave such. One whose
    pixels stop earlier is not.
    """
    data = file.read()
    if data.count(_SCAN) > MAX_SCANS:
        raise ValueError(f"it has more than {MAX_SCANS} scans")
    _check_kind(data)
    header = _read_header(path, data, max_pixels)
    stream = look_at_jpeg(data)
    frames, others = _behind(data, stream, header.previews)
    stream = replace(stream, zeros=stream.zeros or _surplus(data, stream))
    data, mended = _without_padding(data, stream)
    decoded, damage = _whole(data, header), ""
    if decoded is None:
        decoded, damage = _in_part(path, data, max_pixels)
    if not stream.is_complete:
        damage = _MAY_BE_COARSE
    if stream.zeros and not mended:
        damage = _zeros_note(data, stream.zeros)
    end = (_END_IS_MISSING,) if stream.end < 0 and not damage else ()
    metadata = replace(decoded.metadata, text=header.metadata.text, iptc=header.metadata.iptc)
    notes = (*frames, *end, *decoded.notes, *others, *header.left_out)
    return replace(decoded, metadata=metadata, damage=damage, notes=notes)


def _behind(data: bytes, stream: JpegStream, previews: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Notes on images, and on other things, that lie behind the first image. previews: how many of the former show
    the same, smaller, and are not told, as thumbnails are not."""
    things, images = behind(data, stream.data_end if stream.end < 0 else stream.end + len(_END))
    images = max(0, images - previews)
    return (first_of(1 + images),) if images else (), left_out(things)


def _surplus(data: bytes, stream: JpegStream) -> tuple[int, int] | None:
    """Where zeros stand that could be data, but of which there are more than the image has pixels for.

    Of a sound scan every byte is needed.
    """
    for start, stop, end in stream.doubtful:
        needed = end if stop == end else end - len(data[stop:end]) + len(data[stop:end].rstrip(b"\0"))  # or padding
        if jpeg_complaint(data[: needed - _SPARE_BYTES] + data[end:]) is None:
            return start, stop
    return None


def _without_padding(data: bytes, stream: JpegStream) -> tuple[bytes, bool]:
    """A JPEG whose data end in zeros without these, where its pixels are whole without, and whether that is so.

    Raises ValueError where a decoder would make pixels of zeros.
    """
    if stream.has_null_steps:
        raise ValueError("a quantization table of its holds zeros")
    if stream.tail is None:
        return data, False
    shorter = data[: stream.tail] + _END
    if jpeg_complaint(shorter) is None:
        return shorter, True
    if stream.zeros is not None:
        raise ValueError(f"its data are zeros {_rows_from(data, stream.zeros[0])}")
    return data, False


def _zeros_note(data: bytes, zeros: tuple[int, int]) -> str:
    start, stop = zeros
    return f"{stop - start} bytes of its data are zeros, {_rows_from(data, start)}: look at the result"


def _rows_from(data: bytes, at: int) -> str:
    """From which row on a JPEG looks other than one that ends at an offset: as words of a sentence."""
    row = first_difference(data, data[:at] + _END)
    return "in places" if row is None else f"from row {row} on"


class _Header(NamedTuple):
    """What stands before the pixels."""

    mode: str
    """How Pillow would decode them."""

    metadata: Metadata

    left_out: tuple[str, ...]
    """Notes on what has no place."""

    previews: int
    """Images behind it of which its index says that they are large thumbnails."""


def _read_header(path: Path, data: bytes, max_pixels: int) -> _Header:
    with alone_with_pillow(max_pixels), Image.open(BytesIO(data), formats=["JPEG"]) as image:
        assert isinstance(image, JpegImagePlugin.JpegImageFile)
        check_size(path, *image.size, max_pixels)
        metadata, left_out = _segments(list(image.applist), pillow_metadata(image))
        density = image.info.get("jfif_density", (0, 0)) if image.info.get("jfif_unit") == 0 else (0, 0)
        left_out = (*left_out, *oblong(*density))
        return _Header(mode=image.mode, metadata=metadata, left_out=left_out, previews=_previews(image))


def _previews(image: JpegImagePlugin.JpegImageFile) -> int:
    try:
        entries = (image._getmp() or {}).get(_IMAGES_OF_INDEX, ())  # there is no public way
        return sum(str(entry["Attribute"]["MPType"]).startswith("Large Thumbnail") for entry in entries)
    except Exception:  # noqa: BLE001 - a damaged index raises anything, and tells nothing
        return 0


def _whole(data: bytes, header: _Header) -> Decoded | None:
    """Pixels against which the library has no word to say; None for others, and for those of inks."""
    samples = whole_samples(data, "JPEG") if header.mode in _PLAIN_MODES else None
    if samples is None or samples.shape[2] != _PLAIN_MODES[header.mode]:
        return None
    orientation = orientation_of(header.metadata.exif, header.metadata.xmp)
    return Decoded(pixels=samples, alpha=None, metadata=header.metadata, orientation=orientation)


def _in_part(path: Path, data: bytes, max_pixels: int) -> tuple[Decoded, str]:
    """Pixels as far as they make sense, and a note on what is wrong with them; or inks, which may be whole."""
    decode = partial(decode_with_pillow, path, file_format="JPEG", max_pixels=max_pixels)
    try:
        decoded = decode(BytesIO(data))
        complaint = jpeg_complaint(data)
    except UnidentifiedImageError:
        raise
    except OSError:
        mended = data.removesuffix(_END[:1]) + _END
        if jpeg_complaint(mended) is not None:
            raise
        return decode(BytesIO(mended)), ""
    return decoded, f"its data are damaged in places ({complaint}): look at the result" if complaint else ""


def _check_kind(data: bytes) -> None:
    """Raises ValueError for codings that decoders do not know, and would call damage."""
    at = 2
    while at + 5 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind in _CODINGS:
            if kind in _UNREADABLE:
                raise ValueError(f"it is {_UNREADABLE[kind]}")
            if data[at + 4] != 8:
                raise ValueError(f"it is a JPEG of {data[at + 4]} bits a sample")
            return
        at += 1 if kind == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def _segments(segments: list[tuple[str, bytes]], metadata: Metadata) -> tuple[Metadata, tuple[str, ...]]:
    """The metadata with what Pillow does not tell, and notes on what has no place."""
    comments = [_decoded_text(data) for name, data in segments if name == "COM"]
    blocks = [data.removeprefix(SEGMENT_PREFIX) for name, data in segments if data.startswith(SEGMENT_PREFIX)]
    extended = any(data.startswith(_EXTENDED_XMP) for _, data in segments)
    text = {COMMENT: "\n".join(comments)} if any(comments) else {}
    resources = b"".join(blocks)
    found = replace(metadata, text={**metadata.text, **text}, iptc=iptc_of(resources))
    thermal = left_out(["thermal data"]) if any(data.startswith(_THERMAL) for _, data in segments) else ()
    notes = (*(("the part of its XMP beyond 64 kB was left out",) if extended else ()), *thermal)
    return found, (*notes, *places_note(resources))


def _decoded_text(data: bytes) -> str:
    """A comment, which tells no encoding."""
    try:
        return data.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def write_jpeg(image: Writable, file: BinaryIO, *, quality: int) -> None:
    """Write an image at 8 bits; quality: 1 to 100. Its metadata must fit. Raises OSError as the file does."""
    file.write(_START + b"".join(_segment(marker, data) for marker, data in _front(image.metadata)))
    save_jpeg(_of_8_bits(image), _WithoutStart(file), quality=quality)


def _of_8_bits(image: Writable) -> Writable:
    if isinstance(image, ImageRows):
        return replace(image, depth_bits=8, bands=(to_8_bits(band) for band in image.bands))
    return replace(image, pixels=to_8_bits(image.pixels))


class _WithoutStart:
    """A file for the encoder whose start is there already."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._missing = len(_START)

    def write(self, data: bytes) -> int:
        """Takes the next bytes of the encoder's file."""
        self._file.write(data[self._missing :])
        self._missing -= min(self._missing, len(data))
        return len(data)


def _front(metadata: Metadata) -> Iterator[tuple[int, bytes]]:
    """What stands before the tables and pixels of a JPEG: (marker, data)."""
    unit, dpi = (1, metadata.dpi) if metadata.dpi else (0, (1, 1))
    density = (max(1, min(round(dots), 65_535)) for dots in dpi)  # 0 would say that none is known
    yield _APP0, b"JFIF\0" + struct.pack(">BBBHHBB", 1, 1, unit, *density, 0, 0)
    if metadata.exif:
        yield _APP1, EXIF_PREFIX + metadata.exif
    if metadata.xmp:
        yield _APP1, _XMP + metadata.xmp
    if metadata.icc:
        parts = [metadata.icc[at : at + _ICC_BYTES] for at in range(0, len(metadata.icc), _ICC_BYTES)]
        for number, part in enumerate(parts, 1):
            yield _APP2, b"ICC_PROFILE\0" + bytes((number, len(parts))) + part
    if metadata.iptc:
        yield _APP13, SEGMENT_PREFIX + resource_block(metadata.iptc)
    if comment := metadata.text.get(COMMENT):
        yield _COM, comment.encode("utf-8", "replace")


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data
