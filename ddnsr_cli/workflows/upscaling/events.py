"""What happens in a run, one event after the other, and how each looks as JSON."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Started:
    """Work on a picture begins."""

    input: Path
    output: Path

    anew: str | None
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
    """By how much the network changed the colours of squares of 8 x 8 pixels; None: it was not asked, or the picture
    is smaller than that."""

    sheet: Path | None
    """The sheet of parts before and after."""

    notes: tuple[str, ...]
    """What the user was told about this picture."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What would be written; of a dry run, which starts nothing."""

    input: Path
    output: Path

    anew: str | None
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
    """A picture could not be done."""

    input: Path
    output: Path
    error: str
    exit_code: int
    """That of the program, were it the only picture."""


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
