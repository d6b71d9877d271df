"""Training crops of pairs that lie in two folders: the same stream as of pairs made on the way."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddnsr_cli.data.pairs import PhotoPair
from ddnsr_cli.data.stream import CropVisits, Pair, PairVisit, StreamConfig
from ddnsr_cli.data.targets import Refusal, read_or_refuse

Photos = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""(lr, hr)."""


class ReadyPairs(CropVisits):
    """Visits to pairs of photos."""

    def __init__(self, pairs: Sequence[PhotoPair], stream: StreamConfig, scale: int) -> None:
        """scale: HR pixels per LR pixel along a side."""
        super().__init__(stream, len(pairs))
        self.pairs = list(pairs)
        self.scale = scale

    def __getitem__(self, visit: int) -> PairVisit:
        """The crops of one visit. Raises DataError when no pair can be used."""
        number, (lr, hr), refused = self.first_usable(visit, self._read)
        rng = np.random.default_rng([self.stream.seed, 1, visit])
        side = self.stream.crop_px // self.scale
        crops = [self._crop(lr, hr, side, rng) for _ in range(self.stream.crops_per_photo)]
        lr_crops, hr_crops = (torch.stack(list(half)) for half in zip(*crops, strict=True))
        return PairVisit(crops=(lr_crops, hr_crops), photo=number, refused=refused)

    def _read(self, number: int) -> Photos | Refusal:
        """A pair, or what is wrong with one of the two."""
        pair, side = self.pairs[number], self.stream.crop_px // self.scale
        lr, hr = read_or_refuse(pair.lr, side), read_or_refuse(pair.hr, side * self.scale)
        if isinstance(lr, Refusal):
            return lr
        if isinstance(hr, Refusal):
            return hr
        if hr.shape[:2] != (lr.shape[0] * self.scale, lr.shape[1] * self.scale):
            return Refusal(path=pair.hr, reason=f"{pair.hr} is not {self.scale} times {pair.lr}. Remove the pair.")
        return lr, hr

    def _crop(self, lr: NDArray[np.uint8], hr: NDArray[np.uint8], side: int, rng: np.random.Generator) -> Pair:
        """One place in both, flipped and turned alike by one of the eight symmetries of the square."""
        top, left = (int(rng.integers(0, length - side + 1)) for length in lr.shape[:2])
        turns, mirrored = int(rng.integers(4)), bool(rng.random() < 0.5)
        large = [self.scale * px for px in (top, left, side)]
        return _turned(lr, (top, left, side), turns, mirrored), _turned(hr, tuple(large), turns, mirrored)


def _turned(photo: NDArray[np.uint8], place: tuple[int, ...], turns: int, mirrored: bool) -> Tensor:
    top, left, side = place
    crop = torch.from_numpy(photo[top : top + side, left : left + side]).permute(2, 0, 1)
    turned = torch.rot90(crop, turns, (1, 2))
    return (turned.flip(2) if mirrored else turned).contiguous()
