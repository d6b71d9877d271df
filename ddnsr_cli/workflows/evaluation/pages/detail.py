"""The place of a picture where a close look tells most."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rgb8 = NDArray[np.uint8]

GRID_PX = 4
"""Windows lie on LR pixels."""

BAND_PX = 64
"""Rows that are worked on at a time."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A part of a picture. Lengths are HR pixels."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, picture: Rgb8) -> Rgb8:
        """The part of a picture (H, W, 3) that lies in the window, without a copy."""
        return picture[self.top : self.top + self.height, self.left : self.left + self.width]


def most_different(pictures: Sequence[Rgb8], *, side_px: int) -> Window:
    """The square window in which pictures of one scene differ most from one another: the greatest sum of variances.

    pictures: (H, W, 3), all of one size. side_px: of the window, HR pixels; shorter where the picture is.
    Of several such windows it is the topmost, then the leftmost: pictures that are all the same give (0, 0).
    """
    height, width = pictures[0].shape[:2]
    window_height, window_width = min(side_px, height), min(side_px, width)
    sums = _window_sums(_variance(pictures), window_height, window_width)
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return Window(top=int(top) * GRID_PX, left=int(left) * GRID_PX, height=window_height, width=window_width)


def _variance(pictures: Sequence[Rgb8]) -> NDArray[np.float64]:
    """(H, W): the variance over the pictures times the square of their number, summed over the colours; exact."""
    found = np.empty(pictures[0].shape[:2], np.float64)
    for top in range(0, len(found), BAND_PX):  # in whole numbers all pictures at once would take gigabytes
        bands = np.stack([picture[top : top + BAND_PX] for picture in pictures]).astype(np.int64)
        spread = len(pictures) * (bands * bands).sum(axis=0) - bands.sum(axis=0) ** 2
        found[top : top + BAND_PX] = spread.sum(axis=2)
    return found


def _window_sums(values: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Sums of `values` (H, W) over every window that starts at a multiple of GRID_PX and lies inside."""
    corners = np.pad(values.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    below = corners[height::GRID_PX] - corners[: len(corners) - height : GRID_PX]
    sums: NDArray[np.float64] = below[:, width::GRID_PX] - below[:, : below.shape[1] - width : GRID_PX]
    return sums
