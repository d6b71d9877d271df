"""The pairs of a paired run: from folders to a stream of crops, with a record of what they are."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddnsr_cli.commands.train.image_warnings import ImageWarnings
from ddnsr_cli.commands.train.networks import describe_weights
from ddnsr_cli.commands.train.run_folder import image_list
from ddnsr_cli.data.config import StreamConfig
from ddnsr_cli.data.crop_stream import DegradedPairs, MixedPairs, PairDataset, ReadyPairs, RulePairs, least_image_px
from ddnsr_cli.data.images import PLAIN, PairRules, list_images, match_pairs
from ddnsr_cli.data.targets import ImageSet, usable_part
from ddnsr_cli.errors import DataError, shown
from ddnsr_cli.nets.degrader import Degrader
from ddnsr_cli.training.paired_options import PairedOptions, PairSource, SourceKind
from ddnsr_cli.weights.checkpoint import load_degrader, takes_noise

LEAST_IMAGES = 2  # a batch is not to be of one image alone
SOURCE_KEY = 7  # sources of the same images are not to show the same crops


@dataclass(frozen=True, kw_only=True)
class SourcePaths:
    """Where a source of pairs lies."""

    hr: Path
    """Folder of clean HR images."""

    lr: Path | None = None
    """Folder of their ready LR partners, the same names; or of the noisy images that a degrader takes noise from."""

    degrader: Path | None = None
    """Weights of a degrader."""

    rules: PairRules = PLAIN
    """How ready partners are found."""


@dataclass(frozen=True, kw_only=True)
class PairsInUse:
    """What a run learns from."""

    dataset: PairDataset
    digests: dict[str, str] = field(default_factory=dict)
    """Of the images of each source and side, as `hr` and `lr`, `hr_2` and `lr_2`, ...; empty for a side made on the
    way."""

    record: list[dict[str, object]] = field(default_factory=list)
    """What the sources are, for the card."""


class LearnedDegradation:
    """A degrader as the function that `DegradedPairs` calls, in whichever process that is."""

    def __init__(self, weights: Path) -> None:
        """Raises WeightsError for a file of no use."""
        net, metadata = load_degrader(weights)
        self.net: Degrader = net.float()
        self._takes_noise = takes_noise(metadata, weights)

    def __call__(self, hr: Tensor, lr_real: Tensor) -> Tensor:
        """LR of `hr` (N, 3, 4h, 4w) with the noise of `lr_real` (N, 3, h, w), in [0, 1].

        A degrader of a single input is given zeros for it, as in its own training.
        """
        lr: Tensor = self.net(hr, lr_real if self._takes_noise else torch.zeros_like(lr_real))
        return lr


def open_pairs(options: PairedOptions, paths: Sequence[SourcePaths], warnings: ImageWarnings) -> PairsInUse:
    """The stream of all sources. Images that cannot be used are reported and left out.

    Raises DataError when fewer than two are left in a source, WeightsError for a degrader of no use.
    """
    datasets: list[PairDataset] = []
    digests: dict[str, str] = {}
    record: list[dict[str, object]] = []
    for number, (source, path) in enumerate(zip(options.sources, paths, strict=True), 1):
        stream = _stream_of(options.stream, number)
        opened, hr, lr = _open(source, path, stream, options.network.scale, warnings)
        datasets.append(opened)
        mark = f"_{number}" if number > 1 else ""
        digests |= {f"hr{mark}": image_list(path.hr, hr), f"lr{mark}": image_list(path.lr, lr) if path.lr else ""}
        record.append(_describe_source(source, path, len(hr)))
    return PairsInUse(dataset=_joined(datasets, options), digests=digests, record=record)


def _stream_of(stream: StreamConfig, number: int) -> StreamConfig:
    """The stream of a source, counted from 1, with a seed of its own; the first has that of the run."""
    seeds = np.random.SeedSequence([stream.seed, SOURCE_KEY, number]).generate_state(1)
    return stream if number == 1 else replace(stream, seed=int(seeds[0]))


def _joined(datasets: Sequence[PairDataset], options: PairedOptions) -> PairDataset:
    return datasets[0] if len(datasets) == 1 else MixedPairs(datasets, options.shares)


def _open(
    source: PairSource, paths: SourcePaths, stream: StreamConfig, scale: int, warnings: ImageWarnings
) -> tuple[PairDataset, list[Path], list[Path]]:
    """(dataset, HR images, LR images) of a source."""
    if source.kind is SourceKind.READY and paths.lr is not None:
        pairs = match_pairs(paths.lr, paths.hr, scale=scale, rules=paths.rules, note=warnings.note)
        usable = set(_usable([pair.hr for pair in pairs], stream.crop_px, warnings))
        pairs = [pair for pair in pairs if pair.hr in usable]
        return ReadyPairs(pairs, stream, scale), [pair.hr for pair in pairs], [pair.lr for pair in pairs]
    if source.kind is SourceKind.LEARNED and paths.lr is not None and paths.degrader is not None:
        hr = _usable(list_images(paths.hr), stream.crop_px, warnings)
        lr = _usable(list_images(paths.lr), stream.crop_px // scale, warnings)
        return DegradedPairs(hr, lr, stream, scale=scale, degrade=LearnedDegradation(paths.degrader)), hr, lr
    assert source.degradation is not None
    hr = _usable(list_images(paths.hr), least_image_px(stream, scale), warnings)
    return RulePairs(hr, stream, source.degradation), hr, []


def _usable(images: Sequence[Path], least_px: int, warnings: ImageWarnings) -> list[Path]:
    """The images whose shorter side has `least_px` pixels. Raises DataError for fewer than two."""
    part, refused = usable_part(ImageSet(images=tuple(images)), crop_px=least_px)
    warnings.refusals(refused)
    if len(part.images) < LEAST_IMAGES:
        raise DataError(
            f"Of {len(images)} images only {shown(part.images[0])} can be used: it has {least_px} pixels or more a "
            f"side. A batch is not to be of one image alone: give {LEAST_IMAGES} such images or more."
        )
    return list(part.images)


def _describe_source(source: PairSource, paths: SourcePaths, images: int) -> dict[str, object]:
    return {
        "kind": str(source.kind),
        "share": source.share,
        "hr": paths.hr.name,
        "lr": paths.lr.name if paths.lr else None,
        "degrader": describe_weights(paths.degrader),
        "images": images,
    }
