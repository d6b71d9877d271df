"""How the cost of `ddnsr upscale` grows with the size of an image and with the number of files. Run by hand:

    python tests/bench/growth.py --megapixels 0.25 1 4 16 --files 10 100 1000 --plot growth.png
    python tests/bench/growth.py --share 1000 --rounds 2 [--tenth 0.25] [--beside TREE...] [-- --engine openvino]

Each line is a whole command in a process of its own: seconds of the clock, of the processor and peak memory, the start
included. Images are drawn, a slope with objects and noise of 6 levels; those of the file counts have 128 x 96 pixels.
--share tells what part of the network's own rate a folder of so many small images reaches: the seconds from its first
result to its last, against the network alone over the same images in memory, by turns; of few images the last count,
which leave threads idle. --tenth: every tenth image has so many megapixels. --beside: older trees of the
package, which take turns with this one. Words behind -- go to the command; without any, PyTorch runs the network. A
table, then one JSON line; with --plot the first is drawn, too.
"""

import argparse
import json
import math
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[2]
SMALL = (128, 96)
NOISE_LEVELS = 6


@dataclass(frozen=True)
class Cost:
    """Of one command."""

    megapixels: float
    files: int
    seconds: float
    cpu_seconds: float
    megabytes: float


def drawn(width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """(height, width, 3): a slope, bright and dark disks, noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    levels = 40 + 150 * (x / width + y / height) / 2
    for _ in range(12):
        left, top, radius = random.uniform(0, width), random.uniform(0, height), random.uniform(4, 0.2 * height)
        levels[(x - left) ** 2 + (y - top) ** 2 < radius**2] += random.uniform(-60, 60)
    noisy = levels[..., None] + random.normal(0, NOISE_LEVELS, (height, width, 3)).astype(np.float32)
    return noisy.clip(0, 255).astype(np.uint8)


def shape(megapixels: float) -> tuple[int, int]:
    """Width and height of an image of so many megapixels."""
    height = round(math.sqrt(megapixels * 1e6 * 3 / 4))
    return height * 4 // 3, height


def fill(folder: Path, number: int, width: int, height: int, *, tenth: float = 0.0) -> Path:
    """A folder of so many images. tenth: megapixels of every tenth, if any.

    They are drawn in a process of its own: what this one takes counts as taken by each command that it starts.
    """
    words = (folder, number, width, height, tenth)
    process = multiprocessing.get_context("spawn").Process(target=draw_folder, args=words)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit("the images could not be drawn")
    return folder


def draw_folder(folder: Path, number: int, width: int, height: int, tenth: float) -> None:
    """See `fill`."""
    folder.mkdir()
    small, large = (width, height), shape(tenth) if tenth else (width, height)
    for index in range(number):
        width, height = large if index % 10 == 9 else small
        Image.fromarray(drawn(width, height, index)).save(folder / f"{index:05}.png", compress_level=1)


def command(images: Path, output: Path, words: Sequence[str]) -> list[str]:
    """The words of the command."""
    return [sys.executable, "-m", "ddnsr_cli", "upscale", str(images), "-o", str(output), "--json", *words]


def whole_run(images: Path, output: Path, megapixels: float, files: int, words: Sequence[str]) -> Cost:
    """What a whole command takes."""
    since = time.perf_counter()
    process = subprocess.Popen(command(images, output, words), stdout=subprocess.DEVNULL, cwd=ROOT)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("the command failed")
    return Cost(
        megapixels=megapixels,
        files=files,
        seconds=time.perf_counter() - since,
        cpu_seconds=used.ru_utime + used.ru_stime,
        megabytes=used.ru_maxrss * 1024 / 1e6,
    )


def costs(folder: Path, sizes: Sequence[float], counts: Sequence[int], words: Sequence[str]) -> list[Cost]:
    """One a size and one a number of files."""
    rows = []
    for size in sizes:
        images = fill(folder / f"{size}", 1, *shape(size))
        rows.append(whole_run(images, folder / f"{size}_out", size, 1, words))
        print(rows[-1], file=sys.stderr)
    for count in counts:
        images = fill(folder / f"of_{count}", count, *SMALL)
        rows.append(whole_run(images, folder / f"of_{count}_out", SMALL[0] * SMALL[1] / 1e6 * count, count, words))
        print(rows[-1], file=sys.stderr)
    return rows


def seconds_an_image(tree: Path, images: Path, words: Sequence[str]) -> float:
    """From a command's first result to its last, by image."""
    written: list[float] = []
    with (
        tempfile.TemporaryDirectory() as name,
        subprocess.Popen(
            command(images, Path(name), words),
            stdout=subprocess.PIPE,
            text=True,
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["event"] == "written":
                written.append(time.perf_counter())
    return (written[-1] - written[0]) / (len(written) - 1)


def network_seconds_an_image(images: Path, *, by_openvino: bool) -> float:
    """Of the default network alone, as the command runs it, images in memory."""
    import torch

    from ddnsr_cli.inference.device import choose_dtype
    from ddnsr_cli.inference.net_upscaler import NetUpscaler
    from ddnsr_cli.inference.tiling import PixelSource, TileConfig
    from ddnsr_cli.io.read import read_image
    from ddnsr_cli.weights.checkpoint import load_sr_net
    from ddnsr_cli.weights.registry import read_registry
    from ddnsr_cli.weights.resolve import find_weights

    device = torch.device("cpu")
    net, _ = load_sr_net(find_weights(None, registry=read_registry(), offline=True).path)
    upscaler = NetUpscaler(net, device=device, dtype=choose_dtype(device), tiles=TileConfig(), openvino=by_openvino)
    sources = [PixelSource(read_image(path).pixels) for path in sorted(images.iterdir())]
    list(upscaler.bands(sources[0]))  # the first one warms up
    since = time.perf_counter()
    for source in sources[1:]:
        list(upscaler.bands(source))
    return (time.perf_counter() - since) / (len(sources) - 1)


def shares(images: Path, rounds: int, beside: Sequence[Path], words: Sequence[str]) -> dict[str, float]:
    """Median seconds an image of the network alone and of the commands, by turns; processes of their own."""
    alone = [sys.executable, __file__, "--network-alone", str(images), "--", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def network() -> float:
        return float(subprocess.run(alone, check=True, capture_output=True, text=True, env=environment).stdout)

    turns: dict[str, Callable[[], float]] = {
        "network": network,
        "folder": lambda: seconds_an_image(ROOT, images, words),
    }
    for tree in beside:
        turns[tree.name] = partial(seconds_an_image, tree, images, words)
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            seconds[name].append(turn())
            print(f"{name:>8}: {seconds[name][-1] * 1000:.1f} ms an image", file=sys.stderr)
    return {name: statistics.median(measured) for name, measured in seconds.items()}


Points = list[tuple[float, float]]
INK, GRAY, COLORS = "#222222", "#cccccc", ("#1f5fa8", "#b3541e")


def plot(rows: Sequence[Cost], path: Path) -> None:
    """Processor seconds and memory against megapixels (left) and number of files (right); all axes are logarithmic."""
    large = [row for row in rows if row.files == 1]
    many = [row for row in rows if row.files > 1]
    page = Image.new("RGB", (1200, 760), "white")
    draw = ImageDraw.Draw(page)
    for column, (part, across) in enumerate(((large, "megapixels"), (many, "files"))):
        for line, (up, unit) in enumerate((("cpu_seconds", "processor seconds"), ("megabytes", "MB at the peak"))):
            points = [(float(getattr(row, across)), float(getattr(row, up))) for row in part]
            if points:
                panel(draw, (90 + 600 * column, 50 + 370 * line), points, f"{unit} against {across}", COLORS[line])
    page.save(path, optimize=True)


def panel(draw: ImageDraw.ImageDraw, corner: tuple[int, int], points: Points, title: str, color: str) -> None:
    """One diagram, 470 x 270 pixels, from its upper left corner."""
    font = ImageFont.load_default(size=15)
    left, top, width, height = *corner, 470, 270
    (first_x, last_x), (first_y, last_y) = (decades(values) for values in zip(*points, strict=True))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - first_x) / (last_x - first_x)
        up = (math.log10(y) - first_y) / (last_y - first_y)
        return left + across * width, top + height - up * height

    for power in range(first_x, last_x + 1):
        x, _ = place(10.0**power, 10.0**first_y)
        draw.line((x, top, x, top + height), GRAY)
        draw.text((x, top + height + 6), f"{10.0**power:g}", INK, font, "ma")
    for power in range(first_y, last_y + 1):
        _, y = place(10.0**first_x, 10.0**power)
        draw.line((left, y, left + width, y), GRAY)
        draw.text((left - 8, y), f"{10.0**power:g}", INK, font, "rm")
    draw.text((left, top - 10), title, INK, font, "ls")
    draw.line([place(*point) for point in points], color, 3)
    for point in points:
        x, y = place(*point)
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), color)
        draw.text((x, y - 10), f"{point[1]:.0f}" if point[1] >= 100 else f"{point[1]:.3g}", INK, font, "mb")


def decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten around values; a decade at least."""
    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return first, max(last, first + 1)


def show(rows: Sequence[Cost]) -> None:
    print(f"{'megapixels':>12}{'files':>8}{'seconds':>10}{'CPU':>10}{'MB':>8}{'s a megapixel':>15}")
    for row in rows:
        print(
            f"{row.megapixels:12.4g}{row.files:8}{row.seconds:10.2f}{row.cpu_seconds:10.2f}{row.megabytes:8.0f}"
            f"{row.seconds / row.megapixels:15.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, nargs="*", default=[])
    parser.add_argument("--files", type=int, nargs="*", default=[])
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--add", type=Path, nargs="*", default=[], help="what earlier runs printed")
    parser.add_argument("--share", type=int, default=0, help="number of small images")
    parser.add_argument("--tenth", type=float, default=0.0, help="megapixels of every tenth image")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beside", type=Path, nargs="*", default=[])
    parser.add_argument("--network-alone", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("words", nargs="*", default=["--engine", "torch"])
    asked = parser.parse_args()
    if asked.network_alone is not None:
        print(network_seconds_an_image(asked.network_alone, by_openvino="openvino" in asked.words))
        return
    with tempfile.TemporaryDirectory() as name:
        if asked.share:
            images = fill(Path(name) / "images", asked.share, *SMALL, tenth=asked.tenth)
            seconds = shares(images, asked.rounds, asked.beside, asked.words)
            for what, median in seconds.items():
                print(f"{what:>8} {1000 * median:8.1f} ms an image   {seconds['network'] / median:7.1%} of the network")
            print(json.dumps({"images": asked.share, "tenth": asked.tenth, "seconds_an_image": seconds}))
            return
        earlier = [Cost(**row) for path in asked.add for row in json.loads(path.read_text().splitlines()[-1])]
        rows = earlier + costs(Path(name), asked.megapixels, asked.files, asked.words)
    show(rows)
    print(json.dumps([asdict(row) for row in rows]))
    if asked.plot is not None:
        plot(rows, asked.plot)


if __name__ == "__main__":
    main()
