"""JPEG 2000: samples through Pillow; what it passes over, such as the ICC profile, from the boxes."""

import itertools
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.io.codecs.pillow import Decoded, decode_with_pillow, divided, undeclared_alpha, with_samples
from ddnsr_cli.io.codecs.vips import stretched
from ddnsr_cli.io.codecs.wholeness import BLOCK_BYTES, check_no_zeros, left_out_behind
from ddnsr_cli.io.image import Metadata, Pixels
from ddnsr_cli.io.metadata.exif import bare_exif, iptc_of

MAX_BOX_BYTES = 64 << 20
"""A box of metadata that is longer is left out."""

MAX_BOXES = 1000
MAX_SEGMENTS = 1000
"""Boxes, and segments of the main header; those behind are not looked at."""

_SIZES_MARKER = b"\xff\x4f\xff\x51"  # start of the code stream, and of the segment that tells sizes and depths
_DATA_MARKER, _END_MARKER = b"\xff\x93", b"\xff\xd9"
_PART_MARKER = b"\xff\x90"  # of a tile: the main header is over
_STEPS = {0xFF5C: 0, 0xFF5D: 1}  # markers of quantization: bytes before the style, if components are few
_DIMMED_BLACK, _MOST_OFF = 64, 16
_FIRST_MARKER, _CODING, _CODING_OF_ONE = 0xFF00, 0xFF52, 0xFF53  # of all components, and of one
_LAYERS_AT, _LEVELS_AT, _PRECINCTS_BEHIND_LEVELS, _HAS_PRECINCTS, _LARGEST = 2, 5, 5, 1, 0xFF
_LEAST_ZEROS = 128  # a packet without data is one byte of zeros, and there may be many in a row
_FIRST_BIT = b"\x80"  # of a packet with data
_EXTENTS_AT, _COMPONENTS_AT, _DEPTH_STEP = 8, 40, 3
_HEAD_BYTES = 1 << 16
_XMP_ID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_IPTC_ID = bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38")
_EXIF_ID = b"JpgTiffExif->JP2"
_ID_BYTES = 16
_MULTIPLIED = 2
_OPACITY, _MOST_DEFINITION_BYTES = (1, 2), 1 << 12
_ICC_METHODS = (2, 3)
_HOLDERS = (b"jp2h", b"res ")  # boxes that hold boxes: the header, in it the resolution
_METERS_PER_INCH = 0.0254


def decode_jp2(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """A JPEG 2000 file or bare code stream. Damage raises whatever Pillow raises."""
    data = file.read()
    start = max(0, data.find(_DATA_MARKER))
    end = data.find(_END_MARKER, start)  # no data look like a marker
    packets = most_packets(data)
    check_no_zeros(data, start, end if end >= 0 else None, are_data=lambda run: _are_packets(run, packets))
    depth = component_bits(data[:_HEAD_BYTES])
    others = left_out_behind(data, end + len(_END_MARKER)) if end >= 0 else ()
    if (second := data.find(b"ftyp", end)) > end >= 0:  # a file of boxes behind it, which OpenJPEG takes for its own
        data = data[: second - 4]
    file = BytesIO(data)
    metadata = metadata_of_boxes(file)
    file.seek(0)
    decoded = decode_with_pillow(path, file, file_format="JPEG2000", max_pixels=max_pixels, metadata=metadata)
    decoded = replace(decoded, notes=(*decoded.notes, *others))
    if depth > 8 and decoded.pixels.dtype == np.uint8:
        deep = _at_full_depth(decoded, data, depth)
        decoded = _with_white(decoded, path, data, max_pixels) if deep is None else deep
    if decoded.alpha is not None:
        decoded = _with_alpha(decoded, decoded.alpha, _opacity_of(file))
    if depth <= 8:
        return decoded
    if decoded.pixels.dtype == np.uint16:  # Pillow puts samples of 9 to 15 bits into the upper ones
        return replace(decoded, pixels=stretched(decoded.pixels, min(depth, 16)))
    way_out = "" if find_spec("openjpeg") else "; for all of them: pip install 'ddnsr[jp2]'"
    return replace(decoded, notes=(*decoded.notes, f"its colors of {depth} bits were read at 8 bits{way_out}"))


def _are_packets(zeros: re.Match[bytes], most: int) -> bool:
    """Whether zeros can be packets without data, of which a tile has so many at most: what follows them is none."""
    (start, end), length = zeros.span(), len(zeros[0])
    if length < _LEAST_ZEROS:
        return True
    is_of_blocks = start % BLOCK_BYTES == end % BLOCK_BYTES == 0
    return length <= most and zeros.string[end : end + 1] >= _FIRST_BIT and not is_of_blocks


def most_packets(data: bytes) -> int:
    """How many packets a tile has at most: by resolution, component, precinct and layer; 0: the header does not tell.

    What the headers of single tiles change is not looked at.
    """
    at = data.find(_SIZES_MARKER)
    layers = of_a_layer = 0
    try:
        right, bottom, _, _, width, height = struct.unpack_from(">6I", data, at + _EXTENTS_AT)
        sides = (right, width), (bottom, height)
        (components,) = struct.unpack_from(">H", data, at + _COMPONENTS_AT)
        for kind, start, end in itertools.islice(_header_segments(data, at + 2), MAX_SEGMENTS):
            if kind == _CODING:
                (layers,) = struct.unpack_from(">H", data, start + _LAYERS_AT)
                of_a_layer = max(of_a_layer, _precincts(data[start], data[start + _LEVELS_AT : end], *sides))
            elif kind == _CODING_OF_ONE:
                style = start + (1 if components < 257 else 2)
                of_a_layer = max(of_a_layer, _precincts(data[style], data[style + 1 : end], *sides))
    except (struct.error, IndexError):
        return 0
    return int(layers * components * of_a_layer)


def _precincts(style: int, coding: bytes, across: tuple[int, int], down: tuple[int, int]) -> int:
    """Precincts of a tile's component at most, those of all its resolutions.

    coding: from the number of levels on. across, down: where the image ends, and how long a tile is.
    """
    levels = coding[0]
    stated = coding[_PRECINCTS_BEHIND_LEVELS:] if style & _HAS_PRECINCTS else bytes((_LARGEST,)) * (levels + 1)
    return sum(
        _parts(*across, level + (powers & 15)) * _parts(*down, level + (powers >> 4))
        for level, powers in zip(range(levels, -1, -1), stated, strict=False)
    )


def _parts(image: int, tile: int, power: int) -> int:
    """Into how many a side of a tile is cut by a grid of 2 ** power pixels that begins at 0, at most."""
    return min(-(-image >> power), -(-tile >> power) + 1)


def _at_full_depth(decoded: Decoded, data: bytes, depth: int) -> Decoded | None:
    """`decoded` with all bits of its samples, as 16, where OpenJPEG is installed by itself.

    Pillow has turned them into colors; None where that was more than to round them.
    """
    try:
        from openjpeg.utils import decode

        samples: NDArray[Any] = decode(data)
    except (ImportError, RuntimeError, ValueError, NotImplementedError):
        return None
    known = _all_samples(decoded)
    if samples.dtype != np.uint16 or samples.shape != known.shape:
        return None
    off = ((samples >> (depth - 8)) - known).astype(np.int8)  # 256 that became 0 is 255 and 1 more, too
    if off.min() < -1 or off.max() > 1:
        return None
    return with_samples(decoded, stretched(samples << (16 - depth), depth))


def _with_white(decoded: Decoded, path: Path, data: bytes, max_pixels: int) -> Decoded:
    """`decoded` with white where Pillow rounds deep samples up to 256, of which it keeps 0: black.

    A second look at half the brightness from the middle on, by one bit more in the header, tells the two apart.
    Raises ValueError where it does not.
    """
    samples = _all_samples(decoded)
    if samples.all():
        return decoded
    dimmed = decode_with_pillow(path, BytesIO(_of_one_bit_more(data)), file_format="JPEG2000", max_pixels=max_pixels)
    halves = _all_samples(dimmed).astype(np.int16)
    is_sure = (samples > _MOST_OFF) & (samples < 255 - _MOST_OFF)  # what overshoots is cut off in one of them alone
    if (np.abs(samples // 2 + _DIMMED_BLACK - halves)[is_sure] > _MOST_OFF).any():
        raise ValueError("its deep colors are coded in a rare way")
    is_white = (samples == 0) & (halves > 2 * _DIMMED_BLACK)
    return with_samples(decoded, np.where(is_white, 255, samples).astype(np.uint8))


def _all_samples(decoded: Decoded) -> Pixels:
    if decoded.alpha is None:
        return decoded.pixels
    both: NDArray[Any] = np.concatenate((decoded.pixels, decoded.alpha[..., None]), axis=2)
    return both


def _of_one_bit_more(data: bytes) -> bytes:
    """A code stream whose header claims one bit more for each component, and whose steps stay what they are."""
    changed = bytearray(data)
    at = data.find(_SIZES_MARKER)
    (components,) = struct.unpack_from(">H", data, at + _COMPONENTS_AT)
    for number in range(components):
        changed[at + _COMPONENTS_AT + 2 + _DEPTH_STEP * number] += 1
    for kind, start, end in _header_segments(data, at + 2):
        if kind in _STEPS:
            _halve_steps(changed, start + _STEPS[kind] * (1 if components < 257 else 2), end)
    return bytes(changed)


def _header_segments(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of what follows each marker of the main header, its length not included.

    Raises struct.error where the header breaks off.
    """
    while data[at : at + 2] != _PART_MARKER:
        kind, length = struct.unpack_from(">HH", data, at)
        if kind < _FIRST_MARKER:
            raise struct.error("no marker")
        yield kind, at + 4, at + 2 + length
        at += 2 + length


def _halve_steps(changed: bytearray, start: int, end: int) -> None:
    """Steps of a quantization are told in parts of the range; what takes up one bit more gives one guard bit back."""
    if changed[start] & 31 == 0:  # none
        return
    changed[start] -= 1 << 5
    for at in range(start + 1, end, 2):
        (step,) = struct.unpack_from(">H", changed, at)
        struct.pack_into(">H", changed, at, step + (1 << 11))


def _with_alpha(decoded: Decoded, alpha: Pixels, opacity: int) -> Decoded:
    if not opacity:
        return undeclared_alpha(replace(decoded, alpha=None), alpha)
    return replace(decoded, pixels=divided(decoded.pixels, alpha)) if opacity == _MULTIPLIED else decoded


def _opacity_of(file: BinaryIO) -> int:
    """What a channel definition says of opacity: 1 straight, 2 multiplied into the colors; 0: nothing."""
    file.seek(0, 2)
    for kind, at, length in itertools.islice(_boxes(file, 0, file.tell()), MAX_BOXES):
        if kind == b"cdef" and length <= _MOST_DEFINITION_BYTES:
            file.seek(at + 2)
            channels = struct.iter_unpack(">HHH", file.read((length - 2) // 6 * 6))
            return next((meaning for _, meaning, _ in channels if meaning in _OPACITY), 0)
    return 0


def component_bits(head: bytes) -> int:
    """Bits of the deepest component; 8 where that is not known."""
    at = head.find(_SIZES_MARKER)
    if at < 0 or at + _COMPONENTS_AT + 2 > len(head):
        return 8
    (components,) = struct.unpack_from(">H", head, at + _COMPONENTS_AT)
    first = at + _COMPONENTS_AT + 2
    return max(
        ((depth & 0x7F) + 1 for depth in head[first : first + _DEPTH_STEP * components : _DEPTH_STEP]), default=8
    )


def metadata_of_boxes(file: BinaryIO) -> Metadata:
    """What the boxes around the code stream hold."""
    file.seek(0, 2)
    metadata = Metadata()
    for kind, at, length in itertools.islice(_boxes(file, 0, file.tell()), MAX_BOXES):
        if length > MAX_BOX_BYTES or kind not in (b"colr", b"uuid", b"resc", b"resd"):
            continue
        file.seek(at)
        data = file.read(length)
        if kind == b"colr" and data[:1] and data[0] in _ICC_METHODS:
            metadata = replace(metadata, icc=metadata.icc or data[3:] or None)
        elif data.startswith(_XMP_ID):
            metadata = replace(metadata, xmp=data[_ID_BYTES:] or None)
        elif data.startswith(_IPTC_ID):
            metadata = replace(metadata, iptc=iptc_of(data[_ID_BYTES:]))
        elif data.startswith(_EXIF_ID):
            metadata = replace(metadata, exif=bare_exif(data[_ID_BYTES:]) or None)
        elif kind.startswith(b"res") and length == 10:
            metadata = replace(metadata, dpi=metadata.dpi or _dpi(data))
    return metadata


def _dpi(data: bytes) -> tuple[float, float]:
    """Dots per inch, across and down, from fractions of dots per meter; 0 where they make no sense."""
    down, below_down, across, below_across, power_down, power_across = struct.unpack(">HHHHbb", data)
    return (
        across / (below_across or math.inf) * 10.0**power_across * _METERS_PER_INCH,
        down / (below_down or math.inf) * 10.0**power_down * _METERS_PER_INCH,
    )


def _boxes(file: BinaryIO, start: int, end: int, depth: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """(kind, offset, length) of the boxes between two offsets, and of those in the header box."""
    while start + 8 <= end:
        file.seek(start)
        length, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if length == 1:
            length, head = int.from_bytes(file.read(8), "big"), 16
        stop = end if length == 0 else start + length
        if not start + head <= stop <= end:
            return
        if depth < len(_HOLDERS) and kind == _HOLDERS[depth]:
            yield from _boxes(file, start + head, stop, depth + 1)
        else:
            yield kind, start + head, stop - start - head
        start = stop
