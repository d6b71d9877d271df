"""The networks of a run: those it begins with, grown to its sizes, and the frozen ones that its losses look through."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ddnsr_cli.errors import ConfigError, TrainingError
from ddnsr_cli.losses import content_reference
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.degrader import Degrader, DegraderConfig
from ddnsr_cli.nets.discriminators import PROJECTED_TAPS
from ddnsr_cli.nets.lpips import LPIPS
from ddnsr_cli.nets.net2net import grow_degrader, grow_rrdb
from ddnsr_cli.nets.rrdb import RRDBNet
from ddnsr_cli.nets.vgg19 import Tap, VGG19Features, mean_activations
from ddnsr_cli.training.options import JointOptions
from ddnsr_cli.training.paired_options import PairedOptions
from ddnsr_cli.training.reconstruction import Difference, FeatureNets, LpipsDifference, VggDifference
from ddnsr_cli.training.reconstruction_options import Discriminator
from ddnsr_cli.weights.checkpoint import load_degrader, load_rrdb_net
from ddnsr_cli.weights.feature_weights import FeatureWeights, load_lpips, load_vgg19
from ddnsr_cli.weights.registry import read_registry
from ddnsr_cli.weights.resolve import FoundWeights, weights_sha256

Net = TypeVar("Net", RRDBNet, Degrader)
Sizes = TypeVar("Sizes", RRDBConfig, DegraderConfig)


def initial_sr_net(weights: Path, sizes: RRDBConfig, seed: int) -> RRDBNet:
    """The reconstruction network of a file, in float, grown to `sizes`. seed: of what is new in it.

    Raises WeightsError for a file of no use, TrainingError when a size would shrink.
    """
    return _grown(weights, load_rrdb_net(weights)[0].float(), sizes, seed, grow_rrdb)


def initial_degrader(weights: Path, sizes: DegraderConfig, seed: int) -> Degrader:
    """The same for a degrader."""
    return _grown(weights, load_degrader(weights)[0].float(), sizes, seed, grow_degrader)


def describe_weights(weights: Path | None) -> dict[str, str] | None:
    """What a record says of weights: name, SHA-256, and the terms that go with them."""
    if weights is None:
        return None
    found = FoundWeights(path=weights, name=weights.name, entry=read_registry().research_entry(weights))
    return {"file": weights.name, "sha256": found.sha256, **({"terms": found.terms} if found.terms else {})}


def other_degraders(
    before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[str, str]]:
    """Which sources of pairs have another degrader than they began with, as `other_initial_weights`."""
    changed = {}
    for number, sources in enumerate(zip(before, now, strict=False), 1):
        old, new = ((source.get("degrader") or {}).get("sha256", "nothing")[:12] for source in sources)
        if old != new:
            changed[f"--mix number {number}"] = old, new
    return changed


def other_initial_weights(saved: Mapping[str, Any], given: Mapping[str, Path | None]) -> dict[str, tuple[str, str]]:
    """Which weights differ from those that a saved run began with: option -> (before, now), starts of their SHA-256.

    given: by option, as in `--start-from`. Weights to begin with are not needed any more: they may be left out, or
    be gone.
    """
    changed = {}
    for option, weights in given.items():
        if weights is not None and weights.is_file():
            before = (saved.get(option.removeprefix("--").replace("-", "_")) or {}).get("sha256", "nothing")[:12]
            now = weights_sha256(weights)[:12]
            if before != now:
                changed[option] = before, now
    return changed


def _grown(weights: Path, net: Net, sizes: Sizes, seed: int, grow: Callable[[Net, Sizes, torch.Generator], Net]) -> Net:
    try:
        return grow(net, sizes, torch.Generator().manual_seed(seed))
    except ConfigError as cause:
        raise TrainingError(f"{weights}: {cause}") from cause


TrainOptions = JointOptions | PairedOptions
"""Options of a run whose losses look through feature networks."""

AUTHORS_GAIN = {"conv2_2": 2.4, "conv3_4": 7.7}
"""Feature scale that gives squared losses the size they have in the authors' setting (the original VGG19 fed with
plain [0, 1] RGB), so that the paper's 0.1, 1 and 10 keep their balance. Measured against features of mean 1, on images
with noise of 8 levels and blur: 47 to 73 times for conv3_4 and 5.4 to 5.9 times for conv2_2, square roots taken."""


@dataclass(frozen=True, kw_only=True)
class FeatureFiles:
    """Where the weights come from."""

    vgg: Path | None
    """VGG19; None: fetched from the Hub."""

    lpips: Path | None
    """LPIPS on the trunk of the perceptual loss; None: from the folder that DDNSR_LPIPS names."""

    offline: bool = False


@dataclass(frozen=True, kw_only=True)
class FeatureExtractors:
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


def load_feature_extractors(
    options: TrainOptions, files: FeatureFiles, on_progress: Callable[[int, int], None]
) -> FeatureExtractors:
    """The weights that the losses of `options` need, and no more.

    on_progress: (bytes done, bytes in all) of a download. Raises WeightsError or HubError, saying what to give.
    """
    trunk = options.layers.lpips_trunk if options.losses.perceptual else None
    layers = (*_lr_layers(options).values(), *_perceptual_weights(options))
    taps = [*(Tap(layer=layer) for layer in layers), *_disc_taps(options)]
    vgg = load_vgg19(files.vgg, taps=taps, offline=files.offline, on_progress=on_progress) if taps else None
    return FeatureExtractors(
        vgg=vgg, lpips=load_lpips(trunk, files.lpips, option="--perceptual-weights") if trunk else None
    )


def refuse_other_extractors(run: Path, before: Mapping[str, Any], now: FeatureExtractors) -> None:
    """Raises TrainingError when a run would go on under other feature extractors than it was begun with."""
    for name, option in (("vgg", "--vgg"), ("perceptual_lpips", "--perceptual-weights")):
        old, new = before.get(name), now.record.get(name)
        if old is not None and (new is None or old["sha256"] != new["sha256"]):
            earlier = f"{old['source']} (sha256 {old['sha256'][:12]}...)"
            raise TrainingError(f"{run} was begun with {earlier}. Give that one with {option}.")


def measured_scales(options: TrainOptions, extractors: FeatureExtractors, crops: Sequence[Tensor]) -> dict[str, float]:
    """What the features of each loss are divided by: their mean activations on clean HR crops, (1, 3, H, W) in [0, 1].

    The content and cycle losses look at LR images, the perceptual loss at HR ones, under `perceptual.LAYER`, and so
    does a projected discriminator, under `discriminator.LAYER`. LPIPS has its own scale.
    """
    if extractors.vgg is None:
        return {}
    small = [content_reference(crop) for crop in crops]
    scales: dict[str, float] = {}
    for loss, layer in _lr_layers(options).items():
        tap = Tap(layer=layer)
        mean = mean_activations(_vgg(extractors.vgg, {tap: 1.0}), small)[tap]
        scales[loss] = mean / AUTHORS_GAIN.get(layer, 1.0)
    if taps := [Tap(layer=layer) for layer in _perceptual_weights(options)]:
        vgg = _vgg(extractors.vgg, dict.fromkeys(taps, 1.0), standardized=not options.layers.as_authors)
        scales |= {f"perceptual.{tap.layer}": mean for tap, mean in mean_activations(vgg, crops).items()}
    if taps := _disc_taps(options):
        vgg = _vgg(extractors.vgg, dict.fromkeys(taps, 1.0))
        scales |= {f"discriminator.{tap.layer}": mean for tap, mean in mean_activations(vgg, crops).items()}
    return scales


def feature_nets_of(
    options: TrainOptions, extractors: FeatureExtractors, scales: Mapping[str, float], device: torch.device
) -> FeatureNets:
    """What the losses of a run look through, on the device, with the scales that `measured_scales` found."""
    lr_scales = {Tap(layer=layer): scales[loss] for loss, layer in _lr_layers(options).items()}
    lr = _vgg(extractors.vgg, lr_scales).to(device) if extractors.vgg is not None and lr_scales else None
    disc_scales = {tap: scales[f"discriminator.{tap.layer}"] for tap in _disc_taps(options)}
    disc = (
        _vgg(extractors.vgg, disc_scales, autocast=True).to(device)
        if extractors.vgg is not None and disc_scales
        else None
    )
    return FeatureNets(lr=lr, hr=_perceptual(options, extractors, scales, device), disc=disc)


def _perceptual(
    options: TrainOptions, extractors: FeatureExtractors, scales: Mapping[str, float], device: torch.device
) -> Difference | None:
    """The perceptual loss on the device, with the scales that `measured_scales` found; None when it has no weight."""
    layers = options.layers
    if extractors.lpips is not None and layers.lpips_trunk is not None:
        lpips = extractors.lpips
        return LpipsDifference(LPIPS(layers.lpips_trunk, lpips.state, source=lpips.source).to(device))
    weights = {Tap(layer=layer): weight for layer, weight in _perceptual_weights(options).items()}
    if extractors.vgg is None or not weights:
        return None
    perceptual_scales = {tap: scales[f"perceptual.{tap.layer}"] for tap in weights}
    vgg = _vgg(extractors.vgg, perceptual_scales, standardized=not layers.as_authors, autocast=True)
    return VggDifference(vgg.to(device), weights=weights, squared=layers.as_authors)


def _lr_layers(options: TrainOptions) -> dict[str, str]:
    """Loss -> VGG19 layer, of the degrader's losses that look through it; none in paired training."""
    if not isinstance(options, JointOptions):
        return {}
    return {loss: getattr(options.layers, loss) for loss in ("content", "cycle") if getattr(options.losses, loss)}


def _disc_taps(options: TrainOptions) -> list[Tap]:
    """Where a projected discriminator looks at VGG19; nowhere for others."""
    return list(PROJECTED_TAPS) if options.discriminator is Discriminator.PROJECTED else []


def _perceptual_weights(options: TrainOptions) -> dict[str, float]:
    """VGG19 layer -> weight of the perceptual loss; none when it has no weight, or is LPIPS."""
    return options.layers.perceptual_weights if options.losses.perceptual else {}


def _vgg(
    weights: FeatureWeights, scales: Mapping[Tap, float], *, standardized: bool = True, autocast: bool = False
) -> VGG19Features:
    return VGG19Features(
        weights.state, scales, scales=scales, normalize=standardized, autocast=autocast, source=weights.source
    )
