"""Figures of an up-scaled image beyond the usual ones: is it as crisp as the truth, and what is in it that is not?

All are measured on the luma (BT.601, 16 to 235), in levels of 255. Images are (H, W, 3), uint8.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter

from ddnsr_cli.metrics.niqe import LUMA

Rgb8 = NDArray[np.uint8]
Plane = NDArray[np.float64]
Mask = NDArray[np.bool_]

EDGE_SHARE = 0.1
"""Of the pixels, those with the truth's steepest gradients."""

CALM_SHARE = 0.5
"""Of the image, where gradients are weakest: what stands out there is hardly of the scene."""

CRISP_SIGMA = 2.0

BANDS = {"coarse": (1 / 64, 1 / 16), "low": (1 / 16, 1 / 8), "mid": (1 / 8, 1 / 4), "high": (1 / 4, 1 / 2)}
"""Cycles per pixel. `coarse` and `low` are in the input, `low` barely; `mid` and `high` are invented."""

TILE_PX = 32
TILE_WINDOW = np.outer(np.hanning(TILE_PX), np.hanning(TILE_PX))
MOSTLY = 0.8
"""Share of a tile that is calm."""


def against_truth(sr: Rgb8, truth: Rgb8, *, crop_px: int) -> dict[str, float]:
    """`edges`, `coarse`, `low`, `mid`, `high`: gradient on the truth's edges and amplitude by frequency, over the
    truth's (1: as crisp, below: softer). `speckle`, `worms`: what calm parts hold more than the truth's.
    """
    ours, theirs = (_luma(image, crop_px) for image in (sr, truth))
    calm = _calm(theirs)
    return {
        "edges": _edges(ours, theirs),
        **{name: _amplitude(ours, band) / _amplitude(theirs, band) for name, band in BANDS.items()},
        "speckle": _speckle(ours, calm) - _speckle(theirs, calm),
        "worms": _coherence(ours, calm) - _coherence(theirs, calm),
    }


def by_itself(sr: Rgb8, *, crop_px: int) -> dict[str, float]:
    """`crisp`: root mean square of the gradient over its mean, after a Gaussian of 2 pixels: high where edges are steep
    and all else is smooth, low in haze, grain and worms. `lattice`: how far single waves stand out in the calm half.
    `steep`: mean gradient of the steepest tenth, levels per pixel. `fine`: amplitude above 1/4 cycle per pixel, levels.
    """
    luma = _luma(sr, crop_px)
    steepness, smoother = _gradient(luma), _gradient(gaussian_filter(luma, CRISP_SIGMA))
    steep = steepness >= np.quantile(steepness, 1 - EDGE_SHARE)
    return {
        "crisp": float(np.sqrt(np.square(smoother).mean()) / max(smoother.mean(), 1e-9)),
        "lattice": _peaks(luma),
        "steep": float(steepness[steep].mean()),
        "fine": _amplitude(luma, BANDS["high"]),
    }


def _luma(image: Rgb8, crop_px: int) -> Plane:
    inner = slice(crop_px, -crop_px or None)
    plane: Plane = 16 + image[inner, inner] @ LUMA
    return plane


def _gradient(luma: Plane) -> Plane:
    down, across = np.gradient(luma)
    return np.hypot(down, across)


def _edges(ours: Plane, truth: Plane) -> float:
    """Of each edge pixel the steepest within a pixel counts: an edge that lies a little beside is as crisp."""
    steepness = _gradient(truth)
    where = steepness >= np.quantile(steepness, 1 - EDGE_SHARE)
    near = [maximum_filter(_gradient(luma), 3)[where].mean() for luma in (ours, truth)]
    return float(near[0] / near[1])


def _amplitude(luma: Plane, band: tuple[float, float]) -> float:
    """Root mean square of the part of an image that lies in a band, levels; the borders are faded out."""
    height, width = luma.shape
    window = np.outer(np.hanning(height), np.hanning(width))
    power = np.square(np.abs(np.fft.fft2((luma - luma.mean()) * window)))
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    chosen = (radius >= band[0]) & (radius < band[1])
    return float(np.sqrt(power[chosen].sum() / luma.size / np.square(window).sum()))


def _calm(luma: Plane) -> Mask:
    """Where gradients, smoothed over some ten pixels, are weakest."""
    energy = np.sqrt(gaussian_filter(np.square(_gradient(luma)), 5.0))
    calm: Mask = energy <= np.quantile(energy, CALM_SHARE)
    return calm


def _fine(luma: Plane) -> Plane:
    fine: Plane = luma - gaussian_filter(luma, 3.0)
    return fine


def _speckle(luma: Plane, calm: Mask) -> float:
    """Standard deviation of what is finer than some six pixels, levels."""
    return float(_fine(luma)[calm].std())


def _coherence(luma: Plane, calm: Mask) -> float:
    """How much gradients within some five pixels run one way: 0 as in noise, 1 as in stripes; by their energy."""
    down, across = np.gradient(_fine(luma))
    tensor = [gaussian_filter(product, 2.5) for product in (down * down, across * across, down * across)]
    energy = tensor[0] + tensor[1]
    one_way = np.hypot(tensor[0] - tensor[1], 2 * tensor[2])
    return float(one_way[calm].sum() / max(energy[calm].sum(), 1e-9))


def _tiles(plane: Plane | Mask) -> Plane:
    """(H, W) to (n, 32, 32), half overlapping."""
    step = TILE_PX // 2
    return sliding_window_view(plane, (TILE_PX, TILE_PX))[::step, ::step].reshape(-1, TILE_PX, TILE_PX)


def _peaks(luma: Plane) -> float:
    """How far the strongest wave of a tile stands above the others of about its length; log, mean over calm tiles."""
    tiles, calm = _tiles(luma), _tiles(_calm(luma)).mean((1, 2))
    chosen = tiles[calm >= min(MOSTLY, calm.max())]
    waves = np.fft.rfft2((chosen - chosen.mean((1, 2), keepdims=True)) * TILE_WINDOW)
    power = np.square(np.abs(waves)) + np.square(TILE_WINDOW).sum() / 12  # and the noise of rounding to whole levels
    ring = np.rint(TILE_PX * np.hypot(np.fft.fftfreq(TILE_PX)[:, None], np.fft.rfftfreq(TILE_PX)))
    rings = [power[:, ring == radius] for radius in range(4, TILE_PX // 2)]
    peaks = np.max([of_length.max(axis=1) / np.median(of_length, axis=1) for of_length in rings], axis=0)
    return float(np.log(peaks).mean())
