"""`ddnsr train`."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddnsr_cli.cli.options import (
    Device,
    LrSuffix,
    ModCrop,
    NoiseFrom,
    Offline,
    Preset,
    Quiet,
    Settings,
    folder_of,
    loss_weights,
    steps_of,
)
from ddnsr_cli.cli.terminal import put_path, put_text
from ddnsr_cli.cli.train_arguments import (
    Discriminator,
    GanKind,
    JointPreset,
    ScheduleArguments,
    chosen_discriminator,
    joint_options,
    joint_request,
    network_sizes,
    paired_options,
    paired_request,
    refuse_contradictions,
    refuse_idle_noise_input,
    refuse_idle_perceptual,
    validation_folders,
    weights_file,
    with_losses,
    with_sources,
    with_targets,
)
from ddnsr_cli.config import Precision, TargetType
from ddnsr_cli.data.config import MOST_SEED
from ddnsr_cli.errors import ConfigError, DataError, OtherProcessError

if TYPE_CHECKING:
    from ddnsr_cli.commands.train.joint import JointRequest
    from ddnsr_cli.commands.train.paired import PairedRequest
    from ddnsr_cli.commands.train.run import Trained
    from ddnsr_cli.training.loop import StopRequest

COPIES_S = 2.0  # torchrun hands on a Ctrl-C within milliseconds
TRACKS_ONLY = {
    "data",
    "target",
    "start_degrader",
    "l2",
    "ablation",
    "preset",
    "single_input",
    "degrader_only_steps",
    "degrader_pretrain_steps",
    "compile_",
    "lr_milestones",
}
"""Parameters that pairs have no use for."""

OF_DISCRIMINATORS = {"gan", "discriminator_first_steps", "discriminator_learning_rate"}
"""Parameters that a run without a discriminator has no use for."""

NOT_FOR_PRETRAINING = {"vgg", "perceptual", "perceptual_weights", "as_authors", "loss", "discriminator"}
NOT_FOR_PRETRAINING |= OF_DISCRIMINATORS
"""Parameters of losses that the mean absolute error alone does not need."""

PAIRS_ONLY = {"mix", "degradation_", "degradation_preset", "sharpen_targets", "discriminator_first_steps"}
PAIRS_ONLY |= {"discriminator_learning_rate", "teacher", "truth_share", "scale"}
"""Parameters that a track has no use for."""

DATA, METHOD, SIZES, SCHEDULE, LOG = "Images", "Method", "Network sizes", "Schedule", "Log"


def train(
    ctx: typer.Context,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            parser=folder_of,
            metavar="<path>",
            help="Folder of the run. The same command resumes it.",
        ),
    ],
    track: Annotated[
        int | None,
        typer.Option(
            help="Train by the method: 1 for synthetic noise (VGG-style discriminator), 2 for photos (PatchGAN)."
        ),
    ] = None,
    paired: Annotated[
        bool,
        typer.Option("--paired", help="Train on pairs instead, by pixel, perceptual and adversarial loss."),
    ] = False,
    pretrain: Annotated[
        bool,
        typer.Option("--pretrain", help="Train on pairs instead, by the mean absolute error alone."),
    ] = False,
    hr: Annotated[
        Path | None,
        typer.Option("--hr", help="Folder of clean, sharp images. Sub-folders are read, too.", rich_help_panel=DATA),
    ] = None,
    lr: Annotated[
        Path | None,
        typer.Option(
            "--lr",
            help="Folder of real noisy photos. With --paired or --pretrain: the LR partners of --hr.",
            rich_help_panel=DATA,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder that holds those of the NTIRE 2020 challenge, instead of --hr and --lr.", rich_help_panel=DATA
        ),
    ] = None,
    val: Annotated[
        Path | None, typer.Option(help="Folder of pairs to validate on, in lr/ and hr/.", rich_help_panel=DATA)
    ] = None,
    val_lr: Annotated[
        Path | None,
        typer.Option(help="Folder of LR images to validate on, where --val does not fit.", rich_help_panel=DATA),
    ] = None,
    val_hr: Annotated[
        Path | None, typer.Option(help="Folder of their HR partners, under the same names.", rich_help_panel=DATA)
    ] = None,
    lr_suffix: LrSuffix = None,
    mod_crop: ModCrop = False,
    mix: Annotated[
        list[str] | None,
        typer.Option(
            help="Take this share of the pairs from a source, as in --mix photo=0.6. Repeat it for more. A source is a "
            "preset, a folder of ready pairs, or a degrader, which takes noise from the images of --lr.",
            rich_help_panel=DATA,
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Only look at the images, and say what is wrong with them and whether a run can begin.",
            rich_help_panel=DATA,
        ),
    ] = False,
    target: Annotated[
        TargetType,
        typer.Option(
            help="Where clean HR crops come from: --hr (div2k), the noisy images shrunk by 2 (cleanup), both (mixed), "
            "or the Canon photos of --data (canon).",
            rich_help_panel=METHOD,
        ),
    ] = TargetType.DIV2K,
    start_from: Annotated[
        str | None,
        typer.Option(
            metavar="WEIGHTS",
            help="Begin with these weights: a name of ddnsr weights list, a file, or a run. Smaller ones are grown. On "
            "pairs, their sizes are the default.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    start_degrader: Annotated[
        str | None,
        typer.Option(metavar="WEIGHTS", help="The same for the degrader.", rich_help_panel=METHOD),
    ] = None,
    l2: Annotated[
        bool,
        typer.Option(
            "--l2", help="Learn by squared error, without a discriminator (appendix C).", rich_help_panel=METHOD
        ),
    ] = False,
    ablation: Annotated[
        str | None, typer.Option(help="Train a row of the paper's table 2, A to E.", rich_help_panel=METHOD)
    ] = None,
    preset: Annotated[
        JointPreset | None,
        typer.Option(
            help="Train by a method as it was published: the paper's with nothing of ours, DNSR, its predecessor, or "
            "CycleGAN between bicubic and real LR images.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    single_input: Annotated[
        bool,
        typer.Option(
            "--single-input", help="Give the degrader zeros instead of a noisy image.", rich_help_panel=METHOD
        ),
    ] = False,
    noise_input: NoiseFrom = None,
    vgg: Annotated[
        Path | None,
        typer.Option(help="File of VGG19 weights. By default they are fetched from the Hub.", rich_help_panel=METHOD),
    ] = None,
    perceptual: Annotated[
        str,
        typer.Option(
            help="Compare images by these layers of VGG19, as in conv2_2=0.4,conv3_4=1, or by "
            "lpips-alex, lpips-squeeze or lpips-vgg.",
            rich_help_panel=METHOD,
        ),
    ] = "conv5_4",
    perceptual_weights: Annotated[
        Path | None,
        typer.Option(
            help="File of LPIPS weights for --perceptual. By default it lies in the folder $DDNSR_LPIPS.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    as_authors: Annotated[
        bool,
        typer.Option(
            "--as-authors",
            help="Square the perceptual loss, and compare images that are not normalized.",
            rich_help_panel=METHOD,
        ),
    ] = False,
    loss: Annotated[
        list[str] | None,
        typer.Option(
            help="Set the weight of a loss, as in --loss pixel=0.1. Repeat it for more.", rich_help_panel=METHOD
        ),
    ] = None,
    discriminator: Annotated[
        Discriminator | None,
        typer.Option(
            help="Discriminator of HR images. The default is the track's, or unet on pairs.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    gan: Annotated[
        GanKind | None,
        typer.Option(
            help="Kind of adversarial loss. The default is relativistic on tracks, plain on pairs.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="WEIGHTS",
            help="Learn pairs from what these weights make of LR, each step turned by chance, beside the truth.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    truth_share: Annotated[
        float | None,
        typer.Option(
            help="Share of the truth in the losses beside a teacher. The default is 0.15.", rich_help_panel=METHOD
        ),
    ] = None,
    sharpen_targets: Annotated[
        str | None,
        typer.Option(
            help="Sharpen the targets by amount, sigma in pixels and threshold in levels, as in 0.5,8,10.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    discriminator_first_steps: Annotated[
        int, typer.Option(min=0, help="Train the discriminator alone for so many steps first.", rich_help_panel=METHOD)
    ] = 0,
    discriminator_learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Constant learning rate of the discriminator. The default is 0.0001.", rich_help_panel=METHOD
        ),
    ] = None,
    degrader_pretrain_steps: Annotated[
        int,
        typer.Option(
            min=0, help="Train the degrader alone on simulated noise for so many steps first.", rich_help_panel=METHOD
        ),
    ] = 0,
    degrader_only_steps: Annotated[
        int,
        typer.Option(
            min=0,
            help="After that, train only the degrader and its discriminator for so many steps.",
            rich_help_panel=METHOD,
        ),
    ] = 0,
    degradation_preset: Preset = None,
    degradation_: Settings = None,
    lpips: Annotated[
        Path | None, typer.Option(help="File of LPIPS weights (AlexNet) to validate with.", rich_help_panel=METHOD)
    ] = None,
    lite: Annotated[bool, typer.Option("--lite", help="Make all networks small.", rich_help_panel=SIZES)] = False,
    features: Annotated[
        int | None, typer.Option(min=4, help="Number of channels of the trunk.", rich_help_panel=SIZES)
    ] = None,
    blocks: Annotated[int | None, typer.Option(min=1, help="Number of RRDBs.", rich_help_panel=SIZES)] = None,
    growth: Annotated[
        int | None,
        typer.Option(min=1, help="Channels that a dense step adds. Other programs read 32.", rich_help_panel=SIZES),
    ] = None,
    scale: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=4,
            help="How many times the network enlarges: 4, 2, or 1 to clean images at their size. One for 4 may begin "
            "any. The default is that of --start-from, or 4.",
            rich_help_panel=SIZES,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of batches in all. The default is 300000 on tracks, with --ablation 100000, and 20000 on "
            "pairs.",
            rich_help_panel=SCHEDULE,
        ),
    ] = None,
    batch: Annotated[
        int,
        typer.Option(min=1, help="Number of crops in a batch: a power of 2 from 1 to 512.", rich_help_panel=SCHEDULE),
    ] = 16,
    micro_batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of crops that the networks take at once. By default it is all that a process has of a batch.",
            rich_help_panel=SCHEDULE,
        ),
    ] = None,
    crop: Annotated[int, typer.Option(min=16, help="Side of a crop, in HR pixels.", rich_help_panel=SCHEDULE)] = 128,
    learning_rate: Annotated[
        float | None, typer.Option(help="Highest learning rate.", rich_help_panel=SCHEDULE)
    ] = None,
    warmup_steps: Annotated[
        int | None,
        typer.Option(min=0, help="Steps over which the learning rate rises from 0.", rich_help_panel=SCHEDULE),
    ] = None,
    lr_milestones: Annotated[
        str | None,
        typer.Option(help="Steps at which the learning rate is halved, as in 5000,8000.", rich_help_panel=SCHEDULE),
    ] = None,
    precision: Annotated[
        Precision,
        typer.Option(
            help="Number format of the networks that learn. With auto it is bf16 on a GPU.", rich_help_panel=SCHEDULE
        ),
    ] = Precision.AUTO,
    compile_: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile the networks by torch.compile, which takes minutes at first.",
            rich_help_panel=SCHEDULE,
        ),
    ] = False,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            max=MOST_SEED,
            help="Seed of all draws. On a CPU the same seed gives the same bytes.",
            rich_help_panel=SCHEDULE,
        ),
    ] = 0,
    workers: Annotated[
        int, typer.Option(min=0, help="Number of processes that decode images.", rich_help_panel=SCHEDULE)
    ] = 1,
    log_every: Annotated[
        int, typer.Option(min=1, help="Number of steps between lines of the log.", rich_help_panel=LOG)
    ] = 50,
    save_every: Annotated[int, typer.Option(min=1, help="Number of steps between saves.", rich_help_panel=LOG)] = 500,
    keep_every: Annotated[
        int, typer.Option(min=1, help="Number of steps between saves that are kept.", rich_help_panel=LOG)
    ] = 50_000,
    validate_every: Annotated[
        int, typer.Option(min=1, help="Number of steps between validations.", rich_help_panel=LOG)
    ] = 1000,
    sample_every: Annotated[
        int, typer.Option(min=1, help="Number of steps between sheets of samples.", rich_help_panel=LOG)
    ] = 1000,
    device: Device = "auto",
    offline: Offline = False,
    quiet: Quiet = False,
) -> None:
    """Train a model on your own photos. The run folder then works as a model.

    The method: ddnsr train --track 2 --hr clean/ --lr noisy/ -o runs/mine

    To begin from: ddnsr train --pretrain --hr clean/ -o runs/warm

    For photos of any origin: ddnsr train --paired --hr clean/ --degradation-preset photo --start-from
    runs/warm/sr.safetensors -o runs/photo

    Then: ddnsr upscale -m runs/mine photo.jpg

    Ctrl-C finishes the current step and saves. The same command goes on from there.
    """
    if (track is not None) + paired + pretrain != 1:
        raise ConfigError("Choose what to train: --track 1, --track 2, --paired, or --pretrain.")
    if track is None:
        _refuse_given(ctx, TRACKS_ONLY, "belongs to --track; pairs have no use for it")
        _refuse_given(ctx, NOT_FOR_PRETRAINING if pretrain else set(), "is not for --pretrain, which uses no such loss")
    else:
        _refuse_given(ctx, PAIRS_ONLY, "is for pairs; a track learns what its images show")
    validation = validation_folders(val, val_lr, val_hr)
    from ddnsr_cli.inference.engine import load_torch

    load_torch()
    from ddnsr_cli.commands.train.networks import FeatureFiles
    from ddnsr_cli.commands.train.paired import plain_network
    from ddnsr_cli.data.config import NoiseInput, StreamConfig
    from ddnsr_cli.data.images import PairRules
    from ddnsr_cli.nets.config import RRDBConfig
    from ddnsr_cli.training.loop import Rhythm
    from ddnsr_cli.training.options import LITE

    refuse_contradictions(preset, noise_input=noise_input, l2=l2, ablation=ablation)
    rules = PairRules(lr_suffix=lr_suffix, mod_crop=mod_crop)
    stream = StreamConfig(
        batch=batch, crop_px=crop, seed=seed, workers=workers, noise_input=noise_input or NoiseInput.SMOOTH
    )
    rhythm = Rhythm(
        log_steps=log_every,
        save_steps=save_every,
        keep_steps=keep_every,
        validate_steps=validate_every,
        sample_steps=sample_every,
    )
    schedule = ScheduleArguments(
        steps=steps,
        learning_rate=learning_rate,
        warmup_steps=warmup_steps,
        milestones=steps_of(lr_milestones),
        precision=precision,
    )
    find = partial(weights_file, offline=offline, quiet=quiet)
    begun, begun_degrader, taught_by = find(start_from, "rrdb"), find(start_degrader, "degrader"), find(teacher, "rrdb")
    extractors = FeatureFiles(vgg=vgg, lpips=perceptual_weights, offline=offline)
    if track is None:
        plain = LITE if lite else plain_network(output, begun)
        sizes = network_sizes((features, blocks, growth), plain if scale is None else replace(plain, scale=scale))
        options = paired_options(sizes, schedule, stream, pretrain=pretrain)
        if not pretrain:
            kinds = (discriminator, gan, (perceptual, as_authors))
            options = with_losses(options, loss_weights(loss or []), kinds)
            options = replace(
                options,
                discriminator_first_steps=discriminator_first_steps,
                discriminator_learning_rate=(
                    options.discriminator_learning_rate
                    if discriminator_learning_rate is None
                    else discriminator_learning_rate
                ),
            )
        options = with_targets(options, sharpen_targets, (taught_by, truth_share))
        rule = (degradation_preset, degradation_ or [])
        options, sources = with_sources(options, (hr, lr), mix or [], rule)
        sources = tuple(replace(one, rules=rules) for one in sources)
        request = paired_request(sources, output, options, validation)
        request = replace(request, rules=rules, start_from=begun, teacher=taught_by, extractors=extractors)
        request = replace(request, rhythm=rhythm, lpips=lpips, device=device)
        _run(ctx, request, micro_batch=micro_batch, only_check=check, quiet=quiet)
        return
    from ddnsr_cli.training.options import FeatureLayers

    sizes = network_sizes((features, blocks, growth), LITE if lite else RRDBConfig())
    joint = joint_options(
        track,
        sizes,
        schedule,
        noise_input,
        lite=lite,
        l2=l2,
        ablation=ablation,
        preset=preset,
        single_input=single_input,
    )
    losses = replace(joint.losses, **loss_weights(loss or []))
    joint = replace(
        joint,
        layers=FeatureLayers(perceptual=perceptual, as_authors=as_authors),
        discriminator=chosen_discriminator(discriminator, joint.discriminator, losses),
        gan=gan.option if gan else joint.gan,
        losses=losses,
        stream=replace(stream, noise_input=joint.stream.noise_input),
        degrader_pretrain_steps=degrader_pretrain_steps,
        degrader_only_steps=degrader_only_steps,
        compiled=compile_,
    )
    joint_asked = joint_request((track, target), (hr, lr, data), output, joint, validation)
    joint_asked = replace(
        joint_asked,
        rules=rules,
        rhythm=rhythm,
        start_from=begun,
        start_degrader=begun_degrader,
        extractors=extractors,
        lpips=lpips,
        device=device,
    )
    _run(ctx, joint_asked, micro_batch=micro_batch, only_check=check, quiet=quiet)


def _refuse_given(ctx: typer.Context, names: set[str], why: str) -> None:
    """Raises ConfigError for an option that the kind of training would not look at."""
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            raise ConfigError(f"{parameter.opts[0]} {why}. Leave it out.")


def _refuse_idle(ctx: typer.Context, request: "PairedRequest | JointRequest") -> None:
    """Raises ConfigError for an option that what is asked for as a whole would not look at."""
    options = request.options
    if request.val_lr is None:
        _refuse_given(ctx, {"lpips"}, "is to validate with, and there is nothing to validate on without --val")
        if all(source.kind != "ready" for source in getattr(options, "sources", ())):
            _refuse_given(ctx, {"lr_suffix", "mod_crop"}, "is for folders of LR and HR partners, and there are none")
    if options.discriminator == "none":
        why = "is of a discriminator, which would learn for nothing: hr_adversarial has no weight here"
        _refuse_given(ctx, OF_DISCRIMINATORS, why)
    refuse_idle_perceptual(options.layers, ctx.params["perceptual_weights"])
    if ctx.params["noise_input"] is not None:
        refuse_idle_noise_input(options, ctx.params["preset"], single_input=ctx.params["single_input"])


def _run(
    ctx: typer.Context,
    request: "PairedRequest | JointRequest",
    *,
    micro_batch: int | None,
    only_check: bool,
    quiet: bool,
) -> None:
    from ddnsr_cli.cli.progress import training_view
    from ddnsr_cli.commands.train.joint import JointRequest, train_joint
    from ddnsr_cli.commands.train.paired import train_paired
    from ddnsr_cli.training.distributed import joined_world, process_count
    from ddnsr_cli.training.loop import StopAsked, stop_on_signals

    _refuse_idle(ctx, request)
    if only_check:
        _check(request, quiet=quiet)
        return
    several = process_count() > 1
    try:
        with (
            joined_world(micro_batch=micro_batch) as world,
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
    """Give the result, and the status of what was amiss. Raises DataError when images had to be replaced.

    talks: whether to say something; of several processes one does, and all end alike.
    """
    from ddnsr_cli.commands.train.run import refuse_replaced

    if talks:
        put_path(trained.weights)
    if stop:
        sys.exit(stop.exit_code)
    if talks:
        refuse_replaced(trained)
    elif trained.replaced:
        sys.exit(DataError.exit_code)


def _check(request: "PairedRequest | JointRequest", *, quiet: bool) -> None:
    from ddnsr_cli.cli.progress import training_view
    from ddnsr_cli.commands.train.image_warnings import ImageWarnings
    from ddnsr_cli.commands.train.joint import JointRequest, check_joint
    from ddnsr_cli.commands.train.paired import check_paired

    summary: list[str] = []
    try:
        with training_view(quiet=quiet) as listener:
            warnings = ImageWarnings(listener.note)
            if isinstance(request, JointRequest):
                check_joint(request, warnings, listener, summary.append)
            else:
                check_paired(request, warnings, listener, summary.append)
        summary.append("a run can begin with these images")
    finally:  # also when a run would fail
        for line in summary:
            put_text(f"{line}\n")
