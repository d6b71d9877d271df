"""Every option of a training run, saved as JSON beside its weights."""

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum

from ddnsr_cli.config import Precision
from ddnsr_cli.data.config import NoiseInput, StreamConfig
from ddnsr_cli.errors import ConfigError
from ddnsr_cli.nets.config import DISC_LR, RRDBConfig
from ddnsr_cli.nets.degrader import DegraderConfig
from ddnsr_cli.nets.vgg19 import LAYERS
from ddnsr_cli.training.reconstruction_options import (
    Discriminator,
    GanKind,
    PerceptualLayers,
    ReconstructionWeights,
    refuse_small_batch,
    refuse_too_few,
    refuse_unlike,
)

LITE = RRDBConfig(features=32, blocks=3, growth=32)
"""A reconstruction network that a CPU runs quickly: 1.3 million parameters. Other programs read growth 32 only."""


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Learning rate over the steps: a warmup, a plateau, a straight fall to zero."""

    steps: int = 20_000
    """Optimizer steps in all."""

    learning_rate: float = 5e-4
    """Learning rate on the plateau."""

    warmup_steps: int = 100
    """Steps from zero to the plateau."""

    fall_share: float = 0.3
    """Share of all steps, at the end, over which the rate falls to zero."""

    def __post_init__(self) -> None:
        if (
            self.steps < 1
            or self.warmup_steps < 0
            or not 0 <= self.fall_share <= 1
            or not 0 < self.learning_rate < math.inf
        ):
            raise ConfigError(
                f"A schedule needs steps >= 1, a learning_rate > 0 and a fall_share in [0, 1], got {self}."
            )

    def rate_at(self, step: int, *, first: int = 0) -> float:
        """Learning rate of step `step`, counted from 0, of a network that learns from step `first` on."""
        rise = min(1.0, max(0.0, (step - first + 1) / self.warmup_steps)) if self.warmup_steps else 1.0
        fall_steps = max(1.0, self.fall_share * self.steps)
        fall = min(1.0, max(0.0, (self.steps - step) / fall_steps))
        return self.learning_rate * min(rise, fall)


@dataclass(frozen=True, kw_only=True)
class HalvingSchedule:
    """The paper's learning rate: constant, halved at given steps."""

    steps: int = 300_000
    """Batches in all."""

    learning_rate: float = 1e-4
    """Highest learning rate, of all four networks."""

    milestones: tuple[int, ...] = (50_000, 100_000, 200_000)
    """Batches after which the rate is halved."""

    warmup_steps: int = 200
    """Batches over which the rate rises from zero. Adam's first steps move every weight by the whole rate, and so the
    colors of networks that start well; the paper's networks start from noise and have no warmup."""

    def __post_init__(self) -> None:
        rising = list(self.milestones) == sorted(self.milestones) and min(self.milestones, default=0) >= 0
        if self.steps < 1 or not 0 < self.learning_rate < math.inf or self.warmup_steps < 0 or not rising:
            raise ConfigError(
                f"A schedule needs steps >= 1, a learning_rate > 0 and rising milestones >= 0, got {self}."
            )

    def rate_at(self, step: int, *, first: int = 0) -> float:
        """Learning rate at step `step`, counted from 0, of a network that learns from step `first` on."""
        rise = min(1.0, (step - first + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return float(self.learning_rate * rise * 0.5 ** sum(step >= mark for mark in self.milestones))


@dataclass(frozen=True, kw_only=True)
class LossWeights(ReconstructionWeights):
    """Factors of the losses; 0 leaves a loss out, and what only it needs is not computed."""

    content: float = 0.1
    """Degrader: lambda 1 of eq. 3."""

    lr_adversarial: float = 1.0
    """Degrader: lambda 2 of eq. 3."""

    cycle: float = 10.0
    """Degrader: lambda 3 of eq. 3."""

    lr_cycle: float = 0.0
    """Of a degrader that shrinks by bicubic first: how far LR images are from themselves when they are made noisy and
    clean again, and clean and noisy again, by it and a second network, as a mean absolute error. 10 in CycleGAN."""

    color: float = 0.0
    """Degrader: mean colors of its image and of the HR one, which the paper does not tie. 20 keeps them together
    where both sets differ in color, or a run is short."""

    noise_transfer: float = 0.0
    """Degrader: simulated noise, carried from one image to another (`data.degradations`); not in the paper.
    Holds on to the noise while the other losses, of which the cycle loss rewards its absence, shape it."""


@dataclass(frozen=True, kw_only=True)
class FeatureLayers(PerceptualLayers):
    """Which VGG19 layers the losses compare, each before its activation."""

    content: str = "conv3_4"
    cycle: str = "conv2_2"

    def __post_init__(self) -> None:
        super().__post_init__()
        for loss in ("content", "cycle"):
            if (layer := getattr(self, loss)) not in LAYERS:
                raise ConfigError(f"The {loss} loss compares {', '.join(LAYERS)}; {layer!r} is none of them.")


@dataclass(frozen=True, kw_only=True)
class JointOptions:
    """Everything that decides what a joint run learns."""

    sr_net: RRDBConfig = field(default_factory=RRDBConfig)
    degrader: DegraderConfig = field(default_factory=DegraderConfig)

    discriminator: Discriminator = Discriminator.PATCH_GAN
    """Of the reconstruction network: VGG-style on Track 1, PatchGAN on Track 2."""

    discriminator_features: int = 64
    """Channels of the first stage of the reconstruction network's discriminator."""

    lr_discriminator_features: int = 128
    """The same of the degrader's discriminator."""

    gan: GanKind = GanKind.RELATIVISTIC
    """How the reconstruction network's discriminator compares; the degrader's compares plainly (eq. 5)."""

    dual_input: bool = True
    """False: the degrader's second input is zeros (ablation D)."""

    losses: LossWeights = field(default_factory=LossWeights)
    layers: FeatureLayers = field(default_factory=FeatureLayers)
    stream: StreamConfig = field(default_factory=StreamConfig)
    schedule: HalvingSchedule = field(default_factory=HalvingSchedule)

    degrader_pretrain_steps: int = 0
    """Steps at the very start in which the degrader learns alone to carry simulated noise; fast, as no other network
    and no source image is needed."""

    degrader_only_steps: int = 0
    """Steps after that in which the degrader and its discriminator learn alone: a reconstruction network that comes
    from a pretraining is not to follow a degrader that knows nothing yet."""

    precision: Precision = Precision.AUTO

    compiled: bool = False
    """Compile the networks that learn with torch.compile: minutes at the start, for faster steps."""

    ema_decay: float = 0.999
    """Decay a step of the averaged weights, which are the ones exported."""

    clip_norm: float = 10.0
    """Largest gradient norm of each network; larger gradients are shortened to it. 0: none is."""

    plain_start: bool = False
    """New networks start from PyTorch's own noise, as in the paper, not as plain resizes that are to be bettered."""

    joint_gradients: bool = False
    """The degrader learns from the losses of the reconstruction network, too, as in DNSR; the paper's do not."""

    def __post_init__(self) -> None:
        if self.sr_net.scale != 4:
            raise ConfigError(
                f"The degrader shrinks 4 times, so the network must enlarge 4 times, not {self.sr_net.scale}."
            )
        refuse_unlike(self.discriminator, self.losses)
        if self.losses.lr_cycle and not self.degrader.bicubic_first:
            raise ConfigError("The lr_cycle loss is of a degrader that shrinks by bicubic first: --preset cyclegan-lr.")
        losses = self.losses
        if not self.dual_input and (self.degrader_pretrain_steps or losses.noise_transfer):
            raise ConfigError(
                "A degrader of a single input carries no noise: drop --degrader-pretrain-steps and --loss "
                "noise_transfer, or --single-input, ablation D and the presets dnsr and cyclegan-lr."
            )
        if not any((losses.content, losses.lr_adversarial, losses.cycle, losses.color, losses.lr_cycle)):
            raise ConfigError("The degrader has nothing to learn by: give it content, lr_adversarial, cycle or color.")
        if self.stream.crop_px % 32:
            raise ConfigError(
                f"HR crops are multiples of 32 pixels, for the discriminators; got {self.stream.crop_px}."
            )
        refuse_small_batch(self.discriminator, self.stream)
        if losses.lr_adversarial:
            lr_px = self.stream.crop_px // self.sr_net.scale
            refuse_too_few("discriminator of LR images", self.stream, px=lr_px, stages=DISC_LR.stages)


ABLATIONS: dict[str, dict[str, float]] = {
    "A": {"content": 0.0},
    "B": {"lr_adversarial": 0.0},
    "C": {"cycle": 0.0},
    "D": {},
    "E": {},
}
"""Table 2 of the paper: what each ablation takes away. D is the single-input degrader; E is the whole method."""

ABLATION_STEPS = 100_000


def track_options(track: int) -> JointOptions:
    """The paper's setting of Track 1 or 2. Raises ConfigError for another number."""
    if track not in (1, 2):
        raise ConfigError(f"There are track 1 (synthetic noise) and track 2 (phone photos), got {track}.")
    return JointOptions(discriminator=Discriminator.VGG_STYLE if track == 1 else Discriminator.PATCH_GAN)


class JointPreset(StrEnum):
    """Methods by name, as `--preset` takes them."""

    PAPER = "paper"
    DNSR = "dnsr"
    CYCLEGAN_LR = "cyclegan-lr"


def with_preset(options: JointOptions, preset: JointPreset) -> JointOptions:
    """The options as a method has them.

    paper: nothing beyond the paper: no gradient is shortened, weights are not averaged, the rate has no warmup,
    networks start from noise, and the degrader is given crops of noisy photos as they are. dnsr: its predecessor, a
    degrader of a single input that learns from the reconstruction network's mean absolute error, too. cyclegan-lr:
    bicubic shrinking, translated at LR size by a degrader of a single input, which a second network undoes.
    """
    if preset is JointPreset.CYCLEGAN_LR:
        losses = replace(options.losses, content=0.0, cycle=0.0, lr_adversarial=1.0, lr_cycle=10.0)
        degrader = replace(options.degrader, bicubic_first=True)
        return replace(options, dual_input=False, degrader=degrader, losses=losses)
    if preset is JointPreset.PAPER:
        plain = replace(
            options,
            schedule=replace(options.schedule, warmup_steps=0),
            stream=replace(options.stream, noise_input=NoiseInput.CROP),
        )
        return replace(plain, clip_norm=0.0, ema_decay=0.0, plain_start=True)
    losses = replace(options.losses, perceptual=0.0, hr_adversarial=0.0, pixel=1.0, squared=0.0)
    return replace(options, dual_input=False, joint_gradients=True, losses=losses, discriminator=Discriminator.NONE)


def small_helpers(options: JointOptions) -> JointOptions:
    """Degrader and discriminators at half the width: what a CPU trains, beside a lite reconstruction network."""
    return replace(
        options,
        degrader=replace(
            options.degrader, features=options.degrader.features // 2, blocks=options.degrader.blocks // 2
        ),
        discriminator_features=options.discriminator_features // 2,
        lr_discriminator_features=options.lr_discriminator_features // 2,
    )


def without_discriminator(options: JointOptions) -> JointOptions:
    """The L2 mode of appendix C: the reconstruction network learns by mean squared error only."""
    losses = replace(options.losses, perceptual=0.0, hr_adversarial=0.0, pixel=0.0, squared=1.0)
    return replace(options, discriminator=Discriminator.NONE, losses=losses)


def ablated(options: JointOptions, letter: str) -> JointOptions:
    """One row of the paper's table 2, at its 100k batches. Raises ConfigError for an unknown letter."""
    if letter not in ABLATIONS:
        raise ConfigError(f"Ablations are {', '.join(ABLATIONS)}, got {letter!r}.")
    return replace(
        options,
        dual_input=letter != "D",
        losses=replace(options.losses, **ABLATIONS[letter]),
        schedule=replace(options.schedule, steps=ABLATION_STEPS),
    )
