"""`ddnsr train --fidelity`: the reconstruction network alone, on crops degraded classically or on ready pairs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddnsr_cli.checkpoint import save_sr_net
from ddnsr_cli.data.pairs import PhotoPair, match_pairs
from ddnsr_cli.data.photos import list_photos, split_by_size
from ddnsr_cli.data.ready_pairs import ReadyPairs
from ddnsr_cli.data.stream import CropVisits, PairVisits, batches, least_photo_px
from ddnsr_cli.device import choose_device
from ddnsr_cli.errors import DataError
from ddnsr_cli.training.fidelity import FidelityTrainer
from ddnsr_cli.training.loop import LoopHooks, StepReport
from ddnsr_cli.training.options import FidelityOptions, Rhythm
from ddnsr_cli.training.stop import StopRequest
from ddnsr_cli.workflows.beginnings import other_beginnings, sr_net_to_begin_with, told
from ddnsr_cli.workflows.run_folder import RunFolder, photo_list, refuse_other_asking, refuse_other_photos
from ddnsr_cli.workflows.run_lock import alone_in
from ddnsr_cli.workflows.run_report import write_run_report
from ddnsr_cli.workflows.teller import Teller
from ddnsr_cli.workflows.training_run import Trained, TrainListener, drive, export_metadata, validation_scores

FREE_TO_CHANGE = ("schedule.", "stream.workers", "clip_norm")
"""Options that a resumed run may change: they decide how on, not what is learned from."""


@dataclass(frozen=True, kw_only=True)
class FidelityRequest:
    """What a fidelity warm-up needs."""

    hr: Path
    """Folder of clean HR photos."""

    lr: Path | None = None
    """Folder of their LR partners, the same names, as `ddnsr degrade` makes them; None: degraded on the way."""

    run: Path
    """Folder of the run; made when missing, resumed when it holds a state."""

    options: FidelityOptions = field(default_factory=FidelityOptions)
    rhythm: Rhythm = field(default_factory=Rhythm)

    start_from: Path | None = None
    """Weights that the network begins with, of its sizes or smaller."""

    val_lr: Path | None = None
    """Folder of LR photos to validate on; with `val_hr`."""

    val_hr: Path | None = None
    """Their HR partners, the same names."""

    device: str = "auto"
    """As `choose_device` takes."""


def train_fidelity(request: FidelityRequest, listener: TrainListener, stop: StopRequest) -> Trained:
    """Train until the steps are done or a stop is asked for.

    Raises DataError for folders of no use, TrainingError when the run cannot go on or another process is at it,
    DeviceError.
    """
    with alone_in(request.run):
        return _train(request, listener, stop)


def _train(request: FidelityRequest, listener: TrainListener, stop: StopRequest) -> Trained:
    visits, listed = _visits(request, listener)
    pairs = _validation_pairs(request)
    trainer = FidelityTrainer(request.options, choose_device(request.device))
    folder = RunFolder(request.run)
    saved = folder.resume(trainer, free_to_change=FREE_TO_CHANGE)
    if saved is not None:
        refuse_other_photos(request.run, {"lr": "", **saved["photos"]}, listed)
        refuse_other_asking(request.run, other_beginnings(saved, {"--start-from": request.start_from}))
        listener.note(f"resumed {request.run} at step {trainer.step}")
        begun = saved.get("start_from")
    else:
        begun = _begin(trainer, request.start_from)
    folder.prepare(trainer)
    steps = request.options.schedule.steps
    teller = Teller(listener.note)
    drive(
        trainer,
        folder,
        lambda step: batches(visits, start=step, on_refused=teller.replacement),
        steps=steps,
        rhythm=request.rhythm,
        hooks=_hooks(trainer, folder, pairs, {"photos": listed, "start_from": begun}, request, listener),
        stop=stop,
        note=listener.note,
    )
    return Trained(weights=folder.weights, replaced=teller.replaced if trainer.step >= steps else ())


def _begin(trainer: FidelityTrainer, weights: Path | None) -> dict[str, str] | None:
    """Take over weights to begin with. Returns what the record says of them."""
    if weights is None:
        return None
    options = trainer.options
    trainer.start_from(sr_net_to_begin_with(weights, options.network, options.stream.seed))
    return told(weights)


def _hooks(
    trainer: FidelityTrainer,
    folder: RunFolder,
    pairs: list[PhotoPair],
    record: dict[str, Any],
    request: FidelityRequest,
    listener: TrainListener,
) -> LoopHooks:
    data = {"hr": request.hr.name} | ({"lr": request.lr.name} if request.lr else {})
    steps = request.options.schedule.steps

    def validate(step: int) -> None:
        if pairs:
            scores = validation_scores(trainer.ema.average, pairs, trainer.device)
            folder.log({"step": step, **scores})
            listener.scores(step, scores)

    def save(_step: int) -> None:
        folder.save(trainer, {"data": data, **record})
        begun = {"start_from": record["start_from"]} if record["start_from"] else {}
        metadata = export_metadata(trainer, "fidelity", {"data": data, **begun})
        save_sr_net(folder.weights, trainer.ema.average, metadata=metadata, half=False)
        write_run_report(folder.path)

    def report(row: StepReport) -> None:
        folder.log({"step": row.step, **row.figures, "images_per_s": row.images_per_s, "waiting": row.waiting_share})
        listener.report(row)

    return LoopHooks(
        validate=validate,
        save=save,
        report=report,
        tick=lambda step: listener.tick(step, steps),
    )


def _visits(request: FidelityRequest, listener: TrainListener) -> tuple[CropVisits, dict[str, str]]:
    """Where crops come from, and digests of the photos: `hr`, and `lr`, empty when LR crops are made on the way."""
    options = request.options
    if request.lr is None:
        photos = _usable(list_photos(request.hr), least_photo_px(options.stream, options.degradation.scale), listener)
        listed = {"hr": photo_list(request.hr, photos), "lr": ""}
        return PairVisits(photos, options.stream, options.degradation), listed
    pairs = match_pairs(request.lr, request.hr, scale=options.degradation.scale)
    usable = set(_usable([pair.hr for pair in pairs], options.stream.crop_px, listener))
    pairs = [pair for pair in pairs if pair.hr in usable]
    listed = {
        "hr": photo_list(request.hr, [pair.hr for pair in pairs]),
        "lr": photo_list(request.lr, [pair.lr for pair in pairs]),
    }
    return ReadyPairs(pairs, options.stream, options.degradation.scale), listed


def _usable(photos: list[Path], least: int, listener: TrainListener) -> list[Path]:
    """The photos whose shorter side has `least` pixels. Raises DataError for fewer than two."""
    large, small = split_by_size(photos, least)
    for path in small:
        listener.note(f"{path} is left out: its shorter side is below {least} pixels")
    if len(large) < 2:
        raise DataError(
            f"Of {len(photos)} HR photos {len(large)} have {least} pixels or more a side; at least 2 are needed."
        )
    return large


def _validation_pairs(request: FidelityRequest) -> list[PhotoPair]:
    if request.val_lr is None or request.val_hr is None:
        return []
    return match_pairs(request.val_lr, request.val_hr, scale=request.options.degradation.scale)
