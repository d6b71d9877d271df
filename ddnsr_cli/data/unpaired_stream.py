"""An endless, exactly resumable stream of unpaired crops: noisy LR ones and clean HR ones of other scenes.

As in the paired stream, everything that batch `i` holds follows from (seed, i) alone. The two sides go through
their photos in orders of their own.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ddnsr_cli.data.config import StreamConfig
from ddnsr_cli.data.crop_stream import Pair
from ddnsr_cli.data.images import shrunk
from ddnsr_cli.data.sampler import ENDLESS, first_usable, no_batch_of_one_photo, random_crop, report_new, rounds
from ddnsr_cli.data.targets import PhotoSet, Refusal, read_or_refuse
from ddnsr_cli.errors import ConfigError, DataError

LR_SIDE, HR_SIDE = 1, 2  # keys of the two sides' seeds


@dataclass(frozen=True, kw_only=True)
class SideVisit:
    """The crops of one photo."""

    crops: Tensor
    """uint8, (crops_per_photo, 3, side, side)."""

    photo: Path
    """Where they are from."""

    refused: tuple[Refusal, ...]
    """Photos whose turn it was and that could not be used."""


@dataclass(frozen=True, kw_only=True)
class UnpairedVisit:
    """One visit to each side."""

    lr: SideVisit
    hr: SideVisit


@dataclass(frozen=True, kw_only=True)
class Side:
    """Where the crops of one side come from."""

    sets: tuple[PhotoSet, ...]
    """Visited in turn: each gives an equal share of the crops."""

    crop_px: int
    """Side of a crop, pixels."""

    crops_per_photo: int
    """Crops cut from a photo each time it is decoded."""

    seed: int
    key: int
    """Keeps the draws of this side apart from the other's."""

    def visit(self, visit: int) -> SideVisit:
        """The crops of a visit. Raises DataError when no photo of the set whose turn it is can be used."""
        turn, index = visit % len(self.sets), visit // len(self.sets)
        seed = int(np.random.SeedSequence([self.seed, 4, self.key, turn + 1]).generate_state(1)[0])
        photos = self.sets[turn]
        number, photo, refused = first_usable(index, len(photos.photos), seed, lambda one: self._read(photos, one))
        rng = np.random.default_rng([seed, 1, index])
        crops = [random_crop(photo, self.crop_px, rng) for _ in range(self.crops_per_photo)]
        return SideVisit(crops=torch.stack(crops), photo=photos.photos[number], refused=refused)

    def _read(self, photos: PhotoSet, number: int) -> NDArray[np.uint8] | Refusal:
        photo = read_or_refuse(photos.photos[number], photos.least_px(self.crop_px))
        return photo if isinstance(photo, Refusal) else shrunk(photo, photos.shrink)


class UnpairedVisits(Dataset[UnpairedVisit]):
    """Visit number -> crops of one noisy LR photo and of one clean HR photo. Stateless: see the module."""

    def __init__(self, *, lr: PhotoSet, hr: Sequence[PhotoSet], stream: StreamConfig, scale: int = 4) -> None:
        if stream.crop_px % scale:
            raise ConfigError(f"crop_px ({stream.crop_px}) must be a multiple of {scale}.")
        if not hr or not all(photo_set.photos for photo_set in (lr, *hr)):
            raise DataError("A set of photos is empty. Give photos for both sides.")
        self.stream = stream
        self.lr = self._side((lr,), crop_px=stream.crop_px // scale, key=LR_SIDE)
        self.hr = self._side(tuple(hr), crop_px=stream.crop_px, key=HR_SIDE)

    def _side(self, sets: tuple[PhotoSet, ...], *, crop_px: int, key: int) -> Side:
        count, seed = self.stream.crops_per_photo, self.stream.seed
        return Side(sets=sets, crop_px=crop_px, crops_per_photo=count, seed=seed, key=key)

    def __len__(self) -> int:
        return ENDLESS  # the loader asks for the visits that it wants

    def __getitem__(self, visit: int) -> UnpairedVisit:
        """The crops of one visit to each side. Raises DataError when no photo of a set can be used."""
        return UnpairedVisit(lr=self.lr.visit(visit), hr=self.hr.visit(visit))


def unpaired_batches(
    visits: UnpairedVisits, *, start: int, on_refused: Callable[[Refusal], None]
) -> Generator[Pair, None, None]:
    """Batches (lr_real, hr) from number `start` on, without end. Raises as `UnpairedVisits` does.

    lr_real: uint8, (N, 3, h, w); hr: uint8, (N, 3, scale * h, scale * w), of other scenes. on_refused: told once of
    each photo that turned out to be of no use. Close the generator to end its workers at once.
    """
    config = visits.stream
    first_round, given = divmod(start, config.batches_per_round)
    reported: set[Path] = set()
    numbered = rounds(visits, first_round=first_round, visits_per_round=config.photos_per_round, workers=config.workers)
    for number, buffer in numbered:
        refused = (refusal for visit in buffer for refusal in (*visit.lr.refused, *visit.hr.refused))
        report_new(refused, reported, on_refused)
        yield from _mixed(buffer, number, config, given if number == first_round else 0)


def _mixed(buffer: Sequence[UnpairedVisit], number: int, config: StreamConfig, given: int) -> Iterator[Pair]:
    sides = {LR_SIDE: [visit.lr for visit in buffer], HR_SIDE: [visit.hr for visit in buffer]}
    lr, hr = (torch.cat([visit.crops for visit in visits]) for visits in sides.values())
    lr_order, hr_order = (
        no_batch_of_one_photo(_dealt(config, number, key), _photos_of_crops(visits), config.batch)
        for key, visits in sides.items()
    )
    for first in range(given * config.batch, len(lr_order), config.batch):
        chosen = slice(first, first + config.batch)
        yield lr[lr_order[chosen]], hr[hr_order[chosen]]


def _photos_of_crops(visits: Sequence[SideVisit]) -> list[Path]:
    return [visit.photo for visit in visits for _ in visit.crops]


def _dealt(config: StreamConfig, number: int, key: int) -> NDArray[np.int64]:
    """An order of a round's crops that goes through all its visits again and again, each time in a new order.

    A batch no larger than the round's visits so holds hardly two crops of one visit.
    """
    rng = np.random.default_rng([config.seed, 5, number, key])
    turns = [rng.permutation(config.photos_per_round) for _ in range(config.crops_per_photo)]
    return np.concatenate([visits * config.crops_per_photo + crop for crop, visits in enumerate(turns)])
