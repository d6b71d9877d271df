"""Run a network over an image of any size: tiles on the device, finished bands off it."""

import copy
import math
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from ddnsr_cli.errors import ImageReadError, OutOfMemoryError, WeightsError
from ddnsr_cli.inference.device import Backend, CudaBackend, GraphedNet, PlainBackend, probe
from ddnsr_cli.inference.memory import bound_kernels, free_bytes, is_out_of_memory, release_memory
from ddnsr_cli.inference.tiling import (
    Band,
    LrSource,
    Progress,
    Span,
    TensorSource,
    TileConfig,
    TilePlan,
    TileRow,
    plan_tiles,
)
from ddnsr_cli.nets.bf16 import held_dtype, narrowed
from ddnsr_cli.nets.blocks import VIEWS, SrNet, SrTraits, as_view, undone_view

Note = Callable[[str], None]
"""Takes one line to tell the user."""

LaterWindows = Callable[[], list[Tensor]]
"""Waits for SR windows, and gives them."""

BeginWindows = Callable[[Sequence[Tensor]], LaterWindows]
"""From LR windows to what waits for their SR windows, as `WindowRunner.begin`."""

LEAST_HALO_PX = 16  # tiles fade over part of it, which in shallow networks would lack what they look at
LEAST_TILE_PX = 32  # below it the halo costs many times the core
MOST_TILE_PX_CPU = 256  # measured by tests/bench/tiling.py: larger tiles take memory and win little
HALOS_ALONG_A_TILE = 12  # on a CPU, where that makes a larger tile: else the halo is most of the work
MOST_TILE_PX_GPU = 512  # from here on the halo costs less than a seventh
MOST_BAND_BYTES = 96 << 20  # of SR rows as wide as the image, of which two are in memory: one in work, one handed out
MEMORY_SHARE = 0.6  # of what is free: the rest is for cuDNN's workspaces, fragments and other programs


class WindowRunner:
    """A network on a device, in the number format that it bears.

    In half precision it is probed once, and kept in fp32 beside: a window that comes out with NaN or infinity is
    computed again in fp32. A note to the user is given once.
    """

    def __init__(
        self,
        net: SrNet,
        *,
        device: torch.device,
        dtype: torch.dtype,
        tta: bool,
        name: str,
        openvino: bool = False,
        backend: Backend | None = None,
    ) -> None:
        """The network is copied: the caller's stays as it is. dtype: fp16, bf16, fp32 or fp64. See `Upscaler`.

        bf16 on a CPU is for parts of the network, see `nets.bf16`. backend: how the device is given its work; None:
        as suits it.
        """
        self.device = device
        self._backend = backend or (CudaBackend(device) if device.type == "cuda" else PlainBackend(device))
        self._tta = tta
        self._name = name
        self._noted: set[str] = set()
        self._memory_format = net.traits.memory_format
        self._wide = torch.promote_types(dtype, torch.float32)
        if dtype not in (self._wide, *net.traits.half_formats):
            dtype = self._wide
        self._wrong_half = ""
        with _room_for(name, device):
            self._full = self._prepared(_on_device(net, device, self._wide))
            self._quick, held, self.by_openvino = self._full, held_dtype(self._full), False
            for quick in self._candidates(net, device, dtype, openvino=openvino):
                if probe(quick[0], self._full, device, _input_dtype(quick[0])):
                    self._quick, held, self.by_openvino = quick
                    break
        self.dtype = self._wide if self._quick is self._full else dtype
        if self.dtype != dtype:
            self._wrong_half = f"{_short(dtype)} gives wrong values on {device}: computing in fp32."
        self.held_dtype = held
        """Of what takes most of the memory: the feature maps of HR size."""

    def _candidates(
        self, net: SrNet, device: torch.device, dtype: torch.dtype, *, openvino: bool
    ) -> Iterator[tuple[nn.Module, torch.dtype, bool]]:
        """What may be quicker than the network in fp32, the quickest first, with what it holds, and if by OpenVINO."""
        if openvino and dtype in (torch.bfloat16, torch.float32):
            from ddnsr_cli.inference.openvino import openvino_net

            fast = openvino_net(self._full, narrow=dtype == torch.bfloat16)
            if fast is not None:
                yield fast, fast.held_dtype, True
        if dtype != self._wide:
            half = _on_device(net, device, dtype)
            yield self._prepared(half), held_dtype(half), False

    def _prepared(self, net: nn.Module) -> nn.Module:
        # to record the views of a window, which are eight images of one or two shapes, pays for no single one
        return net if self._tta else self._backend.prepared(net)

    @property
    def ahead(self) -> int:
        """How many windows may be begun before the first of them is waited for: as long, the device need not wait."""
        return self._backend.ahead

    @property
    def batch_px(self) -> int:
        """LR pixels of all windows that are begun as one batch; 0: they are begun one by one."""
        return self._backend.batch_px

    def release(self) -> None:
        """Give the device all memory back that is not needed."""
        for net in (self._quick, self._full):
            if isinstance(net, GraphedNet):
                net.forget()
        release_memory(self.device)

    def beside(self) -> "WindowRunner":
        """The same for another thread. PyTorch's network is shared, OpenVINO's is compiled for the thread that asks."""
        other = copy.copy(self)
        if self.by_openvino:
            from ddnsr_cli.inference.openvino import OpenvinoNet

            assert isinstance(self._quick, OpenvinoNet)
            other._quick = self._quick.beside()
        return other

    def run(self, lr: Tensor, on_note: Note, *, deep: bool = False) -> Tensor:
        """LR window to SR window on the CPU: (3, h, w) in [0, 1] -> (3, scale * h, scale * w), fp32 or wider.

        deep: the result is to have more than 8 bits, which bf16 has not. Raises WeightsError when the result is not
        finite even in fp32, ImageReadError when the image is not.
        """
        return self.begin([lr], on_note, deep=deep)()[0]

    def begin(self, lrs: Sequence[Tensor], on_note: Note, *, deep: bool = False) -> LaterWindows:
        """Begin what `run` does, with windows of one shape as one batch.

        A GPU then works while this thread goes on; what is given back waits for it.
        """
        if self._wrong_half:
            self._note_once(self._wrong_half, on_note)
        net = self._full if deep and self.dtype == torch.bfloat16 else self._quick
        begun = self._begun(net, lrs)

        def finished() -> list[Tensor]:
            return [self._finished(sr, net, lr, on_note) for sr, lr in zip(begun(), lrs, strict=True)]

        return finished

    def _finished(self, sr: Tensor | None, net: nn.Module, lr: Tensor, on_note: Note) -> Tensor:
        """One SR window. sr: what the network made of it, None where a value is not finite."""
        if sr is None and self.dtype != self._wide and net is not self._full:
            message = f"{_short(self.dtype)} overflows in {self._name}: tiles where it does are computed in fp32."
            self._note_once(message, on_note)
            (sr,) = self._begun(self._full, [lr])()
        if sr is None:
            if not lr.isfinite().all():
                raise ImageReadError("The image holds values that are not finite (NaN or infinity). Mend it first.")
            raise WeightsError(f"{self._name} gives values that are not finite: the weights are damaged. Use others.")
        return sr

    @torch.inference_mode()
    def _begun(self, net: nn.Module, lrs: Sequence[Tensor]) -> Callable[[], list[Tensor | None]]:
        """What waits for the SR windows; it gives None for one with a value that is not finite."""
        batch = self._backend.to_device(torch.stack(tuple(lrs)), _input_dtype(net))
        batch = batch.contiguous(memory_format=self._memory_format)
        sr = (self._mean_of_views(net, batch) if self._tta else net(batch)).to(self._wide)
        totals, images = self._backend.to_host(sr.sum(dim=(1, 2, 3))), self._backend.to_host(sr)

        def wait() -> list[Tensor | None]:  # a sum is finite where all values are
            finite = [math.isfinite(total) for total in totals()]
            return [image if is_finite else None for image, is_finite in zip(images(), finite, strict=True)]

        return wait

    def _mean_of_views(self, net: nn.Module, batch: Tensor) -> Tensor:
        """The mean over the eight flips and quarter turns, each undone after the network."""
        total: Tensor | int = 0
        for view in range(VIEWS):
            total = total + undone_view(net(as_view(batch, view)).to(self._wide), view)
        return torch.as_tensor(total) / VIEWS

    def _note_once(self, message: str, on_note: Note) -> None:
        if message not in self._noted:
            self._noted.add(message)
            on_note(message)


@contextmanager
def _room_for(name: str, device: torch.device) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"{device} has no room for {name}. Close other programs, or use --device cpu."
        ) from error


def _on_device(net: SrNet, device: torch.device, dtype: torch.dtype) -> nn.Module:
    narrow = device.type == "cpu" and dtype == torch.bfloat16
    moved: SrNet = copy.deepcopy(net).to(  # type: ignore[call-overload]
        device, torch.float32 if narrow else dtype, memory_format=net.traits.memory_format
    )
    ready = narrowed(moved) if narrow else moved
    return ready.eval().requires_grad_(False)


def _input_dtype(net: nn.Module) -> torch.dtype:
    """The format of what comes in first and goes out last; on a CPU what is between may have a narrower one."""
    return next(net.parameters()).dtype


def _short(dtype: torch.dtype) -> str:
    return {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(dtype, str(dtype))


@dataclass(frozen=True)
class _NoMemory:
    """Memory ran out: a result like another, which the loop answers with smaller tiles."""

    reason: str


class Upscaler:
    """A network ready to enlarge images of any size on one device.

    Not for use from two threads at once; see `beside`.
    """

    def __init__(
        self,
        net: SrNet,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        tiles: TileConfig,
        tta: bool = False,
        name: str = "the network",
        openvino: bool = False,
        backend: Backend | None = None,
    ) -> None:
        """The network is copied to `device`.

        dtype: number format to compute in; half precision falls back to fp32 where it fails. tta: mean over the
        eight flips and quarter turns of every tile, eight times the work. name: of the weights, for messages.
        openvino: let that package run it, where it can. The result is as near to that in fp32 as PyTorch's. backend:
        see `WindowRunner`.
        Raises OutOfMemoryError when not even the weights fit.
        """
        bound_kernels()
        self.name = name
        self._runner = WindowRunner(
            net, device=device, dtype=dtype, tta=tta, name=name, openvino=openvino, backend=backend
        )
        self._traits = net.traits
        least = max(self._traits.halo_px, LEAST_HALO_PX, tiles.blend_px)
        halo_px = least if tiles.halo_px is None else tiles.halo_px
        self._halo_px = halo_px
        self._tiles = replace(tiles, halo_px=halo_px, tile_px=tiles.tile_px if self._traits.tiles else None)
        self._largest_px = sys.maxsize  # what memory bore; learnt once, kept for the images that follow

    @property
    def scale(self) -> int:
        """SR pixels per LR pixel along a side."""
        return self._traits.scale

    @property
    def dtype(self) -> torch.dtype:
        """The number format in use, which may be wider than the one asked for."""
        return self._runner.dtype

    @property
    def by_openvino(self) -> bool:
        """Whether OpenVINO runs the network."""
        return self._runner.by_openvino

    def beside(self) -> "Upscaler":
        """The same for another thread, by as many threads of the processor as PyTorch may use in the one that asks.

        Raises MemoryError or RuntimeError where OpenVINO does not get what it needs.
        """
        other = copy.copy(self)
        other._runner = self._runner.beside()
        return other

    def fit(self, pixels: int) -> int:
        """How many images of so many LR pixels, each one window, there is memory for at a time."""
        need = pixels * network_bytes_per_px(self._traits, self._runner.held_dtype)
        return int(MEMORY_SHARE * free_bytes(self._runner.device) / need)

    def plan(self, height: int, width: int) -> TilePlan:
        """How an image of `height` x `width` LR pixels would be cut now, with the memory that is free now."""
        return plan_tiles(height, width, self._sized(height, width), align=self._traits.align)

    def whole(self, lr: Tensor) -> Tensor:
        """The SR image in one tensor: (1, 3, H, W) in [0, 1] -> (1, 3, scale * H, scale * W), on the CPU."""
        bands = [band.rows for band in self.bands(TensorSource(lr))]
        return (bands[0] if len(bands) == 1 else torch.cat(bands, dim=1)).unsqueeze(0)

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
        tile is halved, and work goes on below the rows already given. deep: see `WindowRunner.run`. exact: see
        `TileRow`.
        Raises OutOfMemoryError when the least tile does not fit, and what `WindowRunner.run` raises.
        """
        meter = _Meter(on_tile)
        note = on_note if on_note is not None else _ignore
        begin = partial(self._runner.begin, on_note=note, deep=deep)
        tiles = self._sized(source.height, source.width, deep=deep, exact=exact)
        done, tail = 0, torch.empty(3, 0, source.width * self.scale)
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

    def _row(
        self,
        begin: BeginWindows,
        source: LrSource,
        plan: TilePlan,
        row: Span,
        tail: Tensor,
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
        device = self._runner.device
        held = torch.promote_types(self._runner.held_dtype, torch.float32) if deep else self._runner.held_dtype
        per_px = network_bytes_per_px(self._traits, held)
        budget = MEMORY_SHARE * free_bytes(device)
        most = max(MOST_TILE_PX_CPU, HALOS_ALONG_A_TILE * self._halo_px // 16 * 16)
        for side in range(most if device.type == "cpu" else MOST_TILE_PX_GPU, LEAST_TILE_PX, -16):
            wide, high = side + 2 * self._halo_px, min(side, rows) + 2 * self._halo_px
            need = per_px * min(high, height) * min(wide, width)
            if device.type == "cpu":  # the network shares the memory with two bands
                need += 2 * min(high, height) * row_bytes
            if need <= budget:
                return side
        return LEAST_TILE_PX

    def _halved(self, tiles: TileConfig, plan: TilePlan, reason: str, note: Note) -> TileConfig:
        """Half the tile, from the size that was really in use. Raises OutOfMemoryError at the least one."""
        side = tiles.tile_px or 0
        if plan.tiles == 1:
            side = min(side, plan.window_px - 2 * self._halo_px)
        if side <= LEAST_TILE_PX:
            elsewhere = "" if self._runner.device.type == "cpu" else ", or use --device cpu"
            raise OutOfMemoryError(
                f"{self._runner.device} has no memory for a tile of {plan.window_px} px with its halo ({reason}). "
                f"Close other programs{elsewhere}."
            )
        half = max(LEAST_TILE_PX, side // 16 * 8)
        self._largest_px = half
        note(f"Out of memory with tiles of {side} px: going on with {half} px.")
        return replace(tiles, tile_px=half)


def _windows(
    begin: BeginWindows, source: LrSource, plan: TilePlan, row: Span, meter: "_Meter", *, batch: int, ahead: int
) -> Iterator[tuple[Span, Tensor]]:
    """The SR windows of a row, `batch` at a time; while some are waited for, `ahead` batches more are begun."""
    begun: deque[tuple[Sequence[Span], LaterWindows]] = deque()

    def first() -> Iterator[tuple[Span, Tensor]]:
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


def network_bytes_per_px(traits: SrTraits, dtype: torch.dtype) -> int:
    """Peak bytes of activations per LR pixel of a window, weights not counted; checked by tests/bench/tiling.py."""
    image = 3 * 3 + 3 * traits.scale**2  # the input, padded and folded; the result
    fragments = 1.2  # what allocators take beyond the sum
    return int((fragments * traits.values_per_px + image) * dtype.itemsize)


def _rows(plan: TilePlan, height: int) -> Iterator[tuple[Span, int]]:
    """Each row span with the LR row where the next begins: rows before that are finished with this one."""
    spans = plan.rows.spans
    yield from zip(spans, [*(span.lo for span in spans[1:]), height], strict=True)


def _ignore(_message: str) -> None:
    pass
