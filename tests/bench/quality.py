"""How far models are from the truth on LR/HR pairs: `python tests/bench/quality.py LR HR MODEL... [--lpips FILE]`.

Per model the mean over all pairs of PSNR in dB and SSIM (RGB, 4 HR pixels of border ignored, results rounded to whole
levels) and, with the weights, LPIPS v0.1 (AlexNet). Bicubic is always the first row. A table, then one JSON line.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ddnsr_cli.checkpoint import load_sr_net
from ddnsr_cli.data.pairs import match_pairs
from ddnsr_cli.feature_weights import load_lpips
from ddnsr_cli.nets.lpips import LPIPS
from ddnsr_cli.registry import read_registry
from ddnsr_cli.weights import find_weights
from ddnsr_cli.workflows.training_run import validation_scores


class Bicubic(torch.nn.Module):
    """Pillow's bicubic, four times."""

    def forward(self, lr):
        levels = lr[0].permute(1, 2, 0).mul(255).round().byte().numpy()
        image = Image.fromarray(levels)
        larger = image.resize((4 * image.width, 4 * image.height), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(larger)).permute(2, 0, 1)[None].float() / 255


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lr", type=Path)
    parser.add_argument("hr", type=Path)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--lpips", type=Path)
    given = parser.parse_args()
    pairs = match_pairs(given.lr, given.hr, scale=4)
    lpips = LPIPS("alex", load_lpips("alex", given.lpips).state) if given.lpips else None
    rows = {}
    for name in ["bicubic", *given.models]:
        if name == "bicubic":
            net = Bicubic()
        else:
            net, _ = load_sr_net(find_weights(name, registry=read_registry()).path)
        rows[name] = validation_scores(net, pairs, torch.device("cpu"), lpips=lpips)
        print(f"{name:40} " + "  ".join(f"{key} {value:.4f}" for key, value in rows[name].items()), flush=True)
    print(json.dumps({"pairs": len(pairs), "torch": torch.__version__, "rows": rows}))


if __name__ == "__main__":
    main()
