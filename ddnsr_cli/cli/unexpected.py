"""What is told of an error: one line, with the place of a log where nobody foresaw it; all of it with --debug."""

import sys
import tempfile
import traceback
from contextvars import ContextVar
from pathlib import Path

from ddnsr_cli import __version__
from ddnsr_cli.errors import DdnsrError, UnexpectedError

DEBUG = "--debug"
debugging: ContextVar[bool] = ContextVar("debugging", default=False)
"""Whether tracebacks are shown."""


def without_debug(words: list[str]) -> tuple[list[str], bool]:
    """The words of a command line without --debug, which may stand anywhere before `--`; and whether it was there."""
    end = words.index("--") if "--" in words else len(words)
    left = [word for word in words[:end] if word != DEBUG]
    return left + words[end:], len(left) < end


def line_of(error: Exception) -> str:
    """An error as one line, whatever a file name or a library's message holds; shows its traceback if that is wanted.

    One that was not foreseen is written to a log first, with what led to it, and the line tells where.
    """
    if debugging.get():
        traceback.print_exception(error)
    text = str(error)
    if not isinstance(error, DdnsrError) or (isinstance(error, UnexpectedError) and error.__cause__):
        kind = "" if isinstance(error, DdnsrError) else f"unexpected {type(error).__name__}: "
        text = f"{kind}{text} (details in {_log(error)})."
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))


def _log(error: Exception) -> str:
    """Where the log of an error is, or why there is none."""
    details = "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="ddnsr-", suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as log:
            log.write(f"ddnsr {__version__}, Python {sys.version}\n{details}")
    except OSError as failure:
        return f"no log: it could not be written, {failure.strerror or failure}"
    return str(Path(log.name))
