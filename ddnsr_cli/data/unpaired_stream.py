"""An endless, exactly resumable stream of unpaired crops: noisy LR ones, noise inputs of the same images, and clean HR
ones of other scenes.

As in the paired stream, everything that batch `i` holds follows from (seed, i) alone. The two sides go through
their images in orders of their own.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ddnsr_cli.data.config import NoiseInput, StreamConfig
from ddnsr_cli.data.images import shrunk
from ddnsr_cli.data.noise_patches import NoiseInputs
from ddnsr_cli.data.sampler import ENDLESS, first_usable, no_batch_of_one_image, random_crop, report_new, rounds
from ddnsr_cli.data.targets import ImageSet, Refusal, read_or_refuse
from ddnsr_cli.errors import ConfigError, DataError

LR_SIDE, HR_SIDE = 1, 2  # keys of the two sides' seeds
NOISE_KEY = 7  # keeps the draws of the noise inputs apart from those of the crops

UnpairedBatch = tuple[Tensor, Tensor, Tensor]
"""(lr_real, hr, noise): uint8, (N, 3, h, w), (N, 3, scale * h, scale * w) of other scenes, and (N, 3, h, w): what a
degrader is given of the images that `lr_real` is of.
"""


@dataclass(frozen=True, kw_only=True)
class SideCrops:
    """The crops of one image."""

    crops: Tensor
    """uint8, (crops_per_image, 3, side, side)."""

    image: Path
    """Where they are from."""

    refused: tuple[Refusal, ...]
    """Images whose turn it was and that could not be used."""

    noise: Tensor | None = None
    """uint8, of the shape of `crops`: what a degrader is given of the image, where that is another thing."""

    @property
    def noise_inputs(self) -> Tensor:
        """What a degrader is given of the image."""
        return self.crops if self.noise is None else self.noise


@dataclass(frozen=True, kw_only=True)
class UnpairedCrops:
    """One image of each side."""

    lr: SideCrops
    hr: SideCrops


@dataclass(frozen=True, kw_only=True)
class Side:
    """Where the crops of one side come from."""

    sets: tuple[ImageSet, ...]
    """Taken in turn: each gives an equal share of the crops."""

    crop_px: int
    """Side of a crop, pixels."""

    crops_per_image: int
    """Crops cut from an image each time it is decoded."""

    seed: int
    key: int
    """Keeps the draws of this side apart from the other's."""

    noise: NoiseInputs | None = None
    """Makes noise inputs of the images, too; None: none are wanted."""

    def crops(self, item: int) -> SideCrops:
        """The crops of an item. Raises DataError when no image of the set whose turn it is can be used."""
        turn, index = item % len(self.sets), item // len(self.sets)
        seed = int(np.random.SeedSequence([self.seed, 4, self.key, turn + 1]).generate_state(1)[0])
        chosen = self.sets[turn]
        number, image, refused = first_usable(index, len(chosen.images), seed, lambda one: self._read(chosen, one))
        rng = np.random.default_rng([seed, 1, index])
        crops = torch.stack([random_crop(image, self.crop_px, rng) for _ in range(self.crops_per_image)])
        path = chosen.images[number]
        noise = self.noise(path, image, crops, seed=(seed, NOISE_KEY, index)) if self.noise is not None else None
        return SideCrops(crops=crops, image=path, refused=refused, noise=noise)

    def _read(self, chosen: ImageSet, number: int) -> NDArray[np.uint8] | Refusal:
        image = read_or_refuse(chosen.images[number], chosen.least_px(self.crop_px))
        return image if isinstance(image, Refusal) else shrunk(image, chosen.shrink)


class UnpairedDataset(Dataset[UnpairedCrops]):
    """Item number -> crops of one noisy LR image and of one clean HR image. Stateless: see the module."""

    def __init__(self, *, lr: ImageSet, hr: Sequence[ImageSet], stream: StreamConfig, scale: int = 4) -> None:
        if stream.crop_px % scale:
            raise ConfigError(f"--crop must be a multiple of {scale}, got {stream.crop_px}.")
        if not hr or not all(image_set.images for image_set in (lr, *hr)):
            raise DataError("A set of images is empty. Give images for both sides.")
        self.stream = stream
        lr_side = self._side((lr,), crop_px=stream.crop_px // scale, key=LR_SIDE)
        self.lr = lr_side if stream.noise_input is NoiseInput.CROP else replace(lr_side, noise=NoiseInputs())
        self.hr = self._side(tuple(hr), crop_px=stream.crop_px, key=HR_SIDE)

    def _side(self, sets: tuple[ImageSet, ...], *, crop_px: int, key: int) -> Side:
        count, seed = self.stream.crops_per_image, self.stream.seed
        return Side(sets=sets, crop_px=crop_px, crops_per_image=count, seed=seed, key=key)

    def __len__(self) -> int:
        return ENDLESS  # the loader asks for the items that it wants

    def __getitem__(self, item: int) -> UnpairedCrops:
        """The crops of one image of each side. Raises DataError when no image of a set can be used."""
        return UnpairedCrops(lr=self.lr.crops(item), hr=self.hr.crops(item))


def unpaired_batches(
    dataset: UnpairedDataset, *, start: int, on_refused: Callable[[Refusal], None]
) -> Generator[UnpairedBatch, None, None]:
    """Batches (lr_real, hr, noise) from number `start` on, without end. Raises as `UnpairedDataset` does.

    on_refused: called once for
    each image that turned out to be of no use. Close the generator to end its workers at once.
    """
    config = dataset.stream
    first_round, given = divmod(start, config.batches_per_round)
    reported: set[Path] = set()
    numbered = rounds(
        dataset, first_round=first_round, images_per_round=config.images_per_round, workers=config.workers
    )
    for number, buffer in numbered:
        refused = (refusal for item in buffer for refusal in (*item.lr.refused, *item.hr.refused))
        report_new(refused, reported, on_refused)
        yield from _mixed(buffer, number, config, given if number == first_round else 0)


def _mixed(buffer: Sequence[UnpairedCrops], number: int, config: StreamConfig, given: int) -> Iterator[UnpairedBatch]:
    sides = {LR_SIDE: [item.lr for item in buffer], HR_SIDE: [item.hr for item in buffer]}
    lr, hr = (torch.cat([item.crops for item in items]) for items in sides.values())
    noise = torch.cat([item.noise_inputs for item in sides[LR_SIDE]])
    lr_order, hr_order = (
        no_batch_of_one_image(_dealt(config, number, key), _images_of_crops(items), config.batch)
        for key, items in sides.items()
    )
    for first in range(given * config.batch, len(lr_order), config.batch):
        chosen = slice(first, first + config.batch)
        yield lr[lr_order[chosen]], hr[hr_order[chosen]], noise[lr_order[chosen]]


def _images_of_crops(items: Sequence[SideCrops]) -> list[Path]:
    return [item.image for item in items for _ in item.crops]


def _dealt(config: StreamConfig, number: int, key: int) -> NDArray[np.int64]:
    """An order of a round's crops that goes through all its images again and again, each time in a new order.

    A batch no larger than the round's images so holds hardly two crops of one image.
    """
    rng = np.random.default_rng([config.seed, 5, number, key])
    turns = [rng.permutation(config.images_per_round) for _ in range(config.crops_per_image)]
    return np.concatenate([images * config.crops_per_image + crop for crop, images in enumerate(turns)])
