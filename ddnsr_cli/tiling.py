"""From LR windows to bands of finished SR rows: sources, cross-fades, and one row of tiles put together."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ddnsr_cli.images.tiles import Cut, Span


class LrSource(Protocol):
    """An LR picture that is read in windows; it need not be in memory.

    Windows are asked for from left to right, then downwards; neighbours overlap. The rows asked for never go up
    again, except after memory ran out: then once, by at most one window.
    """

    @property
    def height(self) -> int:
        """LR pixels."""

    @property
    def width(self) -> int:
        """LR pixels."""

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        """The window (3, height, width), RGB, float in [0, 1]; it lies wholly within the picture."""


class TensorSource:
    """A picture in memory as an `LrSource`."""

    def __init__(self, lr: Tensor) -> None:
        """lr: (1, 3, H, W) or (3, H, W), floats in [0, 1]."""
        picture = lr[0] if lr.ndim == 4 and lr.shape[0] == 1 else lr
        if picture.ndim != 3 or picture.shape[0] != 3 or picture.numel() == 0:
            raise ValueError(f"A picture is (1, 3, H, W) or (3, H, W) and not empty, got {tuple(lr.shape)}.")
        self._lr = picture
        self.height = picture.shape[1]
        self.width = picture.shape[2]

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        """See `LrSource`."""
        return self._lr[:, top : top + height, left : left + width]


@dataclass(frozen=True, kw_only=True)
class Band:
    """Finished rows of the SR picture."""

    top: int
    """Index of the first row, SR pixels."""

    rows: Tensor
    """(3, h, W), float on the CPU, near [0, 1], not clamped."""


def fade(old: Tensor, new: Tensor, dim: int) -> Tensor:
    """From `old` to `new` along `dim` on a raised cosine; where both are equal the result is exactly that value."""
    length = old.shape[dim]
    steps = (torch.arange(length, dtype=old.dtype) + 0.5) / max(1, length)
    shape = [1] * old.ndim
    shape[dim] = length
    weight = (0.5 - 0.5 * torch.cos(math.pi * steps)).view(shape)
    return old + weight * (new - old)


def tile_row(windows: Iterable[tuple[Span, Tensor]], row: Span, cols: Cut, scale: int) -> Tensor:
    """Put the SR tiles of one row side by side: (3, scale * (row.hi - row.lo), scale * width).

    windows: for each column span, in order, the whole SR window on the CPU, (3, scale * h, scale * w).
    """
    canvas = torch.empty(0)
    height, width = scale * (row.hi - row.lo), scale * cols.spans[-1].hi
    filled = 0
    for col, window in windows:
        if not filled:
            canvas = window.new_empty(3, height, width)
        top, left, lo, hi = (scale * px for px in (row.lo - row.start, col.lo - col.start, col.lo, col.hi))
        kept = window[:, top : top + height, left : left + hi - lo]
        shared = filled - lo
        canvas[:, :, lo:filled] = fade(canvas[:, :, lo:filled], kept[:, :, :shared], 2)
        canvas[:, :, filled:hi] = kept[:, :, shared:]
        filled = hi
    return canvas


Progress = Callable[[int, int], None]
"""Takes the tiles done and the tiles in all. The total changes, and `done` may fall, when memory ran out."""
