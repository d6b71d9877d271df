"""Options that several commands share."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddnsr_cli.errors import ConfigError, ImageReadError

if TYPE_CHECKING:
    from ddnsr_cli.io.selection import Selection, Shard

Model = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        help="Model: a registry name, file, run folder, or org/repo[:file] on the Hub. The default is bundled.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", "-g", help="Device to compute on: auto, cpu, cuda, cuda:1, mps ... (-1 is cpu, 0 is cuda:0)."
    ),
]
Offline = Annotated[bool, typer.Option("--offline", help="Never use the network.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]
ImageList = Annotated[
    Path | None,
    typer.Option("--list", help="File that names the images, one path a line. - reads it from stdin."),
]
ShardOf = Annotated[
    str | None,
    typer.Option(
        "--shard", metavar="<i/n>", help="Do only part i of n, from 1/n to n/n, for several processes or machines."
    ),
]


def selected(
    named: list[Path], image_list: Path | None, shard: str | None, *, example: str
) -> "tuple[list[Path], Selection]":
    """(the inputs, and which of their images are meant). example: a command to try where nothing was named.

    Raises ConfigError for options that say nothing or two things, ImageReadError for a list that cannot be read.
    """
    from ddnsr_cli.io.selection import Selection, read_list

    if not named and image_list is None:
        raise ConfigError(f"No image was given. Try: {example}")
    part = None if shard is None else _shard(shard)
    if image_list is None:
        return named, Selection(shard=part)
    if named:
        raise ConfigError("Images are given by name and by --list. Give one of them.")
    try:
        content = sys.stdin.buffer.read() if str(image_list) == "-" else image_list.read_bytes()
    except OSError as error:
        raise ImageReadError(
            f"The list {image_list} cannot be read ({error.strerror or error}). Check the name."
        ) from error
    return read_list(content, str(image_list)), Selection(from_list=True, shard=part)


def _shard(text: str) -> "Shard":
    from ddnsr_cli.io.selection import Shard

    index, slash, count = text.partition("/")
    if not (slash and index.isascii() and index.isdigit() and count.isascii() and count.isdigit()):
        raise ConfigError(f"--shard takes I/N, as in 1/4 for the first of four parts; got {text!r}.")
    return Shard(index=int(index), count=int(count))
