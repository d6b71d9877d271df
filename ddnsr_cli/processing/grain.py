"""Grain laid over a result, as strong as the noise of the image that it was made from."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.io.image import Pixels, rounded
from ddnsr_cli.metrics.noise import BRIGHTNESS_BINS, brightness_of, measure_noise

STRIP_ROWS = 64
_TABLE = 256  # steps of brightness in which the strength is looked up
_HEART, _SIDE = np.float32(0.5), np.float32(0.25)  # softens single pixels, which look like digital snow, into grain


@dataclass(frozen=True, kw_only=True, eq=False)  # arrays have no single answer to ==
class Grain:
    """How strong grain is to be, and how its channels go together; samples as fractions of white."""

    brightness: NDArray[np.float32]
    """Where the strength is known, as `noise.brightness_of` tells it, ascending, in [0, 1]."""

    strength: NDArray[np.float32]
    """Standard deviation there, mean over the channels (root of the mean variance)."""

    mixing: NDArray[np.float32]
    """(C, C): makes independent noise of deviation 1 into noise whose channels go together as the image's do."""


def grain_like(pixels: Pixels) -> Grain | None:
    """Grain like the noise of an image, (H, W, C) uint8 or uint16. None where that is not known.

    Its strength follows the brightness where the noise is known at several.
    """
    noise = measure_noise(pixels)
    if noise is None:
        return None
    known = [(index, level) for index, level in enumerate(noise.course) if level is not None]
    known = known or [(BRIGHTNESS_BINS // 2, noise.level)]
    return Grain(
        brightness=np.array([(index + 0.5) / BRIGHTNESS_BINS for index, _ in known], np.float32),
        strength=np.array([level / 255 for _, level in known], np.float32),
        mixing=_mixing(np.array(noise.correlation) * np.outer(noise.rgb, noise.rgb)),
    )


def _mixing(covariance: NDArray[np.float64]) -> NDArray[np.float32]:
    """A root of the covariance of the channels, scaled to a mean variance of 1."""
    scale = max(covariance.trace() / len(covariance), 1e-12)
    root: NDArray[np.float64] = np.linalg.cholesky(covariance / scale + 1e-6 * np.eye(len(covariance)))
    return root.astype(np.float32)


def add_grain(pixels: Pixels, like: Grain, *, amount: float, seed: tuple[int, ...]) -> None:
    """Lay grain over an image in place: (H, W, C), the channels those of `like`.

    Its standard deviation is `amount` times that of the noise at each brightness, and at most half of what a sample is
    away from black and white; its size is about one and a half pixels, whatever size the noise had. Same seed, same
    grain.
    """
    white = float(np.iinfo(pixels.dtype).max)
    steps = (np.arange(_TABLE, dtype=np.float32) + 0.5) / _TABLE
    table = (amount * white * np.interp(steps, like.brightness, like.strength)).astype(np.float32)
    grain = _grain_rows(pixels.shape, np.random.default_rng(seed))
    for top in range(0, len(pixels), STRIP_ROWS):
        strip = pixels[top : top + STRIP_ROWS].astype(np.float32)
        bright = np.minimum(brightness_of(strip) * (_TABLE / white), _TABLE - 1).astype(np.intp)
        # near black and white less, else what is cut off there would shift the colors
        strength = np.minimum(table[bright][..., None], np.minimum(strip, white - strip) / 2)
        strip += strength * (next(grain) @ like.mixing.T)
        pixels[top : top + STRIP_ROWS] = rounded(strip, pixels)


def _grain_rows(shape: tuple[int, ...], random: np.random.Generator) -> Iterator[NDArray[np.float32]]:
    """Strips of soft white noise of deviation 1, (rows, W, C); together they have no seams."""
    height, width, channels = shape
    gain = 1 / (_HEART**2 + 2 * _SIDE**2)  # the softening takes that much of the deviation away
    held = random.standard_normal((2, width + 2, channels), np.float32)
    for top in range(0, height, STRIP_ROWS):
        rows = min(STRIP_ROWS, height - top)
        fresh = random.standard_normal((rows, width + 2, channels), np.float32)
        block = np.concatenate((held, fresh))
        held = block[-2:]
        down: NDArray[np.float32] = block[1:-1] * _HEART + (block[:-2] + block[2:]) * _SIDE
        yield (down[:, 1:-1] * _HEART + (down[:, :-2] + down[:, 2:]) * _SIDE) * gain
