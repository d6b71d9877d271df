"""What bfloat16 saves on this processor, and by how much results differ. Run by hand:

    python tests/bench/precision.py examples/coffee.png ddnsr-lite ddnsr-track1

An image is enlarged in fp32 and in bf16 by turns; a table, then one JSON line. The ratio of the least times holds
within one run only. Differences are in levels of 255, before rounding; `changed` is the share of samples that differ
after it.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ddnsr_cli.inference.net_upscaler import NetUpscaler
from ddnsr_cli.inference.tiling import TileConfig
from ddnsr_cli.nets.blocks import SrNet
from ddnsr_cli.weights.checkpoint import load_sr_net
from ddnsr_cli.weights.registry import read_registry
from ddnsr_cli.weights.resolve import find_weights

CPU = torch.device("cpu")


def compared(net: SrNet, lr: Tensor, rounds: int) -> dict[str, float]:
    engines = [
        NetUpscaler(net, device=CPU, dtype=dtype, tiles=TileConfig()) for dtype in (torch.float32, torch.bfloat16)
    ]
    seconds: list[list[float]] = [[], []]
    results: list[Tensor] = [lr, lr]
    for _ in range(rounds):
        for number, engine in enumerate(engines):
            since = time.perf_counter()
            results[number] = 255 * engine.whole(lr)
            seconds[number].append(time.perf_counter() - since)
    wide, narrow = results
    difference = (narrow - wide).abs()
    rounded = [result.clamp(0, 255).round() for result in results]
    return {
        "fp32_s": min(seconds[0]),
        "bf16_s": min(seconds[1]),
        "ratio": min(seconds[0]) / min(seconds[1]),
        "rms_levels": difference.square().mean().sqrt().item(),
        "most_levels": difference.max().item(),
        "changed": (rounded[0] != rounded[1]).double().mean().item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    with Image.open(asked.image) as image:
        lr = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float() / 255
    table = {}
    for name in asked.models:
        net, _ = load_sr_net(find_weights(name, registry=read_registry(), offline=True).path)
        table[name] = compared(net, lr, asked.rounds)
        print(name, *(f"{key} {value:.3g}" for key, value in table[name].items()), sep="  ")
    print(json.dumps(table))


if __name__ == "__main__":
    main()
