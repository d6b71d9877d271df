"""Blur kernels of photos, estimated from nothing but the photos, and what shrinking under one makes of an image.

KernelGAN (Bell-Kligler et al. 2019): small structures come back in a photo at several sizes. So the right kernel is the
one under which the photo, shrunk by 2, has patches like its own. A generator that is nothing but a kernel is trained
against a discriminator of small patches, for each photo anew.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ddnsr_cli.config import SCALE
from ddnsr_cli.data.noise_patches import Rgb8
from ddnsr_cli.errors import ImageWriteError, TrainingError, shown
from ddnsr_cli.files import atomic_path
from ddnsr_cli.metrics.noise import measure_noise
from ddnsr_cli.nets.degrader import KERNEL_PX, LinearDownscaler, shrunk_by_2
from ddnsr_cli.nets.discriminators import SmallPatchDiscriminator, fine_detail

Kernel = NDArray[np.float64]
"""Square, of odd side and of sum 1: the weights of the pixels that a pixel of the result is made of."""

STEPS = 250
"""Of training, for the kernel of one photo."""

ESTIMATOR = 4
"""Goes up when the same photo gets another kernel, so that kernels which were kept are not taken for such."""

MIDDLE = KERNEL_PX // 2 + 0.5
"""Where the weight of a kernel of 13 pixels lies: the middle of a shrunk pixel is between two pixels."""

CROP_PX = 96  # side of the crops
GENERATOR_RATE, DISCRIMINATOR_RATE = 1e-3, 2e-3
LEAD = 0.2  # of the steps, in which the discriminator learns alone: led by chance, a kernel goes astray for good
SLOWER_FROM = 0.7  # of the steps, at a tenth of the rates
NOISE_SHARE = 0.95  # of the noise that shrinking takes away: given more than it lost, a kernel grows without end
ROUNDING = 1.0  # levels of noise on what is compared: whole levels tell nothing then
START_WIDTH = 0.8  # deviation of the Gaussian that the kernel begins as, pixels
START_GAIN, START_RATE, START_STEPS = 0.3, 3e-3, 60
SUM_WEIGHT, BORDER_WEIGHT, MIDDLE_WEIGHT, NEGATIVE_WEIGHT, SHAPE_WEIGHT = 0.5, 0.5, 1.0, 1.0, 1.0
FREE_PX, BORDER_COST = 2, 30  # weights within the outermost two pixels cost as they lie farther out
TINY = 1e-12
COLORS = (2, 3, 2)  # how much red, green and blue count on average in the gray that is compared
KEPT = 40  # weights of an estimate; smaller ones are the noise of its training
AVERAGED = 0.25  # of the steps: the last kernels, whose mean is the estimate
MOVES = 3  # a shift at the border of the square is not quite what was asked for
BAND_LR_PX = 64  # rows of a result computed at a time


class _Crops:
    """Squares of a photo, drawn where it has structure: flat parts tell nothing of blur."""

    def __init__(self, image: Tensor, side: int) -> None:
        """image: (3, H, W)."""
        self._image = image
        self._side = min(side, *image.shape[1:])
        gray = image.mean(0)
        slopes = F.pad(gray.diff(dim=1).abs(), (0, 1)) + F.pad(gray.diff(dim=0).abs(), (0, 0, 0, 1))
        across = F.avg_pool2d(slopes[None], (1, self._side), stride=1)  # then down: squares at once take minutes
        structure = F.avg_pool2d(across, (self._side, 1), stride=1)[0].double()
        self._columns = structure.shape[1]
        self._sums = (structure.flatten() + 1e-9).cumsum(0).numpy()

    def draw(self, rng: np.random.Generator) -> Tensor:
        """(1, 3, side, side)."""
        at = int(np.searchsorted(self._sums, rng.uniform(0, self._sums[-1])))
        top, left = divmod(min(at, len(self._sums) - 1), self._columns)
        return self._image[None, :, top : top + self._side, left : left + self._side]


class KernelGan:
    """The training of one photo's kernel. The same photo and seed give the same kernel, computed in one thread."""

    def __init__(self, image: Rgb8, *, seed: int) -> None:
        """image: (H, W, 3), of 32 pixels a side or more."""
        planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32))
        # What the discriminator sees is of about the same size then, however blurred the photo is.
        scale = 1 / max(1.0, float(fine_detail(planes.mean(0)[None, None]).std()))
        self._rounding = scale * ROUNDING
        noise = measure_noise(image)
        deviations = np.zeros(3) if noise is None else scale * np.array(noise.rgb)
        self._covariance = np.outer(deviations, deviations) * (1 if noise is None else np.array(noise.correlation))
        self._neighbors = max(0.0, (noise and noise.neighbors) or 0.0)
        self._crops = _Crops(scale * planes, CROP_PX)
        self._rng = np.random.default_rng(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.generator, self.discriminator = LinearDownscaler(), SmallPatchDiscriminator()
            start_as(self.generator, gaussian_kernel(START_WIDTH))
        self._generator_steps = _adam(self.generator, GENERATOR_RATE)
        self._discriminator_steps = _adam(self.discriminator, DISCRIMINATOR_RATE)
        self._costs = torch.from_numpy(_border_costs()).float()

    def step(self, *, discriminator_alone: bool = False) -> Kernel:
        """One step of each network, or of one. Returns the kernel of before it."""
        kernel = self.generator.kernel()
        free = kernel.detach().requires_grad_()
        crop, noise = self._gray(self._crops.draw(self._rng))
        made = self._as_noisy(shrunk_by_2(self._turned(crop), free), free, noise)
        real = self._turned(self._part(crop, made.shape[2], made.shape[3]))
        real, fake = self.discriminator(self._unrounded(torch.cat([real, made])))
        slopes = torch.autograd.grad(F.softplus(-fake).mean(), free, retain_graph=True)[0]
        _learn(self._discriminator_steps, (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2)
        if not discriminator_alone:
            _learn(self._generator_steps, (kernel * slopes).sum() + self._kernel_loss(kernel))
        return free.detach().double().numpy()

    def slow_down(self) -> None:
        """Learn at a tenth of the rates from here on."""
        for optimizer in (self._generator_steps, self._discriminator_steps):
            for group in optimizer.param_groups:
                group["lr"] /= 10

    def _kernel_loss(self, kernel: Tensor) -> Tensor:
        """What a kernel is asked to be: of sum 1, not negative, within its square, in the middle, and in one piece."""
        total = kernel.sum()
        places = torch.arange(KERNEL_PX, dtype=kernel.dtype) - MIDDLE
        off = torch.stack([(kernel.sum(axis) * places).sum() / total for axis in (0, 1)])
        within = (kernel * self._costs).abs().mean()
        return (
            SUM_WEIGHT * (1 - total).abs()
            + NEGATIVE_WEIGHT * kernel.clamp(max=0).abs().sum()
            + BORDER_WEIGHT * within
            + MIDDLE_WEIGHT * off.square().mean()
            + SHAPE_WEIGHT * raggedness(kernel)
        )

    def _gray(self, crop: Tensor) -> tuple[Tensor, float]:
        """(1, 1, side, side) by random weights, or its negative: what colors a photo has is not to be learned.

        And the deviation of the photo's noise in it.
        """
        weights = self._rng.dirichlet(COLORS) * self._rng.choice([-1, 1])
        gray = torch.einsum("c,nchw->nhw", torch.from_numpy(weights.astype(np.float32)), crop)[:, None]
        return gray, float(np.sqrt(weights @ self._covariance @ weights))

    def _as_noisy(self, made: Tensor, kernel: Tensor, noise: float) -> Tensor:
        """With as much noise as the photo has: else the noise that is gone would tell made from real, not the blur."""
        lost = max(0.0, 1 - noise_kept(kernel.detach().numpy(), self._neighbors))
        level = NOISE_SHARE * noise * np.sqrt(lost)
        return made + torch.from_numpy(self._rng.normal(0, level, made.shape).astype(np.float32))

    def _turned(self, images: Tensor) -> Tensor:
        """Every other time upside down: a photo has twice the patches then, and directions stay what they are."""
        return images.flip(2, 3) if self._rng.random() < 0.5 else images

    def _part(self, crop: Tensor, height: int, width: int) -> Tensor:
        """As large a part of a crop as what is made of it: the two differ by little but the kernel then."""
        top, left = (
            self._rng.integers(has - part + 1) for has, part in zip(crop.shape[2:], (height, width), strict=True)
        )
        return crop[:, :, top : top + height, left : left + width]

    def _unrounded(self, images: Tensor) -> Tensor:
        noise = self._rng.uniform(-self._rounding / 2, self._rounding / 2, images.shape).astype(np.float32)
        return images + torch.from_numpy(noise)


def start_as(net: LinearDownscaler, kernel: Kernel) -> None:
    """Weights under which the kernel of `net` is another, to within some hundredths of its largest weight."""
    for filters in net.filters:
        nn.init.xavier_normal_(filters, START_GAIN)
    wanted = torch.from_numpy(kernel).float()
    optimizer = torch.optim.Adam(net.parameters(), lr=START_RATE)
    for _ in range(START_STEPS):
        _learn(optimizer, (net.kernel() - wanted).square().sum())


def noise_kept(kernel: NDArray[np.floating[Any]], neighbors: float) -> float:
    """What share of the variance of noise is left under a kernel.

    neighbors: correlation of the noise with the next pixel, 0 to 1; with those beyond by its powers.
    """
    apart = np.abs(np.subtract.outer(*[np.arange(len(kernel))] * 2))
    alike = float(neighbors) ** apart
    return float((kernel * (alike @ kernel @ alike)).sum())


def raggedness(kernel: Tensor) -> Tensor:
    """How little of a kernel is in one smooth piece: 1 for every Gaussian, be it wide, narrow or longer than broad.

    The size of its slopes against that of its weights. A core with a veil has more than 1, and so have specks.
    """
    power = torch.fft.fft2(kernel).abs().square() / kernel.numel()
    frequencies = 2 * torch.pi * torch.fft.fftfreq(len(kernel), dtype=kernel.dtype)
    across, down = frequencies[None, :], frequencies[:, None]
    slopes = (power * across**2).sum() * (power * down**2).sum() - (power * across * down).sum().square()
    ragged: Tensor = (slopes + TINY).sqrt() / (2 * torch.pi * kernel.square().sum().square() + TINY)
    return ragged


def _adam(net: nn.Module, rate: float) -> torch.optim.Adam:
    return torch.optim.Adam(net.parameters(), lr=rate, betas=(0.5, 0.999))


def _learn(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # of torch
    optimizer.step()


def _border_costs() -> Kernel:
    """(13, 13): 0 within, and beyond rising with the distance from the middle."""
    line = np.exp(-0.5 * ((np.arange(KERNEL_PX) - KERNEL_PX // 2) / KERNEL_PX) ** 2)
    costs: Kernel = BORDER_COST * (1 - np.outer(line, line))
    costs[FREE_PX:-FREE_PX, FREE_PX:-FREE_PX] = 0
    return costs


def gaussian_kernel(across: float, down: float | None = None, angle: float = 0.0) -> Kernel:
    """(13, 13): a Gaussian of two deviations in pixels, turned by an angle in radians."""
    x, y = np.meshgrid(*[np.arange(KERNEL_PX) - MIDDLE] * 2)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.exp(-0.5 * ((u / across) ** 2 + (v / (down or across)) ** 2))
    return np.asarray(kernel / kernel.sum())


def estimate_kernel(image: Rgb8, *, steps: int, seed: int = 0, on_step: Callable[[], None] = lambda: None) -> Kernel:
    """The kernel, (13, 13), under which an image (H, W, 3) is best shrunk by 2.

    on_step: called before each step; may raise to give up. Raises TrainingError where no kernel comes of it.
    """
    gan = KernelGan(image, seed=seed)
    mean = np.zeros((KERNEL_PX, KERNEL_PX))
    first = steps - max(1, int(AVERAGED * steps))
    for step in range(steps):
        on_step()
        if step == int(SLOWER_FROM * steps):
            gan.slow_down()
        kernel = gan.step(discriminator_alone=step < LEAD * steps)
        if step >= first:
            mean += kernel / (steps - first)
    return cleaned(mean)


def cleaned(kernel: Kernel) -> Kernel:
    """The largest weights of an estimate, less what the largest of the others comes to; of sum 1.

    Raises TrainingError where nothing is left.
    """
    floor = max(0.0, float(np.sort(kernel, axis=None)[-KEPT - 1]))
    rest = np.clip(kernel - 0.75 * floor, 0, None)
    if not np.isfinite(rest).all() or rest.sum() <= 0:
        raise TrainingError("No kernel came of the training. Give other photos, or more steps with --kernel-steps.")
    return np.asarray(rest / rest.sum())


def twice(kernel: Kernel) -> Kernel:
    """The kernel (37, 37) for shrinking by 4 that is a kernel (13, 13) for shrinking by 2 used twice.

    What it makes lies where the image lies: its weight is brought to the middle of the shrunk pixel.
    """
    side = len(kernel)
    product = np.zeros((3 * side - 2, 3 * side - 2))
    for row, column in np.ndindex(side, side):
        product[2 * row : 2 * row + side, 2 * column : 2 * column + side] += kernel[row, column] * kernel
    return _moved_to(product, 3 * side // 2 + 0.5)


def _moved_to(kernel: Kernel, middle: float) -> Kernel:
    """The kernel shifted, by parts of a pixel too, until its mean place along both axes is `middle`.

    Where its spectrum would ring, it is blended of its neighbors: a little wider, and no weight is negative.
    """
    moved = kernel
    for _ in range(MOVES):
        rows, columns = _mean_place(moved)
        moved = _shifted(moved, (middle - rows, middle - columns))
    if moved.min() >= -TINY:
        return moved
    rows, columns = _mean_place(kernel)
    return _blended(_blended(kernel, middle - rows, axis=0), middle - columns, axis=1)


def _mean_place(kernel: Kernel) -> tuple[float, float]:
    places = np.arange(len(kernel))
    return float(kernel.sum(1) @ places / kernel.sum()), float(kernel.sum(0) @ places / kernel.sum())


def _shifted(kernel: Kernel, by: tuple[float, float]) -> Kernel:
    """Shifted down and to the right by so many pixels: the phases of its spectrum, which widens nothing."""
    frequencies = np.fft.fftfreq(len(kernel))
    phase = np.exp(-2j * np.pi * (frequencies[:, None] * by[0] + frequencies[None, :] * by[1]))
    return np.asarray(np.fft.ifft2(np.fft.fft2(kernel) * phase).real)


def _blended(kernel: Kernel, by: float, *, axis: int) -> Kernel:
    """Shifted by so many pixels along an axis, each weight shared by the two places that it falls between."""
    whole = int(np.floor(by))
    part = by - whole
    return np.asarray((1 - part) * np.roll(kernel, whole, axis) + part * np.roll(kernel, whole + 1, axis))


def shrink_under(hr: Rgb8, kernel: Kernel) -> NDArray[np.float32]:
    """Filtered by a kernel of odd side and every fourth pixel kept: (4H, 4W, 3) levels to (H, W, 3), not rounded.

    A weight at (side // 2) + 1.5 along both axes shifts nothing. Beyond its border the image goes on mirrored.
    """
    reach = len(kernel) // 2
    padded = np.pad(hr, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    height, width = (length // SCALE for length in hr.shape[:2])
    weights = torch.from_numpy(kernel.astype(np.float32))[None, None]
    lr = np.empty((height, width, 3), np.float32)
    for top in range(0, height, BAND_LR_PX):
        bottom = min(top + BAND_LR_PX, height)
        rows = padded[SCALE * top : SCALE * (bottom - 1) + len(kernel)]
        planes = torch.from_numpy(np.ascontiguousarray(rows.transpose(2, 0, 1), np.float32))[:, None]
        lr[top:bottom] = F.conv2d(planes, weights, stride=SCALE)[:, 0, :, :width].permute(1, 2, 0).numpy()
    return lr


@dataclass(frozen=True, kw_only=True)
class PhotoKernel:
    """A kernel and the photo that it was estimated from."""

    source: str
    """Its path below the folder of the photos, with slashes."""

    sha256: str
    """Of its file."""

    kernel: Kernel
    """(13, 13): as `estimate_kernel` gives it."""


class KernelFile:
    """Estimated kernels, one a line as JSON, in a file that is written whole as soon as there is one more.

    They are known by the hash of the photo and the number of steps. What is no such file counts as empty, and so do
    kernels of an earlier estimator.
    """

    def __init__(self, path: Path, *, steps: int) -> None:
        self.path = path
        self.steps = steps

    def find(self, sha256: str) -> Kernel | None:
        """The kernel of a photo, if it is there."""
        rows = (row for row in self._rows() if (row["sha256"], row["steps"]) == (sha256, self.steps))
        return next((np.array(row["kernel"], np.float64) for row in rows), None)

    def add(self, found: PhotoKernel) -> None:
        """Keep one more, beside all that is there now. Raises ImageWriteError."""
        row = {
            "source": found.source,
            "sha256": found.sha256,
            "steps": self.steps,
            "estimator": ESTIMATOR,
            "kernel": found.kernel.tolist(),
        }
        rows = sorted([*self._rows(), row], key=lambda row: (str(row["source"]), int(row["steps"])))
        try:
            with atomic_path(self.path) as temporary:
                temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        except OSError as error:
            raise ImageWriteError(
                f"{shown(self.path)} cannot be written ({error.strerror or error}). Give another -o."
            ) from error

    def _rows(self) -> list[dict[str, Any]]:
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            return []
        return [row for row in map(_row, lines) if row is not None]


def _row(line: str) -> dict[str, Any] | None:
    """A line of a `KernelFile`; None: it is of no use."""
    try:
        row = json.loads(line)
        fits = np.array(row["kernel"], np.float64).shape == (KERNEL_PX, KERNEL_PX)
        return row if fits and {"source", "sha256", "steps"} <= row.keys() and row["estimator"] == ESTIMATOR else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
