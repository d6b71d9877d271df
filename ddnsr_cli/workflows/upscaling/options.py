"""What to do with every picture, and whom the work tells."""

from collections.abc import Callable
from dataclasses import dataclass, field

from ddnsr_cli.device import DtypeName
from ddnsr_cli.errors import ConfigError, DdnsrError
from ddnsr_cli.images.read import MAX_PIXELS
from ddnsr_cli.images.resize import OutputSize
from ddnsr_cli.images.tiles import TileConfig
from ddnsr_cli.images.write import WriteOptions

MOST_GRAIN = 4.0


@dataclass(frozen=True, kw_only=True)
class LookOptions:
    """How a result looks beyond what the network does."""

    color_fix: bool = True
    """Let the low frequencies of the result follow the input's colours."""

    strength: float = 1.0
    """Share of the network in the result, 0 to 1; the rest is the plain bicubic enlargement of the input."""

    grain: float = 0.0
    """Grain laid over the result, in times of the input's noise; 0: none."""

    seed: int = 0
    """Of the grain."""

    to_srgb: bool = False
    """Convert the input's colours to sRGB by its profile."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ConfigError(f"strength must be 0 (plain enlargement) to 1 (the network), got {self.strength}.")
        if not 0 <= self.grain <= MOST_GRAIN:
            raise ConfigError(f"grain must be 0 (none) to {MOST_GRAIN:g} (times the noise), got {self.grain}.")
        if self.seed < 0:
            raise ConfigError(f"seed must be at least 0, got {self.seed}.")


@dataclass(frozen=True, kw_only=True)
class UpscaleOptions:
    """What to do with every picture."""

    model: str | None = None
    """As `find_weights` takes; None: the bundled default."""

    device: str = "auto"
    dtype: DtypeName = "auto"
    tiles: TileConfig = field(default_factory=TileConfig)

    tta: bool = False
    """Average the results of the eight flips and turns: eight times slower, a little better."""

    look: LookOptions = field(default_factory=LookOptions)
    size: OutputSize = field(default_factory=OutputSize)
    write: WriteOptions = field(default_factory=WriteOptions)

    format: str | None = None
    """Extension of the results without a dot; None: that of the output file, else png."""

    suffix: str | None = None
    """Put after the stem of each result; None: `_x4` beside the source, nothing elsewhere."""

    overwrite: bool = False
    """Make results anew that are finished, and replace files that are none of ours."""

    compare: bool = False
    """Write a sheet of parts before and after beside each result."""

    dry_run: bool = False
    """Write nothing, tell what would be written."""

    fail_fast: bool = False
    """End with the first picture of several that fails."""

    max_pixels: int = MAX_PIXELS
    """Largest input, pixels."""

    offline: bool = False


@dataclass(frozen=True, kw_only=True)
class UpscaleListener:
    """Whom the work tells."""

    image: Callable[[str], None]
    """A picture begins."""

    tile: Callable[[int, int], None]
    """(tiles done, tiles in all) of the picture."""

    note: Callable[[str], None]
    """One sentence for the user."""

    detail: Callable[[str], None]
    """One sentence for the curious."""

    failed: Callable[[DdnsrError], None]
    """One picture of several could not be done."""

    download: Callable[[int, int], None]
    """(bytes done, bytes in all) of the weights."""
