"""How sure a mean is, and whether one model beats another on the same images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
"""Resamples of a bootstrap: the ends of an interval then move by some 2 % of its width from seed to seed."""

LEVEL = 0.95
CLEAR_P = 0.05
MOST_EXACT = 200
"""Differences up to which Wilcoxon's test counts; beyond, the normal approximation is off by some 0.001."""

VALUES_AT_ONCE = 1 << 22  # resampled values in memory, 32 MB

Values = NDArray[np.float64]
Verdict = Literal["better", "worse", "not clear"]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean, and between which ends the mean over very many such images is to be expected, of 100 intervals in 95.

    Of few images it is too narrow: of 6 it holds that mean in 87 % of all cases. The mean of another set as large lies
    inside less often still.
    """

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

    p_value: float
    """Wilcoxon's signed-rank test, two-sided: how likely so clear a difference is when there is none."""

    family_p: float
    """The same where several models are compared with one: the more there are, the likelier one differs by chance.
    Corrected by Holm (`corrected`); of one model alone it is `p_value`."""

    verdict: Verdict
    """A word on ours where the interval leaves out 0 and `family_p` is below `CLEAR_P`, as it never is for five
    images."""


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
    interval, p = mean_interval(differences.tolist(), seed=seed), wilcoxon_p(differences)
    return Paired(
        difference=interval,
        win_rate=float(((better > 0) + 0.5 * (better == 0)).mean()),
        p_value=p,
        family_p=p,
        verdict=_verdict(interval, p, higher_is_better=higher_is_better),
    )


def corrected(family: Sequence[Paired], *, higher_is_better: bool) -> list[Paired]:
    """Several models against the same one, by the same metric, as one family: Holm's correction (1979).

    The smallest p is multiplied by their number, the next by one less, and so on; none falls below the one before.
    """
    order = sorted(range(len(family)), key=lambda index: family[index].p_value)
    found, so_far = list(family), 0.0
    for place, index in enumerate(order):
        one = family[index]
        so_far = max(so_far, min(1.0, (len(family) - place) * one.p_value))
        verdict = _verdict(one.difference, so_far, higher_is_better=higher_is_better)
        found[index] = replace(one, family_p=so_far, verdict=verdict)
    return found


def _verdict(difference: Interval, p: float, *, higher_is_better: bool) -> Verdict:
    if p < CLEAR_P and (difference.low > 0 or difference.high < 0):
        return "better" if (difference.mean > 0) == higher_is_better else "worse"
    return "not clear"


def wilcoxon_p(differences: Values) -> float:
    """The two-sided p of Wilcoxon's signed-rank test; zeros are left out, as he did, and ties share their mean rank.

    Exact up to `MOST_EXACT` differences: of all ways to sign the ranks, the share of those as far out. Else by the
    normal approximation, with the variance that ties leave.
    """
    nonzero = differences[differences != 0]
    if not len(nonzero):
        return 1.0
    doubled = _doubled_ranks(np.abs(nonzero))
    positive = int(doubled[nonzero > 0].sum())
    total = int(doubled.sum())
    if len(doubled) > MOST_EXACT:
        spread = math.sqrt(float((doubled.astype(np.float64) ** 2).sum()) / 4)
        return math.erfc(abs(positive - total / 2) / spread / math.sqrt(2))
    return min(1.0, 2 * float(_share_up_to(doubled, min(positive, total - positive))))


def _doubled_ranks(sizes: Values) -> NDArray[np.int64]:
    """Twice the rank of each, from 2 on: ranks of ties are halves."""
    _, place, count = np.unique(sizes, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks: NDArray[np.int64] = (2 * last - count + 1)[place]
    return ranks


def _share_up_to(doubled: NDArray[np.int64], most: int) -> float:
    """Of all ways to choose some of the ranks, the share of those whose sum is `most` or less."""
    ways = np.zeros(most + 1)
    ways[0] = 1.0
    for rank in doubled.tolist():
        ways /= 2
        if rank <= most:
            ways[rank:] += ways[: most + 1 - rank].copy()
    return float(ways.sum())


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
