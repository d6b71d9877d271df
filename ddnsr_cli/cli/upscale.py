"""`ddnsr upscale`."""

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddnsr_cli.cli.options import Device, Model, Offline, Quiet
from ddnsr_cli.errors import ConfigError, ImageWriteError

if TYPE_CHECKING:
    from ddnsr_cli.workflows.upscale import Written


class Format(StrEnum):
    """File formats of results."""

    PNG = "png"
    JPG = "jpg"
    WEBP = "webp"
    TIFF = "tiff"
    AVIF = "avif"


class Dtype(StrEnum):
    """Number formats on the device."""

    AUTO = "auto"
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


SIZE, FILES, ENGINE = "Size of the result", "Files", "Speed and memory"


def upscale(
    images: Annotated[list[Path] | None, typer.Argument(help="Pictures or folders of pictures.")] = None,
    input_: Annotated[list[Path] | None, typer.Option("-i", "--input", help="The same as the argument.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File for one picture, else folder. Default: beside it, _x4.")
    ] = None,
    model: Model = None,
    scale: Annotated[
        float | None, typer.Option("-s", "--scale", help="Times larger, any number. Default 4.", rich_help_panel=SIZE)
    ] = None,
    width: Annotated[int | None, typer.Option(help="Width in pixels.", min=1, rich_help_panel=SIZE)] = None,
    height: Annotated[int | None, typer.Option(help="Height in pixels.", min=1, rich_help_panel=SIZE)] = None,
    long_side: Annotated[int | None, typer.Option(help="Longer side, pixels.", min=1, rich_help_panel=SIZE)] = None,
    megapixels: Annotated[float | None, typer.Option(help="Millions of pixels.", rich_help_panel=SIZE)] = None,
    format_: Annotated[
        Format | None, typer.Option("-f", "--format", help="Default: by -o, else png.", rich_help_panel=FILES)
    ] = None,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of JPEG, WebP and AVIF.", rich_help_panel=FILES)] = 95,
    suffix: Annotated[
        str | None, typer.Option(help="Put after each name. Default: _x4 beside the source.", rich_help_panel=FILES)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results.", rich_help_panel=FILES)] = False,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Refuse larger pictures: a guard against bombs.", rich_help_panel=FILES)
    ] = 2**28,
    tile: Annotated[
        str, typer.Option("-t", "--tile", help="auto (or 0), none, or side in LR pixels.", rich_help_panel=ENGINE)
    ] = "auto",
    device: Device = "auto",
    dtype: Annotated[
        Dtype, typer.Option(help="Number format; auto is checked on the device.", rich_help_panel=ENGINE)
    ] = Dtype.AUTO,
    fp32: Annotated[bool, typer.Option("--fp32", help="The same as --dtype fp32.", rich_help_panel=ENGINE)] = False,
    tta: Annotated[
        bool,
        typer.Option("-x", "--tta", help="Average over 8 flips and turns: 8 times slower.", rich_help_panel=ENGINE),
    ] = False,
    offline: Offline = False,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object a result on stdout.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Tell model, device and tiles.")] = False,
    quiet: Quiet = False,
) -> None:
    """Enlarge pictures four times and take their noise away.

    ddnsr upscale photo.jpg -o out.png

    ddnsr upscale holiday/ -o holiday_x4/ -f jpg
    """
    inputs = [*(images or []), *(input_ or [])]
    if not inputs:
        raise ConfigError("No picture was given. Try: ddnsr upscale photo.jpg -o out.png")
    tiles_px = _tile_px(tile)
    from ddnsr_cli.cli.progress import upscale_view
    from ddnsr_cli.images.resize import OutputSize
    from ddnsr_cli.images.tiles import TileConfig
    from ddnsr_cli.images.write import WriteOptions
    from ddnsr_cli.workflows.upscale import UpscaleOptions, upscale_images

    options = UpscaleOptions(
        model=model,
        device=device,
        dtype="fp32" if fp32 else dtype.value,
        tiles=TileConfig(tile_px=tiles_px),
        tta=tta,
        size=OutputSize(scale=scale, width=width, height=height, long_side=long_side, megapixels=megapixels),
        write=WriteOptions(quality=quality),
        format=format_.value if format_ else None,
        suffix=suffix,
        overwrite=overwrite,
        max_pixels=max_pixels,
        offline=offline,
    )
    with upscale_view(quiet=quiet, verbose=verbose) as view:
        for written in upscale_images(inputs, output, options, view.listener):
            view.clear()
            _print(_as_json(written).encode() if json_ else os.fsencode(written.target), written)


def _tile_px(text: str) -> int | None:
    """0: chosen; None: untiled; else LR pixels. Raises ConfigError."""
    if text in ("auto", "none"):
        return 0 if text == "auto" else None
    if text.isascii() and text.isdigit():
        return int(text)
    raise ConfigError(f"--tile takes auto, none or a number of pixels, got {text!r}.")


def _print(line: bytes, written: "Written") -> None:
    """A line on stdout, as bytes: a file name need not be text in the terminal's encoding."""
    try:
        typer.echo(line)
    except BrokenPipeError:
        raise  # the reader has seen enough: Typer ends the program without a word
    except OSError as error:
        raise ImageWriteError(
            f"{written.target} is written, but its name cannot be ({error.strerror}). Check where stdout goes."
        ) from error


def _as_json(written: "Written") -> str:
    return json.dumps(
        {
            "event": "written",
            "input": str(written.source),
            "output": str(written.target),
            "width": written.width,
            "height": written.height,
            "seconds": round(written.seconds, 3),
        }
    )
