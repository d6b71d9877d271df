"""Figures of a result against the truth, as `ddnsr eval` computes them."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ddnsr_cli.api.images import AnyImage, take_apart
from ddnsr_cli.errors import ConfigError, DataError
from ddnsr_cli.io.image import RasterImage
from ddnsr_cli.metrics.fidelity import SSIM_TAPS, luma, psnr_db, ssim

BORDER_PX = 4


def _on_luma(metric: Callable[..., Tensor], sr: Tensor, hr: Tensor, *, crop_px: int) -> Tensor:
    return metric(luma(sr), luma(hr), crop_px=crop_px)


METRICS: dict[str, Callable[..., Tensor]] = {
    "psnr": psnr_db,
    "ssim": ssim,
    "psnr_y": partial(_on_luma, psnr_db),
    "ssim_y": partial(_on_luma, ssim),
}


def evaluate(
    sr: AnyImage, hr: AnyImage, metrics: Sequence[str] = ("psnr", "ssim"), *, crop_px: int = BORDER_PX
) -> dict[str, float]:
    """How near a result is to the truth: the figures by name; of a batch, their means.

    metrics: of `psnr` (dB, RGB; infinite for equal images), `ssim` (RGB), `psnr_y` and `ssim_y` (luma of BT.601).
    crop_px: border left out, pixels. Alpha channels are left out. Raises ConfigError for an unknown metric, DataError
    for images of two sizes or too small, ImageReadError for what is no image.
    """
    if unknown := [name for name in metrics if name not in METRICS]:
        raise ConfigError(f"There is no metric {', '.join(map(repr, unknown))}. Choose from: {', '.join(METRICS)}.")
    results, truths = ([_stacked(one) for one in take_apart(image)[0]] for image in (sr, hr))
    _refuse_unlike(results, truths, crop_px)
    means = {}
    for name in metrics:
        figures = [METRICS[name](ours, truth, crop_px=crop_px) for ours, truth in zip(results, truths, strict=True)]
        means[name] = float(torch.cat(figures).mean())
    return means


def _stacked(image: RasterImage) -> Tensor:
    """(1, 3, H, W), float64 in [0, 1]; gray is repeated."""
    values = image.pixels.transpose(2, 0, 1).astype(np.float64) / np.iinfo(image.pixels.dtype).max
    return torch.from_numpy(values)[None].expand(-1, 3, -1, -1)


def _refuse_unlike(results: Sequence[Tensor], truths: Sequence[Tensor], crop_px: int) -> None:
    shapes = [[tuple(one.shape[2:]) for one in side] for side in (results, truths)]
    if shapes[0] != shapes[1]:
        raise DataError(f"sr and hr must be of one size (height, width), got {shapes[0]} and {shapes[1]}. Resize one.")
    least = SSIM_TAPS + 2 * crop_px
    if crop_px < 0 or min(min(shape) for shape in shapes[0]) < least:
        raise DataError(f"With crop_px={crop_px} a side needs {least} pixels, got {shapes[0]}. Crop less.")
