"""How near estimated blur kernels come to known ones.

python tests/bench/kernels.py IMAGE... --blur 2.5,2.5,0 --blur 3,1.5,30

A blur: deviations along two axes in pixels, and the angle of the first in degrees. Each image is blurred, shrunk by 4,
given noise (--noise) and rounded to levels; its kernel is estimated. The bench prints the deviations of the estimate
along its own axes, the wider first, with the angle of that, and how far the kernel for shrinking by 2 lies from the
Gaussian that, used twice, is as wide: the sum of absolute differences, at most 2.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from ddnsr_cli.config import SCALE
from ddnsr_cli.data.kernels import STEPS, estimate_kernel, gaussian_kernel, twice
from ddnsr_cli.io.read import read_rgb

SIDE = 37


def gaussian(along, across, degrees):
    x, y = np.meshgrid(*[np.arange(SIDE) - (SIDE // 2 + 0.5)] * 2)
    angle = np.deg2rad(degrees)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.exp(-0.5 * ((u / along) ** 2 + (v / across) ** 2))
    return kernel / kernel.sum()


def photo_of(image, kernel, noise):
    """Shrunk under the kernel, with white noise of so many levels."""
    planes = torch.from_numpy(image.transpose(2, 0, 1).astype(float))[:, None]
    shrunk = torch.nn.functional.conv2d(planes, torch.from_numpy(kernel)[None, None], stride=SCALE)
    levels = shrunk[:, 0].permute(1, 2, 0).numpy()
    return (levels + np.random.default_rng(0).normal(0, noise, levels.shape)).round().clip(0, 255).astype(np.uint8)


def axes(kernel):
    """Deviations along the axes of a kernel, the wider first, and the angle of that one in degrees."""
    rows, columns = np.mgrid[: len(kernel), : len(kernel)]
    places = np.stack([columns.ravel(), rows.ravel()])
    squares, directions = np.linalg.eigh(np.cov(places, aweights=kernel.ravel(), ddof=0))
    x, y = directions[:, 1]
    return np.sqrt(squares[1]), np.sqrt(squares[0]), (np.rad2deg(np.arctan2(y, x)) + 90) % 180 - 90


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--blur", action="append", required=True)
    parser.add_argument("--noise", type=float, default=0.0, help="white noise on the shrunk photo, levels")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for blur in given.blur:
        along, across, degrees = map(float, blur.split(","))
        by_2 = gaussian_kernel(along / np.sqrt(5), across / np.sqrt(5), np.deg2rad(degrees))
        for path in given.images:
            photo = photo_of(read_rgb(path), gaussian(along, across, degrees), given.noise)
            start = time.process_time()
            found = estimate_kernel(photo, steps=given.steps, seed=given.seed)
            wide, narrow, angle = axes(np.clip(twice(found), 0, None))
            print(
                f"{blur} {path.stem}: {wide:.2f}, {narrow:.2f} at {angle:.0f} degrees, "
                f"apart {np.abs(found - by_2).sum():.2f}, {time.process_time() - start:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
