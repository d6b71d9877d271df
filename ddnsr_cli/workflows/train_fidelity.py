"""`ddnsr train --fidelity`: the reconstruction network alone, on classically degraded crops."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from ddnsr_cli.checkpoint import save_sr_net
from ddnsr_cli.config import options_to_json
from ddnsr_cli.data.pairs import PhotoPair, match_pairs
from ddnsr_cli.data.photos import list_photos, split_by_size
from ddnsr_cli.data.stream import PairVisits, batches, least_photo_px
from ddnsr_cli.device import choose_device
from ddnsr_cli.errors import DataError
from ddnsr_cli.training.fidelity import FidelityTrainer
from ddnsr_cli.training.loop import LoopHooks, StepReport
from ddnsr_cli.training.options import FidelityOptions, Rhythm
from ddnsr_cli.training.stop import StopRequest
from ddnsr_cli.workflows.run_folder import RunFolder, photo_list, refuse_other_photos
from ddnsr_cli.workflows.run_report import write_run_report
from ddnsr_cli.workflows.training_run import TrainListener, drive, validation_scores

FREE_TO_CHANGE = ("schedule.", "stream.workers", "clip_norm")
"""Options that a resumed run may change: they decide how on, not what is learned from."""


@dataclass(frozen=True, kw_only=True)
class FidelityRequest:
    """What a fidelity warm-up needs."""

    hr: Path
    """Folder of clean HR photos."""

    run: Path
    """Folder of the run; made when missing, resumed when it holds a state."""

    options: FidelityOptions = field(default_factory=FidelityOptions)
    rhythm: Rhythm = field(default_factory=Rhythm)

    val_lr: Path | None = None
    """Folder of LR photos to validate on; with `val_hr`."""

    val_hr: Path | None = None
    """Their HR partners, the same names."""

    device: str = "auto"
    """As `choose_device` takes."""


def train_fidelity(request: FidelityRequest, listener: TrainListener, stop: StopRequest) -> Path:
    """Train until the steps are done or a stop is asked for. Returns the exported weights, `sr.safetensors`.

    Raises DataError for folders of no use, TrainingError when the run cannot go on, DeviceError.
    """
    photos = _usable_photos(request, listener)
    pairs = _validation_pairs(request)
    trainer = FidelityTrainer(request.options, choose_device(request.device))
    folder = RunFolder(request.run)
    listed = {"hr": photo_list(request.hr, photos)}
    saved = folder.resume(trainer, free_to_change=FREE_TO_CHANGE)
    if saved is not None:
        refuse_other_photos(request.run, saved["photos"], listed)
        listener.note(f"resumed {request.run} at step {trainer.step}")
    folder.prepare(trainer)
    visits = PairVisits(photos, request.options.stream, request.options.degradation)
    steps = request.options.schedule.steps
    drive(
        trainer,
        folder,
        lambda step: batches(visits, start=step),
        steps=steps,
        rhythm=request.rhythm,
        hooks=_hooks(trainer, folder, pairs, listed, request, listener),
        stop=stop,
        note=listener.note,
    )
    return folder.weights


def _hooks(
    trainer: FidelityTrainer,
    folder: RunFolder,
    pairs: list[PhotoPair],
    photos: dict[str, str],
    request: FidelityRequest,
    listener: TrainListener,
) -> LoopHooks:
    data = {"hr": request.hr.name}
    steps = request.options.schedule.steps

    def validate(step: int) -> None:
        if pairs:
            scores = validation_scores(trainer.ema.average, pairs, trainer.device)
            folder.log({"step": step, **scores})
            listener.scores(step, scores)

    def save(_step: int) -> None:
        folder.save(trainer, {"data": data, "photos": photos})
        metadata = {
            "training": json.dumps({"phase": "fidelity", "step": trainer.step, "data": data}),
            "options": json.dumps(options_to_json(trainer.options)),
        }
        save_sr_net(folder.weights, trainer.ema.average, metadata=metadata, half=False)

    def report(row: StepReport) -> None:
        folder.log({"step": row.step, **row.figures, "images_per_s": row.images_per_s, "waiting": row.waiting_share})
        listener.report(row)

    def sample(_step: int) -> None:
        write_run_report(folder.path)

    return LoopHooks(
        validate=validate,
        sample=sample,
        save=save,
        report=report,
        tick=lambda step: listener.tick(step, steps),
    )


def _usable_photos(request: FidelityRequest, listener: TrainListener) -> list[Path]:
    least = least_photo_px(request.options.stream, request.options.degradation.scale)
    large, small = split_by_size(list_photos(request.hr), least)
    for path in small:
        listener.note(f"{path} is left out: its shorter side is below {least} pixels")
    if len(large) < 2:
        raise DataError(
            f"{request.hr} has {len(large)} photos of {least} pixels or more a side; at least 2 are needed."
        )
    return large


def _validation_pairs(request: FidelityRequest) -> list[PhotoPair]:
    if request.val_lr is None or request.val_hr is None:
        return []
    return match_pairs(request.val_lr, request.val_hr, scale=request.options.degradation.scale)
