"""The sizes of networks that enlarge, what tiling has to know of them, and the sizes of discriminators. PyTorch is not
needed, and not loaded."""

from dataclasses import dataclass
from typing import Literal

from ddnsr_cli.errors import ConfigError

LEAKY_SLOPE = 0.2  # every LeakyReLU of the paper and of ESRGAN
RESIDUAL_SCALE = 0.2  # keeps 23 stacked RRDBs stable; ESRGAN section 3.1
SCALES = (1, 2, 4)
"""Those of RRDB networks."""

RRDB_HALO_PX = 16  # reach is hundreds of pixels, but beyond this nothing is seen of it: tests/bench/tiling.py
LARGEST_SCALE = 8
"""Of a Compact network."""

VIEWS = 8
"""The symmetries of a square: four quarter turns, then those of the mirrored image."""

HalfFormat = Literal["float16", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class SrTraits:
    """What running a network over an image of any size depends on."""

    scale: int
    """SR pixels per LR pixel along a side."""

    halo_px: int
    """LR pixels of context with which a tile comes out as in the whole image, up to what cannot be seen."""

    values_per_px: float
    """Peak number of activations per LR pixel of a window, weights not counted; see `tests/bench/tiling.py`."""

    align: int = 1
    """Windows start at its multiples, LR pixels: a network that folds squares of pixels folds the same ones then."""

    tiles: bool = True
    """False: it needs the whole image at once, as long as there is memory for that."""

    half_formats: tuple[HalfFormat, ...] = ("float16", "bfloat16")
    """In which of these it may be tried."""

    channels_last: bool = True
    """Whether its weights and images lie in memory pixel by pixel, instead of channel by channel."""


@dataclass(frozen=True, kw_only=True)
class RRDBConfig:
    """The sizes of an RRDB-net. Channel counts unless said."""

    features: int = 64
    """Channels of the trunk."""

    blocks: int = 23
    """Number of RRDBs (three dense blocks each)."""

    growth: int = 32
    """Channels that each convolution of a dense block adds."""

    scale: int = 4
    """SR pixels per LR pixel along a side: 1, 2 or 4."""

    def __post_init__(self) -> None:
        if min(self.features, self.blocks, self.growth) < 1:
            raise ConfigError(f"features, blocks and growth must be at least 1, got {self}.")
        if self.scale not in SCALES:
            raise ConfigError(f"The scale of an RRDB network is 1, 2 or 4, got {self.scale}.")

    @property
    def unshuffle(self) -> int:
        """Side of the pixel squares folded into channels before `conv_first`: 1 for x4, 2 for x2, 4 for x1."""
        return 4 // self.scale

    @property
    def traits(self) -> SrTraits:
        """Two moments compete for the peak of memory.

        In the last dense block of the trunk: inputs of skips and the result (5 x features), and the concatenation
        before and after it grows (8 x growth). At HR size: the up-scaled features and the convolution of them
        (2 x 16 x features) beside those at half the size (4) and the shallow ones (1).
        """
        trunk = 5 * self.features + 8 * self.growth
        hr_stage = 37 * self.features
        values = max(trunk, hr_stage) / self.unshuffle**2
        return SrTraits(scale=self.scale, align=self.unshuffle, halo_px=RRDB_HALO_PX, values_per_px=values)


@dataclass(frozen=True, kw_only=True)
class CompactConfig:
    """The sizes of a Compact network."""

    features: int = 64
    """Channels of all convolutions but the last."""

    convs: int = 16
    """Convolutions between the first and the last."""

    scale: int = 4
    """SR pixels per LR pixel along a side: 1 to 8."""

    inner_scale: int | None = None
    """Where it is not `scale`: how many times the network itself enlarges, before a bicubic resize brings its image to
    `scale`, as in ncnn's files of realesr-animevideov3-x2 and -x3."""

    def __post_init__(self) -> None:
        if self.features < 1 or self.convs < 0:
            raise ConfigError(f"features must be at least 1 and convs at least 0, got {self}.")
        if not (1 <= self.scale <= LARGEST_SCALE and 1 <= self.shuffle <= LARGEST_SCALE):
            raise ConfigError(f"The scale of a Compact network is 1 to {LARGEST_SCALE}, got {self}.")

    @property
    def shuffle(self) -> int:
        """How many times the pixel-shuffle enlarges."""
        return self.scale if self.inner_scale is None else self.inner_scale

    @property
    def traits(self) -> SrTraits:
        """Each convolution sees one pixel further, so this halo makes tiles exact, but for where they fade."""
        # Three feature maps at a time; at the end SR images before and after the shuffle, and the repeated input.
        values = max(3 * self.features, 3 * 3 * self.shuffle**2)
        resize_px = int(self.shuffle != self.scale)  # the kernel of the resize reaches no further
        return SrTraits(scale=self.scale, halo_px=self.convs + 2 + resize_px, values_per_px=values)


SrConfig = RRDBConfig | CompactConfig
"""The sizes of a network of ours; its type tells which network."""

WIDEST = 512  # channels of a discriminator stop doubling here, as in ESRGAN
PATCH_GAN_LEAST_PX = 24
"""The smallest side, a multiple of 8, of which a PatchGAN has a patch to score."""


@dataclass(frozen=True, kw_only=True)
class VGGStyleConfig:
    """The sizes of a VGG-style discriminator."""

    input_px: int = 128
    """Side of the square input, pixels: a multiple of 2 to the power `stages`."""

    features: int = 64
    """Channels of the first stage; each stage doubles them, up to 512."""

    stages: int = 5
    """Halvings of the size."""

    def __post_init__(self) -> None:
        if self.features < 1 or self.stages < 1 or self.input_px < 1 or self.input_px % 2**self.stages:
            raise ConfigError(f"The input's side must be a multiple of 2 to the power of the stages, got {self}.")

    @property
    def channels(self) -> list[int]:
        """Channels of each stage."""
        return [min(self.features * 2**stage, max(WIDEST, self.features)) for stage in range(self.stages)]

    @property
    def least_batch(self) -> int:
        """Images that it learns from at a time, at least: batch norm of a single value would make it 0."""
        return 1 if self.input_px > 2**self.stages else 2


DISC_HR_TRACK1 = VGGStyleConfig(input_px=128, features=64, stages=5)
"""The discriminator of R on Track 1."""

DISC_LR = VGGStyleConfig(input_px=32, features=128, stages=3)
"""The discriminator of D on both tracks."""
