"""What every training workflow shares: what it tells, how it goes on after trouble, and validation."""

import json
import platform
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddnsr_cli import __version__
from ddnsr_cli.commands.train.run_folder import Resumable, RunFolder
from ddnsr_cli.config import options_to_json
from ddnsr_cli.data.images import PLAIN, ImagePair, PairRules, match_pairs
from ddnsr_cli.errors import DataError, NotFiniteError, TrainingError, shown
from ddnsr_cli.inference.net_upscaler import NetUpscaler
from ddnsr_cli.inference.tiling import TileConfig
from ddnsr_cli.io.read import read_rgb
from ddnsr_cli.metrics.fidelity import SSIM_TAPS, Distance, compare
from ddnsr_cli.nets.blocks import SrNet
from ddnsr_cli.nets.lpips import LPIPS, TRUNKS
from ddnsr_cli.training.loop import LoopHooks, Rhythm, StepReport, Stop, Trainer, run_loop
from ddnsr_cli.training.train_state import load_train_state
from ddnsr_cli.weights.arrays import TERMS_KEY
from ddnsr_cli.weights.feature_weights import load_lpips

MOST_ROLLBACKS = 3
WORKER_ENDED = "DataLoader worker "  # how PyTorch begins to say so
MOST_NAMED = 3  # of the images that were replaced
MOST_WHOLE_PX = 1 << 18  # of an LR image; larger ones are enlarged in tiles, as memory has no room for all of them
CROP_PX = 4  # border that validation ignores, HR pixels: the scale, as papers do

SCORE_NAMES = {"psnr": "psnr_db", "ssim": "ssim", "lpips": "lpips"}
"""What the log of a run calls the figures of `compare`."""

Batches = Generator[tuple[Tensor, ...], None, None]


class RunTrainer(Trainer, Resumable, Protocol):
    """A trainer that runs can drive, save and slow down."""

    rate_factor: float


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What runs of every kind need."""

    run: Path
    """Folder of the run; made when missing, resumed when it holds a state."""

    rhythm: Rhythm = field(default_factory=Rhythm)

    start_from: Path | None = None
    """Weights that the reconstruction network begins with, of its sizes or smaller."""

    lpips: Path | None = None
    """LPIPS weights (AlexNet) for validation; None: validation goes without."""

    val_lr: Path | None = None
    """Folder of LR images to validate on; with `val_hr`."""

    val_hr: Path | None = None
    """Their HR partners, the same names."""

    rules: PairRules = PLAIN
    """How partners to validate on are found."""

    device: str = "auto"
    """As `choose_device` takes."""

    def validation_pairs(self, scale: int) -> list[ImagePair]:
        """What is validated on; none where no folders are given. Raises DataError as `match_pairs`."""
        if self.val_lr is None or self.val_hr is None:
            return []
        return match_pairs(self.val_lr, self.val_hr, scale=scale, rules=self.rules)


@dataclass(frozen=True, kw_only=True)
class TrainListener:
    """Whom the run tells. Each is called from the training thread and must be quick."""

    note: Callable[[str], None]
    """One sentence for the user."""

    image: Callable[[int, int], None]
    """(images looked at, images in all), before the first step."""

    tick: Callable[[int, int], None]
    """(steps done, steps in all), after every step."""

    report: Callable[[StepReport], None]
    """The mean figures since the last report."""

    scores: Callable[[int, dict[str, float]], None]
    """(steps done, score by name) after a validation."""

    download: Callable[[int, int], None]
    """(bytes done, bytes in all) of feature weights."""


SILENT = TrainListener(
    note=lambda _text: None,
    image=lambda _done, _total: None,
    tick=lambda _done, _total: None,
    report=lambda _row: None,
    scores=lambda _step, _scores: None,
    download=lambda _done, _total: None,
)
"""For processes other than the first."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a run leaves."""

    weights: Path
    """The exported ones, `sr.safetensors`."""

    replaced: tuple[Path, ...] = ()
    """Images that could not be used when their turn came; none when the run was stopped before its last step."""


def refuse_replaced(trained: Trained) -> None:
    """Raises DataError when images had to be replaced: the run is whole, but learned from fewer than it was given."""
    if not (count := len(trained.replaced)):
        return
    named = ", ".join(map(str, trained.replaced[:MOST_NAMED]))
    more = f" and {count - MOST_NAMED} more" if count > MOST_NAMED else ""
    images, them = ("image", "it") if count == 1 else ("images", "them")
    raise DataError(
        f"{count} {images} could not be read or used, and others came instead: {named}{more}. The run itself is "
        f"whole. To go on with it replace {them}; for a new run replace or remove {them}."
    )


def describe_resumed(run: Path, step: int, steps: int) -> str:
    """A sentence on a run that goes on from a step. steps: all that are asked for."""
    nothing_left = f": none of {steps} steps is left. Give more --steps to go on" if step >= steps else ""
    return f"resumed {run} at step {step}{nothing_left}"


def drive(
    trainer: RunTrainer,
    folder: RunFolder,
    batches_from: Callable[[int], Batches],
    *,
    steps: int,
    rhythm: Rhythm,
    hooks: LoopHooks,
    stop: Stop,
    note: Callable[[str], None],
) -> None:
    """Run the loop to its end. A value that is not finite takes the run back to its last save, at half the rate.

    batches_from: the stream from a step on. Raises NotFiniteError when it happens a fourth time, or before a save, and
    TrainingError when a process that decodes is killed.
    """
    for rollback in range(MOST_ROLLBACKS + 1):
        try:
            with closing(batches_from(trainer.step)) as batches:
                run_loop(trainer, batches, steps=steps, rhythm=rhythm, hooks=hooks, stop=stop)
        except NotFiniteError as error:
            if rollback == MOST_ROLLBACKS or not folder.state.exists():
                raise
            factor = trainer.rate_factor / 2
            trainer.restore(load_train_state(folder.state))  # of this run: no options to compare
            trainer.rate_factor = factor
            note(f"{error} Back to step {trainer.step}, with {factor:g} times the rate.")
        except RuntimeError as error:  # of PyTorch's handler of signals, at any moment
            if not str(error).startswith(WORKER_ENDED):
                raise
            raise TrainingError(
                f"A process that decodes images has ended ({str(error).strip().rstrip('.')}), mostly for want of "
                f"memory. The last save is intact: free some, or give fewer --workers (with 0 no other process "
                f"decodes), and run again."
            ) from error
        else:
            if trainer.step < steps:
                note(f"stopped at step {trainer.step} of {steps}; the same command goes on")
            return


def terms_of(record: Mapping[str, Any]) -> list[str]:
    """The terms that go with the weights that a run learns with, by its record."""
    sources = record.get("data", {}).get("sources", [])
    described = [record.get(name) for name in ("start_from", "start_degrader", "teacher")]
    described += [source.get("degrader") for source in sources]
    return list(dict.fromkeys(one["terms"] for one in described if one and one.get("terms")))


def export_metadata(trainer: RunTrainer, phase: str, facts: Mapping[str, Any]) -> dict[str, str]:
    """What exported weights say of where they come from. phase: kind of training; facts: data and whatever else."""
    terms = terms_of(facts)
    versions = {"ddnsr": __version__, "python": platform.python_version(), "torch": torch.__version__}
    return {
        "training": json.dumps({"phase": phase, "step": trainer.step, **facts}, sort_keys=True),
        "options": json.dumps(options_to_json(trainer.options), sort_keys=True),
        "versions": json.dumps(versions),
        **({TERMS_KEY: " ".join(terms)} if terms else {}),
    }


def refuse_unusable(pairs: Sequence[ImagePair], *, lpips: bool) -> None:
    """What a validation would meet only after many steps: images that cannot be read, or are too small to be compared.

    lpips: whether that is a figure. Raises ImageReadError and DataError.
    """
    least = 2 * CROP_PX + max(SSIM_TAPS, TRUNKS["alex"].least_px if lpips else 0)
    for pair in pairs:
        _, hr = pair.cut(read_rgb(pair.lr), read_rgb(pair.hr))
        if min(hr.shape[:2]) < least:
            raise DataError(
                f"{shown(pair.hr)} has {hr.shape[1]} x {hr.shape[0]} pixels, too few to validate on: {least} a side at "
                f"least. Replace it, or take it and its LR partner out."
            )


@torch.inference_mode()
def validation_scores(
    net: SrNet, pairs: Sequence[ImagePair], device: torch.device, *, lpips: Distance | None = None
) -> dict[str, float]:
    """Mean PSNR in dB and SSIM over RGB, and LPIPS where given; 4 HR pixels of border ignored, results in whole levels.

    device: of the network and of `lpips`.
    """
    rows: dict[str, list[float]] = {}
    tiled: NetUpscaler | None = None
    for pair in pairs:
        lr, hr = pair.cut(read_rgb(pair.lr), read_rgb(pair.hr))
        image = image_tensor(lr)
        if image[0, 0].numel() <= MOST_WHOLE_PX:
            sr = net(image.to(device)).float()
        else:
            tiled = tiled or NetUpscaler(net, device=device, tiles=TileConfig())  # a copy of the network: once
            sr = tiled.whole(image).to(device)
        scores = compare(whole_levels(sr), image_tensor(hr).to(device), crop_px=CROP_PX, lpips=lpips)
        for name, value in scores.items():
            rows.setdefault(SCORE_NAMES[name], []).append(value.item())
    return {name: float(np.mean(values)) for name, values in rows.items()}


def validation_lpips(weights: Path | None, device: torch.device) -> LPIPS | None:
    """LPIPS on AlexNet on the device; None when no weights are given. Raises WeightsError for a file of no use."""
    if weights is None:
        return None
    read = load_lpips("alex", weights)
    return LPIPS("alex", read.state, source=read.source).to(device)


def whole_levels(sr: Tensor) -> Tensor:
    """Clamped to [0, 1] and rounded to multiples of 1/255, as a file would hold it."""
    return sr.clamp(0, 1).mul(255).round() / 255


def image_tensor(image: NDArray[np.uint8]) -> Tensor:
    """An image (H, W, 3) as (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
