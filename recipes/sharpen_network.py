"""Bake an unsharp mask into a network: its last convolutions learn what the mask makes of its own results.

    python recipes/sharpen_network.py mixed.safetensors --lr pairs/lr -o sharp.safetensors --mask 0.4,1.5,0

A filter after the network would be lost in every program that takes the file alone. What the mask does is a fixed
function of the features before the last three convolutions, so some hundred steps of plain regression find it, and
all that the network has learned before stays. Tells the error left, in levels, beside the mask's whole effect.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from image_files import run_script
from numpy.typing import NDArray
from torch import Tensor, nn

from ddnsr_cli.data.images import list_images
from ddnsr_cli.errors import ConfigError, DataError
from ddnsr_cli.io.read import read_rgb
from ddnsr_cli.nets.blocks import lrelu
from ddnsr_cli.nets.rrdb import RRDBNet
from ddnsr_cli.training.paired import sharpened
from ddnsr_cli.training.paired_options import SharpenConfig
from ddnsr_cli.weights.checkpoint import load_rrdb_net, save_sr_net

BATCH, CROP_PX = 4, 56
BORDER_PX = 12  # HR pixels of a crop that do not count: there the mask and the convolutions see other borders
REPORT_EVERY = 20


def main(words: Sequence[str]) -> None:
    """Parse the command line, train, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="an RRDB network")
    parser.add_argument("--lr", type=Path, required=True, help="folder of LR images of the kind that it is for")
    parser.add_argument("--mask", default="0.4,1.5,0", help="amount, sigma in pixels, threshold in levels")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(words)
    mask = mask_of(given.mask)
    torch.manual_seed(given.seed)
    net = load_rrdb_net(given.weights)[0].float().to(memory_format=torch.channels_last)
    given.output.parent.mkdir(parents=True, exist_ok=True)  # before the work, which would be lost
    bake(net, crops(list_images(given.lr), given.seed), mask, steps=given.steps, rate=given.rate)
    save_sr_net(given.output, net, metadata={}, half=True)


def mask_of(text: str) -> SharpenConfig:
    """`AMOUNT,SIGMA,THRESHOLD`. Raises ConfigError."""
    try:
        amount, sigma_px, threshold = map(float, text.split(","))
    except ValueError as error:
        raise ConfigError(f"--mask takes amount,sigma,threshold, as in 0.4,1.5,0; got {text!r}.") from error
    return SharpenConfig(amount=amount, sigma_px=sigma_px, threshold=threshold)


def crops(files: Sequence[Path], seed: int) -> Iterator[Tensor]:
    """Batches of LR crops, (BATCH, 3, CROP_PX, CROP_PX) in [0, 1], without end."""
    images = [image for image in map(read_rgb, files) if min(image.shape[:2]) >= CROP_PX]
    if not images:
        raise DataError(f"No image of at least {CROP_PX} pixels a side among {len(files)}. Give others with --lr.")
    rng = np.random.default_rng(seed)
    while True:
        chosen = [images[index] for index in rng.integers(len(images), size=BATCH)]
        yield torch.stack([_crop(image, rng) for image in chosen]).contiguous(memory_format=torch.channels_last)


def bake(net: RRDBNet, batches: Iterator[Tensor], mask: SharpenConfig, *, steps: int, rate: float) -> None:
    """Train the last three convolutions in place, by absolute differences; the rate falls to 0 along a cosine."""
    learners = nn.ModuleList([net.conv_up2, net.conv_hr, net.conv_last])
    before = RRDBNet(net.config).to(memory_format=torch.channels_last).requires_grad_(False)
    before.load_state_dict(net.state_dict())
    learners.requires_grad_()
    optimizer = torch.optim.Adam(learners.parameters(), lr=rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    errors: list[tuple[float, float]] = []
    for step in range(1, steps + 1):
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                trunk = _trunk(before, next(batches))
                plain = _head(before, trunk)
            sr = _inner(_head(net, trunk))
        target = _inner(sharpened(plain.clamp(0, 1), mask))
        loss = F.l1_loss(sr, target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        errors.append((255 * loss.item(), 255 * F.l1_loss(_inner(plain), target).item()))
        if step % REPORT_EVERY == 0:
            left, whole = np.mean(errors, axis=0)
            sys.stderr.write(f"step {step}: {left:.3f} of {whole:.3f} levels left\n")
            errors.clear()
    net.requires_grad_(requires_grad=False)


def _crop(image: NDArray[np.uint8], rng: np.random.Generator) -> Tensor:
    top, left = (int(rng.integers(0, side - CROP_PX + 1)) for side in image.shape[:2])
    crop = image[top : top + CROP_PX, left : left + CROP_PX]
    return torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1))).float() / 255


def _trunk(net: RRDBNet, lr: Tensor) -> Tensor:
    """Features before the second enlargement, at 2 times the LR size."""
    shallow = net.conv_first(lr)
    trunk = shallow + net.conv_body(net.body(shallow))
    features: Tensor = lrelu(net.conv_up1(_twice(trunk)))
    return features


def _head(net: RRDBNet, trunk: Tensor) -> Tensor:
    sr: Tensor = net.conv_last(lrelu(net.conv_hr(lrelu(net.conv_up2(_twice(trunk))))))
    return sr.float()


def _twice(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2, mode="nearest")


def _inner(images: Tensor) -> Tensor:
    return images[..., BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX]


if __name__ == "__main__":
    run_script(main)
