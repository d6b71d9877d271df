"""Losses between a network and its discriminator, from the discriminator's logits (no sigmoid before).

Written with softplus, since -log sigmoid(x) = softplus(-x) and -log(1 - sigmoid(x)) = softplus(x): finite and with a
gradient for logits of any size. Expectations are means over the batch, and over the patches of a PatchGAN.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Average = Callable[[Tensor], Tensor]
"""Logits of any shape to their mean, a scalar. In distributed training: the mean over all processes, differentiable."""


def gan_disc_loss(real: Tensor, fake: Tensor) -> Tensor:
    """What the discriminator minimizes: -E log Disc(x_L) - E log(1 - Disc(y_L)). DDNSR, equation 5.

    2 log 2 when it guesses.

    real, fake: logits, any shapes, of a real image and of a *detached* made one. Returns a scalar.
    """
    return _judged_real(real) + _judged_fake(fake)


def gan_gen_loss(fake: Tensor) -> Tensor:
    """What the degrader minimizes: -E log Disc(y_L). DDNSR, equation 6. log 2 when the discriminator guesses.

    fake: logits of made images, any shape, with their gradient. Returns a scalar.
    """
    return _judged_real(fake)


def relativistic_disc_loss(real: Tensor, fake: Tensor, *, average: Average = torch.mean) -> Tensor:
    """What the relativistic average discriminator minimizes (ESRGAN, equation 1).

    -E log sigmoid(real - E fake) - E log(1 - sigmoid(fake - E real)): real images shall look more real than made
    ones do on average, and made ones less than real ones. 2 log 2 when it cannot tell. The two terms are added, as in
    the papers and in DDNSR's code; ESRGAN's code halves the sum.

    real, fake: logits, any shapes, of real images and of *detached* made ones. average: takes the inner means.
    Returns a scalar.
    """
    return _judged_real(real - average(fake)) + _judged_fake(fake - average(real))


def relativistic_gen_loss(real: Tensor, fake: Tensor, *, average: Average = torch.mean) -> Tensor:
    """What the network minimizes against a relativistic average discriminator (ESRGAN, equation 2).

    -E log(1 - sigmoid(real - E fake)) - E log sigmoid(fake - E real): the discriminator's loss, the parts exchanged.

    real: logits of real images, any shape; constants here, so they may be computed once for both losses.
    fake: logits of made images with their gradient. average: takes the inner means. Returns a scalar.
    """
    constant = real.detach()
    return _judged_fake(constant - average(fake)) + _judged_real(fake - average(constant))


def _judged_real(logits: Tensor) -> Tensor:
    """-E log sigmoid(logits): 0 when all are surely called real."""
    return F.softplus(-logits.float()).mean()


def _judged_fake(logits: Tensor) -> Tensor:
    """-E log(1 - sigmoid(logits)): 0 when all are surely called made."""
    return F.softplus(logits.float()).mean()
