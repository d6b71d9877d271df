"""The reconstruction network R: RRDB-net of ESRGAN (Wang et al. 2018, section 3.1)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddnsr_cli.nets.blocks import SrNet, conv3x3, lrelu
from ddnsr_cli.nets.config import RESIDUAL_SCALE, RRDBConfig, SrTraits


class ResidualDenseBlock(nn.Module):
    """Five 3x3 convolutions, each fed every earlier feature map.

    Shape: (N, C, H, W) -> (N, C, H, W)
    """

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, growth)  # names that the ecosystem's loaders recognize
        self.conv2 = conv3x3(channels + growth, growth)
        self.conv3 = conv3x3(channels + 2 * growth, growth)
        self.conv4 = conv3x3(channels + 3 * growth, growth)
        self.conv5 = conv3x3(channels + 4 * growth, channels)

    def forward(self, x: Tensor) -> Tensor:
        """x plus the scaled residual of the dense convolutions."""
        return torch.add(x, self.residual(x), alpha=RESIDUAL_SCALE)

    def residual(self, x: Tensor) -> Tensor:
        """What the block adds, before it is scaled. (N, C, H, W) -> (N, C, H, W)"""
        dense = x
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            dense = torch.cat((dense, lrelu(conv(dense))), dim=1)  # (N, C + i * growth, H, W)
        residual: Tensor = self.conv5(dense)
        return residual


class RRDB(nn.Module):
    """Residual in residual: three dense blocks and a scaled skip around them.

    Shape: (N, C, H, W) -> (N, C, H, W)
    """

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = ResidualDenseBlock(channels, growth)
        self.rdb2 = ResidualDenseBlock(channels, growth)
        self.rdb3 = ResidualDenseBlock(channels, growth)

    def forward(self, x: Tensor) -> Tensor:
        """x plus the scaled residual of the three dense blocks."""
        return torch.add(x, self.rdb3(self.rdb2(self.rdb1(x))), alpha=RESIDUAL_SCALE)


class RRDBNet(SrNet):
    """RGB LR image to RGB SR image.

    Shape: (N, 3, H, W) -> (N, 3, scale * H, scale * W), values near [0, 1], not clamped.
    At scale 2 and 1 the input is folded by `pixel_unshuffle` first, as Real-ESRGAN does, so H and W of any
    size are padded by their edge up to the next multiple of 2 or 4 and the result is cut back.
    """

    def __init__(self, config: RRDBConfig) -> None:
        super().__init__()
        self.config = config
        features = config.features
        self.conv_first = conv3x3(3 * config.unshuffle**2, features)
        self.body = nn.Sequential(*(RRDB(features, config.growth) for _ in range(config.blocks)))
        self.conv_body = conv3x3(features, features)
        self.conv_up1 = conv3x3(features, features)
        self.conv_up2 = conv3x3(features, features)
        self.conv_hr = conv3x3(features, features)
        self.conv_last = conv3x3(features, 3)

    @property
    def traits(self) -> SrTraits:
        """As of its sizes."""
        return self.config.traits

    def forward(self, lr: Tensor) -> Tensor:
        """The LR image enlarged: (N, 3, H, W) to (N, 3, scale * H, scale * W)."""
        return self.cut(self.hr_stage(self.trunk(lr)), lr)

    def trunk(self, lr: Tensor) -> Tensor:
        """The features of LR size, folded where the scale asks for it: (N, features, H', W')."""
        shallow: Tensor = self.conv_first(self.folded(lr))
        trunk: Tensor = shallow + self.conv_body(self.body(shallow))
        return trunk

    def folded(self, lr: Tensor) -> Tensor:
        """The image as the first convolution takes it: squares of pixels are channels where the scale asks for it."""
        return _fold(lr, self.config.unshuffle)

    def hr_stage(self, trunk: Tensor) -> Tensor:
        """Features of LR size as RGB of four times its sides: (N, features, H', W') to (N, 3, 4H', 4W')."""
        trunk = lrelu(self.conv_up1(_twice(trunk)))
        trunk = lrelu(self.conv_up2(_twice(trunk)))
        sr: Tensor = self.conv_last(lrelu(self.conv_hr(trunk)))
        return sr

    def cut(self, sr: Tensor, lr: Tensor) -> Tensor:
        """The part of the stage's result that belongs to `lr`: what was folded in beyond its borders is cut off."""
        height, width = lr.shape[-2:]
        return sr[..., : height * self.config.scale, : width * self.config.scale]


@torch.no_grad()
def start_as_nearest(net: RRDBNet, generator: torch.Generator) -> None:
    """Initialize `net` so that its first output is the nearest-neighbor up-scaled input.

    Three channels carry RGB unchanged through `conv_first, conv_up1, conv_up2, conv_hr, conv_last`; the other
    inputs of `conv_last` start at zero and `conv_body` near it; all else is Kaiming-normal times 0.1 (ESRGAN,
    section 3.1 and supplement). Values in [0, 1] pass LeakyReLU unchanged, so the identity is exact for them. A
    short training run then starts at the quality of plain enlarging instead of black.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=0.2, generator=generator)
            module.weight.mul_(0.1)
            if module.bias is not None:
                module.bias.zero_()
    net.conv_body.weight.mul_(0.1)
    _carry_rgb(net)


def _carry_rgb(net: RRDBNet) -> None:
    folds = net.config.unshuffle**2
    for conv in (net.conv_first, net.conv_up1, net.conv_up2, net.conv_hr, net.conv_last):
        conv.weight[:3] = 0
    for channel in range(3):
        # Of a folded square of pixels the carried value is the mean: at x4 there is one pixel, and this is exact.
        net.conv_first.weight[channel, channel * folds : (channel + 1) * folds, 1, 1] = 1 / folds
        for conv in (net.conv_up1, net.conv_up2, net.conv_hr, net.conv_last):
            conv.weight[channel, channel, 1, 1] = 1


def _fold(lr: Tensor, side: int) -> Tensor:
    if side == 1:
        return lr
    height, width = lr.shape[-2:]
    padded = F.pad(lr, (0, -width % side, 0, -height % side), mode="replicate")
    return F.pixel_unshuffle(padded, side)


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")
