"""What denoising takes and what it should leave: noise in flat areas, detail on edges, both by a clean reference."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ddnsr_cli.metrics.fidelity import luma

BLOCK_PX = 8
FLAT_SHARE = 0.25  # of the blocks, the flattest
CLIPPED = (4.5 / 255, 250.5 / 255)  # beyond, black and white hide noise
EDGE_SHARE = 0.1  # of the pixels, the steepest


def flat_noise(picture: Tensor, reference: Tensor) -> Tensor:
    """Standard deviation of `picture - reference` in the reference's flat blocks, in levels of 255, one per picture.

    Blocks of 8 x 8 from the upper left corner, what does not fill one left out. Those nowhere clipped in the
    reference (where there are any) are ordered by the standard deviation of its luma; the flattest quarter, at least
    one, is flat. In each, per channel, the mean of the difference is taken off: an error of colour is no noise.

    picture, reference: (N, 3, H, W) in [0, 1], sides of 8 pixels at least. Returns (N,) float64.
    """
    pairs = zip(_blocks(picture - reference), _blocks(reference), _blocks(luma(reference)), strict=True)
    return torch.stack([255 * _spread(error[_flat(clean, gray)]) for error, clean, gray in pairs])


def edge_gain(picture: Tensor, reference: Tensor) -> Tensor:
    """How much of the reference's gradients on its edges the picture has: 1 all, 0 none, above 1 over-sharpened.

    The slope of the picture's luma gradients over the reference's, least squares through zero, on the tenth of the
    pixels where the reference's are steepest (central differences). Noise does not raise it, as it would the
    plain energy of the gradients: it is not in line with the reference. 1 where the reference has no gradient.

    picture, reference: (N, 3, H, W) in [0, 1], sides of 3 pixels at least. Returns (N,) float64.
    """
    ours, truth = _gradients(picture), _gradients(reference)  # (N, 2, P)
    steepness = truth.square().sum(dim=1)
    count = max(1, round(EDGE_SHARE * steepness.shape[1]))
    places = steepness.topk(count, dim=1).indices.unsqueeze(1).expand(-1, 2, -1)
    ours, truth = ours.gather(2, places), truth.gather(2, places)
    along, energy = (ours * truth).sum(dim=(1, 2)), truth.square().sum(dim=(1, 2))
    return torch.where(energy > 0, along / energy, torch.ones_like(energy))


def _blocks(picture: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, blocks, C, 64), float64."""
    n, channels = picture.shape[:2]
    folded = F.unfold(picture.double(), BLOCK_PX, stride=BLOCK_PX)
    return folded.reshape(n, channels, BLOCK_PX**2, -1).permute(0, 3, 1, 2)


def _flat(clean: Tensor, gray: Tensor) -> Tensor:
    """Numbers of the flat blocks. clean: (blocks, 3, 64); gray: (blocks, 1, 64)."""
    low, high = CLIPPED
    open_ = ((clean > low) & (clean < high)).all(dim=(1, 2)).nonzero()[:, 0]
    if not len(open_):
        open_ = torch.arange(len(clean), device=clean.device)
    order = gray[open_, 0].var(dim=1).argsort(stable=True)
    return open_[order[: -(-len(open_) // round(1 / FLAT_SHARE))]]


def _spread(error: Tensor) -> Tensor:
    """(blocks, 3, 64) -> root of the mean variance."""
    return error.var(dim=2).mean().sqrt()


def _gradients(picture: Tensor) -> Tensor:
    y = luma(picture.double())[:, 0]
    across = (y[:, 1:-1, 2:] - y[:, 1:-1, :-2]) / 2
    down = (y[:, 2:, 1:-1] - y[:, :-2, 1:-1]) / 2
    return torch.stack((across, down), dim=1).flatten(2)
