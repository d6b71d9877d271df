"""What the first directory of a TIFF tells: how its samples lie, and its metadata."""

import itertools
import struct
from dataclasses import dataclass
from typing import BinaryIO

from ddnsr_cli.images.exif import orientation_of
from ddnsr_cli.images.ifd import (
    EXIF_IFD,
    GPS_IFD,
    Field,
    Layout,
    directories,
    pack_fields,
    pack_header,
    parse_header,
    read_fields,
)

SUBFILE_TYPE, WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES = 273, 274, 277, 278, 279
X_RESOLUTION, Y_RESOLUTION, PLANAR, RESOLUTION_UNIT, PREDICTOR = 282, 283, 284, 296, 317
EXTRA_SAMPLES, SAMPLE_FORMAT, XMP, IPTC, PHOTOSHOP, ICC, DNG_VERSION = 338, 339, 700, 33723, 34377, 34675, 50706

MAX_PAGES = 10_000
"""Where counting stops: a crafted file can have millions in a few megabytes."""

DESCRIPTIVE_TAGS = frozenset(
    (270, 271, 272, 305, 306, 315, 316, 18246, 33432, 40091, 40092, 40093, 40094, 40095, EXIF_IFD, GPS_IFD)
)
"""Title, camera, author and the like: the fields of the first directory that are EXIF rather than TIFF."""

_ALPHA_KINDS = (1, 2)  # multiplied into the colours, straight; both decoders divide the former out

_PALETTE, _LAB = 3, 8
_CHANNELS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}  # by photometric interpretation
_SIGNED = 2  # by sample format
_REDUCED_OR_MASK = 1 | 4
_SENSOR_DATA = (32803, 34892)
_MAP_TAGS = frozenset((33550, 33922, 34264, 34735))  # GeoTIFF: how large a pixel is on the ground, and where


@dataclass(frozen=True, kw_only=True)
class TiffHeader:
    """The facts that decide how a TIFF is read, and what travels with its pixels."""

    width: int
    """Pixels across, as stored: before the orientation is applied."""

    height: int
    """Pixels down, as stored."""

    bits: int
    """Bits of the deepest sample."""

    is_signed: bool
    """Its samples may be below 0, and it is not for Lab. Pillow would take those of 8 bits for what they are not."""

    colour_channels: int
    """1 (gray, palette), 3 (RGB, YCbCr, Lab) or 4 (CMYK); 0: something else."""

    is_palette: bool
    """Its samples are places in a palette."""

    alpha_channel: int | None
    """Where the alpha channel is among the samples of a pixel; None: there is none."""

    other_channels: int
    """Samples of a pixel beyond its colours and alpha, whose meaning nothing tells."""

    orientation: int
    """1 to 8."""

    is_camera_raw: bool
    """Sensor data, or a thumbnail before them: nothing that a TIFF reader should show."""

    pages: int
    """Pages of full size; those behind `MAX_PAGES` are not counted."""

    is_map: bool
    """It tells places on the ground by pixel."""

    icc: bytes | None
    """The ICC profile."""

    xmp: bytes | None
    """The XMP packet."""

    iptc: bytes | None
    """What it calls IPTC: records, or resource blocks of Photoshop that may hold them."""

    dpi: tuple[float, float] | None
    """Dots per inch, across and down."""

    exif: bytes | None
    """The descriptive fields with the EXIF and GPS directories, as a block of their own."""


def read_tiff_header(file: BinaryIO) -> TiffHeader:
    """Read the first directory. Raises struct.error or ValueError on a damaged one."""

    def read_at(offset: int, length: int) -> bytes:
        if offset >> 62:
            return b""  # no file is that long, and no system could seek there
        file.seek(offset)
        return file.read(length)

    head = read_at(0, 16)
    layout, first = parse_header(head)
    fields = {field.tag: field for field in read_fields(read_at, layout, first)}
    tables = itertools.islice(directories(read_at, layout, first), MAX_PAGES)
    pages = sum(not _is_reduced(table, layout) for table in tables)
    return _header(fields, layout, is_cr2=head[8:10] == b"CR", pages=pages)


def _is_reduced(table: bytes, layout: Layout) -> bool:
    """Whether a directory is that of a smaller copy, or of a mask, of another page."""
    size = struct.calcsize(layout.field_code) + struct.calcsize(layout.offset_code)
    tag = struct.pack(layout.order + "H", SUBFILE_TYPE)
    field = next((table[at : at + size] for at in range(0, len(table), size) if table.startswith(tag, at)), b"")
    value = field[struct.calcsize(layout.field_code) :][:4]
    return len(value) == 4 and bool(struct.unpack(layout.order + "I", value)[0] & _REDUCED_OR_MASK)


def _header(fields: dict[int, Field], layout: Layout, *, is_cr2: bool, pages: int) -> TiffHeader:
    def numbers(tag: int, *default: int) -> tuple[int, ...]:
        return (fields[tag].numbers(layout) if tag in fields else ()) or default

    photometric = numbers(PHOTOMETRIC, 1)[0]
    channels = _CHANNELS.get(photometric, 0)
    xmp = fields[XMP].data if XMP in fields else None
    orientation = numbers(ORIENTATION, orientation_of(None, xmp))[0]
    alpha = next((i for i, kind in enumerate(numbers(EXTRA_SAMPLES)) if kind in _ALPHA_KINDS), None)
    thumbnail_first = numbers(SUBFILE_TYPE, 0)[0] & 1 == 1  # a picture's first page is never the reduced one
    return TiffHeader(
        width=numbers(WIDTH, 0)[0],
        height=numbers(LENGTH, 0)[0],
        bits=max(numbers(BITS, 1)),
        is_signed=photometric != _LAB and _SIGNED in numbers(SAMPLE_FORMAT),
        colour_channels=channels,
        is_palette=photometric == _PALETTE,
        alpha_channel=None if alpha is None else channels + alpha,
        other_channels=max(0, numbers(SAMPLES, 1)[0] - channels - (alpha is not None)) if channels else 0,
        orientation=orientation if 1 <= orientation <= 8 else 1,
        is_camera_raw=is_cr2 or thumbnail_first or photometric in _SENSOR_DATA or DNG_VERSION in fields,
        pages=pages,
        is_map=not _MAP_TAGS.isdisjoint(fields),
        icc=fields[ICC].data if ICC in fields else None,
        xmp=xmp,
        iptc=next((fields[tag].data for tag in (IPTC, PHOTOSHOP) if tag in fields), None),
        dpi=_dpi(fields, layout, unit=numbers(RESOLUTION_UNIT, 2)[0]),
        exif=_exif(fields, layout),
    )


def _dpi(fields: dict[int, Field], layout: Layout, *, unit: int) -> tuple[float, float] | None:
    per_inch = {2: 1.0, 3: 2.54}.get(unit)
    if per_inch is None or X_RESOLUTION not in fields or Y_RESOLUTION not in fields:
        return None
    x, y = (fields[tag].rationals(layout)[:1] for tag in (X_RESOLUTION, Y_RESOLUTION))
    return (x[0] * per_inch, y[0] * per_inch) if x and y else None


def _exif(fields: dict[int, Field], layout: Layout) -> bytes | None:
    kept = [field for tag, field in fields.items() if tag in DESCRIPTIVE_TAGS]
    classic = Layout(layout.order)
    header = pack_header(classic)
    return header + pack_fields(kept, classic, len(header)) if kept else None
