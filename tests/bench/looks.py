"""What each option of `ddnsr upscale` costs: `python tests/bench/looks.py IMAGE [--model NAME] [--rounds 3]`.

Processor seconds of one thread for reading, enlarging and writing one image, the options taking turns, so that a busy
moment does not hit one of them only; medians, and their ratio to a run without any. A table, then one JSON line.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from ddnsr_cli.commands.upscale.options import UpscaleListener, UpscaleOptions
from ddnsr_cli.commands.upscale.run import upscale_images
from ddnsr_cli.inference.pipeline import LookOptions
from ddnsr_cli.processing.resize import OutputSize

PLAIN = LookOptions(color_fix=False)
CASES = {
    "--no-color-fix": {"look": PLAIN},
    "(defaults)": {"look": LookOptions()},
    "--strength 0.5": {"look": LookOptions(strength=0.5)},
    "--strength 0": {"look": LookOptions(strength=0)},
    "--grain 1": {"look": LookOptions(grain=1)},
    "--compare": {"compare": True},
    "--scale 2.5": {"size": OutputSize(scale=2.5)},
    "--dry-run": {"dry_run": True},
}


def silent(*_):
    pass


LISTENER = UpscaleListener(image=silent, tile=silent, note=silent, detail=silent, failed=silent, download=silent)


def seconds(image, model, case):
    with tempfile.TemporaryDirectory() as folder:
        options = UpscaleOptions(model=model, device="cpu", **case)
        start = time.process_time()
        for _ in upscale_images([image], Path(folder) / "out.png", options, LISTENER):
            pass
        return time.process_time() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    seconds(given.image, given.model, {})  # the first run loads what all need
    times = {name: [] for name in CASES}
    for _ in range(given.rounds):
        for name, case in CASES.items():
            times[name].append(seconds(given.image, given.model, case))
    medians = {name: statistics.median(values) for name, values in times.items()}
    base = medians["--no-color-fix"]
    for name, median in medians.items():
        print(f"{name:16} {median:7.2f} s   x {median / base:.3f}")
    print(json.dumps({"torch": torch.__version__, "seconds": medians}))


if __name__ == "__main__":
    main()
