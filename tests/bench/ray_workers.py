"""Workers on Ray: images a second by their number, the time to the first result, and the memory of the driver.

    python tests/bench/ray_workers.py --images 24 --side 256 --workers 1 2
    python tests/bench/ray_workers.py --images 100 100000 --side 8 --workers 1 --model quick.safetensors --most 5000

With several numbers of images there is a folder for each. --most leaves a run after so many results.

The images are noise of one size, made in a temporary folder. Ray's own start is left out. Where cores are shared with
other work, look at the seconds of a core an image and at the share of the time that workers are at images: what
workers gain on cores of their own is their number times both ratios.
"""

import argparse
import os
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ddnsr_cli.commands.ray_workers import RayOptions, import_ray
from ddnsr_cli.commands.upscale.options import UpscaleListener, UpscaleOptions, Written
from ddnsr_cli.commands.upscale.run import upscale_images


def make_images(folder: Path, number: int, side: int) -> None:
    """So many images of noise."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for index in range(number):
        Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(folder / f"{index:06}.png")


def resident_mb() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_seconds(pids: list[int]) -> float:
    """What processes have computed."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(of[11]) + int(of[12]) for of in fields) / os.sysconf("SC_CLK_TCK")


@dataclass(kw_only=True)
class Seen:
    """What a run has shown so far."""

    pids: list[int] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)
    """When each worker had its network."""

    written: list[tuple[float, float, float]] = field(default_factory=list)
    """Of each result: when, its seconds, and those that all workers have computed so far."""

    driver_mb: list[float] = field(default_factory=list)

    def detail(self, text: str) -> None:
        """Take a sentence of the listener."""
        if text.startswith("a worker is ready"):
            self.ready.append(time.perf_counter())
            self.pids.append(int(text.split("process ")[1].split(maxsplit=1)[0]))

    def take(self, event: Written) -> None:
        """Take a result."""
        self.written.append((time.perf_counter(), event.seconds, cpu_seconds(self.pids)))
        self.driver_mb.append(resident_mb())


def measure(folder: Path, model: str | None, workers: int, most: int | None) -> None:
    """One run up to `most` results, its figures on a line."""
    seen = Seen()
    silent = {name: lambda *_: None for name in ("image", "tile", "note", "failed", "download")}
    listener = UpscaleListener(detail=seen.detail, **silent)
    options = UpscaleOptions(model=model, device="cpu", ray=RayOptions(workers=workers))
    with tempfile.TemporaryDirectory() as out:
        before, start = resident_mb(), time.perf_counter()
        with closing(upscale_images([folder], Path(out), options, listener)) as events:
            for event in events:
                if isinstance(event, Written):
                    seen.take(event)
                if len(seen.written) == most:
                    break
    # while all work: they start one after the other on a busy machine, and the last image leaves some idle
    steady = [row for row in seen.written if row[0] > seen.ready[-1]][1 : 1 - workers or None]
    took, computed = steady[-1][0] - steady[0][0], steady[-1][2] - steady[0][2]
    at_images = sum(seconds for _, seconds, _ in steady[1:])
    first, driver = seen.written[0][0], seen.driver_mb
    print(
        f"{workers} workers, {len(seen.written)} images: {(len(steady) - 1) / took:.3g} images/s, "
        f"{1000 * computed / (len(steady) - 1):.0f} ms of a core an image, at images {at_images / took / workers:.1%} "
        f"of the time; first result {first - start:.1f} s after the call, {first - seen.ready[0]:.2f} s after a worker "
        f"was ready; driver {before:.0f} MB before the call, {driver[0]:.0f} then, {driver[len(driver) // 4]:.0f} at a "
        f"quarter, {driver[-1]:.0f} at the end",
        flush=True,
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[24])
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--model")
    parser.add_argument("--most", type=int)
    given = parser.parse_args()
    ray = import_ray()
    ray.init(address="local", num_cpus=max(given.workers), object_store_memory=100 << 20, include_dashboard=False,
             log_to_driver=False, logging_level="error")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for number in given.images:
            images = Path(folder) / str(number)
            make_images(images, number, given.side)
            for workers in given.workers:
                measure(images, given.model, workers, given.most)
    ray.shutdown()


if __name__ == "__main__":
    main()
