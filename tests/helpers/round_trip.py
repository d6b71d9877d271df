"""A file through the command and back, looked at with other programs' readers."""

from dataclasses import dataclass

import numpy as np
import pyvips
from PIL import Image

pyvips.cache_set_max(0)  # else a name that was read once comes back as it was then

SCALE = 4
TOLERANCE = 1  # levels of the result's own depth: the network repeats every pixel exactly


@dataclass(frozen=True)
class Result:
    """What became of a file."""

    code: int
    err: str
    path: object

    @property
    def image(self):
        """Through Pillow, with what it tells of the file."""
        with Image.open(self.path) as image:
            image.load()
            return image

    @property
    def samples(self):
        """(H, W, C) through libvips, with all bits."""
        image = pyvips.Image.new_from_file(str(self.path), fail_on="error")
        return image.numpy().reshape(image.height, image.width, image.bands)

    @property
    def depth_bits(self):
        return self.samples.dtype.itemsize * 8


def check(result, expected, *, note=None, tolerance=TOLERANCE):
    """The result is `expected` (H, W, C; alpha last), four times as large, of its type and number of channels.

    note: the one line that stderr holds; None: nothing is said. tolerance: in levels; colors that cannot be seen
    are not looked at.
    """
    assert result.code == 0, result.err
    samples = result.samples
    height, width, channels = expected.shape
    assert samples.shape == (SCALE * height, SCALE * width, channels)
    assert samples.dtype == expected.dtype
    colors = channels - (channels in {2, 4})
    visible = np.ones(expected.shape[:2], bool) if colors == channels else expected[..., -1] > 0
    wanted, seen = (np.repeat(np.repeat(part, SCALE, 0), SCALE, 1) for part in (expected, visible))
    away = np.abs(samples.astype(float) - wanted)
    assert away[seen].max(initial=0) <= tolerance
    if colors < channels:
        assert away[..., -1].max() <= tolerance
    if note is None:
        assert result.err == ""
    else:
        assert note in result.err
        assert result.err.count("\n") == 1
