"""Folders of small pairs for `ddnsr eval`, and LPIPS weights that fit but know nothing."""

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from ddnsr_cli.nets.lpips import LPIPS, TRUNKS, alexnet_features, squeezenet_features


def drawn(seed, height, width):
    """(height, width, 3) float: waves and rectangles."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.stack([120 + 60 * np.sin((x * a + y * b) / 9) for a, b in rng.uniform(0.2, 1, (3, 2))], axis=2)
    for _ in range(6):
        top, left = rng.integers(0, (height - 8, width - 8))
        image[top : top + 8, left : left + 8] = rng.integers(0, 256, 3)
    return image


def save(path, levels, depth=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    if depth == 16:  # Pillow writes 16 bits in gray alone
        Image.fromarray(levels[..., 0].astype(np.uint16) * 257).save(path)
    else:
        Image.fromarray(levels).save(path)
    return path


def write_pairs(folder, names=("a", "b", "deep/c"), *, height=12, width=16, sigma=4.0, scale=4):
    """`lr` and `hr` under the folder: LR is the mean over squares of HR, plus noise."""
    for seed, name in enumerate(names):
        hr = drawn(seed, 4 * height, 4 * width)
        small = hr.reshape(height, 4, width, 4, 3).mean((1, 3))
        noise = np.random.default_rng(100 + seed).normal(0, sigma, small.shape)
        save(folder / "lr" / f"{name}.png", small + noise)
        save(folder / "hr" / f"{name}.png", hr if scale == 4 else small)
    return folder / "lr", folder / "hr"


def write_results(folder, hr, sigma, *, names=("a", "b", "deep/c")):
    """Finished images: those of `hr` plus noise."""
    for seed, name in enumerate(names):
        truth = levels(hr / f"{name}.png").astype(float)
        save(folder / f"{name}.png", truth + np.random.default_rng(seed).normal(0, sigma, truth.shape))
    return folder


def levels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def write_lpips(folder, trunk):
    """A file of random weights under the name that $DDNSR_LPIPS is searched for."""
    with torch.device("meta"):
        shape_of = {"alex": alexnet_features, "squeeze": squeezenet_features}[trunk]()
    generator = torch.Generator().manual_seed(1)
    state = {
        f"features.{name}": torch.randn(value.shape, generator=generator) * (0.1 if value.ndim > 1 else 0.01)
        for name, value in shape_of.state_dict().items()
    }
    state |= {
        f"lin{number}.weight": torch.rand(1, channels, 1, 1, generator=generator)
        for number, channels in enumerate(TRUNKS[trunk].channels)
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / f"lpips_{trunk}_v0.1.safetensors")
    return LPIPS(trunk, state)
