"""`ddnsr degrade`."""

import json
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddnsr_cli.cli.options import (
    ENGINE,
    Again,
    DegradationPreset,
    Device,
    ImageList,
    Model,
    NoiseFrom,
    NullEnded,
    Offline,
    Preset,
    Quiet,
    RayAddress,
    RayWorkers,
    Settings,
    ShardOf,
    degradation,
    file_of,
    folder_of,
    path_end,
    path_or_address,
    ray_options,
    selected,
)
from ddnsr_cli.cli.terminal import put_line, put_path, remember_done

if TYPE_CHECKING:
    from ddnsr_cli.commands.degrade.worker import WrittenPair
    from ddnsr_cli.data.config import DegradationConfig


class Method(StrEnum):
    """Ways from HR to LR."""

    LEARNED = "learned"
    BICUBIC = "bicubic"
    GAUSSIAN = "gaussian"
    PATCHES = "patches"
    CLASSICAL = "classical"
    IMPRESSIONISM = "impressionism"


HOW, FILES = "Method", "Files"


def degrade(
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", parser=folder_of, metavar="<path>", help="Folder for hr/, lr/ and manifest.jsonl."
        ),
    ],
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            parser=path_or_address, metavar="images", help="Clean HR images or folders of them, or s3:// addresses."
        ),
    ] = None,
    input_: Annotated[
        list[Path] | None,
        typer.Option(
            "-i",
            "--input",
            parser=path_or_address,
            metavar="<path>",
            help="Clean HR images or folders of them, as by the argument.",
        ),
    ] = None,
    image_list: ImageList = None,
    shard: ShardOf = None,
    again: Again = False,
    noise_source: Annotated[
        Path | None,
        typer.Option(
            parser=path_or_address,
            metavar="<path>",
            help="Folder of real noisy photos, or an s3:// address. They are used at their own resolution.",
        ),
    ] = None,
    per_image: Annotated[
        int, typer.Option("--per-image", min=1, help="Number of pairs from each image, each with noise of its own.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all draws. The same seed gives the same bytes.")] = 0,
    method: Annotated[
        Method,
        typer.Option(
            help="How LR images are made: by the degrader (learned), by bicubic shrinking alone, with Gaussian noise "
            "(gaussian), with patches of real noise (patches), by rule (classical), or with blur kernels and noise of "
            "real photos (impressionism).",
            rich_help_panel=HOW,
        ),
    ] = Method.LEARNED,
    scale: Annotated[
        int,
        typer.Option(
            min=1,
            max=4,
            help="HR pixels per LR pixel along a side: 4, 2, or 1 to denoise. Degraders and impressionism know 4 only.",
            rich_help_panel=HOW,
        ),
    ] = 4,
    model: Model = None,
    sigma: Annotated[
        float | None,
        typer.Option(help="Deviation of Gaussian noise, in levels of 255. The default is 8.", rich_help_panel=HOW),
    ] = None,
    patch_variance: Annotated[
        float | None,
        typer.Option(
            help="Largest variance of a smooth patch. By default it is chosen for each image.", rich_help_panel=HOW
        ),
    ] = None,
    kernels: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of noisy photos whose blur kernels are estimated for impressionism. The default is 10.",
            rich_help_panel=HOW,
        ),
    ] = None,
    kernel_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Steps of training for each blur kernel. The default is 250.", rich_help_panel=HOW),
    ] = None,
    noise_input: NoiseFrom = None,
    degradation_preset: Preset = None,
    degradation_: Settings = None,
    cleanup: Annotated[
        int,
        typer.Option(min=1, help="Shrink HR images so many times first. 2 cleans noisy images.", rich_help_panel=HOW),
    ] = 1,
    realism_report: Annotated[
        Path | None,
        typer.Option(
            parser=file_of,
            metavar="<path>",
            help="HTML page that compares the LR images with the real ones.",
            rich_help_panel=FILES,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Make pairs again that exist, and replace what is at the place of the page.",
            rich_help_panel=FILES,
        ),
    ] = False,
    max_pixels: Annotated[
        int,
        typer.Option(
            min=1, help="Refuse larger images, as a guard against decompression bombs.", rich_help_panel=FILES
        ),
    ] = 2**28,
    workers: Annotated[
        int,
        typer.Option(
            min=0, help="Number of images in work at a time. 0 chooses by cores and memory.", rich_help_panel=ENGINE
        ),
    ] = 0,
    ray: RayAddress = None,
    ray_workers: RayWorkers = None,
    device: Device = "auto",
    offline: Offline = False,
    json_: Annotated[bool, typer.Option("--json", help="Print pairs as JSON, one a line.")] = False,
    null: NullEnded = False,
    quiet: Quiet = False,
) -> None:
    """Make a paired data set: noisy LR partners of clean HR images, by default a quarter of their size.

    ddnsr degrade hr/ --noise-source noisy/ -o pairs/

    Then, here or elsewhere: ddnsr train --pretrain --hr pairs/hr --lr pairs/lr -o runs/mine

    The same command goes on where it stopped.
    """
    named = [*(images or []), *(input_ or [])]
    example = "ddnsr degrade hr/ --noise-source noisy/ -o pairs/"
    inputs, selection = selected(named, image_list, shard, again=again, example=example)
    end = path_end(null=null, as_json=json_)
    from ddnsr_cli.inference.engine import load_torch

    load_torch()
    from ddnsr_cli.cli.progress import degrade_view
    from ddnsr_cli.commands.degrade.options import DegradeOptions
    from ddnsr_cli.commands.degrade.run import degrade_images
    from ddnsr_cli.inference.memory import keep_one_heap
    from ddnsr_cli.reports.page import refuse_to_lose

    if realism_report is not None and image_list is not None:
        refuse_to_lose(realism_report, [image_list])
    keep_one_heap()
    options = DegradeOptions(
        selection=selection,
        noise_source=noise_source,
        method=method.value,
        scale=scale,
        model=model,
        per_image=per_image,
        seed=seed,
        cleanup=cleanup,
        sigma=sigma,
        patch_variance=patch_variance,
        kernels=kernels,
        kernel_steps=kernel_steps,
        noise_input=noise_input,
        degradation=_by_rule(method, degradation_preset, degradation_, scale),
        report=realism_report,
        workers=workers,
        device=device,
        overwrite=overwrite,
        max_pixels=max_pixels,
        offline=offline,
        ray=ray_options(ray, ray_workers),
    )
    done: set[Path] = set()
    with degrade_view(quiet=quiet) as view:
        for written in degrade_images(inputs, output, options, view.listener):
            view.clear()
            if json_:
                put_line(_as_json(written).encode())
            else:
                put_path(written.lr, end=end)
            view.resume()
            done.add(written.source)
            remember_done(len(done), view.total(), overwritten=overwrite)


def _by_rule(
    method: Method, preset: DegradationPreset | None, settings: list[str] | None, scale: int
) -> "DegradationConfig | None":
    """What --method classical draws. None, for another method, where nothing is said of it."""
    if method is Method.CLASSICAL or preset or settings:
        return replace(degradation(preset, settings), scale=scale)
    return None


def _as_json(written: "WrittenPair") -> str:
    return json.dumps(
        {
            "event": "written",
            "input": str(written.source),
            "lr": str(written.lr),
            "hr": str(written.hr),
            "width": written.width,
            "height": written.height,
            "noise": written.record.noise_source,
            "seconds": round(written.seconds, 3),
        }
    )
