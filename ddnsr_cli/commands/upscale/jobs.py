"""Which images there are to do, what their results are called, and which results are finished already."""

import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum, auto
from pathlib import Path
from typing import Any, Literal

from ddnsr_cli import __version__
from ddnsr_cli.commands.upscale.options import UpscaleOptions
from ddnsr_cli.config import changed_options
from ddnsr_cli.errors import ConfigError, ImageWriteError, listed, printable, shown
from ddnsr_cli.files import FolderPath, StorePath, is_folder, is_there
from ddnsr_cli.io.discovery import Found, OutputNames, find_images
from ddnsr_cli.io.formats import format_of
from ddnsr_cli.io.provenance import Source, add_stamp, is_unchanged, read_stamp
from ddnsr_cli.io.selection import OwnResults

RECIPE = 1
"""Raised when the same model and settings begin to give visibly other results."""

SHEET_SUFFIX = ".compare.png"
LOSSY = ("JPEG", "WebP", "AVIF")

Kind = Literal["result", "sheet"]

Settings = Mapping[str, Any]
"""Model and settings that a result depends on, as JSON has them; see `settings_of`."""


class State(Enum):
    """What is at the place of a result."""

    ABSENT = auto()
    FINISHED = auto()

    OUTDATED = auto()
    """A result of ours, untouched since, but of another input, model or settings."""

    FOREIGN = auto()
    """Not one of ours, or changed since it was made."""


def settings_of(options: UpscaleOptions, model_sha256: str, target: Path) -> Settings:
    """Everything that a result depends on but its input. Device, engine, number format and tiles make no
    visible difference."""
    look = asdict(options.look)
    if not options.look.grain:
        del look["seed"]
    settings: dict[str, Any] = {
        "recipe": RECIPE,
        "model": model_sha256,
        "tta": options.tta,
        "size": {name: value for name, value in asdict(options.size).items() if value is not None},
        "look": look,
    }
    if format_of(target) in LOSSY:
        settings["quality"] = options.write.quality
    return settings


def sheet_of(target: Path) -> Path:
    """Where the sheet of a result lies."""
    return target.with_name(target.stem + SHEET_SUFFIX)


def mark_result(path: Path, source: Source, settings: Settings) -> None:
    """Write into a result what it was made from and by. Raises OSError as the file system does."""
    add_stamp(path, lambda size: _as_note("result", source, settings, size))


def mark_sheet(path: Path, source: Source, settings: Settings) -> None:
    """The same for its sheet."""
    add_stamp(path, lambda size: _as_note("sheet", source, settings, size))


def state_of(source: Path, target: Path, settings: Settings, *, kind: Kind = "result") -> tuple[State, str]:
    """What is at `target`, where a result or a sheet is to be; and if it is OUTDATED, why, in a few words.

    Raises ImageWriteError as `is_taken`, and where what is there cannot be read.
    """
    if not is_taken(target):
        return State.ABSENT, ""
    note = _note(target)
    if note is None or note.get("kind") != kind:
        return State.FOREIGN, ""
    changed = changed_options(note["made"], settings)
    if "model" in changed:
        return State.OUTDATED, "by another model"
    if changed:
        others = {name: was for name, (was, _) in changed.items() if not name.startswith("size")}
        words = [f"{name.rpartition('.')[2]} {_word(was)}" for name, was in others.items()]
        words += [] if len(others) == len(changed) else [_size_in_words(note["made"].get("size"))]
        return State.OUTDATED, f"with other settings ({', '.join(words)})"
    if not _is_same_source(note["input"], source, target):
        return State.OUTDATED, "from another input, or before it was changed"
    return State.FINISHED, ""


def is_taken(target: Path) -> bool:
    """Whether something is where a result is to be, and would be replaced.

    Raises ImageWriteError where a store or a mount does not answer.
    """
    try:
        return is_there(target, strict=True)
    except OSError as error:
        raise _unknown(target, error) from error


def _unknown(target: Path, error: OSError) -> ImageWriteError:
    reason = printable(error.strerror or str(error))
    return ImageWriteError(f"{shown(target)} cannot be looked at ({reason}). Check its place, and try again.")


def _as_note(kind: Kind, source: Source, settings: Settings, size: int) -> bytes:
    note = {
        "program": f"ddnsr {__version__}",
        "kind": kind,
        "input": asdict(source),
        "made": settings,
    }
    # padded: its length must not depend on the size, which counts the note itself
    return f'{{"bytes": {size:15}, {json.dumps(note)[1:]}'.encode()


def _note(path: Path) -> dict[str, Any] | None:
    """What a file tells of itself; None where that is nothing, or not true of it any more, or not ours to read.

    Raises ImageWriteError.
    """
    try:
        raw = read_stamp(path)
        size = path.stat().st_size
        note = json.loads(raw) if raw else None
    except (ValueError, IsADirectoryError, PermissionError):
        return None
    except OSError as error:
        raise _unknown(path, error) from error
    if not isinstance(note, dict) or note.get("bytes") != size:
        return None
    whole = isinstance(note.get("made"), dict) and isinstance(note.get("input"), dict)
    return note if whole else None


def _is_same_source(recorded: Mapping[str, Any], source: Path, target: Path) -> bool:
    try:
        return is_unchanged(source, Source(**recorded), target)
    except (OSError, TypeError):  # gone, or a note of another version
        return False


def _size_in_words(size: object) -> str:
    """The size that a note tells of, `{"scale": 2.0}`."""
    if not isinstance(size, Mapping) or not size:
        return "the network's own scale"
    return " and ".join(
        f"{name.replace('_', ' ')} {f'{value:.10g}' if isinstance(value, float) else value}"
        for name, value in size.items()
    )


def _word(value: object) -> str:
    if value is None:
        return "not set"
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One image to do."""

    source: Path
    target: Path

    inputs: frozenset[Path] = frozenset()
    """Which of its `outputs` lie where images are read: what is there may be one."""

    @property
    def is_in_store(self) -> bool:
        """Whether the image or its result is an object in a store."""
        return isinstance(self.source, StorePath) or isinstance(self.target, StorePath)

    def outputs(self, options: UpscaleOptions) -> tuple[tuple[Path, Kind], ...]:
        """What is made of the image: its result, and its sheet if one is wanted."""
        result: tuple[Path, Kind] = (self.target, "result")
        return (result, (sheet_of(self.target), "sheet")) if options.compare else (result,)

    def is_source(self, path: Path) -> bool:
        """Whether a path is that of the image itself, by whatever name."""
        if self.is_in_store:
            return str(path) == str(self.source)
        return is_there(path) and is_there(self.source) and path.samefile(self.source)


def is_single(inputs: Sequence[Path], options: UpscaleOptions) -> bool:
    """Whether one file was named, which raises its own error and may be given an output name."""
    whole = not options.selection.from_list and options.selection.shard is None
    return len(inputs) == 1 and not is_folder(inputs[0]) and whole


def single_job(source: Path, output: Path | None, options: UpscaleOptions) -> Job:
    """The job of the only image; -o names the file when it has an extension and neither is a folder nor is written as
    one, with a separator at its end; else the folder.

    Raises ImageReadError where the image does not exist, ConfigError where format or name is asked for in two ways.
    """
    (found,) = find_images([source])
    if output is None or _is_folder_to_be(output):
        return Job(source=found.source, target=_names(output, options).target(found))
    if options.format is not None and format_of(output) != format_of(Path(f"x.{options.format}")):
        raise ConfigError(f"-o {shown(output)} and --format {options.format} disagree. Drop one of them.")
    if options.suffix:
        raise ConfigError(f"-o {shown(output)} is the whole name, and --suffix is for others. Drop one of them.")
    return Job(source=found.source, target=output)


def _is_folder_to_be(output: Path) -> bool:
    return isinstance(output, FolderPath) or not output.suffix or is_folder(output)


def _is_file_to_be(output: Path) -> bool:
    written_as_file = format_of(output) is not None and not isinstance(output, FolderPath)
    return not is_folder(output) and (written_as_file or is_there(output))


def folder_jobs(inputs: Sequence[Path], output: Path | None, options: UpscaleOptions, own: OwnResults) -> Iterator[Job]:
    """The jobs of several images or of folders, found while they are asked for; at least one, but in a shard.

    own: counts what is left out.

    Raises ImageReadError, at once, where an input does not exist or holds no image at all, ImageWriteError where
    the output names a file.
    """
    if output is not None and _is_file_to_be(output):
        list(find_images([path for path in inputs if not is_there(path)]))  # a word that is no image says why
        raise ImageWriteError(f"{shown(output)} names a file, and there may be several images. Give a folder with -o.")
    names = _names(output, options)
    found = options.selection.find(inputs, results=names, own=own)
    first: Found | None = next(own.without(found), None)
    if first is None:
        raise own.refusal(listed(inputs))
    meant = own.without(filter(options.selection.holds, itertools.chain([first], found)))
    is_read = _read_places(inputs, output, from_list=options.selection.from_list)
    jobs = (Job(source=one.source, target=names.target(one)) for one in meant)
    return (replace(job, inputs=frozenset(path for path, _ in job.outputs(options) if is_read(path))) for job in jobs)


def _read_places(inputs: Sequence[Path], output: Path | None, *, from_list: bool) -> Callable[[Path], bool]:
    """Whether images are read at a path: it is that of an input, or below a folder that is one.

    A folder of results below another is left out there, as `find_images` has it.
    """
    named = {os.path.abspath(path) for path in inputs}  # noqa: PTH100 - as they are found
    folders = () if from_list else tuple(os.path.realpath(path) for path in inputs if is_folder(path))
    results = None if output is None else os.path.realpath(output)

    def is_read(path: Path) -> bool:
        place = os.path.realpath(path.parent)
        above = [folder for folder in folders if _is_in(place, folder)]
        if results is not None and _is_in(place, results):
            above = [folder for folder in above if folder == results or not _is_in(results, folder)]
        return bool(above) or os.path.abspath(path) in named  # noqa: PTH100

    return is_read


def _is_in(place: str, folder: str) -> bool:
    return os.path.join(place, "").startswith(os.path.join(folder, ""))  # noqa: PTH118 - a root ends in its slash


def _names(output: Path | None, options: UpscaleOptions) -> OutputNames:
    default = "" if output is not None else options.size.ending  # in a folder of its own a result keeps the name
    return OutputNames(
        folder=output,
        suffix=default if options.suffix is None else options.suffix,
        extension=options.format or "png",
    )
