"""What all networks that enlarge have in common, and what tiling has to know of them."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class SrTraits:
    """What running a network over an image of any size depends on."""

    scale: int
    """SR pixels per LR pixel along a side."""

    halo_px: int
    """LR pixels of context with which a tile comes out as in the whole image, up to what cannot be seen."""

    values_per_px: float
    """Peak number of activations per LR pixel of a window, weights not counted; see `tests/bench/tiling.py`."""

    align: int = 1
    """Windows start at its multiples, LR pixels: a network that folds squares of pixels folds the same ones then."""

    tiles: bool = True
    """False: it needs the whole image at once, as long as there is memory for that."""

    half_formats: tuple[torch.dtype, ...] = (torch.float16, torch.bfloat16)
    """In which of these it may be tried."""

    memory_format: torch.memory_format = torch.channels_last
    """How its weights and images lie in memory."""


class SrNet(nn.Module):
    """RGB LR image to RGB SR image.

    Shape: (N, 3, H, W) -> (N, 3, scale * H, scale * W), values near [0, 1], not clamped.
    """

    @property
    @abstractmethod
    def traits(self) -> SrTraits:
        """What tiling has to know."""
