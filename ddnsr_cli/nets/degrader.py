"""The degradation network D, with its two inputs (Li et al. 2023, figure 2), and one that is a blur kernel."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddnsr_cli.config import SCALE
from ddnsr_cli.errors import ConfigError
from ddnsr_cli.nets.blocks import conv3x3, lrelu
from ddnsr_cli.nets.config import LEAKY_SLOPE


@dataclass(frozen=True, kw_only=True)
class DegraderConfig:
    """The sizes of a degrader."""

    features: int = 64
    """Channels at LR size; the branches widen to 4 and 8 times as many."""

    blocks: int = 8
    """Residual blocks after the two branches meet."""

    bicubic_first: bool = False
    """HR images are shrunk by bicubic and only then looked at: what is learned is a translation at LR size."""

    def __post_init__(self) -> None:
        if min(self.features, self.blocks) < 1:
            raise ConfigError(f"features and blocks must be at least 1, got {self}.")


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a LeakyReLU between them, and a skip.

    Shape: (N, C, H, W) -> (N, C, H, W)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """The output of the block, of the shape of x."""
        change: Tensor = self.conv2(lrelu(self.conv1(x)))
        return x + change


class BicubicShrink(nn.Module):
    """Antialiased bicubic by 4.

    Shape: (N, C, 4H, 4W) -> (N, C, H, W)
    """

    def forward(self, hr: Tensor) -> Tensor:
        """A quarter as high and as wide, the same range but for some overshoot."""
        size = (hr.shape[-2] // SCALE, hr.shape[-1] // SCALE)
        return F.interpolate(hr, size=size, mode="bicubic", antialias=True)


class Degrader(nn.Module):
    """Clean HR image and real noisy LR image to a realistic LR partner of the first.

    `y_L = D(y_H, x_L)`: down-sampling is learned from `hr`, noise is taken from `lr_real`. With `lr_real` all
    zeros this is the single-input network of ablation D, which can hardly make noise (appendix A).

    Shape: hr (N, 3, 4H, 4W), lr_real (N, 3, H, W) -> (N, 3, H, W), values near [0, 1], not clamped.
    """

    def __init__(self, config: DegraderConfig) -> None:
        super().__init__()
        self.config = config
        f = config.features
        down = (
            conv3x3(3, f),
            conv3x3(f, 2 * f), _lrelu_layer(),
            _halve(2 * f, 2 * f), _lrelu_layer(),
            conv3x3(2 * f, 4 * f), _lrelu_layer(),
            _halve(4 * f, 4 * f), _lrelu_layer(),
            conv3x3(4 * f, f),
        )  # fmt: skip
        self.hr_branch = nn.Sequential(*((BicubicShrink(), conv3x3(3, f)) if config.bicubic_first else down))
        self.noise_branch = nn.Sequential(
            conv3x3(3, f), _lrelu_layer(),
            conv3x3(f, 2 * f), _lrelu_layer(),
            conv3x3(2 * f, 4 * f), _lrelu_layer(),
            conv3x3(4 * f, 8 * f), _lrelu_layer(),
        )  # fmt: skip
        self.merge = nn.Sequential(
            conv3x3(9 * f, f),
            *(ResidualBlock(f) for _ in range(config.blocks)),
            conv3x3(f, f),
        )
        self.conv_last = conv3x3(f, 3)

    def forward(self, hr: Tensor, lr_real: Tensor) -> Tensor:
        """LR of `hr` with the noise of `lr_real`. Raises ValueError when `hr` is not four times its size."""
        if hr.shape[-2:] != (SCALE * lr_real.shape[-2], SCALE * lr_real.shape[-1]):
            raise ValueError(f"hr must be 4 times lr_real, got {tuple(hr.shape)} and {tuple(lr_real.shape)}.")
        return self._merged(self.hr_branch(hr), lr_real)

    def translate(self, lr: Tensor, lr_real: Tensor) -> Tensor:
        """What `bicubic_first` has a degrader make of an LR image that is shrunk already; both (N, 3, H, W)."""
        return self._merged(self.hr_branch[1:](lr), lr_real)

    def _merged(self, clean: Tensor, lr_real: Tensor) -> Tensor:
        merged = self.merge(torch.cat((clean, self.noise_branch(lr_real)), dim=1))
        lr_fake: Tensor = self.conv_last(clean + merged)
        return lr_fake


@torch.no_grad()
def start_as_area(net: Degrader, generator: torch.Generator) -> None:
    """Initialize `net` so that its first output is `hr` averaged over squares of 4 x 4 pixels, exactly; or shrunk by
    bicubic, if it does that first.

    Three channels carry RGB through the HR branch, halved by averaging twice, to `conv_last`; the last convolution of
    the merged path starts at zero, so that noise fades in as it is learned. All else is Kaiming-normal.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.kaiming_normal_(module.weight, a=LEAKY_SLOPE, generator=generator)
            module.bias.zero_()
    last_merge = net.merge[-1]
    assert isinstance(last_merge, nn.Conv2d)
    last_merge.weight.zero_()
    for conv in (*net.hr_branch, net.conv_last):
        if isinstance(conv, nn.Conv2d):
            _carry_rgb(conv)


@torch.no_grad()
def start_with_noise(net: Degrader) -> None:
    """After `start_as_area`: add to the first output what a 3 x 3 mean takes out of `lr_real`, its finest detail.

    Most of that is noise, where an image has some. A degrader that starts without noise is in a trap: the
    reconstruction network then learns to keep noise, and the cycle closes without any being added. For fewer than 7
    features there is no room, and nothing is changed. Zero input still adds nothing.
    """
    if net.config.features < 7:
        return
    for depth, conv in enumerate(module for module in net.noise_branch if isinstance(module, nn.Conv2d)):
        _carry_image_and_mean(conv, from_image=depth == 0)
    first, *blocks, last = net.merge
    assert isinstance(first, nn.Conv2d)
    assert isinstance(last, nn.Conv2d)
    _subtract_mean(first, offset=net.config.features)
    for block in blocks:
        assert isinstance(block, ResidualBlock)
        block.conv2.weight[:3] = 0
    _carry_rgb(last)


def _carry_image_and_mean(conv: nn.Conv2d, *, from_image: bool) -> None:
    """Output channels 0 to 2 are the image, 3 to 5 its mean over 3 x 3: not negative, so LeakyReLU keeps both."""
    conv.weight[:6] = 0
    for channel in range(3):
        conv.weight[channel, channel, 1, 1] = 1
        if from_image:
            conv.weight[3 + channel, channel] = 1 / 9
        else:
            conv.weight[3 + channel, 3 + channel, 1, 1] = 1


def _subtract_mean(conv: nn.Conv2d, *, offset: int) -> None:
    """Output channel c of the first three is input channel c of the noise branch, less its mean."""
    conv.weight[:3] = 0
    for channel in range(3):
        conv.weight[channel, offset + channel, 1, 1] = 1
        conv.weight[channel, offset + 3 + channel, 1, 1] = -1


def _carry_rgb(conv: nn.Conv2d) -> None:
    """Output channel c of the first three is input channel c: as it is, or the mean of each 2 x 2 pixels."""
    conv.weight[:3] = 0
    for channel in range(3):
        if conv.stride == (2, 2):
            conv.weight[channel, channel, 1:3, 1:3] = 0.25
        else:
            conv.weight[channel, channel, 1, 1] = 1


def _halve(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A 4x4 convolution of stride 2: (N, in, 2H, 2W) -> (N, out, H, W)."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=4, stride=2, padding=1)


def _lrelu_layer() -> nn.LeakyReLU:
    return nn.LeakyReLU(LEAKY_SLOPE, inplace=True)


KERNEL_SIDES = (7, 5, 3, 1, 1, 1)
KERNEL_PX = 1 + sum(side - 1 for side in KERNEL_SIDES)
"""Side of the kernel that a `LinearDownscaler` is, pixels."""


class LinearDownscaler(nn.Module):
    """Shrinks by 2 under a blur kernel: the generator of KernelGAN (Bell-Kligler et al. 2019).

    Six convolutions without biases or activations are one kernel of 13 x 13 pixels. Learned as a product of several, it
    is found far better than as one. The product is made first, and is what images are filtered by: the results and the
    gradients are those of the convolutions one after the other, at a tenth of the cost.

    Shape: (N, C, H, W) -> (N, C, (H - 13) // 2 + 1, (W - 13) // 2 + 1): no pixel beyond the border is made up
    """

    def __init__(self, features: int = 64) -> None:
        super().__init__()
        channels = [1, *[features] * (len(KERNEL_SIDES) - 1), 1]
        self.filters = nn.ParameterList(
            nn.Parameter(torch.empty(after, before, side, side))
            for before, after, side in zip(channels, channels[1:], KERNEL_SIDES, strict=False)
        )

    def kernel(self) -> Tensor:
        """(13, 13): the weights of a result's pixel, as correlation takes them."""
        product: Tensor = self.filters[0].transpose(0, 1)
        for filters in list(self.filters)[1:]:
            product = F.conv2d(product, filters.flip(2, 3), padding=filters.shape[-1] - 1)
        return product[0, 0]

    def forward(self, image: Tensor) -> Tensor:
        """Each channel blurred, and every other pixel of every other row kept."""
        return shrunk_by_2(image, self.kernel())


def shrunk_by_2(images: Tensor, kernel: Tensor) -> Tensor:
    """Images (N, C, H, W) filtered by a kernel, every other pixel kept; no pixel beyond the border is made up."""
    planes = F.conv2d(images.flatten(0, 1)[:, None], kernel[None, None], stride=2)
    return planes.reshape(*images.shape[:2], *planes.shape[2:])
