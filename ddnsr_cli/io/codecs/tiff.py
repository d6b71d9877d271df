"""TIFF of any depth, with all its metadata; written deflated, as BigTIFF where it may pass 4 GiB."""

import itertools
import math
import os
import re
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from ddnsr_cli.errors import ImageReadError, shown
from ddnsr_cli.io.codecs.pillow import Decoded, check_size, decode_with_pillow, divided, first_of, undeclared_alpha
from ddnsr_cli.io.codecs.vips import inks_to_rgb, vips_samples
from ddnsr_cli.io.codecs.wholeness import RawPlace, hole_in, inflates, look_at_jpeg, zeros_in
from ddnsr_cli.io.image import Metadata, Pixels, Writable, bands_of, oblong
from ddnsr_cli.io.metadata.exif import (
    BYTE,
    EXIF_IFD,
    GPS_IFD,
    LONG,
    LONG8,
    POINTERS,
    RATIONAL,
    SHORT,
    UNDEFINED,
    Field,
    Layout,
    directories,
    iptc_of,
    numbers_field,
    orientation_of,
    pack_fields,
    pack_header,
    parse_block,
    parse_header,
    places_note,
    read_fields,
)

SUBFILE_TYPE, WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES = 273, 274, 277, 278, 279
X_RESOLUTION, Y_RESOLUTION, PLANAR, RESOLUTION_UNIT, PREDICTOR, COLOR_MAP = 282, 283, 284, 296, 317, 320
EXTRA_SAMPLES, SAMPLE_FORMAT, XMP, IPTC, PHOTOSHOP, ICC, DNG_VERSION = 338, 339, 700, 33723, 34377, 34675, 50706

MAX_PAGES = 10_000
"""Where counting stops: a crafted file can have millions in a few megabytes."""

_OF_PROGRAMS = (11, 18246, 18249, *range(40091, 40096), 50341, 50898, 50899)  # ratings, Windows' texts, print matching
DESCRIPTIVE_TAGS = frozenset((269, 270, 271, 272, 285, 305, 306, 315, 316, 33432, EXIF_IFD, GPS_IFD, *_OF_PROGRAMS))
"""Title, camera, author and the like: the fields of the first directory that are EXIF rather than TIFF."""

_SUB_DIRECTORIES, _LAYERS = 330, 37724
TILE_OFFSETS, TILE_BYTES, JPEG_TABLES = 324, 325, 347
_PLACES = (STRIP_OFFSETS, TILE_OFFSETS), (STRIP_BYTES, TILE_BYTES)
MAKE, MAKER_NOTE, _MOST_MAKER = 271, 37500, 60
_ALPHA_KINDS = (1, 2)  # multiplied into the colors, straight; both decoders divide the former out
_TILE_WIDTH, _TILE_LENGTH, _BIT_ORDER = 322, 323, 266
_OF_A_PLANE = (
    WIDTH,
    LENGTH,
    COMPRESSION,
    _BIT_ORDER,
    ROWS_PER_STRIP,
    PREDICTOR,
    _TILE_WIDTH,
    _TILE_LENGTH,
    SAMPLE_FORMAT,
)

_PALETTE, _LAB = 3, 8
_CHANNELS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}  # by photometric interpretation
_SIGNED, _FLOAT = 2, 3  # by sample format
_REDUCED_OR_MASK = 1 | 4
_SENSOR_DATA = (32803, 34892)
_MAP_TAGS = frozenset((33550, 33922, 34264, 34735, 34736, 34737))  # GeoTIFF: what places the pixels have on the ground
_KNOWN_TAGS = (
    DESCRIPTIVE_TAGS | _MAP_TAGS | frozenset((*range(254, 348), *range(512, 533)))
)  # and how pixels are stored
_KNOWN_TAGS |= frozenset((XMP, IPTC, PHOTOSHOP, ICC, _LAYERS))
_MOST_NAMED = 6

_DEPTHS = (1, 2, 4, 8, 16, 32)

BAND_BYTES = 1 << 20
"""About how much a strip holds, before it is deflated."""

_MOST_WORKERS = 16

CLASSIC_BYTES = (1 << 32) - (1 << 26)
"""Above this many bytes of samples the file is a BigTIFF; deflate and metadata get what is left to 4 GiB."""

_DEFLATE, _HORIZONTAL, _NO_UNIT, _INCH, _CONTIGUOUS = 8, 2, 1, 2, 1
_NONE = 1
_LZW, _JPEG, _OLD_DEFLATE, _PACKBITS = 5, 7, 32946, 32773
_PACKBITS_ZEROS = 160  # 128 as they are are the most that a code gives
_MIN_IS_BLACK, _RGB, _MULTIPLIED_ALPHA, _STRAIGHT_ALPHA, _SEPARATE = 1, 2, 1, 2, 2


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

    is_float: bool
    """Its samples are floating point numbers."""

    color_channels: int
    """1 (gray, palette), 3 (RGB, YCbCr, Lab) or 4 (CMYK); 0: something else."""

    is_lab: bool
    """Its colors are those of Lab."""

    is_palette: bool
    """Its samples are places in a palette."""

    palette_colors: int
    """Colors of the palette that are in the file."""

    alpha_channel: int | None
    """Where the alpha channel is among the samples of a pixel; None: there is none."""

    extra_channels: int
    """Samples of a pixel beyond its colors, alpha among them."""

    compression: int
    """By its number."""

    is_raw: bool
    """Its samples, gray, RGB or of a palette, stand in strips as they are, row by row."""

    zero_is_black: bool
    """A sample of 0 is black."""

    places: tuple[tuple[int, int], ...]
    """Where the strips or tiles are, and how long."""

    is_separate: bool
    """Each channel is a plane of its own."""

    is_multiplied: bool
    """The alpha channel is multiplied into the colors."""

    jpeg_tables: bytes
    """Code tables of all strips, where these are JPEGs."""

    orientation: int
    """1 to 8."""

    maker: str
    """Who made the camera; empty: it does not tell."""

    is_camera_raw: bool
    """Sensor data, or a thumbnail before them: nothing that a TIFF reader should show."""

    pages: int
    """Pages of full size; those behind `MAX_PAGES` are not counted."""

    largest_page: tuple[int, int]
    """Width and height of the page with the most pixels, smaller copies not looked at."""

    has_layers: bool
    """Photoshop has put its layers into it."""

    is_map: bool
    """It tells places on the ground by pixel."""

    icc: bytes | None
    """The ICC profile."""

    xmp: bytes | None
    """The XMP packet."""

    photoshop: bytes
    """Resource blocks of Photoshop; empty: there are none."""

    iptc: bytes | None
    """What it calls IPTC: records, or resource blocks of Photoshop that may hold them."""

    dpi: tuple[float, float] | None
    """Dots per inch, across and down."""

    density: tuple[float, float] | None
    """Dots across and down per something that has no name."""

    exif: bytes | None
    """The descriptive fields with the EXIF and GPS directories, as a block of their own."""

    has_maker_note: bool
    """That block holds a maker note, which stood elsewhere in the file."""

    unknown_tags: tuple[int, ...]
    """Fields of the first directory that neither we know nor EXIF does."""


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
    below = fields[_SUB_DIRECTORIES].numbers(layout) if _SUB_DIRECTORIES in fields else ()
    chains = [
        directories(read_at, layout, first),
        *(itertools.islice(directories(read_at, layout, at), 1) for at in below),
    ]
    tables = itertools.islice(itertools.chain(*chains), MAX_PAGES)
    pages = [
        (_number_in(table, layout, WIDTH), _number_in(table, layout, LENGTH))
        for table in tables
        if not _number_in(table, layout, SUBFILE_TYPE) & _REDUCED_OR_MASK
    ]
    return _header(fields, layout, is_cr2=head[8:10] == b"CR", pages=pages)


def _number_in(table: bytes, layout: Layout, tag: int) -> int:
    """The first value of a field in the table of a directory; 0: it is not there."""
    start = struct.calcsize(layout.field_code)
    size = start + struct.calcsize(layout.offset_code)
    sign = struct.pack(layout.order + "H", tag)
    field = next((table[at : at + size] for at in range(0, len(table), size) if table.startswith(sign, at)), b"")
    if len(field) < size:
        return 0
    kind = struct.unpack_from(layout.order + "HH", field)[1]
    return int(struct.unpack_from(layout.order + ("H" if kind == SHORT else "I"), field, start)[0])


def _header(fields: dict[int, Field], layout: Layout, *, is_cr2: bool, pages: list[tuple[int, int]]) -> TiffHeader:
    def numbers(tag: int, *default: int) -> tuple[int, ...]:
        return (fields[tag].numbers(layout) if tag in fields else ()) or default

    photometric = numbers(PHOTOMETRIC, 1)[0]
    channels = _CHANNELS.get(photometric, 0)
    xmp = fields[XMP].data if XMP in fields else None
    orientation = numbers(ORIENTATION, orientation_of(None, xmp))[0]
    alpha = next((i for i, kind in enumerate(numbers(EXTRA_SAMPLES)) if kind in _ALPHA_KINDS), None)
    thumbnail_first = numbers(SUBFILE_TYPE, 0)[0] & 1 == 1  # an image's first page is never the reduced one
    return TiffHeader(
        width=numbers(WIDTH, 0)[0],
        height=numbers(LENGTH, 0)[0],
        bits=max(numbers(BITS, 1)),
        is_signed=photometric != _LAB and _SIGNED in numbers(SAMPLE_FORMAT),
        is_float=_FLOAT in numbers(SAMPLE_FORMAT),
        color_channels=channels,
        is_lab=photometric == _LAB,
        is_palette=photometric == _PALETTE,
        palette_colors=len(numbers(COLOR_MAP)) // 3,
        alpha_channel=None if alpha is None else channels + alpha,
        extra_channels=max(0, numbers(SAMPLES, 1)[0] - channels) if channels else 0,
        compression=numbers(COMPRESSION, 1)[0],
        is_raw=(numbers(COMPRESSION, 1)[0], numbers(PLANAR, 1)[0]) == (_NONE, _CONTIGUOUS)
        and photometric <= _PALETTE
        and STRIP_OFFSETS in fields,
        zero_is_black=photometric in {_MIN_IS_BLACK, _RGB},
        is_separate=numbers(PLANAR, 1)[0] == _SEPARATE,
        is_multiplied=alpha is not None and numbers(EXTRA_SAMPLES)[alpha] == _MULTIPLIED_ALPHA,
        places=tuple(zip(*(numbers(tag) or numbers(other) for tag, other in _PLACES), strict=False)),
        jpeg_tables=fields[JPEG_TABLES].data if JPEG_TABLES in fields else b"",
        orientation=orientation if 1 <= orientation <= 8 else 1,
        maker=_maker(fields[MAKE].data) if MAKE in fields else "",
        is_camera_raw=is_cr2 or thumbnail_first or photometric in _SENSOR_DATA or DNG_VERSION in fields,
        pages=len(pages),
        largest_page=max(pages, key=math.prod, default=(0, 0)),
        has_layers=_LAYERS in fields,
        is_map=not _MAP_TAGS.isdisjoint(fields),
        icc=fields[ICC].data if ICC in fields else None,
        xmp=xmp,
        iptc=next((fields[tag].data for tag in (IPTC, PHOTOSHOP) if tag in fields), None),
        photoshop=fields[PHOTOSHOP].data if PHOTOSHOP in fields else b"",
        dpi=_dpi(fields, layout, unit=numbers(RESOLUTION_UNIT, 2)[0]),
        density=_resolution(fields, layout) if numbers(RESOLUTION_UNIT, 2)[0] == _NO_UNIT else None,
        exif=_exif(fields, layout),
        has_maker_note=_has_maker_note(fields.values()),
        unknown_tags=tuple(sorted(fields.keys() - _KNOWN_TAGS)),
    )


def _dpi(fields: dict[int, Field], layout: Layout, *, unit: int) -> tuple[float, float] | None:
    per_inch, resolution = {2: 1.0, 3: 2.54}.get(unit), _resolution(fields, layout)
    return None if per_inch is None or resolution is None else (resolution[0] * per_inch, resolution[1] * per_inch)


def _maker(data: bytes) -> str:
    text = data.split(b"\0")[0].decode("latin-1").strip()
    return text if text.isprintable() and len(text) <= _MOST_MAKER else ""


def _resolution(fields: dict[int, Field], layout: Layout) -> tuple[float, float] | None:
    if X_RESOLUTION not in fields or Y_RESOLUTION not in fields:
        return None
    x, y = (fields[tag].rationals(layout)[:1] for tag in (X_RESOLUTION, Y_RESOLUTION))
    return (x[0], y[0]) if x and y else None


def _exif(fields: dict[int, Field], layout: Layout) -> bytes | None:
    kept = [field for tag, field in fields.items() if tag in DESCRIPTIVE_TAGS]
    classic = Layout(layout.order)
    header = pack_header(classic)
    return header + pack_fields(kept, classic, len(header)) if kept else None


def _has_maker_note(fields: Iterable[Field]) -> bool:
    inner = next((field.directory for field in fields if field.tag == EXIF_IFD), None)
    return any(field.tag == MAKER_NOTE for field in inner or ())


def decode_tiff(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """The first page of a TIFF; camera raw is refused. Damage raises whatever the decoders raise."""
    header = read_tiff_header(file)
    if header.is_camera_raw:
        maker = f" of {header.maker}" if header.maker else ""
        raise ImageReadError(
            f"{shown(path)} is a camera raw file{maker}, which cannot be read. Develop it first, to TIFF or PNG."
        )
    check_size(path, header.width, header.height, max_pixels)
    _check_kind(header)
    _check_strips(file, header)
    iptc = iptc_of(header.iptc) if header.iptc else None
    metadata = Metadata(icc=header.icc, exif=header.exif, xmp=header.xmp, dpi=header.dpi, iptc=iptc)
    decoded = None
    if header.bits <= 8 and not _has_undeclared_channel(header) and not (header.is_separate and header.extra_channels):
        # of more bits Pillow would cut the samples to 8, and of planes it loses alpha
        with suppress(UnidentifiedImageError):  # a layout that it does not know, such as a big-endian BigTIFF
            file.seek(0)
            decoded = decode_with_pillow(path, file, file_format="TIFF", max_pixels=max_pixels, metadata=metadata)
            decoded = replace(decoded, turned=header.orientation)
            if header.alpha_channel is None:  # Pillow takes a fourth channel for alpha
                decoded = replace(decoded, alpha=None)
    decoded = decoded or _decode_with_vips(file, header, metadata)
    pages = (_pages_note(header),) if header.pages > 1 else ()
    shape = oblong(*header.density) if header.density else ()
    place = ("its place on the map (GeoTIFF) was left out",) if header.is_map else ()
    layers = ("Photoshop's layers were left out",) if header.has_layers else ()
    return replace(
        decoded,
        notes=(
            *pages,
            *decoded.notes,
            *_left_out(header, decoded),
            *shape,
            *place,
            *layers,
            *places_note(header.photoshop),
            *_of_exif(header),
        ),
        damage=_hole(file, header, decoded),
    )


def _hole(file: BinaryIO, header: TiffHeader, decoded: Decoded) -> str:
    """A word on a hole among samples that stand in the file as they are; empty where none is seen."""
    if not header.is_raw or decoded.alpha is not None:
        return ""
    pixels = decoded.pixels
    if not header.places:  # old programs left the byte counts out
        return hole_in(pixels) if header.zero_is_black else ""
    in_a_row = [sum(place) for place in header.places[:-1]] == [at for at, _ in header.places[1:]]
    bits = header.bits * header.color_channels
    place = RawPlace(file=file, start=header.places[0][0], stride=-(-header.width * bits // 8))
    has_place = in_a_row and not header.extra_channels and header.bits >= 8
    if header.zero_is_black:
        is_as_stored = pixels.shape == (header.height, header.width, header.color_channels) and header.orientation == 1
        return hole_in(pixels, place if has_place and is_as_stored and header.bits == 8 * pixels.itemsize else None)
    return hole_in(place.stored(header.height, header.width, bits), place) if has_place else ""


def _pages_note(header: TiffHeader) -> str:
    width, height = header.largest_page
    larger = f"; another is larger ({width} x {height})" if width * height > header.width * header.height else ""
    return first_of(header.pages) + larger


def _has_undeclared_channel(header: TiffHeader) -> bool:
    """Whether a pixel has one sample more than it needs that may be alpha; of a map it is some other wave length."""
    plain = header.color_channels in {1, 3} and not header.is_palette and not header.is_map
    return plain and header.extra_channels == 1 and header.alpha_channel is None


def _left_out(header: TiffHeader, decoded: Decoded) -> tuple[str, ...]:
    """A note on the channels that are not in the pixels."""
    count = header.extra_channels - (decoded.alpha is not None)
    if count <= 0:
        return ()
    return (f"{count} channel{'s' if count > 1 else ''} beyond its colors {'were' if count > 1 else 'was'} left out",)


def _of_exif(header: TiffHeader) -> tuple[str, ...]:
    """Notes on what the first directory holds that does not come along as it was."""
    tags, moved = header.unknown_tags, "its maker note was moved: what it tells by places in the file may be lost"
    named = f"{', '.join(map(str, tags[:_MOST_NAMED]))}{', ...' if len(tags) > _MOST_NAMED else ''}"
    fields = f"private fields of its header were left out ({named})"
    return (*((moved,) if header.has_maker_note else ()), *((fields,) if tags else ()))


def _check_strips(file: BinaryIO, header: TiffHeader) -> None:
    """Raises ValueError for strips or tiles with zeros in the place of compressed data."""
    if zeros_in(header.jpeg_tables) or look_at_jpeg(b"", header.jpeg_tables).has_null_steps:
        raise ValueError("the tables of its JPEGs hold zeros")
    room = 2 * file.seek(0, os.SEEK_END)  # strips that lie over each other would take hours
    for start, length in header.places if header.compression in _CHECKS else ():
        if (room := room - length) < 0 or start >> 62:
            return
        file.seek(start)
        strip = file.read(length)
        if (run := zeros_in(strip)) and not _CHECKS[header.compression](strip, header.jpeg_tables):
            raise ValueError(f"{len(run[0])} bytes of its data are zeros, from byte {start + run.start()} on")


def _jpeg_is_whole(strip: bytes, tables: bytes) -> bool:
    return look_at_jpeg(strip, tables).zeros is None


_CHECKS: dict[int, Callable[[bytes, bytes], bool]] = {  # of a strip with a long run of zeros
    _LZW: lambda _strip, _tables: False,
    _JPEG: _jpeg_is_whole,
    _DEFLATE: lambda strip, _tables: inflates(strip),
    _OLD_DEFLATE: lambda strip, _tables: inflates(strip),
    _PACKBITS: lambda strip, _tables: len(max(re.findall(rb"\0+", strip), key=len)) <= _PACKBITS_ZEROS,
}


def tiff_size(file: BinaryIO) -> tuple[int, int, int]:
    """(width, height, orientation) as stored. Damage, and what is no image, raises ValueError or struct.error."""
    header = read_tiff_header(file)
    _check_kind(header)
    if header.is_camera_raw:
        raise ValueError("it is a camera raw file")
    return header.width, header.height, header.orientation


def _check_kind(header: TiffHeader) -> None:
    """Refuse by name what the decoders would call damage, or show in colors that it does not have."""
    if header.color_channels == 0:
        raise ValueError("its colors are of an unknown kind")
    if header.is_signed:
        raise ValueError("its samples are signed and have no agreed white")
    if header.is_palette and header.palette_colors < 1 << header.bits:
        raise ValueError("its color map is missing or too short")
    if header.is_lab and header.is_separate and header.bits > 8:  # libvips takes the planes for one
        raise ValueError("its Lab channels are planes of their own")
    is_usual = header.bits <= 16 if not header.is_float else header.color_channels == 3
    if header.is_multiplied and not is_usual:  # libvips divides as if it were of 8 bits
        raise ValueError(f"alpha is multiplied into its samples, of {header.bits} bits and a rare kind")
    if header.bits not in _DEPTHS:
        raise ValueError(f"its samples have {header.bits} bits")


def _decode_with_vips(file: BinaryIO, header: TiffHeader, metadata: Metadata) -> Decoded:
    in_planes = header.is_separate and header.extra_channels > 0 and header.color_channels == 1
    samples, notes = _samples_of_planes(file, header) if in_planes else vips_samples(file, "TIFF")
    alpha: Pixels | None = None
    if header.alpha_channel is not None and header.alpha_channel < samples.shape[2]:
        alpha = samples[..., header.alpha_channel]
    colors = header.color_channels
    if header.is_palette:  # libvips has looked the colors up
        colors = 3 if samples.shape[2] >= 3 else 1
    pixels: Pixels = samples[..., :colors]
    if colors == 4:
        pixels, note = inks_to_rgb(pixels, metadata.icc)
        metadata, notes = replace(metadata, icc=None, is_converted=True), (*notes, note)
    decoded = Decoded(pixels=pixels, alpha=alpha, metadata=metadata, orientation=header.orientation, notes=notes)
    if _has_undeclared_channel(header) and samples.shape[2] > colors:
        return undeclared_alpha(decoded, samples[..., colors])
    return decoded


def _samples_of_planes(file: BinaryIO, header: TiffHeader) -> tuple[Pixels, tuple[str, ...]]:
    """(H, W, channels) of gray with more channels, each a plane of its own, which libvips takes for one."""
    planes = [vips_samples(plane, "TIFF") for plane in _planes(file, header)]
    samples: Pixels = np.concatenate([plane for plane, _ in planes], axis=2)
    if header.is_multiplied and header.alpha_channel is not None:
        samples[..., :1] = divided(samples[..., :1], samples[..., header.alpha_channel])
    return samples, planes[0][1]


def _planes(file: BinaryIO, header: TiffHeader) -> Iterator[bytes]:
    """Each plane as a TIFF of one channel. Raises ValueError where its strips make no sense."""

    def read_at(offset: int, length: int) -> bytes:
        file.seek(offset)
        return file.read(length)

    source, first = parse_header(read_at(0, 16))
    known = {field.tag: field.numbers(source) for field in read_fields(read_at, source, first)}
    layout, count = Layout(source.order), len(header.places) // (1 + header.extra_channels)
    if sum(length for _, length in header.places) > file.seek(0, os.SEEK_END):
        raise ValueError("its strips lie over each other")
    for number in range(1 + header.extra_channels):
        kept = {tag: known[tag][:1] for tag in _OF_A_PLANE if known.get(tag)}
        photometric = known.get(PHOTOMETRIC, ())[:1] if number == 0 else ()
        kept |= {BITS: (header.bits,), PHOTOMETRIC: photometric or (_MIN_IS_BLACK,), SAMPLES: (1,)}
        strips = [read_at(*place) for place in header.places[number * count : (number + 1) * count]]
        kept |= {STRIP_BYTES: tuple(map(len, strips)), STRIP_OFFSETS: (0,) * count}
        front = _plane_front(layout, kept)
        kept[STRIP_OFFSETS] = tuple(len(front) + before for before in np.cumsum([0, *kept[STRIP_BYTES][:-1]]).tolist())
        yield _plane_front(layout, kept) + b"".join(strips)


def _plane_front(layout: Layout, fields: dict[int, tuple[int, ...]]) -> bytes:
    tile = {STRIP_OFFSETS: TILE_OFFSETS, STRIP_BYTES: TILE_BYTES} if _TILE_WIDTH in fields else {}
    header = pack_header(layout)
    packed = [numbers_field(layout, tile.get(tag, tag), LONG, *values) for tag, values in fields.items()]
    return header + pack_fields(packed, layout, len(header))


def write_tiff(image: Writable, file: BinaryIO, *, level: int) -> None:
    """Write an image; level: 0 (stored) to 9 (smallest). Raises OSError as the file does.

    The directory stands in front. Its length does not depend on its values, so it is written twice: first to take
    up room, then, when the strips are behind it, with their places. EXIF with a maker note stands before it as a whole,
    at the start of the file, so that the places that such a note tells are true; in a BigTIFF it cannot.
    """
    described = _described(image.metadata, big=_sample_bytes(image) > CLASSIC_BYTES)
    strips = -(-image.height // _rows_per_band(image))
    front = _front(image, described, [0] * strips, [0] * strips)
    file.write(front)
    sizes = []
    for strip in in_parallel(lambda band: zlib.compress(band, level), _predicted_bands(image, described.layout.order)):
        file.write(strip)
        sizes.append(len(strip))
    offsets = [len(front) + before for before in np.cumsum([0, *sizes[:-1]]).tolist()]
    file.seek(0)
    file.write(_front(image, described, offsets, sizes))


def _rows_per_band(image: Writable) -> int:
    """How many rows make a band of about `BAND_BYTES`."""
    samples = image.width * (image.channels + image.has_alpha)
    return max(1, BAND_BYTES // (samples * image.depth_bits // 8))


def in_parallel(work: Callable[[bytes], bytes], parts: Iterable[bytes]) -> Iterator[bytes]:
    """`work` done on every part by several threads; the results in the order of the parts, few at a time.

    zlib lets go of the interpreter's lock, so threads are enough to deflate on all cores.
    """
    workers = min(_MOST_WORKERS, _cores())
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[bytes]] = deque()
        for part in parts:
            waiting.append(pool.submit(work, part))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _sample_bytes(image: Writable) -> int:
    return image.height * image.width * (image.channels + image.has_alpha) * image.depth_bits // 8


def _predicted_bands(image: Writable, order: Literal["<", ">"]) -> Iterator[bytes]:
    """Strips of samples, each less the one to its left."""
    for samples in bands_of(image, _rows_per_band(image)):
        predicted: NDArray[Any] = samples.copy()
        predicted[:, 1:] -= samples[:, :-1]
        yield predicted.astype(predicted.dtype.newbyteorder(order), copy=False).tobytes()


class _Described(NamedTuple):
    """What a TIFF takes over from EXIF."""

    layout: Layout
    """With the byte order of the block, which becomes the file's."""

    start: bytes
    """What stands before the directory: the header, with the block behind it where it has to stay in place."""

    fields: tuple[Field, ...] = ()


def _front(image: Writable, described: _Described, offsets: list[int], sizes: list[int]) -> bytes:
    """Header and directory, with all they point to except the strips."""
    channels, layout = image.channels + image.has_alpha, described.layout
    place = LONG8 if layout.big else LONG

    def field(tag: int, kind: int, *values: int) -> Field:
        return numbers_field(layout, tag, kind, *values)

    fields = [
        field(WIDTH, LONG, image.width),
        field(LENGTH, LONG, image.height),
        field(BITS, SHORT, *[image.depth_bits] * channels),
        field(COMPRESSION, SHORT, _DEFLATE),
        field(PHOTOMETRIC, SHORT, _MIN_IS_BLACK if image.is_gray else _RGB),
        field(STRIP_OFFSETS, place, *offsets),
        field(ORIENTATION, SHORT, 1),
        field(SAMPLES, SHORT, channels),
        field(ROWS_PER_STRIP, LONG, _rows_per_band(image)),
        field(STRIP_BYTES, place, *sizes),
        field(PLANAR, SHORT, _CONTIGUOUS),
        field(PREDICTOR, SHORT, _HORIZONTAL),
        field(SAMPLE_FORMAT, SHORT, *[1] * channels),
    ]
    if image.has_alpha:
        fields.append(field(EXTRA_SAMPLES, SHORT, _STRAIGHT_ALPHA))
    fields += [*_metadata_fields(image.metadata, layout), *described.fields]
    packed = described.start + pack_fields(fields, layout, len(described.start))
    return packed + bytes(len(packed) % 2)


def _metadata_fields(metadata: Metadata, layout: Layout) -> Iterator[Field]:
    if metadata.icc:
        yield Field(ICC, UNDEFINED, len(metadata.icc), metadata.icc)
    if metadata.xmp:
        yield Field(XMP, BYTE, len(metadata.xmp), metadata.xmp)
    if metadata.iptc:  # as whole LONGs, for the sake of libtiff; their bytes are in no order of their own
        padded = metadata.iptc + bytes(-len(metadata.iptc) % 4)
        yield Field(IPTC, LONG, len(padded) // 4, padded)
    if metadata.dpi:
        for tag, dpi in zip((X_RESOLUTION, Y_RESOLUTION), metadata.dpi, strict=True):
            yield Field(tag, RATIONAL, 1, struct.pack(layout.order + "II", round(dpi * 1000), 1000))
        yield numbers_field(layout, RESOLUTION_UNIT, SHORT, _INCH)


def _described(metadata: Metadata, *, big: bool) -> _Described:
    exif = metadata.exif or b""
    try:
        classic, first = parse_header(exif)
        fields = read_fields(lambda offset, length: exif[offset : offset + length], classic, first)
    except (struct.error, ValueError):  # there is none: `read_image` lets no damaged one through
        layout = Layout("<", big)
        return _Described(layout, pack_header(layout))
    layout = Layout(classic.order, big)
    kept = tuple(field for field in fields if field.tag in DESCRIPTIVE_TAGS)
    if big or not _has_maker_note(kept):
        return _Described(layout, pack_header(layout), kept)
    places = {entry.tag: entry.number(layout) for entry in reversed(list(parse_block(exif).entries(first)))}
    padded = exif + bytes(len(exif) % 2)
    start = padded[:4] + struct.pack(layout.offset_code, len(padded)) + padded[8:]
    below = {tag: numbers_field(layout, tag, LONG, place) for tag, place in places.items() if tag in POINTERS[0]}
    return _Described(layout, start, tuple(field if field.directory is None else below[field.tag] for field in kept))
