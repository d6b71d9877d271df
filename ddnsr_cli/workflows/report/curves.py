"""Long curves made light: smoothed, and thinned without losing a peak."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

SMOOTH_FROM = 40
"""Points from which on a curve is smoothed."""

SMOOTH_SHARE = 40
"""A smoothed point is the mean of about 1/40 of the curve."""


def smoothing_points(points: int) -> int:
    """How many points a mean takes in: odd, 1 for short curves."""
    return 1 if points < SMOOTH_FROM else max(3, points // SMOOTH_SHARE | 1)


def smoothed(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Means over `window` points, an odd number, around each.

    At the end over what there is before, so that the last point is not the noise of one row; at the start over only
    a few after, so that a steep fall keeps its height.
    """
    reach = window // 2
    middle = np.arange(len(values))
    first = (middle - reach).clip(min=0)
    last = (middle + np.minimum(reach, middle + reach // 4)).clip(max=len(values) - 1)
    sums = np.concatenate(([0.0], np.cumsum(values)))
    means: NDArray[np.float64] = (sums[last + 1] - sums[first]) / (last + 1 - first)
    return means


def extremes(values: NDArray[np.float64], buckets: int) -> NDArray[np.intp]:
    """Indices of the least and the greatest value of each of `buckets` equal stretches, and of both ends, rising."""
    if len(values) <= 2 * buckets:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), buckets + 1).astype(np.intp)
    kept = [[a + values[a:b].argmin(), a + values[a:b].argmax()] for a, b in pairwise(edges)]
    return np.unique(np.append(np.array(kept), (0, len(values) - 1)))


def evenly(points: int, most: int) -> NDArray[np.intp]:
    """At most `most` indices of `points`, evenly spaced, both ends among them."""
    return np.unique(np.linspace(0, points - 1, min(points, most)).round().astype(np.intp))
