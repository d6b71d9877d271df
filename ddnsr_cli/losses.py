"""Losses: scalars from tensors, pure functions. Those of features are given the features, so that each real
image's are computed once, by the caller.

Adversarial losses are between a network and its discriminator, from the logits of the latter (no sigmoid before).
Written with softplus, since -log sigmoid(x) = softplus(-x) and -log(1 - sigmoid(x)) = softplus(x): finite and with a
gradient for logits of any size. Expectations are means over the batch, and over the patches of a PatchGAN.

Norms of the papers are means in losses of features of VGG19, over batch, channels and places, not sums: a weight then
means the same for any batch and crop size, and beside the adversarial loss, which is a mean too. DDNSR's code does so
as well. The real side is a constant: no gradient enters it.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ddnsr_cli.config import SCALE

Average = Callable[[Tensor], Tensor]
"""Logits of any shape to their mean, a scalar. In distributed training: the mean over all processes, differentiable."""


def gan_disc_loss(real: Tensor, fake: Tensor) -> Tensor:
    """What the discriminator minimizes: -E log Disc(x_L) - E log(1 - Disc(y_L)). DDNSR, equation 5.

    2 log 2 when it guesses.

    real, fake: logits, any shapes, of a real image and of a *detached* made one. Returns a scalar.
    """
    return _loss_as_real(real) + _loss_as_fake(fake)


def gan_gen_loss(fake: Tensor) -> Tensor:
    """What the degrader minimizes: -E log Disc(y_L). DDNSR, equation 6. log 2 when the discriminator guesses.

    fake: logits of made images, any shape, with their gradient. Returns a scalar.
    """
    return _loss_as_real(fake)


def relativistic_disc_loss(real: Tensor, fake: Tensor, *, average: Average = torch.mean) -> Tensor:
    """What the relativistic average discriminator minimizes (ESRGAN, equation 1).

    -E log sigmoid(real - E fake) - E log(1 - sigmoid(fake - E real)): real images shall look more real than made
    ones do on average, and made ones less than real ones. 2 log 2 when it cannot tell. The two terms are added, as in
    the papers and in DDNSR's code; ESRGAN's code halves the sum.

    real, fake: logits, any shapes, of real images and of *detached* made ones. average: takes the inner means.
    Returns a scalar.
    """
    return _loss_as_real(real - average(fake)) + _loss_as_fake(fake - average(real))


def relativistic_gen_loss(real: Tensor, fake: Tensor, *, average: Average = torch.mean) -> Tensor:
    """What the network minimizes against a relativistic average discriminator (ESRGAN, equation 2).

    -E log(1 - sigmoid(real - E fake)) - E log sigmoid(fake - E real): the discriminator's loss, the parts exchanged.

    real: logits of real images, any shape; constants here, so they may be computed once for both losses.
    fake: logits of made images with their gradient. average: takes the inner means. Returns a scalar.
    """
    constant = real.detach()
    return _loss_as_fake(constant - average(fake)) + _loss_as_real(fake - average(constant))


def _loss_as_real(logits: Tensor) -> Tensor:
    """-E log sigmoid(logits): 0 when all are surely called real."""
    return F.softplus(-logits.float()).mean()


def _loss_as_fake(logits: Tensor) -> Tensor:
    """-E log(1 - sigmoid(logits)): 0 when all are surely called made."""
    return F.softplus(logits.float()).mean()


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


LEVEL_PX = 8  # side of the squares whose noise level is compared, LR pixels


def noise_transfer_loss(made: Tensor, wanted: Tensor, clean: Tensor) -> Tensor:
    """What it costs the degrader not to carry noise that is known. Not in the paper.

    Mean absolute difference of `made` and `wanted`, plus that of their noise levels in squares of 8 x 8 pixels: of the
    noise, of its brightness, and of its coarse part. The first term alone would teach to leave out what is not known
    from texture, and the noise would be too weak; with the level of the noise as a whole, what is missing would come
    back as fine, colored noise.

    made: (N, 3, H, W), in [0, 1]. wanted: `clean` with noise on it. clean: what both show, without noise.
    Returns a scalar; only `made` gets a gradient. Raises ValueError when the shapes differ.
    """
    if not made.shape == wanted.shape == clean.shape:
        raise ValueError(f"Images differ: {tuple(made.shape)}, {tuple(wanted.shape)} and {tuple(clean.shape)}.")
    loss = F.l1_loss(made, wanted.detach())
    for ours, theirs in zip(_views(made - clean), _views((wanted - clean).detach()), strict=True):
        loss = loss + F.l1_loss(_levels(ours), _levels(theirs))
    return loss


def _views(noise: Tensor) -> tuple[Tensor, ...]:
    """The noise, its brightness, and means of 2 x 2 pixels of it."""
    return noise, noise.mean(dim=1, keepdim=True), F.avg_pool2d(noise, 2)


def _levels(noise: Tensor) -> Tensor:
    """Root mean squares of squares of an image of noise."""
    side = min(LEVEL_PX, *noise.shape[-2:])
    return (F.avg_pool2d(noise.square(), side) + 1e-6).sqrt()  # a quarter of a level: no slope without end at 0
