"""Images with noise whose strength, grain and color are known."""

import numpy as np
from PIL import Image


def scene(side=192, *, seed=0):
    """(side, side, 3) floats from 50 to 205: soft color gradients, a quarter of hard texture, an edge."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[:side, :side] / side
    image = np.stack([60 + 130 * across, 60 + 90 * down, 190 - 100 * across], axis=2)
    half = side // 2
    image[:half, :half] = rng.uniform(50, 205, (half, half, 3))
    image[half:, : side // 8] = 200
    return image


def noise(shape, sigma, *, seed=0, grain=(1.0,), gray=0.0):
    """Normal noise of standard deviation sigma.

    grain: taps of a filter along both axes; with (a, b, a) neighbors correlate by 2ab / (2aa + bb). gray: share of
    the variance that the channels have in common, which is their correlation.
    """
    rng = np.random.default_rng([1, seed])
    taps = np.array(grain) / np.linalg.norm(grain)
    reach = len(taps) // 2
    raw = rng.standard_normal((shape[0] + 2 * reach, shape[1] + 2 * reach, 4))
    rows = sum(tap * raw[at : at + shape[0]] for at, tap in enumerate(taps))
    both = sum(tap * rows[:, at : at + shape[1]] for at, tap in enumerate(taps))
    return sigma * (np.sqrt(gray) * both[..., 3:] + np.sqrt(1 - gray) * both[..., :3])


def whole(image):
    """Rounded and clipped to what a file holds."""
    return image.round().clip(0, 255).astype(np.uint8)


def write_set(folder, count, make, *, suffix=".png"):
    """`make(index)` -> image, written as 000.png, 001.png, ...; the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:03d}{suffix}" for index in range(count)]
    for index, path in enumerate(paths):
        Image.fromarray(whole(make(index))).save(path)
    return paths
