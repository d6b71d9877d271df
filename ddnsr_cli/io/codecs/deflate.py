"""Deflate on all cores, fed a band of rows at a time; zlib lets go of the interpreter's lock, so threads are enough."""

import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.io.image import Picture

BAND_BYTES = 1 << 20
"""About how much a band holds."""

_MOST_WORKERS = 16
_HEADER = b"\x78\x9c"
_LAST_BLOCK = b"\x03\x00"  # an empty final block, raw deflate
_RAW = -15  # window bits without header and checksum


def rows_per_band(picture: Picture) -> int:
    """How many rows make a band of about `BAND_BYTES`."""
    samples = picture.width * (int(picture.pixels.shape[2]) + picture.has_alpha)
    return max(1, BAND_BYTES // (samples * picture.depth_bits // 8))


def sample_bands(picture: Picture, *, order: Literal["<", ">", "="]) -> Iterator[NDArray[Any]]:
    """Bands (rows, W, C or C + 1) from top to bottom, alpha behind the colours, contiguous.

    order: the byte order of 16-bit samples, as struct names it.
    """
    rows = rows_per_band(picture)
    kind = picture.pixels.dtype.newbyteorder(order)
    for top in range(0, picture.height, rows):
        band: NDArray[Any] = picture.pixels[top : top + rows]
        if picture.alpha is not None:
            band = np.concatenate((band, picture.alpha[top : top + rows, :, None]), axis=2)
        yield np.ascontiguousarray(band, dtype=kind)


def zlib_stream(parts: Iterable[bytes], *, level: int) -> Iterator[bytes]:
    """One zlib stream of the joined parts, piece by piece; parts of about a megabyte lose next to nothing.

    Each part is deflated by itself, in parallel, up to a byte boundary; the stream is what they make in a row.
    """
    checksum = 1

    def counted() -> Iterator[bytes]:
        nonlocal checksum
        for part in parts:
            checksum = zlib.adler32(part, checksum)
            yield part

    yield _HEADER
    yield from in_parallel(lambda part: _raw_deflate(part, level), counted())
    yield _LAST_BLOCK + checksum.to_bytes(4, "big")


def in_parallel(work: Callable[[bytes], bytes], parts: Iterable[bytes]) -> Iterator[bytes]:
    """`work` done on every part by several threads; the results in the order of the parts, few at a time."""
    workers = min(_MOST_WORKERS, _cores())
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[bytes]] = deque()
        for part in parts:
            waiting.append(pool.submit(work, part))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _raw_deflate(part: bytes, level: int) -> bytes:
    deflate = zlib.compressobj(level, zlib.DEFLATED, _RAW)
    return deflate.compress(part) + deflate.flush(zlib.Z_SYNC_FLUSH)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
