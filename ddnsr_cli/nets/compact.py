"""SRVGGNetCompact, the small network of Real-ESRGAN (Wang et al. 2021): plain convolutions at LR size."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.nets.blocks import SrNet, SrTraits, conv3x3

LARGEST_SCALE = 8


@dataclass(frozen=True, kw_only=True)
class CompactConfig:
    """The sizes of a Compact network."""

    features: int = 64
    """Channels of all convolutions but the last."""

    convs: int = 16
    """Convolutions between the first and the last."""

    scale: int = 4
    """SR pixels per LR pixel along a side: 1 to 8."""

    inner_scale: int | None = None
    """Where it is not `scale`: how many times the network itself enlarges, before a bicubic resize brings its image to
    `scale`, as in ncnn's files of realesr-animevideov3-x2 and -x3."""

    def __post_init__(self) -> None:
        if self.features < 1 or self.convs < 0:
            raise ConfigError(f"features must be at least 1 and convs at least 0, got {self}.")
        if not (1 <= self.scale <= LARGEST_SCALE and 1 <= self.shuffle <= LARGEST_SCALE):
            raise ConfigError(f"The scale of a Compact network is 1 to {LARGEST_SCALE}, got {self}.")

    @property
    def shuffle(self) -> int:
        """How many times the pixel-shuffle enlarges."""
        return self.scale if self.inner_scale is None else self.inner_scale


class CompactNet(SrNet):
    """Convolutions and PReLUs in a row, a pixel-shuffle, and the input enlarged by repetition added to it; some resize
    the sum.

    Shape: (N, 3, H, W) -> (N, 3, scale * H, scale * W), values near [0, 1], not clamped.
    """

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config = config
        features = config.features
        layers: list[nn.Module] = [conv3x3(3, features), nn.PReLU(features)]
        for _ in range(config.convs):
            layers += conv3x3(features, features), nn.PReLU(features)
        self.body = nn.Sequential(*layers, conv3x3(features, 3 * config.shuffle**2))  # `body.N`: the field's names

    @property
    def traits(self) -> SrTraits:
        """Each convolution sees one pixel further, so this halo makes tiles exact, but for where they fade."""
        # Three feature maps at a time; at the end SR images before and after the shuffle, and the repeated input.
        config = self.config
        values = max(3 * config.features, 3 * 3 * config.shuffle**2)
        resize_px = int(config.shuffle != config.scale)  # the kernel of the resize reaches no further
        return SrTraits(scale=config.scale, halo_px=config.convs + 2 + resize_px, values_per_px=values)

    def forward(self, lr: Tensor) -> Tensor:
        """The LR image enlarged: (N, 3, H, W) to (N, 3, scale * H, scale * W)."""
        scale, inner = self.config.scale, self.config.shuffle
        sr = F.pixel_shuffle(self.body(lr), inner) + F.interpolate(lr, scale_factor=inner, mode="nearest")
        if inner == scale:
            return sr
        return F.interpolate(sr, scale_factor=scale / inner, mode="bicubic", align_corners=False)
