"""How fast training steps are: `python tests/bench/training.py [--full] [--compile] [--device cuda]`.

Per setting the seconds of a joint step and of a fidelity step (batch 16, HR crops of 128 px, random pictures and a
random VGG19 up to conv3_4), images a second, and the floating-point operations a second that were achieved (counted by
PyTorch over forward and backward passes; optimisers are left out) beside those of a plain matrix product in the same
number format, measured in the same run. Only ratios within one run mean something. A table, then one JSON line.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from ddnsr_cli.nets.vgg19 import Tap, VGG19Features
from ddnsr_cli.training.eyes import Eyes, VggDifference
from ddnsr_cli.training.fidelity import FidelityTrainer
from ddnsr_cli.training.joint import JointTrainer
from ddnsr_cli.training.joint_options import small_helpers, track_options
from ddnsr_cli.training.options import LITE, FidelityOptions
from ddnsr_cli.training.pieces import Precision

sys.path.insert(0, str(Path(__file__).parent.parent))
from random_vgg import random_vgg19

MATRIX, BATCH, CROP_PX, ROUNDS = 2048, 16, 128, 3
FORMATS = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16}


def seconds(work, device, rounds=ROUNDS):
    """The least of a few runs, after one to warm up."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def product_rate(precision, device):
    """Operations a second of a matrix product."""
    matrix = torch.randn(MATRIX, MATRIX, device=device).to(FORMATS[precision])
    return 2 * MATRIX**3 / seconds(lambda: matrix @ matrix, device)


def joint(precision, device, *, full, compiled):
    plain = track_options(2)
    options = plain if full else small_helpers(replace(plain, sr_net=LITE))
    options = replace(options, precision=precision, compiled=compiled)
    state, content, cycle = random_vgg19("conv3_4"), Tap(layer="conv3_4"), Tap(layer="conv2_2")
    eyes = Eyes(
        lr=VGG19Features(state, (content, cycle)).to(device),
        hr=VggDifference(VGG19Features(state, (content,)).to(device)),
    )
    return JointTrainer(options, eyes, device)


def fidelity(precision, device, *, full):
    options = FidelityOptions(precision=precision)
    network = track_options(2).sr_net if full else LITE
    return FidelityTrainer(replace(options, network=network), device)


def measured(trainer, precision, device, product):
    lr = torch.randint(0, 256, (BATCH, 3, CROP_PX // 4, CROP_PX // 4), dtype=torch.uint8)
    hr = torch.randint(0, 256, (BATCH, 3, CROP_PX, CROP_PX), dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter:
        trainer.train_step(lr, hr)
    step_s = seconds(lambda: trainer.train_step(lr, hr), device)
    rate = counter.get_total_flops() / step_s
    return {
        "precision": str(precision),
        "step_s": step_s,
        "images_per_s": BATCH / step_s,
        "gflops": rate / 1e9,
        "of_product": rate / product,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the paper's sizes instead of the lite ones")
    parser.add_argument("--compile", action="store_true", help="the joint step with torch.compile too")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    device = torch.device(given.device)
    rows = {}
    for precision in FORMATS:
        product = product_rate(precision, device)
        settings = {"fidelity": lambda p=precision: fidelity(p, device, full=given.full)}
        for compiled in (False, True) if given.compile else (False,):
            name = "joint, compiled" if compiled else "joint"
            settings[name] = lambda p=precision, c=compiled: joint(p, device, full=given.full, compiled=c)
        for name, made in settings.items():
            row = rows[f"{name}, {precision}"] = measured(made(), precision, device, product)
            print(
                f"{name:16} {precision}  {row['step_s']:7.3f} s a step  {row['images_per_s']:7.1f} images/s  "
                f"{row['gflops']:8.0f} GFLOP/s, {row['of_product']:.2f} of a matrix product",
                flush=True,
            )
    print(json.dumps({"device": str(device), "torch": torch.__version__, "full": given.full, "rows": rows}))


if __name__ == "__main__":
    main()
