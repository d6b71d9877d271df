"""Where compressed data end, whether they are data, and what else is behind: what decoders pass over without a word.

Cards, transfers and recoveries leave runs of zeros in the place of data. Every decoder makes pixels of them. Whether a
long run can be data depends on the code: in some, equal areas are coded by zeros.
"""

import itertools
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.io.image import Pixels

LEAST_ZEROS = 32
"""Bytes of zeros in a row that are looked at."""

_ZEROS = re.compile(rb"\0{%d,}" % LEAST_ZEROS)
BLOCK_BYTES = 512
"""Of a disk or card: holes begin and end where these do."""

_NEAR, _LEAST_SEEN, _SLANT_PX = 3, 0.5, 16
_REACH_PX, _MOST_RUNS, _FEW_RUNS = 9, 5000, 1000
_BLOCKS = re.compile(rb"\0{%d,}" % BLOCK_BYTES)
_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
_END, _SCAN, _TABLES, _STEPS = 0xD9, 0xDA, 0xC4, 0xDB
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_FEW_CODES = (1, 2, 3, 4)
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_SEGMENTS = frozenset((*range(0xC0, 0xD0), 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE))
_COEFFICIENTS, _NOT_SENT = 64, 14  # 13 is the most bits that a scan can leave for later
_ZERO_RUN_OF_16 = 0xF0


def zeros_in(data: bytes, start: int = 0, end: int | None = None) -> re.Match[bytes] | None:
    """The first long run of zeros between two offsets."""
    return _ZEROS.search(data, start, len(data) if end is None else end)


def check_no_zeros(
    data: bytes, start: int = 0, end: int | None = None, *, are_data: Callable[[re.Match[bytes]], bool] | None = None
) -> None:
    """Raises ValueError for a run of zeros where the code knows none: in what arithmetic coders make, or LZW.

    are_data: tells of a run that it is one which the code knows.
    """
    run = zeros_in(data, start, end)
    while run and are_data is not None and are_data(run):
        run = zeros_in(data, run.end(), end)
    if run:
        raise ValueError(f"{len(run[0])} bytes of its data are zeros, from byte {run.start()} on")


@dataclass(frozen=True, kw_only=True)
class RawPlace:
    """Where the rows of samples stand in a file, as they are."""

    file: BinaryIO
    """The file, open."""

    start: int
    """Offset of the first row."""

    stride: int
    """Bytes from a row to the next."""

    def stored(self, height: int, width: int, bits: int) -> NDArray[np.uint8]:
        """(H, W, bytes of a pixel): what stands there, before palette and order; fewer rows where it is short."""
        self.file.seek(self.start)
        data = np.frombuffer(self.file.read(height * self.stride), np.uint8)
        rows = data[: data.size // self.stride * self.stride].reshape(-1, self.stride)
        pixel = -(-bits // 8)
        return rows[:, : width * pixel].reshape(len(rows), width, pixel)


def hole_in(samples: Pixels, place: RawPlace | None = None) -> str:
    """A word on a hole among samples that stand in a file as they are, (H, W, C), row by row; empty where none is seen.

    place: where they do, by which holes beside black are told, too.

    Zeros are black, so only what no drawing does counts: a run of black that begins within a row and ends within one,
    or with the image, while all of a row's length before it and behind it is not black. Of less than two rows, as two
    lines give that meet across the sides, it must be as long as blocks of a disk are. Half of what is around it may be
    black where the run goes to the end, or is as long as blocks, and what lies above its first pixel and below its last
    is not. Of less than a row, or of whole rows, it must be as long as blocks: black lines are many. Where their place
    in the file is known, those of less than a row are told by it alone.
    """
    height, width, channels = samples.shape
    if not samples.size:
        return ""
    pixel = channels * samples.itemsize
    row, flat = width * pixel, np.ascontiguousarray(samples).reshape(-1, channels)
    data = flat.data.cast("B")
    for run in _BLOCKS.finditer(data):
        start, end = run.span()
        is_tail, length = end == height * row, end - start
        is_of_blocks = length % BLOCK_BYTES <= 2 * pixel
        is_slanted = min(length % row, -length % row) <= _SLANT_PX * pixel  # as lines across the image are
        if (length < row and (is_tail or place or not is_of_blocks)) or (
            is_slanted and not is_tail and not is_of_blocks
        ):
            continue
        within = pixel <= start % row <= row - pixel and (is_tail or pixel <= end % row <= row - pixel)
        first, last = start // pixel, -(-end // pixel)
        seen = flat[max(0, first - width) : first].any(axis=1), flat[last : last + width].any(axis=1)
        edges = (
            flat[max(0, first - width - _NEAR) : first - width + _NEAR + 1],
            flat[last + width - _NEAR - 1 :][: 2 * _NEAR],
        )
        stands_out = first >= width and all(
            part.mean() >= _LEAST_SEEN and edge.any(axis=1).all()
            for part, edge in zip(seen[: 2 - is_tail], edges, strict=False)
        )
        is_sure = all(part.all() for part in seen) and (is_tail or is_of_blocks or length >= 2 * row)
        if within and (is_sure or (stands_out and length >= row and (is_tail or is_of_blocks))):
            return f"{length} bytes of its samples are zeros, from row {start // row} on: look at the result"
    return _torn_hole(flat, width, place) if place else ""


@dataclass(frozen=True)
class _End:
    """Where black begins or ends within a row."""

    row: int
    is_torn: bool
    is_aligned: bool
    is_within_pixel: bool


def _torn_hole(flat: NDArray[Any], width: int, place: RawPlace) -> str:
    """A word on a run of black of which an end is torn from the image and lies where a block of a disk has its border.

    By chance black ends there once in 512 times, so it depends on how many such ends an image has, torn by itself: a
    hole beside black gives one or two; nights, lines and letters give many. Those within a pixel are counted apart, for
    drawings have none. Runs with both ends on a border are a matter of chance where there are a thousand.
    """
    runs = [
        [
            _end_of_run(flat, width, place, at, is_start=is_start)
            for at, is_start in zip(run.span(), (True, False), strict=True)
        ]
        for run in itertools.islice(_BLOCKS.finditer(flat.data.cast("B")), _MOST_RUNS)
    ]
    whole = [ends for ends in runs if all(end.is_torn for end in ends)]
    torn = [end for ends in runs for end in ends if end.is_torn]
    found = [ends[0] for ends in whole if len(whole) <= _FEW_RUNS and all(end.is_aligned for end in ends)]
    for is_within_pixel, few in ((True, 2), (False, 1)):
        kind = [end for end in torn if end.is_within_pixel == is_within_pixel]
        found += [end for end in kind if end.is_aligned and len(kind) <= few]
    if not found:
        return ""
    return f"zeros seem to stand in the place of samples near row {found[0].row}: look at the result"


def _end_of_run(flat: NDArray[Any], width: int, place: RawPlace, at: int, *, is_start: bool) -> _End:
    """at: bytes from the first sample to where zeros begin, or to behind the last of them."""
    pixel = flat.shape[1] * flat.itemsize
    row, column = divmod(at if is_start else at - 1, width * pixel)
    offset = place.start + row * place.stride + column + (not is_start)
    place.file.seek(max(0, offset - pixel))
    near = place.file.read(2 * pixel)  # in the order of the file, where red may be the last
    stay = len(near.rstrip(b"\0")) if is_start else len(near) - len(near.lstrip(b"\0"))
    offset = max(0, offset - pixel) + stay
    return _End(
        row=row,
        is_torn=pixel <= column < (width - 1) * pixel
        and not _goes_on(flat, width, -(-at // pixel) if is_start else at // pixel, is_start=is_start),
        is_aligned=offset % BLOCK_BYTES == 0,
        is_within_pixel=(offset - place.start) % place.stride % pixel != 0,
    )


def _goes_on(flat: NDArray[Any], width: int, at: int, *, is_start: bool) -> bool:
    """Whether black begins, or ends, near that pixel in the row above or below, too."""
    for near in (at - width, at + width):
        is_seen = np.asarray(flat[max(0, near - _REACH_PX) : max(0, near + _REACH_PX)].any(axis=1))
        if (np.diff(is_seen.astype(np.int8)) == (-1 if is_start else 1)).any():
            return True
    return False


def inflates(data: bytes) -> bool:
    """Whether data of zlib inflate to their end, checksum included."""
    inflate = zlib.decompressobj()
    try:
        while data and not inflate.eof:
            inflate.decompress(data, 1 << 20)
            data = inflate.unconsumed_tail
    except zlib.error:
        return False
    return inflate.eof


@dataclass
class _Codes:
    """What is known of a JPEG so far, as its scans need it."""

    dc: dict[int, int] = field(default_factory=dict)
    """By table: the symbol whose code is nothing but zeros."""

    ac: dict[int, int] = field(default_factory=dict)
    is_progressive: bool = False
    missing: dict[int, list[int]] = field(default_factory=dict)
    """By component: bits of each coefficient that are still to come."""


@dataclass(frozen=True, kw_only=True)
class JpegStream:
    """The data of a JPEG, as its markers tell them."""

    end: int
    """Where the end mark of the first image is; -1: there is none."""

    data_end: int
    """Where the data of its last scan end."""

    zeros: tuple[int, int] | None
    """Where zeros stand, from and to, that cannot be data; None: nowhere."""

    doubtful: tuple[tuple[int, int, int], ...]
    """From and to where zeros stand that may be data, and where their scan ends: the first of each scan."""

    tail: int | None
    """From where on there are only zeros to the end of the data, whether or not they can be data."""

    is_complete: bool
    """All coefficients of all components are sent, to the last bit."""

    has_null_steps: bool
    """A quantization table holds zeros: its coefficients are lost."""


def look_at_jpeg(data: bytes, tables: bytes = b"") -> JpegStream:
    """tables: segments that lie elsewhere, as in a TIFF: a JPEG without an image."""
    codes, null_steps, zeros, doubtful = _Codes(), False, None, []
    for kind, start, stop in _jpeg_segments(tables):
        null_steps |= kind == _STEPS and _has_null_steps(tables[start:stop])
        _learn(codes, kind, tables[start:stop])
    end, data_start, data_end = -1, 0, len(data)
    for kind, start, stop in _jpeg_segments(data):
        if kind == _END:
            end = start
            break
        segment = data[start:stop]
        null_steps |= kind == _STEPS and _has_null_steps(segment)
        if kind != _SCAN:
            _learn(codes, kind, segment)
            continue
        data_start, data_end = stop, _end_of_scan(data, stop)
        run = zeros_in(data, data_start, data_end)
        if run and _zeros_are_data(segment, codes):
            doubtful.append((*run.span(), data_end))
        elif run and zeros is None:
            zeros = run.span()
        _send(segment, codes)
    tail = data_end - (len(data[data_start:data_end]) - len(data[data_start:data_end].rstrip(b"\0")))
    return JpegStream(
        end=end,
        data_end=data_end,
        zeros=zeros,
        doubtful=tuple(doubtful),
        tail=tail if data_end - tail >= LEAST_ZEROS else None,
        is_complete=not any(any(bits) for bits in codes.missing.values()),
        has_null_steps=null_steps,
    )


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of what follows each marker, its length not included; the data of scans are passed over."""
    at = 2
    while 0 <= at < len(data) - 1 and data[at] == 0xFF:
        kind = data[at + 1]
        if kind == 0xFF:
            at += 1
            continue
        if kind == _END:
            yield kind, at, at + 2
            return
        if kind not in _SEGMENTS and kind != _SCAN:
            return
        stop = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield kind, at + 4, stop
        at = _end_of_scan(data, stop) if kind == _SCAN else stop


def _end_of_scan(data: bytes, start: int) -> int:
    marker = _NEXT_MARKER.search(data, start)
    return marker.start() if marker else len(data)


def _learn(codes: _Codes, kind: int, segment: bytes) -> None:
    """Code tables, and the components of a frame."""
    if kind == _TABLES:
        while len(segment) > 17:
            symbols = sum(segment[1:17])
            place = codes.ac if segment[0] >> 4 else codes.dc
            place[segment[0] & 15] = segment[17]
            segment = segment[17 + symbols :]
    elif kind in _FRAMES:
        components = segment[6::3][: segment[5]] if len(segment) > 5 else b""
        codes.is_progressive = kind in _PROGRESSIVE
        codes.missing = {component: [_NOT_SENT] * _COEFFICIENTS for component in components}


def _scan_parts(segment: bytes, codes: _Codes) -> tuple[list[tuple[int, int, int]], int, int, int, int]:
    """Components, each with its tables of DC and AC; first and last coefficient; bits before and after."""
    count = segment[0]
    components = [(segment[i], segment[i + 1] >> 4, segment[i + 1] & 15) for i in range(1, 1 + 2 * count, 2)]
    first, last, bits = segment[1 + 2 * count : 4 + 2 * count]
    if not codes.is_progressive:  # what some cameras write there means nothing
        return components, 0, _COEFFICIENTS - 1, 0, 0
    return components, first, last, bits >> 4, bits & 15


def _zeros_are_data(segment: bytes, codes: _Codes) -> bool:
    """Whether blocks like the one before, or coefficients that stay 0, are coded by nothing but zeros in a scan.

    Without tables those of the standard are meant, in which zeros are coefficients of -1.
    """
    try:
        components, first, last, before, _ = _scan_parts(segment, codes)
    except (IndexError, ValueError):
        return False
    is_sequential = first == 0 and last == _COEFFICIENTS - 1
    if first == 0 and not is_sequential and before:
        return True  # bits as they are
    dc_stays = all(codes.dc.get(dc, 0) == 0 for _, dc, _ in components)
    # the end of a block, or of several: the lower half of the symbol is 0
    symbols = [codes.ac.get(ac, 1) for _, _, ac in components]
    ac_ends = all(symbol & 15 == 0 and symbol != _ZERO_RUN_OF_16 for symbol in symbols)
    if is_sequential:
        return dc_stays and ac_ends
    if first == 0:
        return dc_stays
    # gradients and patterns: the same few coefficients in every block, which fill the band and need no end
    codes_of_block = [(last - first + 1) / ((symbol >> 4) + 1) for symbol in symbols]
    return ac_ends or all(count in _FEW_CODES for count in codes_of_block)


def _send(segment: bytes, codes: _Codes) -> None:
    """Note what a scan sends."""
    try:
        components, first, last, _, after = _scan_parts(segment, codes)
    except (IndexError, ValueError):
        return
    for component, _, _ in components:
        bits = codes.missing.get(component, [])
        for at in range(first, min(last + 1, len(bits))):
            bits[at] = min(bits[at], after)


def _has_null_steps(segment: bytes) -> bool:
    while segment:
        step = 2 if segment[0] >> 4 else 1
        table = segment[1 : 1 + _COEFFICIENTS * step]
        if any(not any(table[at : at + step]) for at in range(0, len(table), step)):
            return True
        segment = segment[1 + _COEFFICIENTS * step :]
    return False


_IMAGE_START = b"\xff\xd8\xff"
_MOST_IMAGES = 50
GAIN_MAP_SIGNS = (b"hdr-gain-map", b"HDRGainMap", b"aux:hdrgainmap", b"urn:iso:std:iso:ts:21496")
_PROMISES = (b"GainMap", *GAIN_MAP_SIGNS)
HEAD_BYTES = 1 << 16
"""Where what an image says of itself is looked for."""

_VIDEO = re.compile(rb"....ftyp[a-zA-Z0-9 ]{4}", re.DOTALL)
_STILL_BRANDS = (b"avif", b"heic", b"heix", b"mif1")
_SOUND = re.compile(rb"RIFF....WAVE", re.DOTALL)
_ARCHIVES, _DOCUMENT = (b"PK\x03\x04", b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c"), b"%PDF-"
_SIGN_BYTES = 8
_PADDING = b"\0\r\n "
_OTHER_IMAGE = re.compile(rb"\x89PNG\r\n\x1a\n\0\0\0\rIHDR|RIFF....WEBPVP8", re.DOTALL)

GAIN_MAP, DEPTH_MAP, VIDEO, SOUND, ARCHIVE = "a gain map for HDR", "a depth map", "a video", "a sound", "an archive"
DOCUMENT, OTHER_IMAGES = "a PDF document", "other images"


def left_out(things: list[str]) -> tuple[str, ...]:
    """A note on what else a file holds; none where there is nothing."""
    named = list(dict.fromkeys(things))
    if not named:
        return ()
    listed = ", ".join(named[:-1]) + " and " + named[-1] if len(named) > 1 else named[0]
    verb = "was" if len(named) == 1 and named[0].startswith("a") else "were"
    return (f"the file also holds {listed}, which {verb} left out",)


def behind(data: bytes, end: int) -> tuple[list[str], int]:
    """What lies behind the end of an image, and how many whole images are among it, gain maps not counted."""
    rest = data[end:]
    first = rest.lstrip(_PADDING)[:_SIGN_BYTES]
    if first.startswith((*_ARCHIVES, _DOCUMENT)):  # what lies in it is its own
        return [DOCUMENT if first.startswith(_DOCUMENT) else ARCHIVE], 0
    videos = [found for found in _VIDEO.finditer(rest) if found[0][8:] not in _STILL_BRANDS]
    before = rest[: videos[0].start()] if videos else rest
    things: list[str] = []
    images = len(_OTHER_IMAGE.findall(before)) + sum(found[0][8:] in _STILL_BRANDS for found in _VIDEO.finditer(before))
    for image in _images(before):
        is_gain_map = any(sign in image[:HEAD_BYTES] for sign in GAIN_MAP_SIGNS)
        things += [GAIN_MAP] if is_gain_map else []
        images += not is_gain_map
    if images and not things and any(sign in data[: min(end, HEAD_BYTES)] for sign in _PROMISES):
        things, images = [GAIN_MAP], images - 1  # the map itself need not say what it is
    things += [VIDEO] if videos else []
    things += [SOUND] if _SOUND.search(before) else []
    return things, images


def left_out_behind(data: bytes, end: int = 0) -> tuple[str, ...]:
    """The note on all that lies behind the end of an image in a format that knows no second one; or none."""
    return left_out(named_behind(data, end))


def named_behind(data: bytes, end: int) -> list[str]:
    """What lies behind the end of an image, images as well, in words."""
    things, images = behind(data, end)
    return things + [OTHER_IMAGES if images > 1 else "another image"][:images]


def _images(rest: bytes) -> list[bytes]:
    """The JPEGs in some bytes, one behind the other."""
    found: list[bytes] = []
    at, tries = rest.find(_IMAGE_START), 0
    while at >= 0 and (tries := tries + 1) <= _MOST_IMAGES:
        stream = look_at_jpeg(rest[at:])
        if stream.end > 0 and stream.data_end < stream.end + 1:
            found.append(rest[at : at + stream.end])
            at = rest.find(_IMAGE_START, at + stream.end)
        else:
            at = rest.find(_IMAGE_START, at + len(_IMAGE_START))
    return found
