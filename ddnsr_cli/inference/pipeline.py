"""One image enlarged: the network and all that is done around it, a strip of rows at a time."""

import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from ddnsr_cli.errors import ConfigError, OutOfMemoryError
from ddnsr_cli.inference.memory import free_host_bytes
from ddnsr_cli.inference.tiling import Band, Progress, TensorSource, to_pixels, to_tensor
from ddnsr_cli.inference.upscaler import Note, Upscaler
from ddnsr_cli.io.image import Pixels, RasterImage
from ddnsr_cli.processing.alpha import fill_transparent, held_near, spread
from ddnsr_cli.processing.look import (
    MOST_DRIFT_LEVELS,
    REACH_PX,
    SQUARE_PX,
    Consistency,
    Drift,
    add_grain,
    grain_like,
    slow_error,
)
from ddnsr_cli.processing.resize import BILINEAR, Planes, enlarged_rows, resize, shrunk

MOST_GRAIN = 4.0
CANVAS_SHARE = 0.8  # of free memory: what a result may take before we refuse to begin
RESIZE_BYTES = 18  # a sample of a resized result while it is made: four times float32, once or twice itself
PLANE_BYTES = 16  # a sample of the input as float: for the network, and what each step of the result shrinks to

STRIP_ROWS = 32
"""LR rows of a strip."""

FOLLOWED_TIMES = 2
"""How often slow errors of color are taken away. The first time leaves some at the borders of an image, and makes
some: what it pushes beyond black or white is cut off when it is written, and a saturated color gets another mean."""

NO_NOISE = "it is too small, or too much of it is black or white, to tell its noise: no grain was added"


@dataclass(frozen=True, kw_only=True)
class LookOptions:
    """How a result looks beyond what the network does."""

    color_fix: bool = True
    """Let the low frequencies of the result follow the input's colors."""

    strength: float = 1.0
    """Share of the network in the result, 0 to 1; the rest is the plain bicubic enlargement of the input."""

    grain: float = 0.0
    """Grain laid over the result, in times of the input's noise; 0: none."""

    seed: int = 0
    """Of the grain."""

    to_srgb: bool = False
    """Convert the input's colors to sRGB by its profile."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ConfigError(f"strength must be 0 (plain enlargement) to 1 (the network), got {self.strength}.")
        if not 0 <= self.grain <= MOST_GRAIN:
            raise ConfigError(f"grain must be 0 (none) to {MOST_GRAIN:g} (times the noise), got {self.grain}.")
        if self.seed < 0:
            raise ConfigError(f"seed must be at least 0, got {self.seed}.")


class PixelsListener(Protocol):
    """Whom the work on an image tells."""

    @property
    def tile(self) -> Progress:
        """Takes the tiles done and the tiles in all."""

    @property
    def note(self) -> Note:
        """Takes one sentence for the user."""


@dataclass(frozen=True, kw_only=True)
class Faithfulness:
    """How a result relates to its input; see `processing.look`."""

    consistency_db: float | None
    drift_levels: float | None


@dataclass(frozen=True, kw_only=True, eq=False)  # arrays have no single answer to ==
class Strip:
    """Some rows of the result in the making, down to the full width."""

    top: int
    """LR row that the first one belongs to."""

    sr: Planes
    """(C, scale * rows, scale * W), near [0, 1]; C is 1 for gray."""

    small: Planes
    """The same shrunk to the input's size: (C, rows, W)."""

    @property
    def bottom(self) -> int:
        """LR row below the last."""
        return self.top + int(self.small.shape[1])


@dataclass(frozen=True, kw_only=True, eq=False)
class Upscaled:
    """A finished result."""

    image: RasterImage
    faithfulness: Faithfulness

    notes: tuple[str, ...]
    """What the user should hear of it."""


def upscale_image(
    image: RasterImage, engine: Upscaler, look: LookOptions, size: tuple[int, int], listener: PixelsListener
) -> Upscaled:
    """The image enlarged by the network, brought to `size`, (width, height) in pixels, and with grain if wanted."""
    larger, faithfulness = enlarge_image(image, engine, look, listener)
    notes = []
    if (faithfulness.drift_levels or 0) > MOST_DRIFT_LEVELS:
        notes.append(_has_left(faithfulness.drift_levels or 0, engine.name))
    if (larger.width, larger.height) != size:
        larger = resize(larger, *size)
    if look.grain and not _add_grain(larger, image, look):
        notes.append(NO_NOISE)
    return Upscaled(image=larger, faithfulness=faithfulness, notes=tuple(notes))


def enlarge_image(
    image: RasterImage, engine: Upscaler, look: LookOptions, listener: PixelsListener
) -> tuple[RasterImage, Faithfulness]:
    """The image enlarged by the network's scale: same depth, gray stays gray, alpha and metadata kept."""
    pixels = image.pixels if image.alpha is None else fill_transparent(image.pixels, image.alpha)
    larger, faithfulness = _enlarged(pixels, engine, look, listener)
    alpha = None if image.alpha is None else _larger_alpha(image.alpha, engine, look, listener)
    return replace(image, pixels=larger, alpha=alpha), faithfulness


def _larger_alpha(alpha: Pixels, engine: Upscaler, look: LookOptions, listener: PixelsListener) -> Pixels:
    """The alpha channel by the same network: edges as sharp as the image's, flat areas as they were."""
    if alpha.min() == alpha.max():
        return spread(alpha, engine.scale)
    larger, _ = _enlarged(alpha[..., None], engine, replace(look, color_fix=False), listener)
    return held_near(larger[..., 0], alpha, engine.scale)


def _enlarged(
    pixels: Pixels, engine: Upscaler, look: LookOptions, listener: PixelsListener
) -> tuple[Pixels, Faithfulness]:
    height, width, channels = pixels.shape
    lr = to_tensor(pixels)
    planes: Planes = lr[0, :channels].numpy()
    canvas: Pixels = np.empty((height * engine.scale, width * engine.scale, channels), pixels.dtype)
    drift, consistency = Drift(planes), Consistency()
    if look.strength > 0:
        deep = pixels.dtype == np.uint16
        bands = engine.bands(TensorSource(lr), deep=deep, on_tile=listener.tile, on_note=listener.note)
        strips = _looking_right(_measured(_cut(bands, engine.scale, channels), drift), planes, engine.scale, look)
    else:
        strips = _plain(planes, engine.scale)
    for strip in strips:
        consistency.add(strip.small, planes[:, strip.top : strip.bottom])
        rows = to_pixels(torch.from_numpy(strip.sr), dtype=pixels.dtype, gray=False)
        canvas[strip.top * engine.scale : strip.bottom * engine.scale] = rows
    return canvas, Faithfulness(consistency_db=consistency.db, drift_levels=drift.levels if look.strength > 0 else None)


def _cut(bands: Iterator[Band], scale: int, channels: int) -> Iterator[Strip]:
    """The bands of a network as strips of their own, so that no band outlives its turn."""
    for band in bands:
        rows = band.rows.to(torch.float32)
        for start in range(0, rows.shape[1], STRIP_ROWS * scale):
            part = rows[:, start : start + STRIP_ROWS * scale]
            # the channels of a gray image are three estimates of one quantity, see `to_pixels`
            sr = part.clone() if channels == 3 else part.mean(dim=0, keepdim=True)
            yield _strip((band.top + start) // scale, sr.numpy(), scale)
        del band, rows, part


def _strip(top: int, sr: Planes, scale: int) -> Strip:
    return Strip(top=top, sr=sr, small=shrunk(sr, scale))


def _measured(strips: Iterator[Strip], drift: Drift) -> Iterator[Strip]:
    for strip in strips:
        drift.add(strip.top, strip.small)
        yield strip


def _looking_right(strips: Iterator[Strip], lr: Planes, scale: int, look: LookOptions) -> Iterator[Strip]:
    for _ in range(FOLLOWED_TIMES if look.color_fix else 0):
        strips = _following(strips, lr, scale)
    return _mixed(strips, lr, scale, look.strength) if look.strength < 1 else strips


def _following(strips: Iterator[Strip], lr: Planes, scale: int) -> Iterator[Strip]:
    """Strips whose slow errors of color are taken away; each waits until what it looks at below is there."""
    result = np.empty_like(lr)
    waiting: deque[Strip] = deque()
    for strip in strips:
        result[:, strip.top : strip.bottom] = strip.small
        waiting.append(strip)
        while waiting and waiting[0].bottom + 1 + REACH_PX <= strip.bottom:
            yield _corrected(waiting.popleft(), result, lr, scale)
    while waiting:
        yield _corrected(waiting.popleft(), result, lr, scale)


def _corrected(strip: Strip, result: Planes, lr: Planes, scale: int) -> Strip:
    first, last = max(0, strip.top - 1), min(lr.shape[1], strip.bottom + 1)  # neighbors for the enlargement
    error = slow_error(result, lr, first, last)
    larger = enlarged_rows(error, strip.top - first, strip.bottom - first, scale=scale, how=BILINEAR)
    return _strip(strip.top, strip.sr - larger, scale)


def _mixed(strips: Iterator[Strip], lr: Planes, scale: int, strength: float) -> Iterator[Strip]:
    """The plain enlargement, moved by `strength` of the way toward the network's."""
    for strip in strips:
        plain = enlarged_rows(lr, strip.top, strip.bottom, scale=scale)
        yield _strip(strip.top, plain + np.float32(strength) * (strip.sr - plain), scale)


def _plain(lr: Planes, scale: int) -> Iterator[Strip]:
    """The plain enlargement alone, for which no network need run."""
    for top in range(0, lr.shape[1], STRIP_ROWS):
        bottom = min(lr.shape[1], top + STRIP_ROWS)
        yield _strip(top, enlarged_rows(lr, top, bottom, scale=scale), scale)


def _add_grain(larger: RasterImage, image: RasterImage, look: LookOptions) -> bool:
    """Grain as the input's noise asks for; another image gets another grain. False: its noise is not known."""
    grain = grain_like(image.pixels)
    if grain is None:
        return False
    content = zlib.crc32(np.ascontiguousarray(image.pixels).data)
    add_grain(larger.pixels, grain, amount=look.grain, seed=(look.seed, content))
    return True


def _has_left(drift_levels: float, model: str) -> str:
    return (
        f"{model} left the image: squares of {SQUARE_PX} x {SQUARE_PX} pixels changed by {drift_levels:.1f} levels "
        f"(more than {MOST_DRIFT_LEVELS:g} is no work of noise). Look at the result, or choose another model with -m"
    )


def result_bytes(image: RasterImage, size: tuple[int, int], scale: int) -> int:
    """Bytes for the result of an image, (width, height) in pixels, and all that is as long-lived as it.

    Not counted: the network's tiles and the bands they make, which follow what is free.
    """
    channels = image.pixels.shape[2] + image.has_alpha
    width, height = size
    need = image.pixels.itemsize * channels * image.width * image.height * scale**2
    need += PLANE_BYTES * channels * image.width * image.height
    if size != (image.width * scale, image.height * scale):
        need += channels * (RESIZE_BYTES * width * height + 4 * width * image.height * scale)  # the pass across
    return int(need)


def check_memory(image: RasterImage, size: tuple[int, int], scale: int, *, name: str) -> None:
    """Refuse a result that memory cannot hold: the system would end this program, or others, half-way.

    size: (width, height) of the result, pixels. scale: the network's. name: of the image, for the message. Raises
    OutOfMemoryError.
    """
    need = result_bytes(image, size, scale)
    if need > CANVAS_SHARE * free_host_bytes():
        raise OutOfMemoryError(
            f"{name}: a result of {size[0]} x {size[1]} pixels needs {need / 1e9:.1f} GB of memory, more than is free. "
            "Ask for a smaller one, crop the image, or use a machine with more."
        )
