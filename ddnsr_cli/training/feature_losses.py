"""The frozen networks through which the losses of a joint run compare images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ddnsr_cli.losses import perceptual_loss
from ddnsr_cli.nets.discriminators import Features
from ddnsr_cli.nets.lpips import LPIPS
from ddnsr_cli.nets.vgg19 import Tap, VGG19Features

Difference = Callable[[Tensor, Tensor], Tensor]
"""(made, truth), both (N, 3, H, W) in [0, 1] -> a scalar; only `made` gets a gradient."""


@dataclass(frozen=True, kw_only=True)
class FeatureNets:
    """What looks at LR and at HR images."""

    lr: VGG19Features | None
    """Taps of the content and the cycle loss; None when neither has a weight."""

    hr: Difference | None
    """The perceptual loss; None when it has no weight."""

    disc: Features | None = None
    """What a projected discriminator judges by."""


NO_FEATURE_NETS = FeatureNets(lr=None, hr=None)
"""Of a run whose losses compare pixels only."""


@dataclass(frozen=True)
class VggDifference:
    """The perceptual loss of ESRGAN: features at one tap or several, those of the truth without a graph."""

    vgg: VGG19Features
    weights: Mapping[Tap, float] | None = None
    """Of each tap; None: 1."""

    squared: bool = False
    """The squares that DDNSR's authors take, instead of absolute differences."""

    def __call__(self, made: Tensor, truth: Tensor) -> Tensor:
        """The weighted sum of the differences at the taps, a scalar; `truth` gets no gradient."""
        with torch.no_grad():
            reference = self.vgg(truth)
        terms = [
            (self.weights or {}).get(tap, 1.0) * perceptual_loss(features, reference[tap], squared=self.squared)
            for tap, features in self.vgg(made).items()
        ]
        return terms[0] if len(terms) == 1 else torch.stack(terms).sum()


@dataclass(frozen=True)
class LpipsDifference:
    """LPIPS as a loss: its layers are weighted by what people saw, and its trunks are far cheaper than VGG19."""

    lpips: LPIPS

    def __call__(self, made: Tensor, truth: Tensor) -> Tensor:
        """The mean LPIPS distance, a scalar; `truth` gets no gradient."""
        distances: Tensor = self.lpips(made, truth.detach())
        return distances.mean()
