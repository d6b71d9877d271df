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

    def __post_init__(self) -> None:
        if self.features < 1 or self.convs < 0:
            raise ConfigError(f"features must be at least 1 and convs at least 0, got {self}.")
        if not 1 <= self.scale <= LARGEST_SCALE:
            raise ConfigError(f"The scale of a Compact network is 1 to {LARGEST_SCALE}, got {self.scale}.")


class CompactNet(SrNet):
    """Convolutions and PReLUs in a row, a pixel-shuffle, and the input enlarged by repetition added to it.

    Shape: (N, 3, H, W) -> (N, 3, scale * H, scale * W), values near [0, 1], not clamped.
    """

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config = config
        features = config.features
        layers: list[nn.Module] = [conv3x3(3, features), nn.PReLU(features)]
        for _ in range(config.convs):
            layers += conv3x3(features, features), nn.PReLU(features)
        self.body = nn.Sequential(*layers, conv3x3(features, 3 * config.scale**2))  # `body.N`: the field's names

    @property
    def traits(self) -> SrTraits:
        """Each convolution sees one pixel further, so this halo makes tiles exact."""
        # Three feature maps at a time; at the end SR images before and after the shuffle, and the repeated input.
        values = max(3 * self.config.features, 3 * 3 * self.config.scale**2)
        return SrTraits(scale=self.config.scale, halo_px=self.config.convs + 2, values_per_px=values)

    def forward(self, lr: Tensor) -> Tensor:
        """The LR image enlarged: (N, 3, H, W) to (N, 3, scale * H, scale * W)."""
        residual = F.pixel_shuffle(self.body(lr), self.config.scale)
        return residual + F.interpolate(lr, scale_factor=self.config.scale, mode="nearest")
