"""Sharpened targets: an unsharp mask that leaves flat parts, and the noise in them, alone."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ddnsr_cli.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SharpenConfig:
    """An unsharp mask; the defaults are those of Real-ESRGAN (Wang et al. 2021)."""

    amount: float = 0.5
    """Factor of the difference from the blurred image that is added."""

    sigma_px: float = 8.0
    """Of the Gaussian blur. Large ones raise the contrast around things, small ones (1 to 2) the finest detail."""

    threshold: float = 10.0
    """Differences from the blurred image up to so many levels of 255 are left alone."""

    def __post_init__(self) -> None:
        if not (0 < self.amount < math.inf and 0 < self.sigma_px < math.inf and 0 <= self.threshold < 255):
            raise ConfigError(
                f"Sharpening takes an amount and a sigma above 0 and a threshold of 0 to 255 levels, got "
                f"{self.amount:g}, {self.sigma_px:g} and {self.threshold:g}."
            )


def sharpened(images: Tensor, config: SharpenConfig) -> Tensor:
    """Images with the differences from a blurred copy enlarged where they exceed the threshold, softly masked.

    Networks that learn from such targets make crisper edges.
    Shape: (N, C, H, W) in [0, 1] -> the same
    """
    detail = images - _blurred(images, config.sigma_px)
    mask = _blurred((detail.abs() > config.threshold / 255).to(images.dtype), config.sigma_px)
    return torch.lerp(images, (images + config.amount * detail).clamp(0, 1), mask)


def _blurred(images: Tensor, sigma_px: float) -> Tensor:
    """A Gaussian of three sigmas on either side, fewer where the image is smaller; mirrored at the border."""
    height, width = images.shape[-2:]
    channels = images.shape[1]
    column, row = _gaussian(images, height, sigma_px), _gaussian(images, width, sigma_px)
    reach = (len(row) // 2, len(row) // 2, len(column) // 2, len(column) // 2)
    padded = F.pad(images, reach, mode="reflect")
    columns = F.conv2d(padded, column.reshape(1, 1, -1, 1).repeat(channels, 1, 1, 1), groups=channels)
    return F.conv2d(columns, row.reshape(1, 1, 1, -1).repeat(channels, 1, 1, 1), groups=channels)


def _gaussian(images: Tensor, side: int, sigma_px: float) -> Tensor:
    reach = min(round(3 * sigma_px), side - 1)
    places = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    line = torch.exp(-0.5 * (places / sigma_px) ** 2)
    return line / line.sum()
