"""The discriminators: one score an image (VGG-style), a patch (PatchGAN, projected, small) or a pixel (U-Net).

Logits, no sigmoid.

Batch norm is trained in training mode. The authors' code runs it in inference mode, by accident.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ddnsr_cli.nets.blocks import lrelu
from ddnsr_cli.nets.config import LEAKY_SLOPE, VGGStyleConfig
from ddnsr_cli.nets.vgg19 import Tap

PROJECTED_TAPS = {Tap(layer="conv1_2"): 64, Tap(layer="conv2_2"): 128, Tap(layer="conv3_4"): 256}
"""Where a projected discriminator looks at VGG19, with the channels there: fine, middling and coarse texture."""

HIDDEN = 100  # units of the dense layer before the score


class VGGStyleDiscriminator(nn.Module):
    """Stages of a 3x3 and a 4x4 stride-2 convolution, batch norm on all but the first, then two dense layers.

    Shape: (N, 3, input_px, input_px) -> (N, 1) logits
    """

    def __init__(self, config: VGGStyleConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        before = 3
        for stage, channels in enumerate(config.channels):
            layers += _conv(before, channels, kernel=3, stride=1, norm=stage > 0)
            layers += _conv(channels, channels, kernel=4, stride=2, norm=True)
            before = channels
        side = config.input_px // 2**config.stages
        self.features = nn.Sequential(*layers)
        self.score = nn.Sequential(
            nn.Flatten(),
            nn.Linear(before * side * side, HIDDEN),
            nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
            nn.Linear(HIDDEN, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the images."""
        logits: Tensor = self.score(self.features(image))
        return logits


class PatchGANDiscriminator(nn.Module):
    """Scores overlapping patches of 70 pixels: the discriminator of R on Track 2 (Isola et al. 2017).

    Shape: (N, 3, H, W) -> (N, 1, H / 8 - 2, W / 8 - 2) logits, for H and W multiples of 8 from 24 on
    """

    def __init__(self, features: int = 64) -> None:
        super().__init__()
        f = features
        self.layers = nn.Sequential(
            *_conv(3, f, kernel=4, stride=2, norm=False),
            *_conv(f, 2 * f, kernel=4, stride=2, norm=True),
            *_conv(2 * f, 4 * f, kernel=4, stride=2, norm=True),
            *_conv(4 * f, 8 * f, kernel=4, stride=1, norm=True),
            nn.Conv2d(8 * f, 1, kernel_size=4, padding=1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the images."""
        logits: Tensor = self.layers(image)
        return logits


class UNetDiscriminator(nn.Module):
    """Scores every pixel in the light of its surroundings: the discriminator of Real-ESRGAN (Wang et al. 2021).

    Three halvings and three doublings with skips added between equal sizes; spectral norm on all convolutions but the
    first and the last, which bounds how steep the scores can be. No batch norm: a score depends on its image alone.

    Shape: (N, 3, H, W) -> (N, 1, H, W) logits, for H and W multiples of 8
    """

    def __init__(self, features: int = 64) -> None:
        super().__init__()
        f = features
        self.first = nn.Conv2d(3, f, kernel_size=3, padding=1)
        self.down = nn.ModuleList(_normed(f * 2**level, 2 * f * 2**level, kernel=4, stride=2) for level in range(3))
        self.up = nn.ModuleList(_normed(2 * f * 2**level, f * 2**level) for level in (2, 1, 0))
        self.refine = nn.ModuleList(_normed(f, f) for _ in range(2))
        self.last = nn.Conv2d(f, 1, kernel_size=3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the images."""
        x = lrelu(self.first(image))
        skips = []
        for conv in self.down:
            skips.append(x)
            x = lrelu(conv(x))
        for conv in self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = lrelu(conv(x)) + skips.pop()
        for conv in self.refine:
            x = lrelu(conv(x))
        logits: Tensor = self.last(x)
        return logits


class SmallPatchDiscriminator(nn.Module):
    """Scores patches of 9 pixels, each from its own fine detail alone: after the discriminator of KernelGAN.

    It sees how far each pixel is from the mean of the 3 x 3 around it, since a blur shows there; by the rest of a photo
    it would tell real from made whatever the blur. Then a 7x7 convolution and 1x1 ones with batch norm; spectral norm
    on all.

    Shape: (N, 1, H, W) -> (N, 1, H - 8, W - 8) logits
    """

    def __init__(self, features: int = 32, depth: int = 2) -> None:
        """depth: number of 1x1 convolutions before the score."""
        super().__init__()
        layers: list[nn.Module] = [spectral_norm(nn.Conv2d(1, features, kernel_size=7))]
        for _ in range(depth):
            layers += [spectral_norm(nn.Conv2d(features, features, kernel_size=1)), nn.BatchNorm2d(features), nn.ReLU()]
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(features, 1, kernel_size=1)))

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the patches."""
        scores: Tensor = self.layers(fine_detail(image))
        return scores


def fine_detail(image: Tensor) -> Tensor:
    """Images (N, C, H, W) less their means over 3 x 3, which there are two fewer of along each side."""
    return image[:, :, 1:-1, 1:-1] - F.avg_pool2d(image, 3, stride=1)


Features = Callable[[Tensor], Mapping[Tap, Tensor]]
"""RGB images (N, 3, H, W) in [0, 1] to features of mean size 1 at `PROJECTED_TAPS`."""


class ProjectedDiscriminator(nn.Module):
    """Scores patches by what a frozen VGG19 sees at three depths (after Sauer et al. 2021, "Projected GANs").

    Only small heads learn, so it tells real from made images after some tens of steps where others need thousands.

    Shape: (N, 3, H, W) -> (N, 3, H, W) logits, a channel a depth, coarse ones repeated
    """

    def __init__(self, features: Features, width: int = 64) -> None:
        """features: not a part of this module's weights. width: channels of the heads."""
        super().__init__()
        # Assigned as a module, VGG19 would be saved and trained as a part of this one.
        self.see = features.forward if isinstance(features, nn.Module) else features
        self.heads = nn.ModuleList(_head(channels, width) for channels in PROJECTED_TAPS.values())

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the images."""
        seen = self.see(image)
        logits = [
            head(F.leaky_relu(seen[tap], LEAKY_SLOPE)) for tap, head in zip(PROJECTED_TAPS, self.heads, strict=True)
        ]
        return torch.cat([F.interpolate(one, image.shape[-2:], mode="nearest") for one in logits], dim=1)


def _head(in_channels: int, width: int) -> nn.Module:
    layers: list[nn.Module] = []
    for before in (in_channels, width, width):
        layers += [_normed(before, width), nn.LeakyReLU(LEAKY_SLOPE, inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(width, 1, kernel_size=3, padding=1))


def _normed(in_channels: int, out_channels: int, *, kernel: int = 3, stride: int = 1) -> nn.Module:
    """A convolution without bias whose largest singular value is held at 1."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=1, bias=False)
    normed: nn.Module = spectral_norm(conv)
    return normed


def _conv(in_channels: int, out_channels: int, *, kernel: int, stride: int, norm: bool) -> list[nn.Module]:
    """Convolution, batch norm where asked, LeakyReLU."""
    layers: list[nn.Module] = [nn.Conv2d(in_channels, out_channels, kernel, stride, padding=1)]
    if norm:
        layers.append(nn.BatchNorm2d(out_channels))
    return [*layers, nn.LeakyReLU(LEAKY_SLOPE, inplace=True)]
