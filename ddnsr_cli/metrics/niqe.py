"""NIQE, the natural image quality evaluator (Mittal, Soundararajan, Bovik 2013): no reference, smaller is better.

It compares statistics of an image's luma with those of pristine photos. The luma is freed of its local mean and
contrast; in natural photos what is left, and the products of neighbors in it, follow generalized Gaussians. Their
parameters are fitted in blocks of 96 x 96 pixels, and again at half the size: 36 features a block. Mean and covariance
over the blocks are compared with those of the pristine photos.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ddnsr_cli.metrics.fidelity import LUMA_LEVELS

Floats = NDArray[np.float64]

BLOCK_PX = 96
FEATURES = 36
WINDOW_TAPS, WINDOW_SIGMA = 7, 7 / 6
STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))  # down, across: neighbors whose products are looked at
NOTHING = 1e-9
LUMA = np.array(LUMA_LEVELS) / 255


@dataclass(frozen=True, kw_only=True, eq=False)
class PristineModel:
    """Statistics of the features in pristine photos."""

    mean: Floats
    """(36,)"""

    covariance: Floats
    """(36, 36)"""

    def __post_init__(self) -> None:
        if self.mean.shape != (FEATURES,) or self.covariance.shape != (FEATURES, FEATURES):
            raise ValueError(f"NIQE has {FEATURES} features, got {self.mean.shape} and {self.covariance.shape}.")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shapes:
    """Generalized Gaussians of every shape that is tried, (9801,) each."""

    shape: Floats
    """0.2 (peaked) to 10 (nearly uniform); 2 is a Gaussian."""

    ratio: Floats
    """Squared mean absolute value over the variance; grows with the shape."""

    width: Floats
    """Scale parameter over the standard deviation."""

    mean: Floats
    """Mean of one side over its scale parameter."""


def niqe(image: NDArray[np.uint8], model: PristineModel, *, crop_px: int) -> float:
    """NIQE of one image: about 2 to 6 for images, far above for blurred or noisy ones; 0 would be the pristine mean.

    On the rounded luma (BT.601, 16 to 235), as super-resolution papers report it. Rows and columns that do not fill a
    block are left out at the bottom and on the right. Half the size by antialiased bicubic, borders mirrored.
    Blocks without contrast are left out; of nothing but such blocks the figure is not a number.

    image: (H, W, 3), RGB. crop_px: pixels ignored on each side. Raises ValueError when not one block is left. Few
    blocks make an unsure figure: 192 x 192 pixels hold four, the authors' images a hundred.
    """
    inner = image[crop_px : image.shape[0] - crop_px, crop_px : image.shape[1] - crop_px]
    rows, columns = (length // BLOCK_PX for length in inner.shape[:2])
    if rows < 1 or columns < 1:
        raise ValueError(f"{image.shape} less {crop_px} pixels on each side holds no {BLOCK_PX} x {BLOCK_PX} block.")
    luma = np.rint(16 + inner[: rows * BLOCK_PX, : columns * BLOCK_PX] @ LUMA)
    features = np.hstack([_features(luma, BLOCK_PX), _features(_halved(luma), BLOCK_PX // 2)])
    return _distance(features[np.isfinite(features).all(axis=1)], model)


def _distance(features: Floats, model: PristineModel) -> float:
    """Features of the blocks, (n, 36), against the model: Mahalanobis with the mean of both covariances."""
    if not len(features):
        return float("nan")
    covariance = np.cov(features, rowvar=False) if len(features) > 1 else np.zeros_like(model.covariance)
    away = features.mean(axis=0) - model.mean
    return math.sqrt(float(away @ np.linalg.pinv((model.covariance + covariance) / 2) @ away))


def _features(luma: Floats, block_px: int) -> Floats:
    """(H, W), multiples of the block, to (blocks, 18); not a number in blocks without contrast."""
    normal = _normalized(luma)
    rows, columns = (length // block_px for length in normal.shape)
    blocks = normal.reshape(rows, block_px, columns, block_px).swapaxes(1, 2).reshape(-1, block_px, block_px)
    shape, _, left, right = _fit(blocks)
    found: list[Floats] = [shape, (left + right) / 2]
    for step in STEPS:  # a pixel at a block's border has its neighbor on the other side, as in the authors' code
        found += _fit(blocks * np.roll(blocks, step, axis=(1, 2)))
    return np.stack(found, axis=1)


def _fit(blocks: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Shape, mean, left and right scale of an asymmetric generalized Gaussian fitted to each block, (blocks,) each."""
    left, right = _deviation(blocks, blocks < 0), _deviation(blocks, blocks > 0)
    with np.errstate(divide="ignore", invalid="ignore"):  # a block without contrast
        skew = left / right
        ratio = np.square(np.abs(blocks).mean((1, 2))) / np.square(blocks).mean((1, 2))
        symmetric = ratio * (skew**3 + 1) * (skew + 1) / np.square(np.square(skew) + 1)
    table = _shapes()
    place = _nearest(table.ratio, symmetric)
    left, right = left * table.width[place], right * table.width[place]
    return table.shape[place], (right - left) * table.mean[place], left, right


def _deviation(blocks: Floats, where: NDArray[np.bool_]) -> Floats:
    """Root mean square of the values `where` holds; not a number where it holds nowhere."""
    count = where.sum((1, 2))
    total = np.square(blocks, where=where, out=np.zeros_like(blocks)).sum((1, 2))
    deviation: Floats = np.sqrt(np.divide(total, count, out=np.full(len(blocks), np.nan), where=count > 0))
    return deviation


def _nearest(rising: Floats, values: Floats) -> NDArray[np.intp]:
    """Places of what is nearest to each value."""
    above = np.searchsorted(rising, values).clip(1, len(rising) - 1)
    below = values - rising[above - 1] <= rising[above] - values
    nearest: NDArray[np.intp] = above - below
    return nearest


@cache
def _shapes() -> _Shapes:
    shape = np.arange(200, 10_001) / 1000
    gamma = [np.array([math.lgamma(times / one) for one in shape]) for times in (1, 2, 3)]
    return _Shapes(
        shape=shape,
        ratio=np.exp(2 * gamma[1] - gamma[0] - gamma[2]),
        width=np.exp((gamma[0] - gamma[2]) / 2),
        mean=np.exp(gamma[1] - gamma[0]),
    )


def _normalized(luma: Floats) -> Floats:
    """Less its local mean, over its local deviation and 1: a Gaussian window, border pixels repeated outwards."""
    mean = _smoothed(luma)
    deviation = np.sqrt(np.abs(_smoothed(np.square(luma)) - np.square(mean)))
    normal: Floats = (luma - mean) / (deviation + 1)
    normal[np.abs(normal) < NOTHING] = 0  # else the rounding of sums would be on one side or the other
    return normal


def _smoothed(plane: Floats) -> Floats:
    half = WINDOW_TAPS // 2
    taps = np.exp(-0.5 * np.square(np.arange(-half, half + 1) / WINDOW_SIGMA))
    taps /= taps.sum()
    return _filtered(np.pad(plane, half, mode="edge"), taps, step=1)


def _halved(plane: Floats) -> Floats:
    """Half the size by Keys' cubic (a = -0.5) of twice the width: 8 taps."""
    away = np.abs(np.arange(-3.5, 4)) / 2
    near = 1.5 * away**3 - 2.5 * away**2 + 1
    far = -0.5 * away**3 + 2.5 * away**2 - 4 * away + 2
    taps = np.where(away <= 1, near, far)
    return _filtered(np.pad(plane, 3, mode="symmetric"), taps / taps.sum(), step=2)


def _filtered(padded: Floats, taps: Floats, *, step: int) -> Floats:
    """Every `step`-th place where the taps lie inside, down and across."""
    down = sliding_window_view(padded, len(taps), axis=0)[::step] @ taps
    across: Floats = sliding_window_view(down, len(taps), axis=1)[:, ::step] @ taps
    return across
