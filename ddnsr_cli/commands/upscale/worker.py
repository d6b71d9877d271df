"""One image, from its file to the file of its result: a strip of rows at a time."""

import time
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ddnsr_cli.commands.upscale.engine import Engine
from ddnsr_cli.commands.upscale.jobs import Job, Settings, Source, mark_result, mark_sheet, sheet_of, source_of
from ddnsr_cli.commands.upscale.options import LookOptions, UpscaleListener, UpscaleOptions, Written
from ddnsr_cli.errors import ImageReadError
from ddnsr_cli.inference.memory import give_back_freed
from ddnsr_cli.inference.tiling import Band, TensorSource, to_pixels, to_tensor
from ddnsr_cli.inference.upscaler import Upscaler
from ddnsr_cli.io.formats import holds_alpha, shown
from ddnsr_cli.io.image import Picture, Pixels, to_srgb
from ddnsr_cli.io.read import read_picture
from ddnsr_cli.io.write import write_picture
from ddnsr_cli.processing.alpha import fill_transparent, held_near, spread
from ddnsr_cli.processing.color_fix import REACH_PX, slow_error
from ddnsr_cli.processing.consistency import MOST_DRIFT_LEVELS, SQUARE_PX, Consistency, Drift
from ddnsr_cli.processing.contact_sheet import comparison
from ddnsr_cli.processing.grain import add_grain, noise_of
from ddnsr_cli.processing.resize import BILINEAR, Planes, enlarged_rows, resize, shrunk

STRIP_ROWS = 32
"""LR rows of a strip."""

FOLLOWED_TIMES = 2
"""How often slow errors of colour are taken away. The first time leaves some at the borders of a picture, and makes
some: what it pushes beyond black or white is cut off when it is written, and a saturated colour gets another mean."""

NO_NOISE = "it is too small, or too much of it is black or white, to tell its noise: no grain was added"


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A picture that was read, and how large its result will be."""

    job: Job
    source: Source
    picture: Picture

    size: tuple[int, int]
    """Width and height of the result, pixels."""

    notes: tuple[str, ...]
    """What the user should hear before the work."""

    since: float
    """When work on it began, `time.perf_counter`."""


def prepare(job: Job, options: UpscaleOptions, scale: int) -> Prepared:
    """Read the picture of a job and bring it into the form that the network takes. Raises ImageReadError."""
    give_back_freed()  # by the picture before
    since = time.perf_counter()
    try:
        picture, source = read_picture(job.source, max_pixels=options.max_pixels), source_of(job.source)
    except OSError as error:
        raise ImageReadError(f"{shown(job.source)} went away while it was read ({error.strerror}).") from error
    if options.look.to_srgb:
        picture = to_srgb(picture)
    picture = _without_idle_alpha(picture, job.target)
    size = options.size.pixels(picture.width, picture.height, scale)
    return Prepared(job=job, source=source, picture=picture, size=size, notes=picture.notes, since=since)


def make(
    prepared: Prepared, engine: Engine, options: UpscaleOptions, settings: Settings, listener: UpscaleListener
) -> Written:
    """Enlarge a picture and write the result, and its sheet if one is wanted. Raises ImageWriteError and others."""
    job, told = prepared.job, _Told(prepared.job.source, listener)
    told.say(*prepared.notes)
    larger, faithfulness = enlarge_picture(prepared.picture, engine.upscaler, options.look, listener)
    listener.detail(f"{shown(job.source)}: {_in_words(faithfulness)}")
    if (faithfulness.drift_levels or 0) > MOST_DRIFT_LEVELS:
        told.say(_has_left(faithfulness.drift_levels or 0, engine.model))
    if (larger.width, larger.height) != prepared.size:
        larger = resize(larger, *prepared.size)
    if options.look.grain and not _add_grain(larger, prepared.picture, options.look):
        told.say(NO_NOISE)
    sheet = _write_sheet(prepared, larger, engine.model, settings) if options.compare else None
    mark = partial(mark_result, source=prepared.source, settings=settings)
    told.say(*write_picture(larger, job.target, options.write, finish=mark))
    return Written(
        input=job.source,
        output=job.target,
        width=larger.width,
        height=larger.height,
        seconds=time.perf_counter() - prepared.since,
        consistency_db=faithfulness.consistency_db,
        drift_levels=faithfulness.drift_levels,
        sheet=sheet,
        notes=tuple(told.sentences),
    )


class _Told:
    """What the user was told about a picture: nothing twice."""

    def __init__(self, source: Path, listener: UpscaleListener) -> None:
        self._source = source
        self._listener = listener
        self.sentences: list[str] = []

    def say(self, *notes: str) -> None:
        for note in notes:
            if note not in self.sentences:
                self.sentences.append(note)
                self._listener.note(f"{shown(self._source)}: {note}")


def _write_sheet(prepared: Prepared, larger: Picture, model: str, settings: Settings) -> Path:
    """Written before the result: where the result is, the sheet is, whenever the program was ended."""
    sheet = sheet_of(prepared.job.target)
    mark = partial(mark_sheet, source=prepared.source, settings=settings)
    write_picture(comparison(prepared.picture, larger, model), sheet, finish=mark)
    return sheet


def _add_grain(larger: Picture, picture: Picture, look: LookOptions) -> bool:
    """Grain as the input's noise asks for; another picture gets another grain. False: that noise is not to be told."""
    noise = noise_of(picture.pixels)
    if noise is None:
        return False
    content = zlib.crc32(np.ascontiguousarray(picture.pixels).data)
    add_grain(larger.pixels, noise, amount=look.grain, seed=(look.seed, content))
    return True


def _in_words(faithfulness: Faithfulness) -> str:
    near, drift = faithfulness.consistency_db, faithfulness.drift_levels
    consistency = "consistency exact" if near is None else f"consistency {near:.1f} dB"
    return consistency if drift is None else f"{consistency}, drift {drift:.1f} levels"


def _has_left(drift_levels: float, model: str) -> str:
    return (
        f"{model} left the picture: squares of {SQUARE_PX} x {SQUARE_PX} pixels changed by {drift_levels:.1f} levels "
        f"(more than {MOST_DRIFT_LEVELS:g} is no work of noise). Look at the result, or choose another model with -m"
    )


def _without_idle_alpha(picture: Picture, target: Path) -> Picture:
    """An alpha channel that is opaque everywhere is no loss where the format holds none: screenshots have such."""
    if picture.alpha is None or holds_alpha(target) or picture.alpha.min() < np.iinfo(picture.alpha.dtype).max:
        return picture
    return replace(picture, alpha=None)
