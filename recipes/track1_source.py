"""A source set like that of NTIRE 2020's track 1: clean images shrunk by 4, with Gaussian noise that is not white.

python recipes/track1_source.py --images sets/source --out sets/source_track1 --seed 0 --shots 3
"""

from dataclasses import dataclass

import numpy as np
from image_files import Rgb8, arguments, listed_images, run_script, write_shots
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import convolve1d

from ddnsr_cli.errors import ConfigError

SCALE = 4
MOST_NEIGHBORS = 0.7  # with three taps


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What is added, in levels of 255."""

    sigma: float = 8.0
    """Standard deviation."""

    neighbors: float = 0.35
    """Correlation between a pixel and the next one across or down, at most 0.7."""

    channels: float = 0.4
    """Correlation between two colors of a pixel."""

    def __post_init__(self) -> None:
        if self.sigma < 0 or not -MOST_NEIGHBORS <= self.neighbors <= MOST_NEIGHBORS or not 0 <= self.channels <= 1:
            raise ConfigError(
                f"Noise has a sigma of at least 0, neighbors from -{MOST_NEIGHBORS} to {MOST_NEIGHBORS} and channels "
                f"from 0 to 1, got {self}."
            )

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
        """(H, W, 3) of such noise."""
        common, own = rng.normal(size=(*shape, 1)), rng.normal(size=(*shape, 3))
        noise: NDArray[np.float64] = np.sqrt(self.channels) * common + np.sqrt(1 - self.channels) * own
        side = _side_tap(self.neighbors)
        taps = np.array([side, 1, side]) / np.sqrt(1 + 2 * side**2)
        for axis in (0, 1):
            noise = convolve1d(noise, taps, axis=axis, mode="wrap")  # wrapped: the border is as noisy as the rest
        return self.sigma * noise


def noisy_small(image: Rgb8, noise: Noise, rng: np.random.Generator) -> Rgb8:
    """The image shrunk by antialiased bicubic, with noise, rounded and clipped once: (H, W, 3) to (H/4, W/4, 3).

    Cropped by up to 3 pixels at each side first, so that no two images sample alike.
    """
    top, left = rng.integers(0, SCALE, size=2)
    height, width = ((length - SCALE + 1) // SCALE for length in image.shape[:2])
    box = (left, top, left + width * SCALE, top + height * SCALE)
    planes = (Image.fromarray(image[..., channel].astype(np.float32)) for channel in range(3))
    small = [np.asarray(plane.resize((width, height), Image.Resampling.BICUBIC, box=box)) for plane in planes]
    noisy = np.stack(small, axis=2) + noise.draw((height, width), rng)
    return np.rint(noisy).clip(0, 255).astype(np.uint8)


def _side_tap(correlation: float) -> float:
    """The outer tap `a` of the filter (a, 1, a) that makes neighbors of white noise correlate so.

    Their correlation is 2 a / (1 + 2 a^2).
    """
    return 0.0 if correlation == 0 else (1 - np.sqrt(1 - 2 * correlation**2)) / (2 * correlation)


def main(given: list[str]) -> None:
    """Run the script."""
    parser = arguments("Shrink clean images by 4 and add noise.")
    parser.add_argument("--sigma", type=float, default=Noise.sigma, help="levels of 255")
    parser.add_argument("--neighbors", type=float, default=Noise.neighbors, help="correlation; 0 for white noise")
    parser.add_argument("--channels", type=float, default=Noise.channels, help="correlation; 0 for independent colors")
    options = parser.parse_args(given)
    noise = Noise(sigma=options.sigma, neighbors=options.neighbors, channels=options.channels)
    write_shots(
        listed_images(options.images, options.root),
        options.out,
        seed=options.seed,
        shots=options.shots,
        make=lambda image, rng: noisy_small(image, noise, rng),
    )


if __name__ == "__main__":
    run_script(main)
