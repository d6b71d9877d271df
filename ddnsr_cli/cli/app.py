"""The `ddnsr` command: sub-commands, and the one place where an exception becomes an exit status."""

import os
import shlex
import sys
from typing import Annotated, NoReturn

import typer

from ddnsr_cli import __version__
from ddnsr_cli.cli.degrade import degrade
from ddnsr_cli.cli.evaluate import evaluate
from ddnsr_cli.cli.exits import DEBUG, debugging, leaving_in_order, line_of, without_debug
from ddnsr_cli.cli.peers import instead_of, is_image_named_first, our_name
from ddnsr_cli.cli.train import train
from ddnsr_cli.cli.upscale import upscale
from ddnsr_cli.cli.weights import weights
from ddnsr_cli.errors import DdnsrError, OutOfMemoryError, UnexpectedError, printable

EXIT_INTERRUPTED = 130  # 128 + SIGINT
EXIT_USAGE = 2

# What Typer raises for a wrong command line; it has its own copy of click, or uses click, by version.
USAGE_ERROR: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

app = typer.Typer(
    name="ddnsr",
    help="Up-scale noisy real photos four times, and learn a camera's own degradation from unpaired photos.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": our_name},
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
    _debug: Annotated[
        bool, typer.Option(DEBUG, help="Show the traceback of an error. It may follow any command.")
    ] = False,
) -> None:
    pass


@leaving_in_order()
def main() -> None:
    """Entry point of the command."""
    _fill_closed_streams()
    words, debug = without_debug(sys.argv[1:])
    debugging.set(debug)
    try:
        sys.exit(app(words, standalone_mode=False) or 0)
    except DdnsrError as error:
        _fail(line_of(error), error.exit_code)
    except USAGE_ERROR as error:
        _usage(error, words)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it flushes
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted.", EXIT_INTERRUPTED)
    except MemoryError:
        _fail("there is not enough memory. Free some, or ask for less.", OutOfMemoryError.exit_code)
    except Exception as error:  # noqa: BLE001  # the last resort: a log and one line instead of a traceback
        _fail(line_of(error), UnexpectedError.exit_code)


def _fill_closed_streams() -> None:
    """Where a standard stream was closed, the next file to be opened would take its place, and get what goes there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _usage(error: Exception, words: list[str]) -> NoReturn:
    """A command line that cannot be understood: one line; or the help, when nothing was asked for."""
    context, message = getattr(error, "ctx", None), getattr(error, "format_message", error.__str__)()
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(message, err=True)
        sys.exit(EXIT_USAGE)
    command = context.command_path if context else "ddnsr"
    _fail(" ".join(f"{message.rstrip('.')}. {_way_out(error, words) or f'See: {command} --help'}".split()), EXIT_USAGE)


def _way_out(error: Exception, words: list[str]) -> str | None:
    """What to type instead of a command line that cannot be understood; None: nothing is known of it."""
    kind, context = type(error).__name__, getattr(error, "ctx", None)
    first = context is not None and context.parent is None
    if kind == "NoSuchOption":
        instead = instead_of(getattr(error, "option_name", ""), words)
        if instead is not None:
            return f"Here: {instead}."
        return f"Name a command first, as in: ddnsr upscale {shlex.join(words)}" if first else None
    if first and words and is_image_named_first(words[0]):
        return f"To enlarge it: ddnsr upscale {shlex.join(words)}"
    return None


def _fail(line: str, exit_code: int) -> NoReturn:
    typer.echo(f"error: {printable(line)}", err=True)
    sys.exit(exit_code)
