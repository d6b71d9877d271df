"""Noise by rule: as fine or coarse, gray or colored, even or growing with brightness as cameras'."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.data.degradation_config import DegradationConfig
from ddnsr_cli.data.filters import Pixels

MOST_PHOTONS = 1e6  # of white: a quarter of a level of noise is less than rounding


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
        variance = (1 - self.shot) + (2 * self.shot) * np.clip(lr, 0, 1)  # equals 1 at mid gray
        return np.asarray(np.sqrt(variance) * self.field * np.float32(self.sigma))


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
    field = own * np.float32((1 - gray_share) ** 0.5)
    field += common * np.float32(gray_share**0.5)
    return Noise(field=field, shot=shot, sigma=sigma)


def photon_noise(image: Pixels, sigma: float, rng: np.random.Generator, *, gray: bool = False) -> Pixels:
    """The noise of counted photons, to be added to an image (3, H, W) in [0, 1]: Poisson, not Gaussian.

    sigma: standard deviation at mid gray, of 1. gray: brightness is counted instead of each channel.
    """
    photons = min(0.5 / max(sigma, 1e-9) ** 2, MOST_PHOTONS)  # of white
    light = np.clip(image.mean(axis=0, keepdims=True) if gray else image, 0, 1)
    return np.asarray(rng.poisson(light * photons) / photons - light, np.float32)


def coarsened(noise: Pixels, sigma: float) -> Pixels:
    """White noise (C, H, W) blurred by a Gaussian, 5 taps wide or more where it and the image are wide.

    It has unit variance again.
    """
    reach = max(2, min(round(2.5 * sigma), min(noise.shape[-2:]) // 4))
    line = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    line /= np.sqrt(np.square(line).sum())
    padded = np.pad(noise, ((0, 0), (reach, reach), (reach, reach)), mode="reflect")
    across = _weighed_sum(padded, line, axis=2)
    return _weighed_sum(across, line, axis=1)


def _weighed_sum(image: Pixels, line: NDArray[np.float64], *, axis: int) -> Pixels:
    """Of an image's parts that are shifted along an axis; shorter there by the length of `line` less 1."""
    image = np.moveaxis(image, axis, 0)
    length = len(image) - len(line) + 1
    result = np.zeros((length, *image.shape[1:]), np.float32)
    for first, weight in enumerate(line.astype(np.float32)):
        result += weight * image[first : first + length]
    return np.moveaxis(result, 0, axis)
