"""What a degrader takes out of its noise input: noise, as it is to, and another image's structure, as it must not.

An image is the noise input twice: as it is, and smoothed. The finest detail of the difference of the two results, which
is what a mean over 3 x 3 pixels takes out, is held against the image's own.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ddnsr_cli.config import SCALE
from ddnsr_cli.metrics.noise import LUMA

Degrade = Callable[[Tensor, Tensor], Tensor]
"""HR images (N, 3, 4H, 4W) and noise inputs (N, 3, H, W) to LR images (N, 3, H, W), all near [0, 1]."""

SMOOTHED_PX = 15
"""Side of the squares whose means are the smoothed image: of noise hardly anything is left in them."""

WINDOW_PX = 7
"""Side of the windows that tell smooth places from textured ones, LR pixels."""

SHARE = 1 / 3
"""Of the pixels of an image, the smoothest or the most textured."""


@dataclass(frozen=True, kw_only=True)
class NoiseTransfer:
    """Shares: 1 is all of it."""

    carried_flat: float
    """Level of the finest detail that comes of a noisy image, times its own level there: where both images are smooth,
    so that it is noise."""

    carried_textured: float
    """The same where the HR image is textured and the noisy image smooth."""

    leaked: float
    """Level of the finest detail that comes of a clean image, times its own level: printed as it is or distorted, it is
    another image's structure."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Images of one size to try a degrader with, floats in [0, 1]."""

    hr: Tensor
    """(N, 3, 4H, 4W)"""

    noisy: Tensor
    """(N, 3, H, W), noise inputs: images with the noise to carry, or what is made of such."""

    clean: Tensor
    """(N, 3, H, W), images without noise, of other subjects than `hr`."""

    clean_input: Tensor | None = None
    """(N, 3, H, W), the noise inputs that are made of `clean`; None: they are `clean` itself."""


class _Levels:
    """Levels of a detail and of what became of it, over all pixels that count."""

    def __init__(self) -> None:
        self._squares = torch.zeros(2, dtype=torch.float64)

    def add(self, detail: Tensor, change: Tensor, counts: Tensor) -> None:
        self._squares += torch.stack([(side**2 * counts).sum(dtype=torch.float64).cpu() for side in (detail, change)])

    @property
    def share(self) -> float:
        """Level of the change, times the detail's."""
        detail, change = self._squares.tolist()
        return float((change / detail) ** 0.5) if detail else 0.0


@torch.no_grad()
def measure_noise_transfer(degrade: Degrade, trials: Iterable[Trial]) -> NoiseTransfer:
    """What a degrader carries and leaks, over all trials together. 0 where a noise input has no detail at all."""
    flat, textured, leaked = _Levels(), _Levels(), _Levels()
    for trial in trials:
        texture = _contrast(F.avg_pool2d(trial.hr, SCALE))
        smooth = _below(_contrast(trial.noisy), SHARE)
        detail, change = _finest(trial.noisy), _change(degrade, trial.hr, trial.noisy)
        flat.add(detail, change, smooth & _below(texture, SHARE))
        textured.add(detail, change, smooth & ~_below(texture, 1 - SHARE))
        given = trial.clean if trial.clean_input is None else trial.clean_input
        detail, change = _finest(trial.clean), _change(degrade, trial.hr, given)
        leaked.add(detail, change, torch.ones_like(smooth))
    return NoiseTransfer(carried_flat=flat.share, carried_textured=textured.share, leaked=leaked.share)


def _change(degrade: Degrade, hr: Tensor, noise: Tensor) -> Tensor:
    """The finest detail of the LR images that comes of the noise input."""
    return _finest(degrade(hr, noise) - degrade(hr, _mean(noise, SMOOTHED_PX)))


def _finest(image: Tensor) -> Tensor:
    return image - _mean(image, 3)


def _mean(image: Tensor, side: int) -> Tensor:
    """Over squares around each pixel; beyond the border its pixels are repeated."""
    return F.avg_pool2d(F.pad(image, (side // 2,) * 4, mode="replicate"), side, stride=1)


def _contrast(image: Tensor) -> Tensor:
    """Variance of the brightness in the window around each pixel, (N, 1, H, W), its finest waves left out."""
    weights = torch.from_numpy(LUMA).to(image).view(1, 3, 1, 1)
    luma = ((image - _finest(image)) * weights).sum(dim=1, keepdim=True)
    return _mean(luma * luma, WINDOW_PX) - _mean(luma, WINDOW_PX) ** 2


def _below(values: Tensor, share: float) -> Tensor:
    """Whether a pixel is among that share of its image's with the least values."""
    return values <= values.flatten(1).quantile(share, dim=1).view(-1, 1, 1, 1)
