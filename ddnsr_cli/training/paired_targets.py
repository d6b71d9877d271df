"""What the truth of a pair is made into for learning: sharpened, or the result of a network that teaches.

Sharpening is an unsharp mask that leaves flat parts, and the noise in them, alone.

A network that was trained against a discriminator draws detail where the input says little, and draws another one when
the input is turned. What its eight views agree on is in the input, the rest is chance. Each step shows the learner one
view, drawn from the seed: by absolute differences it learns their median, at the cost of one view a step.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.nets.blocks import VIEWS, SrNet, as_view, undone_view


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


VIEW_KEY = 11  # of the seed, so that views are not drawn as anything else is
WINDOW_PX = 9  # LR pixels over which the colors of the teacher's result are compared with those of the input


class Teacher:
    """Targets (N, 3, scale * h, scale * w) of LR images (N, 3, h, w), in [0, 1], without a graph."""

    def __init__(self, net: SrNet, *, seed: int) -> None:
        """net: on the device of the images to come."""
        self._net = net.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._seed = seed

    @torch.no_grad()
    def __call__(self, lr: Tensor, step: int) -> Tensor:
        """The result on the view of this step, turned back, with the colors of the input."""
        view = int(np.random.default_rng([self._seed, VIEW_KEY, step]).integers(VIEWS))
        turned = as_view(lr, view).contiguous(memory_format=torch.channels_last)
        sr = undone_view(self._net(turned).float(), view)
        return with_colors_of(lr, sr).clamp(0, 1)


def with_colors_of(lr: Tensor, sr: Tensor) -> Tensor:
    """SR images whose local means, over some nine LR pixels, are those of LR. lr: (N, 3, h, w); sr: a multiple."""
    scale = sr.shape[-1] // lr.shape[-1]
    reach = min(WINDOW_PX // 2, min(lr.shape[-2:]) - 1)
    error = F.pad(lr - F.avg_pool2d(sr, scale), (reach,) * 4, mode="reflect")
    slow = F.avg_pool2d(error, 2 * reach + 1, stride=1)
    return sr + F.interpolate(slow, scale_factor=scale, mode="bilinear", align_corners=False)
