"""From the samples of a picture to those of its result, a strip of rows at a time.

    network's bands -> strips -> drift measured -> colours follow -> mixed with the plain enlargement
                    -> consistency measured -> rounded into the result

Strips hold few rows, so what is computed beside the result itself stays small however large the picture; each stage
looks at what it needs above and below, so strips leave no seams.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from ddnsr_cli.images.alpha import fill_transparent
from ddnsr_cli.images.consistency import Consistency, Drift
from ddnsr_cli.images.edges import held_near, spread
from ddnsr_cli.images.enlarge import BILINEAR, Planes, enlarged_rows
from ddnsr_cli.images.follow import REACH_PX, slow_error
from ddnsr_cli.images.picture import Picture, Pixels
from ddnsr_cli.images.shrink import shrunk
from ddnsr_cli.images.tensors import to_pixels, to_tensor
from ddnsr_cli.inference import Upscaler
from ddnsr_cli.tiling import Band, TensorSource
from ddnsr_cli.workflows.upscaling.options import LookOptions, UpscaleListener

STRIP_ROWS = 32
"""LR rows of a strip."""

FOLLOWED_TIMES = 2
"""How often slow errors of colour are taken away. The first time leaves some at the borders of a picture, and makes
some: what it pushes beyond black or white is cut off when it is written, and a saturated colour gets another mean."""


@dataclass(frozen=True, kw_only=True)
class Faithfulness:
    """How a result relates to its input; see `images.consistency`."""

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


def enlarge_picture(
    picture: Picture, engine: Upscaler, look: LookOptions, listener: UpscaleListener
) -> tuple[Picture, Faithfulness]:
    """The picture enlarged by the network's scale: same depth, gray stays gray, alpha and metadata kept."""
    pixels = picture.pixels if picture.alpha is None else fill_transparent(picture.pixels, picture.alpha)
    larger, faithfulness = _enlarged(pixels, engine, look, listener)
    alpha = None if picture.alpha is None else _larger_alpha(picture.alpha, engine, look, listener)
    return replace(picture, pixels=larger, alpha=alpha), faithfulness


def _larger_alpha(alpha: Pixels, engine: Upscaler, look: LookOptions, listener: UpscaleListener) -> Pixels:
    """The alpha channel by the same network: edges as sharp as the picture's, flat areas as they were."""
    if alpha.min() == alpha.max():
        return spread(alpha, engine.scale)
    larger, _ = _enlarged(alpha[..., None], engine, replace(look, color_fix=False), listener)
    return held_near(larger[..., 0], alpha, engine.scale)


def _enlarged(
    pixels: Pixels, engine: Upscaler, look: LookOptions, listener: UpscaleListener
) -> tuple[Pixels, Faithfulness]:
    height, width, channels = pixels.shape
    lr = to_tensor(pixels)
    planes: Planes = lr[0, :channels].numpy()
    canvas: Pixels = np.empty((height * engine.scale, width * engine.scale, channels), pixels.dtype)
    drift, consistency = Drift(planes), Consistency()
    if look.strength > 0:
        bands = engine.bands(TensorSource(lr), on_tile=listener.tile, on_note=listener.note)
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
            # the channels of a gray picture are three estimates of one quantity, see `to_pixels`
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
    """Strips whose slow errors of colour are taken away; each waits until what it looks at below is there."""
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
    first, last = max(0, strip.top - 1), min(lr.shape[1], strip.bottom + 1)  # neighbours for the enlargement
    error = slow_error(result, lr, first, last)
    larger = enlarged_rows(error, strip.top - first, strip.bottom - first, scale=scale, how=BILINEAR)
    return _strip(strip.top, strip.sr - larger, scale)


def _mixed(strips: Iterator[Strip], lr: Planes, scale: int, strength: float) -> Iterator[Strip]:
    """The plain enlargement, moved by `strength` of the way towards the network's."""
    for strip in strips:
        plain = enlarged_rows(lr, strip.top, strip.bottom, scale=scale)
        yield _strip(strip.top, plain + np.float32(strength) * (strip.sr - plain), scale)


def _plain(lr: Planes, scale: int) -> Iterator[Strip]:
    """The plain enlargement alone, for which no network need run."""
    for top in range(0, lr.shape[1], STRIP_ROWS):
        bottom = min(lr.shape[1], top + STRIP_ROWS)
        yield _strip(top, enlarged_rows(lr, top, bottom, scale=scale), scale)
