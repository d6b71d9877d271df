"""Options of paired training: the reconstruction network alone, on LR images whose HR partners are known."""

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum

from ddnsr_cli.config import SCALE, Precision
from ddnsr_cli.data.config import DegradationConfig, Shares, StreamConfig
from ddnsr_cli.errors import ConfigError
from ddnsr_cli.nets.config import PATCH_GAN_LEAST_PX, RRDBConfig
from ddnsr_cli.nets.lpips import TRUNKS
from ddnsr_cli.training.options import LITE, ScheduleConfig
from ddnsr_cli.training.reconstruction_options import (
    Discriminator,
    GanKind,
    PerceptualLayers,
    ReconstructionWeights,
    refuse_small_batch,
    refuse_unlike,
)

PIXELS_ONLY = ReconstructionWeights(perceptual=0, hr_adversarial=0, pixel=1)
"""The pretraining of ESRGAN: mean absolute error alone."""


class SourceKind(StrEnum):
    """Where the LR partner of an HR crop comes from."""

    RULE = "rule"
    """Degraded on the way, by rule."""

    READY = "ready"
    """A file, as `ddnsr degrade` makes it, or as a teacher's results make one of the HR side."""

    LEARNED = "learned"
    """Degraded on the way, by a degrader, with the noise of real LR photos."""


@dataclass(frozen=True, kw_only=True)
class SharpenConfig:
    """An unsharp mask; the defaults are those of Real-ESRGAN (Wang et al. 2021)."""

    amount: float = 0.5
    """Factor of the difference from the blurred image that is added."""

    sigma_px: float = 8.0
    """Of the Gaussian blur. Large ones raise the contrast around things, small ones (1 to 2) the finest detail."""

    threshold: float = 10.0
    """Differences from the blurred image up to so many levels of 255 are left alone."""

    def __post_init__(self) -> None:
        if not (0 < self.amount < math.inf and 0 < self.sigma_px < math.inf and 0 <= self.threshold < 255):
            raise ConfigError(
                f"Sharpening takes an amount and a sigma above 0 and a threshold of 0 to 255 levels, got "
                f"{self.amount:g}, {self.sigma_px:g} and {self.threshold:g}."
            )


@dataclass(frozen=True, kw_only=True)
class PairSource:
    """A source of pairs and its share."""

    kind: SourceKind = SourceKind.RULE
    share: float = 1.0
    """Only the ratio to the shares of the others counts."""

    degradation: DegradationConfig | None = field(default_factory=DegradationConfig)
    """The rule; None for other kinds."""

    def of_scale(self, scale: int) -> "PairSource":
        """The same source with another number of HR pixels per LR pixel along a side."""
        return self if self.degradation is None else replace(self, degradation=replace(self.degradation, scale=scale))


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Learning from what another network makes of the same LR images, beside the truth."""

    truth_share: float = 0.15
    """Weight of the losses against the truth, from 0 to 1; those against the teacher have the rest."""

    def __post_init__(self) -> None:
        if not 0 <= self.truth_share < 1:
            raise ConfigError(f"The truth beside a teacher has a share from 0 to below 1, got {self.truth_share:g}.")


@dataclass(frozen=True, kw_only=True)
class PairedOptions:
    """Everything that decides what a paired run learns."""

    network: RRDBConfig = LITE
    """Sizes of the reconstruction network."""

    losses: ReconstructionWeights = PIXELS_ONLY

    layers: PerceptualLayers = field(default_factory=PerceptualLayers)

    discriminator: Discriminator = Discriminator.NONE

    discriminator_features: int = 64
    """Channels of its first stage."""

    discriminator_learning_rate: float = 1e-4
    """Its learning rate, constant."""

    discriminator_first_steps: int = 0
    """Steps at the start in which it learns alone: an untrained one pulls a network that starts well astray."""

    gan: GanKind = GanKind.PLAIN

    sharpen: SharpenConfig | None = None
    """Unsharp-masked targets for all losses but the discriminator's, which sees the images as they are; None: none."""

    teacher: TeacherConfig | None = None
    """None: the truth is the only target."""

    stream: StreamConfig = field(default_factory=StreamConfig)
    """How crops are drawn."""

    sources: tuple[PairSource, ...] = (PairSource(),)
    """Where pairs come from."""

    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """Learning rate and length."""

    ema_decay: float = 0.999
    """Decay a step of the averaged weights, which are the ones exported."""

    clip_norm: float = 1.0
    """Largest gradient norm; larger gradients are shortened to it."""

    precision: Precision = Precision.AUTO

    def __post_init__(self) -> None:
        scale = self.network.scale
        for source in self.sources:
            if source.degradation is not None and source.degradation.scale != scale:
                raise ConfigError(
                    f"The network enlarges {scale} times but the pairs are shrunk {source.degradation.scale} times: "
                    f"give both the same scale."
                )
            if source.kind is SourceKind.LEARNED and scale != SCALE:
                raise ConfigError(
                    f"A degrader shrinks {SCALE} times but the network enlarges {scale} times. Leave the "
                    f"degrader out, or begin with a network for {SCALE} times."
                )
        if self.stream.crop_px % scale:
            raise ConfigError(f"--crop must be a multiple of {scale}, got {self.stream.crop_px}.")
        _ = self.shares  # refuses what cannot be shared
        if not 0 <= self.ema_decay < 1 or self.clip_norm <= 0:
            raise ConfigError(f"ema_decay lies in [0, 1) and clip_norm is above 0, got {self}.")
        if self.discriminator_first_steps < 0 or not 0 < self.discriminator_learning_rate < math.inf:
            raise ConfigError(
                f"discriminator_first_steps is at least 0 and discriminator_learning_rate above 0, got "
                f"{self.discriminator_first_steps} and {self.discriminator_learning_rate:g}."
            )
        refuse_unlike(self.discriminator, self.losses)
        self._refuse_crops_that_do_not_fit()

    @property
    def shares(self) -> Shares:
        """How often each source of pairs has its turn."""
        return Shares(parts=tuple(source.share for source in self.sources))

    def _refuse_crops_that_do_not_fit(self) -> None:
        multiple = {Discriminator.NONE: 1, Discriminator.VGG_STYLE: 32}.get(self.discriminator, 8)
        if self.stream.crop_px % multiple:
            raise ConfigError(
                f"The {self.discriminator} discriminator takes HR crops of multiples of {multiple} pixels; got "
                f"{self.stream.crop_px}."
            )
        refuse_small_batch(self.discriminator, self.stream)
        step = math.lcm(multiple, self.network.scale)
        if self.discriminator is Discriminator.PATCH_GAN:
            self._refuse_below(PATCH_GAN_LEAST_PX, "The patchgan discriminator", step)
        if self.losses.perceptual and self.layers.lpips_trunk is not None:
            least_px = TRUNKS[self.layers.lpips_trunk].least_px
            self._refuse_below(least_px, f"The perceptual loss {self.layers.perceptual}", step)

    def _refuse_below(self, least_px: int, what: str, step: int) -> None:
        """Raises ConfigError for crops below what a network takes. step: the crops that fit are multiples of it."""
        if self.stream.crop_px < least_px:
            raise ConfigError(
                f"{what} takes HR crops of {least_px} pixels or more, got {self.stream.crop_px}. Give --crop "
                f"{math.ceil(least_px / step) * step} or more."
            )


def with_equation_2(options: PairedOptions) -> PairedOptions:
    """The losses of ESRGAN and of the paper, as Real-ESRGAN balances them: crisp results from a network that starts
    well.
    """
    return replace(
        options,
        losses=ReconstructionWeights(perceptual=1.0, hr_adversarial=0.1, pixel=1.0),
        discriminator=Discriminator.U_NET,
    )
