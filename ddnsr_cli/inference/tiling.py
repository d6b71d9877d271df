"""From an image to windows for a network and back: the plan, the arrays, and bands of finished SR rows.

All by NumPy: threads of PyTorch are the network's, and where OpenVINO runs it PyTorch is not even loaded.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.inference.engine import Window
from ddnsr_cli.io.image import Pixels, let_go
from ddnsr_cli.processing.resize import row_blocks

_STEPS = 32_766
"""From 0.5 to 1.5 in what a tile is held in; even, so that black and white are steps."""

_BLOCK_ROWS = 128
"""SR rows of a tile that are freed together: what was made is used up while the next row of tiles is in the making."""


@dataclass(frozen=True, kw_only=True)
class TileConfig:
    """How an LR image is cut. Lengths are LR pixels."""

    tile_px: int | None = 0
    """Side of a tile's core, the part between seams; 0: chosen from free memory; None: the whole image at once."""

    rows_px: int | None = None
    """Height of a core where it is to be less than its side: a row of tiles across a wide image takes much memory."""

    halo_px: int | None = None
    """Context around a core that the network reads: a seam is at least this far from the border of both windows; None:
    what the network needs, see `nets.config`."""

    blend_px: int = 4
    """How far past the seam a tile's result still counts, taken out of the halo: neighbors fade over twice this."""

    def __post_init__(self) -> None:
        if self.tile_px is not None and self.tile_px < 0:
            raise ConfigError(f"tile_px must be at least 1, or 0 for a choice by free memory, got {self.tile_px}.")
        if self.blend_px < 0 or (self.halo_px is not None and self.blend_px > self.halo_px):
            raise ConfigError(f"blend_px must lie in 0..halo_px, got {self.blend_px} with halo_px {self.halo_px}.")


@dataclass(frozen=True)
class Span:
    """One window along one side, in LR pixels from the image's first."""

    start: int
    """First pixel that the window reads."""

    lo: int
    """First pixel that is kept; from here to the previous span's `hi` the two are cross-faded."""

    hi: int
    """One past the last pixel that is kept."""


@dataclass(frozen=True)
class Cut:
    """All windows along one side, in order."""

    size: int
    """Length of every window, LR pixels: one shape serves all, which suits compilers and cuDNN."""

    spans: tuple[Span, ...]


@dataclass(frozen=True)
class TilePlan:
    """All windows of an image: every row span with every column span."""

    rows: Cut
    cols: Cut

    @property
    def tiles(self) -> int:
        """Number of windows."""
        return len(self.rows.spans) * len(self.cols.spans)

    @property
    def window_px(self) -> int:
        """The longer side of the windows, LR pixels."""
        return max(self.rows.size, self.cols.size)


def plan_tiles(height: int, width: int, tiles: TileConfig, *, align: int = 1, done: int = 0, tail: int = 0) -> TilePlan:
    """Cut an image of `height` x `width` LR pixels; here `tiles` must tell tile_px and halo_px.

    align: windows start at its multiples and end as the image ends, so that a network which folds squares of
    pixels (x2, x1) folds the same ones as in an untiled run. done, tail: to go on after a part, see `cut_axis`.
    """
    side = tiles.tile_px if tiles.tile_px is not None else max(height, width)
    if side < 1 or tiles.halo_px is None:
        raise ValueError("tile_px = 0 and halo_px = None must be replaced by lengths before planning.")
    down = side if tiles.rows_px is None else min(side, tiles.rows_px)
    rows = cut_axis(height, down, halo_px=tiles.halo_px, blend_px=tiles.blend_px, align=align, done=done, tail=tail)
    cols = cut_axis(width, side, halo_px=tiles.halo_px, blend_px=tiles.blend_px, align=align)
    return TilePlan(rows, cols)


def cut_axis(
    length: int, tile_px: int, *, halo_px: int, blend_px: int, align: int = 1, done: int = 0, tail: int = 0
) -> Cut:
    """Cut `length` pixels into equal windows of at most about tile_px + 2 halo_px: count first, then size.

    done: pixels before it are finished; the first span keeps from there on, but reads a halo before it.
    tail: pixels from `done` on that an earlier span gave already and that the first span fades with.
    A blend shrinks where seams lie too near each other for two whole fades.
    """
    if length < 1 or tile_px < 1:
        raise ValueError(f"length and tile_px must be at least 1, got {length} and {tile_px}.")
    origin = max(0, done - halo_px) // align * align
    cells, rest = divmod(length - origin, align)  # a cell is a folded square; the rest belongs to the last window
    halo = -(-(halo_px + rest) // align)
    count = max(1, -(-(cells - 2 * halo) // max(1, tile_px // align)))
    size = _least_size(cells, halo, count)
    while count > 1 and origin + align * ((cells - size) // (count - 1) + size) // 2 < done + tail:
        count -= 1  # the first seam would lie within the tail
        size = _least_size(cells, halo, count)
    starts = [origin + align * (i * (cells - size) // max(1, count - 1)) for i in range(count)]
    seams = [(left + size * align + right) // 2 for left, right in pairwise(starts)]
    return Cut(size * align + rest, _spans(starts, seams, _blend(seams, blend_px, done + tail, length), done, length))


def _least_size(cells: int, halo: int, count: int) -> int:
    """The least window with which `count` windows cover `cells` and neighbors share two halos."""
    return -(-(cells + 2 * halo * (count - 1)) // count)


def _blend(seams: list[int], blend_px: int, first_free: int, length: int) -> int:
    """The widest blend up to `blend_px` for which no two fades meet."""
    gaps = [(right - left) // 2 for left, right in pairwise(seams)]
    ends = [seams[0] - first_free, length - seams[-1]] if seams else []
    return min([blend_px, *gaps, *ends])


def _spans(starts: list[int], seams: list[int], blend: int, done: int, length: int) -> tuple[Span, ...]:
    los = [done, *(seam - blend for seam in seams)]
    his = [*(seam + blend for seam in seams), length]
    return tuple(Span(*span) for span in zip(starts, los, his, strict=True))


def to_planes(pixels: Pixels) -> NDArray[np.float32]:
    """Pixels (H, W, C), uint8 or uint16, as (C, H, W) in [0, 1]."""
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32)
    planes /= np.iinfo(pixels.dtype).max
    return planes


def as_pixels(planes: NDArray[np.float32], dtype: DTypeLike) -> Pixels:
    """(C, h, w), nominally in [0, 1], as pixels (h, w, C) of `dtype`, uint8 or uint16: clamped, then rounded."""
    pixels: Pixels = np.empty((*planes.shape[1:], planes.shape[0]), dtype)
    white = np.float32(np.iinfo(pixels.dtype).max)
    for channel, plane in enumerate(planes):
        for block in row_blocks(plane):
            levels = np.clip(plane[block], 0, 1)
            levels *= white
            np.copyto(pixels[block, :, channel], np.rint(levels, out=levels), casting="unsafe")
    return pixels


class LrSource(Protocol):
    """An LR image that is read in windows; it need not be in memory.

    Windows are asked for from left to right, then downwards; neighbors overlap. The rows asked for never go up
    again, except after memory ran out: then once, by at most one window.
    """

    @property
    def height(self) -> int:
        """LR pixels."""

    @property
    def width(self) -> int:
        """LR pixels."""

    def read(self, top: int, left: int, height: int, width: int) -> Window:
        """The window (3, height, width), RGB, in [0, 1]; it lies wholly within the image. Not to be written to."""


class ArraySource:
    """An image in memory as an `LrSource`."""

    def __init__(self, lr: ArrayLike) -> None:
        """lr: (1, 3, H, W) or (3, H, W), floats in [0, 1], of NumPy or of PyTorch on the CPU."""
        images = np.asarray(lr)
        image: Window = images[0] if images.ndim == 4 and images.shape[0] == 1 else images
        if image.ndim != 3 or image.shape[0] != 3 or image.size == 0:
            raise ValueError(f"An image is (1, 3, H, W) or (3, H, W) and not empty, got {images.shape}.")
        self._lr = image
        self.height: int = image.shape[1]
        self.width: int = image.shape[2]

    def read(self, top: int, left: int, height: int, width: int) -> Window:
        """The window (3, height, width) of the image in memory, in [0, 1]."""
        return self._lr[:, top : top + height, left : left + width]


class PixelSource:
    """Pixels as an `LrSource`: they become floats in windows, when these are asked for."""

    def __init__(self, pixels: Pixels) -> None:
        """pixels: (H, W, C), C = 1 or 3, uint8 or uint16; not copied."""
        self._pixels = pixels
        self.height, self.width, self.channels = pixels.shape

    def read(self, top: int, left: int, height: int, width: int) -> Window:
        """The window (3, height, width) in [0, 1]; gray is repeated."""
        return np.broadcast_to(self._planes(top, left, height, width), (3, height, width))

    def rows(self, top: int, bottom: int) -> NDArray[np.float32]:
        """Whole rows from `top` to `bottom`: (C, bottom - top, W) in [0, 1]."""
        return self._planes(top, 0, bottom - top, self.width)

    def _planes(self, top: int, left: int, height: int, width: int) -> NDArray[np.float32]:
        planes = to_planes(self._pixels[top : top + height, left : left + width])
        let_go(self._pixels)
        return planes


class TileRow:
    """The SR tiles of one row, put together when rows of them are asked for: its whole width is not held twice."""

    def __init__(
        self,
        windows: Iterable[tuple[Span, Window]],
        row: Span,
        cols: Cut,
        *,
        scale: int,
        above: Window,
        exact: bool = True,
    ) -> None:
        """windows: for each column span, in order, the whole SR window, (3, scale * h, scale * w).

        above: (3, n, W), what the row above made of the first n SR rows: it fades into these. exact: False: values are
        held in 16 bits, which is half the memory; they lie in [-0.5, 1.5], at most 0.004 levels of 255 off.
        """
        self.height = scale * (row.hi - row.lo)
        self._width = scale * cols.spans[-1].hi
        self._blocks: list[list[tuple[int, NDArray[Any]]]] = [[] for _ in range(0, self.height, _BLOCK_ROWS)]
        for col, window in windows:
            core = _core(window, row, col, scale)
            for index, block in enumerate(self._blocks):
                part = core[:, index * _BLOCK_ROWS : (index + 1) * _BLOCK_ROWS]
                block.append((scale * col.lo, _kept(part, exact=exact)))
        self._above = above

    def part(self, start: int, end: int) -> Window:
        """SR rows `start` to `end`, counted from the first: (3, end - start, W), in memory of their own."""
        rows, above = self._joined(start, end), self._above[:, start:end]
        shared, length = above.shape[1], self._above.shape[1]
        rows[:, :shared] = fade(above, rows[:, :shared], 1, start=start, length=length)
        return rows

    def drop(self, end: int) -> None:
        """Free what holds only rows before `end`: they are asked for no more."""
        for block in self._blocks[: end // _BLOCK_ROWS]:
            block.clear()
        if end >= self._above.shape[1]:
            self._above = self._above[:, :0].copy()

    def _joined(self, start: int, end: int) -> NDArray[np.floating[Any]]:
        dtype = _read(self._blocks[-1][0][1][:, :0]).dtype
        rows: NDArray[np.floating[Any]] = np.empty((3, end - start, self._width), dtype)
        for index in range(start // _BLOCK_ROWS, -(-end // _BLOCK_ROWS)):
            top = index * _BLOCK_ROWS
            first, last = max(start, top), min(end, top + _BLOCK_ROWS)
            self._join(index, slice(first - top, last - top), rows[:, first - start : last - start])
        return rows

    def _join(self, index: int, part: slice, rows: NDArray[np.floating[Any]]) -> None:
        """Rows of one block, into `rows`."""
        filled = 0
        for left, tile in self._blocks[index]:
            kept = _read(tile[:, part])
            shared = filled - left
            rows[:, :, left:filled] = fade(rows[:, :, left:filled], kept[:, :, :shared], 2)
            rows[:, :, filled : left + kept.shape[2]] = kept[:, :, shared:]
            filled = left + kept.shape[2]


def _core(window: Window, row: Span, col: Span, scale: int) -> Window:
    """The window without its halo, as a view."""
    top, left, height, width = (
        scale * px for px in (row.lo - row.start, col.lo - col.start, row.hi - row.lo, col.hi - col.lo)
    )
    return window[:, top : top + height, left : left + width]


def _kept(core: Window, *, exact: bool) -> NDArray[Any]:
    """The samples in memory of their own."""
    if exact:
        return core.copy()
    kept = np.empty(core.shape, np.int16)
    for values, held in zip(core, kept, strict=True):
        for block in row_blocks(values):
            steps = values[block] - np.float32(0.5)
            steps *= _STEPS
            np.rint(steps, out=steps)
            np.clip(steps, -_STEPS, _STEPS, out=steps)
            np.copyto(held[block], steps, casting="unsafe")
    return kept


def _read(kept: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """What `_kept` holds, as floats; black and white are exact."""
    if kept.dtype != np.int16:
        return kept
    values: NDArray[np.float32] = np.divide(kept, np.float32(_STEPS), dtype=np.float32)
    values += np.float32(0.5)
    return values


def fade(old: NDArray[Any], new: NDArray[Any], axis: int, *, start: int = 0, length: int | None = None) -> NDArray[Any]:
    """From `old` to `new` along `axis` on a raised cosine; where both are equal the result is exactly that value.

    start, length: where they lie along a fade of that length; None: they are all of it.
    """
    given = old.shape[axis]
    whole = given if length is None else length
    steps = (np.arange(start, start + given, dtype=old.dtype) + old.dtype.type(0.5)) / old.dtype.type(max(1, whole))
    weight = 0.5 - 0.5 * np.cos(math.pi * steps, dtype=old.dtype)
    shape = [1] * old.ndim
    shape[axis] = given
    faded: NDArray[Any] = old + weight.reshape(shape) * (new - old)
    return faded


@dataclass(frozen=True, kw_only=True)
class Band:
    """Finished rows of the SR image; values are floats near [0, 1], not clamped."""

    top: int
    """Index of the first row, SR pixels."""

    height: int
    """SR pixels."""

    tiles: TileRow
    """What they are the first rows of."""

    @property
    def rows(self) -> Window:
        """All of them, put together: (3, height, W)."""
        return self.tiles.part(0, self.height)


Progress = Callable[[int, int], None]
"""Takes the tiles done and the tiles in all. The total changes, and `done` may fall, when memory ran out."""
