"""What it costs the degrader not to carry noise that is known. Not in the paper."""

import torch.nn.functional as F
from torch import Tensor

LEVEL_PX = 8  # side of the squares whose noise level is compared, LR pixels


def noise_transfer_loss(made: Tensor, wanted: Tensor, clean: Tensor) -> Tensor:
    """Mean absolute difference of `made` and `wanted`, plus that of their noise levels in squares of 8 x 8 pixels:
    of the noise, of its brightness, and of its coarse part.

    The first term alone would teach to leave out what is not known from texture, and the noise would be too weak;
    with the level of the noise as a whole, what is missing would come back as fine, colored noise.

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
