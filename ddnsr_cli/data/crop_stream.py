"""An endless, exactly resumable stream of training pairs.

LR is made of HR on the way, by rule or by a degrader, or lies ready beside it; and several such sources, each with its
share, can be one.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ddnsr_cli.data.config import CYCLE, DegradationConfig, NoiseInput, Shares, StreamConfig
from ddnsr_cli.data.degradations import degrade
from ddnsr_cli.data.images import ImagePair
from ddnsr_cli.data.noise_patches import NoiseInputs
from ddnsr_cli.data.sampler import ENDLESS, Usable, first_usable, no_batch_of_one_image, random_crop, report_new, rounds
from ddnsr_cli.data.targets import Refusal, read_or_refuse
from ddnsr_cli.errors import ConfigError

MARGIN_LR_PX = 4  # twice this is degraded beside a crop and cut off, at a drawn offset: JPEG blocks lie anywhere

Pair = tuple[Tensor, Tensor]
"""(lr, hr): uint8, (N, 3, h, w) and (N, 3, scale * h, scale * w)."""

Images = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""(lr, hr)."""


@dataclass(frozen=True, kw_only=True)
class PairCrops:
    """The crops of one image, or of one pair."""

    crops: Pair
    """`crops_per_image` of them."""

    image: int
    """Number of the image."""

    refused: tuple[Refusal, ...]
    """Images whose turn it was and that could not be used."""


class PairDataset(Dataset[PairCrops]):
    """Item number -> (lr, hr) crops of one image. Stateless: see the module."""

    def __init__(self, stream: StreamConfig, images: int) -> None:
        """images: how many there are."""
        self.stream = stream
        self.images_in_all = images

    def __len__(self) -> int:
        return ENDLESS  # the loader asks for the items that it wants

    def first_usable(
        self, item: int, read: Callable[[int], Usable | Refusal]
    ) -> tuple[int, Usable, tuple[Refusal, ...]]:
        """As the function of this name. Raises DataError when no image can be used."""
        return first_usable(item, self.images_in_all, self.stream.seed, read)


class RulePairs(PairDataset):
    """Clean images, whose crops are degraded by rule."""

    def __init__(self, images: Sequence[Path], stream: StreamConfig, degradation: DegradationConfig) -> None:
        super().__init__(stream, len(images))
        self.images = list(images)
        self.degradation = degradation

    def __getitem__(self, item: int) -> PairCrops:
        """The crops of one image. Raises DataError when no image can be used."""
        number, image, refused = self.first_usable(item, self._read)
        rng = np.random.default_rng([self.stream.seed, 1, item])
        side = least_image_px(self.stream, self.degradation.scale)
        wide = torch.stack([random_crop(image, side, rng) for _ in range(self.stream.crops_per_image)])
        lr = degrade(wide.float() / 255, self.degradation, rng)
        crops = _cut_margin(lr, wide, self.stream.crop_px, self.degradation.scale, rng)
        return PairCrops(crops=crops, image=number, refused=refused)

    def _read(self, number: int) -> NDArray[np.uint8] | Refusal:
        return read_or_refuse(self.images[number], least_image_px(self.stream, self.degradation.scale))


def least_image_px(stream: StreamConfig, scale: int) -> int:
    """Shorter side that an image needs, HR pixels."""
    return stream.crop_px + 2 * MARGIN_LR_PX * scale


def batches(dataset: PairDataset, *, start: int, on_refused: Callable[[Refusal], None]) -> Generator[Pair, None, None]:
    """Batches from number `start` on, without end. Raises as the dataset does.

    on_refused: called once for each image that turned out to be of no use.
    Close the generator to end its workers at once.
    """
    config = dataset.stream
    first_round, skipped = divmod(start, config.batches_per_round)
    numbered = rounds(
        dataset, first_round=first_round, images_per_round=config.images_per_round, workers=config.workers
    )
    reported: set[Path] = set()
    for number, buffer in numbered:
        report_new((refusal for item in buffer for refusal in item.refused), reported, on_refused)
        yield from _mixed(buffer, number, config, skipped if number == first_round else 0)


def _mixed(buffer: Sequence[PairCrops], number: int, config: StreamConfig, skipped: int) -> Iterator[Pair]:
    lr, hr = (torch.cat(crops) for crops in zip(*(item.crops for item in buffer), strict=True))
    order = np.random.default_rng([config.seed, 3, number]).permutation(len(lr))
    images = [item.image for item in buffer]
    order = no_batch_of_one_image(order, np.repeat(images, config.crops_per_image).tolist(), config.batch)
    for first in range(skipped * config.batch, len(order), config.batch):
        chosen = order[first : first + config.batch]
        yield lr[chosen], hr[chosen]


def _cut_margin(lr: Tensor, hr: Tensor, crop_px: int, scale: int, rng: np.random.Generator) -> Pair:
    top, left = (int(offset) for offset in rng.integers(0, 2 * MARGIN_LR_PX + 1, size=2))
    side = crop_px // scale
    lr_crop = lr[..., top : top + side, left : left + side]
    hr_crop = hr[..., top * scale :, left * scale :][..., :crop_px, :crop_px]
    return lr_crop.contiguous(), hr_crop.contiguous()


class ReadyPairs(PairDataset):
    """Pairs of images."""

    def __init__(self, pairs: Sequence[ImagePair], stream: StreamConfig, scale: int) -> None:
        """scale: HR pixels per LR pixel along a side."""
        super().__init__(stream, len(pairs))
        self.pairs = list(pairs)
        self.scale = scale

    def __getitem__(self, item: int) -> PairCrops:
        """The crops of one image. Raises DataError when no pair can be used."""
        number, (lr, hr), refused = self.first_usable(item, self._read)
        rng = np.random.default_rng([self.stream.seed, 1, item])
        side = self.stream.crop_px // self.scale
        crops = [self._crop(lr, hr, side, rng) for _ in range(self.stream.crops_per_image)]
        lr_crops, hr_crops = (torch.stack(list(half)) for half in zip(*crops, strict=True))
        return PairCrops(crops=(lr_crops, hr_crops), image=number, refused=refused)

    def _read(self, number: int) -> Images | Refusal:
        """A pair, or what is wrong with one of the two."""
        pair, side = self.pairs[number], self.stream.crop_px // self.scale
        lr, hr = read_or_refuse(pair.lr, side), read_or_refuse(pair.hr, side * self.scale)
        if isinstance(lr, Refusal):
            return lr
        if isinstance(hr, Refusal):
            return hr
        lr, hr = pair.cut(lr, hr)
        if hr.shape[:2] != (lr.shape[0] * self.scale, lr.shape[1] * self.scale):
            return Refusal(path=pair.hr, reason=f"{pair.hr} is not {self.scale} times {pair.lr}. Remove the pair.")
        return lr, hr

    def _crop(self, lr: NDArray[np.uint8], hr: NDArray[np.uint8], side: int, rng: np.random.Generator) -> Pair:
        """One place in both, flipped and turned alike by one of the eight symmetries of the square."""
        top, left = (int(rng.integers(0, length - side + 1)) for length in lr.shape[:2])
        turns, mirrored = int(rng.integers(4)), bool(rng.random() < 0.5)
        large = [self.scale * px for px in (top, left, side)]
        return _turned(lr, (top, left, side), turns, mirrored), _turned(hr, tuple(large), turns, mirrored)


def _turned(image: NDArray[np.uint8], place: tuple[int, ...], turns: int, mirrored: bool) -> Tensor:
    top, left, side = place
    crop = torch.from_numpy(image[top : top + side, left : left + side]).permute(2, 0, 1)
    turned = torch.rot90(crop, turns, (1, 2))
    return (turned.flip(2) if mirrored else turned).contiguous()


class MixedPairs(PairDataset):
    """Item number -> crops of the source whose turn it is. Each goes through its own images in its own order."""

    def __init__(self, sources: Sequence[PairDataset], shares: Shares) -> None:
        """sources: all of one `StreamConfig`, one for each share. Raises ConfigError when their numbers differ."""
        if len(sources) != len(shares.parts):
            raise ConfigError(f"There are {len(sources)} sources of pairs and {len(shares.parts)} shares.")
        super().__init__(sources[0].stream, sum(source.images_in_all for source in sources))
        self.sources = list(sources)
        self.order = shares.order
        self.before = [self.order[:place].count(source) for place, source in enumerate(self.order)]
        self.turns = shares.turns

    def __getitem__(self, item: int) -> PairCrops:
        """The crops of one image. Raises DataError when no image of its source can be used."""
        cycle, place = divmod(item, CYCLE)
        source = self.order[place]
        found = self.sources[source][cycle * self.turns[source] + self.before[place]]
        first = sum(one.images_in_all for one in self.sources[:source])
        return PairCrops(crops=found.crops, image=first + found.image, refused=found.refused)


Degrade = Callable[[Tensor, Tensor], Tensor]
"""(hr (N, 3, scale * h, scale * w), lr_real (N, 3, h, w)) in [0, 1] -> (N, 3, h, w). Workers get a copy."""

NOISE_KEY = 6  # keeps the order of the noisy images apart from that of the clean ones


class DegradedPairs(PairDataset):
    """Clean images, whose crops a degrader shrinks with noise from other images."""

    def __init__(
        self, images: Sequence[Path], noisy: Sequence[Path], stream: StreamConfig, *, scale: int, degrade: Degrade
    ) -> None:
        """images: clean HR ones. noisy: real LR ones. scale: HR pixels per LR pixel along a side."""
        super().__init__(stream, len(images))
        self.images = list(images)
        self.noisy = list(noisy)
        self.scale = scale
        self.degrade = degrade
        self.inputs = None if stream.noise_input is NoiseInput.CROP else NoiseInputs()
        self.noise_seed = int(np.random.SeedSequence([stream.seed, NOISE_KEY]).generate_state(1)[0])

    def __getitem__(self, item: int) -> PairCrops:
        """The crops of one image. Raises DataError when no image of a side can be used."""
        number, image, refused = self.first_usable(item, self._read_hr)
        place, noise, also = first_usable(item, len(self.noisy), self.noise_seed, self._read_lr)
        rng = np.random.default_rng([self.stream.seed, 1, item])
        count, side = self.stream.crops_per_image, self.stream.crop_px
        hr = torch.stack([random_crop(image, side, rng) for _ in range(count)])
        lr_real = torch.stack([random_crop(noise, side // self.scale, rng) for _ in range(count)])
        given = lr_real
        if self.inputs is not None:
            given = self.inputs(self.noisy[place], noise, lr_real, seed=(self.noise_seed, 1, item))
        with torch.inference_mode():
            lr = self.degrade(hr.float() / 255, given.float() / 255)
        levels = lr.mul(255).round().clamp(0, 255).to(torch.uint8).clone()
        return PairCrops(crops=(levels, hr), image=number, refused=(*refused, *also))

    def _read_hr(self, number: int) -> NDArray[np.uint8] | Refusal:
        return read_or_refuse(self.images[number], self.stream.crop_px)

    def _read_lr(self, number: int) -> NDArray[np.uint8] | Refusal:
        return read_or_refuse(self.noisy[number], self.stream.crop_px // self.scale)
