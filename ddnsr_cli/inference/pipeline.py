"""One image enlarged: the network and all that is done around it, a strip of rows at a time."""

import queue
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np

from ddnsr_cli.errors import ConfigError, OutOfMemoryError
from ddnsr_cli.files import UNINTERRUPTED
from ddnsr_cli.inference.engine import Note
from ddnsr_cli.inference.memory import free_host_bytes
from ddnsr_cli.inference.tiling import Band, PixelSource, Progress, as_pixels
from ddnsr_cli.inference.upscaler import Upscaler
from ddnsr_cli.io.image import ImageRows, Pixels, RasterImage
from ddnsr_cli.processing.look import (
    MOST_DRIFT_LEVELS,
    REACH_PX,
    SQUARE_PX,
    Consistency,
    Drift,
    GrainLayer,
    grain_like,
    slow_error,
)
from ddnsr_cli.processing.resize import (
    KERNEL_REACH_PX,
    Planes,
    enlarged_rows,
    fill_transparent,
    held_near,
    resize,
    shrunk,
    spread,
    subtract_enlarged,
)

MOST_GRAIN = 4.0
CANVAS_SHARE = 0.8  # of free memory: what a result may take before we refuse to begin
RESIZE_BYTES = 18  # a sample of a resized result while it is made: four times float32, once or twice itself
_STRIPS_HELD = 8  # two waiting for each time that colors are followed, one in work with what it is made from

STRIP_PX = 1 << 16
"""LR pixels of a strip, about: high ones cost less, as each looks at rows beyond its own, low ones take less memory."""

LEAST_STRIP_ROWS, MOST_STRIP_ROWS = 4, 128

_SEEN_ROWS = REACH_PX + 1
"""How many LR rows above and below a strip its colors follow."""

Item = TypeVar("Item")
Result = TypeVar("Result")

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
    if (larger.width, larger.height) != size:
        larger = resize(larger, *size)
    grain = _grain(image, larger.width, look)
    if grain is not None:
        grain.lay_on(larger.pixels)
    return Upscaled(image=larger, faithfulness=faithfulness, notes=_notes(faithfulness, engine, look, grain))


def upscale_rows(
    image: RasterImage,
    engine: Upscaler,
    look: LookOptions,
    listener: PixelsListener,
    use: Callable[[ImageRows], Result],
) -> tuple[Result, Faithfulness, tuple[str, ...]]:
    """The same at the network's own scale for an image without alpha, its rows given to `use` as they are finished.

    The result is never whole in memory. `use` runs in another thread, beside the network, and its own result is given
    back with how the image relates to its input and what the user should hear. What it raises is raised here.
    """
    grain = _grain(image, image.width * engine.scale, look)

    def use_rows(bands: Iterator[Pixels]) -> Result:
        rows = ImageRows(
            width=image.width * engine.scale,
            height=image.height * engine.scale,
            channels=image.channels,
            depth_bits=image.depth_bits,
            bands=_errors_marked(bands if grain is None else map(grain.over, bands)),
            metadata=image.metadata,
        )
        return use(rows)

    try:
        result, faithfulness = _enlarged(image.pixels, engine, look, listener, use_rows)
    except _RowsError as error:
        raise error.reason from error.reason.__cause__
    return result, faithfulness, _notes(faithfulness, engine, look, grain)


class _RowsError(Exception):
    """An error in the making of rows, which is none of their writing."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _errors_marked(bands: Iterator[Pixels]) -> Iterator[Pixels]:
    try:
        yield from bands
    except Exception as error:
        raise _RowsError(error) from error


def _notes(faith: Faithfulness, engine: Upscaler, look: LookOptions, grain: GrainLayer | None) -> tuple[str, ...]:
    drift = faith.drift_levels or 0
    notes = [_has_left(drift, engine.name)] if drift > MOST_DRIFT_LEVELS else []
    return (*notes, NO_NOISE) if look.grain and grain is None else tuple(notes)


def enlarge_image(
    image: RasterImage, engine: Upscaler, look: LookOptions, listener: PixelsListener
) -> tuple[RasterImage, Faithfulness]:
    """The image enlarged by the network's scale: same depth, gray stays gray, alpha and metadata kept."""
    pixels = image.pixels if image.alpha is None else fill_transparent(image.pixels, image.alpha)
    runs = network_runs(image, look)
    colors, opacity = (_RunListener(listener=listener, run=run, runs=runs) for run in (0, 1))
    larger, faithfulness = _whole(pixels, engine, look, colors)
    alpha = None if image.alpha is None else _larger_alpha(image.alpha, engine, look, opacity)
    return replace(image, pixels=larger, alpha=alpha, notes=(), damage=""), faithfulness  # those are the input's


def network_runs(image: RasterImage, look: LookOptions) -> int:
    """How often the network goes over an image: for its colors, and once more for an alpha channel that varies."""
    if look.strength == 0:
        return 0
    return 1 if image.alpha is None or _is_flat(image.alpha) else 2


def _is_flat(alpha: Pixels) -> bool:
    return bool(alpha.min() == alpha.max())


@dataclass(frozen=True, kw_only=True)
class _RunListener:
    """Hears of one run of several over an image, and tells of all their tiles."""

    listener: PixelsListener
    run: int
    runs: int

    def tile(self, done: int, total: int) -> None:
        self.listener.tile(self.run * total + done, self.runs * total)

    def note(self, text: str) -> None:
        self.listener.note(text)


def _larger_alpha(alpha: Pixels, engine: Upscaler, look: LookOptions, listener: PixelsListener) -> Pixels:
    """The alpha channel by the same network: edges as sharp as the image's, flat areas as they were."""
    if _is_flat(alpha):
        return spread(alpha, engine.scale)
    larger, _ = _whole(alpha[..., None], engine, replace(look, color_fix=False), listener)
    return held_near(larger[..., 0], alpha, engine.scale)


def _whole(
    pixels: Pixels, engine: Upscaler, look: LookOptions, listener: PixelsListener
) -> tuple[Pixels, Faithfulness]:
    height, width, channels = pixels.shape
    canvas: Pixels = np.empty((height * engine.scale, width * engine.scale, channels), pixels.dtype)

    def fill(bands: Iterator[Pixels]) -> None:
        top = 0
        for band in bands:
            canvas[top : top + len(band)] = band
            top += len(band)

    _, faithfulness = _enlarged(pixels, engine, look, listener, fill)
    return canvas, faithfulness


def _enlarged(
    pixels: Pixels,
    engine: Upscaler,
    look: LookOptions,
    listener: PixelsListener,
    use: Callable[[Iterator[Pixels]], Result],
) -> tuple[Result, Faithfulness]:
    """The network over the pixels in this thread; another finishes what it makes, a third gives the bands to `use`.

    Where other images are enlarged meanwhile this thread does it all. Else `use` is never in this thread, where a stop
    signal is heard: an encoder does not come back from its library before the last row.
    """
    finish = _Finish(pixels, engine.scale, look)
    if look.strength == 0:
        plain = finish.plain()
        result = use(plain) if engine.is_beside else handed_over(plain, lambda ready, _: use(ready))
        return result, finish.faithfulness
    deep = pixels.dtype == np.uint16
    bands = engine.bands(PixelSource(pixels), deep=deep, exact=deep, on_tile=listener.tile, on_note=listener.note)
    if engine.is_beside:
        return use(finish.finished(bands)), finish.faithfulness

    def finished(made: Iterator[Band], check: Callable[[], None]) -> Result:
        return handed_over(_checked(finish.finished(made), check), lambda ready, _: use(ready))

    return handed_over(bands, finished), finish.faithfulness


def _checked(bands: Iterator[Pixels], check: Callable[[], None]) -> Iterator[Pixels]:
    for band in bands:
        check()
        yield band


class _Finish:
    """From what a network made to the pixels of the result, from top to bottom."""

    def __init__(self, pixels: Pixels, scale: int, look: LookOptions) -> None:
        self._lr = PixelSource(pixels)
        self._dtype = pixels.dtype
        self._scale = scale
        self._look = look
        self._drift = Drift(*pixels.shape)
        self._consistency = Consistency()

    @property
    def faithfulness(self) -> Faithfulness:
        """Of the rows so far."""
        return Faithfulness(
            consistency_db=self._consistency.db, drift_levels=self._drift.levels if self._look.strength > 0 else None
        )

    def finished(self, bands: Iterator[Band]) -> Iterator[Pixels]:
        """The bands of a network over the whole image as bands of pixels."""
        strips = self._measured(_cut(bands, self._scale, self._lr.width, self._lr.channels))
        for _ in range(FOLLOWED_TIMES if self._look.color_fix else 0):
            strips = _following(strips, self._lr, self._scale)
        if self._look.strength < 1:
            strips = _mixed(strips, self._lr, self._scale, self._look.strength)
        return self._in_pixels(strips)

    def plain(self) -> Iterator[Pixels]:
        """The plain enlargement alone, for which no network need run."""
        return self._in_pixels(_plain(self._lr, self._scale))

    def _measured(self, strips: Iterator[Strip]) -> Iterator[Strip]:
        for strip in strips:
            self._drift.add(strip.top, strip.small, self._lr.rows(strip.top, strip.bottom))
            yield strip

    def _in_pixels(self, strips: Iterator[Strip]) -> Iterator[Pixels]:
        for strip in strips:
            self._consistency.add(strip.small, self._lr.rows(strip.top, strip.bottom))
            yield as_pixels(strip.sr, self._dtype)


def _cut(bands: Iterator[Band], scale: int, width: int, channels: int) -> Iterator[Strip]:
    """The bands of a network as strips of their own, so that no band outlives its turn."""
    for band in bands:
        step = scale * _strip_rows(width)
        for start in range(0, band.height, step):
            part: Planes = band.tiles.part(start, min(band.height, start + step)).astype(np.float32, copy=False)
            # the channels of a gray image are three estimates of one quantity, see `as_pixels`
            sr = part if channels == 3 else part.mean(axis=0, keepdims=True)
            yield _strip((band.top + start) // scale, sr, scale)
            del part, sr
            band.tiles.drop(start + step)
        del band


def _strip_rows(width: int) -> int:
    return min(MOST_STRIP_ROWS, max(LEAST_STRIP_ROWS, STRIP_PX // width))


def _strip(top: int, sr: Planes, scale: int) -> Strip:
    return Strip(top=top, sr=sr, small=shrunk(sr, scale))


def _following(strips: Iterator[Strip], lr: PixelSource, scale: int) -> Iterator[Strip]:
    """Strips whose slow errors of color are taken away; each waits until what it looks at below is there."""
    waiting: deque[Strip] = deque()
    above: Planes = np.empty((lr.channels, 0, lr.width), np.float32)
    for strip in strips:
        waiting.append(strip)
        while waiting and waiting[0].bottom + _SEEN_ROWS <= strip.bottom:
            yield _corrected(waiting, above, lr, scale)
            above = _last_rows(above, waiting.popleft().small)
    while waiting:
        yield _corrected(waiting, above, lr, scale)
        above = _last_rows(above, waiting.popleft().small)


def _last_rows(above: Planes, small: Planes) -> Planes:
    rows: Planes = np.concatenate((above, small), axis=1)[:, -_SEEN_ROWS:]
    return rows


def _corrected(waiting: Sequence[Strip], above: Planes, lr: PixelSource, scale: int) -> Strip:
    """The first of the waiting strips. above: what those before it shrink to, as far as it looks."""
    strip = waiting[0]
    result: Planes = np.concatenate((above, *(below.small for below in waiting)), axis=1)
    start = strip.top - above.shape[1]
    planes = lr.rows(start, start + result.shape[1])
    first, last = max(0, strip.top - 1), min(lr.height, strip.bottom + 1)  # neighbors for the enlargement
    error = slow_error(result, planes, first - start, last - start)
    subtract_enlarged(strip.sr, error, strip.top - first, scale=scale)
    return _strip(strip.top, strip.sr, scale)


def _mixed(strips: Iterator[Strip], lr: PixelSource, scale: int, strength: float) -> Iterator[Strip]:
    """The plain enlargement, moved by `strength` of the way toward the network's."""
    for strip in strips:
        plain = _plain_rows(lr, strip.top, strip.bottom, scale)
        yield _strip(strip.top, plain + np.float32(strength) * (strip.sr - plain), scale)


def _plain(lr: PixelSource, scale: int) -> Iterator[Strip]:
    step = _strip_rows(lr.width)
    for top in range(0, lr.height, step):
        yield _strip(top, _plain_rows(lr, top, min(lr.height, top + step), scale), scale)


def _plain_rows(lr: PixelSource, top: int, bottom: int, scale: int) -> Planes:
    first, last = max(0, top - KERNEL_REACH_PX), min(lr.height, bottom + KERNEL_REACH_PX)
    return enlarged_rows(lr.rows(first, last), top - first, bottom - first, scale=scale)


def _grain(image: RasterImage, width: int, look: LookOptions) -> GrainLayer | None:
    """Grain as the input's noise asks for; another image gets another grain. None: none is wanted, or its noise is not
    known.

    width: of the result, pixels.
    """
    like = grain_like(_seen_part(image)) if look.grain else None
    if like is None:
        return None
    content = zlib.crc32(np.ascontiguousarray(image.pixels).data)
    white = np.iinfo(image.pixels.dtype).max
    return GrainLayer(like, width, white=white, amount=look.grain, seed=(look.seed, content))


def _seen_part(image: RasterImage) -> Pixels:
    """The least part that holds all but transparent pixels, below which any colors may lie: within it these are black,
    in which no noise is looked for."""
    if image.alpha is None or not image.alpha.any():
        return image.pixels
    rows, cols = (np.flatnonzero(image.alpha.any(axis=axis)) for axis in (1, 0))
    part = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
    seen = image.pixels[part].copy()
    seen[image.alpha[part] == 0] = 0
    return seen


def _has_left(drift_levels: float, model: str) -> str:
    return (
        f"{model} left the image: squares of {SQUARE_PX} x {SQUARE_PX} pixels changed by {drift_levels:.1f} levels "
        f"(more than {MOST_DRIFT_LEVELS:g} is no work of noise). Look at the result, or choose another model with -m"
    )


def result_bytes(image: RasterImage, size: tuple[int, int], scale: int, *, in_rows: bool = False) -> int:
    """Bytes for the result of an image, (width, height) in pixels, and all that is as long-lived as it.

    in_rows: it is written as it is made, and never whole in memory. Not counted: the network's tiles and the bands
    they make, which follow what is free.
    """
    channels = image.channels + image.has_alpha
    if in_rows:
        return 4 * channels * image.width * _strip_rows(image.width) * scale**2 * _STRIPS_HELD
    width, height = size
    need = image.pixels.itemsize * channels * image.width * image.height * scale**2
    if size != (image.width * scale, image.height * scale):
        need += channels * (RESIZE_BYTES * width * height + 4 * width * image.height * scale)  # the pass across
    return int(need)


def check_memory(image: RasterImage, size: tuple[int, int], scale: int, *, name: str, in_rows: bool = False) -> None:
    """Refuse a result that memory cannot hold: the system would end this program, or others, half-way.

    size: (width, height) of the result, pixels. scale: the network's. name: of the image, for the message. in_rows:
    see `result_bytes`. Raises OutOfMemoryError.
    """
    need = result_bytes(image, size, scale, in_rows=in_rows)
    if need > CANVAS_SHARE * free_host_bytes():
        raise OutOfMemoryError(
            f"{name}: a result of {size[0]} x {size[1]} pixels needs {need / 1e9:.1f} GB of memory, more than is free. "
            "Ask for a smaller one, crop the image, or use a machine with more."
        )


class _BrokenOffError(Exception):
    """The thread that makes the items has met an error: no more will come."""


class _End:
    """Behind the last item."""


END = _End()


def handed_over(items: Iterator[Item], use: Callable[[Iterator[Item], Callable[[], None]], Result]) -> Result:
    """Make items in this thread while `use` takes them in another; gives what `use` gives.

    use: takes the items, and a function to be called now and then, which raises when this thread has met an error: an
    item may be long in use, and nobody is to wait for that after a stop signal.

    There are two items at most at a time: one in use, the other waiting or in the making. An error on either side ends
    both and is raised here, and so is a stop signal. The other thread has always ended when this returns.
    """
    waiting: queue.SimpleQueue[Item | _End] = queue.SimpleQueue()
    asked = threading.Semaphore(0)
    broken = threading.Event()
    outcome: Future[Result] = Future()

    def check() -> None:
        if broken.is_set():
            raise _BrokenOffError

    def run() -> None:
        try:
            outcome.set_result(use(_taken(waiting, asked, check), check))
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that asks for the outcome
            outcome.set_exception(error)
        asked.release()  # else the other thread would wait for ever

    thread, all_given = threading.Thread(target=run, daemon=True), False

    def close() -> None:
        if thread.is_alive():
            if not all_given:
                broken.set()
            waiting.put(END)
            thread.join()

    try:
        with UNINTERRUPTED:
            thread.start()
        for item in items:
            asked.acquire()
            if outcome.done():
                break
            waiting.put(item)
            del item  # else it lives on while the next one is made
        all_given = True
    finally:
        try:
            with UNINTERRUPTED:
                close()
        finally:
            close()
    return outcome.result()


def _taken(
    waiting: "queue.SimpleQueue[Item | _End]", asked: threading.Semaphore, check: Callable[[], None]
) -> Iterator[Item]:
    while True:
        asked.release()
        item = waiting.get()
        check()
        if isinstance(item, _End):
            return
        yield item
        del item
