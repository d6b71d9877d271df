"""Pixels of large images in files without a name: memory holds the part of them that is being looked at."""

import mmap
import tempfile
from contextlib import suppress

import numpy as np

from ddnsr_cli.io.image import Pixels

MOST_BYTES = 1 << 24
"""Of pixels that stay in memory."""

_WRITTEN_ROWS = 64


def mapped(pixels: Pixels) -> Pixels:
    """The same pixels, (H, W, C), in a temporary file where they are many, else as they are; not to be written into.

    They stay in memory where there is no room for the file. It has no name, so that nothing is left of it, however the
    program ends.
    """
    if pixels.nbytes <= MOST_BYTES:
        return pixels
    with suppress(OSError), tempfile.TemporaryFile() as file:
        for top in range(0, len(pixels), _WRITTEN_ROWS):  # written, not copied into a map: a full disk is an error then
            file.write(np.ascontiguousarray(pixels[top : top + _WRITTEN_ROWS]).data)
        file.flush()
        return np.ndarray(pixels.shape, pixels.dtype, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return pixels


def let_go(pixels: Pixels) -> None:
    """Give memory back that holds what was looked at of mapped pixels; the next look reads it again.

    Of others nothing changes. Another thread may look at the same pixels meanwhile.
    """
    if isinstance(pixels.base, mmap.mmap):
        pixels.base.madvise(mmap.MADV_DONTNEED)
