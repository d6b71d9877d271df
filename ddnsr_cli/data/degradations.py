"""Classical degradations: from clean HR crops to noisy LR ones, with everything drawn at random.

Used for the fidelity warm-up and as baselines; the learned degradation is the degrader network's.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ddnsr_cli.errors import ConfigError

BLUR_TAPS = 13  # wide enough for 4 sigma at the largest blur drawn
SHRINKERS = ("bicubic", "bilinear", "area")


@dataclass(frozen=True, kw_only=True)
class DegradationConfig:
    """What is drawn for each crop. A pair is a range, drawn uniformly; a chance is in [0, 1]."""

    scale: int = 4
    """HR pixels per LR pixel along a side."""

    blur_chance: float = 0.4
    """Share of crops blurred by an anisotropic Gaussian before shrinking."""

    blur_sigma: tuple[float, float] = (0.4, 2.6)
    """Standard deviation along each axis of the Gaussian, HR pixels."""

    bicubic_chance: float = 0.7
    """Share of crops shrunk by antialiased bicubic; the rest by bilinear or area."""

    noise_sigma: tuple[float, float] = (0.0, 16.0)
    """Standard deviation of the noise at mid gray, levels of 255."""

    coloured_chance: float = 0.4
    """Share of crops whose noise is blurred slightly, as after demosaicing."""

    coloured_sigma: tuple[float, float] = (0.3, 0.8)
    """Standard deviation of the Gaussian that blurs it, LR pixels; drawn once for a batch."""

    chroma_width: tuple[float, float] = (1.0, 1.0)
    """How many times as wide that Gaussian is for the noise of single channels; drawn once for a batch.
    Cameras leave fine grain in brightness and wide blotches of colour."""

    shot_share: tuple[float, float] = (0.0, 0.8)
    """Share of the noise variance that grows with brightness (photon noise)."""

    gray_share: tuple[float, float] = (0.0, 0.7)
    """Share of the noise variance common to the three channels."""

    jpeg_chance: float = 0.5
    """Share of crops compressed by JPEG."""

    jpeg_quality: tuple[int, int] = (40, 96)
    """Pillow's JPEG quality, both ends included."""

    def __post_init__(self) -> None:
        chances = (self.blur_chance, self.bicubic_chance, self.coloured_chance, self.jpeg_chance)
        if not all(0 <= chance <= 1 for chance in chances):
            raise ConfigError(f"Chances lie in [0, 1], got {chances}.")
        widths = (self.blur_sigma, self.coloured_sigma, self.chroma_width)
        for low, high in (*widths, self.noise_sigma, self.shot_share, self.gray_share, self.jpeg_quality):
            if not 0 <= low <= high:
                raise ConfigError(f"A range goes from low to high and is not negative, got ({low}, {high}).")
        if self.scale < 1 or not all(low for low, _ in widths):
            raise ConfigError(
                f"scale is at least 1, blur_sigma, coloured_sigma and chroma_width are above 0, got {self.scale} and "
                f"{widths}."
            )
        if max(self.shot_share[1], self.gray_share[1]) > 1 or self.jpeg_quality[1] > 100:
            raise ConfigError(
                f"Shares reach 1 and the JPEG quality 100 at most, got {self.shot_share}, {self.gray_share} and "
                f"{self.jpeg_quality}."
            )


def degrade_classically(hr: Tensor, config: DegradationConfig, rng: np.random.Generator) -> Tensor:
    """Blur, shrink, add noise, compress: each crop with its own draw.

    hr: (N, 3, H, W) in [0, 1], H and W multiples of the scale. Returns (N, 3, H/scale, W/scale), uint8:
    a real camera's file has whole levels too.
    """
    blurred = _blur(hr, config, rng)
    lr = torch.cat([_shrink(crop[None], config, rng) for crop in blurred])
    noisy = lr + draw_noise(lr.shape, config, rng).on(lr)
    levels = (noisy * 255).round().clamp(0, 255).to(torch.uint8)
    return torch.stack([_maybe_jpeg(crop, config, rng) for crop in levels])


def _blur(hr: Tensor, config: DegradationConfig, rng: np.random.Generator) -> Tensor:
    chosen = np.flatnonzero(rng.random(len(hr)) < config.blur_chance)
    if not len(chosen):
        return hr
    kernels = torch.stack([_gaussian_kernel(config, rng) for _ in chosen])
    crops = F.pad(hr[chosen], (BLUR_TAPS // 2,) * 4, mode="reflect")
    n, channels, height, width = crops.shape
    weight = kernels.repeat_interleave(channels, dim=0)[:, None]  # (N * C, 1, taps, taps)
    blurred = F.conv2d(crops.reshape(1, n * channels, height, width), weight, groups=n * channels)
    result = hr.clone()
    result[chosen] = blurred.reshape(n, channels, *hr.shape[-2:])
    return result


def _gaussian_kernel(config: DegradationConfig, rng: np.random.Generator) -> Tensor:
    sigma_u, sigma_v = rng.uniform(*config.blur_sigma, size=2)
    angle = rng.uniform(0, np.pi)
    axis = np.arange(BLUR_TAPS) - BLUR_TAPS // 2
    x, y = np.meshgrid(axis, axis)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.exp(-0.5 * ((u / sigma_u) ** 2 + (v / sigma_v) ** 2))
    return torch.from_numpy(kernel / kernel.sum()).float()


def _shrink(hr: Tensor, config: DegradationConfig, rng: np.random.Generator) -> Tensor:
    mode = SHRINKERS[0] if rng.random() < config.bicubic_chance else SHRINKERS[rng.integers(1, len(SHRINKERS))]
    if mode == "area":
        return F.avg_pool2d(hr, config.scale)
    return F.interpolate(hr, scale_factor=1 / config.scale, mode=mode, antialias=True, align_corners=False)


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Noise that has been drawn, before it is known what it lies on."""

    field: Tensor
    """(N, 3, H, W) of unit variance, its neighbours and channels related as drawn."""

    shot: Tensor
    """(N, 1, 1, 1): share of the variance that grows with brightness."""

    sigma: Tensor
    """(N, 1, 1, 1): standard deviation at mid gray, of 1."""

    def on(self, lr: Tensor) -> Tensor:
        """The noise of pictures `lr`, (N, 3, H, W) in [0, 1], to be added to them."""
        variance = (1 - self.shot) + self.shot * 2 * lr.clamp(0, 1)  # equals 1 at mid gray
        return self.sigma * variance.sqrt() * self.field


def draw_noise(shape: torch.Size, config: DegradationConfig, rng: np.random.Generator) -> Noise:
    """Noise for pictures of a shape (N, 3, H, W): each of them with its own level and kind."""
    n, _, height, width = shape
    gray = _column(rng.uniform(*config.gray_share, size=n))
    shot = _column(rng.uniform(*config.shot_share, size=n))
    sigma = _column(rng.uniform(*config.noise_sigma, size=n) / 255)
    common, own = _normal((n, 1, height, width), rng), _normal(shape, rng)
    coloured = rng.random(n) < config.coloured_chance
    grain = rng.uniform(*config.coloured_sigma)
    common[coloured] = _correlate(common[coloured], grain)
    own[coloured] = _correlate(own[coloured], grain * _drawn(config.chroma_width, rng))
    field = gray.sqrt() * common + (1 - gray).sqrt() * own
    return Noise(field=field, shot=shot, sigma=sigma)


def _drawn(pair: tuple[float, float], rng: np.random.Generator) -> float:
    """Uniform; a range of one value takes no number, so that what is drawn after it stays."""
    low, high = pair
    return low if low == high else float(rng.uniform(low, high))


def _correlate(noise: Tensor, sigma: float) -> Tensor:
    """Blur noise by a Gaussian, 5 taps wide or more where it and the crop are wide, and give it unit variance again."""
    reach = max(2, min(round(2.5 * sigma), min(noise.shape[-2:]) // 4))
    axis = torch.arange(2.0 * reach + 1) - reach
    line = torch.exp(-0.5 * (axis / sigma) ** 2)
    kernel = torch.outer(line, line)
    kernel /= kernel.square().sum().sqrt()
    weight = kernel.expand(noise.shape[1], 1, *kernel.shape)
    return F.conv2d(F.pad(noise, (reach,) * 4, mode="reflect"), weight, groups=noise.shape[1])


def _maybe_jpeg(levels: Tensor, config: DegradationConfig, rng: np.random.Generator) -> Tensor:
    low, high = config.jpeg_quality
    chance, quality = rng.random(), int(rng.integers(low, high + 1))
    if chance >= config.jpeg_chance:
        return levels
    buffer = io.BytesIO()
    Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy()).save(buffer, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1)


def _normal(shape: Sequence[int], rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.standard_normal(tuple(shape), dtype=np.float32))


def _column(values: np.ndarray) -> Tensor:
    """(N,) numbers as (N, 1, 1, 1) float32, to scale a batch."""
    return torch.from_numpy(values.astype(np.float32)).reshape(-1, 1, 1, 1)
