"""Transparency: colors under it, and enlarged alpha channels that keep their flat areas."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.io.image import Pixels, rounded


def held_near(larger: Pixels, alpha: Pixels, scale: int) -> Pixels:
    """An enlarged alpha channel held within the values around each LR pixel.

    larger: (scale * H, scale * W). alpha: (H, W), what it was made from. Opaque and clear areas come out exactly so,
    and an edge keeps a network's sharpness without its ringing.
    """
    height, width = alpha.shape
    padded = np.pad(alpha, 1, mode="edge")
    around = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    least, greatest = np.minimum.reduce(around), np.maximum.reduce(around)
    return np.minimum(np.maximum(larger, spread(least, scale)), spread(greatest, scale))


def spread(samples: Pixels, scale: int) -> Pixels:
    """Each sample repeated in a square: (H, W) -> (scale * H, scale * W)."""
    return samples.repeat(scale, axis=0).repeat(scale, axis=1)


def fill_transparent(pixels: Pixels, alpha: Pixels) -> Pixels:
    """`pixels` with the colors of fully transparent pixels replaced by those of visible ones near them.

    What lies under full transparency is arbitrary, often black or white, and would bleed over the edges when the
    image is enlarged. pixels: (H, W, C); alpha: (H, W). Visible pixels stay as they are; an image without any
    comes back unchanged.

    A hole takes the mean color of the smallest block around it that has visible pixels. The blocks are the levels
    of a pyramid, 2x2 pixels, 4x4, and so on, so the cost is little more than one pass over the image.
    """
    visible = alpha > 0
    if visible.all() or not visible.any():
        return pixels
    near = _doubled(rounded(_block_colors(pixels, visible), pixels), visible.shape)
    filled = pixels.copy()
    np.copyto(filled, near, where=~visible[..., None])
    return filled


def _block_colors(colors: NDArray[Any], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """For every block of 2x2 the mean of its known colors; where there are none, that of larger blocks.

    (H, W, C), (H, W) -> (ceil(H / 2), ceil(W / 2), C)
    """
    counts = _sums(known[..., None])
    means = _sums(np.where(known[..., None], colors, 0))
    means /= np.maximum(counts, 1)
    filled = counts[..., 0] > 0
    if filled.all():
        return means
    coarse = _doubled(_block_colors(means, filled), filled.shape)
    return np.where(filled[..., None], means, coarse)


def _sums(values: NDArray[Any]) -> NDArray[np.float32]:
    """Sums over blocks of 2x2: (H, W, C) -> (ceil(H / 2), ceil(W / 2), C)."""
    height, width, channels = values.shape
    sums = np.zeros((-(-height // 2), -(-width // 2), channels), np.float32)
    for y in (0, 1):
        for x in (0, 1):
            part = values[y::2, x::2]
            sums[: part.shape[0], : part.shape[1]] += part
    return sums


def _doubled(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Every pixel as a block of 2x2, cut to `shape` (H, W)."""
    return values.repeat(2, axis=0)[: shape[0]].repeat(2, axis=1)[:, : shape[1]]
