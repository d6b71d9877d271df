"""What is compared: bicubic, networks, and images that other programs have made; and what the user named of them."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image

from ddnsr_cli.commands.evaluate.dataset import Opened, find_finished, open_finished
from ddnsr_cli.commands.evaluate.measures import (
    ByPyiqa,
    Fidelity,
    LpipsMetric,
    Measure,
    Naturalness,
    NoiseAndDetail,
    SelfConsistency,
    load_pyiqa,
)
from ddnsr_cli.commands.evaluate.options import EvaluateListener, EvaluateOptions, Reference
from ddnsr_cli.config import SCALE
from ddnsr_cli.errors import ConfigError, HubError, WeightsError
from ddnsr_cli.files import is_folder, is_there
from ddnsr_cli.inference.degrader import LevelsInMemory, TiledDegrader
from ddnsr_cli.inference.device import choose_dtype
from ddnsr_cli.inference.net_upscaler import NetUpscaler
from ddnsr_cli.inference.tiling import PixelSource, TileConfig, as_pixels
from ddnsr_cli.inference.upscaler import Upscaler
from ddnsr_cli.io.image import rgb8
from ddnsr_cli.nets.lpips import LPIPS
from ddnsr_cli.reports.opinion_page import judged_models, refuse_unranked, refuse_unscored
from ddnsr_cli.reports.page import Rgb8
from ddnsr_cli.reports.results import BICUBIC
from ddnsr_cli.weights.checkpoint import load_degrader, load_sr_net, takes_noise
from ddnsr_cli.weights.feature_weights import load_lpips, load_niqe_model
from ddnsr_cli.weights.registry import Registry, read_registry
from ddnsr_cli.weights.resolve import FoundWeights, find_weights, released_entry

DEFAULT_TRUNK = "alex"  # what super-resolution papers report


class EvaluatedModel(Protocol):
    """Something that has, or makes, an SR image of every sample."""

    @property
    def label(self) -> str:
        """Its name in tables."""

    @property
    def origin(self) -> str:
        """Where its images are from, in a few words."""

    def image(self, opened: Opened) -> Rgb8:
        """The SR image of a sample, 4 times as large as its LR."""


@dataclass(frozen=True, kw_only=True)
class Bicubic:
    """Pillow's bicubic: what every model has to beat."""

    label: str = BICUBIC
    origin: str = "Pillow"

    def image(self, opened: Opened) -> Rgb8:
        """The LR image enlarged by bicubic interpolation."""
        assert opened.lr is not None  # bicubic takes part only where there are LR images
        image = Image.fromarray(rgb8(opened.lr))
        return np.array(image.resize((SCALE * image.width, SCALE * image.height), Image.Resampling.BICUBIC))


@dataclass(frozen=True, kw_only=True)
class Finished:
    """Images made elsewhere."""

    label: str
    origin: str
    paths: Mapping[str, Path]
    """By the name of the sample."""

    def image(self, opened: Opened) -> Rgb8:
        """The finished image, read. Raises ImageReadError or DataError, naming the file."""
        return open_finished(self.paths[opened.sample.name], opened)


@dataclass(frozen=True, kw_only=True)
class Network:
    """Weights, as they are: nothing is done to the network's result but rounding."""

    label: str
    origin: str
    engine: Upscaler
    note: Callable[[str], None]

    def image(self, opened: Opened) -> Rgb8:
        """The LR image enlarged by the network. Raises what `Upscaler.bands` raises."""
        assert opened.lr is not None  # networks take part only where there are LR images
        height, width, channels = opened.lr.pixels.shape
        canvas = np.empty((SCALE * height, SCALE * width, 3), np.uint8)
        for band in self.engine.bands(PixelSource(opened.lr.pixels), on_note=self.note):
            made = band.rows
            rows = as_pixels(made.mean(axis=0, keepdims=True) if channels == 1 else made, np.uint8)
            canvas[band.top : band.top + len(rows)] = rows
        return canvas


def load_network(found: FoundWeights, label: str, device: torch.device, note: Callable[[str], None]) -> Network:
    """A network on the device. Raises WeightsError for a file that is none, ConfigError for one that is not x4."""
    net, _ = load_sr_net(found.path)
    if net.traits.scale != SCALE:
        raise ConfigError(f"{found.name} enlarges {net.traits.scale} times; all that is compared enlarges {SCALE}.")
    engine = NetUpscaler(net, device=device, dtype=choose_dtype(device), tiles=TileConfig(), name=found.name)
    origin = f"sha256 {found.sha256}, {engine.dtype} on {device}"
    return Network(label=label, origin=origin, engine=engine, note=note)


def labeled(text: str) -> tuple[str | None, str]:
    """`NAME=WHAT` as (NAME, WHAT), anything else as (None, it).

    A path that holds `=` behind a slash is a path, and so is what is there as a whole while nothing is at WHAT.
    """
    name, equals, what = text.partition("=")
    is_path = is_there(_at_home(text)) and not is_there(_at_home(what))
    if not is_path and equals and name.strip() and what and "/" not in name and "\\" not in name:
        return name.strip(), what
    return None, text


def short_name(path_or_name: str) -> str:
    """What to call weights or a folder: the last part of a path, without a weights suffix; a Hub id as it is."""
    path = Path(path_or_name).expanduser()
    if is_folder(path):
        return path.resolve().name
    return path.stem if is_there(path) else path_or_name


def refuse_doubles(labels: Iterable[str]) -> None:
    """Raises ConfigError when two models are called the same."""
    seen: set[str] = set()
    for label in labels:
        if label in seen:
            raise ConfigError(f"Two of those compared are called {label!r}. Name one: NAME=MODEL, or --sr NAME=DIR.")
        seen.add(label)


class LearnedDegrade:
    """A degrader with the LR image itself as its noise input."""

    def __init__(self, found: FoundWeights, device: torch.device) -> None:
        """found: weights of a degrader. Raises WeightsError for a file that holds none, OutOfMemoryError."""
        net, metadata = load_degrader(found.path)
        dual_input = takes_noise(metadata, found.path)
        self._degrader = TiledDegrader(net, device=device, dual_input=dual_input, name=found.name)
        self.origin = f"{short_name(found.name)}, sha256 {found.sha256}"

    def __call__(self, sr: Rgb8, lr: Rgb8) -> Rgb8:
        """The SR image as the camera of `lr` would have taken it, of the size of `lr`."""
        return self._degrader.lr(LevelsInMemory(sr), LevelsInMemory(lr))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table."""

    label: str
    """Its name in the paper. `--models LABEL=...` fills the row, too."""

    weights: tuple[str, ...]
    """Released weights of that method, by their names in the registry."""

    how: str
    """How to get them."""


ROWS = (
    Row(label="ESRGAN", weights=("esrgan",), how="ddnsr weights pull esrgan"),
    Row(
        label="Impressionism",
        weights=("realsr-df2k-jpeg", "realsr-dped"),
        how="ddnsr weights pull realsr-dped; the paper's own is --models Impressionism=DF2K.pth",
    ),
    Row(label="DDNSR GAN", weights=("ddnsr-track1",), how="ddnsr train --track 1, then --models 'DDNSR GAN=RUN'"),
    Row(label="DDNSR L2", weights=(), how="ddnsr train --track 1 --l2, then --models 'DDNSR L2=RUN'"),
)


def rows_at_hand(registry: Registry, given: Iterable[str]) -> tuple[list[FoundWeights], list[Row]]:
    """(weights that are bundled or in the cache, rows for which there are none). Nothing is fetched.

    given: labels of the models that the user named; they fill the rows of these names. Our own released weights are
    always among the first. Raises WeightsError for a damaged file.
    """
    labels = {label.casefold() for label in given}
    own = [entry.name for entry in registry.entries if entry.own and entry.network == "rrdb"]
    found = [weights for name in own if (weights := _at_hand(name, registry))]
    missing: list[Row] = []
    for row in ROWS:
        if row.label.casefold() in labels:
            continue
        here = [weights for name in row.weights if (weights := _at_hand(name, registry))]
        found += [weights for weights in here if weights.name not in own]
        if not here:
            missing.append(row)
    return found, missing


def _at_hand(name: str, registry: Registry) -> FoundWeights | None:
    entry = registry.get(name)
    if entry is None or registry.lacks(entry):
        return None
    try:
        return find_weights(name, registry=registry, offline=True)
    except HubError:  # not in the cache
        return None


def load_models(
    options: EvaluateOptions, device: torch.device, listener: EvaluateListener
) -> tuple[EvaluatedModel, ...]:
    """Bicubic where there are LR images, then the networks, then the finished images, in the order given.

    Raises ConfigError when two are called the same, DataError for folders that do not fit, WeightsError, HubError.
    """
    finished = [_finished(text, options, listener) for text in options.sr]
    weights = _weights(options, read_registry(), listener)
    refuse_doubles([*([BICUBIC] if options.lr else []), *(label for label, _ in weights), *(f.label for f in finished)])
    _note_terms([found for _, found in weights], listener)
    networks = [load_network(found, label, device, listener.note) for label, found in weights]
    return (*([Bicubic()] if options.lr else []), *networks, *finished)


def load_downscaler(
    options: EvaluateOptions, device: torch.device, listener: EvaluateListener
) -> LearnedDegrade | None:
    """The degrader that is asked for. Raises WeightsError, HubError."""
    if options.degrader is None:
        return None
    found = find_weights(
        options.degrader,
        registry=read_registry(),
        network="degrader",
        offline=options.offline,
        on_progress=listener.download,
    )
    _note_terms([found], listener)
    return LearnedDegrade(found, device)


def load_lpips_metric(options: EvaluateOptions, device: torch.device, listener: EvaluateListener) -> LpipsMetric | None:
    """LPIPS; None when it is not wanted, or not at hand and not asked for by name: then a note says so.

    Its weights are fetched only when it is asked for by name. Raises WeightsError or HubError when they are not to be
    had then.
    """
    if options.hr is None or options.lpips == "none":
        return None
    trunk = options.lpips or DEFAULT_TRUNK
    try:
        weights = load_lpips(
            trunk,
            options.lpips_weights,
            option="--lpips-weights",
            offline=options.offline or options.lpips is None,
            on_progress=listener.download,
        )
        net = LPIPS(trunk, weights.state, source=weights.source).to(device)
    except WeightsError as error:
        if options.lpips is not None or options.lpips_weights is not None:
            raise
        absent = isinstance(error.__cause__, HubError)  # nothing is amiss: it was never fetched
        why = "its AlexNet is not here." if absent else str(error)
        without = " without --offline" if options.offline else ""
        listener.note(f"the table goes without LPIPS: {why} --lpips {trunk}{without} fetches it once (244 MB)")
        return None
    return LpipsMetric(trunk=trunk, origin=f"{weights.source}, sha256 {weights.sha256}", distance=net)


def choose_measures(
    options: EvaluateOptions, device: torch.device, lpips: LpipsMetric | None, degrade: LearnedDegrade | None
) -> list[Measure]:
    """What the folders allow: figures against the truth, else how consistent the results are with the LR images.

    Raises WeightsError when NIQE is wanted and its model is damaged, and as `load_pyiqa`.
    """
    at_lr_size = options.reference is Reference.LR_SIZE
    measures: list[Measure] = []
    crop_px = options.lr_crop_px if at_lr_size else options.crop_px
    if options.hr is not None:
        measures.append(Fidelity(crop_px=crop_px, device=device, lpips=lpips, at_lr_size=at_lr_size))
    if at_lr_size:
        measures.append(NoiseAndDetail(crop_px=options.lr_crop_px, device=device))
    if options.niqe:
        measures.append(Naturalness(crop_px=options.crop_px, model=load_niqe_model()))
    if options.pyiqa:
        scorers = load_pyiqa(options.pyiqa, device, has_reference=options.hr is not None)
        borders = {"crop_px": options.crop_px, "reference_crop_px": crop_px}
        measures.append(ByPyiqa(scorers=scorers, device=device, at_lr_size=at_lr_size, **borders))
    if options.hr is None or degrade is not None:
        measures.append(SelfConsistency(crop_px=options.lr_crop_px, device=device, degrade=degrade))
    return measures


def check_wishes(options: EvaluateOptions, models: tuple[EvaluatedModel, ...]) -> None:
    """Raises ConfigError, before the work, when the comparison or a blind page cannot be made of these models."""
    labels, against = [one.label for one in models], options.against
    if against is not None and against not in labels:
        raise ConfigError(f"--against {against}: none of those compared is called that. They are: {', '.join(labels)}.")
    if labels == [against]:
        raise ConfigError(f"--against {against}: nothing else is compared. Name more with -m or --sr, or leave it out.")
    if options.ranking is not None:
        refuse_unranked(judged_models(labels))
    if options.scoring is not None:
        has_truth = options.hr is not None and options.reference is Reference.HR
        refuse_unscored(judged_models(labels), has_truth=has_truth)


def _note_terms(weights: Iterable[FoundWeights], listener: EvaluateListener) -> None:
    for found in weights:
        if found.terms:
            listener.note(found.terms)


def path_named(text: str) -> Path:
    """The folder of finished images in a word of `--sr`, in which no shell has looked behind the `=`."""
    return _at_home(labeled(text)[1])


def local_networks(options: EvaluateOptions) -> list[Path]:
    """Files of weights, and folders of runs, that are named by their paths."""
    registry, degrader = read_registry(), [options.degrader] if options.degrader else []
    names = [*(labeled(text)[1] for text in options.models), *degrader]
    paths = [_at_home(name) for name in names if name != BICUBIC and released_entry(name, registry) is None]
    return [path for path in paths if is_there(path)]


def _at_home(text: str) -> Path:
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path raises where there is no such home


def _finished(text: str, options: EvaluateOptions, listener: EvaluateListener) -> Finished:
    label, folder = labeled(text)
    at_lr_size = options.reference is Reference.LR_SIZE
    truth = None if at_lr_size else options.hr
    paths = find_finished(path_named(text), options.lr, truth, rules=options.rules, note=listener.note)
    return Finished(label=label or short_name(folder), origin="finished images", paths=paths)


def _weights(
    options: EvaluateOptions, registry: Registry, listener: EvaluateListener
) -> list[tuple[str, FoundWeights]]:
    """(label, weights) of every network."""
    named = [labeled(text) for text in options.models if text != BICUBIC]
    if not options.models and not options.sr and not options.table3:
        named = [(None, registry.default.name)]
    given: list[tuple[str, FoundWeights]] = []
    for label, name in named:
        found = find_weights(name, registry=registry, offline=options.offline, on_progress=listener.download)
        given.append((label or (found.entry.name if found.entry else short_name(name)), found))
    if not options.table3:
        return given
    here, missing = rows_at_hand(registry, (label for label, _ in given))
    if missing:
        listed = "; ".join(f"{row.label} ({row.how})" for row in missing)
        listener.note(f"not in the table, for want of weights: {listed}")
    taken = {found.path for _, found in given}
    return [*((found.name, found) for found in here if found.path not in taken), *given]
