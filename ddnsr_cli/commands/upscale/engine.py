"""The network of a run, ready on its device, and what its images will take of time and memory."""

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ddnsr_cli.commands.upscale.options import UpscaleListener, UpscaleOptions
from ddnsr_cli.errors import ImageWriteError
from ddnsr_cli.inference.device import choose_device, choose_dtype
from ddnsr_cli.inference.tiling import TensorSource, TilePlan, to_tensor
from ddnsr_cli.inference.upscaler import Upscaler
from ddnsr_cli.io.image import RasterImage
from ddnsr_cli.io.write import WriteOptions, write_image
from ddnsr_cli.weights.checkpoint import load_sr_net
from ddnsr_cli.weights.registry import read_registry
from ddnsr_cli.weights.resolve import find_weights

_PROC = Path("/proc/self")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A network, and which one it is."""

    upscaler: Upscaler
    device: torch.device

    model: str
    """How the user calls it."""

    sha256: str
    """Of its weights file."""


def start_engine(options: UpscaleOptions, listener: UpscaleListener) -> Engine:
    """Find the weights, fetch them if need be, and bring the network to the device.

    Raises WeightsError, HubError and DeviceError as the parts do.
    """
    device = choose_device(options.device)
    registry, on_gpu = read_registry(), device.type != "cpu"
    weights = find_weights(
        options.model, registry=registry, on_gpu=on_gpu, offline=options.offline, on_progress=listener.download
    )
    if options.model is None and on_gpu and weights.name != registry.default.name:
        listener.note(f"{device} runs {weights.name}; -m {registry.default.name} is quicker.")
    if weights.terms:
        listener.note(weights.terms)
    net, _ = load_sr_net(weights.path)
    upscaler = Upscaler(
        net,
        device=device,
        dtype=choose_dtype(device, options.dtype),
        tiles=options.tiles,
        tta=options.tta,
        name=weights.name,
    )
    dtype = str(upscaler.dtype).removeprefix("torch.")
    listener.detail(f"model {weights.name} ({weights.path}), on {device}, in {dtype}")
    return Engine(upscaler=upscaler, device=device, model=weights.name, sha256=weights.sha256)


@dataclass(frozen=True, kw_only=True)
class TileCost:
    """What one tile took."""

    seconds_per_lr_px: float
    """Of a tile, its halo included."""

    writing_seconds_per_px: float
    """Of the result; 0 where it could not be tried."""

    tile_bytes: int
    """Peak of the host's memory, or of the device's where the network runs there."""

    def seconds(self, plan: TilePlan, result_px: int) -> float:
        """For an image cut as `plan` says, with so many pixels of result."""
        tile_px = plan.rows.size * plan.cols.size
        return plan.tiles * tile_px * self.seconds_per_lr_px + result_px * self.writing_seconds_per_px


def measure_tile(image: RasterImage, engine: Engine, target: Path, options: UpscaleOptions) -> TileCost:
    """Run the network over one tile of an image, and write what comes out into a temporary folder, in vain."""
    upscaler, device = engine.upscaler, engine.device
    plan = upscaler.plan(image.height, image.width)
    part = replace(image, pixels=image.pixels[: plan.rows.size, : plan.cols.size].copy(), alpha=None)
    source = TensorSource(to_tensor(part.pixels))
    if device.type != "cpu":  # the first run on a device chooses its kernels
        upscaler.whole(to_tensor(part.pixels))
    seconds = 0.0

    def run() -> None:
        nonlocal seconds
        start = time.perf_counter()
        if options.look.strength > 0:
            for _ in upscaler.bands(source):
                pass
        seconds = time.perf_counter() - start

    peak = _peak_bytes(device, run)
    larger = replace(part, pixels=part.pixels.repeat(upscaler.scale, axis=0).repeat(upscaler.scale, axis=1))
    return TileCost(
        seconds_per_lr_px=seconds / (part.width * part.height),
        writing_seconds_per_px=_writing_seconds(larger, target, options.write) / (larger.width * larger.height),
        tile_bytes=peak,
    )


def _writing_seconds(image: RasterImage, target: Path, options: WriteOptions) -> float:
    with suppress(OSError, ImageWriteError), tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_image(image, Path(folder) / f"tile{target.suffix}", options)
        return time.perf_counter() - start
    return 0.0


def _peak_bytes(device: torch.device, work: Callable[[], None]) -> int:
    """What `work` takes at its peak beyond what was in use; 0 where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device)
    before = None
    if sys.platform == "linux":
        with suppress(OSError):
            (_PROC / "clear_refs").write_text("5")  # the high-water mark starts again
            before = _status_bytes("VmRSS")
    work()
    return 0 if before is None else max(0, _status_bytes("VmHWM") - before)


def _status_bytes(name: str) -> int:
    lines = (_PROC / "status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
