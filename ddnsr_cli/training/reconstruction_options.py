"""What decides how the reconstruction network learns, shared by joint and paired training (equation 2)."""

import math
from dataclasses import dataclass, fields
from enum import StrEnum

from ddnsr_cli.data.config import StreamConfig
from ddnsr_cli.errors import ConfigError
from ddnsr_cli.nets.config import DISC_HR_TRACK1, VGGStyleConfig
from ddnsr_cli.nets.lpips import TRUNKS
from ddnsr_cli.nets.vgg19 import LAYERS

LPIPS_PREFIX = "lpips-"


class Discriminator(StrEnum):
    """The discriminator of the reconstruction network."""

    VGG_STYLE = "vgg-style"
    """One score an image (ESRGAN; the paper's Track 1)."""

    PATCH_GAN = "patchgan"
    """One score a patch of 70 pixels (the paper's Track 2)."""

    U_NET = "unet"
    """One score a pixel, spectral norm (Real-ESRGAN)."""

    PROJECTED = "projected"
    """One score a patch, by features of a frozen VGG19: learns within tens of steps (Sauer et al. 2021)."""

    NONE = "none"


class GanKind(StrEnum):
    """How a discriminator compares real and made images."""

    RELATIVISTIC = "relativistic"
    """Each against the mean of the others (ESRGAN, equation 1; the paper)."""

    PLAIN = "plain"
    """Each by itself (Goodfellow et al. 2014; Real-ESRGAN)."""


@dataclass(frozen=True, kw_only=True)
class ReconstructionWeights:
    """Factors of the terms of equation 2; 0 leaves a term out, and what only it needs is not computed."""

    perceptual: float = 1.0
    """Features of the SR image against those of the target."""

    hr_adversarial: float = 0.005
    """The discriminator's opinion of the SR image."""

    pixel: float = 0.01
    """Mean absolute error."""

    gradient: float = 0.0
    """Mean absolute error of the differences between neighboring pixels, along rows and along columns."""

    squared: float = 0.0
    """Mean squared error: 1 in the L2 mode of appendix C, with the others at 0."""

    def __post_init__(self) -> None:
        if wrong := {name: weight for name, weight in vars(self).items() if not 0 <= weight < math.inf}:
            listed = ", ".join(f"{name} {weight:g}" for name, weight in wrong.items())
            raise ConfigError(f"Loss weights are 0 or more and finite, got {listed}.")
        if not any(getattr(self, field.name) for field in fields(ReconstructionWeights)):  # not those of a subclass
            raise ConfigError("The reconstruction network has no loss left. Give one of its weights a value above 0.")


@dataclass(frozen=True, kw_only=True)
class PerceptualLayers:
    """What the perceptual loss compares, before activations."""

    perceptual: str = "conv5_4"
    """A layer of VGG19, several with weights (`conv2_2=0.4,conv3_4=1`), or LPIPS as a whole: `lpips-alex`,
    `lpips-squeeze` or `lpips-vgg`."""

    as_authors: bool = False
    """The perceptual loss as in the code of DDNSR's authors: squared differences, of images that are not
    standardized for VGG19. False: absolute ones of standardized images, as in ESRGAN."""

    def __post_init__(self) -> None:
        perceptual_layers(self.perceptual)  # refuses what it cannot read

    @property
    def perceptual_weights(self) -> dict[str, float]:
        """VGG19 layer -> weight; empty for LPIPS."""
        return perceptual_layers(self.perceptual)

    @property
    def lpips_trunk(self) -> str | None:
        """The trunk of LPIPS when that is the perceptual loss."""
        return lpips_trunk(self.perceptual)


def refuse_unlike(discriminator: Discriminator, weights: ReconstructionWeights) -> None:
    """Raises ConfigError when a discriminator has no adversarial weight, or the weight no discriminator."""
    if (discriminator is Discriminator.NONE) != (weights.hr_adversarial == 0):
        raise ConfigError(
            f"The discriminator of the reconstruction network ({discriminator}) and a weight of its loss, "
            f"hr_adversarial ({weights.hr_adversarial:g}), belong together. Give both or none."
        )


def refuse_small_batch(discriminator: Discriminator, stream: StreamConfig) -> None:
    """Raises ConfigError where a VGG-style discriminator of HR images would see too few values for batch norm."""
    if discriminator is Discriminator.VGG_STYLE:
        refuse_too_few("vgg-style discriminator", stream, px=stream.crop_px, stages=DISC_HR_TRACK1.stages)


def refuse_too_few(name: str, stream: StreamConfig, *, px: int, stages: int) -> None:
    """The same for any VGG-style discriminator, of images of `px` pixels a side. name: for the message."""
    least = VGGStyleConfig(input_px=px, stages=stages).least_batch
    if stream.batch < least:
        raise ConfigError(
            f"The {name} needs a batch of {least} or more at crops of {stream.crop_px} pixels, got {stream.batch}. "
            f"Give a larger --batch, or --crop {2 * stream.crop_px}."
        )


def perceptual_layers(text: str) -> dict[str, float]:
    """What the perceptual loss compares, as VGG19 layer -> weight: `conv5_4`, or `conv2_2=0.4,conv3_4=1`.

    Empty for LPIPS (`lpips-alex`, ...). Raises ConfigError for anything else.
    """
    if lpips_trunk(text) is not None:
        return {}
    layers: dict[str, float] = {}
    for part in text.split(","):
        layer, _, number = part.partition("=")
        try:
            weight = float(number or "1")
        except ValueError:
            weight = math.nan
        if layer not in LAYERS or layer in layers or not 0 < weight < math.inf:
            known = ", ".join((*LAYERS, *(f"{LPIPS_PREFIX}{trunk}" for trunk in TRUNKS)))
            raise ConfigError(
                f"The perceptual loss compares {known}, or several layers with weights above 0 as in "
                f"conv2_2=0.4,conv3_4=1; got {text!r}."
            )
        layers[layer] = weight
    return layers


def lpips_trunk(text: str) -> str | None:
    """The trunk of LPIPS when that is the perceptual loss, else None."""
    trunk = text.removeprefix(LPIPS_PREFIX)
    return trunk if text.startswith(LPIPS_PREFIX) and trunk in TRUNKS else None
