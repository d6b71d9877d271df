"""`ddnsr train --track 1|2`: degrader and reconstruction network together, on unpaired photos."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ddnsr_cli.checkpoint import load_sr_net, save_degrader, save_sr_net
from ddnsr_cli.config import options_to_json
from ddnsr_cli.data.doctor import DoctorOptions, check_photos
from ddnsr_cli.data.pairs import PhotoPair, match_pairs
from ddnsr_cli.data.photos import list_photos
from ddnsr_cli.data.report import Report, Trouble
from ddnsr_cli.data.targets import CLEANUP_SHRINK, PhotoSet, TargetOptions, target_sets, usable_part
from ddnsr_cli.data.unpaired import UnpairedVisits, unpaired_batches
from ddnsr_cli.device import choose_device
from ddnsr_cli.errors import DataError, TrainingError
from ddnsr_cli.feature_weights import load_lpips
from ddnsr_cli.files import atomic_path, sha256_of
from ddnsr_cli.images.sheet import sheet
from ddnsr_cli.nets.lpips import LPIPS
from ddnsr_cli.training.board import Board
from ddnsr_cli.training.joint import ALONE, JointTrainer
from ddnsr_cli.training.joint_options import JointOptions
from ddnsr_cli.training.loop import LoopHooks, StepReport
from ddnsr_cli.training.options import Rhythm
from ddnsr_cli.training.stop import StopRequest
from ddnsr_cli.training.world import AgreedStop, World, own_device
from ddnsr_cli.workflows.judges import (
    JudgeFiles,
    Judges,
    eyes_of,
    load_judges,
    measured_scales,
    refuse_other_judges,
)
from ddnsr_cli.workflows.model_card import joint_card
from ddnsr_cli.workflows.run_folder import RunFolder, photo_list, refuse_other_photos
from ddnsr_cli.workflows.run_report import write_run_report
from ddnsr_cli.workflows.training_run import SILENT, TrainListener, drive, validation_scores, whole_levels

FREE_TO_CHANGE = ("schedule.steps", "stream.workers", "clip_norm", "compiled")
"""Options that a resumed run may change: they decide how on, not what is learned."""

MEASURED_PHOTOS = 8  # crops on which the features' scales are measured
SAMPLE_ROWS = 4
MOST_FINDINGS = 4  # of a kind, told when a run begins
DRIFT_LEVELS = 6.0
"""Mean difference of a colour, in levels of 255 over the steps between two reports, from which on we warn: less is
what batches of 16 crops show by chance and what a run takes back, more is a cast that people see."""


@dataclass(frozen=True, kw_only=True)
class JointRequest:
    """What a joint run needs."""

    lr: Path
    """Folder of real noisy photos: the source."""

    run: Path
    """Folder of the run; made when missing, resumed when it holds a state."""

    hr: Path | None = None
    """Folder of clean HR photos; not needed by the target `cleanup`."""

    track: int = 2
    target: TargetOptions = field(default_factory=TargetOptions)
    options: JointOptions = field(default_factory=JointOptions)
    rhythm: Rhythm = field(default_factory=Rhythm)

    start_from: Path | None = None
    """Weights that the reconstruction network begins with, of the same sizes: those of a fidelity warm-up."""

    judges: JudgeFiles = field(default_factory=lambda: JudgeFiles(vgg=None, lpips=None))
    """Weights of the networks behind the content, cycle and perceptual losses."""

    lpips: Path | None = None
    """LPIPS weights (AlexNet) for validation; None: validation goes without."""

    val_lr: Path | None = None
    val_hr: Path | None = None
    """Folders of LR photos to validate on and of their HR partners, the same names."""

    device: str = "auto"


def examine(request: JointRequest, listener: TrainListener, *, most: int | None = None) -> Report:
    """What the data doctor finds in the photos of a request; each finding is told.

    most: tell so many of a kind, and count the rest. None: all.
    Raises DataError when training on them makes no sense: no photos, or the same folder twice.
    """
    crop_px = request.options.stream.crop_px
    lr_px = CLEANUP_SHRINK * crop_px if request.hr is None else crop_px // request.options.sr_net.scale
    options = DoctorOptions(least_hr_px=crop_px, least_lr_px=lr_px, seed=request.options.stream.seed)
    report = check_photos(request.hr, request.lr, options=options, on_photo=listener.tick)
    for sentence in _told(report, most):
        listener.note(sentence)
    for finding in report.errors:
        if finding.trouble is Trouble.FOLDERS:
            raise DataError(finding.sentence)
    return report


def _told(report: Report, most: int | None) -> Iterator[str]:
    counts: Counter[Trouble] = Counter()
    for finding in report.findings:
        counts[finding.trouble] += 1
        if most is None or counts[finding.trouble] <= most:
            yield f"{finding.severity}: {finding.sentence}"
    for trouble, count in counts.items():
        if most is not None and count > most:
            yield f"{count - most} more photos with the same trouble ({trouble}); --check lists them all."


def train_joint(request: JointRequest, listener: TrainListener, stop: StopRequest, world: World = ALONE) -> Path:
    """Train until the steps are done or a stop is asked for. Returns the exported weights, `sr.safetensors`.

    world: the processes that train together; the first one writes and talks, the listener of others is not called.
    Raises WeightsError or HubError before any photo is read when VGG19 is not to be had, DataError for photos of no
    use, TrainingError when the run cannot go on, DeviceError.
    """
    listener = listener if world.is_first else SILENT
    device = own_device(world, choose_device(request.device))
    judges = load_judges(request.options, request.judges, listener.download)
    folder = RunFolder(request.run)
    saved = folder.numbers()
    if saved is None and world.is_first:  # a run that goes on was looked at when it began
        examine(request, listener, most=MOST_FINDINGS)
    lr_set, hr_sets = _photo_sets(request, listener)
    photos = {"lr": photo_list(request.lr, lr_set.photos), "hr": _target_list(request, hr_sets)}
    record = _record(request, judges, saved, hr_sets, photos)
    trainer = JointTrainer(request.options, eyes_of(request.options, judges, record["scales"], device), device, world)
    if folder.resume(trainer, free_to_change=FREE_TO_CHANGE) is not None:
        listener.note(f"resumed {request.run} at step {trainer.step}")
    elif request.start_from is not None:
        _begin_with(request.start_from, trainer)
    world.wait()
    visits = UnpairedVisits(lr=lr_set, hr=hr_sets, stream=request.options.stream)
    with _hooks(request, trainer, folder, listener, visits, record) as hooks:
        drive(
            trainer,
            folder,
            lambda step: unpaired_batches(visits, start=step, on_refused=lambda refusal: listener.note(refusal.reason)),
            steps=request.options.schedule.steps,
            rhythm=request.rhythm,
            hooks=hooks,
            stop=AgreedStop(stop, world, device),
            note=listener.note,
        )
    return folder.weights


@contextmanager
def _hooks(
    request: JointRequest,
    trainer: JointTrainer,
    folder: RunFolder,
    listener: TrainListener,
    visits: UnpairedVisits,
    record: dict[str, Any],
) -> Iterator[LoopHooks]:
    """What happens beside the steps: all in the first process, nothing in others."""
    if not trainer.world.is_first:
        yield LoopHooks(validate=_nothing, save=_nothing, report=lambda _row: None, tick=_nothing)
        return
    folder.prepare(trainer)
    lpips = None
    if request.lpips is not None:
        lpips = LPIPS("alex", load_lpips("alex", request.lpips).state).to(trainer.device)
    with Board(request.run / "tensorboard", listener.note, start=trainer.step) as board:
        show = _Show(trainer, folder, board, listener, _sample_crops(visits, trainer.device))
        yield show.hooks(_validation_pairs(request), lpips, record, request.rhythm)


def _nothing(_step: int) -> None:
    pass


class _Show:
    """What a joint run leaves for people and programs while it goes on."""

    def __init__(
        self,
        trainer: JointTrainer,
        folder: RunFolder,
        board: Board,
        listener: TrainListener,
        crops: tuple[Tensor, Tensor],
    ) -> None:
        self.trainer = trainer
        self.folder = folder
        self.board = board
        self.listener = listener
        self.crops = crops
        self.warned = False
        self.saved_step = trainer.step

    def hooks(
        self, pairs: Sequence[PhotoPair], lpips: LPIPS | None, record: dict[str, Any], rhythm: Rhythm
    ) -> LoopHooks:
        """The events of a run. `record` is saved with every state; the best scores are kept in it."""
        steps = self.trainer.options.schedule.steps

        def validate(step: int) -> None:
            if pairs:
                net = self.trainer.emas["sr_net"].average
                scores = validation_scores(net, pairs, self.trainer.device, lpips=lpips)
                self._tell_scores(step, scores)
                if _is_better(scores, record.get("best")):
                    record["best"] = {"step": step, **scores}
                    self.folder.save(self.trainer, record)
                    self.folder.keep("best")

        return LoopHooks(
            validate=validate,
            sample=self.sample,
            save=lambda _step: self.save(record, keep_steps=rhythm.keep_steps),
            report=self.report,
            tick=lambda step: self.listener.tick(step, steps),
        )

    def save(self, record: dict[str, Any], *, keep_steps: int) -> None:
        """State, both exported networks, model card; after every `keep_steps` a numbered copy of the state too."""
        trainer = self.trainer
        self.folder.save(trainer, record)
        if trainer.step // keep_steps > self.saved_step // keep_steps:
            self.folder.keep(f"step_{trainer.step:07d}")
        self.saved_step = trainer.step
        metadata = {
            "training": json.dumps({"phase": "joint", "step": trainer.step, **record}, sort_keys=True),
            "options": json.dumps(options_to_json(trainer.options), sort_keys=True),
        }
        save_sr_net(self.folder.weights, trainer.emas["sr_net"].average, metadata=metadata, half=False)
        degrader = self.folder.path / "degrader.safetensors"
        save_degrader(degrader, trainer.emas["degrader"].average, metadata=metadata, half=False)
        self.folder.write_text("README.md", joint_card(self.folder.path.name, trainer.options, trainer.step, record))

    def report(self, row: StepReport) -> None:
        """A line in the log and on the board, and a warning when colours drift."""
        speed = {"images_per_s": row.images_per_s, "waiting": row.waiting_share}
        self.folder.log({"step": row.step, **row.figures, **speed})
        self.board.scalars(row.step, {**row.figures, **speed}, group="train")
        self.listener.report(row)
        drift = 255 * row.figures.get("colour_drift", 0.0)
        if drift > DRIFT_LEVELS and not self.warned:
            self.warned = True
            self.listener.note(
                f"Step {row.step}: the colours of the results drift ({drift:.1f} of 255 levels). Look at the samples; "
                f"a longer head start (--lead), a lower --rate or more --loss pixel=... holds them."
            )

    @torch.inference_mode()
    def sample(self, step: int) -> None:
        """A sheet of what the averaged networks make of fixed crops, and the run's report anew."""
        lr_real, hr = self.crops
        sr_net, degrader = self.trainer.emas["sr_net"].average, self.trainer.emas["degrader"].average
        noise = lr_real if self.trainer.options.dual_input else torch.zeros_like(lr_real)
        lr_fake = whole_levels(degrader(hr, noise))
        columns = {
            "real LR": lr_real,
            "SR of it": sr_net(lr_real),
            "HR": hr,
            "fake LR": lr_fake,
            "SR of fake LR": sr_net(lr_fake),
        }
        rows = [[_rgb8(column[row]) for column in columns.values()] for row in range(len(hr))]
        pixels = sheet(rows, list(columns))
        with atomic_path(self.folder.sample_path(step)) as temporary:
            Image.fromarray(pixels).save(temporary, "PNG")
        self.board.picture(step, pixels)
        write_run_report(self.folder.path)

    def _tell_scores(self, step: int, scores: dict[str, float]) -> None:
        self.folder.log({"step": step, **scores})
        self.board.scalars(step, scores, group="validation")
        self.listener.scores(step, scores)


def _photo_sets(request: JointRequest, listener: TrainListener) -> tuple[PhotoSet, tuple[PhotoSet, ...]]:
    """(source, targets) without the photos that are too small, which are named."""
    crop_px, scale = request.options.stream.crop_px, request.options.sr_net.scale
    if request.target.needs_hr_folder and request.hr is None:
        raise DataError(f"The target {request.target.kind} needs clean photos. Give their folder with --hr.")
    lr = list_photos(request.lr)
    hr = list_photos(request.hr) if request.hr is not None else []
    source, refused = usable_part(PhotoSet(photos=tuple(lr)), crop_px=crop_px // scale)
    parts = [usable_part(one, crop_px=crop_px) for one in target_sets(request.target, hr=hr, lr=lr)]
    for refusal in (*refused, *(refusal for _, more in parts for refusal in more)):
        listener.note(refusal.reason)
    return source, tuple(part for part, _ in parts)


def _record(
    request: JointRequest,
    judges: Judges,
    saved: Mapping[str, Any] | None,
    hr_sets: Sequence[PhotoSet],
    photos: Mapping[str, str],
) -> dict[str, Any]:
    """What is saved beside the state: which data and feature weights, and the scales measured at the start.

    Raises TrainingError when a saved run used other judges or other photos.
    """
    if saved is not None:
        refuse_other_judges(request.run, saved, judges)
        refuse_other_photos(request.run, saved["photos"], photos)
        return {
            name: saved[name]
            for name in ("track", "data", "photos", "vgg", "perceptual_lpips", "scales", "start_from", "best")
            if name in saved
        }
    begun = request.start_from
    return {
        "track": request.track,
        "data": {
            "lr": request.lr.name,
            "hr": None if request.hr is None else request.hr.name,
            "target": str(request.target.kind),
        },
        "photos": dict(photos),
        **judges.record,
        "scales": measured_scales(request.options, judges, _few_crops(request.options, hr_sets)),
        "start_from": None if begun is None else {"file": begun.name, "sha256": sha256_of(begun)},
    }


def _target_list(request: JointRequest, hr_sets: Sequence[PhotoSet]) -> str:
    folder = request.lr if request.hr is None else request.hr
    own = [path for part in hr_sets for path in part.photos if path.is_relative_to(folder)]
    return photo_list(folder, own)


def _few_crops(options: JointOptions, hr_sets: Sequence[PhotoSet]) -> list[Tensor]:
    few = UnpairedVisits(lr=hr_sets[0], hr=hr_sets, stream=options.stream)
    return [few[visit].hr.crops[:1].float() / 255 for visit in range(MEASURED_PHOTOS)]


def _begin_with(weights: Path, trainer: JointTrainer) -> None:
    net, _ = load_sr_net(weights)
    if net.config != trainer.options.sr_net:
        raise TrainingError(f"{weights} has other sizes ({net.config}) than the run ({trainer.options.sr_net}).")
    trainer.start_sr_net_from(net)


def _sample_crops(visits: UnpairedVisits, device: torch.device) -> tuple[Tensor, Tensor]:
    """The same few crops every time: (lr_real, hr) in [0, 1]."""
    few = [visits[number] for number in range(SAMPLE_ROWS)]
    lr, hr = (torch.cat([getattr(visit, side).crops[:1] for visit in few]).to(device) for side in ("lr", "hr"))
    return lr.float() / 255, hr.float() / 255


def _rgb8(picture: Tensor) -> NDArray[np.uint8]:
    """(3, H, W) in [0, 1] as (H, W, 3), rounded."""
    levels: NDArray[np.uint8] = picture.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    return levels


def _validation_pairs(request: JointRequest) -> list[PhotoPair]:
    if request.val_lr is None or request.val_hr is None:
        return []
    return match_pairs(request.val_lr, request.val_hr, scale=request.options.sr_net.scale)


def _is_better(scores: Mapping[str, float], best: Mapping[str, float] | None) -> bool:
    """Lower LPIPS where there is one, else higher PSNR."""
    if best is None:
        return True
    return (
        scores["lpips"] < best["lpips"]
        if "lpips" in scores and "lpips" in best
        else scores["psnr_db"] > best["psnr_db"]
    )
