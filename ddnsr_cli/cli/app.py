"""The `ddnsr` command: sub-commands, words that people bring along, and where an exception becomes an exit status."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ddnsr_cli import __version__
from ddnsr_cli.cli.degrade import degrade
from ddnsr_cli.cli.evaluate import evaluate
from ddnsr_cli.cli.options import dashed_file
from ddnsr_cli.cli.studio import studio
from ddnsr_cli.cli.terminal import DEBUG, debugging, ending_at_once, leaving_in_order, line_of, without_debug
from ddnsr_cli.cli.train import train
from ddnsr_cli.cli.upscale import upscale
from ddnsr_cli.cli.weights import weights
from ddnsr_cli.errors import DdnsrError, OutOfMemoryError, UnexpectedError, printable
from ddnsr_cli.io.formats import READABLE_EXTENSIONS

_SAME = {
    "outscale": "scale",
    "ext": "format",
    "model-path": "model",
    "model-name": "name",
    "gpu-id": "device",
    "gpu": "device",
    "tile-size": "tile",
    "tilesize": "tile",
    "in": "input",
    "out": "output",
}
"""Their name of an option to ours. Underscores are hyphens by then."""

_INSTEAD = {
    "-j": "all cores are used without it, for small images of a folder side by side; --shard divides among processes",
    "--threads": "OMP_NUM_THREADS sets the number of cores; --shard divides the images among processes",
    "--num-workers": "--shard divides the images among processes",
    "--tile-pad": "how far tiles overlap follows the network; -t sets their side",
    "--pre-pad": "how far tiles overlap follows the network; -t sets their side",
    "--tile-overlap": "how far tiles overlap follows the network; -t sets their side",
    "-dn": "--strength 0.5 is for any model; ddnsr weights mix mixes two networks",
    "--denoise-strength": "--strength 0.5 is for any model; ddnsr weights mix mixes two networks",
    "--denoise": "--strength 0.5 is for any model; ddnsr weights mix mixes two networks",
    "--noise-level": "--strength 0.5 is milder",
    "--resize": "-s, --width, --height, --long-side or --megapixels, of the result",
    "--lr": "noisy photos are --noise-source of degrade; upscale takes images by name",
    "--hr": "clean images are taken by name, as in ddnsr degrade hr/ --noise-source lr/ -o pairs/",
    "--face-enhance": "faces are enlarged like all else; -m takes another model",
    "--alpha-upsampler": "transparency is enlarged without fringes by every -m",
    "--bg-upsampler": "-m names the only model",
    "--half": "--dtype fp16",
    "--fp16": "--dtype fp16",
    "--bf16": "--dtype bf16",
    "--no-half": "--fp32",
    "--cpu": "--device cpu",
    "--cuda": "--device cuda",
    "-c": "--quality, from 1 to 100",
    "-w": "--width",
    "-r": "--width and --height",
    "-z": "-m alone: the file of a model tells its scale",
    "--netscale": "-m alone: the file of a model tells its scale",
    "--model-scale": "-m alone: the file of a model tells its scale",
    "--resume": "the same command, which goes on where it was ended",
    "--skip-existing": "the same command, which leaves finished results of folders as they are; --overwrite does not",
    "--recursive": "nothing: folders are walked with their sub-folders; --list takes single files",
    "-R": "nothing: folders are walked with their sub-folders; --list takes single files",
    "--force": "--overwrite",
    "-y": "--overwrite",
    "--yes": "--overwrite",
    "--output-format": "--format",
    "--output-dir": "-o",
    "--out-dir": "-o",
    "--outdir": "-o",
    "--output-path": "-o",
    "--input-path": "-i",
    "--input-dir": "-i",
    "--img-path": "-i",
}
"""What to say here instead of an option of theirs."""


def our_name(option: str) -> str:
    """An option's name, without its dashes, as ours: `tile_pad` is `tile-pad`, `outscale` is `scale`."""
    name = option.replace("_", "-")
    return _SAME.get(name, name)


def instead_of(option: str, words: Sequence[str]) -> str | None:
    """What to say instead of an option that we do not have; None: nothing is known of it.

    option: as it is refused, with its dashes. words: of the command line: `-dn 0.5` is refused as `-d`.
    """
    wider = next((word for word in words if len(option) == 2 and word.startswith(option) and word in _INSTEAD), option)
    return _INSTEAD.get(wider)


def is_image_named_first(word: str) -> bool:
    """Whether what stands in the place of a command is an image or a folder of them."""
    path = Path(word)
    try:
        return word == "-" or path.suffix.lower() in READABLE_EXTENSIONS or path.exists()
    except OSError:
        return False


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
app.command()(studio)
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


@ending_at_once()
def command() -> None:
    """What the installed script runs."""
    main()


@leaving_in_order()
def main() -> None:
    """The command, in a process that goes on after it."""
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
    way_out = _suggestion(error, words) or f"See: {command} --help"
    _fail(" ".join(f"{message.rstrip('.')}. {way_out}".split()), EXIT_USAGE)


def _suggestion(error: Exception, words: list[str]) -> str | None:
    """What to type instead of a command line that cannot be understood; None: nothing is known of it."""
    kind, context = type(error).__name__, getattr(error, "ctx", None)
    first = context is not None and context.parent is None
    if (dashed := dashed_file(words)) is not None:
        return f"If {dashed[2:]} is meant, write {dashed}"
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
