"""A result brought back to the size of its input."""

import numpy as np

from ddnsr_cli.images.enlarge import Planes


def shrunk(sr: Planes, scale: int) -> Planes:
    """The mean of the SR pixels that cover each LR pixel: (C, scale * h, scale * w) -> (C, h, w), in [0, 1].

    Values beyond black and white count as black and white: so they are written.
    """
    clamped = np.clip(sr, 0, 1)
    rows = sum(clamped[:, phase::scale] for phase in range(1, scale)) + clamped[:, ::scale]
    total: Planes = rows[..., ::scale] + sum(rows[..., phase::scale] for phase in range(1, scale))
    return total / np.float32(scale**2)
