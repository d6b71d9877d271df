"""AVIF of 8, 10 and 12 bits; HEIC where the library for it is installed; and the items that lie in their boxes."""

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.errors import ImageReadError, shown
from ddnsr_cli.io.codecs.pillow import (
    Decoded,
    alone_with_pillow,
    check_size,
    decode_with_pillow,
    first_of,
    with_samples,
)
from ddnsr_cli.io.codecs.vips import stretched, vips_samples
from ddnsr_cli.io.codecs.wholeness import (
    DEPTH_MAP,
    GAIN_MAP,
    GAIN_MAP_SIGNS,
    HEAD_BYTES,
    VIDEO,
    check_no_zeros,
    left_out,
    named_behind,
)
from ddnsr_cli.io.formats import READABLE
from ddnsr_cli.io.image import Metadata, coded_colors
from ddnsr_cli.io.metadata.exif import bare_exif, orientation_of

MAX_ITEMS = 10_000
"""Those behind are not looked at."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One of the things in a file: an image, a part of one, metadata."""

    number: int
    kind: bytes
    """Four letters, such as av01, hvc1, grid, Exif, tmap."""

    places: tuple[tuple[int, int], ...]
    """Where its data lie, from and to; none where they are not simply in the file."""


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of what is in each box between two offsets, as far as they can be followed."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if length == 1 and start + 16 <= end:
            (length,), head = struct.unpack_from(">Q", data, start + 8), 16
        stop = end if length == 0 else start + length
        if not start + head <= stop:
            return
        yield kind, start + head, min(stop, end)
        start = stop


def items(data: bytes) -> list[Item]:
    """The items of a file, in its order; none where its tables cannot be read."""
    found: list[Item] = []
    with suppress(struct.error, IndexError, StopIteration, ValueError):
        start, end = next((start, end) for kind, start, end in boxes(data) if kind == b"meta")
        inner = {kind: (at, stop) for kind, at, stop in boxes(data, start + 4, end)}
        kinds, places = _kinds(data, *inner[b"iinf"]), _places(data, *inner[b"iloc"])
        found = [Item(number=number, kind=kind, places=places.get(number, ())) for number, kind in kinds.items()]
    return found


def _kinds(data: bytes, start: int, end: int) -> dict[int, bytes]:
    at = start + (6 if data[start] == 0 else 8)
    kinds: dict[int, bytes] = {}
    for kind, first, _ in boxes(data, at, end):
        if kind != b"infe" or data[first] < 2 or len(kinds) >= MAX_ITEMS:
            continue
        wide = data[first] >= 3
        number = int.from_bytes(data[first + 4 : first + (8 if wide else 6)], "big")
        kinds[number] = data[first + (10 if wide else 8) :][:4]
    return kinds


def _places(data: bytes, start: int, end: int) -> dict[int, tuple[tuple[int, int], ...]]:
    reader, version = _Numbers(data, start + 4, end), data[start]
    sizes = reader.next(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    found = {}
    for _ in range(min(reader.next(2 if version < 2 else 4), MAX_ITEMS)):
        number = reader.next(2 if version < 2 else 4)
        method = reader.next(2) & 15 if version else 0
        reader.next(2)
        base, extents = reader.next(base_size), []
        for _ in range(min(reader.next(2), MAX_ITEMS)):
            reader.next(index_size if version else 0)
            first = base + reader.next(offset_size)
            extents.append((first, first + reader.next(length_size)))
        found[number] = tuple(extents) if method == 0 else ()
    return found


class _Numbers:
    """Whole numbers of several sizes, one behind the other."""

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self._data = data
        self._at = at
        self._end = end

    def next(self, size: int) -> int:
        """The next number; size: in bytes. Raises ValueError at the end."""
        stop = self._at + size
        if stop > self._end:
            raise ValueError("its tables are cut short")
        number = int.from_bytes(self._data[self._at : stop], "big")
        self._at = stop
        return number


_TOP_KINDS = frozenset(
    (
        b"ftyp",
        b"meta",
        b"mdat",
        b"free",
        b"skip",
        b"wide",
        b"moov",
        b"moof",
        b"mfra",
        b"sidx",
        b"uuid",
        b"mpvd",
        b"idat",
    )
)
_FIRST_BOX = 8
_DEPTH_SIGNS = (b"auxid:2", b"aux:depth", b"aux:disparity")
_CODED_COLORS = b"colrnclx"
_CONFIG, _HIGH_BIT_DEPTH, _GRAY = b"av1C", 0x40, 0x10
_HEADER_BYTES = 1 << 16

_MODES = ("L", "LA", "RGB", "RGBA")  # also with ";16" behind; alpha multiplied into the colors is not among them


def decode_avif(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """The first image of an AVIF. Damage raises whatever the decoders raise."""
    data = file.read()
    _check_items(data, b"av01")
    head = data[:_HEADER_BYTES]
    coded = _coding(head)
    file.seek(0)
    decoded = decode_with_pillow(path, file, file_format="AVIF", max_pixels=max_pixels)
    if any(flags & _HIGH_BIT_DEPTH for flags in coded):
        samples, _ = vips_samples(file, "AVIF")
        # libvips has turned the image already, as the format wants it
        decoded = replace(with_samples(decoded, samples), orientation=1, turned=decoded.orientation)
    decoded = replace(decoded, notes=(*decoded.notes, *_others(data)))
    if coded and all(flags & _GRAY for flags in coded):  # gray with alpha comes as three equal channels
        decoded = replace(decoded, pixels=decoded.pixels[..., :1])
    if decoded.metadata.icc is None:
        decoded = replace(decoded, metadata=replace(decoded.metadata, png_color=_colors(head)))
    return decoded


def _check_items(data: bytes, kind: bytes) -> None:
    """Raises ValueError where the data of an image hold long runs of zeros, which no coder of either format makes."""
    for item in items(data):
        for start, end in item.places if item.kind == kind else ():
            check_no_zeros(data, start, end)


def in_boxes(data: bytes) -> list[str]:
    """What an AVIF or HEIC holds beside its main image."""
    head, kinds = data[:HEAD_BYTES], {item.kind for item in items(data)}
    things = [GAIN_MAP] if b"tmap" in kinds or any(sign in head for sign in GAIN_MAP_SIGNS) else []
    things += [DEPTH_MAP] if any(sign in head for sign in _DEPTH_SIGNS) else []
    return things + ([VIDEO] if any(kind == b"mpvd" for kind, _, _ in boxes(data)) else [])


def _others(data: bytes) -> tuple[str, ...]:
    """A note on all that an AVIF or HEIC holds beside its main image, in its boxes and behind them; or none."""
    end = len(data)
    for kind, start, stop in boxes(data):
        if kind not in _TOP_KINDS or (kind == b"ftyp" and start > _FIRST_BOX):
            end = start - _FIRST_BOX
            break
        end = stop
    return left_out([*in_boxes(data), *named_behind(data, end)])


def _colors(head: bytes) -> tuple[tuple[bytes, bytes], ...]:
    at = head.find(_CODED_COLORS)
    code_points = head[at + len(_CODED_COLORS) :][:4]
    return coded_colors(*struct.unpack(">HH", code_points)) if at >= 0 and len(code_points) == 4 else ()


def _coding(head: bytes) -> list[int]:
    """For each of the images in an AVIF (colors, alpha, ...) the flags that tell how it is coded."""
    return [settings[2] for settings in head.split(_CONFIG)[1:] if len(settings) > 2]


def decode_heic(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """The main image of a HEIC. Raises ImageReadError where pillow-heif is missing; damage raises what it raises."""
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageReadError(
            f"{shown(path)} is a HEIC image. To read those: pip install pillow-heif. Or save it as: {READABLE}."
        ) from error
    data = file.read()
    _check_items(data, b"hvc1")
    file.seek(0)
    with alone_with_pillow(max_pixels):  # it warns as Pillow does
        heif = pillow_heif.open_heif(file, convert_hdr_to_8bit=False)
        width, height = heif.size
        check_size(path, width, height, max_pixels)
        if heif.mode.removesuffix(";16") not in _MODES:
            raise ValueError(f"pixels of the kind {heif.mode} are not supported")
        samples: NDArray[Any] = np.asarray(heif)
    if samples.dtype == np.uint16:  # 10 or 12 bits, in the upper ones
        samples = stretched(samples, int(heif.info["bit_depth"]))
    if samples.ndim == 2:
        samples = samples[..., None]
    has_alpha = samples.shape[2] in {2, 4}
    exif, xmp, icc = (heif.info.get(name) or None for name in ("exif", "xmp", "icc_profile"))
    coded = heif.info.get("nclx_profile") if icc is None else None
    colors = coded_colors(coded["color_primaries"], coded["transfer_characteristics"]) if coded else ()
    return Decoded(
        pixels=samples[..., :-1] if has_alpha else samples,
        alpha=samples[..., -1] if has_alpha else None,
        turned=orientation_of(bare_exif(exif) if exif else None, xmp),
        metadata=Metadata(icc=icc, exif=bare_exif(exif) if exif else None, xmp=xmp, png_color=colors),
        notes=(*((first_of(len(heif)),) if len(heif) > 1 else ()), *_others(data)),
    )
