"""Sizes of results, and bringing images to them; plain enlargement, and results shrunk to their input's size; alpha."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.io.image import Pixels, RasterImage, rounded

Planes = NDArray[np.float32]
"""(C, H, W), samples in [0, 1] or differences of such."""

KERNEL_REACH_PX = 2
"""How far the bicubic kernel looks beyond a pixel."""

MOST = (1 << 31) - 1
"""No format holds a longer side."""

BLOCK_BYTES = 1 << 19
"""Of rows worked on at a time, so that all that is made of them stays in the cache of one core."""


def row_blocks(planes: NDArray[Any], scale: int = 1) -> Iterator[slice]:
    """The rows of (C, H, W) or (H, W) in parts, each of some squares of `scale` rows, that suit a processor's cache."""
    height, width = planes.shape[-2:]
    step = scale * max(1, BLOCK_BYTES // (scale * width * planes.itemsize))
    return (slice(top, min(height, top + step)) for top in range(0, height, step))


def enlarged_rows(planes: Planes, top: int, bottom: int, *, scale: int) -> NDArray[np.float32]:
    """What rows `top` to `bottom` of the input become when the whole image is enlarged: (C, scale * rows, scale * W).

    Bicubic is that of Pillow and most programs (Keys' kernel with a = -0.5). Rows beyond the given ones are looked
    at, so strips put together are the image enlarged at once, at scales that are powers of two bit for bit.
    """
    how = Image.Resampling.BICUBIC
    height, width = planes.shape[1:]
    first, last = max(0, top - KERNEL_REACH_PX), min(height, bottom + KERNEL_REACH_PX)
    box = (0, top - first, scale * width, bottom - first)
    larger: list[NDArray[Any]] = []
    for plane in planes[:, first:last]:
        # across, then down, each by itself: asked for both, Pillow chooses the order by the shape
        wide = Image.fromarray(np.ascontiguousarray(plane)).resize((scale * width, last - first), how)
        larger.append(np.asarray(wide.resize((scale * width, scale * (bottom - top)), how, box=box)))
    return np.stack(larger)


def subtract_enlarged(sr: Planes, planes: Planes, top: int, *, scale: int) -> None:
    """Take the bilinear enlargement of LR planes (C, h, W) from SR rows (C, scale * rows, scale * W), in place.

    The SR rows are those that cover row `top` and what follows. One row more is looked at above and below; beyond the
    planes their border is repeated. Each row is computed for itself: strips leave no seams.
    """
    rows = sr.shape[1] // scale
    around = np.clip(np.arange(top - 1, top + rows + 1), 0, planes.shape[1] - 1)
    for larger, plane in zip(sr, planes[:, around], strict=True):
        wide = np.empty((rows + 2, scale * plane.shape[1]), np.float32)
        across = np.pad(plane, ((0, 0), (1, 1)), mode="edge").T
        for phase, values in enumerate(_phases(across, scale)):
            wide[:, phase::scale] = values.T
        for block in row_blocks(larger, scale):
            first, last = block.start // scale, block.stop // scale
            for phase, values in enumerate(_phases(wide[first : last + 2], scale)):
                larger[block][phase::scale] -= values


def _phases(values: NDArray[np.float32], scale: int) -> Iterator[NDArray[np.float32]]:
    """The `scale` values that stand for each but the first and last along the first axis, on the lines between them."""
    own = values[1:-1]
    for phase in range(scale):
        place = (phase + 0.5) / scale - 0.5  # where the value stands, from the middle of its own
        between = (values[2:] if place > 0 else values[:-2]) - own
        between *= np.float32(abs(place))
        between += own
        yield between


def shrunk(sr: Planes, scale: int) -> Planes:
    """The mean of the SR pixels that cover each LR pixel: (C, scale * h, scale * w) -> (C, h, w), in [0, 1].

    Values beyond black and white count as black and white: so they are written.
    """
    means: Planes = np.empty((sr.shape[0], sr.shape[1] // scale, sr.shape[2] // scale), np.float32)
    for plane, small in zip(sr, means, strict=True):
        for block in row_blocks(plane, scale):
            small[block.start // scale : block.stop // scale] = _square_means(plane[block], scale)
    return means


def _square_means(plane: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
    clamped = np.clip(plane, 0, 1)
    rows = _sum_of([clamped[phase::scale] for phase in (*range(1, scale), 0)])
    means = _sum_of([rows[:, phase::scale] for phase in (*range(1, scale), 0)])
    means /= np.float32(scale**2)
    return means


def _sum_of(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """In memory of its own, in the order given."""
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


@dataclass(frozen=True, kw_only=True)
class OutputSize:
    """How large a result is to be: one of these ways, or none for the network's own scale.

    Width and height may come together: then the result fits inside both and keeps its proportions.
    """

    scale: float | None = None
    """Times the input's sides."""

    width: int | None = None
    """Pixels across; the height follows."""

    height: int | None = None
    """Pixels down; the width follows."""

    long_side: int | None = None
    """Pixels of the longer side."""

    megapixels: float | None = None
    """Millions of pixels, about."""

    def __post_init__(self) -> None:
        values = {name: value for name, value in vars(self).items() if value is not None}
        for name, value in values.items():
            if isinstance(value, str) or not 0 < value <= MOST:
                raise ConfigError(f"{name.replace('_', ' ')} must be above 0, at most {MOST:,}, got {value}.")
        ways = {"width and height" if name in {"width", "height"} else name for name in values}
        if len(ways) > 1:
            raise ConfigError(f"The size is given in {len(ways)} ways ({', '.join(sorted(ways))}). Give one of them.")

    @property
    def ending(self) -> str:
        """What tells the size in the name of a result: `_x2.5`, `_1920px` for the longer side, `_1920w`, `_1080h`,
        `_1920x1080`, `_12mp`. Without a size it is `_x4`, whatever the network's own scale."""
        if self.width is not None and self.height is not None:
            return f"_{self.width}x{self.height}"
        named = {"w": self.width, "h": self.height, "px": self.long_side, "mp": self.megapixels}
        given = [f"_{value:.10g}{unit}" for unit, value in named.items() if value is not None]
        return given[0] if given else f"_x{4 if self.scale is None else self.scale:.10g}"

    def pixels(self, width: int, height: int, native_scale: int) -> tuple[int, int]:
        """(width, height) of the result for an input of `width` x `height`; rounded, each at least 1.

        native_scale: the network's, for when nothing is asked.
        """
        if self.width is not None or self.height is not None:
            return self._inside(width, height)
        if self.long_side is not None:
            return _scaled(width, height, self.long_side, max(width, height))
        if self.megapixels is not None:
            factor = math.sqrt(self.megapixels * 1e6 / (width * height))
        else:
            factor = self.scale if self.scale is not None else native_scale
        return _scaled(width, height, factor, 1)

    def _inside(self, width: int, height: int) -> tuple[int, int]:
        across = None if self.width is None else _scaled(width, height, self.width, width)
        down = None if self.height is None else _scaled(width, height, self.height, height)
        return min(size for size in (across, down) if size is not None)


def resize(image: RasterImage, width: int, height: int) -> RasterImage:
    """The image at `width` x `height` pixels: Lanczos, antialiased when it shrinks, rounded.

    Colors count by their alpha, so that what lies under transparency does not show at edges.
    """
    if image.alpha is None:
        return replace(image, pixels=resize_samples(image.pixels, width, height))
    alpha = resize_samples(image.alpha[..., None], width, height)[..., 0]
    return replace(image, pixels=_weighted(image.pixels, image.alpha, alpha), alpha=alpha)


def resize_samples(samples: Pixels, width: int, height: int) -> Pixels:
    """(H, W, C) to (height, width, C), each channel for itself; Lanczos, antialiased, rounded, same type."""
    if samples.shape[:2] == (height, width):
        return samples
    return _stacked(_each_channel(lambda plane: _resized(plane, width, height), samples), samples)


def _weighted(pixels: Pixels, alpha: Pixels, new_alpha: Pixels) -> Pixels:
    """Colors resized as alpha times color, then divided by the resized alpha; where that is 0, resized plainly."""
    height, width = new_alpha.shape
    weights = _resized(alpha, width, height)

    def weighted(plane: NDArray[Any]) -> NDArray[np.float32]:
        product = _resized(plane.astype(np.float32) * alpha, width, height)
        return np.divide(product, weights, out=_resized(plane, width, height), where=new_alpha > 0)

    return _stacked(_each_channel(weighted, pixels), pixels)


def _each_channel(work: Callable[[NDArray[Any]], NDArray[np.float32]], samples: Pixels) -> list[NDArray[np.float32]]:
    """`work` on every channel, side by side: Pillow lets go of the interpreter's lock."""
    with ThreadPoolExecutor(samples.shape[2]) as pool:
        return list(pool.map(work, (samples[..., channel] for channel in range(samples.shape[2]))))


def _resized(plane: NDArray[Any], width: int, height: int) -> NDArray[np.float32]:
    # not in 8 bits: Pillow would round and clip between its pass across and its pass down
    image = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.array(image.resize((width, height), Image.Resampling.LANCZOS))


def _stacked(planes: list[NDArray[np.float32]], like: Pixels) -> Pixels:
    """Planes (H, W) as samples (H, W, C) of the type of `like`."""
    return rounded(np.stack(planes, axis=2), like)


def _scaled(width: int, height: int, above: float, below: float) -> tuple[int, int]:
    """Both sides times above / below, rounded to the nearest (halves up), at least 1."""
    return max(1, math.floor(width * above / below + 0.5)), max(1, math.floor(height * above / below + 0.5))


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
