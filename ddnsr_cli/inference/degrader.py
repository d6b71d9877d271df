"""Run a degrader over an HR image of any size, in windows of one grid, with the noise image cut alongside.

The grid follows from the image's size alone, never from free memory, so that no machine's tile size can show in the
result. A window's halo covers all that the network sees: a tiled result differs from an untiled one by rounding only.
"""

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import product
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddnsr_cli.config import SCALE
from ddnsr_cli.errors import OutOfMemoryError, WeightsError
from ddnsr_cli.inference.engine import usable_cores
from ddnsr_cli.inference.memory import free_host_bytes, is_out_of_memory, release_memory
from ddnsr_cli.inference.tiling import Span, TileConfig, TilePlan, as_pixels, plan_tiles, to_planes
from ddnsr_cli.nets.degrader import Degrader, DegraderConfig

TILE_PX = 160  # LR; a window with the full network's halo takes half a gigabyte, two fifths of it halo
MEMORY_SHARE = 0.5  # of what is free, for all workers together
IMAGE_BYTES = 256 << 20  # of each worker: a decoded image and what its writing takes

Levels = NDArray[np.uint8]
"""(H, W, 3), RGB."""

OnTile = Callable[[int, int], None]
"""Takes the tiles done and the tiles in all."""


class LevelsSource(Protocol):
    """An image that is read in windows, as 8-bit RGB."""

    @property
    def height(self) -> int:
        """Pixels of its own."""

    @property
    def width(self) -> int:
        """Pixels of its own."""

    def read(self, top: int, left: int, height: int, width: int) -> Levels:
        """The window (height, width, 3); it lies wholly within the image."""


class LevelsInMemory:
    """An array as a `LevelsSource`."""

    def __init__(self, levels: Levels) -> None:
        self.levels = levels
        self.height, self.width = levels.shape[:2]

    def read(self, top: int, left: int, height: int, width: int) -> Levels:
        """The window (height, width, 3) of the image in memory."""
        return self.levels[top : top + height, left : left + width]


class TiledDegrader:
    """A degrader ready for images of any size, in fp32. May be used from several threads at once."""

    def __init__(
        self,
        net: Degrader,
        *,
        device: torch.device,
        dual_input: bool = True,
        tile_px: int | None = TILE_PX,
        name: str = "the degrader",
    ) -> None:
        """The network is copied to `device`.

        dual_input: False for a network trained on zeros as its second input. tile_px: side of a tile without halo,
        LR pixels; None: untiled. name: of the weights, for messages. Raises OutOfMemoryError when the weights do not
        fit.
        """
        self._device = device
        self._dual_input = dual_input
        self._name = name
        self._tiles = TileConfig(tile_px=tile_px, halo_px=reach_px(net.config), blend_px=0)
        # One thread at a time on an accelerator, whose memory they would share; on a CPU each has its own core.
        self._turn: AbstractContextManager[object] = nullcontext() if device.type == "cpu" else threading.Lock()
        try:
            moved: Degrader = copy.deepcopy(net).to(device, torch.float32, memory_format=torch.channels_last)  # type: ignore[call-overload]
        except (RuntimeError, MemoryError) as error:
            raise self._no_memory("the weights", error) from error
        self._net = moved.eval().requires_grad_(False)

    def plan(self, height: int, width: int) -> TilePlan:
        """How a result of `height` x `width` LR pixels is cut."""
        return plan_tiles(height, width, self._tiles)

    def lr(self, hr: LevelsSource, noise: LevelsSource | None, *, on_tile: OnTile | None = None) -> Levels:
        """The LR partner of `hr`, clamped and rounded to whole levels.

        hr: sides are multiples of 4. noise: real noisy LR image of the result's size; None: zeros, as always for a
        network of a single input. Raises ValueError for sizes that do not fit, OutOfMemoryError when a window does
        not fit, WeightsError when the network gives values that are not finite.
        """
        height, width = hr.height // SCALE, hr.width // SCALE
        if (hr.height, hr.width) != (SCALE * height, SCALE * width) or not height * width:
            raise ValueError(f"hr must have sides that are multiples of {SCALE}, got {hr.width}x{hr.height}.")
        if noise is not None and (noise.height, noise.width) != (height, width):
            raise ValueError(f"noise must have {width}x{height} pixels, got {noise.width}x{noise.height}.")
        plan = self.plan(height, width)
        result = np.empty((height, width, 3), np.uint8)
        for done, (row, col) in enumerate(product(plan.rows.spans, plan.cols.spans), 1):
            window = self._window(hr, noise if self._dual_input else None, plan, row, col)
            kept = window[row.lo - row.start : row.hi - row.start, col.lo - col.start : col.hi - col.start]
            result[row.lo : row.hi, col.lo : col.hi] = kept
            if on_tile is not None:
                on_tile(done, plan.tiles)
        return result

    def _window(self, hr: LevelsSource, noise: LevelsSource | None, plan: TilePlan, row: Span, col: Span) -> Levels:
        """One window's result, halo included. Where memory runs out once, what PyTorch holds unused is given back."""
        shape = (row.start, col.start, plan.rows.size, plan.cols.size)
        hr_levels = hr.read(*(SCALE * px for px in shape))
        noise_levels = np.zeros((*shape[2:], 3), np.uint8) if noise is None else noise.read(*shape)
        try:
            return self._run(hr_levels, noise_levels)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        release_memory(self._device)  # only here: within the handler the traceback holds the failed tensors
        try:
            return self._run(hr_levels, noise_levels)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise self._no_memory(f"a tile of {plan.window_px} px", error) from error

    @torch.inference_mode()
    def _run(self, hr: Levels, noise: Levels) -> Levels:
        with self._turn, _same_sums(self._device):
            batch = [
                as_tensor(levels).to(self._device).contiguous(memory_format=torch.channels_last)
                for levels in (hr, noise)
            ]
            lr = self._net(*batch)[0].cpu()
        if not lr.isfinite().all():
            raise WeightsError(f"{self._name} gives values that are not finite: it is damaged. Use another with -m.")
        return as_levels(lr)

    def _no_memory(self, what: str, error: BaseException) -> OutOfMemoryError:
        reason = (str(error).splitlines() or ["no details"])[0]
        advice = "fewer --workers" if self._device.type == "cpu" else "--device cpu"
        return OutOfMemoryError(
            f"{self._device} has no memory for {what} of {self._name} ({reason}). Close other programs or use {advice}."
        )


def as_tensor(levels: Levels) -> Tensor:
    """(H, W, 3) as (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(to_planes(levels))[None]


def as_levels(image: Tensor) -> Levels:
    """(3, H, W), near [0, 1], on the CPU as (H, W, 3): clamped, then rounded."""
    return as_pixels(image.numpy(), np.uint8).astype(np.uint8, copy=False)


def reach_px(config: DegraderConfig) -> int:
    """LR pixels beyond its own that a pixel of the result sees, on each side.

    The last convolution, those that merge, and the four of the noise branch; those of the HR branch see less.
    """
    return 1 + (2 + 2 * config.blocks) + 4


def window_bytes(config: DegraderConfig) -> int:
    """Peak bytes of activations of a full window, checked by tests/bench/degrading.py.

    At HR size the branch goes from `features` to twice as many channels: 16 HR pixels an LR pixel.
    """
    side = TILE_PX + 2 * reach_px(config)
    return 4 * 16 * 3 * config.features * side**2


def default_workers(bytes_each: int, *, cores: int | None = None, free_bytes: int | None = None) -> int:
    """Threads for images: one a core, if memory has room for them. None: what this process may use, what is free."""
    cores = usable_cores() if cores is None else cores
    free_bytes = free_host_bytes() if free_bytes is None else free_bytes
    room = int(MEMORY_SHARE * free_bytes / (bytes_each + IMAGE_BYTES))
    return max(1, min(cores, room))


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Within, PyTorch computes on a CPU in the thread that asks: workers share the cores, and results do not depend on
    how many threads there are.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _same_sums(device: torch.device) -> AbstractContextManager[None]:
    """On CUDA: full fp32, as on a CPU, and one algorithm for one shape."""
    if device.type != "cuda":
        return nullcontext()
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return flags
