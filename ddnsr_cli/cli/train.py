"""`ddnsr train`."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddnsr_cli.cli.option_values import Preset, Settings, loss_weights, steps_of
from ddnsr_cli.cli.options import Device, Offline, Quiet
from ddnsr_cli.cli.train_arguments import (
    Course,
    Discriminator,
    GanKind,
    Precision,
    Target,
    chosen_discriminator,
    joint_options,
    joint_request,
    network_sizes,
    paired_options,
    paired_request,
    validation_folders,
    with_losses,
    with_sources,
    with_targets,
)
from ddnsr_cli.errors import ConfigError, DataError, OtherProcessError

if TYPE_CHECKING:
    from ddnsr_cli.commands.train.joint import JointRequest
    from ddnsr_cli.commands.train.paired import PairedRequest
    from ddnsr_cli.commands.train.run import Trained
    from ddnsr_cli.training.interrupts import StopRequest

COPIES_S = 2.0  # torchrun hands on a Ctrl-C within milliseconds
TRACKS_ONLY = {"data", "target", "start_degrader", "l2", "ablation", "lead", "rehearse", "compile_", "halve_at"}
"""Parameters that pairs have no use for."""

NOT_FOR_PRETRAINING = {"vgg", "perceptual", "perceptual_weights", "as_authors", "loss", "discriminator", "gan"}
NOT_FOR_PRETRAINING |= {"discriminator_first_steps", "discriminator_learning_rate"}
"""Parameters of losses that the mean absolute error alone does not need."""

PAIRS_ONLY = {"mix", "degradation_", "degradation_preset", "sharpen_targets", "discriminator_first_steps"}
PAIRS_ONLY |= {"discriminator_learning_rate", "teacher", "truth_share"}
"""Parameters that a track has no use for."""

DATA, METHOD, SIZES, COURSE, LOG = "Photos", "Method", "Network sizes", "Course", "Log"


def train(
    ctx: typer.Context,
    output: Annotated[Path, typer.Option("-o", "--output", help="Run folder; the same command resumes it.")],
    track: Annotated[
        int | None, typer.Option(help="1: synthetic noise, VGG-style discriminator. 2: camera photos, PatchGAN.")
    ] = None,
    paired: Annotated[
        bool,
        typer.Option("--paired", help="Instead of a track, learn from pairs by the losses of equation 2."),
    ] = False,
    pretrain: Annotated[
        bool,
        typer.Option("--pretrain", help="Instead of a track, learn from pairs by the mean absolute error alone."),
    ] = False,
    hr: Annotated[
        Path | None, typer.Option("--hr", help="Folder of clean, sharp photos, with sub-folders.", rich_help_panel=DATA)
    ] = None,
    lr: Annotated[
        Path | None,
        typer.Option(
            "--lr", help="Real noisy photos. For pairs, they are ready LR partners of --hr.", rich_help_panel=DATA
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Instead of both: holds the NTIRE 2020 folders.", rich_help_panel=DATA)
    ] = None,
    val: Annotated[
        Path | None, typer.Option(help="Validation: a folder of pairs, in lr/ and hr/.", rich_help_panel=DATA)
    ] = None,
    val_lr: Annotated[
        Path | None, typer.Option(help="Or: folder of LR photos to validate on.", rich_help_panel=DATA)
    ] = None,
    val_hr: Annotated[
        Path | None, typer.Option(help="And of their HR partners, the same names.", rich_help_panel=DATA)
    ] = None,
    mix: Annotated[
        list[str] | None,
        typer.Option(
            help="Pairs come from this source for its share, as in --mix photo=0.6; again for more. A source is a "
            "preset, a folder of ready pairs, or a degrader, which takes noise from the photos of --lr.",
            rich_help_panel=DATA,
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only look at the photos and tell what is wrong.", rich_help_panel=DATA)
    ] = False,
    target: Annotated[
        Target, typer.Option(help="cleanup: the noisy photos shrunk by 2; mixed: both.", rich_help_panel=METHOD)
    ] = Target.DIV2K,
    start_from: Annotated[
        Path | None,
        typer.Option(
            help="Weights to begin with; smaller ones grow. On pairs, sizes that are not given are theirs.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    start_degrader: Annotated[
        Path | None, typer.Option(help="The same for the degrader.", rich_help_panel=METHOD)
    ] = None,
    l2: Annotated[
        bool,
        typer.Option(
            "--l2", help="Reconstruct by squared error, no discriminator (appendix C).", rich_help_panel=METHOD
        ),
    ] = False,
    ablation: Annotated[
        str | None, typer.Option(help="A to E: a row of the paper's table 2.", rich_help_panel=METHOD)
    ] = None,
    vgg: Annotated[
        Path | None, typer.Option(help="VGG19 weights. Default: from the Hub.", rich_help_panel=METHOD)
    ] = None,
    perceptual: Annotated[
        str,
        typer.Option(
            "--perceptual",
            "--perceptual-layer",
            help="Images are compared by VGG19 layers, as in conv2_2=0.4,conv3_4=1, or lpips-alex, -squeeze, -vgg.",
            rich_help_panel=METHOD,
        ),
    ] = "conv5_4",
    perceptual_weights: Annotated[
        Path | None, typer.Option(help="Its LPIPS weights. Default: in DDNSR_LPIPS.", rich_help_panel=METHOD)
    ] = None,
    as_authors: Annotated[
        bool,
        typer.Option("--as-authors", help="Perceptual loss squared, of plain pictures.", rich_help_panel=METHOD),
    ] = False,
    loss: Annotated[
        list[str] | None,
        typer.Option(help="A loss weight, as in --loss pixel=0.1; again for more.", rich_help_panel=METHOD),
    ] = None,
    discriminator: Annotated[
        Discriminator | None,
        typer.Option(
            help="HR images are judged by this discriminator. Default: the track's, or unet.", rich_help_panel=METHOD
        ),
    ] = None,
    gan: Annotated[
        GanKind | None,
        typer.Option(
            help="It compares images in this way. Default: relativistic on tracks, else plain.", rich_help_panel=METHOD
        ),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="Pairs are learned from what these weights make of LR, each step turned by chance, beside the truth.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    truth_share: Annotated[
        float | None,
        typer.Option(
            help="The truth has this share of the losses beside a teacher. Default: 0.15.", rich_help_panel=METHOD
        ),
    ] = None,
    sharpen_targets: Annotated[
        str | None,
        typer.Option(
            help="Targets are sharpened: amount, sigma in pixels, threshold in levels, as in 0.5,8,10.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    discriminator_first_steps: Annotated[
        int, typer.Option(min=0, help="The discriminator learns alone for so many steps first.", rich_help_panel=METHOD)
    ] = 0,
    discriminator_learning_rate: Annotated[
        float | None, typer.Option(help="It learns at this constant rate. Default: 0.0001.", rich_help_panel=METHOD)
    ] = None,
    rehearse: Annotated[
        int, typer.Option(min=0, help="Steps that the degrader carries simulated noise.", rich_help_panel=METHOD)
    ] = 0,
    lead: Annotated[
        int, typer.Option(min=0, help="Steps after that before the other network learns.", rich_help_panel=METHOD)
    ] = 0,
    degradation_preset: Preset = None,
    degradation_: Settings = None,
    lpips: Annotated[
        Path | None, typer.Option(help="LPIPS (AlexNet) weights for validation.", rich_help_panel=METHOD)
    ] = None,
    lite: Annotated[bool, typer.Option("--lite", help="All networks small.", rich_help_panel=SIZES)] = False,
    features: Annotated[int | None, typer.Option(min=4, help="Channels of the trunk.", rich_help_panel=SIZES)] = None,
    blocks: Annotated[int | None, typer.Option(min=1, help="Number of RRDBs.", rich_help_panel=SIZES)] = None,
    growth: Annotated[
        int | None, typer.Option(min=1, help="Channels a dense step adds; others read 32.", rich_help_panel=SIZES)
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Batches in all.", rich_help_panel=COURSE)] = None,
    batch: Annotated[int, typer.Option(min=1, help="Crops a step.", rich_help_panel=COURSE)] = 16,
    crop: Annotated[int, typer.Option(min=16, help="Side of a crop, HR pixels.", rich_help_panel=COURSE)] = 128,
    rate: Annotated[float | None, typer.Option(help="Highest learning rate.", rich_help_panel=COURSE)] = None,
    rise: Annotated[
        int | None, typer.Option(min=0, help="Steps over which the rate rises from 0.", rich_help_panel=COURSE)
    ] = None,
    halve_at: Annotated[
        str | None, typer.Option(help="Steps that halve the rate, as in 5000,8000.", rich_help_panel=COURSE)
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="Of the networks that learn; auto: bf16 on a GPU.", rich_help_panel=COURSE)
    ] = Precision.AUTO,
    compile_: Annotated[
        bool, typer.Option("--compile", help="torch.compile: minutes at first, then faster.", rich_help_panel=COURSE)
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes (CPU).", rich_help_panel=COURSE)] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode.", rich_help_panel=COURSE)] = 1,
    log_every: Annotated[int, typer.Option(min=1, help="Steps between log lines.", rich_help_panel=LOG)] = 50,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between saves.", rich_help_panel=LOG)] = 500,
    keep_every: Annotated[int, typer.Option(min=1, help="... saves that stay.", rich_help_panel=LOG)] = 50_000,
    validate_every: Annotated[int, typer.Option(min=1, help="... validations.", rich_help_panel=LOG)] = 1000,
    sample_every: Annotated[int, typer.Option(min=1, help="... sample sheets.", rich_help_panel=LOG)] = 1000,
    device: Device = "auto",
    offline: Offline = False,
    quiet: Quiet = False,
) -> None:
    """Train on your own photos; the run folder then works as a model.

    The method: ddnsr train --track 2 --hr clean/ --lr noisy/ -o runs/mine

    To begin from: ddnsr train --pretrain --hr clean/ -o runs/warm

    For photos of any origin: ddnsr train --paired --hr clean/ --degradation-preset photo --start-from
    runs/warm/sr.safetensors -o runs/photo

    Then: ddnsr upscale -m runs/mine photo.jpg

    Ctrl-C finishes the step in hand and saves; the same command goes on from there.
    """
    if (track is not None) + paired + pretrain != 1:
        raise ConfigError("Choose what to train: --track 1, --track 2, --paired, or --pretrain.")
    if track is None:
        _refuse_given(ctx, TRACKS_ONLY, "belongs to --track; pairs have no use for it")
        _refuse_given(ctx, NOT_FOR_PRETRAINING if pretrain else set(), "is not for --pretrain, which uses no such loss")
    else:
        _refuse_given(ctx, PAIRS_ONLY, "is for pairs; a track learns what its photos show")
    validation = validation_folders(val, val_lr, val_hr)
    from ddnsr_cli.commands.train.feature_extractors import JudgeFiles
    from ddnsr_cli.commands.train.paired import plain_network
    from ddnsr_cli.data.crop_stream import StreamConfig
    from ddnsr_cli.nets.rrdb import RRDBConfig
    from ddnsr_cli.training.loop import Rhythm
    from ddnsr_cli.training.options import LITE

    stream = StreamConfig(batch=batch, crop_px=crop, seed=seed, workers=workers)
    rhythm = Rhythm(
        log_steps=log_every,
        save_steps=save_every,
        keep_steps=keep_every,
        validate_steps=validate_every,
        sample_steps=sample_every,
    )
    course = Course(steps=steps, rate=rate, rise=rise, halve_at=steps_of(halve_at), precision=precision)
    judges = JudgeFiles(vgg=vgg, lpips=perceptual_weights, offline=offline)
    if track is None:
        sizes = network_sizes((features, blocks, growth), LITE if lite else plain_network(output, start_from))
        options = paired_options(sizes, course, stream, pretrain=pretrain)
        if not pretrain:
            kinds = (discriminator, gan, (perceptual, as_authors))
            options = with_losses(options, loss_weights(loss or []), kinds)
            options = replace(
                options,
                discriminator_first_steps=discriminator_first_steps,
                discriminator_rate=(
                    options.discriminator_rate if discriminator_learning_rate is None else discriminator_learning_rate
                ),
            )
        options = with_targets(options, sharpen_targets, (teacher, truth_share))
        rule = (degradation_preset, degradation_ or [])
        options, sources = with_sources(options, (hr, lr), mix or [], rule)
        request = paired_request(sources, output, options, validation)
        request = replace(request, start_from=start_from, teacher=teacher, judges=judges)
        request = replace(request, rhythm=rhythm, lpips=lpips, device=device)
        _run(request, only_check=check, quiet=quiet)
        return
    from ddnsr_cli.training.options import FeatureLayers

    sizes = network_sizes((features, blocks, growth), LITE if lite else RRDBConfig())
    joint = joint_options(track, sizes, course, stream, lite=lite, l2=l2, ablation=ablation)
    losses = replace(joint.losses, **loss_weights(loss or []))
    joint = replace(
        joint,
        layers=FeatureLayers(perceptual=perceptual, as_authors=as_authors),
        discriminator=chosen_discriminator(discriminator or joint.discriminator, losses),
        gan=gan.option if gan else joint.gan,
        losses=losses,
        rehearsal_steps=rehearse,
        lead_steps=lead,
        compiled=compile_,
    )
    joint_asked = joint_request((track, target), (hr, lr, data), output, joint, validation)
    joint_asked = replace(
        joint_asked,
        rhythm=rhythm,
        start_from=start_from,
        start_degrader=start_degrader,
        judges=judges,
        lpips=lpips,
        device=device,
    )
    _run(joint_asked, only_check=check, quiet=quiet)


def _refuse_given(ctx: typer.Context, names: set[str], why: str) -> None:
    """Raises ConfigError for an option that the kind of training would not look at."""
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            raise ConfigError(f"{parameter.opts[0]} {why}. Leave it out.")


def _run(request: "PairedRequest | JointRequest", *, only_check: bool, quiet: bool) -> None:
    from ddnsr_cli.cli.progress import training_view
    from ddnsr_cli.commands.train.joint import JointRequest, train_joint
    from ddnsr_cli.commands.train.paired import train_paired
    from ddnsr_cli.training.distributed import joined_world
    from ddnsr_cli.training.interrupts import StopAsked, stop_on_signals

    if only_check:
        _check(request, quiet=quiet)
        return
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    try:
        with (
            joined_world() as world,
            training_view(quiet=quiet or not world.is_first) as listener,
            stop_on_signals(copies_s=COPIES_S if several else 0.0) as stop,
        ):
            if isinstance(request, JointRequest):
                trained = train_joint(request, listener, stop, world)
            else:
                trained = train_paired(request, listener, stop, world)
    except (OtherProcessError, StopAsked) as error:
        sys.exit(error.exit_code)
    _end(trained, stop, talks=world.is_first)


def _end(trained: "Trained", stop: "StopRequest", *, talks: bool = True) -> None:
    """Give the result, and the status of what was amiss. Raises DataError when photos had to be replaced.

    talks: whether to say something; of several processes one does, and all end alike.
    """
    from ddnsr_cli.commands.train.run import refuse_replaced

    if talks:
        typer.echo(trained.weights)
    if stop:
        sys.exit(stop.exit_code)
    if talks:
        refuse_replaced(trained)
    elif trained.replaced:
        sys.exit(DataError.exit_code)


def _check(request: "PairedRequest | JointRequest", *, quiet: bool) -> None:
    from ddnsr_cli.cli.progress import training_view
    from ddnsr_cli.commands.train.image_warnings import Teller
    from ddnsr_cli.commands.train.joint import JointRequest, check_joint
    from ddnsr_cli.commands.train.paired import check_paired

    summary: list[str] = []
    try:
        with training_view(quiet=quiet) as listener:
            teller = Teller(listener.note)
            if isinstance(request, JointRequest):
                check_joint(request, teller, listener, summary.append)
            else:
                check_paired(request, teller, listener, summary.append)
    finally:  # also when a run would fail
        for line in summary:
            typer.echo(line)
