"""Fine grain laid over a result, as strong as the noise that was taken away."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.images.noise import Noise
from ddnsr_cli.images.picture import Pixels, rounded

STRIP_ROWS = 64
_TABLE = 256  # steps of brightness in which the strength is looked up
_HEART, _SIDE = np.float32(0.5), np.float32(0.25)  # softens single pixels, which look like digital snow, into grain


def add_grain(pixels: Pixels, noise: Noise, *, amount: float, seed: tuple[int, ...]) -> None:
    """Lay grain over a picture in place: (H, W, C), the channels those that `noise` was measured on.

    Its standard deviation is `amount` times that of the noise at each brightness, and at most half of what a sample is
    away from black and white; its size is about one and a half pixels, whatever size the noise had. Same seed, same
    grain.
    """
    white = float(np.iinfo(pixels.dtype).max)
    steps = (np.arange(_TABLE, dtype=np.float32) + 0.5) / _TABLE
    table = (amount * white * np.interp(steps, noise.brightness, noise.strength)).astype(np.float32)
    grain = _grain_rows(pixels.shape, np.random.default_rng(seed))
    for top in range(0, len(pixels), STRIP_ROWS):
        strip = pixels[top : top + STRIP_ROWS].astype(np.float32)
        bright = np.minimum(strip.mean(axis=2) * (_TABLE / white), _TABLE - 1).astype(np.intp)
        # near black and white less, else what is cut off there would shift the colours
        strength = np.minimum(table[bright][..., None], np.minimum(strip, white - strip) / 2)
        strip += strength * (next(grain) @ noise.mixing.T)
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
