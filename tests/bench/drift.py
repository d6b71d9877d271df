"""How far models drift from images, and spoilt results do: `python tests/bench/drift.py FOLDER... [--models NAME...]`.

For a middle part of each image, 96 x 96 pixels, the drift in levels as `ddnsr upscale` tells it: least, median and
greatest over the images, and the share above the limit. Below the models the result of the first one, spoilt: what the
warning is for.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from ddnsr_cli.inference.tiling import to_planes
from ddnsr_cli.io.discovery import find_images
from ddnsr_cli.io.read import read_image
from ddnsr_cli.processing.look import MOST_DRIFT_LEVELS, Drift
from ddnsr_cli.processing.resize import shrunk
from ddnsr_cli.weights.checkpoint import load_sr_net
from ddnsr_cli.weights.registry import read_registry
from ddnsr_cli.weights.resolve import find_weights

SIDE_PX = 96


def blurred(sr, radius):
    images = [Image.fromarray(np.rint(255 * plane.clip(0, 1)).astype(np.uint8)) for plane in sr]
    return np.stack([np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) for image in images]) / 255


def with_black_tile(sr):
    spoilt = sr.copy()
    spoilt[:, : sr.shape[1] // 3, : sr.shape[2] // 3] = 0
    return spoilt


SPOILT = {
    "red and blue swapped": lambda sr: sr[::-1],
    "contrast + 15 %": lambda sr: (sr - 0.5) * 1.15 + 0.5,
    "contrast + 30 %": lambda sr: (sr - 0.5) * 1.3 + 0.5,
    "gamma 1.2": lambda sr: sr.clip(0, 1) ** 1.2,
    "moved by 4 pixels": lambda sr: np.roll(sr, 16, axis=2),
    "blurred, sigma 8 pixels": lambda sr: blurred(sr, 32),
    "a ninth of it black": with_black_tile,
}


def middle(path):
    pixels = read_image(path).pixels
    top, left = (max(0, (length - SIDE_PX) // 2) for length in pixels.shape[:2])
    return torch.from_numpy(to_planes(pixels[top : top + SIDE_PX, left : left + SIDE_PX]))[None].expand(-1, 3, -1, -1)


def drift(sr, lr, scale):
    measured = Drift(*lr.shape[1:], lr.shape[0])
    measured.add(0, shrunk(sr, scale), lr)
    return measured.levels


def show(name, levels):
    above = np.mean(np.array(levels) > MOST_DRIFT_LEVELS)
    figures = (
        f"{min(levels):6.1f} {np.median(levels):7.1f} {max(levels):9.1f}   {above:.0%} above {MOST_DRIFT_LEVELS:g}"
    )
    print(f"{name:32} {figures}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="+")
    parser.add_argument("--models", nargs="+", default=["ddnsr-lite"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    images = [middle(found.source) for found in find_images(given.folder)]
    print(f"{len(images)} images{'':23} least  median  greatest   levels")
    spoilt = {name: [] for name in SPOILT}
    for name in given.models:
        net, _ = load_sr_net(find_weights(name, registry=read_registry()).path)
        levels = []
        for image in images:
            with torch.inference_mode():
                sr, lr = net(image)[0].numpy(), image[0].numpy()
            levels.append(drift(sr, lr, net.traits.scale))
            if name == given.models[0]:
                for how, spoil in SPOILT.items():
                    spoilt[how].append(drift(spoil(sr), lr, net.traits.scale))
        show(name, levels)
    for how, levels in spoilt.items():
        show(f"  {how}", levels)


if __name__ == "__main__":
    main()
