"""How near estimated blur kernels come to known ones.

python tests/bench/kernels.py IMAGE --blur 2.5,2.5,0 --blur 3,1.5,0

A blur: deviations along two axes in HR pixels of shrinking by 4, and the angle of the first in degrees. The image is
shrunk by 2 under the kernel that, used twice, shrinks by 4 with that blur. The bench prints the deviations along the
sides of the image that were wanted and found, and how far the kernels for shrinking by 2 lie apart, which is at most 2.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from ddnsr_cli.data.kernels import MIDDLE, STEPS, bicubic_kernel, estimate_kernel, twice
from ddnsr_cli.io.read import read_rgb
from ddnsr_cli.nets.degrader import KERNEL_PX, shrunk_by_2


def gaussian(along, across, degrees):
    x, y = np.meshgrid(*[np.arange(KERNEL_PX) - MIDDLE] * 2)
    angle = np.deg2rad(degrees)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.exp(-0.5 * 5 * ((u / along) ** 2 + (v / across) ** 2))
    return kernel / kernel.sum()


def deviations(kernel):
    places = np.arange(len(kernel))
    lines = kernel.sum(0), kernel.sum(1)
    return " ".join(f"{np.sqrt(line @ places**2 - (line @ places) ** 2):.2f}" for line in lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("--blur", action="append", required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    planes = torch.from_numpy(read_rgb(given.image).transpose(2, 0, 1).astype(float))[None]
    for blur in given.blur:
        true = gaussian(*map(float, blur.split(",")))
        photo = shrunk_by_2(planes, torch.from_numpy(true))[0].permute(1, 2, 0).numpy().round().clip(0, 255)
        start = time.process_time()
        found = estimate_kernel(photo.astype(np.uint8), steps=given.steps)
        apart, before = (np.abs(kernel - true).sum() for kernel in (found, bicubic_kernel()))
        print(
            f"{blur}: wanted {deviations(twice(true))}, found {deviations(twice(found))}, apart {apart:.2f} "
            f"(bicubic {before:.2f}), {time.process_time() - start:.0f} s"
        )


if __name__ == "__main__":
    main()
