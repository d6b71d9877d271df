"""Real noise beside an HR picture: which part of which noisy photo, drawn so that nothing but names decides."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Photo = NDArray[np.uint8]
"""(H, W, 3), RGB."""

LEAST_NOISE_PX = 32
"""Shorter side of a noisy photo: a smaller one, mirrored again and again, is a pattern."""


@dataclass(frozen=True, kw_only=True)
class NoiseCrop:
    """A part of a noisy photo at its native resolution; beyond the photo's border it goes on mirrored."""

    top: int
    left: int
    height: int
    width: int


def pair_rng(seed: int, relative: str, variant: int) -> np.random.Generator:
    """The generator of one pair's draws: neither the order of work nor other pictures enter.

    relative: the HR picture's path below its folder, with slashes.
    """
    text = f"{seed}\n{variant}\n{relative}"
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def draw_crop(rng: np.random.Generator, photo: Photo, *, height: int, width: int) -> NoiseCrop:
    """A place for `height` x `width` pixels: anywhere inside where the photo is large enough, else anywhere."""
    top, left = (_start(rng, has, wanted) for has, wanted in zip(photo.shape[:2], (height, width), strict=True))
    return NoiseCrop(top=top, left=left, height=height, width=width)


class NoisePicture:
    """A crop of a noisy photo, read in windows; no pixel of it is copied before."""

    def __init__(self, photo: Photo, crop: NoiseCrop) -> None:
        self.height, self.width = crop.height, crop.width
        self._photo = photo
        self._rows = _mirrored(crop.top, crop.height, photo.shape[0])
        self._columns = _mirrored(crop.left, crop.width, photo.shape[1])

    def read(self, top: int, left: int, height: int, width: int) -> Photo:
        """The window (height, width, 3); it lies wholly within the crop."""
        rows, columns = self._rows[top : top + height], self._columns[left : left + width]
        return self._photo[rows[:, None], columns[None, :]]


def _start(rng: np.random.Generator, has: int, wanted: int) -> int:
    return int(rng.integers(0, has - wanted + 1 if has >= wanted else _period(has)))


def _mirrored(start: int, length: int, side: int) -> NDArray[np.intp]:
    """Indices into a photo that goes on mirrored, its last pixel not repeated: 0 1 2 1 0 1 2 for a side of 3."""
    place = np.arange(start, start + length) % _period(side)
    return np.minimum(place, _period(side) - place)


def _period(side: int) -> int:
    return max(1, 2 * side - 2)
