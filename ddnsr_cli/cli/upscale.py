"""`ddnsr upscale`."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddnsr_cli.cli.options import (
    ENGINE,
    Again,
    Device,
    ImageList,
    Model,
    NullEnded,
    Offline,
    Quiet,
    RayAddress,
    RayWorkers,
    ShardOf,
    path_end,
    ray_options,
    selected,
)
from ddnsr_cli.cli.terminal import (
    STANDARD,
    file_for_stream,
    file_of_stream,
    input_of,
    is_input_stream,
    is_output_stream,
    output_of,
    put_line,
    put_path,
    remember_done,
)
from ddnsr_cli.errors import MOST_NAMES, ConfigError, ImageWriteError, shown
from ddnsr_cli.files import StorePath, is_special

if TYPE_CHECKING:
    from ddnsr_cli.commands.upscale.options import Event, Planned, UpscaleOptions


class Format(StrEnum):
    """File formats of results, as extensions."""

    PNG = "png"
    JPG = "jpg"
    JPEG = "jpeg"
    WEBP = "webp"
    TIF = "tif"
    TIFF = "tiff"
    AVIF = "avif"
    BMP = "bmp"


class Dtype(StrEnum):
    """Number formats on the device."""

    AUTO = "auto"
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"


class NetworkEngine(StrEnum):
    """What runs the network."""

    AUTO = "auto"
    TORCH = "torch"
    OPENVINO = "openvino"


SIZE, LOOK, FILES = "Size of the result", "Look of the result", "Files"


def upscale(
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            parser=input_of,
            metavar="images",
            help="Images or folders of images, or s3:// addresses. - reads one from stdin.",
        ),
    ] = None,
    input_: Annotated[
        list[Path] | None,
        typer.Option(
            "-i",
            "--input",
            parser=input_of,
            metavar="<path>",
            help="Images or folders of images, as by the argument.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            parser=output_of,
            metavar="<path>",
            help="File of the result, or folder for several, or - for stdout. By default it lies beside its source as "
            "NAME_x4.png, or after the size asked for, as NAME_x2.5.png.",
        ),
    ] = None,
    image_list: ImageList = None,
    shard: ShardOf = None,
    again: Again = False,
    model: Model = None,
    name: Annotated[
        str | None, typer.Option("-n", "--name", help="Model, as by -m, or its name in the folder of -m.")
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            "-s",
            "--scale",
            help="How many times as wide and high the result is; any number. The default is 4.",
            rich_help_panel=SIZE,
        ),
    ] = None,
    width: Annotated[
        int | None, typer.Option(help="Width of the result, in pixels.", min=1, rich_help_panel=SIZE)
    ] = None,
    height: Annotated[
        int | None, typer.Option(help="Height of the result, in pixels.", min=1, rich_help_panel=SIZE)
    ] = None,
    long_side: Annotated[
        int | None, typer.Option(help="Longer side of the result, in pixels.", min=1, rich_help_panel=SIZE)
    ] = None,
    megapixels: Annotated[
        float | None, typer.Option(help="Size of the result, in millions of pixels.", rich_help_panel=SIZE)
    ] = None,
    strength: Annotated[
        float,
        typer.Option(help="Share of the network in the result; 0 is plain bicubic enlargement.", rich_help_panel=LOOK),
    ] = 1.0,
    color_fix: Annotated[
        bool,
        typer.Option("--color-fix/--no-color-fix", help="Keep the colors of the input.", rich_help_panel=LOOK),
    ] = True,
    grain: Annotated[
        float,
        typer.Option(help="Add fine grain, so many times as strong as the noise of the input.", rich_help_panel=LOOK),
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the grain.", rich_help_panel=LOOK)] = 0,
    to_srgb: Annotated[
        bool,
        typer.Option("--to-srgb", help="Convert colors to sRGB by the profile of the input.", rich_help_panel=LOOK),
    ] = False,
    format_: Annotated[
        Format | None,
        typer.Option(
            "-f",
            "--format",
            help="File format of results. By default it is that of -o, or else png.",
            rich_help_panel=FILES,
        ),
    ] = None,
    quality: Annotated[
        int, typer.Option(min=1, max=100, help="Quality of JPEG, WebP and AVIF.", rich_help_panel=FILES)
    ] = 95,
    suffix: Annotated[
        str | None,
        typer.Option(
            help="Text after the name of each result. Beside its source the default is the size, as _x4 or _1920px.",
            rich_help_panel=FILES,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist.", rich_help_panel=FILES)
    ] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Write a before/after sheet beside each result.", rich_help_panel=FILES)
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Write nothing. List what would be written, with time and memory.", rich_help_panel=FILES
        ),
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first image that fails.", rich_help_panel=FILES)
    ] = False,
    max_pixels: Annotated[
        int,
        typer.Option(
            min=1, help="Refuse larger images, as a guard against decompression bombs.", rich_help_panel=FILES
        ),
    ] = 2**28,
    tile: Annotated[
        str,
        typer.Option(
            "-t", "--tile", help="Side of a tile in pixels of the input, auto (or 0), or none.", rich_help_panel=ENGINE
        ),
    ] = "auto",
    device: Device = "auto",
    dtype: Annotated[
        Dtype,
        typer.Option(
            help="Number format on the device. With auto it is the fastest that is exact enough there; int8 is quicker "
            "still on processors, by OpenVINO, and less exact.",
            rich_help_panel=ENGINE,
        ),
    ] = Dtype.AUTO,
    fp32: Annotated[
        bool, typer.Option("--fp32", help="Compute in fp32, as by --dtype fp32.", rich_help_panel=ENGINE)
    ] = False,
    engine: Annotated[
        NetworkEngine,
        typer.Option(
            help="What runs the network: PyTorch or, quicker on processors, OpenVINO. With auto it is OpenVINO on "
            "x86-64 processors where it is installed.",
            rich_help_panel=ENGINE,
        ),
    ] = NetworkEngine.AUTO,
    tta: Annotated[
        bool,
        typer.Option(
            "-x", "--tta", help="Average over 8 flips and turns, which takes 8 times as long.", rich_help_panel=ENGINE
        ),
    ] = False,
    ray: RayAddress = None,
    ray_workers: RayWorkers = None,
    offline: Offline = False,
    json_: Annotated[bool, typer.Option("--json", help="Print events as JSON, one a line.")] = False,
    null: NullEnded = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Say which model, device and tiles are used.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Enlarge images four times and remove their noise.

    ddnsr upscale photo.jpg -o out.png

    ddnsr upscale holiday/ -o holiday_x4/ -f jpg
    """
    named = [*(images or []), *(input_ or [])]
    inputs, selection = selected(named, image_list, shard, again=again, example="ddnsr upscale photo.jpg -o out.png")
    tiles_px = _tile_px(tile)
    end = path_end(null=null, as_json=json_)
    if quiet and verbose:
        raise ConfigError("-q asks for results and errors only, and -v for more. Give one of them.")
    if fp32 and dtype not in (Dtype.AUTO, Dtype.FP32):
        raise ConfigError(f"--fp32 is --dtype fp32, and --dtype {dtype.value} disagrees. Give one of them.")
    from ddnsr_cli.cli.progress import upscale_view
    from ddnsr_cli.commands.upscale.jobs import is_single
    from ddnsr_cli.commands.upscale.options import UpscaleOptions
    from ddnsr_cli.commands.upscale.run import upscale_images
    from ddnsr_cli.inference.memory import keep_one_heap
    from ddnsr_cli.inference.pipeline import LookOptions
    from ddnsr_cli.inference.tiling import TileConfig
    from ddnsr_cli.io.write import WriteOptions
    from ddnsr_cli.processing.resize import OutputSize

    keep_one_heap()
    options = UpscaleOptions(
        selection=selection,
        model=model if name is None else name if model is None else os.path.join(model, name),  # noqa: PTH118
        device=device,
        dtype="fp32" if fp32 else dtype.value,
        engine=engine.value,
        tiles=TileConfig(tile_px=tiles_px),
        tta=tta,
        look=LookOptions(strength=strength, color_fix=color_fix, grain=grain, seed=seed, to_srgb=to_srgb),
        size=OutputSize(scale=scale, width=width, height=height, long_side=long_side, megapixels=megapixels),
        write=WriteOptions(quality=quality),
        format=format_.value if format_ else None,
        suffix=suffix,
        overwrite=overwrite,
        compare=compare,
        dry_run=dry_run,
        fail_fast=fail_fast,
        max_pixels=max_pixels,
        offline=offline,
        ray=ray_options(ray, ray_workers),
    )
    if options.ray is not None and dry_run:
        raise ConfigError("--dry-run is done by this process alone. Leave --ray out.")
    _refuse_streams(named, output, options, as_json=json_)
    _refuse_device(output)
    with ExitStack() as stack:
        if len(named) == 1 and is_input_stream(named[0]):
            inputs = [stack.enter_context(file_of_stream(named[0]))]
        to_stream = is_output_stream(output)
        if output is not None and to_stream:
            output = stack.enter_context(file_for_stream(output, options.format or _extension_of(output)))
        view = stack.enter_context(upscale_view(quiet=quiet, verbose=verbose))
        printer = EventPrinter(as_json=json_, silent=to_stream, end=end, clear=view.clear)
        events = upscale_images(inputs, output, options, view.listener)
        for event in events if is_single(inputs, options) else _counted(events, view.total, overwritten=overwrite):
            printer.show(event)


def _counted(events: "Iterator[Event]", total: Callable[[], int | None], *, overwritten: bool) -> "Iterator[Event]":
    """Events of several images as they come; a stop signal tells how many are done.

    total: of the images that are not finished already.
    """
    from ddnsr_cli.commands.upscale.options import Skipped, Written

    written = skipped = 0
    for event in events:
        yield event
        written, skipped = written + isinstance(event, Written), skipped + isinstance(event, Skipped)
        if isinstance(event, Written | Skipped):
            left = total()
            remember_done(written + skipped, None if left is None else left + skipped, overwritten=overwritten)


def _refuse_streams(named: list[Path], output: Path | None, options: "UpscaleOptions", *, as_json: bool) -> None:
    """Raises ConfigError where a stream, standard input and output among them, is to be used for two things, or for
    nothing that fits."""
    from_stream, to_stream = any(map(is_input_stream, named)), is_output_stream(output)
    if options.ray is not None and (from_stream or to_stream):
        raise ConfigError("Workers on Ray read and write files. Name files instead of -, or leave --ray out.")
    if from_stream and (len(named) > 1 or output is None):
        pipe = next(filter(is_input_stream, named))
        what = "- reads one image from stdin" if pipe is STANDARD else f"{shown(pipe)} is a pipe, which gives one image"
        raise ConfigError(f"{what}. Name no others, and say where it goes: -o large.png, or -o -.")
    if not to_stream:
        return
    given = "-o -" if output is None or output is STANDARD else f"-o {shown(output)}"
    if len(named) != 1 or (not from_stream and named[0].is_dir()):
        where = "stdout" if output is STANDARD else "a pipe"
        raise ConfigError(f"{given} writes one image to {where}. Name one image, or give a folder with -o.")
    if as_json or options.compare or options.dry_run or options.suffix:
        left_out = "--suffix, --json, --compare and --dry-run"
        raise ConfigError(f"{given} writes one image and nothing else. Leave {left_out} out.")


def _refuse_device(output: Path | None) -> None:
    """Raises ImageWriteError for what is neither a file nor a folder nor written byte by byte."""
    if output is None or isinstance(output, StorePath) or is_output_stream(output) or not is_special(output):
        return
    raise ImageWriteError(
        f"{shown(output)} is a device, not a file. Name a file, or write to any place by -o - > PLACE."
    )


def _extension_of(output: Path) -> str:
    """The format that the name of a pipe asks for."""
    extension = output.suffix.lower().removeprefix(".")
    return extension if extension in list(Format) else "png"


def _tile_px(text: str) -> int | None:
    """0: chosen; None: untiled; else LR pixels. Raises ConfigError."""
    if text in ("auto", "none"):
        return 0 if text == "auto" else None
    if text.isascii() and text.isdigit():
        return int(text)
    raise ConfigError(f"--tile takes auto, none or a number of pixels, got {text!r}.")


class EventPrinter:
    """Prints events as they come."""

    def __init__(self, *, as_json: bool, clear: Callable[[], None], silent: bool = False, end: bytes = b"\n") -> None:
        """clear: takes the progress bar away, so that a line has the terminal to itself.

        silent: paths are not printed. end: of each path.
        """
        self._as_json = as_json
        self._silent = silent
        self._end = end
        self._clear = clear
        self._failed: list[Path] = []

    def show(self, event: "Event") -> None:
        """Print what one event has to tell. Raises ImageWriteError where stdout does not take it."""
        from ddnsr_cli.commands.upscale.options import Failed, Planned, Summary, Written, event_json

        if isinstance(event, Failed):
            self._failed.append(event.input)
        if isinstance(event, Summary):
            self._list_failures()
        if self._as_json:
            self._print(lambda: put_line(json.dumps(event_json(event)).encode()), event)
        elif isinstance(event, Planned):
            self._print(lambda: put_path(event.output, _estimate(event), end=self._end), event)
        elif isinstance(event, Written) and not self._silent:
            for path in (event.output, *([event.sheet] if event.sheet else [])):
                self._print(partial(put_path, path, end=self._end), event)

    def _list_failures(self) -> None:
        """All failures of a run, last, where the line that ends it has no room for all names."""
        if len(self._failed) > MOST_NAMES:
            self._clear()
            for path in self._failed:
                typer.echo(f"failed: {shown(path)}", err=True)

    def _print(self, put: Callable[[], None], event: "Event") -> None:
        """A line on stdout."""
        from ddnsr_cli.commands.upscale.options import Written

        self._clear()
        try:
            put()
        except BrokenPipeError:
            raise  # the reader has seen enough: Typer ends the program without a word
        except OSError as error:
            what = (
                f"{shown(event.output)} is written, but its name cannot be"
                if isinstance(event, Written)
                else "No output"
            )
            raise ImageWriteError(f"{what} ({error.strerror}). Check where stdout goes.") from error


def _estimate(planned: "Planned") -> str:
    return (
        f"\t{planned.width} x {planned.height}\tabout {planned.seconds:.2g} s"
        f"\t{max(1, round(planned.memory_bytes / 1e6))} MB"
    )
