"""What a degrader makes of its noise input, tried on windows of the images of a run."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
from torch import Tensor

from ddnsr_cli.commands.degrade.methods import Learned
from ddnsr_cli.config import SCALE
from ddnsr_cli.data.degradations import shrink_bicubic, whole_levels
from ddnsr_cli.data.noise_patches import NoiseImage, draw_crop
from ddnsr_cli.errors import DdnsrError
from ddnsr_cli.inference.degrader import Levels, LevelsInMemory
from ddnsr_cli.inference.tiling import to_pixels, to_tensor
from ddnsr_cli.io.image import rgb8
from ddnsr_cli.io.read import read_image
from ddnsr_cli.metrics.noise_transfer import NoiseTransfer, Trial, measure_noise_transfer

TRIALS = 8
SIDE_PX = 64
"""Of the windows, LR pixels."""


def transfer_of(method: Learned, hr: Iterable[Path], *, seed: int, max_pixels: int) -> NoiseTransfer | None:
    """Tried on a window of each of the first HR images that are large enough; None without one, or without photos.

    The clean photos are other HR images, shrunk and upside down.
    """
    rng = np.random.default_rng(seed)
    windows = list(islice(_windows(hr, rng, max_pixels), TRIALS))
    if method.photos is None or not windows:
        return None

    def degrade(hr: Tensor, photo: Tensor) -> Tensor:
        return to_tensor(method.engine.lr(*(LevelsInMemory(_levels(image)) for image in (hr, photo))))

    return measure_noise_transfer(degrade, (_trial(method, windows, at, rng) for at in range(len(windows))))


def _windows(paths: Iterable[Path], rng: np.random.Generator, max_pixels: int) -> Iterator[Levels]:
    side = SCALE * SIDE_PX
    for path in paths:
        with suppress(DdnsrError):  # it was told when it was to be degraded
            levels = rgb8(read_image(path, max_pixels=max_pixels))
            height, width = levels.shape[:2]
            if min(height, width) >= side:
                top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
                yield levels[top : top + side, left : left + side]


def _trial(method: Learned, windows: Sequence[Levels], at: int, rng: np.random.Generator) -> Trial:
    assert method.photos is not None
    photo, _ = method.photos.draw(rng, lambda _relative, _levels: True)
    crop = draw_crop(rng, photo.levels, height=SIDE_PX, width=SIDE_PX)
    noisy = NoiseImage(photo.levels, crop).read(0, 0, SIDE_PX, SIDE_PX)
    clean = whole_levels(shrink_bicubic(windows[(at + 1) % len(windows)]))[::-1, ::-1]
    return Trial(hr=to_tensor(windows[at]), noisy=to_tensor(noisy), clean=to_tensor(clean))


def _levels(image: Tensor) -> Levels:
    return to_pixels(image[0], dtype=np.uint8, gray=False).astype(np.uint8, copy=False)
