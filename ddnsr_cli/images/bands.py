"""A picture's samples for writers, a band of rows at a time, so that no second copy of it is needed."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.images.picture import Picture

BAND_BYTES = 1 << 20
"""About how much a band holds."""


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
