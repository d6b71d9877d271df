"""Classical ways from a whole HR picture to its LR partner, as baselines of the learned one. Memory stays bounded."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

SCALE = 4
BAND_LR_PX = 64  # rows computed at a time: the HR picture is never in memory as floats
MARGIN_LR_PX = 2  # bicubic shrinking by 4 reads 8 HR pixels beyond those that are averaged


def shrink_bicubic(hr: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Antialiased bicubic by 4: (4H, 4W, 3) levels to (H, W, 3) levels, neither rounded nor clipped."""
    height, width = (length // SCALE for length in hr.shape[:2])
    lr = np.empty((height, width, 3), np.float32)
    for top in range(0, height, BAND_LR_PX):
        bottom = min(top + BAND_LR_PX, height)
        first, last = max(0, top - MARGIN_LR_PX), min(height, bottom + MARGIN_LR_PX)
        band = np.ascontiguousarray(hr[SCALE * first : SCALE * last].transpose(2, 0, 1), np.float32)
        size = (last - first, width)
        shrunk = F.interpolate(torch.from_numpy(band)[None], size=size, mode="bicubic", antialias=True)[0].numpy()
        lr[top:bottom] = shrunk[:, top - first : bottom - first].transpose(1, 2, 0)
    return lr


def add_gaussian(lr: NDArray[np.float32], sigma: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """White Gaussian noise of `sigma` levels, each sample its own: Track 1 of NTIRE 2020."""
    noisy: NDArray[np.float32] = lr + np.float32(sigma) * rng.standard_normal(lr.shape, dtype=np.float32)
    return noisy


def whole_levels(lr: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Levels clipped to 0..255 and rounded, once."""
    return np.rint(np.clip(lr, 0, 255)).astype(np.uint8)
