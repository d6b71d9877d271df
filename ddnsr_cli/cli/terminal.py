"""How a command talks and how it ends.

Standard output has names as they are for programs, without control characters for a terminal; images, and images in.
On a signal nothing half done is left behind; on an error there is one line about it.
"""

import atexit
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import BinaryIO

import typer

from ddnsr_cli import __version__
from ddnsr_cli.cli.options import path_of
from ddnsr_cli.errors import ConfigError, DdnsrError, ImageReadError, ImageWriteError, UnexpectedError, printable, shown
from ddnsr_cli.files import UNINTERRUPTED, StorePath, is_pipe, output_at, path_at, temporary_folder

STANDARD = Path("-")
"""Standard input or output, where a path is asked for; `./-` is a path like it, but not this one."""

_STDIN = ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
STDOUT_NAMES = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def input_of(text: str) -> Path:
    """A path or an address as it was given; `STANDARD` itself for `-` and stdin's names. Raises as `path_of`."""
    return _standard_or_path(text, _STDIN)


def output_of(text: str) -> Path:
    """A path or an address as it was given; `STANDARD` itself for `-` and stdout's names. Raises as `path_of`."""
    path = _standard_or_path(text, STDOUT_NAMES)
    return path if path is STANDARD else output_at(text)


def _standard_or_path(text: str, names: tuple[str, ...]) -> Path:
    path = path_at(text)
    return STANDARD if text in names else path if isinstance(path, StorePath) else path_of(text)


def is_input_stream(path: Path) -> bool:
    """Whether an image is to be read to the end of what comes: standard input, or a pipe, as `<(command)` makes one."""
    return path is STANDARD or is_pipe(path)


def is_output_stream(path: Path | None) -> bool:
    """Whether a result is to be written there byte by byte: standard output, or a pipe."""
    return path is STANDARD or (path is not None and is_pipe(path))


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
def file_of_stream(source: Path) -> Iterator[Path]:
    """A temporary file of all that comes from `STANDARD` or a pipe, by whose name errors of the block call it.

    Until somebody writes to a pipe it waits. Raises ImageReadError, ConfigError for a terminal.
    """
    if source is STANDARD and (sys.stdin is None or sys.stdin.isatty()):
        raise ConfigError("- reads an image from standard input, which is a terminal. Pipe one in, or name a file.")
    name = "Standard input" if source is STANDARD else shown(source)
    with temporary_folder("ddnsr-") as folder:
        path = folder / "stdin"
        try:
            with path.open("wb") as file, _reading(source) as stream:
                while chunk := stream.read(1 << 20):
                    file.write(chunk)
        except OSError as error:
            raise ImageReadError(f"{name} could not be read ({error.strerror}). Name a file.") from error
        try:
            yield path
        except ImageReadError as error:
            raise ImageReadError(str(error).replace(shown(path), name)) from error


def _reading(source: Path) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if source is STANDARD else source.open("rb")


@contextmanager
def file_for_stream(target: Path, extension: str) -> Iterator[Path]:
    """A place for a result, which goes to `STANDARD` or a pipe when the block ends well.

    A pipe is opened first, so that its reader sees an end when the block fails; until somebody reads it waits.
    Raises ConfigError for a terminal, ImageWriteError where the target does not take it.
    """
    if target is STANDARD and _on_terminal():
        raise ConfigError("-o - writes an image to standard output, which is a terminal. Add > large.png, or name it.")
    name = "Standard output" if target is STANDARD else shown(target)
    with temporary_folder("ddnsr-") as folder, _writing(target, name) as stream:
        path = folder / f"stdout.{extension}"
        yield path
        try:
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    stream.write(chunk)
            stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise ImageWriteError(f"{name} takes no image ({error.strerror}). Name a file with -o.") from error


def _writing(target: Path, name: str) -> AbstractContextManager[BinaryIO]:
    if target is STANDARD:
        return nullcontext(sys.stdout.buffer)
    try:
        return target.open("wb", buffering=0)
    except OSError as error:
        raise ImageWriteError(f"{name} takes no image ({error.strerror}). Name a file with -o.") from error


_STDERR = 2
_INSIST_S = 0.05
_ASK_TO_STOP = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

DEBUG = "--debug"
debugging: ContextVar[bool] = ContextVar("debugging", default=False)
"""Whether tracebacks are shown."""


_stop_words: ContextVar[str] = ContextVar("_stop_words", default="")
"""What the line on a stop signal says after its cause."""


def remember_done(done: int, total: int | None, *, overwritten: bool) -> None:
    """What a stop signal shall say from now on: how many images are done, of how many, and how to go on.

    total: None where nobody has counted them. overwritten: whether the command replaces what is there.
    """
    of_all = "" if total is None else f" of {max(done, total)}"
    images = "image is" if done == 1 and total is None else "images are"
    without = " without --overwrite" if overwritten else ""
    _stop_words.set(f"; {done}{of_all} {images} done, and the same command{without} goes on")


@contextmanager
def leaving_in_order() -> Iterator[None]:
    """Inside the block a stop signal ends the program as an error does: with its cleaning up, status 128 + number.

    Left to the system SIGTERM and SIGHUP would end it on the spot, half-written files and all; of SIGINT (Ctrl-C) Typer
    makes an end without a word. A signal that is ignored, as under nohup, stays so; code inside may set its own, and
    where it leaves them they stay.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: handler for number in _ASK_TO_STOP if (handler := signal.getsignal(number)) in usual}
    leave, hook = _Leave(), sys.unraisablehook
    _stop_words.set("")
    for number in before:
        signal.signal(number, leave)
    try:
        yield
    finally:
        leave.done.set()
        for number, handler in before.items():
            if signal.getsignal(number) is leave:
                signal.signal(number, handler)
        sys.unraisablehook = hook
        leave.end()


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Once the block is left and the program ends, Python does not take PyTorch apart first: half a second of CPU.

    What was registered to be done at the end is done, and where standard output cannot be flushed Python ends as usual
    and says so.
    """
    status = 0

    def end() -> None:
        if "torch" in sys.modules:
            with suppress(OSError, ValueError, AttributeError):
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)

    atexit.register(end)  # the first to be registered is the last to be called
    try:
        yield
    except SystemExit as leaving:
        if threading.current_thread() is threading.main_thread():
            for number in _ASK_TO_STOP:  # who asks again while it ends need no traceback
                signal.signal(number, signal.SIG_IGN)
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        raise


class _Leave:
    """Signal handler that raises SystemExit, until it has got through.

    An exception in a handler may come at a moment when Python drops it (the end of an object's life), so it is raised
    again until the block is left, but for the time when it is being dealt with: cleaning up is not interrupted, nor is
    that of a generator, which is closed only when the exception has gone by.
    """

    def __init__(self) -> None:
        self.done = threading.Event()
        self._number = 0

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if not self._number:
            self._number = number
            sys.unraisablehook = lambda _dropped: None  # of what is dropped on the way out nobody wants to hear
            threading.Thread(target=self._insist, daemon=True).start()
        if not UNINTERRUPTED.now and not isinstance(sys.exc_info()[1], (SystemExit, GeneratorExit)):
            raise SystemExit(128 + self._number)

    def end(self) -> None:
        """Say why the block was left, now that its own use of standard error is over.

        Raises SystemExit also where the block came to its end first, as its exception was dropped and time was short.
        """
        if self._number:
            what = "interrupted" if self._number == signal.SIGINT else f"stopped by {signal.Signals(self._number).name}"
            with suppress(OSError):  # not through sys.stderr: what was interrupted may have been writing to it
                os.write(_STDERR, f"error: {what}{_stop_words.get()}.\n".encode())
            raise SystemExit(128 + self._number)

    def _insist(self) -> None:
        if hasattr(signal, "pthread_kill"):  # not on Windows, where only Ctrl-C comes, and seldom at such a moment
            while not self.done.wait(_INSIST_S):
                signal.pthread_kill(threading.main_thread().ident or 0, self._number)


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
        lines = "".join(traceback.format_exception(error)).splitlines()
        sys.stderr.write("\n".join(map(printable, lines)) + "\n")
    text = str(error)
    if not isinstance(error, DdnsrError) or (isinstance(error, UnexpectedError) and error.__cause__):
        kind = "" if isinstance(error, DdnsrError) else f"unexpected {type(error).__name__}: "
        text = f"{kind}{text} (details in {_log(error)})."
    return printable(" ".join(text.split()))


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
