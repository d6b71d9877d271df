"""Training pairs whose LR side a learned degrader makes, from clean crops and the noise of real LR photos."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddnsr_cli.data.crop_stream import CropVisits, PairVisit, StreamConfig
from ddnsr_cli.data.sampler import first_usable, random_crop
from ddnsr_cli.data.targets import Refusal, read_or_refuse

Degrade = Callable[[Tensor, Tensor], Tensor]
"""(hr (N, 3, scale * h, scale * w), lr_real (N, 3, h, w)) in [0, 1] -> (N, 3, h, w). Workers get a copy."""

NOISE_KEY = 6  # keeps the order of the noisy photos apart from that of the clean ones


class DegradedPairs(CropVisits):
    """Visits to clean photos, whose crops a degrader shrinks with noise from other photos."""

    def __init__(
        self, photos: Sequence[Path], noisy: Sequence[Path], stream: StreamConfig, *, scale: int, degrade: Degrade
    ) -> None:
        """photos: clean HR ones. noisy: real LR ones. scale: HR pixels per LR pixel along a side."""
        super().__init__(stream, len(photos))
        self.photos = list(photos)
        self.noisy = list(noisy)
        self.scale = scale
        self.degrade = degrade
        self.noise_seed = int(np.random.SeedSequence([stream.seed, NOISE_KEY]).generate_state(1)[0])

    def __getitem__(self, visit: int) -> PairVisit:
        """The crops of one visit. Raises DataError when no photo of a side can be used."""
        number, photo, refused = self.first_usable(visit, self._read_hr)
        _, noise, also = first_usable(visit, len(self.noisy), self.noise_seed, self._read_lr)
        rng = np.random.default_rng([self.stream.seed, 1, visit])
        count, side = self.stream.crops_per_photo, self.stream.crop_px
        hr = torch.stack([random_crop(photo, side, rng) for _ in range(count)])
        lr_real = torch.stack([random_crop(noise, side // self.scale, rng) for _ in range(count)])
        with torch.inference_mode():
            lr = self.degrade(hr.float() / 255, lr_real.float() / 255)
        levels = lr.mul(255).round().clamp(0, 255).to(torch.uint8).clone()
        return PairVisit(crops=(levels, hr), photo=number, refused=(*refused, *also))

    def _read_hr(self, number: int) -> NDArray[np.uint8] | Refusal:
        return read_or_refuse(self.photos[number], self.stream.crop_px)

    def _read_lr(self, number: int) -> NDArray[np.uint8] | Refusal:
        return read_or_refuse(self.noisy[number], self.stream.crop_px // self.scale)
