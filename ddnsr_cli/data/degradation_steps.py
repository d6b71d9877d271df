"""Steps of a degradation: kernels of blur and ringing, JPEG and WebP."""

import io
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

REACH = 10  # pixels from a kernel's middle to its border: 3.3 sigma of the widest blur
BAND_ROWS = 512  # filtered at a time: spectra of a large image never lie in memory whole

Pixels = NDArray[np.float32]
"""(C, H, W) brightness in [0, 1], H and W of any size."""

BLOCK_PX = 16  # of JPEG with color at half resolution, and of WebP
HALF_CHROMA, FULL_CHROMA = "4:2:0", "4:4:4"


def bell(sigma: tuple[float, float], angle: float) -> NDArray[np.float64]:
    """Squared distance from the middle in standard deviations, (21, 21), of axes turned by `angle`, radians.

    sigma: along both axes, pixels. `exp(-bell / 2)` is the anisotropic Gaussian.
    """
    x, y = _grid()
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return np.asarray((u / sigma[0]) ** 2 + (v / sigma[1]) ** 2)


def generalized_gaussian(distance: NDArray[np.float64], beta: float = 1.0) -> Pixels:
    """The kernel exp(-distance^beta / 2) of a `bell`, of sum 1; beta 1 is the Gaussian."""
    return _unit(np.exp(-0.5 * distance**beta))


def plateau(distance: NDArray[np.float64], beta: float) -> Pixels:
    """The kernel 1 / (1 + distance^beta) of a `bell`, of sum 1."""
    return _unit(1 / (1 + distance**beta))


def circular_low_pass(cutoff: float) -> Pixels:
    """The kernel that passes what lies below `cutoff` (of half the sampling rate) in any direction; it rings."""
    radius = np.hypot(*_grid())
    edge = np.pi * cutoff
    safe = np.maximum(radius, 1e-9)
    wave = torch.special.bessel_j1(torch.from_numpy(edge * safe)).numpy()
    return _unit(np.where(radius > 0, edge * wave / (2 * np.pi * safe), edge**2 / (4 * np.pi)))


def filtered(image: Pixels, kernel: Pixels) -> Pixels:
    """The image under a (21, 21) kernel that is symmetric about its middle; mirrored beyond its border."""
    height = image.shape[1]
    padded = np.pad(image, ((0, 0), (REACH, REACH), (REACH, REACH)), mode="reflect")
    result = np.empty_like(image)
    for top in range(0, height, BAND_ROWS):
        bottom = min(top + BAND_ROWS, height)
        band = torch.from_numpy(padded[:, top : bottom + 2 * REACH])
        size = (band.shape[1], band.shape[2])
        spectrum = torch.fft.rfft2(band) * torch.fft.rfft2(torch.from_numpy(kernel), s=size)
        result[:, top:bottom] = torch.fft.irfft2(spectrum, s=size)[:, 2 * REACH :, 2 * REACH :].numpy()
    return result


def _grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    axis = np.arange(-REACH, REACH + 1, dtype=np.float64)
    x, y = np.meshgrid(axis, axis)
    return x, y


def _unit(kernel: NDArray[np.float64]) -> Pixels:
    return np.asarray(kernel / kernel.sum(), np.float32)


@dataclass(frozen=True, kw_only=True)
class Compression:
    """A format and its settings."""

    quality: int
    """Pillow's, 0 to 100."""

    webp: bool = False
    """WebP instead of JPEG."""

    chroma: str = HALF_CHROMA
    """Resolution of JPEG's color, as Pillow's `subsampling`."""

    phase: tuple[int, int] = (0, 0)
    """Rows and columns before the image that belong to its first blocks, below 16."""

    def of(self, levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image (3, H, W) compressed and read again."""
        top, left = self.phase
        padded = np.pad(levels.transpose(1, 2, 0), ((top, 0), (left, 0), (0, 0)), mode="edge")
        buffer = io.BytesIO()
        image = Image.fromarray(padded)
        if self.webp:
            image.save(buffer, "WEBP", quality=self.quality, method=2)
        else:
            image.save(buffer, "JPEG", quality=self.quality, subsampling=self.chroma)
        with Image.open(buffer) as read:
            pixels = np.asarray(read.convert("RGB"))
        return np.ascontiguousarray(pixels[top:, left:].transpose(2, 0, 1))
