"""What a joint run leaves for people and programs while it goes on: saves, scores, samples, models, a card."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ddnsr_cli.checkpoint import save_degrader, save_sr_net
from ddnsr_cli.data.pairs import PhotoPair
from ddnsr_cli.data.unpaired import UnpairedVisits
from ddnsr_cli.files import atomic_path
from ddnsr_cli.images.sheet import sheet
from ddnsr_cli.nets.lpips import LPIPS
from ddnsr_cli.training.board import Board
from ddnsr_cli.training.joint import JointTrainer
from ddnsr_cli.training.loop import LoopHooks, StepReport
from ddnsr_cli.training.options import Rhythm
from ddnsr_cli.workflows.model_card import joint_card
from ddnsr_cli.workflows.run_folder import RunFolder, told_when_full
from ddnsr_cli.workflows.run_report import write_run_report
from ddnsr_cli.workflows.training_run import TrainListener, export_metadata, validation_scores, whole_levels

SAMPLE_ROWS = 4
DRIFT_LEVELS = 6.0
"""Mean difference of a colour, in levels of 255 over the steps between two reports, from which on we warn: less is
what batches of 16 crops show by chance and what a run takes back, more is a cast that people see."""


class JointShow:
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
                record["latest"] = {"step": step, "pairs": len(pairs), **scores}
                if _is_better(scores, record.get("best")):
                    record["best"] = record["latest"]
                    self.folder.save(self.trainer, record, name="best")

        return LoopHooks(
            validate=validate,
            sample=self.sample,
            save=lambda _step: self.save(record, keep_steps=rhythm.keep_steps),
            report=self.report,
            tick=lambda step: self.listener.tick(step, steps),
        )

    def save(self, record: dict[str, Any], *, keep_steps: int) -> None:
        """State, both exported networks, card and report; after every `keep_steps` a numbered copy of the state too."""
        trainer = self.trainer
        if trainer.step // keep_steps > self.saved_step // keep_steps:
            self.folder.save(trainer, record, name=f"step_{trainer.step:07d}")
        self.folder.save(trainer, record)
        self.saved_step = trainer.step
        metadata = export_metadata(trainer, "joint", record)
        save_sr_net(self.folder.weights, trainer.emas["sr_net"].average, metadata=metadata, half=False)
        degrader = self.folder.path / "degrader.safetensors"
        save_degrader(degrader, trainer.emas["degrader"].average, metadata=metadata, half=False)
        self.folder.write_text("README.md", joint_card(self.folder.path.name, trainer.options, trainer.step, record))
        write_run_report(self.folder.path)

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
        path = self.folder.sample_path(step)
        with told_when_full(path), atomic_path(path) as temporary:
            Image.fromarray(pixels).save(temporary, "PNG")
        self.board.picture(step, pixels)
        write_run_report(self.folder.path)

    def _tell_scores(self, step: int, scores: dict[str, float]) -> None:
        self.folder.log({"step": step, **scores})
        self.board.scalars(step, scores, group="validation")
        self.listener.scores(step, scores)


def sample_crops(visits: UnpairedVisits, device: torch.device) -> tuple[Tensor, Tensor]:
    """The same few crops every time: (lr_real, hr) in [0, 1]."""
    few = [visits[number] for number in range(SAMPLE_ROWS)]
    lr, hr = (torch.cat([getattr(visit, side).crops[:1] for visit in few]).to(device) for side in ("lr", "hr"))
    return lr.float() / 255, hr.float() / 255


def _rgb8(picture: Tensor) -> NDArray[np.uint8]:
    """(3, H, W) in [0, 1] as (H, W, 3), rounded."""
    levels: NDArray[np.uint8] = picture.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    return levels


def _is_better(scores: Mapping[str, float], best: Mapping[str, float] | None) -> bool:
    """Lower LPIPS where there is one, else higher PSNR."""
    if best is None:
        return True
    return (
        scores["lpips"] < best["lpips"]
        if "lpips" in scores and "lpips" in best
        else scores["psnr_db"] > best["psnr_db"]
    )
