"""Degradations by rule: from clean HR images to LR ones as cameras, phones and the web leave them.

Each image draws its own, from its own generator: what one draws does not depend on the others. The learned degradation
is the degrader network's.

Simulated noise teaches a degrader to carry noise from one image to another (not in the paper). What the adversarial
loss asks of a degrader, noise like the source's, is the noise of the image it is given. That much can be learned
without any source: put drawn noise on one image, and ask for the same noise on another. Its level, color and grain are
drawn again for each crop, so that what is learned is to carry, not to invent.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ddnsr_cli.config import SCALE
from ddnsr_cli.data.config import DegradationConfig, NoiseInput, Range
from ddnsr_cli.data.noise_patches import slow_part
from ddnsr_cli.losses import content_reference
from ddnsr_cli.metrics.noise import LUMA

REACH = 10  # pixels from a kernel's middle to its border: 3.3 sigma of the widest blur
BAND_ROWS = 512  # filtered at a time: spectra of a large image never lie in memory whole

Pixels = NDArray[np.float32]
"""(C, H, W) brightness in [0, 1], H and W of any size."""

WEBP_MOST_PX = 16383
"""Side of the largest image that WebP holds."""

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
    """WebP instead of JPEG, where it holds the image."""

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
        if self.webp and max(image.size) <= WEBP_MOST_PX:
            image.save(buffer, "WEBP", quality=self.quality, method=2)
        else:
            image.save(buffer, "JPEG", quality=self.quality, subsampling=self.chroma)
        with Image.open(buffer) as read:
            pixels = np.asarray(read.convert("RGB"))
        return np.ascontiguousarray(pixels[top:, left:].transpose(2, 0, 1))


MOST_PHOTONS = 1e6  # of white: a quarter of a level of noise is less than rounding

RESIZERS = ("bicubic", "bilinear", "area", "lanczos")
LEAST_PX = 4  # side of an image between two passes

BAND_LR_PX = 64  # rows computed at a time: the HR image is never in memory as floats
MARGIN_LR_PX = 2  # bicubic shrinking by 4 reads 8 HR pixels beyond those that are averaged


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Gaussian noise of one image that has been drawn, before it is known what it lies on."""

    field: Pixels
    """(3, H, W) of unit variance, its neighbors and channels related as drawn."""

    shot: float
    """Share of the variance that grows with brightness."""

    sigma: float
    """Standard deviation at mid gray, of 1."""

    def on(self, lr: Pixels) -> Pixels:
        """The noise of an image (3, H, W) in [0, 1], to be added to it."""
        variance = (1 - self.shot) + (2 * self.shot) * np.clip(lr, 0, 1)  # equals 1 at mid gray
        return np.asarray(np.sqrt(variance) * self.field * np.float32(self.sigma))


def draw_noise(
    size: tuple[int, int], config: DegradationConfig, rng: np.random.Generator, *, sigma: float, gray: bool = False
) -> Noise:
    """Gaussian noise for an image of (H, W) pixels, of a standard deviation of `sigma`, of 1.

    gray: the same in all channels. Whether it is coarse, and then weaker, and all else, is drawn.
    """
    gray_share = 1.0 if gray else rng.uniform(*config.gray_share)
    shot = float(rng.uniform(*config.shot_share))
    common, own = (rng.standard_normal((channels, *size), dtype=np.float32) for channels in (1, 3))
    if rng.random() < config.coarse_chance:
        grain = rng.uniform(*config.coarse_sigma)
        common, own = coarsened(common, grain), coarsened(own, grain * rng.uniform(*config.chroma_width))
        sigma *= rng.uniform(*config.coarse_level)
    field = own * np.float32((1 - gray_share) ** 0.5)
    field += common * np.float32(gray_share**0.5)
    return Noise(field=field, shot=shot, sigma=sigma)


def photon_noise(image: Pixels, sigma: float, rng: np.random.Generator, *, gray: bool = False) -> Pixels:
    """The noise of counted photons, to be added to an image (3, H, W) in [0, 1]: Poisson, not Gaussian.

    sigma: standard deviation at mid gray, of 1. gray: brightness is counted instead of each channel.
    """
    photons = min(0.5 / max(sigma, 1e-9) ** 2, MOST_PHOTONS)  # of white
    light = np.clip(image.mean(axis=0, keepdims=True) if gray else image, 0, 1)
    return np.asarray(rng.poisson(light * photons) / photons - light, np.float32)


def coarsened(noise: Pixels, sigma: float) -> Pixels:
    """White noise (C, H, W) blurred by a Gaussian, 5 taps wide or more where it and the image are wide.

    It has unit variance again.
    """
    reach = max(2, min(round(2.5 * sigma), min(noise.shape[-2:]) // 4))
    line = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    line /= np.sqrt(np.square(line).sum())
    # wrapped: mirrored noise would be under the kernel twice, and the border noisier than the rest
    padded = np.pad(noise, ((0, 0), (reach, reach), (reach, reach)), mode="wrap")
    across = _weighed_sum(padded, line, axis=2)
    return _weighed_sum(across, line, axis=1)


def _weighed_sum(image: Pixels, line: NDArray[np.float64], *, axis: int) -> Pixels:
    """Of an image's parts that are shifted along an axis; shorter there by the length of `line` less 1."""
    image = np.moveaxis(image, axis, 0)
    length = len(image) - len(line) + 1
    result = np.zeros((length, *image.shape[1:]), np.float32)
    for first, weight in enumerate(line.astype(np.float32)):
        result += weight * image[first : first + length]
    return np.moveaxis(result, 0, axis)


def degrade(hr: Tensor, config: DegradationConfig, rng: np.random.Generator) -> Tensor:
    """Degrade each image of a batch by a draw of its own.

    hr: (N, 3, H, W), float in [0, 1], H and W multiples of the scale. Returns (N, 3, H/scale, W/scale), uint8: a real
    camera's file has whole levels too. The extents of HR and LR are the same: nothing is shifted.
    """
    seeds = rng.integers(2**63, size=len(hr))
    made = [
        degrade_image(image.float().numpy(), config, np.random.default_rng(seed))
        for image, seed in zip(hr, seeds, strict=True)
    ]
    return torch.from_numpy(np.stack(made))


def degrade_image(hr: Pixels, config: DegradationConfig, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One image, (3, H, W) in [0, 1], to (3, H/scale, W/scale)."""
    draws = _Draws(rng, rng.uniform(*config.strength))
    image, (height, width) = hr, (side // config.scale for side in hr.shape[1:])
    if draws.hit(config.twice_chance):
        times = draws.size(config.size)
        between = (max(LEAST_PX, round(times * height)), max(LEAST_PX, round(times * width)))
        image = _pass(image, between, config, draws, hr_px=1.0).astype(np.float32) / np.float32(255)
    return _pass(image, (height, width), config, draws, hr_px=image.shape[2] / hr.shape[2])


@dataclass(frozen=True)
class _Draws:
    """A generator, and how far into the ranges of what harms it may go, of 1."""

    rng: np.random.Generator
    strength: float

    def hit(self, chance: float) -> bool:
        return bool(self.rng.random() < chance)

    def within(self, between: Range) -> float:
        return float(self.rng.uniform(*between))

    def up_from(self, between: Range) -> float:
        """Of a range whose high end harms."""
        low, high = between
        return low + self.strength * (high - low) * float(self.rng.random())

    def down_from(self, between: Range) -> float:
        """Of a range whose low end harms."""
        low, high = between
        return high - self.strength * (high - low) * float(self.rng.random())

    def size(self, between: Range) -> float:
        """Uniform in its logarithm; what lies below 1 harms."""
        low, high = np.log(between)
        return float(np.exp(self.rng.uniform(self.strength * low if low < 0 < high else low, high)))


def _pass(
    image: Pixels, size: tuple[int, int], config: DegradationConfig, draws: _Draws, *, hr_px: float
) -> NDArray[np.uint8]:
    """hr_px: side of an HR pixel in pixels of the image."""
    if draws.hit(config.blur_chance):
        image = filtered(image, _blur_kernel(config, draws, hr_px))
    image = resized(image, size, _resizer(config, draws))
    if draws.hit(config.noise_chance):
        image = image + _noise(image, config, draws)
    if draws.hit(config.ring_chance):
        image = filtered(image, circular_low_pass(draws.down_from(config.ring_cutoff)))
    if draws.hit(config.sharpen_chance):
        image = sharpened(image, draws.up_from(config.sharpen_amount), draws.within(config.sharpen_radius))
    levels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return _compression(config, draws).of(levels) if draws.hit(config.jpeg_chance) else levels


def _blur_kernel(config: DegradationConfig, draws: _Draws, hr_px: float) -> Pixels:
    along, across = (hr_px * draws.up_from(config.blur_sigma) for _ in range(2))
    distance = bell((along, along if draws.hit(config.isotropic_chance) else across), draws.within((0, np.pi)))
    kind = draws.within((0, 1))
    if kind < config.generalized_chance:
        return generalized_gaussian(distance, draws.within(config.generalized_beta))
    if kind < config.generalized_chance + config.plateau_chance:
        return plateau(distance, draws.within(config.plateau_beta))
    return generalized_gaussian(distance)


def _resizer(config: DegradationConfig, draws: _Draws) -> str:
    first, *others = RESIZERS
    return first if draws.hit(config.bicubic_chance) else others[draws.rng.integers(len(others))]


def resized(image: Pixels, size: tuple[int, int], resizer: str) -> Pixels:
    """(C, H, W) to (C, *size), antialiased; the extents stay the same, whatever the ratio. resizer: of `RESIZERS`."""
    if image.shape[1:] == size:
        return image
    if resizer == "area":
        return np.stack([_averaged(_averaged(plane, size[1]).T, size[0]).T for plane in image])
    how = Image.Resampling[resizer.upper()]
    return np.stack([np.asarray(Image.fromarray(plane).resize(size[::-1], how)) for plane in image])


def _averaged(lines: Pixels, length: int) -> Pixels:
    """Means over equal parts of each line, (N, L) to (N, length); a sample on a border counts in part in both.

    Not Pillow's BOX, which gives such samples to one side whole: edges would move by up to half a pixel.
    """
    borders = np.linspace(0, lines.shape[1], length + 1)
    whole = np.minimum(borders.astype(int), lines.shape[1] - 1)
    sums = np.pad(lines.cumsum(axis=1, dtype=np.float64), ((0, 0), (1, 0)))
    at_borders = sums[:, whole] + (borders - whole) * lines[:, whole]
    return np.asarray(np.diff(at_borders, axis=1) * (length / lines.shape[1]), np.float32)


def _noise(image: Pixels, config: DegradationConfig, draws: _Draws) -> Pixels:
    sigma = draws.up_from(config.noise_sigma) / 255
    gray, size = draws.hit(config.gray_chance), (image.shape[1], image.shape[2])
    if draws.hit(config.poisson_chance):
        return photon_noise(image, sigma, draws.rng, gray=gray)
    return draw_noise(size, config, draws.rng, sigma=sigma, gray=gray).on(image)


def sharpened(image: Pixels, amount: float, radius: float) -> Pixels:
    """An image (3, H, W) under an unsharp mask of its brightness.

    amount: how often what a Gaussian of `radius` pixels takes away is added.
    """
    luma = np.tensordot(LUMA, image, axes=1)[None]
    blurred = filtered(luma, generalized_gaussian(bell((radius, radius), 0.0)))
    return image + np.float32(amount) * (luma - blurred)


def _compression(config: DegradationConfig, draws: _Draws) -> Compression:
    low, high = config.jpeg_quality
    return Compression(
        quality=min(high, int(draws.down_from((low, high + 1)))),
        webp=draws.hit(config.webp_chance),
        chroma=FULL_CHROMA if draws.hit(config.full_chroma_chance) else HALF_CHROMA,
        phase=(int(draws.rng.integers(BLOCK_PX)), int(draws.rng.integers(BLOCK_PX))),
    )


def shrink_bicubic(hr: NDArray[np.uint8], scale: int = SCALE) -> NDArray[np.float32]:
    """Antialiased bicubic: (scale * H, scale * W, 3) levels to (H, W, 3) levels, neither rounded nor clipped."""
    height, width = (length // scale for length in hr.shape[:2])
    lr = np.empty((height, width, 3), np.float32)
    for top in range(0, height, BAND_LR_PX):
        bottom = min(top + BAND_LR_PX, height)
        first, last = max(0, top - MARGIN_LR_PX), min(height, bottom + MARGIN_LR_PX)
        band = np.ascontiguousarray(hr[scale * first : scale * last].transpose(2, 0, 1), np.float32)
        size = (last - first, width)
        shrunk = F.interpolate(torch.from_numpy(band)[None], size=size, mode="bicubic", antialias=True)[0].numpy()
        lr[top:bottom] = shrunk[:, top - first : bottom - first].transpose(1, 2, 0)
    return lr


def add_gaussian(lr: NDArray[np.float32], sigma: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """White Gaussian noise of `sigma` levels, each sample its own: Track 1 of NTIRE 2020."""
    noisy: NDArray[np.float32] = lr + np.float32(sigma) * rng.standard_normal(lr.shape, dtype=np.float32)
    return noisy


def whole_levels(lr: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Levels clipped to 0..255 and rounded, once."""
    return np.rint(np.clip(lr, 0, 255)).astype(np.uint8)


CARRIED_NOISE = DegradationConfig(
    noise_sigma=(0.0, 20.0),
    coarse_chance=0.7,
    coarse_sigma=(0.3, 2.0),  # the noise of cameras' JPEGs leans on neighbors several pixels away
    gray_share=(0.0, 1.0),
)
CARRIED_KEY = 6  # keeps these draws apart from those of the images


@dataclass(frozen=True, kw_only=True)
class NoiseTransfer:
    """What the degrader is given beside HR crops, and what it is to make of both."""

    lr_noisy: Tensor
    """(N, 3, h, w) in [0, 1], whole levels: shrunk crops of other images with noise."""

    lr_wanted: Tensor
    """(N, 3, h, w) in [0, 1]: the HR crops shrunk, each with the noise of its `lr_noisy`."""


def draw_noise_transfer(hr: Tensor, *, seed: int, step: int, noise_input: NoiseInput) -> NoiseTransfer:
    """What to transfer in a step, to each crop from the one before it, or from what is smooth in that.

    hr: (N, 3, 4h, 4w), uint8.
    """
    shrunk = content_reference(hr.float() / 255)
    others = shrunk.roll(1, dims=0)
    if noise_input is NoiseInput.SMOOTH:
        others = slow_part(others)
    size, rng = (shrunk.shape[2], shrunk.shape[3]), np.random.default_rng([seed, CARRIED_KEY, step])
    noises = [draw_noise(size, CARRIED_NOISE, rng, sigma=rng.uniform(*CARRIED_NOISE.noise_sigma) / 255) for _ in shrunk]
    lr_noisy = _noisy(others, noises).clamp(0, 1)
    return NoiseTransfer(
        lr_noisy=torch.round(lr_noisy * 255) / 255,
        lr_wanted=_noisy(shrunk, noises).clamp(0, 1),
    )


def _noisy(images: Tensor, noises: Sequence[Noise]) -> Tensor:
    pairs = zip(images, noises, strict=True)
    return torch.stack([image + torch.from_numpy(noise.on(image.numpy())) for image, noise in pairs])
