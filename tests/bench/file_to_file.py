"""How long whole commands take from an image file to a PNG, beside the network alone and other ways. Run by hand:

    python tests/bench/file_to_file.py --megapixels 1 --rounds 3
    python tests/bench/file_to_file.py --image photo.jpg --model ddnsr-photo --rounds 2

`network` is what `ddnsr upscale --engine ...` has its network do, the image in memory and everything warmed up. `ddnsr`
is the whole command, by PyTorch and by OpenVINO, start, colors and all. The others are what users get elsewhere with
the same weights: Pillow reads, tiles of up to 400 pixels go through an engine of `engines.py`, Pillow writes, without
their start, that is Python, imports and the engine made ready, which differs from program to program. All take turns
in processes of their own, by the clock and by the processor; ours with the peak of memory. A table, then one JSON line;
ratios hold within one run only. The status is 1 when results differ by more than --most-levels in the mean
(colors are fixed in ours only).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from engines import on_processors
from growth import ROOT, drawn
from PIL import Image
from torch import Tensor

from ddnsr_cli.inference.device import choose_dtype
from ddnsr_cli.inference.net_upscaler import NetUpscaler
from ddnsr_cli.inference.tiling import PixelSource, TileConfig
from ddnsr_cli.io.read import read_image
from ddnsr_cli.weights.checkpoint import load_own_net
from ddnsr_cli.weights.layouts import OwnNet
from ddnsr_cli.weights.registry import read_registry
from ddnsr_cli.weights.resolve import find_weights

TILE, HALO = 400, 10  # LR pixels: what Real-ESRGAN's own script takes where an image is cut
EAGER = "eager fp32 NCHW"
OURS = ("torch", "openvino")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

Row = dict[str, str | float | None]


@dataclass(frozen=True)
class Cost:
    """Of one run."""

    seconds: float
    cpu_seconds: float
    megabytes: float


def measured(words: Sequence[str]) -> Cost:
    """What a process of its own takes."""
    since = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(words)}")
    return Cost(time.perf_counter() - since, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000)


def told_by(words: Sequence[str]) -> Cost:
    """What a process of its own measured and printed."""
    printed = subprocess.run(words, check=True, capture_output=True, text=True, env=ENVIRONMENT).stdout
    return Cost(**json.loads(printed.splitlines()[-1]))


def network(model: str, image: Path, engine: str) -> Cost:
    """Of the network alone, second time over."""
    return told_by([sys.executable, __file__, "--network-alone", engine, "--image", str(image), "--model", model])


def run_network(net: OwnNet, image: Path, engine: str) -> None:
    """Print the cost of one pass, as the command runs it."""
    device = torch.device("cpu")
    dtype = choose_dtype(device)
    upscaler = NetUpscaler(net, device=device, dtype=dtype, tiles=TileConfig(), openvino=engine == "openvino")
    source = PixelSource(read_image(image).pixels)
    for _ in range(2):  # the first pass warms up
        since, of_cpu = time.perf_counter(), time.process_time()
        list(upscaler.bands(source))
    taken = Cost(time.perf_counter() - since, time.process_time() - of_cpu, 0.0)
    print(json.dumps(asdict(taken)))


def run_elsewhere(net: OwnNet, image: Path, engine: str, output: Path) -> None:
    """A plain script, its engine ready: read, enlarge in tiles, write. Print the cost."""
    with Image.open(image) as opened:
        tile = tile_of(opened.height, opened.width)
    shape = torch.Size((1, 3, tile[0] + 2 * HALO, tile[1] + 2 * HALO))
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        others = on_processors(net, shape, Path(folder), torch.get_num_threads())
        run = net if engine == EAGER else next(run for name, run in others if name == engine)
        since, of_cpu = time.perf_counter(), time.process_time()
        lr = torch.from_numpy(np.asarray(Image.open(image).convert("RGB")).copy()).permute(2, 0, 1)[None].float() / 255
        levels = in_tiles(run, lr, tile, net.config.scale).clamp(0, 1).mul(255).round().byte()[0].permute(1, 2, 0)
        Image.fromarray(levels.numpy()).save(output)
    print(json.dumps(asdict(Cost(time.perf_counter() - since, time.process_time() - of_cpu, 0.0))))


def tile_of(*sides: int) -> tuple[int, int]:
    """Height and width of the largest tiles that cut the image evenly, so that an engine is prepared for one size."""
    height, width = (-(-side // -(-side // TILE)) for side in sides)
    return height, width


def in_tiles(run: Callable[[Tensor], Tensor], lr: Tensor, tile: tuple[int, int], scale: int) -> Tensor:
    """The image is continued at its ends, for tiles of one size."""
    down, across = (-(-side // step) * step for side, step in zip(lr.shape[-2:], tile, strict=True))
    ends = (HALO, across - lr.shape[-1] + HALO, HALO, down - lr.shape[-2] + HALO)
    wide = torch.nn.functional.pad(lr, ends, mode="replicate")
    whole = torch.empty(1, 3, down * scale, across * scale)
    inner = (..., *(slice(HALO * scale, (HALO + step) * scale) for step in tile))
    for top in range(0, down, tile[0]):
        for left in range(0, across, tile[1]):
            part = wide[..., top : top + tile[0] + 2 * HALO, left : left + tile[1] + 2 * HALO].contiguous()
            place = (slice(top * scale, (top + tile[0]) * scale), slice(left * scale, (left + tile[1]) * scale))
            whole[..., place[0], place[1]] = run(part)[inner]
    return whole[..., : lr.shape[-2] * scale, : lr.shape[-1] * scale]


def turns(model: str, image: Path, folder: Path, elsewhere: Sequence[str]) -> dict[str, list[str]]:
    """Name -> the words of a whole command that writes `folder / name.png`."""
    ours = [sys.executable, "-m", "ddnsr_cli", "upscale", str(image), "-m", model, "--overwrite", "--quiet"]
    other = [sys.executable, __file__, "--image", str(image), "--model", model]
    return {
        **{
            f"ddnsr {engine}": [*ours, "--engine", engine, "-o", str(folder / f"ddnsr {engine}.png")] for engine in OURS
        },
        **{name: [*other, "--elsewhere", name, "--output", str(folder / f"{name}.png")] for name in elsewhere},
    }


def mean_difference(first: Path, second: Path) -> float:
    """Levels of 255."""
    one, other = (np.asarray(Image.open(path).convert("RGB")).astype(np.int16) for path in (first, second))
    return float(np.abs(one - other).mean())


def row_of(name: str, costs: Sequence[Cost], network_s: float, levels: float | None) -> Row:
    """One line of the table; network_s: seconds of the quicker network alone."""
    seconds = statistics.median(cost.seconds for cost in costs)
    return {
        "": name,
        "median_s": seconds,
        "least_s": min(cost.seconds for cost in costs),
        "cpu_s": statistics.median(cost.cpu_seconds for cost in costs),
        "MB": max(cost.megabytes for cost in costs) or None,
        "times_network": seconds / network_s,
        "mean_levels": levels,
    }


def show(rows: Sequence[Row]) -> None:
    print("".join(f"{name:>18}" for name in rows[0]))
    for row in rows:
        cells = ("" if cell is None else cell if isinstance(cell, str) else f"{cell:.4g}" for cell in row.values())
        print("".join(f"{cell:>18}" for cell in cells))


def compare(asked: argparse.Namespace, image: Path, folder: Path) -> list[Row]:
    """All by turns. Returns one row each."""
    commands = turns(asked.model, image, folder, [] if asked.ours_only else asked.ways)
    costs: dict[str, list[Cost]] = {name: [] for name in (*(f"network {engine}" for engine in OURS), *commands)}
    for _ in range(asked.rounds):
        for engine in OURS:
            costs[f"network {engine}"].append(network(asked.model, image, engine))
        for name, words in commands.items():
            costs[name].append((told_by if name in asked.ways else measured)(words))
    network_s = min(statistics.median(cost.seconds for cost in costs[f"network {engine}"]) for engine in OURS)
    eager = folder / f"{EAGER}.png"
    levels = {name: mean_difference(eager, folder / f"{name}.png") for name in commands if eager.exists()}
    return [row_of(name, found, network_s, levels.get(name)) for name, found in costs.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, help="instead of a drawn one")
    parser.add_argument("--megapixels", type=float, default=1.0, help="of the drawn image")
    parser.add_argument("--model", default="ddnsr-lite", help="a name of the registry, or a file of weights")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ours-only", action="store_true", help="leave the other ways out")
    parser.add_argument("--ways", nargs="*", default=[EAGER, "OpenVINO bf16", "ONNX Runtime fp32", "ncnn fp32"])
    parser.add_argument("--most-levels", type=float, default=3.0, help="that results may differ in the mean")
    for hidden in ("--network-alone", "--elsewhere"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.network_alone or asked.elsewhere:
        net = load_own_net(find_weights(asked.model, registry=read_registry(), offline=True).path)[0]
        net = net.eval().requires_grad_(False)
        if asked.network_alone:
            run_network(net, asked.image, asked.network_alone)
        else:
            run_elsewhere(net, asked.image, asked.elsewhere, asked.output)
        return
    with tempfile.TemporaryDirectory() as name:
        image = asked.image
        if image is None:
            height = round((asked.megapixels * 1e6 * 3 / 4) ** 0.5)
            image = Path(name) / "drawn.png"
            Image.fromarray(drawn(height * 4 // 3, height, 0)).save(image)
        rows = compare(asked, image, Path(name))
    show(rows)
    what = str(asked.image or f"{asked.megapixels:g} megapixels")
    print(json.dumps({"image": what, "model": asked.model, "rows": rows}))
    levels = {row[""]: row["mean_levels"] for row in rows}
    far = [str(name) for name, found in levels.items() if isinstance(found, float) and found > asked.most_levels]
    if far:
        sys.exit(f"These differ from eager by more than {asked.most_levels:g} levels in the mean: {', '.join(far)}.")


if __name__ == "__main__":
    main()
