"""What to do with every image, whom the work tells, and what happens in a run: events, and how each looks as JSON."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ddnsr_cli.commands.ray_workers import RayOptions
from ddnsr_cli.errors import DdnsrError
from ddnsr_cli.inference.engine import DtypeName, EngineName
from ddnsr_cli.inference.pipeline import LookOptions
from ddnsr_cli.inference.tiling import TileConfig
from ddnsr_cli.io.image import MAX_PIXELS
from ddnsr_cli.io.selection import Selection
from ddnsr_cli.io.write import WriteOptions
from ddnsr_cli.processing.resize import OutputSize


@dataclass(frozen=True, kw_only=True)
class UpscaleOptions:
    """What to do with every image."""

    model: str | None = None
    """As `find_weights` takes; None: the bundled default."""

    selection: Selection = field(default_factory=Selection)
    """Which of the images are meant."""

    device: str = "auto"
    dtype: DtypeName = "auto"
    engine: EngineName = "auto"
    tiles: TileConfig = field(default_factory=TileConfig)

    tta: bool = False
    """Average the results of the eight flips and turns: eight times slower, a little better."""

    look: LookOptions = field(default_factory=LookOptions)
    size: OutputSize = field(default_factory=OutputSize)
    write: WriteOptions = field(default_factory=WriteOptions)

    format: str | None = None
    """Extension of the results without a dot; None: that of the output file, else png."""

    suffix: str | None = None
    """Put after the stem of each result; None: the size beside the source, as `_x4`, nothing elsewhere."""

    overwrite: bool = False
    """Remake results that are finished, and replace files that are none of ours."""

    compare: bool = False
    """Write a sheet of parts before and after beside each result."""

    dry_run: bool = False
    """Write nothing, tell what would be written."""

    fail_fast: bool = False
    """End with the first image of several that fails."""

    max_pixels: int = MAX_PIXELS
    """Largest input, pixels."""

    offline: bool = False

    ray: RayOptions | None = None
    """None: all is done in this process."""


@dataclass(frozen=True, kw_only=True)
class UpscaleListener:
    """Whom the work tells."""

    image: Callable[[str], None]
    """An image begins."""

    tile: Callable[[int, int], None]
    """(tiles done, tiles in all) of the image."""

    note: Callable[[str], None]
    """One sentence for the user."""

    images: Callable[[int, int | None], None] | None = None
    """(images done, images to do) of several, those that are finished already not counted; None as the second while
    they are counted. None: nobody asks, and they are not counted."""

    detail: Callable[[str], None]
    """One sentence for the curious."""

    failed: Callable[[DdnsrError], None]
    """One image of several could not be done."""

    download: Callable[[int, int], None]
    """(bytes done, bytes in all) of the weights."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """Work on an image begins."""

    input: Path
    output: Path

    remade: str | None
    """How the result that is there was made, which is not as asked for now; None: there is none, or --overwrite."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """A result is finished and on the disk."""

    input: Path
    output: Path

    width: int
    height: int
    """Of the result, pixels."""

    seconds: float

    consistency_db: float | None
    """How near the result, shrunk, is to the input; None: equal."""

    drift_levels: float | None
    """By how much the network changed the colors of squares of 8 x 8 pixels; None: it was not asked, or the image
    is smaller than that."""

    sheet: Path | None
    """The sheet of parts before and after."""

    notes: tuple[str, ...]
    """Notes for the user on this image."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What would be written; of a dry run, which starts nothing."""

    input: Path
    output: Path

    remade: str | None
    """As in `Started`."""

    width: int
    height: int
    tiles: int

    seconds: float
    memory_bytes: int
    """Both estimated, from one tile."""


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """The result was there already, made from this input by this model and these settings."""

    input: Path
    output: Path


@dataclass(frozen=True, kw_only=True)
class Failed:
    """An image could not be done."""

    input: Path
    output: Path
    error: str
    exit_code: int
    """That of the program, were it the only image."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The end of a run."""

    written: int
    planned: int
    skipped: int
    failed: int
    seconds: float
    model: str
    model_sha256: str


Event = Started | Written | Planned | Skipped | Failed | Summary


def event_json(event: Event) -> dict[str, Any]:
    """An event as what `json.dumps` takes: `event`, its name in small letters, and its fields.

    Paths are text; a byte of a name that is none is kept as a lone surrogate, as `os.fsdecode` has it.
    """
    values = {field.name: _plain(getattr(event, field.name)) for field in fields(event)}
    return {"event": type(event).__name__.lower(), **values}


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return round(value, 3)
    return list(value) if isinstance(value, tuple) else value
