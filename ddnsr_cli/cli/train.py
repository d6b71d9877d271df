"""`ddnsr train`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddnsr_cli.cli.options import Device, Quiet
from ddnsr_cli.errors import ConfigError

if TYPE_CHECKING:
    from ddnsr_cli.training.options import FidelityOptions
    from ddnsr_cli.workflows.train_fidelity import FidelityRequest

Sizes = "Network"
Course = "Course"


def train(
    hr: Annotated[Path, typer.Option("--hr", help="Folder of clean, sharp photos, searched recursively.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Run folder; the same command resumes it.")],
    fidelity: Annotated[
        bool,
        typer.Option("--fidelity", help="Fidelity warm-up: mean absolute error on pairs degraded classically."),
    ] = False,
    val_lr: Annotated[Path | None, typer.Option(help="Validation: folder of LR photos.")] = None,
    val_hr: Annotated[Path | None, typer.Option(help="Validation: their HR partners, the same names.")] = None,
    features: Annotated[int, typer.Option(min=4, help="Channels of the trunk.", rich_help_panel=Sizes)] = 32,
    blocks: Annotated[int, typer.Option(min=1, help="Number of RRDBs.", rich_help_panel=Sizes)] = 6,
    growth: Annotated[int, typer.Option(min=1, help="Channels a dense step adds.", rich_help_panel=Sizes)] = 16,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps in all.", rich_help_panel=Course)] = 20_000,
    batch: Annotated[int, typer.Option(min=1, help="Pairs a step.", rich_help_panel=Course)] = 16,
    crop: Annotated[int, typer.Option(min=16, help="Side of a crop, HR pixels.", rich_help_panel=Course)] = 128,
    rate: Annotated[float, typer.Option(help="Highest learning rate.", rich_help_panel=Course)] = 5e-4,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes (CPU).", rich_help_panel=Course)] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode photos.")] = 1,
    log_every: Annotated[int, typer.Option(min=1, help="Steps between log lines.")] = 50,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between saves.")] = 500,
    validate_every: Annotated[int, typer.Option(min=1, help="Steps between validations.")] = 1000,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Train a reconstruction network on your own photos.

    This version has the first phase, the fidelity warm-up: `ddnsr train --fidelity --hr photos/ -o runs/mine`.
    The run folder then works as a model: `ddnsr upscale -m runs/mine photo.jpg`.
    Ctrl-C finishes the step in hand and saves; the same command goes on from there.
    """
    if not fidelity:
        raise ConfigError("This version trains the fidelity warm-up only. Add --fidelity.")
    if (val_lr is None) != (val_hr is None):
        raise ConfigError("--val-lr and --val-hr belong together. Give both or none.")
    from ddnsr_cli.training.options import Rhythm
    from ddnsr_cli.workflows.train_fidelity import FidelityRequest

    request = FidelityRequest(
        hr=hr,
        run=output,
        options=_options((features, blocks, growth), (steps, rate), (batch, crop, seed, workers)),
        rhythm=Rhythm(log_steps=log_every, save_steps=save_every, validate_steps=validate_every),
        val_lr=val_lr,
        val_hr=val_hr,
        device=device,
    )
    _run(request, quiet=quiet)


def _options(
    sizes: tuple[int, int, int], course: tuple[int, float], stream: tuple[int, int, int, int]
) -> "FidelityOptions":
    from ddnsr_cli.data.stream import StreamConfig
    from ddnsr_cli.nets.rrdb import RRDBConfig
    from ddnsr_cli.training.options import FidelityOptions, ScheduleConfig

    batch, crop, seed, workers = stream
    return FidelityOptions(
        network=RRDBConfig(features=sizes[0], blocks=sizes[1], growth=sizes[2]),
        stream=StreamConfig(batch=batch, crop_px=crop, seed=seed, workers=workers),
        schedule=ScheduleConfig(steps=course[0], peak=course[1]),
    )


def _run(request: "FidelityRequest", *, quiet: bool) -> None:
    from ddnsr_cli.cli.progress import training_view
    from ddnsr_cli.training.stop import stop_on_signals
    from ddnsr_cli.workflows.train_fidelity import train_fidelity

    with stop_on_signals() as stop, training_view(quiet=quiet) as listener:
        weights = train_fidelity(request, listener, stop)
    typer.echo(weights)
    if stop:
        sys.exit(stop.exit_code)
