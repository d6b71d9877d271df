"""How fast training steps are: `python tests/bench/training.py [--full] [--compile] [--device cuda]`.

Per setting: the seconds of a joint step and of a pretraining step (batch 16, HR crops of 128 px, random images and a
random VGG19 up to conv3_4), images a second, and the floating-point operations a second that were achieved (counted by
PyTorch over forward and backward passes; optimizers are left out) beside those of a plain matrix product in the same
number format, measured in the same run. Then the joint step fed with images from a disk, decoded by one worker: the
share of the time that it waits for them. With --compile also how far the losses of compiled networks are from those of
plain ones. Only ratios within one run mean something. A table, then one JSON line.
"""

import argparse
import json
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from ddnsr_cli.config import Precision
from ddnsr_cli.data.config import StreamConfig
from ddnsr_cli.data.images import list_images
from ddnsr_cli.data.targets import ImageSet
from ddnsr_cli.data.unpaired_stream import UnpairedDataset, unpaired_batches
from ddnsr_cli.nets.vgg19 import Tap, VGG19Features
from ddnsr_cli.training.loop import Meter
from ddnsr_cli.training.options import LITE, small_helpers, track_options
from ddnsr_cli.training.paired import PairedTrainer
from ddnsr_cli.training.paired_options import PairedOptions
from ddnsr_cli.training.reconstruction import NO_FEATURE_NETS, FeatureNets, VggDifference
from ddnsr_cli.training.trainer import JointTrainer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.helpers.random_vgg import random_vgg19

BATCH, CROP_PX, ROUNDS = 16, 128, 3
MATRIX = {"cpu": 2048, "cuda": 8192}  # a GPU needs a large one to be busy
FORMATS = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16}
SHORT = StreamConfig(batch=BATCH, crop_px=CROP_PX, crops_per_image=16, images_per_round=6, workers=1)
FED_STEPS = 2 * SHORT.batches_per_round  # as much decoding a step as in longer rounds, in steps that a CPU can do


def synchronized(device):
    """Now, with all that was asked of the device done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(work, device, rounds=ROUNDS):
    """The least of a few runs, after one to warm up."""
    times = []
    for _ in range(rounds + 1):
        start = synchronized(device)
        work()
        times.append(synchronized(device) - start)
    return min(times[1:])


def product_rate(precision, device):
    """Operations a second of a matrix product."""
    side = MATRIX.get(device.type, MATRIX["cpu"])
    matrix = torch.randn(side, side, device=device).to(FORMATS[precision])
    return 2 * side**3 / seconds(lambda: matrix @ matrix, device)


def joint(precision, device, *, full, compiled=False):
    plain = track_options(2)
    options = plain if full else small_helpers(replace(plain, sr_net=LITE))
    options = replace(options, precision=precision, compiled=compiled)
    state, content, cycle = random_vgg19("conv3_4"), Tap(layer="conv3_4"), Tap(layer="conv2_2")
    feature_nets = FeatureNets(
        lr=VGG19Features(state, (content, cycle)).to(device),
        hr=VggDifference(VGG19Features(state, (content,), autocast=True).to(device)),
    )
    return JointTrainer(options, feature_nets, device)


def pretraining(precision, device, *, full):
    network = track_options(2).sr_net if full else LITE
    return PairedTrainer(PairedOptions(precision=precision, network=network), NO_FEATURE_NETS, device)


def random_batch():
    generator = torch.Generator().manual_seed(0)
    sides = (CROP_PX // 4, CROP_PX)
    return [torch.randint(0, 256, (BATCH, 3, side, side), dtype=torch.uint8, generator=generator) for side in sides]


def operations(trainer):
    """Of one step, forwards and backwards."""
    with FlopCounterMode(display=False) as counter:
        trainer.train_step(*random_batch())
    return counter.get_total_flops()


def step_row(trainer, device, *, counted, product):
    """counted: operations of a step; product: operations a second of a matrix product."""
    batch = random_batch()
    step_s = seconds(lambda: trainer.train_step(*batch), device)
    rate = counted / step_s
    return {
        "step_s": step_s,
        "steps_per_s": 1 / step_s,
        "images_per_s": BATCH / step_s,
        "gflop_a_step": counted / 1e9,
        "gflop_per_s": rate / 1e9,
        "of_product": rate / product,
    }


def write_images(folder):
    """Images of the usual sizes: HR of 1.5 megapixels, LR tiles of 256 px, textured so that PNG has work to do."""
    rng = np.random.default_rng(0)
    for name, (height, width) in (("hr", (1024, 1536)), ("lr", (256, 256))):
        (folder / name).mkdir()
        y, x = np.mgrid[:height, :width]
        for number in range(8):
            smooth = np.stack([x % 256, y % 256, 128 + 60 * np.sin(x / (9 + number))], axis=2)
            pixels = smooth + rng.normal(0, 8, (height, width, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number}.png")


def fed_row(trainer, folder, device):
    """Share of the time that a joint step waits for images from the disk, its first batch apart."""
    lr, hr = (ImageSet(images=tuple(list_images(folder / name))) for name in ("lr", "hr"))
    visits = UnpairedDataset(lr=lr, hr=(hr,), stream=SHORT)
    with closing(unpaired_batches(visits, start=0, on_refused=lambda _refusal: None)) as batches:
        start = time.perf_counter()
        trainer.train_step(*next(batches))
        first_s = synchronized(device) - start
        meter = Meter()
        for _ in range(FED_STEPS):
            crops = meter.wait(batches)
            meter.add(trainer.train_step(*crops), images=BATCH)
        synchronized(device)
        report = meter.report(FED_STEPS)
    return {"first_s": first_s, "images_per_s": report.images_per_s, "waiting_share": report.waiting_share}


def compiled_difference(precision, device, *, full):
    """Largest relative difference of a loss of the second step, of compiled networks from plain ones."""
    figures = []
    for compiled in (False, True):
        trainer = joint(precision, device, full=full, compiled=compiled)
        trainer.train_step(*random_batch())
        figures.append(trainer.train_step(*random_batch()))
    plain, other = figures
    losses = [name for name in plain if not name.startswith("norm_") and "drift" not in name]
    return max(abs(other[name] / plain[name] - 1) for name in losses)


def rows_of(precision, device, given):
    """(name, row) of every setting in a number format."""
    product = product_rate(precision, device)
    yield "matrix product", {"gflop_per_s": product / 1e9}
    for name, make in (("pretraining", pretraining), ("joint", joint)):
        trainer = make(precision, device, full=given.full)
        counted = operations(trainer)
        yield name, step_row(trainer, device, counted=counted, product=product)
    yield "joint, fed", fed_row(trainer, given.images, device)
    if given.compile:
        trainer = joint(precision, device, full=given.full, compiled=True)
        row = step_row(trainer, device, counted=counted, product=product)  # counting inside would undo the compiling
        yield "joint, compiled", {**row, "loss_difference": compiled_difference(precision, device, full=given.full)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the paper's sizes instead of the lite ones")
    parser.add_argument("--compile", action="store_true", help="the joint step with torch.compile too")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    device = torch.device(given.device)
    torch.backends.cuda.matmul.allow_tf32 = True  # as convolutions have it from the start
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        given.images = Path(folder)
        write_images(given.images)
        for precision in FORMATS:
            for name, row in rows_of(precision, device, given):
                rows.append({"name": name, "precision": str(precision), **row})
                figures = "  ".join(f"{key} {value:.4g}" for key, value in row.items())
                print(f"{name:16} {precision}  {figures}", flush=True)
    place = {"device": str(device), "threads": torch.get_num_threads(), "torch": torch.__version__}
    print(json.dumps({**place, "full": given.full, "rows": rows}))


if __name__ == "__main__":
    main()
