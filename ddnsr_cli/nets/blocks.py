"""What networks share: their smallest parts, and what all that enlarge have in common."""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddnsr_cli.nets.config import LEAKY_SLOPE, VIEWS, SrTraits


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A 3x3 convolution with bias that keeps the size (zero padding).

    Shape: (N, in_channels, H, W) -> (N, out_channels, H, W)
    """
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)


def lrelu(x: Tensor) -> Tensor:
    """LeakyReLU of slope 0.2, in place: its input is always a fresh convolution result."""
    return F.leaky_relu(x, LEAKY_SLOPE, inplace=True)


def as_view(images: Tensor, view: int) -> Tensor:
    """Images (N, C, H, W) as one of their eight views, 0 to 7."""
    mirrored = images.flip(3) if view >= VIEWS // 2 else images
    return torch.rot90(mirrored, view % 4, (2, 3))


def undone_view(images: Tensor, view: int) -> Tensor:
    """The images that `as_view` turned so."""
    upright = torch.rot90(images, -(view % 4), (2, 3))
    return upright.flip(3) if view >= VIEWS // 2 else upright


class SrNet(nn.Module):
    """RGB LR image to RGB SR image.

    Shape: (N, 3, H, W) -> (N, 3, scale * H, scale * W), values near [0, 1], not clamped.
    """

    @property
    @abstractmethod
    def traits(self) -> SrTraits:
        """What tiling has to know."""
