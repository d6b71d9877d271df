"""Sharpened targets: an unsharp mask that leaves flat parts, and the noise in them, alone."""

import torch
import torch.nn.functional as F
from torch import Tensor

AMOUNT = 0.5  # of the difference from the blurred image that is added: Real-ESRGAN's setting, as the two below
SIGMA_PX = 8.0  # of the blur
THRESHOLD = 10 / 255  # differences from the blurred image up to this are left alone


def sharpened(images: Tensor) -> Tensor:
    """Images with the differences from a blurred copy enlarged where they exceed 10 levels, softly masked.

    Networks that learn from such targets make crisper edges (Wang et al. 2021).
    Shape: (N, C, H, W) in [0, 1] -> the same
    """
    detail = images - _blurred(images)
    mask = _blurred((detail.abs() > THRESHOLD).to(images.dtype))
    return torch.lerp(images, (images + AMOUNT * detail).clamp(0, 1), mask)


def _blurred(images: Tensor) -> Tensor:
    """A Gaussian of three sigmas on either side, fewer where the image is smaller; mirrored at the border."""
    height, width = images.shape[-2:]
    channels = images.shape[1]
    column, row = _gaussian(images, height), _gaussian(images, width)
    reach = (len(row) // 2, len(row) // 2, len(column) // 2, len(column) // 2)
    padded = F.pad(images, reach, mode="reflect")
    columns = F.conv2d(padded, column.reshape(1, 1, -1, 1).repeat(channels, 1, 1, 1), groups=channels)
    return F.conv2d(columns, row.reshape(1, 1, 1, -1).repeat(channels, 1, 1, 1), groups=channels)


def _gaussian(images: Tensor, side: int) -> Tensor:
    reach = min(round(3 * SIGMA_PX), side - 1)
    places = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    line = torch.exp(-0.5 * (places / SIGMA_PX) ** 2)
    return line / line.sum()
