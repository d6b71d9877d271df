"""Memory over a long run: `python tests/bench/endurance.py [--images 2000] [--first 200] [--sizes 30] [OPTION...]`.

One run of `ddnsr upscale` over a folder of small images of every kind (seed_files.py of the fuzzing: all formats, 16
bits, alpha, profiles, EXIF, animations), every third one a PNG of one of so many sizes, every fiftieth damaged. The
CPU's kernels are made for a size, and memory settles only when all sizes have come. Resident memory
of the process is read after every image; told are the medians over 50 images up to the first so many, along the
way, and at the end, and their ratio. Words that are left over go to the command, such as `--compare` or `--grain 1`.
A table, then one JSON line.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from ddnsr_cli.nets.config import RRDBConfig  # noqa: E402
from ddnsr_cli.nets.rrdb import RRDBNet  # noqa: E402
from ddnsr_cli.weights.checkpoint import save_sr_net  # noqa: E402
from tests.fuzz.seed_files import images  # noqa: E402
from tests.helpers.image_files import encoded, noise, pillow  # noqa: E402

AROUND = 50  # images that a median is over
LEFT_IN_ORDER = 9  # exit status: some images failed, as they should


def fill(folder, number, sizes):
    seeds = list(images().items())
    for index in range(number):
        name, data = seeds[index % len(seeds)]
        if index % 3 == 1:
            height, width = np.random.default_rng(index // 3 % sizes).integers(1, 97, 2)
            name, data = "size.png", encoded(pillow(noise(height, width, 3, seed=index)), "PNG")
        if index % 50 == 49:
            data = data[: len(data) // 2]
        (folder / f"{index:05}_{name}").write_bytes(data)


def resident_bytes(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(folder, words):
    """Resident bytes after each image, and (written, failed)."""
    model = folder / "tiny.safetensors"
    torch.manual_seed(0)
    save_sr_net(model, RRDBNet(RRDBConfig(features=8, blocks=1, growth=4)), metadata={}, half=False)
    command = [sys.executable, "-m", "ddnsr_cli", "upscale", folder / "in", "-o", folder / "out", "-m", model]
    resident, failed = [], 0
    with subprocess.Popen(
        [*map(str, command), "--device", "cpu", "--json", *words],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, text=True,
    ) as process:  # fmt: skip
        for line in process.stdout:
            event = json.loads(line)["event"]
            if event in {"written", "failed"}:
                resident.append(resident_bytes(process.pid))
                failed += event == "failed"
    if process.returncode not in {0, LEFT_IN_ORDER}:
        raise SystemExit(f"the command ended with status {process.returncode}")
    return resident, failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--first", type=int, default=200)
    parser.add_argument("--sizes", type=int, default=30)
    given, words = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        fill(folder / "in", given.images, given.sizes)
        start = time.perf_counter()
        resident, failed = run(folder, words)
    seconds = time.perf_counter() - start
    marks = [given.first, *(given.images * part // 4 for part in range(1, 5))]
    medians = {mark: statistics.median(resident[max(0, mark - AROUND) : mark]) for mark in sorted(set(marks))}
    for mark, size in medians.items():
        print(f"after {mark:6} images {size / 1e6:8.1f} MB   x {size / medians[given.first]:.3f}")
    print(f"{len(resident) - failed} written, {failed} failed, {seconds:.0f} s; most {max(resident) / 1e6:.1f} MB")
    print(json.dumps({"torch": torch.__version__, "bytes": medians, "failed": failed, "seconds": seconds}))


if __name__ == "__main__":
    main()
