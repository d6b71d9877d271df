"""Plain enlargement by a whole factor, any rows of the result at a time."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Planes = NDArray[np.float32]
"""(C, H, W), samples in [0, 1] or differences of such."""

BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR
_REACH_PX = 2  # the bicubic kernel's, and more than the bilinear one's


def enlarged_rows(
    planes: Planes, top: int, bottom: int, *, scale: int, how: Image.Resampling = BICUBIC
) -> NDArray[np.float32]:
    """What rows `top` to `bottom` of the input become when the whole picture is enlarged: (C, scale * rows, scale * W).

    Bicubic is that of Pillow and most programs (Keys' kernel with a = -0.5). Rows beyond the given ones are looked
    at, so strips put together are the picture enlarged at once, at scales that are powers of two bit for bit.
    """
    height, width = planes.shape[1:]
    first, last = max(0, top - _REACH_PX), min(height, bottom + _REACH_PX)
    box = (0, top - first, scale * width, bottom - first)
    larger: list[NDArray[Any]] = []
    for plane in planes[:, first:last]:
        # across, then down, each by itself: asked for both, Pillow chooses the order by the shape
        wide = Image.fromarray(np.ascontiguousarray(plane)).resize((scale * width, last - first), how)
        larger.append(np.asarray(wide.resize((scale * width, scale * (bottom - top)), how, box=box)))
    return np.stack(larger)
