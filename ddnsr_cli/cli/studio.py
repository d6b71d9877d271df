"""`ddnsr studio`."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddnsr_cli.cli.options import Device, Offline, Quiet, folder_of
from ddnsr_cli.cli.terminal import put_text
from ddnsr_cli.errors import ConfigError

if TYPE_CHECKING:
    from ddnsr_cli.studio.server import StudioOptions

MISSING = (
    "ddnsr studio needs Starlette and uvicorn, which are not installed. Get them with: pip install 'ddnsr[studio]'"
)


def studio(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "-m", "--model", help="Model that the page offers first: a file, run folder or name. Repeat it for more."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            parser=folder_of,
            metavar="<path>",
            help="Folder in which all results stay, too. By default those that are not saved are gone at the end.",
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page. 0 takes one that is free.")] = 0,
    open_: Annotated[
        bool | None,
        typer.Option("--open/--no-open", help="Open the page in the browser. By default where there is a desktop."),
    ] = None,
    device: Device = "auto",
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Refuse larger images, as a guard against decompression bombs.")
    ] = 2**28,
    offline: Offline = False,
    quiet: Quiet = False,
) -> None:
    """Serve a page on this machine alone, to enlarge images in the browser: drop, compare, save.

    ddnsr studio

    ddnsr studio -m models/my-model.param -o large/

    The page's address has a secret word in it. Ctrl-C ends the studio.
    """
    try:
        from ddnsr_cli.studio.server import running
    except ModuleNotFoundError as error:
        if error.name not in {"starlette", "uvicorn"}:
            raise
        raise ConfigError(MISSING) from error
    from ddnsr_cli.cli.progress import say, stderr_console
    from ddnsr_cli.files import temporary_folder

    console = stderr_console(quiet=quiet)
    options = _options(tuple(model or ()), output, port, device=device, max_pixels=max_pixels, offline=offline)
    with _ended_by_ctrl_c() as end, temporary_folder("ddnsr-studio-") as folder, running(options, folder) as server:
        put_text(f"{server.address}\n")
        say(console, "The page is for this machine only, and for whoever knows its address. Ctrl-C ends the studio.")
        if has_desktop() if open_ is None else open_:
            _open(server.address)
        end.wait()
        say(console, server.queue.closing_note())


def _options(
    own: tuple[str, ...], output: Path | None, port: int, *, device: str, max_pixels: int, offline: bool
) -> "StudioOptions":
    """Raises DeviceError, WeightsError for a model of the user that is nowhere, and ConfigError."""
    from ddnsr_cli.commands.upscale.options import UpscaleOptions
    from ddnsr_cli.inference.device import choose_device
    from ddnsr_cli.inference.memory import keep_one_heap
    from ddnsr_cli.studio.queue import check_results_folder
    from ddnsr_cli.studio.server import StudioOptions, choices_of
    from ddnsr_cli.weights.registry import read_registry
    from ddnsr_cli.weights.resolve import find_weights, released_entry

    keep_one_heap()
    if output is not None:
        check_results_folder(output)
    chosen, registry = choose_device(device), read_registry()
    for name in own:
        if released_entry(name, registry) is None:
            find_weights(name, registry=registry, offline=offline)
    entry = released_entry(own[0], registry) if own else registry.default_of("rrdb", on_gpu=chosen.type != "cpu")
    first = entry.name if entry is not None else own[0]
    return StudioOptions(
        choices=choices_of(registry, first, own),
        upscale=UpscaleOptions(device=device, max_pixels=max_pixels, offline=offline),
        results=None if output is None else output.absolute(),
        port=port,
    )


@contextmanager
def _ended_by_ctrl_c() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets: the usual way to end a server is no failure. The second one interrupts."""
    end, before = threading.Event(), signal.getsignal(signal.SIGINT)

    def handler(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        end.set()

    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)
    try:
        yield end
    finally:
        if in_main_thread and signal.getsignal(signal.SIGINT) is handler:
            signal.signal(signal.SIGINT, before)


def has_desktop() -> bool:
    """Whether there is a screen with a browser on it, as far as that can be known."""
    return sys.platform in {"darwin", "win32"} or bool({"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ))


def _open(address: str) -> None:
    """In a thread: a browser that stays in the foreground would keep us waiting."""
    import webbrowser

    def run() -> None:
        with suppress(webbrowser.Error, OSError):
            webbrowser.open(address)

    threading.Thread(target=run, daemon=True).start()
