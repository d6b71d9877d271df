"""The `ddnsr` command: sub-commands, and the one place where an exception becomes an exit status."""

import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ddnsr_cli import __version__
from ddnsr_cli.cli.degrade import degrade
from ddnsr_cli.cli.evaluate import evaluate
from ddnsr_cli.cli.signals import leaving_in_order
from ddnsr_cli.cli.train import train
from ddnsr_cli.cli.upscale import upscale
from ddnsr_cli.cli.weights import weights
from ddnsr_cli.errors import DdnsrError

EXIT_UNEXPECTED = 70  # sysexits.h: internal software error
EXIT_INTERRUPTED = 130  # 128 + SIGINT
EXIT_USAGE = 2

# What Typer raises for a wrong command line; it has its own copy of click, or uses click, by version.
USAGE_ERROR: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

app = typer.Typer(
    name="ddnsr",
    help="Up-scale noisy real photos four times, and learn a camera's own degradation from unpaired pictures.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(upscale)
app.command()(degrade)
app.command()(train)
app.command("eval")(evaluate)
app.add_typer(weights, name="weights")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ddnsr {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@leaving_in_order()
def main() -> None:
    """Entry point of the command."""
    _fill_closed_streams()
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except DdnsrError as error:
        _fail(str(error), error.exit_code)
    except USAGE_ERROR as error:
        _usage(error)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it flushes
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted.", EXIT_INTERRUPTED)
    except Exception as error:  # noqa: BLE001  # the last resort: a log and one line instead of a traceback
        _fail(f"unexpected {type(error).__name__}: {error} (details in {_write_log()}).", EXIT_UNEXPECTED)


def _fill_closed_streams() -> None:
    """Where a standard stream was closed, the next file to be opened would take its place, and get what goes there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _usage(error: Exception) -> NoReturn:
    """A command line that cannot be understood: one line; or the help, when nothing was asked for."""
    context, message = getattr(error, "ctx", None), getattr(error, "format_message", error.__str__)()
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(message, err=True)
        sys.exit(EXIT_USAGE)
    command = context.command_path if context else "ddnsr"
    _fail(f"{message.rstrip('.')}. See: {command} --help", EXIT_USAGE)


def _fail(message: str, exit_code: int) -> NoReturn:
    """One line on stderr, whatever a file name or a library's message holds."""
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    sys.exit(exit_code)


def _write_log() -> Path | str:
    try:
        return _log()
    except OSError as error:
        return f"no log: it could not be written, {error.strerror or error}"


def _log() -> Path:
    with tempfile.NamedTemporaryFile("w", prefix="ddnsr-", suffix=".log", delete=False, encoding="utf-8") as log:
        log.write(f"ddnsr {__version__}, Python {sys.version}\n{traceback.format_exc()}")
    return Path(log.name)
