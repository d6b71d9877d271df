"""How long `ddnsr eval` takes beside the up-scaling in it: `python tests/bench/evaluation.py [--lpips-weights FILE]`.

Pairs are drawn, then the same LR images are up-scaled without judging, and evaluated (bicubic's row included). Both
load the weights and read the files; neither writes images. On a CPU the seconds are CPU-seconds of one thread. A
table, then one JSON line.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ddnsr_cli.commands.evaluate.dataset import find_samples, open_sample
from ddnsr_cli.commands.evaluate.models import load_network
from ddnsr_cli.commands.evaluate.options import EvaluateListener, EvaluateOptions
from ddnsr_cli.commands.evaluate.run import evaluate
from ddnsr_cli.inference.device import choose_device
from ddnsr_cli.weights.registry import read_registry
from ddnsr_cli.weights.resolve import find_weights

SILENT = EvaluateListener(note=print, tick=lambda _done, _total: None, download=lambda _done, _total: None)


def write_pairs(folder: Path, count: int, side: int) -> None:
    """Smooth images with noise: PNG takes about as long for them as for images."""
    rng = np.random.default_rng(0)
    for kind, px in (("hr", side), ("lr", side // 4)):
        (folder / kind).mkdir()
        for number in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (px // 8, px // 8, 3), np.uint8))
            levels = np.asarray(coarse.resize((px, px), Image.Resampling.BICUBIC), float) + rng.normal(
                0, 4, (px, px, 3)
            )
            Image.fromarray(levels.clip(0, 255).astype(np.uint8)).save(folder / kind / f"{number:04}.png")


def upscale_all(lr: Path, model: str, device: torch.device) -> None:
    found = find_weights(model, registry=read_registry())
    network = load_network(found, model, device, print)
    for sample in find_samples(lr, None):
        network.image(open_sample(sample))


def seconds(work, device: torch.device) -> float:
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    start = clock()
    work()  # each result ends as pixels on the CPU, so nothing is still under way on a GPU
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ddnsr-lite")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--side", type=int, default=448, help="of the HR images")
    parser.add_argument("--lpips-weights", type=Path)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(1)
    device = choose_device(given.device)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pairs(folder, given.pairs, given.side)
        options = EvaluateOptions(
            lr=folder / "lr",
            hr=folder / "hr",
            models=(given.model,),
            lpips="alex" if given.lpips_weights else "none",
            lpips_weights=given.lpips_weights,
            device=given.device,
        )
        upscaling = seconds(lambda: upscale_all(folder / "lr", given.model, device), device)
        evaluating = seconds(lambda: evaluate(options, SILENT), device)
    row = {"upscaling_s": upscaling, "evaluating_s": evaluating, "ratio": evaluating / upscaling}
    for key, value in row.items():
        print(f"{key:14} {value:8.2f}")
    told = {"pairs": given.pairs, "side": given.side, "model": given.model, "lpips": options.lpips, **row}
    print(json.dumps({"device": str(device), "torch": torch.__version__, **told}))


if __name__ == "__main__":
    main()
