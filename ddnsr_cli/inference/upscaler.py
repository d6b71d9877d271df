"""An image of any size enlarged by a network that is run in windows: tiles in, finished bands of rows out."""

import copy
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ddnsr_cli.errors import OutOfMemoryError
from ddnsr_cli.inference.engine import BeginWindows, LaterWindows, Note, Runner, Window
from ddnsr_cli.inference.memory import give_back_freed, is_out_of_memory
from ddnsr_cli.inference.tiling import (
    Band,
    LrSource,
    Progress,
    Span,
    TileConfig,
    TilePlan,
    TileRow,
    plan_tiles,
)
from ddnsr_cli.nets.config import SrTraits

LEAST_HALO_PX = 16  # tiles fade over part of it, which in shallow networks would lack what they look at
LEAST_TILE_PX = 32  # below it the halo costs many times the core
MOST_TILE_PX_CPU = 256  # measured by tests/bench/tiling.py: larger tiles take memory and win little
LOW_TILE_SHARE = 0.75  # of that side, where rows are few: with all of it 100 megapixels take 1.4 times what one takes
HALOS_ALONG_A_TILE = 12  # on a CPU, where that makes a larger tile: else the halo is most of the work
MOST_TILE_PX_GPU = 512  # from here on the halo costs less than a seventh
MOST_BAND_BYTES = 80 << 20  # of SR rows as wide as the image, of which two are in memory: one in work, one handed out
MEMORY_SHARE = 0.6  # of what is free: the rest is for cuDNN's workspaces, fragments and other programs


@dataclass(frozen=True)
class _NoMemory:
    """Memory ran out: a result like another, which the loop answers with smaller tiles."""

    reason: str


class Upscaler:
    """A network ready to enlarge images of any size on one device.

    Not for use from two threads at once; see `beside`.
    """

    def __init__(self, runner: Runner, traits: SrTraits, *, tiles: TileConfig, name: str) -> None:
        """runner: of a network of these traits. name: of the weights, for messages."""
        self.name = name
        self._runner = runner
        self._traits = traits
        least = max(self._traits.halo_px, LEAST_HALO_PX, tiles.blend_px)
        halo_px = least if tiles.halo_px is None else tiles.halo_px
        self._halo_px = halo_px
        self._tiles = replace(tiles, halo_px=halo_px, tile_px=tiles.tile_px if self._traits.tiles else None)
        self._is_beside = False
        self._largest_px = sys.maxsize  # what memory bore; learnt once, kept for the images that follow

    @property
    def scale(self) -> int:
        """SR pixels per LR pixel along a side."""
        return self._traits.scale

    @property
    def device(self) -> str:
        """See `Runner`."""
        return self._runner.device

    @property
    def kind(self) -> str:
        """That of the device: `cpu`, `cuda`."""
        return self.device.partition(":")[0]

    @property
    def dtype(self) -> str:
        """See `Runner`."""
        return self._runner.dtype

    @property
    def by_openvino(self) -> bool:
        """Whether OpenVINO runs the network."""
        return self._runner.by_openvino

    @property
    def threads(self) -> int:
        """See `Runner`."""
        return self._runner.threads

    @property
    def is_beside(self) -> bool:
        """Whether others of its kind work in other threads: what surrounds the network then needs none of its own."""
        return self._is_beside

    def use_threads(self, threads: int) -> None:
        """See `Runner`."""
        self._runner.use_threads(threads)

    def beside(self, threads: int) -> "Upscaler":
        """The same for another thread, the one that asks. Raises what `Runner.beside` raises."""
        other = copy.copy(self)
        other._runner = self._runner.beside(threads)
        other._is_beside = True
        return other

    def fit(self, pixels: int) -> int:
        """How many images of so many LR pixels, each one window, there is memory for at a time."""
        need = pixels * network_bytes_per_px(self._traits, self._runner.held_bytes())
        return int(MEMORY_SHARE * self._runner.free_bytes() / need)

    def plan(self, height: int, width: int) -> TilePlan:
        """How an image of `height` x `width` LR pixels would be cut now, with the memory that is free now."""
        return plan_tiles(height, width, self._sized(height, width), align=self._traits.align)

    def bands(
        self,
        source: LrSource,
        *,
        deep: bool = False,
        exact: bool = True,
        on_tile: Progress | None = None,
        on_note: Note | None = None,
    ) -> Iterator[Band]:
        """The SR image as bands of rows from top to bottom, each finished; together they are the image.

        Held at a time: one row of tiles, and the rows in which it fades into the next. When memory runs out the
        tile is halved, and work goes on below the rows already given. deep: see `Runner.begin`. exact: see
        `TileRow`.
        Raises OutOfMemoryError when the least tile does not fit, and what `Runner.begin` raises.
        """
        meter = _Meter(on_tile)
        note = on_note if on_note is not None else _ignore
        begin = partial(self._runner.begin, on_note=note, deep=deep)
        tiles = self._sized(source.height, source.width, deep=deep, exact=exact)
        done = 0
        tail: Window = np.empty((3, 0, source.width * self.scale), np.float32)
        while done < source.height:
            plan = plan_tiles(
                source.height,
                source.width,
                tiles,
                align=self._traits.align,
                done=done,
                tail=tail.shape[1] // self.scale,
            )
            meter.expect(plan.tiles)
            for row, until in _rows(plan, source.height):
                made = self._row(begin, source, plan, row, tail, meter, exact=exact)
                if isinstance(made, _NoMemory):
                    tiles = self._halved(tiles, plan, made.reason, note)
                    break
                band = Band(top=self.scale * row.lo, height=self.scale * (until - row.lo), tiles=made)
                tail = made.part(band.height, made.height)
                done = until
                del made
                yield band
                del band  # else it lives on while the next row is made
                if done < source.height:
                    give_back_freed()  # what is kept lies scattered, and the next row would not fit into it

    def _row(
        self,
        begin: BeginWindows,
        source: LrSource,
        plan: TilePlan,
        row: Span,
        tail: Window,
        meter: "_Meter",
        *,
        exact: bool,
    ) -> TileRow | _NoMemory:
        """The SR tiles of one row, into which `tail` fades, or word that memory ran out."""
        meter.start_row()
        try:
            batch, ahead = self._batch(plan), self._runner.ahead
            windows = _windows(begin, source, plan, row, meter, batch=batch, ahead=ahead)
            return TileRow(windows, row, plan.cols, scale=self.scale, above=tail, exact=exact)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            lost = _NoMemory((str(error).splitlines() or ["no details"])[0])
        # Only here: within the handler the traceback still holds every tensor of the failed tile.
        self._runner.release()
        return lost

    def _batch(self, plan: TilePlan) -> int:
        """How many windows are begun as one batch: until memory runs out, as many as keep the device busy."""
        window_px = plan.rows.size * plan.cols.size
        if self._largest_px < sys.maxsize or 2 * window_px > self._runner.batch_px:
            return 1
        return max(1, min(self._runner.batch_px // window_px, self.fit(window_px)))

    def _sized(self, height: int, width: int, *, deep: bool = False, exact: bool = False) -> TileConfig:
        """The tile options with a size in pixels."""
        row_bytes = (4 if exact else 2) * 3 * self.scale**2 * width  # of what an LR row becomes
        side, rows = self._tiles.tile_px, None
        if side is None:
            side = max(height, width)
        elif side == 0:
            rows = max(LEAST_TILE_PX, MOST_BAND_BYTES // row_bytes)
            side = self._side_that_fits(height, width, rows, row_bytes, deep=deep)
        return replace(self._tiles, tile_px=min(side, self._largest_px), rows_px=rows)

    def _side_that_fits(self, height: int, width: int, rows: int, row_bytes: int, *, deep: bool) -> int:
        per_px = network_bytes_per_px(self._traits, self._runner.held_bytes(deep=deep))
        budget = MEMORY_SHARE * self._runner.free_bytes()
        for side in range(self._most_px(rows), LEAST_TILE_PX, -16):
            wide, high = side + 2 * self._halo_px, min(side, rows) + 2 * self._halo_px
            need = per_px * min(high, height) * min(wide, width)
            if self.kind == "cpu":  # the network shares the memory with two bands
                need += 2 * min(high, height) * row_bytes
            if need <= budget:
                return side
        return LEAST_TILE_PX

    def _most_px(self, rows: int) -> int:
        """The largest side of a tile of at most so many rows, whatever memory there is."""
        if self.kind != "cpu":
            return MOST_TILE_PX_GPU
        side = max(MOST_TILE_PX_CPU, HALOS_ALONG_A_TILE * self._halo_px // 16 * 16)
        return side if 2 * rows >= side else int(LOW_TILE_SHARE * side) // 16 * 16

    def _halved(self, tiles: TileConfig, plan: TilePlan, reason: str, note: Note) -> TileConfig:
        """Half the tile, from the size that was really in use. Raises OutOfMemoryError at the least one."""
        side = tiles.tile_px or 0
        if plan.tiles == 1:
            side = min(side, plan.window_px - 2 * self._halo_px)
        if side <= LEAST_TILE_PX:
            elsewhere = "" if self.kind == "cpu" else ", or use --device cpu"
            raise OutOfMemoryError(
                f"{self.device} has no memory for a tile of {plan.window_px} px with its halo ({reason}). "
                f"Close other programs{elsewhere}."
            )
        half = max(LEAST_TILE_PX, side // 16 * 8)
        self._largest_px = half
        note(f"Out of memory with tiles of {side} px: going on with {half} px.")
        return replace(tiles, tile_px=half)


def _windows(
    begin: BeginWindows, source: LrSource, plan: TilePlan, row: Span, meter: "_Meter", *, batch: int, ahead: int
) -> Iterator[tuple[Span, Window]]:
    """The SR windows of a row, `batch` at a time; while some are waited for, `ahead` batches more are begun."""
    begun: deque[tuple[Sequence[Span], LaterWindows]] = deque()

    def first() -> Iterator[tuple[Span, Window]]:
        cols, windows = begun.popleft()
        for made in zip(cols, windows(), strict=True):
            yield made
            meter.tick()

    for start in range(0, len(plan.cols.spans), batch):
        cols = plan.cols.spans[start : start + batch]
        lrs = [source.read(row.start, col.start, plan.rows.size, plan.cols.size) for col in cols]
        begun.append((cols, begin(lrs)))
        if len(begun) > ahead:
            yield from first()
    while begun:
        yield from first()


class _Meter:
    """Counts tiles for the progress callback; a row that failed is taken back."""

    def __init__(self, on_tile: Progress | None) -> None:
        self._on_tile = on_tile
        self._done = 0
        self._finished = 0  # as of the last whole row
        self._total = 0

    def expect(self, tiles: int) -> None:
        """`tiles` more are to come after the rows that are finished."""
        self._total = self._finished + tiles
        self._done = self._finished

    def start_row(self) -> None:
        """The rows before are finished."""
        self._finished = self._done

    def tick(self) -> None:
        """One more tile is done."""
        self._done += 1
        if self._on_tile is not None:
            self._on_tile(self._done, self._total)


def network_bytes_per_px(traits: SrTraits, value_bytes: int) -> int:
    """Peak bytes of activations per LR pixel of a window, weights not counted; checked by tests/bench/tiling.py.

    value_bytes: of one activation.
    """
    image = 3 * 3 + 3 * traits.scale**2  # the input, padded and folded; the result
    fragments = 1.2  # what allocators take beyond the sum
    return int((fragments * traits.values_per_px + image) * value_bytes)


def _rows(plan: TilePlan, height: int) -> Iterator[tuple[Span, int]]:
    """Each row span with the LR row where the next begins: rows before that are finished with this one."""
    spans = plan.rows.spans
    yield from zip(spans, [*(span.lo for span in spans[1:]), height], strict=True)


def _ignore(_message: str) -> None:
    pass
