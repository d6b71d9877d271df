"""From pixels to a network and back. The only module of this package that needs torch."""

from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from ddnsr_cli.images.picture import Pixels


def to_tensor(pixels: Pixels) -> Tensor:
    """Pixels (H, W, C), C = 1 or 3, uint8 or uint16, as (1, 3, H, W) float32 in [0, 1].

    Gray is repeated three times by a view: do not write into the result.
    """
    scaled = pixels.transpose(2, 0, 1).astype(np.float32)
    scaled /= np.iinfo(pixels.dtype).max
    return torch.from_numpy(np.ascontiguousarray(scaled))[None].expand(-1, 3, -1, -1)


def to_pixels(sr: Tensor, *, dtype: DTypeLike, gray: bool) -> Pixels:
    """A network's result (3, h, w) as pixels (h, w, C) of `dtype`, uint8 or uint16: clamped, then rounded.

    sr: finite, nominally in [0, 1]; on any device, of any floating type. gray: C = 1, the mean of the three
    channels. They are three estimates of one quantity, not red, green and blue, so each counts the same and their
    errors average out; a luma would weigh them as colours.
    """
    values = sr.detach().to(torch.float32)
    if gray:
        values = values.mean(dim=0, keepdim=True)
    white = np.iinfo(np.dtype(dtype)).max
    levels: NDArray[Any] = values.clamp(0, 1).mul(white).round().cpu().numpy()
    return np.ascontiguousarray(levels.transpose(1, 2, 0)).astype(dtype)
