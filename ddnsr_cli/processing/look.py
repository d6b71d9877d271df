"""What gives a result its look: colors that follow the input, the distance from the input, grain.

Networks shift colors, those trained against a discriminator most. The error is what the shrunk result has more than
the input. Of it the fast part is the network's work (noise taken away, detail made), the slow part a fault. A plain
blur as the divide would carry the fault of one object over its edge into the next, as a halo. So within each window
the error is fitted as a straight line over the result's own brightness, which is flat where the result is flat and
steps where it steps: the guided filter of He, Sun and Tang (2013), of linear cost whatever the window.

Grain laid over a result is as strong as the noise of the image that it was made from.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.io.image import Pixels, rounded
from ddnsr_cli.metrics.noise import BRIGHTNESS_BINS, brightness_of, measure_noise
from ddnsr_cli.processing.resize import Planes

RADIUS_PX = 6
"""Of the windows, LR pixels. What is slower than some 12 pixels follows the input."""

REACH_PX = 2 * RADIUS_PX
"""How many LR rows above and below a row are looked at: the windows are used twice, to fit and to smooth the fit."""

FLAT = (12 / 255) ** 2
"""A window whose variance is well below this counts as flat: there the error is its mean, and the input's noise,
which is part of the error, averages out over some 170 pixels and more."""

DOUBT = 15.0
"""The same in times of the variance of the error itself: the stronger the noise, the more it takes to see a slope."""


def slow_error(result: Planes, lr: Planes, top: int, bottom: int) -> Planes:
    """The slow part of `result - lr` in rows `top` to `bottom`: (C, bottom - top, W).

    result: the shrunk SR image, (C, H, W) like `lr`. Both may be parts of an image that go `REACH_PX` rows beyond
    `top` and `bottom`, or to the image's border. Each row is computed for itself: in whatever portions they are asked
    for, the values are the same bit for bit.
    """
    # a channel at a time: what is made of one stays in a processor's cache
    channels = [slice(index, index + 1) for index in range(len(result))]
    return np.concatenate([_slow_error(result[channel], lr[channel], top, bottom) for channel in channels])


def _slow_error(result: Planes, lr: Planes, top: int, bottom: int) -> Planes:
    height = result.shape[1]
    first, last = max(0, top - RADIUS_PX), min(height, bottom + RADIUS_PX)
    slope, offset = _fit(_with_rows_around(result, first, last), _with_rows_around(lr, first, last))
    rows = np.clip(np.arange(top - RADIUS_PX, bottom + RADIUS_PX), 0, height - 1) - first
    error: Planes = _window_means(slope[:, rows]) * result[:, top:bottom] + _window_means(offset[:, rows])
    return error


def _fit(result: Planes, lr: Planes) -> tuple[Planes, Planes]:
    """Slope and offset of the error over the result's brightness, in the window around each pixel."""
    error = result - lr
    mean, mean_error = _window_means(result), _window_means(error)
    covariance = _window_means(result * error) - mean * mean_error
    variance = _window_means(result * result) - mean * mean
    doubt = np.maximum(_window_means(error * error) - mean_error * mean_error, 0)
    slope: Planes = covariance / (variance + np.float32(DOUBT) * doubt + np.float32(FLAT))
    return slope, mean_error - slope * mean


def _with_rows_around(planes: Planes, top: int, bottom: int) -> Planes:
    """Rows `top` to `bottom` and a radius around them; beyond the image its first and last are repeated."""
    rows = np.clip(np.arange(top - RADIUS_PX, bottom + RADIUS_PX), 0, planes.shape[1] - 1)
    return planes[:, rows]


def _window_means(planes: Planes) -> NDArray[np.float32]:
    """Means over squares of 2 * RADIUS_PX + 1: (C, h + 2 * RADIUS_PX, W) -> (C, h, W); columns are repeated outwards.

    Added in a fixed order, not as running sums, whose rounding depends on where they start.
    """
    sums = _sums_of_neighbors(planes, 1)
    wide: Planes = np.empty((*sums.shape[:2], sums.shape[2] + 2 * RADIUS_PX), np.float32)  # np.pad takes twice as long
    wide[..., RADIUS_PX:-RADIUS_PX] = sums
    wide[..., :RADIUS_PX], wide[..., -RADIUS_PX:] = sums[..., :1], sums[..., -1:]
    means = _sums_of_neighbors(wide, 2)
    means /= np.float32((2 * RADIUS_PX + 1) ** 2)
    return means


def _sums_of_neighbors(planes: Planes, axis: int) -> NDArray[np.float32]:
    """Sums of 2 * RADIUS_PX + 1 neighbors along an axis, 1 or 2, which becomes shorter by 2 * RADIUS_PX.

    Put together from sums of 8, 4, 2 and 1: five additions instead of twelve.
    """
    left = 2 * RADIUS_PX + 1
    length = planes.shape[axis] - 2 * RADIUS_PX
    whole: Planes | None = None
    sums, many, start = planes, 1, 0
    while True:
        if left & many:
            part = _along(sums, axis, start, start + length)
            whole = part if whole is None else whole + part
            start += many
            left -= many
        if not left:
            return whole if whole is not None else sums
        sums = _along(sums, axis, 0, sums.shape[axis] - many) + _along(sums, axis, many, sums.shape[axis])
        many *= 2


def _along(planes: Planes, axis: int, start: int, end: int) -> Planes:
    return planes[:, start:end] if axis == 1 else planes[..., start:end]


SQUARE_PX = 8
"""Side of the squares of `Drift`, LR pixels: noise averages out over 64 of them, an object of the image does not."""

MOST_DRIFT_LEVELS = 8.0
"""Above this a model has left the image; docs/upscale.md tells how that was measured."""


class Consistency:
    """Peak signal-to-noise ratio between input and shrunk result, gathered rows by rows."""

    def __init__(self) -> None:
        self._squares = 0.0
        self._samples = 0

    def add(self, result: Planes, lr: Planes) -> None:
        """Rows of the shrunk result, and the same of the input: (C, h, W) in [0, 1]."""
        self._squares += float(np.square(result - lr, dtype=np.float64).sum())
        self._samples += lr.size

    @property
    def db(self) -> float | None:
        """Decibels over all samples; None where the two are equal."""
        return -10 * math.log10(self._squares / self._samples) if self._squares else None


class Drift:
    """By how much squares of the image changed their mean color: what a model must not do, whatever it cleans."""

    def __init__(self, height: int, width: int, channels: int) -> None:
        """The size of the input, LR pixels."""
        self._size = height, width
        self._sums: NDArray[np.float64] = np.zeros((channels, -(-height // SQUARE_PX), -(-width // SQUARE_PX)))

    def add(self, top: int, result: Planes, lr: Planes) -> None:
        """Rows of the shrunk result from LR row `top` on, each row once, and the same of the input: (C, h, W)."""
        across = np.add.reduceat(result - lr, _starts(self._size[1]), axis=2)
        for index in range(result.shape[1]):
            self._sums[:, (top + index) // SQUARE_PX] += across[:, index]

    @property
    def levels(self) -> float | None:
        """Root mean square of the changes over squares and channels, levels of 255.

        Squares cut by the border count if half of them is there; None where there is not even one such.
        """
        down, across = (np.diff([*_starts(length), length]) for length in self._size)
        pixels = np.outer(down, across)
        counted = pixels >= SQUARE_PX**2 // 2
        if not counted.any():
            return None
        changes = self._sums[:, counted] / pixels[counted]
        return 255 * math.sqrt(float(np.square(changes).mean()))


def _starts(length: int) -> NDArray[np.int64]:
    return np.arange(0, length, SQUARE_PX)


_BAND_ROWS = 64
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


class GrainLayer:
    """Grain laid over an image that comes in bands; the bands may have any heights.

    Its standard deviation is `amount` times that of the noise at each brightness, and at most half of what a sample is
    away from black and white; its size is about one and a half pixels, whatever size the noise had. Same seed, same
    grain.
    """

    def __init__(self, like: Grain, width: int, *, white: int, amount: float, seed: tuple[int, ...]) -> None:
        """width: of the image, pixels. white: the largest sample of its type."""
        steps = (np.arange(_TABLE, dtype=np.float32) + 0.5) / _TABLE
        self._like = like
        self._white = np.float32(white)
        self._table = (amount * white * np.interp(steps, like.brightness, like.strength)).astype(np.float32)
        self._random = np.random.default_rng(seed)
        self._above = self._drawn(2, width)

    def lay_on(self, pixels: Pixels) -> None:
        """Lay the grain over a whole image, (H, W, C), in place."""
        for top in range(0, len(pixels), _BAND_ROWS):
            pixels[top : top + _BAND_ROWS] = self.over(pixels[top : top + _BAND_ROWS])

    def _drawn(self, rows: int, width: int) -> NDArray[np.float32]:
        return self._random.standard_normal((rows, width + 2, len(self._like.mixing)), np.float32)

    def over(self, band: Pixels) -> Pixels:
        """The next rows, (h, W, C), with grain."""
        values = band.astype(np.float32)
        bright = np.minimum(brightness_of(values) * (_TABLE / self._white), _TABLE - 1).astype(np.intp)
        # near black and white less, else what is cut off there would shift the colors
        strength = np.minimum(self._table[bright][..., None], np.minimum(values, self._white - values) / 2)
        values += strength * (self._soft_noise(*band.shape[:2]) @ self._like.mixing.T)
        return rounded(values, band)

    def _soft_noise(self, height: int, width: int) -> NDArray[np.float32]:
        """The next rows of soft white noise of deviation 1, (height, width, C); whole, they have no seams."""
        gain = 1 / (_HEART**2 + 2 * _SIDE**2)  # the softening takes that much of the deviation away
        block = np.concatenate((self._above, self._drawn(height, width)))
        self._above = block[-2:].copy()
        down: NDArray[np.float32] = block[1:-1] * _HEART + (block[:-2] + block[2:]) * _SIDE
        return (down[:, 1:-1] * _HEART + (down[:, :-2] + down[:, 2:]) * _SIDE) * gain
