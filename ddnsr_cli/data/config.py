"""How training pairs are drawn: the degradation of clean HR images, its presets, the crops, the shares of sources."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from ddnsr_cli.errors import ConfigError

Range = tuple[float, float]
"""Lowest and highest value drawn."""

_OF_FILTERS = ("blur_sigma", "generalized_beta", "plateau_beta", "ring_cutoff", "sharpen_radius")
ABOVE_ZERO = (*_OF_FILTERS, "size", "coarse_sigma", "chroma_width")
AT_MOST_ONE = ("strength", "shot_share", "gray_share", "ring_cutoff")


@dataclass(frozen=True, kw_only=True)
class DegradationConfig:
    """What is drawn for each image. A pair is a range, drawn uniformly unless said; a chance is in [0, 1].

    A pass is blur, resizing, noise, ringing, sharpening and compression, in this order, each with its chance. Most
    of it follows published facts on Real-ESRGAN (Wang et al., 2021) and BSRGAN (Zhang et al., 2021).
    """

    scale: int = 4
    """HR pixels per LR pixel along a side."""

    strength: Range = (1.0, 1.0)
    """How far into the ranges of what harms an image may be gone: drawn once for an image, so that one that is mild in
    noise is mild in blur and compression, too. (1, 1): the whole ranges, always."""

    twice_chance: float = 0.0
    """Share of images that go through two passes, as a camera's file that was shared: the first ends at a size of its
    own, the second at that of LR. The others go through the second only."""

    size: Range = (0.6, 3.0)
    """Side after the first pass, in sides of LR; uniform in its logarithm. Below 1 the second pass enlarges."""

    blur_chance: float = 0.4
    """Share of passes that blur before they resize."""

    blur_sigma: Range = (0.4, 2.6)
    """Standard deviation along each axis of the kernel, HR pixels, in the second pass too."""

    isotropic_chance: float = 0.0
    """Share of kernels as wide along one axis as along the other."""

    generalized_chance: float = 0.0
    """Share of kernels that are generalized Gaussians: from long-tailed to flat as a disk out of focus."""

    generalized_beta: Range = (0.5, 4.0)
    """Their exponent; 1 is the Gaussian."""

    plateau_chance: float = 0.0
    """Share of kernels that are plateaus, 1 / (1 + r^(2 beta)): a core with a veil around it."""

    plateau_beta: Range = (1.0, 2.0)
    """Their exponent."""

    bicubic_chance: float = 0.7
    """Share of resizings by bicubic; the rest by bilinear, area or Lanczos. All are antialiased."""

    noise_chance: float = 1.0
    """Share of passes that add noise."""

    noise_sigma: Range = (0.0, 16.0)
    """Standard deviation of the noise at mid gray, levels of 255."""

    poisson_chance: float = 0.0
    """Share of noises that are counted photons, each sample its own: Poisson. The others are Gaussian."""

    shot_share: Range = (0.0, 0.8)
    """Share of the variance of Gaussian noise that grows with brightness."""

    gray_chance: float = 0.0
    """Share of noises that are the same in all three channels."""

    gray_share: Range = (0.0, 0.7)
    """Share of the variance of other Gaussian noise that is common to the three channels."""

    coarse_chance: float = 0.4
    """Share of Gaussian noises that are blurred slightly, as after demosaicing."""

    coarse_sigma: Range = (0.3, 0.8)
    """Standard deviation of the Gaussian that blurs it, pixels."""

    coarse_level: Range = (1.0, 1.0)
    """How strong coarse noise is, of the `noise_sigma` drawn: what blurs noise also weakens it."""

    chroma_width: Range = (1.0, 1.0)
    """How many times as wide that Gaussian is for the noise of single channels. Cameras leave fine grain in brightness
    and wide blotches of color."""

    ring_chance: float = 0.0
    """Share of passes with a circular low-pass of abrupt edge, whose ringing is that of cameras and resizers."""

    ring_cutoff: Range = (0.5, 1.0)
    """Its highest frequency, of half the sampling rate."""

    sharpen_chance: float = 0.0
    """Share of passes that sharpen brightness by an unsharp mask, as cameras do: light and dark halos along edges."""

    sharpen_amount: Range = (0.2, 1.0)
    """How much of the detail is added once more."""

    sharpen_radius: Range = (0.5, 1.5)
    """Standard deviation of the mask's Gaussian, pixels."""

    jpeg_chance: float = 0.5
    """Share of passes that compress. Where blocks begin is drawn."""

    jpeg_quality: tuple[int, int] = (40, 96)
    """Pillow's quality, both ends included."""

    webp_chance: float = 0.0
    """Share of compressions that are WebP instead of JPEG, of the same quality range. Images that WebP cannot hold are
    JPEG in any case."""

    full_chroma_chance: float = 0.0
    """Share of JPEGs that keep color at full resolution; the rest have it at half (4:2:0)."""

    def __post_init__(self) -> None:
        values = vars(self)
        chances = {name: value for name, value in values.items() if name.endswith("_chance")}
        if odd := {name: value for name, value in chances.items() if not 0 <= value <= 1}:
            raise ConfigError(f"Chances lie in [0, 1], got {_shown(odd)}.")
        ranges = {name: value for name, value in values.items() if isinstance(value, tuple)}
        if odd := {name: (low, high) for name, (low, high) in ranges.items() if not 0 <= low <= high < math.inf}:
            raise ConfigError(f"A range goes from low to high, is finite and not negative, got {_shown(odd)}.")
        if odd := {name: ranges[name] for name in ABOVE_ZERO if not ranges[name][0]}:
            raise ConfigError(f"This is above 0 in all of its range, got {_shown(odd)}.")
        if odd := {name: ranges[name] for name in AT_MOST_ONE if ranges[name][1] > 1}:
            raise ConfigError(f"This reaches 1 at most, got {_shown(odd)}.")
        if self.scale < 1 or self.jpeg_quality[1] > 100:
            raise ConfigError(
                f"scale is at least 1 and jpeg_quality at most 100, got {self.scale} and {self.jpeg_quality}."
            )
        if self.generalized_chance + self.plateau_chance > 1:
            raise ConfigError(
                "generalized_chance and plateau_chance are shares of one whole and add up to 1 at most, got "
                f"{self.generalized_chance} and {self.plateau_chance}."
            )


def _shown(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


PRESETS: Mapping[str, DegradationConfig] = MappingProxyType(
    {
        "classic": DegradationConfig(),
        "photo": DegradationConfig(
            strength=(0.05, 1.0),
            twice_chance=0.7,
            size=(0.5, 3.0),
            blur_chance=0.7,
            blur_sigma=(0.5, 3.0),
            isotropic_chance=0.5,
            generalized_chance=0.15,
            plateau_chance=0.1,
            bicubic_chance=0.4,
            noise_chance=0.6,
            noise_sigma=(0.0, 30.0),
            poisson_chance=0.25,
            shot_share=(0.0, 0.8),
            gray_chance=0.25,
            gray_share=(0.1, 0.95),
            coarse_chance=0.65,
            coarse_sigma=(0.3, 1.2),
            coarse_level=(0.3, 0.8),
            chroma_width=(1.0, 3.0),
            ring_chance=0.2,
            sharpen_chance=0.3,
            jpeg_chance=0.7,
            jpeg_quality=(30, 95),
            webp_chance=0.15,
            full_chroma_chance=0.3,
        ),
        "mild": DegradationConfig(
            blur_sigma=(0.3, 1.5),
            isotropic_chance=0.5,
            noise_sigma=(0.0, 12.0),
            coarse_level=(0.4, 0.9),
            jpeg_quality=(60, 98),
            full_chroma_chance=0.3,
        ),
        "track1": DegradationConfig(
            blur_chance=0.0,
            bicubic_chance=1.0,
            noise_sigma=(4.0, 12.0),
            shot_share=(0.0, 0.0),
            gray_share=(0.0, 0.5),
            coarse_chance=0.5,
            coarse_sigma=(0.3, 0.6),
            jpeg_chance=0.0,
        ),
    }
)
"""What `--degradation-preset` names.

classic: one pass, as in the pretraining of the bundled models. photo: photos of phones and of the web, many of them
mild. mild: one light pass. track1: bicubic and noise, as Track 1 of NTIRE 2020.
"""


class NoiseInput(StrEnum):
    """What a degrader is given of a noisy image."""

    SMOOTH = "smooth"
    """Its noise alone: smooth parts, put together."""

    CROP = "crop"
    """A crop as it is, as in the paper: its subject shows faintly in the result."""


MOST_SEED = 2**63 - 1
"""PyTorch takes seeds of 64 bits, and one network of a run is drawn from the seed after it."""


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """How crops are drawn and mixed."""

    batch: int = 16
    """Pairs in a batch."""

    crop_px: int = 128
    """Side of an HR crop, HR pixels."""

    crops_per_image: int = 16
    """Crops cut from an image each time it is decoded."""

    images_per_round: int = 32
    """Images whose crops are mixed; the buffer holds this times `crops_per_image` crops."""

    seed: int = 0
    """Draws images, crops and degradations."""

    workers: int = 1
    """Processes that decode; 0 decodes in the training process. Does not change what is drawn."""

    noise_input: NoiseInput = NoiseInput.SMOOTH
    """What a degrader is given of the noisy images. Of an image without smooth parts it is a crop in any case."""

    def __post_init__(self) -> None:
        if min(self.batch, self.crop_px, self.crops_per_image) < 1 or self.workers < 0 or self.seed < 0:
            raise ConfigError(
                f"batch, crop_px and crops_per_image are at least 1, workers and seed at least 0, got {self}."
            )
        if self.seed > MOST_SEED:
            raise ConfigError(f"seed is at most {MOST_SEED}, got {self.seed}. Choose a smaller one.")
        if self.images_per_round < 2:
            raise ConfigError("images_per_round must be at least 2: a batch from one image trains badly.")
        if self.crops_per_round % self.batch:
            fit = [size for size in range(1, self.crops_per_round + 1) if self.crops_per_round % size == 0]
            near = [max(size for size in fit if size < self.batch), *[size for size in fit if size > self.batch][:1]]
            raise ConfigError(
                f"A batch of {self.batch} crops does not divide the {self.crops_per_round} that are mixed at a time "
                f"({self.crops_per_image} of each of {self.images_per_round} images). Give "
                f"{' or '.join(f'--batch {size}' for size in near)}."
            )

    @property
    def crops_per_round(self) -> int:
        """Size of the shuffle buffer, crops."""
        return self.crops_per_image * self.images_per_round

    @property
    def batches_per_round(self) -> int:
        """Batches that one buffer gives."""
        return self.crops_per_round // self.batch


CYCLE = 100
"""Items after which the order of turns repeats: shares are exact to a hundredth."""


@dataclass(frozen=True, kw_only=True)
class Shares:
    """How often each source has its turn."""

    parts: tuple[float, ...] = (1.0,)
    """A number above 0 for each source; only their ratios count."""

    def __post_init__(self) -> None:
        if not self.parts or not all(0 < part < math.inf for part in self.parts):
            raise ConfigError(f"Each source of pairs has a share above 0, got {self.parts}.")
        if min(self.turns) < 1:
            raise ConfigError(f"A source needs at least a hundredth of all, got shares {self.parts}.")

    @property
    def turns(self) -> list[int]:
        """Turns of each source in a cycle of 100, by the largest remainders."""
        exact = [CYCLE * part / sum(self.parts) for part in self.parts]
        turns = [math.floor(value) for value in exact]
        by_remainder = sorted(range(len(exact)), key=lambda source: turns[source] - exact[source])
        for source in by_remainder[: CYCLE - sum(turns)]:
            turns[source] += 1
        return turns

    @property
    def order(self) -> list[int]:
        """The source of each item of a cycle, spread evenly."""
        places = [((turn + 0.5) / turns, source) for source, turns in enumerate(self.turns) for turn in range(turns)]
        return [source for _, source in sorted(places)]
