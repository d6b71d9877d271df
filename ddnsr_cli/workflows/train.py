"""`ddnsr train`: from folders of photos to a run folder that `ddnsr upscale -m` takes."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddnsr_cli.checkpoint import save_sr_net
from ddnsr_cli.config import changed_options, options_to_json
from ddnsr_cli.data.pairs import PhotoPair, match_pairs
from ddnsr_cli.data.photos import decode_rgb, list_photos, split_by_size
from ddnsr_cli.data.stream import PairVisits, batches, least_photo_px
from ddnsr_cli.device import choose_device
from ddnsr_cli.errors import DataError, TrainingError
from ddnsr_cli.files import atomic_path
from ddnsr_cli.metrics.fidelity import psnr_db, ssim
from ddnsr_cli.training.fidelity import FidelityTrainer
from ddnsr_cli.training.loop import LoopHooks, StepReport, run_loop
from ddnsr_cli.training.options import FidelityOptions, Rhythm
from ddnsr_cli.training.snapshot import Snapshot, load_snapshot, save_snapshot
from ddnsr_cli.training.stop import StopRequest

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


@dataclass(frozen=True, kw_only=True)
class TrainListener:
    """Whom the run tells. Each is called from the training thread and must be quick."""

    note: Callable[[str], None]
    """One sentence for the user."""

    tick: Callable[[int, int], None]
    """(steps done, steps in all), after every step."""

    report: Callable[[StepReport], None]
    """The mean figures since the last report."""

    scores: Callable[[int, dict[str, float]], None]
    """(steps done, score by name) after a validation."""


def train_fidelity(request: FidelityRequest, listener: TrainListener, stop: StopRequest) -> Path:
    """Train until the steps are done or a stop is asked for. Returns the exported weights, `sr.safetensors`.

    Raises DataError for folders of no use, TrainingError when the run cannot go on, DeviceError.
    """
    photos = _usable_photos(request, listener)
    pairs = _validation_pairs(request)
    trainer = FidelityTrainer(request.options, choose_device(request.device))
    folder = RunFolder(request.run)
    folder.resume_or_start(trainer, listener)
    visits = PairVisits(photos, request.options.stream, request.options.degradation)
    description = {"hr": request.hr.name, "photos": len(photos)}

    def validate(step: int) -> None:
        if pairs:
            scores = validation_scores(trainer.ema.average, pairs, trainer.device)
            folder.log({"step": step, **scores})
            listener.scores(step, scores)

    def save(_step: int) -> None:
        folder.save(trainer, description)

    def report(row: StepReport) -> None:
        folder.log({"step": row.step, **row.figures, "images_per_s": row.images_per_s, "waiting": row.waiting_share})
        listener.report(row)

    steps = request.options.schedule.steps
    run_loop(
        trainer,
        batches(visits, start=trainer.step),
        steps=steps,
        rhythm=request.rhythm,
        hooks=LoopHooks(validate=validate, save=save, report=report, tick=lambda step: listener.tick(step, steps)),
        stop=stop,
    )
    return folder.weights


class RunFolder:
    """The files of a run: `state/last.safetensors`, `options.json`, `log.jsonl` and `sr.safetensors`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = path / "state" / "last.safetensors"
        self.weights = path / "sr.safetensors"

    def resume_or_start(self, trainer: FidelityTrainer, listener: TrainListener) -> None:
        """Restore the last save if there is one, else write the options.

        Raises TrainingError when the save is of other options, or when the folder cannot be made.
        """
        if self.state.exists():
            snapshot = load_snapshot(self.state)
            self._refuse_changes(snapshot, trainer.options)
            trainer.restore(snapshot)
            listener.note(f"resumed {self.path} at step {trainer.step}")
        try:
            self.state.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(self.path / "options.json") as temporary:
                temporary.write_text(json.dumps(options_to_json(trainer.options), indent=2) + "\n", encoding="utf-8")
        except OSError as cause:
            raise TrainingError(f"{self.path} cannot be written ({cause}). Choose another folder with -o.") from cause

    def save(self, trainer: FidelityTrainer, data: dict[str, Any]) -> None:
        """The state for resuming and the averaged weights for use. Raises TrainingError on a full disk."""
        save_snapshot(self.state, trainer.snapshot({"data": data}))
        metadata = {
            "training": json.dumps({"phase": "fidelity", "step": trainer.step, "data": data}),
            "options": json.dumps(options_to_json(trainer.options)),
        }
        save_sr_net(self.weights, trainer.ema.average, metadata=metadata, half=False)

    def log(self, row: dict[str, Any]) -> None:
        """Append one line to `log.jsonl`."""
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")

    def _refuse_changes(self, snapshot: Snapshot, options: FidelityOptions) -> None:
        changed = changed_options(snapshot.numbers["options"], options_to_json(options))
        refused = {name: values for name, values in changed.items() if not name.startswith(FREE_TO_CHANGE)}
        if refused:
            told = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in refused.items())
            raise TrainingError(f"{self.path} was begun with other options ({told}). Use them, or another -o.")


@torch.inference_mode()
def validation_scores(net: torch.nn.Module, pairs: list[PhotoPair], device: torch.device) -> dict[str, float]:
    """Mean PSNR in dB and SSIM over RGB, 4 HR pixels of border ignored, results rounded to whole levels."""
    psnr, similarity = [], []
    for pair in pairs:
        sr = net(_rgb(pair.lr).to(device)).float().cpu().clamp(0, 1).mul(255).round() / 255
        hr = _rgb(pair.hr)
        psnr.append(psnr_db(sr, hr, crop_px=4))
        similarity.append(ssim(sr, hr, crop_px=4))
    return {"psnr_db": torch.cat(psnr).mean().item(), "ssim": torch.cat(similarity).mean().item()}


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


def _rgb(path: Path) -> Tensor:
    return torch.from_numpy(decode_rgb(path)).permute(2, 0, 1)[None].float() / 255
