"""Equation 2: what the reconstruction network learns by, and what its discriminator does, in every kind of training.

The networks through which losses compare images are frozen, and given.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.losses import (
    Average,
    gan_disc_loss,
    gan_gen_loss,
    perceptual_loss,
    relativistic_disc_loss,
    relativistic_gen_loss,
)
from ddnsr_cli.nets.discriminators import (
    Features,
    PatchGANDiscriminator,
    ProjectedDiscriminator,
    UNetDiscriminator,
    VGGStyleConfig,
    VGGStyleDiscriminator,
)
from ddnsr_cli.nets.lpips import LPIPS
from ddnsr_cli.nets.vgg19 import Tap, VGG19Features
from ddnsr_cli.training.reconstruction_options import Discriminator, GanKind, ReconstructionWeights

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


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a discriminator minimizes, and its mean beliefs in [0, 1] that an image is real."""

    loss: Tensor
    real_belief: Tensor
    fake_belief: Tensor


@dataclass(frozen=True, kw_only=True)
class ReconstructionLoss:
    """The terms of equation 2 with their weights, and the discriminator's side of the adversarial one."""

    weights: ReconstructionWeights
    perceptual: Difference | None
    """None when the perceptual loss has no weight."""

    gan: GanKind
    average: Average = torch.mean
    """Means of logits over the global batch."""

    def terms(self, sr: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Weighted terms of an SR image and its target, (N, 3, H, W) in [0, 1]; those with weight 0 are left out."""
        weights = self.weights
        terms: dict[str, Tensor] = {}
        if weights.pixel:
            terms["pixel"] = weights.pixel * F.l1_loss(sr, target)
        if weights.gradient:
            terms["gradient"] = weights.gradient * gradient_loss(sr, target)
        if weights.squared:
            terms["squared"] = weights.squared * F.mse_loss(sr, target)
        if self.perceptual is not None and weights.perceptual:
            terms["perceptual"] = weights.perceptual * self.perceptual(sr, target)
        return terms

    def adversarial(self, disc: Callable[[Tensor], Tensor], sr: Tensor, real_logits: Tensor) -> Tensor:
        """The weighted adversarial term. disc: its own weights must not gather gradients (`frozen`)."""
        fake = disc(sr)
        if self.gan is GanKind.RELATIVISTIC:
            return self.weights.hr_adversarial * relativistic_gen_loss(real_logits, fake, average=self.average)
        return self.weights.hr_adversarial * gan_gen_loss(fake)

    def scores(self, real: Tensor, fake: Tensor) -> Scores:
        """What the discriminator minimizes. real, fake: its logits of HR images and of detached SR images."""
        if self.gan is GanKind.PLAIN:
            return Scores(loss=gan_disc_loss(real, fake), real_belief=belief(real), fake_belief=belief(fake))
        loss = relativistic_disc_loss(real, fake, average=self.average)
        real_mean, fake_mean = self.average(real.detach()), self.average(fake.detach())
        return Scores(loss=loss, real_belief=belief(real - fake_mean), fake_belief=belief(fake - real_mean))


def gradient_loss(sr: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of the differences between neighbors, of rows and of columns added: what is blurred costs
    more than what is off by a constant. sr, target: (N, C, H, W).
    """
    return F.l1_loss(sr.diff(dim=2), target.diff(dim=2)) + F.l1_loss(sr.diff(dim=3), target.diff(dim=3))


def belief(logits: Tensor) -> Tensor:
    """The mean probability that the logits stand for, a scalar without a graph."""
    return logits.detach().float().sigmoid().mean()


@contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    """Inside, gradients pass through the network but not into it."""
    net.requires_grad_(requires_grad=False)
    try:
        yield
    finally:
        net.requires_grad_(requires_grad=True)


def hr_discriminator(
    kind: Discriminator, *, features: int, crop_px: int, see: Features | None = None
) -> nn.Module | None:
    """The discriminator of HR images; None for `none`.

    crop_px: side of the crops, which VGG-style ones depend on. see: features that a projected one judges by.
    Raises ConfigError for a projected one without them.
    """
    if kind is Discriminator.PROJECTED:
        if see is None:
            raise ConfigError("A projected discriminator needs the features of VGG19. Give its weights with --vgg.")
        return ProjectedDiscriminator(see, features)
    builders: dict[StrEnum, Callable[[], nn.Module]] = {
        Discriminator.PATCH_GAN: lambda: PatchGANDiscriminator(features),
        Discriminator.U_NET: lambda: UNetDiscriminator(features),
        Discriminator.VGG_STYLE: lambda: VGGStyleDiscriminator(
            VGGStyleConfig(input_px=crop_px, features=features, stages=5)
        ),
    }
    return builders[kind]() if kind in builders else None
