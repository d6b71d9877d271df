"""Simulated noise that the degrader learns to carry from one image to another. Not in the paper.

What the adversarial loss asks of a degrader, noise like the source's, is the noise of the image it is given. That
much can be learned without any source: put drawn noise on one image, and ask for the same noise on another. Its
level, color and grain are drawn again for each crop, so that what is learned is to carry, not to invent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ddnsr_cli.data.config import DegradationConfig
from ddnsr_cli.data.degradations import Noise, draw_noise
from ddnsr_cli.losses import content_reference

NOISE = DegradationConfig(
    noise_sigma=(0.0, 20.0),
    coarse_chance=0.7,
    coarse_sigma=(0.3, 2.0),  # the noise of cameras' JPEGs leans on neighbors several pixels away
    gray_share=(0.0, 1.0),
)
STREAM = 6  # keeps these draws apart from those of the photos


@dataclass(frozen=True, kw_only=True)
class NoiseTransfer:
    """What the degrader is given beside HR crops, and what it is to make of both."""

    lr_noisy: Tensor
    """(N, 3, h, w) in [0, 1], whole levels: shrunk crops of other images with noise."""

    lr_wanted: Tensor
    """(N, 3, h, w) in [0, 1]: the HR crops shrunk, each with the noise of its `lr_noisy`."""


def draw_noise_transfer(hr: Tensor, *, seed: int, step: int) -> NoiseTransfer:
    """What to transfer in a step, to each crop from the one before it. hr: (N, 3, 4h, 4w), uint8."""
    shrunk = content_reference(hr.float() / 255)
    others = shrunk.roll(1, dims=0)
    size, rng = (shrunk.shape[2], shrunk.shape[3]), np.random.default_rng([seed, STREAM, step])
    noises = [draw_noise(size, NOISE, rng, sigma=rng.uniform(*NOISE.noise_sigma) / 255) for _ in shrunk]
    lr_noisy = _noisy(others, noises).clamp(0, 1)
    return NoiseTransfer(
        lr_noisy=torch.round(lr_noisy * 255) / 255,
        lr_wanted=_noisy(shrunk, noises).clamp(0, 1),
    )


def _noisy(images: Tensor, noises: Sequence[Noise]) -> Tensor:
    pairs = zip(images, noises, strict=True)
    return torch.stack([image + torch.from_numpy(noise.on(image.numpy())) for image, noise in pairs])
