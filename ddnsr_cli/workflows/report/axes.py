"""Axes: their range, their ticks, and where a value lies on them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

DECADE = 10.0
MOST_DECADES = 6
"""Of a logarithmic axis; what lies below is drawn at its foot."""


class Scale(StrEnum):
    """How a panel's values are laid out."""

    FITTED = "fitted"
    """From the least to the greatest value."""

    FROM_ZERO = "from zero"
    UNIT = "unit"
    """Always 0 to 1."""

    DECADES = "decades"
    """Logarithmic when the values span a decade, else fitted."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A range of values with ticks inside."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def place(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where values lie: 0 at `low`, 1 at `high`; what is outside is at the end."""
        inside = values.clip(self.low, self.high)
        if self.log:
            low, high, inside = math.log(self.low), math.log(self.high), np.log(inside)
        else:
            low, high = self.low, self.high
        return (inside - low) / (high - low)


def value_axis(values: NDArray[np.float64], scale: Scale) -> Axis:
    """An axis that holds all the finite `values`, of which there is at least one."""
    low, high = float(values.min()), float(values.max())
    if scale is Scale.UNIT:
        return Axis(low=0.0, high=1.0, ticks=(0.0, 0.25, 0.5, 0.75, 1.0))
    if scale is Scale.DECADES and low >= 0 and high > 0:
        least = max(float(values[values > 0].min()), high / DECADE**MOST_DECADES)
        if high >= DECADE * least:
            return _log_axis(least / 1.1, high * 1.1)
    if scale is Scale.FROM_ZERO and low >= 0:
        high = high or 1.0
        return Axis(low=0.0, high=1.05 * high, ticks=ticks(0.0, 1.05 * high))
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return Axis(low=low - margin, high=high + margin, ticks=ticks(low - margin, high + margin))


def step_axis(last: int) -> Axis:
    """From step 0 to the last; with whole steps for ticks."""
    high = float(max(last, 1))
    return Axis(low=0.0, high=high, ticks=tuple(tick for tick in ticks(0.0, high) if tick == int(tick)))


def ticks(low: float, high: float) -> tuple[float, ...]:
    """At most six round values in [low, high]: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    gap = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / gap - 1e-9), math.floor(high / gap + 1e-9)
    return tuple(float(f"{index * gap:.12g}") for index in range(first, last + 1))


def _log_axis(low: float, high: float) -> Axis:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [float(f"{factor}e{power}") for power in decades for factor in factors]
        inside = tuple(value for value in found if low <= value <= high)
        if len(inside) <= 5:
            break
    return Axis(low=low, high=high, ticks=inside[:: 1 + len(inside) // 6], log=True)


def shown(value: float, digits: int = 4) -> str:
    """A figure with four digits that count, written as JavaScript does: 0.04931, 24.31, 1250, 0.000025, 1e-7."""
    rounded = float(f"{value:.{digits}g}")
    if rounded and abs(rounded) < 1e-6:
        return f"{rounded:.{digits}g}".replace("e-0", "e-")
    return np.format_float_positional(rounded, trim="-")


def shown_ticks(values: Sequence[float]) -> list[str]:
    """Ticks of one axis, which are round, with as many more digits as they have."""
    texts = ([shown(value, digits) for value in values] for digits in range(4, 18))
    return next(row for row in texts if all(float(text) == value for text, value in zip(row, values, strict=True)))


def shown_step(step: float) -> str:
    """A step on an axis: 500, 12k, 1.5M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if step >= size:
            return f"{step / size:g}{letter}"
    return f"{step:g}"
