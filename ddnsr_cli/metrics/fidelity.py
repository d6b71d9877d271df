"""PSNR and SSIM: how far a result is from the truth, pixel by pixel."""

import math
from collections.abc import Callable

import torch
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

    Sums of shifted pictures: in float64 several times quicker than a convolution, on a CPU and without cuDNN.
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
    out of all of them, pixels of these pictures.
    """
    scores = {"psnr": psnr_db(sr, hr, crop_px=crop_px), "ssim": ssim(sr, hr, crop_px=crop_px)}
    if lpips is not None:
        inner = (..., slice(crop_px, -crop_px or None), slice(crop_px, -crop_px or None))
        scores["lpips"] = lpips(sr[inner].float(), hr[inner].float())
    return scores
