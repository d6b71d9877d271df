"""A color sensor's mosaic, and filling in what it leaves out.

Filters: Malvar, He and Cutler, "High-quality linear interpolation for demosaicing of Bayer-patterned color images",
ICASSP 2004, figure 2.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve

Plane = NDArray[np.float64]

GREEN = np.array([[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]]) / 8
IN_ROW = np.array([[0, 0, 1, 0, 0], [0, -2, 0, -2, 0], [-2, 8, 10, 8, -2], [0, -2, 0, -2, 0], [0, 0, 1, 0, 0]]) / 16
ACROSS = np.array([[0, 0, -3, 0, 0], [0, 4, 0, 4, 0], [-3, 0, 12, 0, -3], [0, 4, 0, 4, 0], [0, 0, -3, 0, 0]]) / 16


def bayer(rgb: Plane) -> Plane:
    """What a sensor with RGGB filters sees: (H, W, 3) to (H, W), H and W even."""
    mosaic = rgb[..., 1].copy()
    mosaic[::2, ::2] = rgb[::2, ::2, 0]
    mosaic[1::2, 1::2] = rgb[1::2, 1::2, 2]
    return mosaic


def demosaic(mosaic: Plane) -> Plane:
    """The inverse of `bayer`, as well as it can be guessed: (H, W) to (H, W, 3)."""
    red, blue = (slice(None, None, 2),) * 2, (slice(1, None, 2),) * 2
    green_by_red, green_by_blue = (slice(None, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(None, None, 2))
    rgb = np.repeat(mosaic[..., None], 3, axis=2)
    green, in_row, in_column, across = (
        convolve(mosaic, kernel, mode="mirror")  # mirrored about the outermost pixel: the pattern goes on
        for kernel in (GREEN, IN_ROW, IN_ROW.T, ACROSS)
    )
    for place in (red, blue):
        rgb[(*place, 1)] = green[place]
    rgb[(*green_by_red, 0)], rgb[(*green_by_red, 2)] = in_row[green_by_red], in_column[green_by_red]
    rgb[(*green_by_blue, 0)], rgb[(*green_by_blue, 2)] = in_column[green_by_blue], in_row[green_by_blue]
    rgb[(*red, 2)], rgb[(*blue, 0)] = across[red], across[blue]
    return rgb
