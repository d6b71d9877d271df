"""Noise by rule: as fine or coarse, gray or colored, even or growing with brightness as cameras'."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ddnsr_cli.data.degradation_config import DegradationConfig
from ddnsr_cli.data.filters import Pixels

LEAST_PHOTONS = 1e-6  # at mid gray: keeps noise of no strength defined
MOST_PHOTONS = 1e6


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Gaussian noise of one image that has been drawn, before it is known what it lies on."""

    field: Pixels
    """(3, H, W) of unit variance, its neighbors and channels related as drawn."""

    shot: float
    """Share of the variance that grows with brightness."""

    sigma: float
    """Standard deviation at mid gray, of 1."""

    def on(self, lr: Pixels) -> Pixels:
        """The noise of an image (3, H, W) in [0, 1], to be added to it."""
        variance = (1 - self.shot) + self.shot * 2 * np.clip(lr, 0, 1)  # equals 1 at mid gray
        return np.asarray(self.sigma * np.sqrt(variance) * self.field, np.float32)


def draw_noise(
    size: tuple[int, int], config: DegradationConfig, rng: np.random.Generator, *, sigma: float, gray: bool = False
) -> Noise:
    """Gaussian noise for an image of (H, W) pixels, of a standard deviation of `sigma`, of 1.

    gray: the same in all channels. Whether it is coarse, and then weaker, and all else, is drawn.
    """
    gray_share = 1.0 if gray else rng.uniform(*config.gray_share)
    shot = float(rng.uniform(*config.shot_share))
    common, own = (rng.standard_normal((channels, *size), dtype=np.float32) for channels in (1, 3))
    if rng.random() < config.coarse_chance:
        grain = rng.uniform(*config.coarse_sigma)
        common, own = coarsened(common, grain), coarsened(own, grain * rng.uniform(*config.chroma_width))
        sigma *= rng.uniform(*config.coarse_level)
    field = np.sqrt(gray_share) * common + np.sqrt(1 - gray_share) * own
    return Noise(field=field.astype(np.float32), shot=shot, sigma=sigma)


def photon_noise(image: Pixels, sigma: float, rng: np.random.Generator, *, gray: bool = False) -> Pixels:
    """The noise of counted photons, to be added to an image (3, H, W) in [0, 1]: Poisson, not Gaussian.

    sigma: standard deviation at mid gray, of 1. gray: brightness is counted instead of each channel.
    """
    photons = np.clip(0.25 / max(sigma, 1e-9) ** 2, LEAST_PHOTONS, MOST_PHOTONS) * 2  # of white
    light = np.clip(image.mean(axis=0, keepdims=True) if gray else image, 0, 1)
    return np.asarray(rng.poisson(light * photons) / photons - light, np.float32)


def coarsened(noise: Pixels, sigma: float) -> Pixels:
    """White noise (C, H, W) blurred by a Gaussian, 5 taps wide or more where it and the image are wide.

    It has unit variance again.
    """
    reach = max(2, min(round(2.5 * sigma), min(noise.shape[-2:]) // 4))
    axis = torch.arange(2.0 * reach + 1) - reach
    line = torch.exp(-0.5 * (axis / sigma) ** 2)
    line /= line.square().sum().sqrt()
    field = F.pad(torch.from_numpy(noise)[:, None], (reach,) * 4, mode="reflect")
    return _numpy(F.conv2d(F.conv2d(field, line[None, None, None]), line[None, None, :, None])[:, 0])


def _numpy(field: Tensor) -> NDArray[np.float32]:
    result: NDArray[np.float32] = field.numpy()
    return result
