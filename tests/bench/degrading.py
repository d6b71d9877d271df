"""What `ddnsr degrade` costs, and how far tiled is from untiled. By hand: python tests/bench/degrading.py --help

Without weights the network is one at the start of a training, with its noise path made lively. Peak memory is the
process's high-water mark (Linux), of a process of its own. Tables first, one JSON line last.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ddnsr_cli.inference.degrader import TILE_PX, LevelsInMemory, TiledDegrader, one_thread_each, reach_px, window_bytes
from ddnsr_cli.inference.device import choose_device
from ddnsr_cli.nets.degrader import Degrader, DegraderConfig, start_as_area
from ddnsr_cli.weights.checkpoint import load_degrader, save_degrader

CPU = torch.device("cpu")
METHODS = ("bicubic", "gaussian", "patches", "learned")


def network(weights: Path | None, features: int, blocks: int) -> Degrader:
    if weights is not None:
        return load_degrader(weights)[0]
    torch.manual_seed(0)
    net = Degrader(DegraderConfig(features=features, blocks=blocks))
    start_as_area(net, torch.Generator().manual_seed(0))
    with torch.no_grad():
        net.merge[-1].weight.normal_(0, 0.02)
    return net


def levels(height: int, width: int) -> np.ndarray:
    """A slope with noise, (height, width, 3)."""
    rng = np.random.default_rng(0)
    slope = np.linspace(40, 200, width)[None, :, None] + np.linspace(0, 30, height)[:, None, None]
    return np.clip(slope + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)


def seam_rows(net: Degrader, side: int, device: torch.device) -> list[dict[str, float | None]]:
    """Distance from the untiled result, in levels, and seconds, by tile size; LR pixels."""
    hr, noise = LevelsInMemory(levels(4 * side, 4 * side)), LevelsInMemory(levels(side, side))
    whole = TiledDegrader(net, device=device, tile_px=None).lr(hr, noise).astype(int)
    rows: list[dict[str, float | None]] = []
    for tile_px in (48, 96, TILE_PX, 256):
        engine = TiledDegrader(net, device=device, tile_px=tile_px)
        start = time.process_time() if device.type == "cpu" else time.perf_counter()
        error = np.abs(engine.lr(hr, noise).astype(int) - whole)
        spent = (time.process_time() if device.type == "cpu" else time.perf_counter()) - start
        plan = engine.plan(side, side)
        row = {"tile_px": tile_px, "tiles": plan.tiles, "window_px": plan.window_px, "seconds": round(spent, 2)}
        rows.append({**row, "max_levels": float(error.max()), "share_that_differs": float((error > 0).mean())})
    return rows


def window_row(features: int, blocks: int) -> dict[str, float | None]:
    """Peak memory of one full window beside the estimate that chooses the workers."""
    config = DegraderConfig(features=features, blocks=blocks)
    words = [sys.executable, __file__, "--peak", f"{features},{blocks}"]
    measured = int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return {"features": features, "blocks": blocks, "mb": measured >> 20, "estimate_mb": window_bytes(config) >> 20}


def window_peak(features: int, blocks: int) -> int:
    net = network(None, features, blocks)
    side = TILE_PX + 2 * reach_px(net.config)
    marks = []
    for px in (8, side):
        TiledDegrader(net, device=CPU, tile_px=None).lr(
            LevelsInMemory(levels(4 * px, 4 * px)), LevelsInMemory(levels(px, px))
        )
        marks.append(high_water_bytes())
    return marks[1] - marks[0]


def image_rows(net: Degrader, megapixels: float) -> list[dict[str, object]]:
    """Seconds and peak memory of the command on one HR image, beside those on a small one."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        save_degrader(place / "net.safetensors", net, metadata={}, half=False)
        (place / "noisy").mkdir()
        Image.fromarray(levels(700, 900)).save(place / "noisy/a.png")
        large = round((megapixels * 1e6 / 1.5) ** 0.5)
        for name, side in {"small": 64, "large": large}.items():
            (place / name).mkdir()
            Image.fromarray(levels(side, side * 3 // 2)).save(place / name / "hr.png", compress_level=1)
        return [image_row(place, method, megapixels) for method in METHODS]


def image_row(place: Path, method: str, megapixels: float) -> dict[str, object]:
    figures = []
    for size in ("small", "large"):
        words = ["degrade", place / size, "-o", place / f"{size}_{method}", "--noise-source", place / "noisy"]
        words += ["--method", method, "--workers", "1", "--device", "cpu"]
        words += ["-m", place / "net.safetensors"] if method == "learned" else []
        done = subprocess.run(
            [sys.executable, __file__, "--command", *map(str, words)], check=True, capture_output=True, text=True
        )
        figures.append(json.loads(done.stdout.splitlines()[-1]))
    peak = figures[1]["peak"] - figures[0]["peak"]
    row = {"method": method, "megapixels": megapixels, "cpu_seconds": round(figures[1]["cpu"] - figures[0]["cpu"], 1)}
    return {**row, "mb_beyond_small": peak >> 20, "bytes_per_hr_px": round(peak / megapixels / 1e6, 1)}


def command(words: list[str]) -> None:
    """The command in this process, then what it took."""
    from ddnsr_cli.cli.app import main as ddnsr

    sys.argv = ["ddnsr", *words]
    try:
        ddnsr()
    except SystemExit as end:
        if end.code:
            raise
    print(json.dumps({"peak": high_water_bytes(), "cpu": time.process_time()}))


def high_water_bytes() -> int:
    """Linux only. Not getrusage: its mark is inherited from the process that started this one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def show(rows: list[dict[str, object]]) -> None:
    print("  ".join(f"{name:>18}" for name in rows[0]))
    for row in rows:
        print("  ".join(f"{cell if isinstance(cell, str) else f'{cell:.4g}':>18}" for cell in row.values()), flush=True)
    print()


def main() -> None:
    if sys.argv[1:2] == ["--command"]:
        command(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="degrader.safetensors of a run")
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--side", type=int, default=320, help="of the LR image for seams")
    parser.add_argument("--megapixels", type=float, default=24, help="of the HR image for time and memory")
    parser.add_argument("--device", default="cpu", help="for seams")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        with one_thread_each():
            print(window_peak(*map(int, options.peak.split(","))))
        return
    net = network(options.weights, options.features, options.blocks)
    result: dict[str, list[dict[str, object]]] = {}
    with one_thread_each():
        result["seams"] = [dict(row) for row in seam_rows(net, options.side, choose_device(options.device))]
    show(result["seams"])
    result["window"] = [dict(window_row(net.config.features, net.config.blocks))]
    show(result["window"])
    result["image"] = image_rows(net, options.megapixels)
    show(result["image"])
    print(json.dumps({"torch": torch.__version__, "network": str(net.config), **result}))


if __name__ == "__main__":
    main()
