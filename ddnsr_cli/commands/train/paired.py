"""`ddnsr train --paired` and `--pretrain`: the reconstruction network alone, on LR images with known HR partners."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddnsr_cli.commands.train.callbacks import RunShow, ShownRun, nothing
from ddnsr_cli.commands.train.image_warnings import MOST_FINDINGS, ImageWarnings, examine
from ddnsr_cli.commands.train.networks import (
    FeatureExtractors,
    FeatureFiles,
    describe_weights,
    feature_nets_of,
    initial_sr_net,
    load_feature_extractors,
    measured_scales,
    other_degraders,
    other_initial_weights,
    refuse_other_extractors,
)
from ddnsr_cli.commands.train.pair_sources import PairsInUse, SourcePaths, open_pairs
from ddnsr_cli.commands.train.run import (
    SILENT,
    RunRequest,
    Trained,
    TrainListener,
    describe_resumed,
    drive,
    refuse_unusable,
    terms_of,
    validation_lpips,
)
from ddnsr_cli.commands.train.run_folder import (
    RunFolder,
    alone_in,
    compare_from_here,
    refuse_other_asking,
    refuse_other_images,
)
from ddnsr_cli.config import options_from_json
from ddnsr_cli.data.crop_stream import PairDataset, batches
from ddnsr_cli.data.images import ImagePair, match_pairs
from ddnsr_cli.data.validation.comparisons import check_pairs
from ddnsr_cli.errors import ConfigError
from ddnsr_cli.inference.device import choose_device
from ddnsr_cli.nets.blocks import SrNet
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.lpips import LPIPS
from ddnsr_cli.nets.rrdb import RRDBNet
from ddnsr_cli.reports.model_card import paired_card
from ddnsr_cli.training.distributed import ALONE, AgreedStop, World, own_device
from ddnsr_cli.training.loop import LoopHooks, StopAsked, StopRequest
from ddnsr_cli.training.options import LITE
from ddnsr_cli.training.paired import PairedTrainer
from ddnsr_cli.training.paired_options import PairedOptions, SourceKind
from ddnsr_cli.training.tensorboard_logger import TensorBoardLogger
from ddnsr_cli.training.train_state import load_numbers
from ddnsr_cli.weights.checkpoint import load_rrdb_net, load_sr_net

FREE_TO_CHANGE = ("schedule.", "stream.workers", "clip_norm", "discriminator_learning_rate")
"""Options that a resumed run may change: they decide how on, not what is learned from."""

RECORDED = (
    *("data", "images", "vgg", "perceptual_lpips", "scales", "start_from", "teacher"),
    *("validation", "latest", "best"),
)
"""What a save keeps beside the state; scores, the latest and the best, as validation goes on."""

MEASURED_IMAGES = 8  # crops on which the features' scales are measured
SAMPLE_ROWS = 4


@dataclass(frozen=True, kw_only=True)
class PairedRequest(RunRequest):
    """What a paired run needs."""

    sources: tuple[SourcePaths, ...]
    """Where each of the options' sources lies."""

    options: PairedOptions = field(default_factory=PairedOptions)

    extractors: FeatureFiles = field(default_factory=lambda: FeatureFiles(vgg=None, lpips=None))
    """Weights of the network behind the perceptual loss."""

    teacher: Path | None = None
    """Weights of the network that teaches, where the options have one."""


def train_paired(request: PairedRequest, listener: TrainListener, stop: StopRequest, world: World = ALONE) -> Trained:
    """Train until the steps are done or a stop is asked for.

    world: the processes that train together; the first one writes and talks, the listener of others is not called.
    Raises WeightsError or HubError when a feature network is not to be had, DataError for folders of no use,
    TrainingError when the run cannot go on or another process is at it, DeviceError; StopAsked when the stop comes
    while images are looked at.
    """
    with alone_in(request.run) if world.is_first else nullcontext():
        return _train(request, listener if world.is_first else SILENT, stop, world)


def check_paired(
    request: PairedRequest, warnings: ImageWarnings, listener: TrainListener, on_summary: Callable[[str], None]
) -> None:
    """What `--check` does: report every finding, and a line a folder. Then raises DataError where a run would."""
    options = request.options
    for folders in folders_to_examine(request):
        report = examine(
            folders,
            options.stream,
            scale=options.network.scale,
            warnings=warnings,
            on_image=listener.image,
            pairs_follow=_all_are_ready(request, folders[0]),
        )
        for line in report.summary():
            on_summary(line)
    _look_at_pairs(request, warnings, listener.image)
    refuse_unusable(request.validation_pairs(request.options.network.scale), lpips=request.lpips is not None)
    open_pairs(options, request.sources, warnings)


def plain_network(run: Path, start_from: Path | None) -> RRDBConfig:
    """Sizes of the network where none are asked for: those of the run's last save, else of the weights to begin with,
    else the lite ones. Raises WeightsError or TrainingError for a file of no use.
    """
    state = RunFolder(run).state
    saved = load_numbers(state).get("options", {}).get("network") if state.exists() else None
    if saved is not None:
        return options_from_json(RRDBConfig, saved)
    return load_rrdb_net(start_from)[0].config if start_from is not None else LITE


def _train(request: PairedRequest, listener: TrainListener, stop: StopRequest, world: World) -> Trained:
    options, device = request.options, own_device(world, choose_device(request.device, note=listener.note))
    folder = RunFolder(request.run)
    saved = folder.numbers(options, free_to_change=FREE_TO_CHANGE)
    extractors = load_feature_extractors(options, request.extractors, listener.download)
    lpips = validation_lpips(request.lpips, device)
    validation = request.validation_pairs(request.options.network.scale)
    begun = _network_to_begin_with(request) if saved is None else None
    teacher = _teacher(request)
    warnings = ImageWarnings(listener.note, most=MOST_FINDINGS)
    if saved is None and world.is_first:  # a run that goes on was looked at when it began
        _look_at_images(request, warnings, listener, stop if world.size == 1 else None)
    pairs = open_pairs(options, request.sources, warnings)
    record = _record(request, extractors, saved, pairs)
    compare_from_here(record, validation, listener.note)
    if world.is_first:
        refuse_unusable(validation, lpips=lpips is not None)
    for terms in terms_of(record):
        listener.note(terms)
    feature_nets = feature_nets_of(options, extractors, record["scales"], device)
    trainer = PairedTrainer(options, feature_nets, device, world, teacher=teacher)
    if folder.resume(trainer, free_to_change=FREE_TO_CHANGE) is not None:
        listener.note(describe_resumed(request.run, trainer.step, options.schedule.steps))
    elif begun is not None:
        trainer.start_from("sr_net", begun)
    world.refuse_other_steps(trainer.step)
    with _hooks(request, trainer, folder, listener, pairs.dataset, record, (validation, lpips)) as hooks:
        drive(
            trainer,
            folder,
            lambda step: batches(pairs.dataset, start=step, on_refused=warnings.replacement),
            steps=options.schedule.steps,
            rhythm=request.rhythm,
            hooks=hooks,
            stop=AgreedStop(stop, world, device),
            note=listener.note,
        )
    whole = trainer.step >= options.schedule.steps
    return Trained(weights=folder.weights, replaced=warnings.replaced if whole else ())


def _look_at_images(
    request: PairedRequest, warnings: ImageWarnings, listener: TrainListener, stop: StopRequest | None
) -> None:
    """What the checks find in each folder of clean images. stop: ends it, where this process is the only one."""

    def looked(done: int, total: int) -> None:
        listener.image(done, total)
        if stop:
            raise StopAsked(stop.exit_code)

    for folders in folders_to_examine(request):
        examine(
            folders,
            request.options.stream,
            scale=request.options.network.scale,
            warnings=warnings,
            on_image=looked,
            pairs_follow=_all_are_ready(request, folders[0]),
        )
    _look_at_pairs(request, warnings, looked)


def _look_at_pairs(request: PairedRequest, warnings: ImageWarnings, on_pair: Callable[[int, int], None]) -> None:
    """What is wrong with ready pairs, to learn from and to validate on. Raises DataError where they do not match."""
    scale, seed = request.options.network.scale, request.options.stream.seed
    sets = [
        match_pairs(paths.lr, paths.hr, scale=scale, rules=paths.rules)
        for source, paths in zip(request.options.sources, request.sources, strict=True)
        if source.kind is SourceKind.READY and paths.lr is not None
    ]
    for pairs in (*sets, request.validation_pairs(request.options.network.scale)):
        warnings.findings(check_pairs(pairs, seed=seed, on_pair=on_pair))


def folders_to_examine(request: PairedRequest) -> list[tuple[Path, Path | None]]:
    """(hr, noisy lr or None), each HR folder once: all sources that take noise take it from the one folder of --lr.
    Ready LR partners repeat their HR images: the pairs are what is looked at.
    """
    found: dict[Path, Path | None] = {}
    for source, paths in zip(request.options.sources, request.sources, strict=True):
        noisy = paths.lr if source.kind is SourceKind.LEARNED else None
        found[paths.hr] = found.get(paths.hr) or noisy
    return list(found.items())


def _all_are_ready(request: PairedRequest, hr: Path) -> bool:
    """Whether every source of this HR folder has ready LR partners."""
    sources = zip(request.options.sources, request.sources, strict=True)
    return all(source.kind is SourceKind.READY for source, paths in sources if paths.hr == hr)


@contextmanager
def _hooks(
    request: PairedRequest,
    trainer: PairedTrainer,
    folder: RunFolder,
    listener: TrainListener,
    dataset: PairDataset,
    record: dict[str, Any],
    validation: tuple[list[ImagePair], LPIPS | None],
) -> Iterator[LoopHooks]:
    """What happens beside the steps: all in the first process, nothing in others."""
    if not trainer.world.is_first:
        yield LoopHooks(validate=nothing, save=nothing, report=lambda _row: None, tick=nothing)
        return
    folder.prepare(trainer)
    kind = ShownRun(phase="paired", card=partial(paired_card, folder.path, trainer.options))
    with TensorBoardLogger(request.run / "tensorboard", listener.note, start=trainer.step) as logger:
        show = RunShow(trainer, folder, logger, listener, _sample_crops(dataset, trainer.device), kind)
        yield show.hooks(*validation, record, request.rhythm, steps=request.options.schedule.steps)


def _sample_crops(dataset: PairDataset, device: torch.device) -> tuple[Tensor, Tensor]:
    """The same few crops every time: (lr, hr) in [0, 1]."""
    few = [dataset[number].crops for number in range(SAMPLE_ROWS)]
    lr, hr = (torch.cat([crops[side][:1] for crops in few]).to(device) for side in (0, 1))
    return lr.float() / 255, hr.float() / 255


def _record(
    request: PairedRequest, extractors: FeatureExtractors, saved: Mapping[str, Any] | None, pairs: PairsInUse
) -> dict[str, Any]:
    """What is saved beside the state: which data and feature weights, and the scales measured at the start.

    Raises TrainingError when a saved run used other feature extractors or images, or began with other weights.
    """
    if saved is not None:
        refuse_other_extractors(request.run, saved, extractors)
        refuse_other_images(request.run, saved["images"], pairs.digests)
        named = {"--start-from": request.start_from, "--teacher": request.teacher}
        changed = other_initial_weights(saved, named)
        changed |= other_degraders(saved["data"]["sources"], pairs.record)
        refuse_other_asking(request.run, changed)
        return {name: saved[name] for name in RECORDED if name in saved}
    crops = [
        pairs.dataset[number].crops[1][:1].float() / 255 for number in range(MEASURED_IMAGES if extractors.vgg else 0)
    ]
    return {
        "data": {"sources": pairs.record},
        "images": pairs.digests,
        **extractors.record,
        "scales": measured_scales(request.options, extractors, crops),
        "start_from": describe_weights(request.start_from),
        "teacher": describe_weights(request.teacher),
    }


def _network_to_begin_with(request: PairedRequest) -> RRDBNet | None:
    if request.start_from is None:
        return None
    return initial_sr_net(request.start_from, request.options.network, request.options.stream.seed)


def _teacher(request: PairedRequest) -> SrNet | None:
    """Raises ConfigError for a teacher that enlarges otherwise, WeightsError for a file of no use."""
    if request.teacher is None:
        return None
    teacher, scale = load_sr_net(request.teacher)[0].float(), request.options.network.scale
    if teacher.traits.scale != scale:
        raise ConfigError(
            f"The network enlarges {scale} times but the teacher {request.teacher.name} {teacher.traits.scale} times. "
            f"Give another --teacher."
        )
    return teacher
