"""LPIPS, learned perceptual image patch similarity (Zhang et al. 2018), version 0.1: smaller is more alike.

The weights come as an argument: the trunk under torchvision's names `features.*`, the heads as `lin0.weight`, ...
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.nets.vgg19 import Standardize, fill_frozen, full_precision

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's mean and deviation for RGB in [-1, 1]
EPSILON = 1e-10  # added to a norm before dividing by it, outside the root as in version 0.1


@dataclass(frozen=True, kw_only=True)
class Trunk:
    """Which layers of a classifier LPIPS compares. Numbers are places in torchvision's `features`."""

    taps: tuple[int, ...]
    """Layers whose results are compared; each is a ReLU or ends in one."""

    channels: tuple[int, ...]
    """Channels of those results."""

    least_px: int
    """The smallest side that leaves at least one pixel at every tap."""


TRUNKS = {
    "alex": Trunk(taps=(1, 4, 7, 9, 11), channels=(64, 192, 384, 256, 256), least_px=31),
    "squeeze": Trunk(taps=(1, 4, 7, 9, 10, 11, 12), channels=(64, 128, 256, 384, 384, 512, 512), least_px=17),
    "vgg": Trunk(taps=(3, 8, 15, 22, 29), channels=(64, 128, 256, 512, 512), least_px=16),
}


class LPIPS(nn.Module):
    """Perceptual distance of two batches, one value per pair: 0 for equal images, about 1 for unlike ones.

    Shape: (N, 3, H, W), (N or 1, 3, H, W), RGB in [0, 1] -> (N,) float32. The weights are frozen, gradients reach the
    images. Computes in float32 also under autocast.
    """

    def __init__(self, trunk: str, state: Mapping[str, Tensor], *, source: str = "The LPIPS file") -> None:
        """Build on a trunk: `alex` (what super-resolution papers report), `squeeze` or `vgg` (VGG16).

        state: tensors by name, any floating dtype; they are copied. source: the file's name, for the messages.
        Raises ConfigError when the trunk is unknown, WeightsError when the tensors do not fit it.
        """
        super().__init__()
        if trunk not in TRUNKS:
            raise ConfigError(f"LPIPS is on {', '.join(TRUNKS)}; {trunk!r} is none of them.")
        self.trunk = TRUNKS[trunk]
        with torch.device("meta"):  # a random start would be thrown away, and move the random state of a run
            self.features = _features(trunk)
            for number, channels in enumerate(self.trunk.channels):
                self.add_module(f"lin{number}", nn.Conv2d(channels, 1, kernel_size=1, bias=False))
        fill_frozen(self, state, source)
        self.standardize = Standardize(SHIFT, SCALE)

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Distances, symmetric. Raises ValueError when shapes differ or a side is too small for the trunk."""
        if image.shape != reference.shape and (1, *image.shape[1:]) != reference.shape:
            raise ValueError(f"The images differ in shape: {tuple(image.shape)} and {tuple(reference.shape)}.")
        if min(image.shape[-2:]) < self.trunk.least_px:
            raise ValueError(
                f"{tuple(image.shape)} is too small for LPIPS: sides of {self.trunk.least_px} px at least."
            )
        with full_precision(image):
            pairs = zip(self._directions(image), self._directions(reference), strict=True)
            layers = [
                self.get_submodule(f"lin{number}")((ours - theirs).square()).mean(dim=(1, 2, 3))
                for number, (ours, theirs) in enumerate(pairs)
            ]
            return torch.stack(layers).sum(dim=0)

    def _directions(self, image: Tensor) -> list[Tensor]:
        """The features at each tap, of length 1 along the channels."""
        x = self.standardize(2 * image.float() - 1)
        directions = []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.trunk.taps:
                directions.append(x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + EPSILON))
        return directions


class Fire(nn.Module):
    """SqueezeNet's block: 1x1 down to few channels, then 1x1 and 3x3 side by side, a ReLU after each.

    Shape: (N, in_channels, H, W) -> (N, 2 * expand, H, W)
    """

    def __init__(self, in_channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeeze, kernel_size=1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, kernel_size=1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """The output of the block for x."""
        few = self.squeeze(x).relu()
        return torch.cat((self.expand1x1(few), self.expand3x3(few)), dim=1).relu()


def _features(trunk: str) -> nn.Sequential:
    return {"alex": alexnet_features, "squeeze": squeezenet_features, "vgg": vgg16_features}[trunk]()


def alexnet_features() -> nn.Sequential:
    """AlexNet's `features`, without the last pooling."""
    return nn.Sequential(
        nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2), nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(64, 192, kernel_size=5, padding=2), nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(192, 384, kernel_size=3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, kernel_size=3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, kernel_size=3, padding=1), nn.ReLU(),
    )  # fmt: skip


def squeezenet_features() -> nn.Sequential:
    """SqueezeNet 1.1's `features`."""
    return nn.Sequential(
        nn.Conv2d(3, 64, kernel_size=3, stride=2), nn.ReLU(),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(64, 16, 64), Fire(128, 16, 64),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(128, 32, 128), Fire(256, 32, 128),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256),
    )  # fmt: skip


def vgg16_features() -> nn.Sequential:
    """VGG16's `features`, without the last pooling."""
    layers: list[nn.Module] = []
    before = 3
    for channels, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        if layers:
            layers.append(nn.MaxPool2d(2))
        for _ in range(count):
            layers += [nn.Conv2d(before, channels, kernel_size=3, padding=1), nn.ReLU()]
            before = channels
    return nn.Sequential(*layers)
