"""`ddnsr train --track 1|2`: degrader and reconstruction network together, on unpaired images."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddnsr_cli.commands.train.callbacks import RunShow, ShownRun, nothing
from ddnsr_cli.commands.train.image_warnings import MOST_FINDINGS, ImageWarnings, examine, image_sets
from ddnsr_cli.commands.train.networks import (
    FeatureExtractors,
    FeatureFiles,
    describe_weights,
    feature_nets_of,
    initial_degrader,
    initial_sr_net,
    load_feature_extractors,
    measured_scales,
    other_initial_weights,
    refuse_other_extractors,
)
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
    image_list,
    refuse_other_asking,
    refuse_other_images,
)
from ddnsr_cli.data.images import ImagePair
from ddnsr_cli.data.targets import ImageSet, TargetOptions
from ddnsr_cli.data.unpaired_stream import UnpairedDataset, unpaired_batches
from ddnsr_cli.data.validation.comparisons import check_pairs
from ddnsr_cli.inference.device import choose_device
from ddnsr_cli.nets.lpips import LPIPS
from ddnsr_cli.reports.model_card import joint_card
from ddnsr_cli.training.distributed import ALONE, AgreedStop, World, own_device
from ddnsr_cli.training.loop import LoopHooks, StopAsked, StopRequest, refuse_without_compiler
from ddnsr_cli.training.options import JointOptions
from ddnsr_cli.training.tensorboard_logger import TensorBoardLogger
from ddnsr_cli.training.trainer import JointTrainer

FREE_TO_CHANGE = ("schedule.steps", "schedule.learning_rate", "stream.workers", "clip_norm", "compiled")
"""Options that a resumed run may change: they decide how on, not what is learned."""

RECORDED = (
    *("track", "data", "images", "vgg", "perceptual_lpips", "scales", "start_from", "start_degrader"),
    *("validation", "latest", "best"),
)
"""What a save keeps beside the state; scores, the latest and the best, as validation goes on."""

MEASURED_IMAGES = 8  # crops on which the features' scales are measured
SAMPLE_ROWS = 4


@dataclass(frozen=True, kw_only=True)
class JointRequest(RunRequest):
    """What a joint run needs."""

    lr: Path
    """Folder of real noisy photos: the source."""

    hr: Path | None = None
    """Folder of clean HR images; not needed by the target `cleanup`."""

    track: int = 2
    target: TargetOptions = field(default_factory=TargetOptions)
    options: JointOptions = field(default_factory=JointOptions)

    extractors: FeatureFiles = field(default_factory=lambda: FeatureFiles(vgg=None, lpips=None))
    """Weights of the networks behind the content, cycle and perceptual losses."""

    start_degrader: Path | None = None
    """Weights that the degrader begins with, of its sizes or smaller: those of a pretraining, or of another camera."""


def train_joint(request: JointRequest, listener: TrainListener, stop: StopRequest, world: World = ALONE) -> Trained:
    """Train until the steps are done or a stop is asked for.

    world: the processes that train together; the first one writes and talks, the listener of others is not called.
    Raises WeightsError or HubError before any image is read when VGG19 is not to be had, DataError for images of no
    use, TrainingError when the run cannot go on or another process is at it, DeviceError; StopAsked when the stop comes
    while images are looked at.
    """
    with alone_in(request.run) if world.is_first else nullcontext():
        return _train(request, listener, stop, world)


def check_joint(
    request: JointRequest, warnings: ImageWarnings, listener: TrainListener, on_summary: Callable[[str], None]
) -> None:
    """What `--check` does: report every finding, and a line a folder. Then raises DataError where a run would."""
    folders, options = (request.hr, request.lr), request.options
    scale = options.sr_net.scale
    report = examine(folders, options.stream, scale=scale, warnings=warnings, on_image=listener.image)
    for line in report.summary():
        on_summary(line)
    pairs = request.validation_pairs(request.options.sr_net.scale)
    warnings.findings(check_pairs(pairs, seed=options.stream.seed, on_pair=listener.image))
    refuse_unusable(pairs, lpips=request.lpips is not None)
    image_sets(folders, request.target, options, warnings)


def _train(request: JointRequest, listener: TrainListener, stop: StopRequest, world: World) -> Trained:
    listener = listener if world.is_first else SILENT
    device = own_device(world, choose_device(request.device, note=listener.note))
    if request.options.compiled:
        refuse_without_compiler(device)
    folder = RunFolder(request.run)
    saved = folder.numbers(request.options, free_to_change=FREE_TO_CHANGE)
    extractors = load_feature_extractors(request.options, request.extractors, listener.download)
    helpers = _helpers(request, device, fresh=saved is None)
    warnings = ImageWarnings(listener.note, most=MOST_FINDINGS)

    def looked(done: int, total: int) -> None:
        listener.image(done, total)
        if stop and world.size == 1:  # several stop together, at the first step
            raise StopAsked(stop.exit_code)

    folders = request.hr, request.lr
    if saved is None and world.is_first:  # a run that goes on was looked at when it began
        scale = request.options.sr_net.scale
        stream = request.options.stream
        examine(folders, stream, scale=scale, warnings=warnings, on_image=looked)
        warnings.findings(check_pairs(helpers.pairs, seed=stream.seed, on_pair=looked))
    lr_set, hr_sets = image_sets(folders, request.target, request.options, warnings)
    images = {"lr": image_list(request.lr, lr_set.images), "hr": _target_list(request, hr_sets)}
    record = _record(request, extractors, saved, (lr_set, hr_sets), images)
    compare_from_here(record, helpers.pairs, listener.note)
    if world.is_first:
        refuse_unusable(helpers.pairs, lpips=helpers.lpips is not None)
    for terms in terms_of(record):
        listener.note(terms)
    trainer = JointTrainer(
        request.options, feature_nets_of(request.options, extractors, record["scales"], device), device, world
    )
    if folder.resume(trainer, free_to_change=FREE_TO_CHANGE) is not None:
        listener.note(describe_resumed(request.run, trainer.step, request.options.schedule.steps))
    for name, net in helpers.begun.items():
        trainer.start_from(name, net)
    world.refuse_other_steps(trainer.step)
    dataset = UnpairedDataset(lr=lr_set, hr=hr_sets, stream=request.options.stream)
    with _hooks(request, trainer, folder, listener, dataset, record, helpers) as hooks:
        drive(
            trainer,
            folder,
            lambda step: unpaired_batches(dataset, start=step, on_refused=warnings.replacement),
            steps=request.options.schedule.steps,
            rhythm=request.rhythm,
            hooks=hooks,
            stop=AgreedStop(stop, world, device),
            note=listener.note,
        )
    # a stop of one process ends all, and the others have no signal to give their status by: it is no fault of theirs
    whole = trainer.step >= request.options.schedule.steps
    return Trained(weights=folder.weights, replaced=warnings.replaced if whole else ())


@dataclass(frozen=True, kw_only=True)
class _Helpers:
    """Other files of a run, read before its images are: what is wrong with them shows at once."""

    pairs: list[ImagePair]
    lpips: LPIPS | None
    begun: Mapping[str, nn.Module]
    """Networks that a fresh run begins with, by name."""


def _helpers(request: JointRequest, device: torch.device, *, fresh: bool) -> _Helpers:
    lpips = validation_lpips(request.lpips, device)
    begun = _initial_networks(request) if fresh else {}
    return _Helpers(pairs=request.validation_pairs(request.options.sr_net.scale), lpips=lpips, begun=begun)


def _initial_networks(request: JointRequest) -> dict[str, nn.Module]:
    options, seed = request.options, request.options.stream.seed
    begun: dict[str, nn.Module] = {}
    if request.start_from is not None:
        begun["sr_net"] = initial_sr_net(request.start_from, options.sr_net, seed)
    if request.start_degrader is not None:
        begun["degrader"] = initial_degrader(request.start_degrader, options.degrader, seed)
    return begun


@contextmanager
def _hooks(
    request: JointRequest,
    trainer: JointTrainer,
    folder: RunFolder,
    listener: TrainListener,
    dataset: UnpairedDataset,
    record: dict[str, Any],
    helpers: _Helpers,
) -> Iterator[LoopHooks]:
    """What happens beside the steps: all in the first process, nothing in others."""
    if not trainer.world.is_first:
        yield LoopHooks(validate=nothing, save=nothing, report=lambda _row: None, tick=nothing)
        return
    folder.prepare(trainer)
    with TensorBoardLogger(request.run / "tensorboard", listener.note, start=trainer.step) as logger:
        card = partial(joint_card, folder.path, trainer.options)
        noise_input = trainer.options.stream.noise_input if trainer.options.dual_input else None
        kind = ShownRun(phase="joint", noise_input=noise_input, card=card)
        show = RunShow(trainer, folder, logger, listener, _sample_crops(dataset, trainer.device), kind)
        steps = request.options.schedule.steps
        yield show.hooks(helpers.pairs, helpers.lpips, record, request.rhythm, steps=steps)


def _sample_crops(dataset: UnpairedDataset, device: torch.device) -> tuple[Tensor, ...]:
    """The same few crops every time: (lr_real, hr, noise) in [0, 1]."""
    few = [dataset[number] for number in range(SAMPLE_ROWS)]
    sides = zip(*[(item.lr.crops, item.hr.crops, item.lr.noise_inputs) for item in few], strict=True)
    return tuple(torch.cat([crops[:1] for crops in side]).to(device).float() / 255 for side in sides)


def _record(
    request: JointRequest,
    extractors: FeatureExtractors,
    saved: Mapping[str, Any] | None,
    sets: tuple[ImageSet, Sequence[ImageSet]],
    images: Mapping[str, str],
) -> dict[str, Any]:
    """What is saved beside the state: which data and feature weights, and the scales measured at the start.

    Raises TrainingError when a saved run used other feature extractors or images, or was asked for something else.
    """
    if saved is not None:
        refuse_other_extractors(request.run, saved, extractors)
        _refuse_other_asking(request, saved)
        refuse_other_images(request.run, saved["images"], images)
        return {name: saved[name] for name in RECORDED if name in saved}
    lr_set, hr_sets = sets
    return {
        "track": request.track,
        "data": {
            "lr": request.lr.name,
            "hr": None if request.hr is None else request.hr.name,
            "target": str(request.target.kind),
            "lr_images": len(lr_set.images),
            "hr_images": sum(len(one.images) for one in hr_sets),
        },
        "images": dict(images),
        **extractors.record,
        "scales": measured_scales(request.options, extractors, _few_crops(request.options, hr_sets)),
        "start_from": describe_weights(request.start_from),
        "start_degrader": describe_weights(request.start_degrader),
    }


def _refuse_other_asking(request: JointRequest, saved: Mapping[str, Any]) -> None:
    """Raises TrainingError for another track or target, or for weights that the run did not begin with."""
    asked = {
        "--track": (saved.get("track"), request.track),
        "--target": (saved["data"].get("target"), str(request.target.kind)),
    }
    changed: dict[str, tuple[Any, Any]] = {name: values for name, values in asked.items() if values[0] != values[1]}
    changed |= other_initial_weights(
        saved, {"--start-from": request.start_from, "--start-degrader": request.start_degrader}
    )
    refuse_other_asking(request.run, changed)


def _target_list(request: JointRequest, hr_sets: Sequence[ImageSet]) -> str:
    folder = request.lr if request.hr is None else request.hr
    own = [path for part in hr_sets for path in part.images if path.is_relative_to(folder)]
    return image_list(folder, own)


def _few_crops(options: JointOptions, hr_sets: Sequence[ImageSet]) -> list[Tensor]:
    few = UnpairedDataset(lr=hr_sets[0], hr=hr_sets, stream=options.stream)
    return [few.hr.crops(number).crops[:1].float() / 255 for number in range(MEASURED_IMAGES)]
