"""What tiles cost: time, memory and distance from the untiled image. Run by hand:

    python tests/bench/tiling.py --weights net.safetensors --image image.png

Without weights the network is the start of a training with a trunk made ten times stronger; without an image the LR
image is noise over slopes. Tables first, one JSON line last. On a CPU the seconds are CPU-seconds of one thread, and
the ratios hold within one run only.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from ddnsr_cli.inference.device import choose_device
from ddnsr_cli.inference.net_upscaler import NetUpscaler
from ddnsr_cli.inference.tiling import ArraySource, TileConfig
from ddnsr_cli.inference.upscaler import network_bytes_per_px
from ddnsr_cli.nets.config import CompactConfig, RRDBConfig, SrConfig
from ddnsr_cli.nets.rrdb import RRDBNet, start_as_nearest
from ddnsr_cli.weights.checkpoint import load_own_net
from ddnsr_cli.weights.layouts import OwnNet, build

CPU = torch.device("cpu")

TILES = (96, 128, 192, 256, 384, 512)
HALOS = ((0, 0), (4, 2), (8, 4), (12, 4), (16, 4), (16, 8), (24, 8), (32, 8))  # halo, blend
PEAKS = (  # blocks and convolutions do not add to the peak
    *(RRDBConfig(features=features, blocks=1, growth=growth) for features, growth in ((64, 32), (32, 16), (16, 64))),
    *(RRDBConfig(blocks=1, scale=scale) for scale in (2, 1)),
    *(CompactConfig(features=features, convs=2) for features in (64, 24)),
    *(CompactConfig(features=features, convs=2, scale=scale) for features, scale in ((64, 1), (8, 8))),
)


def network(weights: Path | None) -> OwnNet:
    return untrained(RRDBConfig(features=32, blocks=4, growth=16)) if weights is None else load_own_net(weights)[0]


def untrained(config: RRDBConfig) -> RRDBNet:
    net = RRDBNet(config)
    start_as_nearest(net, torch.Generator().manual_seed(0))
    for weight in (*net.body.parameters(), net.conv_body.weight):
        weight.data.mul_(10)
    return net


def drawn_image(path: Path | None, side: int) -> Tensor:
    """(1, 3, side, side); an image is cropped, or repeated by mirroring."""
    if path is None:
        slope = torch.linspace(0.1, 0.8, side)
        noise = 0.05 * torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        return ((slope.view(-1, 1) + slope) / 2 + noise).clamp(0, 1)
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        rgb = np.asarray(image.convert("RGB"))
    height, width = rgb.shape[:2]
    rgb = np.pad(rgb, ((0, max(0, side - height)), (0, max(0, side - width)), (0, 0)), mode="symmetric")
    return torch.from_numpy(rgb[:side, :side].copy()).permute(2, 0, 1).unsqueeze(0) / 255


def clock(device: torch.device) -> float:
    if device.type == "cpu":
        return time.process_time()  # other work on the machine does not count
    getattr(torch, device.type).synchronize()
    return time.perf_counter()


def seconds(upscaler: NetUpscaler, lr: Tensor, device: torch.device) -> float:
    start = clock(device)
    upscaler.whole(lr)
    return clock(device) - start


def time_rows(net: OwnNet, lr: Tensor, device: torch.device, rounds: int) -> list[dict[str, float | None]]:
    """Seconds per tile size; the sizes take turns, so that a busy moment does not hit one of them only."""
    sizes = (None, *(tile for tile in TILES if tile < lr.shape[-1]))
    ready = {size: NetUpscaler(net, device=device, tiles=TileConfig(tile_px=size)) for size in sizes}
    ready[TILES[0]].whole(lr[..., :64, :64])
    times = {size: [] for size in sizes}
    for _ in range(rounds):
        for size in sizes:
            times[size].append(seconds(ready[size], lr, device))
    untiled = statistics.median(times[None])
    rows: list[dict[str, float | None]] = []
    for size in sizes:
        median = statistics.median(times[size])
        plan = ready[size].plan(*lr.shape[-2:])
        row = {"tile_px": size, "tiles": plan.tiles, "window_px": plan.window_px, "seconds": round(median, 3)}
        row["to_untiled"] = round(median / untiled, 3)
        row["pixels_to_untiled"] = round(plan.tiles * plan.rows.size * plan.cols.size / lr[0, 0].numel(), 3)
        row["peak_mb"] = peak_apart(net.config, lr.shape[-1], size) // 1_000_000 if device.type == "cpu" else None
        rows.append(row)
    return rows


def halo_rows(net: OwnNet, lr: Tensor, device: torch.device) -> list[dict[str, float]]:
    """Greatest and mean distance from the untiled image, in levels of 255, with tiles of 48 px: many seams."""
    untiled = NetUpscaler(net, device=device, tiles=TileConfig(tile_px=None)).whole(lr)
    rows = []
    for halo, blend in HALOS:
        tiles = TileConfig(tile_px=48, halo_px=halo, blend_px=blend)
        error = 255 * (NetUpscaler(net, device=device, tiles=tiles).whole(lr) - untiled).abs()
        levels = {"max_levels": float(error.max()), "mean_levels": float(error.mean())}
        rows.append({"halo_px": halo, "blend_px": blend, **levels})
    return rows


def peak_rows(side: int) -> list[dict[str, float | str]]:
    """Peak memory of one window beside the estimate that chooses the tile."""
    rows: list[dict[str, float | str]] = []
    for config in PEAKS:
        measured = peak_apart(config, side, None) / side**2
        estimate = network_bytes_per_px(config.traits, 4)
        row = {"network": f"{type(config).__name__[:4]} {'/'.join(map(str, vars(config).values()))}"}
        figures = {"bytes_per_px": round(measured), "estimate": estimate}
        rows.append({**row, **figures, "estimate_to_measured": round(estimate / measured, 3)})
    return rows


def peak_apart(config: SrConfig, side: int, tile: int | None) -> int:
    """`peak_bytes` in a process of its own: a high-water mark never falls."""
    asked = {"kind": type(config).__name__, "sizes": vars(config), "side": side, "tile": tile}
    command = [sys.executable, __file__, "--peak", json.dumps(asked)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_bytes(kind: str, sizes: dict[str, int], side: int, tile: int | None) -> int:
    """What the first band of a square image takes beyond a tiny image, by the process's high-water mark."""
    config = (CompactConfig if kind == "CompactConfig" else RRDBConfig)(**sizes)
    upscaler = NetUpscaler(build(config), device=CPU, tiles=TileConfig(tile_px=tile))
    marks = []
    for px in (8, side):
        next(upscaler.bands(ArraySource(torch.rand(1, 3, px, px))))
        marks.append(high_water_bytes())
    return marks[1] - marks[0]


def high_water_bytes() -> int:
    """Linux only. Not getrusage: its mark is inherited from the process that started this one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def show(rows: list[dict[str, float | str | None]]) -> None:
    print("  ".join(f"{name:>20}" for name in rows[0]))
    for row in rows:
        cells = (cell if isinstance(cell, str) else "none" if cell is None else f"{cell:.4g}" for cell in row.values())
        print("  ".join(f"{cell:>20}" for cell in cells), flush=True)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="any file of weights that loads")
    parser.add_argument("--image", type=Path, help="LR image")
    parser.add_argument("--side", type=int, default=640, help="of the LR image for timing")
    parser.add_argument("--halo-side", type=int, default=160, help="of the LR image for halos")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        print(peak_bytes(**json.loads(options.peak)))
        return
    device, net = choose_device(options.device), network(options.weights)
    result = {"time": time_rows(net, drawn_image(options.image, options.side), device, options.rounds)}
    show(result["time"])
    result["halo"] = halo_rows(net, drawn_image(options.image, options.halo_side), device)
    show(result["halo"])
    result["peak"] = peak_rows(224)
    show(result["peak"])
    print(json.dumps({"device": str(device), "torch": torch.__version__, "network": str(net.config), **result}))


if __name__ == "__main__":
    main()
