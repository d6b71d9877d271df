"""The ways from an HR picture to its LR partner."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.data.baselines import add_gaussian, shrink_bicubic, whole_levels
from ddnsr_cli.data.degradation_config import DegradationConfig
from ddnsr_cli.data.degradations import degrade_image
from ddnsr_cli.data.noise import NoiseCrop, NoisePicture, draw_crop
from ddnsr_cli.data.noise_patches import PatchLimits, noise_field, smooth_patches
from ddnsr_cli.degrading import Levels, LevelsInMemory, OnTile, TiledDegrader
from ddnsr_cli.nets.degrader import SCALE
from ddnsr_cli.workflows.pairs.sources import DrawnPhoto, NoisePhotos

MOST_PLACES = 4096  # of a photo's smooth patches that are kept in mind


@dataclass(frozen=True, kw_only=True)
class Made:
    """An LR picture and the noise in it."""

    lr: Levels
    photo: DrawnPhoto | None = None
    crop: NoiseCrop | None = None


Method = Callable[[Levels, np.random.Generator, OnTile], Made]
"""From HR levels, their sides multiples of 4, to LR. All draws come from the generator. Called from several threads at
once. Raises DdnsrError.
"""


class Learned:
    """The degrader network, with a crop of a noisy photo as its second input; with none, for single-input ones."""

    def __init__(self, engine: TiledDegrader, photos: NoisePhotos | None) -> None:
        self.engine = engine
        self.photos = photos

    def __call__(self, hr: Levels, rng: np.random.Generator, on_tile: OnTile) -> Made:
        """See `Method`."""
        if self.photos is None:
            return Made(lr=self.engine.lr(LevelsInMemory(hr), None, on_tile=on_tile))
        photo, _ = self.photos.draw(rng, lambda _relative, _levels: True)
        height, width = (length // SCALE for length in hr.shape[:2])
        crop = draw_crop(rng, photo.levels, height=height, width=width)
        noise = NoisePicture(photo.levels, crop)
        return Made(lr=self.engine.lr(LevelsInMemory(hr), noise, on_tile=on_tile), photo=photo, crop=crop)


def bicubic(hr: Levels, _rng: np.random.Generator, _on_tile: OnTile) -> Made:
    """See `Method`: antialiased bicubic, no noise."""
    return Made(lr=whole_levels(shrink_bicubic(hr)))


def gaussian(sigma: float) -> Method:
    """Bicubic and white Gaussian noise of `sigma` levels."""

    def make(hr: Levels, rng: np.random.Generator, _on_tile: OnTile) -> Made:
        return Made(lr=whole_levels(add_gaussian(shrink_bicubic(hr), sigma, rng)))

    return make


def by_rule(config: DegradationConfig) -> Method:
    """Blur, resizing, noise and compression of one draw for the whole image."""

    def make(hr: Levels, rng: np.random.Generator, _on_tile: OnTile) -> Made:
        planes = np.ascontiguousarray(hr.transpose(2, 0, 1), np.float32)
        planes /= 255
        return Made(lr=np.ascontiguousarray(degrade_image(planes, config, rng).transpose(1, 2, 0)))

    return make


class Patches:
    """Bicubic and noise put together from smooth patches of a noisy photo."""

    def __init__(self, photos: NoisePhotos, limits: PatchLimits) -> None:
        self.photos = photos
        self.limits = limits
        self.places: dict[str, NDArray[np.intp] | None] = {}
        """Smooth patches of the photos met so far: found again, they would be the same."""

    def __call__(self, hr: Levels, rng: np.random.Generator, _on_tile: OnTile) -> Made:
        """See `Method`."""
        photo, places = self.photos.draw(rng, self._smooth)
        lr = shrink_bicubic(hr)
        lr += noise_field(photo.levels, places, height=lr.shape[0], width=lr.shape[1], rng=rng)
        return Made(lr=whole_levels(lr), photo=photo)

    def _smooth(self, relative: str, levels: Levels) -> NDArray[np.intp] | None:
        if relative not in self.places:
            found = smooth_patches(levels, self.limits)
            self.places[relative] = None if found is None else found[:: -(-len(found) // MOST_PLACES)]
        return self.places[relative]
