"""TIFF of 8 and 16 bits, deflated, with all its metadata; BigTIFF where it may pass 4 GiB."""

import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.images import tiff_header as tags
from ddnsr_cli.images.bands import rows_per_band, sample_bands
from ddnsr_cli.images.deflate import in_parallel
from ddnsr_cli.images.ifd import (
    BYTE,
    LONG,
    LONG8,
    RATIONAL,
    SHORT,
    UNDEFINED,
    Field,
    Layout,
    numbers_field,
    pack_fields,
    pack_header,
    parse_header,
    read_fields,
)
from ddnsr_cli.images.picture import Metadata, Picture

CLASSIC_BYTES = (1 << 32) - (1 << 26)
"""Above this many bytes of samples the file is a BigTIFF; deflate and metadata get what is left to 4 GiB."""

_DEFLATE, _HORIZONTAL, _INCH, _CONTIGUOUS = 8, 2, 2, 1
_MIN_IS_BLACK, _RGB, _STRAIGHT_ALPHA = 1, 2, 2


def write_tiff(picture: Picture, file: BinaryIO, *, level: int) -> None:
    """Write a picture; level: 0 (stored) to 9 (smallest). Raises OSError as the file does.

    The directory stands in front. Its length does not depend on its values, so it is written twice: first to take
    up room, then, when the strips are behind it, with their places.
    """
    order, described = _described(picture.metadata)
    layout = Layout(order, big=_sample_bytes(picture) > CLASSIC_BYTES)
    strips = -(-picture.height // rows_per_band(picture))
    front = _front(picture, layout, described, [0] * strips, [0] * strips)
    file.write(front)
    sizes = []
    for strip in in_parallel(lambda band: zlib.compress(band, level), _predicted_bands(picture, order)):
        file.write(strip)
        sizes.append(len(strip))
    offsets = [len(front) + before for before in np.cumsum([0, *sizes[:-1]]).tolist()]
    file.seek(0)
    file.write(_front(picture, layout, described, offsets, sizes))


def _sample_bytes(picture: Picture) -> int:
    return picture.pixels.nbytes + (0 if picture.alpha is None else picture.alpha.nbytes)


def _predicted_bands(picture: Picture, order: Literal["<", ">"]) -> Iterator[bytes]:
    """Strips of samples, each less the one to its left."""
    for samples in sample_bands(picture, order="="):
        predicted: NDArray[Any] = samples.copy()
        predicted[:, 1:] -= samples[:, :-1]
        yield predicted.astype(predicted.dtype.newbyteorder(order), copy=False).tobytes()


def _front(
    picture: Picture, layout: Layout, described: tuple[Field, ...], offsets: list[int], sizes: list[int]
) -> bytes:
    """Header and directory, with all they point to except the strips."""
    channels = picture.pixels.shape[2] + picture.has_alpha
    place = LONG8 if layout.big else LONG

    def field(tag: int, kind: int, *values: int) -> Field:
        return numbers_field(layout, tag, kind, *values)

    fields = [
        field(tags.WIDTH, LONG, picture.width),
        field(tags.LENGTH, LONG, picture.height),
        field(tags.BITS, SHORT, *[picture.depth_bits] * channels),
        field(tags.COMPRESSION, SHORT, _DEFLATE),
        field(tags.PHOTOMETRIC, SHORT, _MIN_IS_BLACK if picture.is_gray else _RGB),
        field(tags.STRIP_OFFSETS, place, *offsets),
        field(tags.ORIENTATION, SHORT, 1),
        field(tags.SAMPLES, SHORT, channels),
        field(tags.ROWS_PER_STRIP, LONG, rows_per_band(picture)),
        field(tags.STRIP_BYTES, place, *sizes),
        field(tags.PLANAR, SHORT, _CONTIGUOUS),
        field(tags.PREDICTOR, SHORT, _HORIZONTAL),
        field(tags.SAMPLE_FORMAT, SHORT, *[1] * channels),
    ]
    if picture.has_alpha:
        fields.append(field(tags.EXTRA_SAMPLES, SHORT, _STRAIGHT_ALPHA))
    fields += [*_metadata_fields(picture.metadata, layout), *described]
    header = pack_header(layout)
    packed = header + pack_fields(fields, layout, len(header))
    return packed + bytes(len(packed) % 2)


def _metadata_fields(metadata: Metadata, layout: Layout) -> Iterator[Field]:
    if metadata.icc:
        yield Field(tags.ICC, UNDEFINED, len(metadata.icc), metadata.icc)
    if metadata.xmp:
        yield Field(tags.XMP, BYTE, len(metadata.xmp), metadata.xmp)
    if metadata.iptc:  # as whole LONGs, for the sake of libtiff; their bytes are in no order of their own
        padded = metadata.iptc + bytes(-len(metadata.iptc) % 4)
        yield Field(tags.IPTC, LONG, len(padded) // 4, padded)
    if metadata.dpi:
        for tag, dpi in zip((tags.X_RESOLUTION, tags.Y_RESOLUTION), metadata.dpi, strict=True):
            yield Field(tag, RATIONAL, 1, struct.pack(layout.order + "II", round(dpi * 1000), 1000))
        yield numbers_field(layout, tags.RESOLUTION_UNIT, SHORT, _INCH)


def _described(metadata: Metadata) -> tuple[Literal["<", ">"], tuple[Field, ...]]:
    """The byte order of the EXIF block, which becomes the file's, and the fields that a TIFF takes over from it."""
    exif = metadata.exif
    if exif is None:
        return "<", ()
    try:
        layout, first = parse_header(exif)
        fields = read_fields(lambda offset, length: exif[offset : offset + length], layout, first)
    except (struct.error, ValueError):
        return "<", ()  # `read_picture` lets no such block through
    return layout.order, tuple(field for field in fields if field.tag in tags.DESCRIPTIVE_TAGS)
