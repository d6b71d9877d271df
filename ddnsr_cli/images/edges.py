"""Enlarged alpha channels that keep their flat areas."""

import numpy as np

from ddnsr_cli.images.picture import Pixels


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
