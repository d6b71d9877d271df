"""Standard output: names as they are for programs, without control characters for a terminal; images, and images in."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from ddnsr_cli.cli.options import path_of
from ddnsr_cli.errors import ConfigError, ImageReadError, ImageWriteError, printable

STANDARD = Path("-")
"""Standard input or output, where a path is asked for; `./-` is a path like it, but not this one."""


def path_or_standard(text: str) -> Path:
    """A path as it was given; `STANDARD` itself for `-`. Raises ConfigError as `path_of`."""
    return STANDARD if text == "-" else path_of(text)


def put_path(path: Path, more: str = "", *, end: bytes = b"\n") -> None:
    """Print a path, and more behind it: its own bytes, or on a terminal what can be shown of it."""
    put_line(os.fsencode(path) + more.encode(), end=end)


def put_line(line: bytes, *, end: bytes = b"\n") -> None:
    """Print a line of which a part is not ours: a name need not be text, and a terminal obeys what is in it."""
    if _on_terminal():
        line = _harmless(line)
    typer.echo(line + end, nl=False)


def put_text(text: str) -> None:
    """Print lines that may hold names, as they are, or on a terminal what can be shown of them."""
    content = text.encode("utf-8", "surrogateescape")
    if _on_terminal():
        content = b"".join(_harmless(line.rstrip(b"\n")) + b"\n" for line in content.splitlines(keepends=True))
    typer.echo(content, nl=False)


def _on_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def _harmless(line: bytes) -> bytes:
    """A tab of ours stays."""
    parts = os.fsdecode(line).split("\t")
    return "\t".join(map(printable, parts)).encode(sys.stdout.encoding or "utf-8", "replace")


@contextmanager
def file_of_stdin() -> Iterator[Path]:
    """A temporary file of all that comes on standard input. Raises ImageReadError, ConfigError for a terminal."""
    if sys.stdin is None or sys.stdin.isatty():
        raise ConfigError("- reads an image from standard input, which is a terminal. Pipe one in, or name a file.")
    with tempfile.TemporaryDirectory(prefix="ddnsr-") as folder:
        path = Path(folder) / "stdin"
        try:
            with path.open("wb") as file:
                while chunk := sys.stdin.buffer.read(1 << 20):
                    file.write(chunk)
        except OSError as error:
            raise ImageReadError(f"Standard input could not be read ({error.strerror}). Name a file.") from error
        yield path


@contextmanager
def file_for_stdout(extension: str) -> Iterator[Path]:
    """A place for a result, which goes to standard output when the block ends well.

    Raises ConfigError for a terminal, ImageWriteError where standard output does not take it.
    """
    if _on_terminal():
        raise ConfigError("-o - writes an image to standard output, which is a terminal. Add > large.png, or name it.")
    with tempfile.TemporaryDirectory(prefix="ddnsr-") as folder:
        path = Path(folder) / f"stdout.{extension}"
        yield path
        try:
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise ImageWriteError(f"Standard output takes no image ({error.strerror}). Name a file with -o.") from error
