"""SRVGGNetCompact, the small network of Real-ESRGAN (Wang et al. 2021): plain convolutions at LR size."""

import torch.nn.functional as F
from torch import Tensor, nn

from ddnsr_cli.nets.blocks import SrNet, conv3x3
from ddnsr_cli.nets.config import CompactConfig, SrTraits


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
        """As of its sizes."""
        return self.config.traits

    def forward(self, lr: Tensor) -> Tensor:
        """The LR image enlarged: (N, 3, H, W) to (N, 3, scale * H, scale * W)."""
        scale, inner = self.config.scale, self.config.shuffle
        sr = F.pixel_shuffle(self.body(lr), inner) + F.interpolate(lr, scale_factor=inner, mode="nearest")
        if inner == scale:
            return sr
        return F.interpolate(sr, scale_factor=scale / inner, mode="bicubic", align_corners=False)
