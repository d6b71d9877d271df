"""JPEG, with its comment and IPTC data, and a word on damage that decoders pass over in silence."""

from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from ddnsr_cli.io.codecs.pillow import (
    Decoded,
    alone_with_pillow,
    check_size,
    decode_with_pillow,
    first_of,
    oblong,
    pillow_metadata,
)
from ddnsr_cli.io.codecs.vips import jpeg_complaint, whole_samples
from ddnsr_cli.io.image import COMMENT, Metadata
from ddnsr_cli.io.metadata.exif import orientation_of
from ddnsr_cli.io.metadata.iptc import SEGMENT_PREFIX, iptc_of

MAX_SCANS = 500
"""Every scan of a progressive file goes over the whole image; usual ones have ten, crafted ones thousands."""

_END, _SCAN = b"\xff\xd9", b"\xff\xda"
_CODINGS = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xCA)
_PLAIN_MODES = {"L": 1, "RGB": 3}
_UNREADABLE = dict.fromkeys((195, 199, 203, 207), "a lossless JPEG")
_UNREADABLE |= dict.fromkeys((197, 198, 205, 206), "a hierarchical JPEG") | {0xF7: "a JPEG-LS image"}
_END_IS_MISSING = "its end is missing, but all its pixels are there"
_MAY_BE_COARSE = "its end is missing: all its pixels are there, perhaps not all their detail"
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"


def decode_jpeg(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """The first image of a JPEG. Damage raises whatever Pillow raises.

    A file that ends behind its last pixel but before its end mark is read: cards and transfers leave such. One whose
    pixels stop earlier is not.
    """
    data = file.read()
    if data.count(_SCAN) > MAX_SCANS:
        raise ValueError(f"it has more than {MAX_SCANS} scans")
    progressive = _check_kind(data) in _PROGRESSIVE
    header = _read_header(path, data, max_pixels)
    decoded, note = _whole(data, header), ""
    if decoded is None:
        decoded, note = _in_part(path, data, max_pixels, progressive=progressive)
    elif data.find(_END, data.rfind(_SCAN)) < 0:
        note = _END_IS_MISSING
    metadata = replace(decoded.metadata, text=header.metadata.text, iptc=header.metadata.iptc)
    return replace(decoded, metadata=metadata, notes=(*decoded.notes, *filter(None, (note, *header.left_out))))


class _Header(NamedTuple):
    """What stands before the pixels."""

    mode: str
    """How Pillow would decode them."""

    frames: int
    """Images in the file."""

    metadata: Metadata

    left_out: tuple[str, ...]
    """Notes on what has no place."""


def _read_header(path: Path, data: bytes, max_pixels: int) -> _Header:
    with alone_with_pillow(max_pixels), Image.open(BytesIO(data), formats=["JPEG"]) as image:
        assert isinstance(image, JpegImagePlugin.JpegImageFile)
        check_size(path, *image.size, max_pixels)
        metadata, left_out = _segments(list(image.applist), pillow_metadata(image))
        density = image.info.get("jfif_density", (0, 0)) if image.info.get("jfif_unit") == 0 else (0, 0)
        left_out = (*left_out, *oblong(*density))
        frames = int(getattr(image, "n_frames", 1))
        return _Header(mode=image.mode, frames=frames, metadata=metadata, left_out=left_out)


def _whole(data: bytes, header: _Header) -> Decoded | None:
    """Pixels against which the library has no word to say; None for others, and for those of inks."""
    samples = whole_samples(data, "JPEG") if header.mode in _PLAIN_MODES else None
    if samples is None or samples.shape[2] != _PLAIN_MODES[header.mode]:
        return None
    orientation = orientation_of(header.metadata.exif, header.metadata.xmp)
    notes = (first_of(header.frames),) if header.frames > 1 else ()
    return Decoded(pixels=samples, alpha=None, metadata=header.metadata, orientation=orientation, notes=notes)


def _in_part(path: Path, data: bytes, max_pixels: int, *, progressive: bool) -> tuple[Decoded, str]:
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
        # a progressive file comes coarse first: cut between two rounds nothing in it tells that there were more
        return decode(BytesIO(mended)), _MAY_BE_COARSE if progressive else _END_IS_MISSING
    note = f"its data are damaged in places ({complaint}): look at the result" if complaint else ""
    if not complaint and data.find(_END, data.rfind(_SCAN)) < 0:
        note = _END_IS_MISSING
    return decoded, note


def _check_kind(data: bytes) -> int:
    """Which of the JPEG codings a file has: the second byte of the marker that tells; 0: none found.

    Raises ValueError for those that decoders do not know, and would call damage.
    """
    at = 2
    while at + 5 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind in _CODINGS:
            if kind in _UNREADABLE:
                raise ValueError(f"it is {_UNREADABLE[kind]}")
            if data[at + 4] != 8:
                raise ValueError(f"it is a JPEG of {data[at + 4]} bits a sample")
            return kind
        at += 1 if kind == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0


def _segments(segments: list[tuple[str, bytes]], metadata: Metadata) -> tuple[Metadata, tuple[str, ...]]:
    """The metadata with what Pillow does not tell, and notes on what has no place."""
    comments = [_decoded_text(data) for name, data in segments if name == "COM"]
    blocks = [data.removeprefix(SEGMENT_PREFIX) for name, data in segments if data.startswith(SEGMENT_PREFIX)]
    extended = any(data.startswith(_EXTENDED_XMP) for _, data in segments)
    text = {COMMENT: "\n".join(comments)} if any(comments) else {}
    found = replace(metadata, text={**metadata.text, **text}, iptc=iptc_of(b"".join(blocks)))
    return found, ("the part of its XMP beyond 64 kB was left out",) if extended else ()


def _decoded_text(data: bytes) -> str:
    """A comment, which tells no encoding."""
    try:
        return data.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")
