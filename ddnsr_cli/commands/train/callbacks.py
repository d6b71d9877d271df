"""What a run leaves for people and programs while it goes on: saves, scores, samples, models, a card."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ddnsr_cli.commands.train.run import RunTrainer, TrainListener, export_metadata, image_tensor, validation_scores
from ddnsr_cli.commands.train.run_folder import RunFolder, wrap_write_errors
from ddnsr_cli.config import SCALE
from ddnsr_cli.data.config import NoiseInput
from ddnsr_cli.data.images import ImagePair
from ddnsr_cli.data.noise_patches import PatchLimits, slow_part, smooth_noise_input, smooth_patches
from ddnsr_cli.files import atomic_path
from ddnsr_cli.io.provenance import mark_as
from ddnsr_cli.metrics.noise_transfer import Trial, measure_noise_transfer
from ddnsr_cli.nets.degrader import Degrader
from ddnsr_cli.nets.lpips import LPIPS
from ddnsr_cli.nets.rrdb import RRDBNet
from ddnsr_cli.processing.contact_sheet import sheet
from ddnsr_cli.reports.run_page import write_run_report
from ddnsr_cli.training.loop import LoopHooks, Rhythm, StepReport
from ddnsr_cli.training.tensorboard_logger import TensorBoardLogger
from ddnsr_cli.weights.checkpoint import save_degrader, save_sr_net

DRIFT_LEVELS = 6.0
"""Mean difference of a color, in levels of 255 over the steps between two reports, from which on we warn: less is
what batches of 16 crops show by chance and what a run takes back, more is a cast that people see."""


class ShownTrainer(RunTrainer, Protocol):
    """A trainer whose averaged networks can be shown and exported."""

    device: torch.device

    @property
    def averages(self) -> Mapping[str, RRDBNet | Degrader]:
        """The averaged networks: `sr_net`, and `degrader` where there is one."""

    @property
    def sample(self) -> Callable[..., dict[str, Tensor]]:
        """Gives what the averaged networks make of crops in [0, 1], as titled columns of a sheet."""


@dataclass(frozen=True, kw_only=True)
class ShownRun:
    """What tells one kind of run from another."""

    phase: str
    """What exported weights say of it: `joint` or `paired`."""

    noise_input: NoiseInput | None = None
    """What the degrader takes noise from; None: there is no degrader, or it takes none."""

    card: Callable[[int, Mapping[str, Any]], str]
    """(steps done, record) -> the model card."""


class RunShow:
    """What a run leaves for people and programs while it goes on."""

    def __init__(
        self,
        trainer: ShownTrainer,
        folder: RunFolder,
        logger: TensorBoardLogger,
        listener: TrainListener,
        crops: tuple[Tensor, ...],
        kind: ShownRun,
    ) -> None:
        """crops: in [0, 1], that samples are made of: (lr, hr), and noise inputs of `lr` in a joint run."""
        self.trainer = trainer
        self.folder = folder
        self.tensorboard = logger
        self.listener = listener
        self.crops = crops
        self.kind = kind
        self.warned = False
        self.saved_step = trainer.step

    def hooks(
        self,
        pairs: Sequence[ImagePair],
        lpips: LPIPS | None,
        record: dict[str, Any],
        rhythm: Rhythm,
        *,
        steps: int,
    ) -> LoopHooks:
        """The events of a run of so many steps. `record` is saved with every state; the best scores are kept in it."""

        def validate(step: int) -> None:
            if pairs:
                net = self.trainer.averages["sr_net"]
                assert isinstance(net, RRDBNet)
                scores = validation_scores(net, pairs, self.trainer.device, lpips=lpips)
                self._note_scores(step, {**scores, **self._transfer()})
                record["latest"] = {"step": step, "pairs": len(pairs), **scores}
                if _is_better(scores, record.get("best")):
                    record["best"] = record["latest"]
                    self.folder.save(self.trainer, record, name="best")

        return LoopHooks(
            validate=validate,
            sample=self.sample,
            is_validated=lambda step: not pairs or record.get("latest", {}).get("step", 0) >= step,
            save=lambda _step: self.save(record, keep_steps=rhythm.keep_steps),
            report=self.report,
            tick=lambda step: self.listener.tick(step, steps),
        )

    def save(self, record: dict[str, Any], *, keep_steps: int) -> None:
        """State, exported networks, card and report; after every `keep_steps` a numbered copy of the state too."""
        trainer = self.trainer
        if trainer.step // keep_steps > self.saved_step // keep_steps:
            self.folder.save(trainer, record, name=f"step_{trainer.step:07d}")
        self.folder.save(trainer, record)
        self.saved_step = trainer.step
        metadata = export_metadata(trainer, self.kind.phase, record)
        for net in trainer.averages.values():
            if isinstance(net, Degrader):
                save_degrader(self.folder.path / "degrader.safetensors", net, metadata=metadata, half=False)
            else:
                save_sr_net(self.folder.weights, net, metadata=metadata, half=False)
        self.folder.write_text("README.md", self.kind.card(trainer.step, record))
        write_run_report(self.folder.path)

    def report(self, row: StepReport) -> None:
        """A line in the log and in TensorBoard, and a warning when colors drift."""
        speed = {"images_per_s": row.images_per_s, "waiting": row.waiting_share}
        self.folder.log({"step": row.step, **row.figures, **speed})
        self.tensorboard.scalars(row.step, {**row.figures, **speed}, group="train")
        self.listener.report(row)
        drift = 255 * row.figures.get("color_drift", 0.0)
        if drift > DRIFT_LEVELS and not self.warned:
            self.warned = True
            of_tracks = ", and so do more --degrader-only-steps or --loss pixel=... from the start on"
            self.listener.note(
                f"Step {row.step}: the colors of the results drift ({drift:.1f} of 255 levels). Look at the samples; "
                f"a lower --learning-rate holds them{of_tracks if self.kind.phase == 'joint' else ''}."
            )

    def sample(self, step: int) -> None:
        """A sheet of what the averaged networks make of fixed crops, and the run's report again."""
        columns = self.trainer.sample(*self.crops)
        rows = [[_rgb8(column[row]) for column in columns.values()] for row in range(len(self.crops[0]))]
        pixels = sheet(rows, list(columns))
        path = self.folder.sample_path(step)
        with wrap_write_errors(path), atomic_path(path) as temporary:
            Image.fromarray(pixels).save(temporary, "PNG")
            mark_as(temporary, "sample")
        self.tensorboard.image(step, pixels)
        write_run_report(self.folder.path)

    def _transfer(self) -> dict[str, float]:
        """What the degrader makes of its noise input, on the crops that samples are made of; empty without one.

        The clean images are the crops of the other images, shrunk.
        """
        degrader = self.trainer.averages.get("degrader")
        if degrader is None or self.kind.noise_input is None:
            return {}
        _, hr, noise = self.crops
        clean = F.avg_pool2d(hr, SCALE).roll(1, dims=0)
        given = clean if self.kind.noise_input is NoiseInput.CROP else torch.stack([_smooth(one) for one in clean])
        trial = Trial(hr=hr, noisy=noise, clean=clean, clean_input=given)
        found = measure_noise_transfer(degrader, [trial])
        return {
            "noise_carried_flat": found.carried_flat,
            "noise_carried_textured": found.carried_textured,
            "structure_leaked": found.leaked,
        }

    def _note_scores(self, step: int, scores: dict[str, float]) -> None:
        self.folder.log({"step": step, **scores})
        self.tensorboard.scalars(step, scores, group="validation")
        self.listener.scores(step, scores)


def nothing(_step: int) -> None:
    """What processes other than the first do beside the steps."""


def _rgb8(image: Tensor) -> NDArray[np.uint8]:
    """(3, H, W) in [0, 1] as (H, W, 3), rounded."""
    levels: NDArray[np.uint8] = image.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    return levels


def _smooth(image: Tensor) -> Tensor:
    """What would be the noise input of an image (3, H, W) in [0, 1], on its own slow part."""
    levels = _rgb8(image)
    like, patches = levels.astype(np.float32), smooth_patches(levels, PatchLimits())
    if patches is None:
        return slow_part(image[None])[0]
    return image_tensor(smooth_noise_input(levels, patches, like, np.random.default_rng(0)))[0].to(image.device)


def _is_better(scores: Mapping[str, float], best: Mapping[str, float] | None) -> bool:
    """Lower LPIPS where there is one, else higher PSNR."""
    if best is None:
        return True
    return (
        scores["lpips"] < best["lpips"]
        if "lpips" in scores and "lpips" in best
        else scores["psnr_db"] > best["psnr_db"]
    )
