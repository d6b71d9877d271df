"""The pieces that all networks share."""

import torch.nn.functional as F
from torch import Tensor, nn

LEAKY_SLOPE = 0.2  # every LeakyReLU of the paper and of ESRGAN


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A 3x3 convolution with bias that keeps the size (zero padding).

    Shape: (N, in_channels, H, W) -> (N, out_channels, H, W)
    """
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)


def lrelu(x: Tensor) -> Tensor:
    """LeakyReLU of slope 0.2, in place: its input is always a fresh convolution result."""
    return F.leaky_relu(x, LEAKY_SLOPE, inplace=True)
