"""Teach a degrader to carry the noise that it is given, as strong and as colored as it is, and nothing else.

    python recipes/teach_noise.py degrader.safetensors --hr clean --noise-source noisy -o taught.safetensors

What the network makes of an image beside a noise-free input stays as it was, its blur and colors; to that the noise is
to be added. Noise is simulated, and in half of the crops real where --noise-source is given: that of smooth parts.
Every fourth input (--clean-every) is another clean image as it is, of which nothing is to come. Tells the loss, in
levels.
"""

import argparse
import copy
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from image_files import run_script
from numpy.typing import NDArray
from torch import Tensor

from ddnsr_cli.data.degradations import CARRIED_NOISE, draw_noise
from ddnsr_cli.data.images import list_images
from ddnsr_cli.data.noise_patches import PatchLimits, SmoothPatches, noise_field, slow_part, smooth_patches
from ddnsr_cli.data.sampler import random_crop
from ddnsr_cli.errors import ConfigError, DataError
from ddnsr_cli.io.read import read_rgb
from ddnsr_cli.losses import content_reference, noise_transfer_loss
from ddnsr_cli.nets.degrader import Degrader
from ddnsr_cli.weights.checkpoint import load_degrader, save_degrader, takes_noise

BATCH, CROP_PX = 8, 128
CLEAN_EVERY = 4  # noise inputs, one is a clean image
SIGMAS = (0.7, 20.0)  # levels; drawn evenly over their logarithm: weak noise is as common as strong
DECAY = 0.99  # of the averaged weights, a step
REPORT_EVERY = 50

Noisy = tuple[NDArray[np.uint8], SmoothPatches]
"""An image, and where it is smooth."""


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Noise inputs and the noise in them, drawn."""

    given: Tensor
    """(N, 3, h, w) in [0, 1], whole levels."""

    noise: Tensor
    """(N, 3, h, w): what is to be carried."""


def main(words: Sequence[str]) -> None:
    """Parse the command line, train, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="a degrader of two inputs")
    parser.add_argument("--hr", type=Path, required=True, help="folder of clean images")
    parser.add_argument("--noise-source", type=Path, help="folder of real noisy photos")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clean-every", type=int, default=CLEAN_EVERY, help=f"at most {BATCH}, the batch")
    given = parser.parse_args(words)
    if not 1 <= given.clean_every <= BATCH:
        raise ConfigError(f"--clean-every must be from 1 to {BATCH}, got {given.clean_every}.")
    net, metadata = load_degrader(given.weights)
    if not takes_noise(metadata, given.weights):
        raise ConfigError(f"{given.weights} was trained with a single input, and carries no noise. Take another.")
    clean = [image for image in map(read_rgb, list_images(given.hr)) if min(image.shape[:2]) >= CROP_PX]
    if len(clean) < 2:
        raise DataError(f"--hr {given.hr} has {len(clean)} images of {CROP_PX} pixels a side; 2 are needed.")
    noisy = smooth_images(given.noise_source) if given.noise_source else []
    given.output.parent.mkdir(parents=True, exist_ok=True)  # before the work, which would be lost
    how = {"steps": given.steps, "rate": given.rate, "seed": given.seed, "clean_every": given.clean_every}
    taught = teach(net.float(), clean, noisy, **how)
    save_degrader(given.output, taught, metadata=metadata, half=True)


def smooth_images(folder: Path) -> list[Noisy]:
    """The images that have smooth parts. Raises DataError when none has."""
    found = [(image, smooth_patches(image, PatchLimits())) for image in map(read_rgb, list_images(folder))]
    usable = [(image, patches) for image, patches in found if patches is not None]
    if not usable:
        raise DataError(f"None of the {len(found)} images of {folder} has a smooth part. Give others.")
    return usable


def teach(
    net: Degrader,
    clean: Sequence[NDArray[np.uint8]],
    noisy: Sequence[Noisy],
    *,
    steps: int,
    rate: float,
    seed: int,
    clean_every: int = CLEAN_EVERY,
    crop_px: int = CROP_PX,
) -> Degrader:
    """The averaged network after so many steps. What `net` makes without noise is the target, beside the noise."""
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    before = copy.deepcopy(net)
    average = copy.deepcopy(net)
    net.train().requires_grad_(True)
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    rng = np.random.default_rng(seed)
    losses: list[float] = []
    for step in range(steps):
        hr, others = (_crops(clean, crop_px, rng) for _ in range(2))
        drawn = draws(content_reference(others), noisy, rng, clean_every)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            base = before(hr, slow_part(drawn.given)).float()
        with torch.autocast("cpu", torch.bfloat16):
            made = net(hr, drawn.given).float()
        loss = noise_transfer_loss(made, base + drawn.noise, base)
        optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        share = 1 - min(DECAY, (1 + step) / (10 + step))
        torch._foreach_lerp_([*average.parameters()], [one.detach() for one in net.parameters()], share)
        losses.append(255 * loss.item())
        if (step + 1) % REPORT_EVERY == 0:
            sys.stderr.write(f"step {step + 1}  loss {np.mean(losses[-REPORT_EVERY:]):.3f}\n")
    return average


def draws(others: Tensor, noisy: Sequence[Noisy], rng: np.random.Generator, clean_every: int = CLEAN_EVERY) -> Draws:
    """Noise inputs on the slow part of other images (N, 3, h, w); of so many one is such an image, without noise."""
    inputs, noises = [], []
    for index, (other, slow) in enumerate(zip(others, slow_part(others), strict=True)):
        plain = index % clean_every == clean_every - 1
        base = other if plain else slow
        noise = torch.zeros_like(base) if plain else _noise(base.numpy(), noisy, rng)
        inputs.append((base + noise).clamp(0, 1))
        noises.append(inputs[-1] - base)
    return Draws(given=torch.stack(inputs).mul(255).round() / 255, noise=torch.stack(noises))


def _noise(base: NDArray[np.float32], noisy: Sequence[Noisy], rng: np.random.Generator) -> Tensor:
    """(3, h, w) for an image of that shape, in [0, 1]."""
    if noisy and rng.random() < 0.5:
        image, patches = noisy[int(rng.integers(len(noisy)))]
        field = noise_field(image, patches, 255 * base.transpose(1, 2, 0), rng)
        return torch.from_numpy(field.transpose(2, 0, 1) / np.float32(255))
    sigma = float(np.exp(rng.uniform(*np.log(SIGMAS))))
    noise = draw_noise((base.shape[1], base.shape[2]), CARRIED_NOISE, rng, sigma=sigma / 255)
    return torch.from_numpy(noise.on(base).astype(np.float32))


def _crops(images: Sequence[NDArray[np.uint8]], side: int, rng: np.random.Generator) -> Tensor:
    chosen = [random_crop(images[int(rng.integers(len(images)))], side, rng) for _ in range(BATCH)]
    return torch.stack(chosen).float() / 255


if __name__ == "__main__":
    run_script(main)
