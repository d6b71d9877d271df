"""Which pictures there are to do, and what their results are called."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddnsr_cli.errors import ConfigError, ImageReadError, ImageWriteError
from ddnsr_cli.files import is_folder, is_there
from ddnsr_cli.images.formats import format_of, shown
from ddnsr_cli.images.listing import find_images
from ddnsr_cli.images.names import Found, OutputNames
from ddnsr_cli.workflows.upscaling.finished import is_sheet
from ddnsr_cli.workflows.upscaling.options import UpscaleOptions

BESIDE_SUFFIX = "_x4"  # only when a result lies beside its source: in a folder of its own it keeps the name
MOST_NAMES = 20  # in one message


@dataclass(frozen=True, kw_only=True)
class Job:
    """One picture to do."""

    source: Path
    target: Path

    @property
    def is_in_place(self) -> bool:
        """Whether the result would take the place of the picture that it is made from."""
        return is_there(self.target) and is_there(self.source) and self.target.samefile(self.source)


def is_single(inputs: Sequence[Path]) -> bool:
    """Whether one file was named, which raises its own error and may be given an output name."""
    return len(inputs) == 1 and not is_folder(inputs[0])


def single_job(source: Path, output: Path | None, options: UpscaleOptions) -> Job:
    """The job of the only picture; -o names the file when it has an extension and is no folder, else the folder.

    Raises ImageReadError where the picture does not exist, ConfigError where the format is asked for in two ways.
    """
    (found,) = find_images([source])
    if output is None or not output.suffix or is_folder(output):
        return Job(source=found.source, target=_names(output, options).target(found))
    if options.format is not None and format_of(output) != format_of(Path(f"x.{options.format}")):
        raise ConfigError(f"-o {shown(output)} and --format {options.format} disagree. Drop one of them.")
    return Job(source=found.source, target=output)


def folder_jobs(inputs: Sequence[Path], output: Path | None, options: UpscaleOptions) -> Iterator[Job]:
    """The jobs of several pictures or of folders, found while they are asked for; at least one.

    Raises ImageReadError, at once, where an input does not exist or holds no picture at all, ImageWriteError where
    the output names a file.
    """
    if output is not None and not is_folder(output) and (is_there(output) or format_of(output)):
        raise ImageWriteError(
            f"{shown(output)} names a file, and there may be several pictures. Give a folder with -o."
        )
    names = _names(output, options)
    pictures = (one for one in find_images(inputs, results=names) if not is_sheet(one.source))
    first: Found | None = next(pictures, None)
    if first is None:
        raise ImageReadError(f"{listed(inputs)}: no picture is in there. Name a picture, or a folder that holds some.")
    return (Job(source=one.source, target=names.target(one)) for one in itertools.chain([first], pictures))


def listed(paths: Sequence[Path]) -> str:
    """Names for one line of a message, not too many."""
    more = f" and {len(paths) - MOST_NAMES} more" if len(paths) > MOST_NAMES else ""
    return ", ".join(shown(path) for path in paths[:MOST_NAMES]) + more


def _names(output: Path | None, options: UpscaleOptions) -> OutputNames:
    default = "" if output is not None else BESIDE_SUFFIX
    return OutputNames(
        folder=output,
        suffix=default if options.suffix is None else options.suffix,
        extension=options.format or "png",
    )
