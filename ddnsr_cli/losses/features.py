"""Losses between features of VGG19, which are given: each real image's features are computed once, by the caller.

The norms of the papers are means here, over batch, channels and places, not sums: a weight then means the same for any
batch and crop size, and beside the adversarial loss, which is a mean too. DDNSR's code does so as well.
The real side is a constant: no gradient enters it.
"""

import torch.nn.functional as F
from torch import Tensor

from ddnsr_cli.config import SCALE

COLOR_PX = 8  # side of the squares whose color is compared, LR pixels


def content_reference(hr: Tensor) -> Tensor:
    """What the content of a made LR image is compared with: `hr` averaged over squares of 4 x 4 pixels.

    Shape: (N, C, 4H, 4W) -> (N, C, H, W), the same range.
    """
    return F.avg_pool2d(hr, SCALE)


def color_loss(fake: Tensor, reference: Tensor) -> Tensor:
    """How far the colors of a made LR image are from the content's, as a mean absolute difference of both averaged
    over squares of 8 x 8 pixels: noise and fine detail are free. Not in the paper.

    fake, reference: (N, 3, H, W) in [0, 1], sides of at least 8; reference as of `content_reference(hr)`.
    Returns a scalar; only `fake` gets a gradient. Raises ValueError when the shapes differ.
    """
    _check_shapes(fake, reference)
    return F.l1_loss(F.avg_pool2d(fake, COLOR_PX), F.avg_pool2d(reference.detach(), COLOR_PX))


def content_loss(fake: Tensor, reference: Tensor) -> Tensor:
    """|| F_4(avgpool4(y_H)) - F_4(D(y_H, x_L)) ||^2, as a mean. DDNSR, equation 3: l1's term; F_4 is conv3_4.

    fake: features of the made LR image. reference: those of `content_reference(hr)`, the same shape.
    Returns a scalar; only `fake` gets a gradient. Raises ValueError when the shapes differ.
    """
    return _mean_square(fake, reference)


def cycle_loss(cycle: Tensor, real: Tensor) -> Tensor:
    """|| F_2(x_L) - F_2(D(R(x_L), x_L)) ||^2, as a mean. DDNSR, equation 3: l3's term; F_2 is conv2_2.

    cycle: features of the real LR image reconstructed and degraded again. real: those of itself, the same shape.
    Returns a scalar; only `cycle` gets a gradient. Raises ValueError when the shapes differ.
    """
    return _mean_square(cycle, real)


def perceptual_loss(fake: Tensor, real: Tensor, *, squared: bool = False) -> Tensor:
    """|| F(y_H) - F(R(y_L)) ||, as a mean of absolute differences (ESRGAN); F is conv5_4 before activation.

    fake: features of the reconstruction. real: those of the HR truth, the same shape. squared: the mean of squared
    differences, as DDNSR's code has it. Returns a scalar; only `fake` gets a gradient.
    Raises ValueError when the shapes differ.
    """
    if squared:
        return _mean_square(fake, real)
    _check_shapes(fake, real)
    return F.l1_loss(fake, real.detach())


def _mean_square(made: Tensor, real: Tensor) -> Tensor:
    _check_shapes(made, real)
    return F.mse_loss(made, real.detach())


def _check_shapes(made: Tensor, real: Tensor) -> None:
    if made.shape != real.shape:
        raise ValueError(f"Features must have the same shape, got {tuple(made.shape)} and {tuple(real.shape)}.")
