"""What every kind of training has: equation 2, by which the reconstruction network and its discriminator learn, and a
trainer's state and how its networks take a step.

The networks through which losses compare images are frozen, and given.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddnsr_cli.config import options_to_json
from ddnsr_cli.errors import ConfigError
from ddnsr_cli.losses import (
    Average,
    gan_disc_loss,
    gan_gen_loss,
    perceptual_loss,
    relativistic_disc_loss,
    relativistic_gen_loss,
)
from ddnsr_cli.nets.config import DISC_HR_TRACK1, VGGStyleConfig
from ddnsr_cli.nets.degrader import Degrader
from ddnsr_cli.nets.discriminators import (
    Features,
    PatchGANDiscriminator,
    ProjectedDiscriminator,
    UNetDiscriminator,
    VGGStyleDiscriminator,
)
from ddnsr_cli.nets.lpips import LPIPS
from ddnsr_cli.nets.rrdb import RRDBNet
from ddnsr_cli.nets.vgg19 import Tap, VGG19Features
from ddnsr_cli.training.distributed import World, share_batch_statistics
from ddnsr_cli.training.loop import Ema, mixed_precision
from ddnsr_cli.training.reconstruction_options import Discriminator, GanKind, ReconstructionWeights
from ddnsr_cli.training.train_state import TrainState, learned_tensors, restore_learned

if TYPE_CHECKING:
    from ddnsr_cli.training.options import JointOptions
    from ddnsr_cli.training.paired_options import PairedOptions

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
            VGGStyleConfig(input_px=crop_px, features=features, stages=DISC_HR_TRACK1.stages)
        ),
    }
    return builders[kind]() if kind in builders else None


Options = TypeVar("Options", bound="JointOptions | PairedOptions")
Nets = TypeVar("Nets", bound=nn.Module)


class BaseTrainer(ABC, Generic[Options, Nets]):
    """Networks that learn, an Adam for each, averages of some: what goes on from step to step.

    Everything that the next step depends on is in `train_state()`; batches follow from the seed and `step`.
    """

    def __init__(
        self,
        options: Options,
        nets: Nets,
        averaged: Mapping[str, RRDBNet | Degrader],
        feature_nets: FeatureNets,
        device: torch.device,
        world: World,
    ) -> None:
        """averaged: those of `nets` that are averaged, by name."""
        self.options: Options = options
        self.device = device
        self.world = replace(world, batch=options.stream.batch)
        self.nets: Nets = nets.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        share_batch_statistics(self.nets, self.world)
        self.emas: dict[str, Ema[Any]] = {name: Ema(net, options.ema_decay) for name, net in averaged.items()}
        self.reconstruction = ReconstructionLoss(
            weights=options.losses,
            perceptual=None if feature_nets.hr is None else self.world.mean_in_parts(feature_nets.hr),
            gan=options.gan,
            average=self.world.average,
        )
        self.optimizers = {
            name: torch.optim.Adam(net.parameters(), lr=options.schedule.learning_rate, fused=True)
            for name, net in self.learners.items()
        }
        self.step = 0
        self.rate_factor = 1.0
        """Times the schedule's rate; lowered when a run has to roll back."""

    @property
    def learners(self) -> dict[str, nn.Module]:
        """The networks there are, by name."""
        return dict(self.nets.named_children())

    @property
    def averages(self) -> dict[str, RRDBNet | Degrader]:
        """The averaged networks."""
        return {name: ema.average for name, ema in self.emas.items()}

    def start_from(self, name: str, net: nn.Module) -> None:
        """Begin with the weights of a network of the same sizes, in the average too. name: of one that is averaged."""
        self.learners[name].load_state_dict(net.state_dict())
        self.emas[name].average.load_state_dict(net.state_dict())

    def train_state(self, numbers: dict[str, Any]) -> TrainState:
        """Everything needed to go on, with `numbers` of the caller's beside the options."""
        tensors = learned_tensors(self.nets, self.averages, self.optimizers)
        own = {"options": options_to_json(self.options), "rate_factor": self.rate_factor}
        return TrainState(step=self.step, numbers={**own, **numbers}, tensors=tensors)

    def restore(self, train_state: TrainState) -> None:
        """Take over a train_state of the same options."""
        restore_learned(train_state.tensors, self.nets, self.averages, self.optimizers)
        self.rate_factor = train_state.numbers["rate_factor"]
        self.step = train_state.step

    @abstractmethod
    def _first_step(self, name: str) -> int:
        """The step from which on a network learns."""

    def _rate(self, name: str) -> float:
        return self.rate_factor * self.options.schedule.rate_at(self.step, first=self._first_step(name))

    def _learning(self) -> dict[str, nn.Module]:
        """The networks that take a step now."""
        return {name: net for name, net in self.learners.items() if self.step >= self._first_step(name)}

    def _clipped_norms(self) -> dict[str, float]:
        norms = {}
        for name, net in self._learning().items():
            self.world.average_gradients(net)
            most = self.options.clip_norm or math.inf
            norms[f"norm_{name}"] = nn.utils.clip_grad_norm_(net.parameters(), most).item()
        return norms

    def _move(self) -> None:
        for name in self._learning():
            for group in self.optimizers[name].param_groups:
                group["lr"] = self._rate(name)
            self.optimizers[name].step()
        for name, ema in self.emas.items():
            ema.update(self.learners[name], self.step)
        self.step += 1

    def _mixed_precision(self) -> torch.autocast:
        return mixed_precision(self.device, self.options.precision)
