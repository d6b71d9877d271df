"""How far a result is from its input, measured at the input's size while the result is made."""

import math

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.processing.resize import Planes

SQUARE_PX = 8
"""Side of the squares of `Drift`, LR pixels: noise averages out over 64 of them, an object of the picture does not."""

MOST_DRIFT_LEVELS = 8.0
"""Above this a model has left the picture; docs/upscale.md tells how that was measured."""


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
    """By how much squares of the picture changed their mean color: what a model must not do, whatever it cleans."""

    def __init__(self, lr: Planes) -> None:
        """lr: the whole input, (C, H, W) in [0, 1]; kept, not copied."""
        channels, height, width = lr.shape
        self._lr = lr
        self._sums: NDArray[np.float64] = np.zeros((channels, -(-height // SQUARE_PX), -(-width // SQUARE_PX)))

    def add(self, top: int, result: Planes) -> None:
        """Rows of the shrunk result from LR row `top` on, each row once."""
        rows = np.arange(top, top + result.shape[1])
        across = np.add.reduceat(result - self._lr[:, rows], _starts(self._lr.shape[2]), axis=2)
        for index, row in enumerate(rows // SQUARE_PX):
            self._sums[:, row] += across[:, index]

    @property
    def levels(self) -> float | None:
        """Root mean square of the changes over squares and channels, levels of 255.

        Squares cut by the border count if half of them is there; None where there is not even one such.
        """
        height, width = self._lr.shape[1:]
        down, across = (np.diff([*_starts(length), length]) for length in (height, width))
        pixels = np.outer(down, across)
        counted = pixels >= SQUARE_PX**2 // 2
        if not counted.any():
            return None
        changes = self._sums[:, counted] / pixels[counted]
        return 255 * math.sqrt(float(np.square(changes).mean()))


def _starts(length: int) -> NDArray[np.int64]:
    return np.arange(0, length, SQUARE_PX)
