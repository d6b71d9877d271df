"""The frozen networks that judge in a joint run: which files they are from, and how their features are scaled."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddnsr_cli.errors import TrainingError
from ddnsr_cli.feature_weights import FeatureWeights, load_lpips, load_vgg19
from ddnsr_cli.losses.features import content_reference
from ddnsr_cli.nets.lpips import LPIPS
from ddnsr_cli.nets.vgg19 import Tap, VGG19Features, mean_activations
from ddnsr_cli.training.eyes import Difference, Eyes, LpipsDifference, VggDifference
from ddnsr_cli.training.joint_options import JointOptions

AUTHORS_GAIN = {"conv2_2": 2.4, "conv3_4": 7.7}
"""Feature scale that gives squared losses the size they have in the authors' setting (the original VGG19 fed with
plain [0, 1] RGB), so that the paper's 0.1, 1 and 10 keep their balance. Measured against features of mean 1, on photos
with noise of 8 levels and blur: 47 to 73 times for conv3_4 and 5.4 to 5.9 times for conv2_2, square roots taken."""


@dataclass(frozen=True, kw_only=True)
class JudgeFiles:
    """Where the weights come from."""

    vgg: Path | None
    """VGG19; None: fetched from the Hub."""

    lpips: Path | None
    """LPIPS on the trunk of the perceptual loss; None: from the folder that DDNSR_LPIPS names."""

    offline: bool = False


@dataclass(frozen=True, kw_only=True)
class Judges:
    """The weights that the losses of a run need, read."""

    vgg: FeatureWeights | None
    """None when no loss looks through VGG19."""

    lpips: FeatureWeights | None
    """None when LPIPS is not the perceptual loss."""

    @property
    def record(self) -> dict[str, Any]:
        """Which files they are, to be kept with the run."""
        known = {"vgg": self.vgg, "perceptual_lpips": self.lpips}
        return {name: {"source": one.source, "sha256": one.sha256} for name, one in known.items() if one is not None}


def load_judges(options: JointOptions, files: JudgeFiles, on_progress: Callable[[int, int], None]) -> Judges:
    """The weights that the losses of `options` need, and no more.

    on_progress: (bytes done, bytes in all) of a download. Raises WeightsError or HubError, saying what to give.
    """
    layers, losses = options.layers, options.losses
    trunk = layers.lpips_trunk if losses.perceptual else None
    wanted = {"content": losses.content, "cycle": losses.cycle, "perceptual": losses.perceptual if not trunk else 0}
    taps = [Tap(layer=getattr(layers, loss)) for loss, weight in wanted.items() if weight]
    vgg = load_vgg19(files.vgg, taps=taps, offline=files.offline, on_progress=on_progress) if taps else None
    return Judges(vgg=vgg, lpips=load_lpips(trunk, files.lpips, option="--perceptual-weights") if trunk else None)


def refuse_other_judges(run: Path, before: Mapping[str, Any], now: Judges) -> None:
    """Raises TrainingError when a run would go on under other judges than it was begun with."""
    for name, option in (("vgg", "--vgg"), ("perceptual_lpips", "--perceptual-weights")):
        old, new = before.get(name), now.record.get(name)
        if old is not None and (new is None or old["sha256"] != new["sha256"]):
            told = f"{old['source']} (sha256 {old['sha256'][:12]}...)"
            raise TrainingError(f"{run} was begun with {told}. Give that one with {option}.")


def measured_scales(options: JointOptions, judges: Judges, crops: Sequence[Tensor]) -> dict[str, float]:
    """For each loss what its features are divided by: their mean activations on clean HR crops, (1, 3, H, W) in [0, 1].

    The content and cycle losses look at LR pictures, the perceptual loss at HR ones. LPIPS has its own scale.
    """
    small = [content_reference(crop) for crop in crops]
    layers = options.layers
    scales: dict[str, float] = {}
    for loss, layer, pictures in (
        ("content", layers.content, small),
        ("cycle", layers.cycle, small),
        ("perceptual", layers.perceptual, crops),
    ):
        if getattr(options.losses, loss) and judges.vgg is not None and not (loss == "perceptual" and judges.lpips):
            tap = Tap(layer=layer)
            vgg = _vgg(judges.vgg, {tap: 1.0}, standardised=loss != "perceptual" or not layers.as_authors)
            mean = mean_activations(vgg, pictures)[tap]
            scales[loss] = mean / (1.0 if loss == "perceptual" else AUTHORS_GAIN.get(layer, 1.0))
    return scales


def eyes_of(options: JointOptions, judges: Judges, scales: Mapping[str, float], device: torch.device) -> Eyes:
    """The networks on the device, with the scales that `measured_scales` found."""
    layers = options.layers
    lr_scales = {Tap(layer=getattr(layers, loss)): scales[loss] for loss in ("content", "cycle") if loss in scales}
    lr = _vgg(judges.vgg, lr_scales).to(device) if judges.vgg is not None and lr_scales else None
    return Eyes(lr=lr, hr=_perceptual(options, judges, scales, device))


def _perceptual(
    options: JointOptions, judges: Judges, scales: Mapping[str, float], device: torch.device
) -> Difference | None:
    layers = options.layers
    if judges.lpips is not None and layers.lpips_trunk is not None:
        weights = judges.lpips
        return LpipsDifference(LPIPS(layers.lpips_trunk, weights.state, source=weights.source).to(device))
    if judges.vgg is None or "perceptual" not in scales:
        return None
    tap = Tap(layer=layers.perceptual)
    vgg = _vgg(judges.vgg, {tap: scales["perceptual"]}, standardised=not layers.as_authors)
    return VggDifference(vgg.to(device), squared=layers.as_authors)


def _vgg(weights: FeatureWeights, scales: Mapping[Tap, float], *, standardised: bool = True) -> VGG19Features:
    return VGG19Features(weights.state, scales, scales=scales, normalise=standardised, source=weights.source)
