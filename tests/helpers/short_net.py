"""A network of one convolution, behind the face of an RRDBNet: quick, and of a reach that is known exactly."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.rrdb import RRDBNet


class Log(list):
    """A list that copies of a network share, so that a test sees what the copy was asked."""

    def __deepcopy__(self, memo):
        return self


class ShortNet(RRDBNet):
    """Folds as the real one does, then a 5x5 convolution with whole-numbered weights: exact in fp32 on n/256."""

    def __init__(self, scale: int = 4, seed: int = 0) -> None:
        super().__init__(RRDBConfig(features=1, blocks=1, growth=1, scale=scale))
        self.conv = nn.Conv2d(3 * self.config.unshuffle**2, 48, 5, padding=2)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.conv.parameters():
            values = torch.randint(-2, 3, parameter.shape, generator=generator)
            parameter.data.copy_(values)
        self.shapes = Log()

    @property
    def reach_px(self) -> int:
        """LR pixels that an SR pixel sees beyond its own, two cells and what is left of its own cell."""
        return 3 * self.config.unshuffle - 1

    def forward(self, lr: Tensor) -> Tensor:
        height, width = lr.shape[-2:]
        self.shapes.append((height, width))
        side = self.config.unshuffle
        folded = F.pixel_unshuffle(F.pad(lr, (0, -width % side, 0, -height % side), mode="replicate"), side)
        sr = F.pixel_shuffle(self.conv(folded), 4)
        return sr[..., : height * self.config.scale, : width * self.config.scale]


def whole_numbers(height: int, width: int, seed: int = 1) -> Tensor:
    """An image (1, 3, height, width) of multiples of 1/256, for sums without rounding."""
    return torch.randint(0, 257, (1, 3, height, width), generator=torch.Generator().manual_seed(seed)) / 256
