"""How far a result is from a clean reference: PSNR, SSIM, the noise left in flat parts, the detail kept on edges."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

SSIM_TAPS, SSIM_SIGMA = 11, 1.5  # Wang et al. 2004, section III
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2

Distance = Callable[[Tensor, Tensor], Tensor]
"""(N, 3, H, W), and the same or (1, 3, H, W), in [0, 1] -> (N,); smaller is more alike: LPIPS, say."""


def psnr_db(sr: Tensor, hr: Tensor, *, crop_px: int) -> Tensor:
    """PSNR in dB over all channels, one value per image; identical images give +inf.

    sr: (N, C, H, W), floats in [0, 1]. hr: the same, or (1, C, H, W) for all. crop_px: HR pixels ignored on each side.
    Returns (N,) float64.
    """
    _check_shapes(sr, hr, crop_px, least_px=1)
    ours, truth = _inner(sr, crop_px), _inner(hr, crop_px)
    return -10 * torch.log10((ours - truth).square().mean(dim=(1, 2, 3)))


def ssim(sr: Tensor, hr: Tensor, *, crop_px: int) -> Tensor:
    """SSIM in [-1, 1], mean over channels and over the places where the 11x11 Gaussian window lies inside.

    sr: (N, C, H, W), floats in [0, 1]. hr: the same, or (1, C, H, W) for all. crop_px: HR pixels ignored on each side.
    Returns (N,) float64.
    Equals scikit-image with gaussian_weights, sigma 1.5, use_sample_covariance=False, data_range 1.
    """
    _check_shapes(sr, hr, crop_px, least_px=SSIM_TAPS)
    x, y = _inner(sr, crop_px), _inner(hr, crop_px)
    mean_x, mean_y = _window(x), _window(y)
    variances = _window(x * x + y * y) - mean_x**2 - mean_y**2  # only their sum is wanted: one window less
    covariance = _window(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + SSIM_C1) / (mean_x**2 + mean_y**2 + SSIM_C1)
    structure = (2 * covariance + SSIM_C2) / (variances + SSIM_C2)
    return (luminance * structure).mean(dim=(1, 2, 3))


LUMA_LEVELS = (65.481, 128.553, 24.966)
"""BT.601 in the range 16 to 235: what each channel in [0, 1] adds above 16."""


def luma(rgb: Tensor) -> Tensor:
    """The Y of BT.601 in studio range (16 to 235, as /255), as super-resolution papers measure on.

    rgb: (N, 3, H, W) in [0, 1]. Returns (N, 1, H, W), not rounded.
    """
    weights = rgb.new_tensor(LUMA_LEVELS).reshape(1, 3, 1, 1)
    return (16 + (rgb * weights).sum(dim=1, keepdim=True)) / 255


def _window(x: Tensor) -> Tensor:
    """Means under the Gaussian window, wherever it lies inside: (N, C, H, W) -> (N, C, H - 10, W - 10).

    Sums of shifted images: in float64 several times quicker than a convolution, on a CPU and without cuDNN.
    """
    half = SSIM_TAPS // 2
    weights = [math.exp(-0.5 * ((tap - half) / SSIM_SIGMA) ** 2) for tap in range(SSIM_TAPS)]
    total = sum(weights)
    for dim in (2, 3):
        length = x.shape[dim] - 2 * half
        mean = x.narrow(dim, half, length) * (weights[half] / total)
        for tap in range(half):
            both = x.narrow(dim, tap, length) + x.narrow(dim, SSIM_TAPS - 1 - tap, length)
            mean.add_(both, alpha=weights[tap] / total)
        x = mean
    return x


def _inner(image: Tensor, crop_px: int) -> Tensor:
    inner = slice(crop_px, -crop_px or None)
    return image[..., inner, inner].double()


def _check_shapes(sr: Tensor, hr: Tensor, crop_px: int, *, least_px: int) -> None:
    if sr.shape != hr.shape and (1, *sr.shape[1:]) != hr.shape:
        raise ValueError(f"sr and hr must have the same shape, got {tuple(sr.shape)} and {tuple(hr.shape)}.")
    if min(sr.shape[-2:]) < least_px + 2 * crop_px:
        raise ValueError(f"{tuple(sr.shape)} less {crop_px} pixels on each side leaves under {least_px} pixels.")


def compare(sr: Tensor, hr: Tensor, *, crop_px: int, lpips: Distance | None = None) -> dict[str, Tensor]:
    """`psnr` in dB and `ssim`, as `metrics.fidelity` has them, and `lpips` where given; (N,) each.

    sr: (N, C, H, W), floats in [0, 1]. hr: the same, or (1, C, H, W) for all. crop_px: border left
    out of all of them, pixels of these images.
    """
    scores = {"psnr": psnr_db(sr, hr, crop_px=crop_px), "ssim": ssim(sr, hr, crop_px=crop_px)}
    if lpips is not None:
        inner = (..., slice(crop_px, -crop_px or None), slice(crop_px, -crop_px or None))
        scores["lpips"] = lpips(sr[inner].float(), hr[inner].float())
    return scores


BLOCK_PX = 8
FLAT_SHARE = 0.25  # of the blocks, the flattest
CLIPPED = (4.5 / 255, 250.5 / 255)  # beyond, black and white hide noise
EDGE_SHARE = 0.1  # of the pixels, the steepest


def flat_noise(image: Tensor, reference: Tensor) -> Tensor:
    """Standard deviation of `image - reference` in the reference's flat blocks, in levels of 255, one per image.

    Blocks of 8 x 8 from the upper left corner, what does not fill one left out. Those nowhere clipped in the
    reference (where there are any) are ordered by the standard deviation of its luma; the flattest quarter, at least
    one, is flat. In each, per channel, the mean of the difference is taken off: an error of color is no noise.

    image, reference: (N, 3, H, W) in [0, 1], sides of 8 pixels at least. Returns (N,) float64.
    """
    pairs = zip(_blocks(image - reference), _blocks(reference), _blocks(luma(reference)), strict=True)
    return torch.stack([255 * _spread(error[_flat(clean, gray)]) for error, clean, gray in pairs])


def edge_gain(image: Tensor, reference: Tensor) -> Tensor:
    """How much of the reference's gradients on its edges the image has: 1 all, 0 none, above 1 over-sharpened.

    The slope of the image's luma gradients over the reference's, least squares through zero, on the tenth of the
    pixels where the reference's are steepest (central differences). Noise does not raise it, as it would the
    plain energy of the gradients: it is not in line with the reference. 1 where the reference has no gradient.

    image, reference: (N, 3, H, W) in [0, 1], sides of 3 pixels at least. Returns (N,) float64.
    """
    ours, truth = _gradients(image), _gradients(reference)  # (N, 2, P)
    steepness = truth.square().sum(dim=1)
    count = max(1, round(EDGE_SHARE * steepness.shape[1]))
    places = steepness.topk(count, dim=1).indices.unsqueeze(1).expand(-1, 2, -1)
    ours, truth = ours.gather(2, places), truth.gather(2, places)
    along, energy = (ours * truth).sum(dim=(1, 2)), truth.square().sum(dim=(1, 2))
    return torch.where(energy > 0, along / energy, torch.ones_like(energy))


def _blocks(image: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, blocks, C, 64), float64."""
    n, channels = image.shape[:2]
    folded = F.unfold(image.double(), BLOCK_PX, stride=BLOCK_PX)
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


def _gradients(image: Tensor) -> Tensor:
    y = luma(image.double())[:, 0]
    across = (y[:, 1:-1, 2:] - y[:, 1:-1, :-2]) / 2
    down = (y[:, 2:, 1:-1] - y[:, :-2, 1:-1]) / 2
    return torch.stack((across, down), dim=1).flatten(2)
