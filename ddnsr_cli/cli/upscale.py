"""`ddnsr upscale`."""

import json
import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddnsr_cli.cli.options import Again, Device, ImageList, Model, Offline, Quiet, ShardOf, selected
from ddnsr_cli.errors import ConfigError, ImageWriteError

if TYPE_CHECKING:
    from ddnsr_cli.commands.upscale.options import Event, Planned


class Format(StrEnum):
    """File formats of results, as extensions."""

    PNG = "png"
    JPG = "jpg"
    JPEG = "jpeg"
    WEBP = "webp"
    TIF = "tif"
    TIFF = "tiff"
    AVIF = "avif"


class Dtype(StrEnum):
    """Number formats on the device."""

    AUTO = "auto"
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


def _path(text: str) -> Path:
    """A path as it was given. Raises ConfigError where nothing was: `Path` makes the whole current folder of that."""
    if not text:
        raise ConfigError("A path on the command line is empty: was a variable not set? For this folder say '.'.")
    return Path(text)


SIZE, LOOK, FILES, ENGINE = "Size of the result", "Look of the result", "Files", "Speed and memory"


def upscale(
    images: Annotated[
        list[Path] | None, typer.Argument(parser=_path, metavar="images", help="Images or folders of images.")
    ] = None,
    input_: Annotated[
        list[Path] | None,
        typer.Option(
            "-i", "--input", parser=_path, metavar="<path>", help="Images or folders of images, as by the argument."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            parser=_path,
            metavar="<path>",
            help="File of the result, or folder for several. By default it lies beside its source as NAME_x4.png.",
        ),
    ] = None,
    image_list: ImageList = None,
    shard: ShardOf = None,
    again: Again = False,
    model: Model = None,
    scale: Annotated[
        float | None,
        typer.Option(
            "-s",
            "--scale",
            help="How many times larger the result is; any number. The default is 4.",
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
            help="Text after the name of each result. Beside its source the default is _x4.", rich_help_panel=FILES
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
        typer.Option("-t", "--tile", help="Side of a tile in LR pixels, auto (or 0), or none.", rich_help_panel=ENGINE),
    ] = "auto",
    device: Device = "auto",
    dtype: Annotated[
        Dtype,
        typer.Option(
            help="Number format on the device. With auto it is the fastest that is exact enough there.",
            rich_help_panel=ENGINE,
        ),
    ] = Dtype.AUTO,
    fp32: Annotated[
        bool, typer.Option("--fp32", help="Compute in fp32, as by --dtype fp32.", rich_help_panel=ENGINE)
    ] = False,
    tta: Annotated[
        bool,
        typer.Option(
            "-x", "--tta", help="Average over 8 flips and turns, which takes 8 times as long.", rich_help_panel=ENGINE
        ),
    ] = False,
    offline: Offline = False,
    json_: Annotated[bool, typer.Option("--json", help="Print events as JSON, one a line.")] = False,
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
    from ddnsr_cli.cli.progress import upscale_view
    from ddnsr_cli.commands.upscale.options import UpscaleOptions
    from ddnsr_cli.commands.upscale.run import upscale_images
    from ddnsr_cli.inference.pipeline import LookOptions
    from ddnsr_cli.inference.tiling import TileConfig
    from ddnsr_cli.io.write import WriteOptions
    from ddnsr_cli.processing.resize import OutputSize

    options = UpscaleOptions(
        selection=selection,
        model=model,
        device=device,
        dtype="fp32" if fp32 else dtype.value,
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
    )
    with upscale_view(quiet=quiet, verbose=verbose) as view:
        printer = EventPrinter(as_json=json_, clear=view.clear)
        for event in upscale_images(inputs, output, options, view.listener):
            printer.show(event)


def _tile_px(text: str) -> int | None:
    """0: chosen; None: untiled; else LR pixels. Raises ConfigError."""
    if text in ("auto", "none"):
        return 0 if text == "auto" else None
    if text.isascii() and text.isdigit():
        return int(text)
    raise ConfigError(f"--tile takes auto, none or a number of pixels, got {text!r}.")


class EventPrinter:
    """Prints events as they come."""

    def __init__(self, *, as_json: bool, clear: Callable[[], None]) -> None:
        """clear: takes the progress bar away, so that a line has the terminal to itself."""
        self._as_json = as_json
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
            self._print(json.dumps(event_json(event)).encode(), event)
        elif isinstance(event, Planned):
            self._print(os.fsencode(event.output) + _estimate(event).encode(), event)
        elif isinstance(event, Written):
            for path in (event.output, *([event.sheet] if event.sheet else [])):
                self._print(os.fsencode(path), event)

    def _list_failures(self) -> None:
        """All failures of a run, last, where the line that ends it has no room for all names."""
        from ddnsr_cli.commands.upscale.jobs import MOST_NAMES
        from ddnsr_cli.errors import shown

        if len(self._failed) > MOST_NAMES:
            self._clear()
            for path in self._failed:
                typer.echo(f"failed: {shown(path)}", err=True)

    def _print(self, line: bytes, event: "Event") -> None:
        """A line on stdout, as bytes: a file name need not be text in the terminal's encoding."""
        from ddnsr_cli.commands.upscale.options import Written

        self._clear()
        try:
            typer.echo(line)
        except BrokenPipeError:
            raise  # the reader has seen enough: Typer ends the program without a word
        except OSError as error:
            what = f"{event.output} is written, but its name cannot be" if isinstance(event, Written) else "No output"
            raise ImageWriteError(f"{what} ({error.strerror}). Check where stdout goes.") from error


def _estimate(planned: "Planned") -> str:
    return (
        f"\t{planned.width} x {planned.height}\tabout {planned.seconds:.2g} s"
        f"\t{max(1, round(planned.memory_bytes / 1e6))} MB"
    )
