"""Colours under transparency."""

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.images.picture import Pixels, rounded


def fill_transparent(pixels: Pixels, alpha: Pixels) -> Pixels:
    """`pixels` with the colours of fully transparent pixels replaced by those of visible ones near them.

    What lies under full transparency is arbitrary, often black or white, and would bleed over the edges when the
    picture is enlarged. pixels: (H, W, C); alpha: (H, W). Visible pixels stay as they are; a picture without any
    comes back unchanged. Cost: about three passes over the picture.
    """
    visible = alpha > 0
    if visible.all() or not visible.any():
        return pixels
    return rounded(_filled(pixels.astype(np.float32), visible), pixels)


def _filled(colours: NDArray[np.float32], visible: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Holes take the colour of the smallest block around them that has visible pixels: their mean over the block.

    The blocks are the levels of a pyramid: 2x2 pixels, 4x4, and so on.
    """
    if visible.all():
        return colours
    height, width = visible.shape
    weights = visible.astype(np.float32)[..., None]
    sums, counts = _halved(colours * weights), _halved(weights)
    means = np.divide(sums, np.maximum(counts, 1), dtype=np.float32)
    coarse = _filled(means, counts[..., 0] > 0)
    spread = coarse.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return np.where(visible[..., None], colours, spread)


def _halved(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums over blocks of 2x2 pixels; (H, W, C) -> (ceil(H / 2), ceil(W / 2), C)."""
    height, width, _ = values.shape
    padded = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)))
    return padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2]


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
