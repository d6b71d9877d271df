"""How sure a mean is, and whether one model beats another on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
"""Resamples of a bootstrap: the ends of an interval then move by some 2 % of its width from seed to seed."""

LEVEL = 0.95
VALUES_AT_ONCE = 1 << 22  # resampled values in memory, 32 MB

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean, and between which ends the mean of other such images would lie with a probability of 95 %."""

    mean: float

    low: float
    """Not a number when there is but one value: it tells nothing of others."""

    high: float


@dataclass(frozen=True, kw_only=True)
class Paired:
    """One model against another on the same images."""

    difference: Interval
    """Ours less theirs, in the metric's unit."""

    win_rate: float
    """Share of the images, 0 to 1, on which ours is the better; a draw counts half."""

    p_value: float | None
    """Wilcoxon's signed-rank test, two-sided: how likely so clear a difference is when there is none. None without
    SciPy."""


def mean_interval(values: Sequence[float], *, seed: int = 0, values_at_once: int = VALUES_AT_ONCE) -> Interval:
    """The mean with its 95 % interval by bootstrap over images (percentiles of `DRAWS` resampled means).

    values: finite, at least one. The same values and seed give the same interval. Raises ValueError otherwise.
    values_at_once: resampled values in memory; changes no result.
    """
    table = _checked(values)
    mean = float(table.mean())
    if len(table) == 1:
        return Interval(mean=mean, low=float("nan"), high=float("nan"))
    low, high = np.quantile(_resampled_means(table, seed, values_at_once), ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(mean=mean, low=float(low), high=float(high))


def compare_paired(ours: Sequence[float], theirs: Sequence[float], *, higher_is_better: bool, seed: int = 0) -> Paired:
    """Ours against theirs; both in the order of the same images. Raises ValueError when the lengths differ."""
    if len(ours) != len(theirs):
        raise ValueError(f"Paired values belong to the same images, got {len(ours)} and {len(theirs)}.")
    differences = _checked(ours) - _checked(theirs)
    better = differences if higher_is_better else -differences
    return Paired(
        difference=mean_interval(differences.tolist(), seed=seed),
        win_rate=float(((better > 0) + 0.5 * (better == 0)).mean()),
        p_value=wilcoxon_p(differences),
    )


def wilcoxon_p(differences: Values) -> float | None:
    """The two-sided p of Wilcoxon's signed-rank test; zeros are left out, as he did. None without SciPy.

    Exact up to 50 differences without ties, else by the normal approximation.
    """
    try:
        from scipy.stats import wilcoxon
    except ImportError:
        return None
    nonzero = differences[differences != 0]
    return float(wilcoxon(nonzero).pvalue) if len(nonzero) else 1.0


def _checked(values: Sequence[float]) -> Values:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 1 or not len(table) or not np.isfinite(table).all():
        raise ValueError("A mean needs a row of finite values, at least one.")
    return table


def _resampled_means(table: Values, seed: int, values_at_once: int) -> Values:
    rng = np.random.default_rng(seed)
    rows = max(1, values_at_once // len(table))
    parts = [
        table[rng.integers(len(table), size=(min(rows, DRAWS - start), len(table)))].mean(axis=1)
        for start in range(0, DRAWS, rows)
    ]
    return np.concatenate(parts)
