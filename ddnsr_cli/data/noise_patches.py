"""Real noise: which part of which noisy image, and noise cut out of smooth parts, put together to any size.

A degrader that is given a crop as it is prints some of its subject on the result. Smooth parts have no subject.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.metrics.noise import measure_noise

Rgb8 = NDArray[np.uint8]
"""(H, W, 3), RGB."""

LEAST_NOISE_PX = 32
"""Shorter side of a noisy image: a smaller one, mirrored again and again, is a pattern."""

CELL_PX = 4
CELLS = 4
PATCH_PX = (
    CELLS * CELL_PX
)  # of 32 pixels a side, half as many images have smooth ones, and those hold more of the scene
STEP_CELLS = 2  # between patches that are looked at: they overlap by half
FADE_PX = 4  # shared by neighbors in a field
NOISE_FACTOR = 1.5  # a patch within so many times the variance of the image's noise is smooth
LEAST_VARIANCE = 0.1  # rounding alone has 1/12: below are drawings and borders
LEAST_PATCHES = 4  # fewer repeat visibly
MOST_PATCHES = 4096  # of an image that are kept in mind
NEAR_LEVELS = 8.0  # patches that differ by no more in brightness have the same noise
LEAST_NEAR = 16  # so many are drawn from where fewer are as near
BASE_PX = 8  # of the squares whose means are the base of a noise input: no structure is left, but slopes are


@dataclass(frozen=True, kw_only=True)
class NoiseCrop:
    """A part of a noisy image at its native resolution; beyond the image's border it goes on mirrored."""

    top: int
    left: int
    height: int
    width: int


def pair_rng(seed: int, relative: str, variant: int) -> np.random.Generator:
    """The generator of one pair's draws: neither the order of work nor other images enter.

    relative: the HR image's path below its folder, with slashes.
    """
    text = f"{seed}\n{variant}\n{relative}"
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def draw_crop(rng: np.random.Generator, image: Rgb8, *, height: int, width: int) -> NoiseCrop:
    """A place for `height` x `width` pixels: anywhere inside where the image is large enough, else anywhere."""
    top, left = (_start(rng, has, wanted) for has, wanted in zip(image.shape[:2], (height, width), strict=True))
    return NoiseCrop(top=top, left=left, height=height, width=width)


class NoiseImage:
    """A crop of a noisy image, read in windows; no pixel of it is copied before."""

    def __init__(self, image: Rgb8, crop: NoiseCrop) -> None:
        self.crop = crop
        self.height, self.width = crop.height, crop.width
        self._image = image
        self._rows = _mirrored(crop.top, crop.height, image.shape[0])
        self._columns = _mirrored(crop.left, crop.width, image.shape[1])

    def read(self, top: int, left: int, height: int, width: int) -> Rgb8:
        """The window (height, width, 3); it lies wholly within the crop."""
        rows, columns = self._rows[top : top + height], self._columns[left : left + width]
        return self._image[rows[:, None], columns[None, :]]


def _start(rng: np.random.Generator, has: int, wanted: int) -> int:
    return int(rng.integers(0, has - wanted + 1 if has >= wanted else _period(has)))


def _mirrored(start: int, length: int, side: int) -> NDArray[np.intp]:
    """Indices into an image that goes on mirrored, its last pixel not repeated: 0 1 2 1 0 1 2 for a side of 3."""
    place = np.arange(start, start + length) % _period(side)
    return np.minimum(place, _period(side) - place)


def _period(side: int) -> int:
    return max(1, 2 * side - 2)


@dataclass(frozen=True, kw_only=True)
class PatchLimits:
    """Which patches count as smooth. Levels of 255."""

    most_variance: float | None = None
    """Largest variance, mean of the channels. None: 1.5 times that of the image's noise (`metrics.noise`)."""

    least_mean: float = 20.0
    """Darkest mean; below it noise is cut off at black."""

    most_mean: float = 235.0
    """Brightest mean; above it noise is cut off at white."""

    most_structure: float = 0.2
    """Largest share of the variance that lies in the means of 4 x 4 cells. White noise has 1/16, a slope nearly all."""

    def __post_init__(self) -> None:
        if self.most_variance is not None and not 0 < self.most_variance < np.inf:
            raise ConfigError(
                f"The largest variance of a noise patch must be above 0 and finite, got {self.most_variance}."
            )
        if not 0 <= self.least_mean < self.most_mean <= 255 or not 0 < self.most_structure <= 1:
            raise ConfigError(f"Means lie in 0..255 and a share in 0..1, got {self}.")


@dataclass(frozen=True, kw_only=True)
class SmoothPatches:
    """Where the smooth patches of an image lie, the darkest first."""

    places: NDArray[np.intp]
    """(N, 2): top and left of each."""

    brightness: NDArray[np.float64]
    """(N,): their means over the three channels, levels."""

    def thinned(self, most: int) -> "SmoothPatches":
        """At most so many, of every brightness."""
        step = -(-len(self.places) // most)
        return SmoothPatches(places=self.places[::step].copy(), brightness=self.brightness[::step].copy())

    def drawn(self, wanted: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.intp]:
        """(..., 2): a patch for each brightness wanted (...), out of those as bright, or of the nearest."""
        count = len(self.places)
        least = min(count, LEAST_NEAR)
        nearest = np.clip(np.searchsorted(self.brightness, wanted) - least // 2, 0, count - least)
        first = np.minimum(nearest, np.searchsorted(self.brightness, wanted - NEAR_LEVELS))
        end = np.maximum(nearest + least, np.searchsorted(self.brightness, wanted + NEAR_LEVELS, side="right"))
        drawn: NDArray[np.intp] = self.places[rng.integers(first, end)]
        return drawn


def smooth_patches(image: Rgb8, limits: PatchLimits) -> SmoothPatches | None:
    """Smooth patches of 16 x 16 pixels of an image (H, W, 3), at most 4096. None when there are too few."""
    if min(image.shape[:2]) < PATCH_PX:
        return None
    mean, variance, structure = _statistics(image)
    overall = variance.mean(2)
    fit = (mean.min(2) >= limits.least_mean) & (mean.max(2) <= limits.most_mean) & (overall >= LEAST_VARIANCE)
    if not fit.any():
        return None
    most = limits.most_variance
    if most is None:
        noise = measure_noise(image)
        most = NOISE_FACTOR * noise.level**2 if noise is not None else 0.0
    smooth = fit & (overall <= most) & (structure.mean(2) <= limits.most_structure * overall)
    cells = np.argwhere(smooth)
    if len(cells) < LEAST_PATCHES:
        return None
    brightness = mean.mean(2)[smooth]
    order = np.argsort(brightness, kind="stable")
    found = SmoothPatches(places=cells[order] * STEP_CELLS * CELL_PX, brightness=brightness[order])
    return found.thinned(MOST_PATCHES)


def is_without_noise(image: Rgb8) -> bool:
    """Whether most of an image (H, W, 3) is as flat as no sensor's image is: there is nothing to take noise from."""
    if min(image.shape[:2]) < PATCH_PX:
        return False
    mean, variance, _ = _statistics(image)
    limits = PatchLimits()
    inside = (mean.min(2) >= limits.least_mean) & (mean.max(2) <= limits.most_mean)
    flat = variance.mean(2) < LEAST_VARIANCE
    return bool((flat[inside] if inside.any() else flat).mean() >= 0.5)


def noise_field(
    image: Rgb8, patches: SmoothPatches, like: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Noise for an image `like` (H, W, 3), levels: patches as bright as it is there, each less its own mean.

    A camera's noise follows the brightness. Neighbors share a strip in which the squares of their weights add up to 1,
    so that the noise is nowhere weaker.
    """
    step = PATCH_PX - FADE_PX
    height, width = like.shape[:2]
    rows, columns = (-(-(length + FADE_PX) // step) for length in (height, width))
    drawn = patches.drawn(_square_means(like, step, rows, columns), rng)
    field = np.zeros((rows * step + FADE_PX, columns * step + FADE_PX, 3), np.float32)
    weight = np.outer(_fade(), _fade())[..., None].astype(np.float32)
    for row, column in np.ndindex(rows, columns):
        top, left = drawn[row, column]
        patch = image[top : top + PATCH_PX, left : left + PATCH_PX].astype(np.float32)
        place = np.s_[row * step :, column * step :]
        field[place][:PATCH_PX, :PATCH_PX] += weight * (patch - patch.mean((0, 1)))
    return field[FADE_PX : FADE_PX + height, FADE_PX : FADE_PX + width]


def _square_means(like: NDArray[np.float32], side: int, rows: int, columns: int) -> NDArray[np.float64]:
    """(rows, columns): mean over squares and channels; beyond the border its pixels are repeated."""
    gray = like.mean(2, dtype=np.float64)
    missing = [(0, count * side - length) for count, length in zip((rows, columns), gray.shape, strict=True)]
    means: NDArray[np.float64] = np.pad(gray, missing, "edge").reshape(rows, side, columns, side).mean((1, 3))
    return means


def smooth_noise_input(
    image: Rgb8, patches: SmoothPatches, like: NDArray[np.float32], rng: np.random.Generator
) -> Rgb8:
    """The noise of an image on what is left of `like` (H, W, 3), levels, without its structure: for a degrader."""
    levels = base_of(like) + noise_field(image, patches, like, rng)
    rounded: Rgb8 = np.rint(levels).clip(0, 255).astype(np.uint8)
    return rounded


class NoiseInputs:
    """Makes the noise inputs of training crops. Smooth patches of each image are looked for once."""

    def __init__(self) -> None:
        self._found: dict[tuple[Path, tuple[int, ...]], SmoothPatches | None] = {}

    def __call__(self, path: Path, image: Rgb8, crops: Tensor, *, seed: tuple[int, ...]) -> Tensor:
        """(N, 3, h, w), uint8, for crops of that shape out of an image (H, W, 3): each has the noise of the image's
        smooth parts on the slow changes of the crop. Of an image without smooth parts it is the crops themselves.
        """
        key = (path, image.shape)  # a file that is replaced meanwhile may have become smaller
        if key not in self._found:
            self._found[key] = smooth_patches(image, PatchLimits())
        patches = self._found[key]
        if patches is None:
            return crops
        rng = np.random.default_rng(seed)
        planes = (crop.permute(1, 2, 0).numpy().astype(np.float32) for crop in crops)
        made = [torch.from_numpy(smooth_noise_input(image, patches, like, rng)).permute(2, 0, 1) for like in planes]
        return torch.stack(made)


def base_of(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The slow part of an image (H, W, 3)."""
    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    base: NDArray[np.float32] = slow_part(planes)[0].permute(1, 2, 0).numpy()
    return base


def slow_part(images: Tensor) -> Tensor:
    """Slow changes of brightness and color alone: means of squares, enlarged. (N, C, H, W) to the same."""
    height, width = images.shape[2:]
    padded = F.pad(images, (0, -width % BASE_PX, 0, -height % BASE_PX), mode="replicate")
    means = F.avg_pool2d(padded, BASE_PX)
    larger = F.interpolate(means, scale_factor=float(BASE_PX), mode="bilinear", align_corners=False)
    return larger[..., :height, :width]


def _statistics(image: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean, variance, and variance of the cells' means, of every patch: (rows, columns, 3) each."""
    rows, columns = (length // CELL_PX for length in image.shape[:2])
    cells = image[: rows * CELL_PX, : columns * CELL_PX].reshape(rows, CELL_PX, columns, CELL_PX, 3)
    means = cells.sum((1, 3), dtype=np.uint32) / CELL_PX**2
    squares = np.stack([np.einsum("ycxk,ycxk->xk", row, row, dtype=np.uint32) for row in _strips(cells)]) / CELL_PX**2
    mean = _patch_means(means)
    between = _patch_means(np.square(means)) - np.square(mean)
    return mean, _patch_means(squares) - np.square(mean), between


def _strips(cells: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Rows of cells as (4 px down, 4 px across, cells, 3)."""
    return [row.swapaxes(1, 2) for row in cells]


def _patch_means(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    windows = sliding_window_view(cells, (CELLS, CELLS), axis=(0, 1))[::STEP_CELLS, ::STEP_CELLS]
    means: NDArray[np.float64] = windows.mean((3, 4))
    return means


def _fade() -> NDArray[np.float64]:
    """(16,) Weights of a patch along one axis: up on a quarter sine, 1, down on a quarter cosine."""
    rise = np.sin(np.pi / 2 * (np.arange(FADE_PX) + 0.5) / FADE_PX)
    return np.concatenate([rise, np.ones(PATCH_PX - 2 * FADE_PX), rise[::-1]])
