"""A simulated phone camera: clean images in, noisy small ones out, as one phone would have taken them.

    python recipes/camera.py --images sets/source --out sets/source_camera --seed 0 --shots 3

Each image is the scene of a clean image seen by a sensor with 3 to 4 times fewer pixels a side: tone curve undone,
blurred by the lens (each color a little differently), sampled by a Bayer sensor with photon and read noise,
filled in, white-balanced, color-corrected, lightly denoised and sharpened, tone curve, JPEG. Stored as PNG.
Nothing that is trained on such images is told any of these numbers.
"""

import io
from dataclasses import dataclass

import numpy as np
from image_files import Rgb8, arguments, listed_images, run_script, write_shots
from mosaic import bayer, demosaic
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from ddnsr_cli.errors import ConfigError

Pixels = NDArray[np.float64]

LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, kw_only=True)
class Camera:
    """One phone. A pair is a range, drawn uniformly for each image; the rest is the same in all."""

    shrink: tuple[float, float] = (3.0, 4.0)
    """Pixels of the clean image per sensor pixel, along a side."""

    blur: tuple[float, float] = (0.35, 0.65)
    """Standard deviation of the lens's blur for green, sensor pixels."""

    blur_of_colors: tuple[float, float, float] = (1.15, 1.0, 1.25)
    """Red's, green's and blue's blur as a multiple of green's: the lens focuses green best."""

    white_balance: tuple[float, float, float] = (1.9, 1.0, 1.6)
    """Gains that make gray gray: red and blue filters let less light through."""

    color_matrix: tuple[tuple[float, float, float], ...] = (
        (1.50, -0.38, -0.12),
        (-0.22, 1.40, -0.18),
        (-0.02, -0.44, 1.46),
    )
    """From the sensor's colors, white-balanced, to linear sRGB. Each row sums to 1."""

    electrons: tuple[float, float] = (250.0, 1600.0)
    """Electrons of a white green pixel, drawn evenly on a logarithmic scale: the fewer, the higher the ISO."""

    read_noise: float = 2.5
    """Standard deviation of the noise of reading a pixel out, electrons."""

    levels: int = 1023
    """Highest value of the sensor's converter."""

    chroma_denoise: tuple[float, float] = (0.8, 1.5)
    """Standard deviation of the Gaussian over the color differences, pixels."""

    luma_denoise: tuple[float, float] = (0.35, 0.65)
    """The same over brightness."""

    sharpen: tuple[float, float] = (0.2, 0.6)
    """Share of the difference from a Gaussian blur of 1 pixel that is added again."""

    jpeg_quality: tuple[int, int] = (85, 97)
    """Pillow's JPEG quality, both ends included."""


def take_image(image: Rgb8, camera: Camera, rng: np.random.Generator) -> Rgb8:
    """The scene of a clean image (H, W, 3) as the camera stores it: (h, w, 3), h and w even."""
    scene = through_the_lens(linear_from_srgb(image / 255), camera, rng)
    seen = sensor(scene @ np.linalg.inv(camera.color_matrix).T / camera.white_balance, camera, rng)
    colors = demosaic(seen) * camera.white_balance @ np.array(camera.color_matrix).T
    finished = finish(srgb_from_linear(colors), camera, rng)
    return jpeg(finished, quality=int(rng.integers(camera.jpeg_quality[0], camera.jpeg_quality[1] + 1)))


def linear_from_srgb(srgb: Pixels) -> Pixels:
    """Light from stored values, both in [0, 1]."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(light: Pixels) -> Pixels:
    """The inverse of `linear_from_srgb`; what lies outside [0, 1] is clipped first."""
    light = light.clip(0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def through_the_lens(light: Pixels, camera: Camera, rng: np.random.Generator) -> Pixels:
    """Light on the sensor's pixels, (h, w, 3): blurred, then averaged over each pixel's area.

    The image begins up to a pixel further down and right, so that no two shots sample alike.
    """
    times, sigma = rng.uniform(*camera.shrink), rng.uniform(*camera.blur)
    top, left = rng.uniform(0, times, size=2)
    height, width = (2 * int((length - times) / times / 2) for length in light.shape[:2])
    box = (left, top, left + width * times, top + height * times)
    planes = []
    for channel, multiple in enumerate(camera.blur_of_colors):
        plane = gaussian_filter(light[..., channel], sigma * multiple * times, mode="mirror").astype(np.float32)
        planes.append(Image.fromarray(plane).resize((width, height), Image.Resampling.BOX, box=box))
    return np.stack([np.asarray(plane, dtype=np.float64) for plane in planes], axis=2)


def sensor(light: Pixels, camera: Camera, rng: np.random.Generator) -> Pixels:
    """The mosaic that is read out, white about 1: (h, w, 3) to (h, w)."""
    white = np.exp(rng.uniform(*np.log(camera.electrons)))
    caught = rng.poisson(bayer(light).clip(0, 1) * white)
    read = caught + rng.normal(0, camera.read_noise, size=caught.shape)
    levels: Pixels = np.rint(read / white * camera.levels).clip(None, camera.levels)
    return levels / camera.levels


def finish(image: Pixels, camera: Camera, rng: np.random.Generator) -> Rgb8:
    """The camera's own noise reduction and sharpening, then whole levels: (h, w, 3) in [0, 1] to uint8."""
    luma = image @ LUMA
    color = image - luma[..., None]
    smooth = rng.uniform(*camera.chroma_denoise)
    color = np.stack([gaussian_filter(color[..., channel], smooth) for channel in range(3)], axis=2)
    luma = gaussian_filter(luma, rng.uniform(*camera.luma_denoise))
    luma += rng.uniform(*camera.sharpen) * (luma - gaussian_filter(luma, 1))
    levels: Pixels = np.rint((luma[..., None] + color) * 255)
    return levels.clip(0, 255).astype(np.uint8)


def jpeg(image: Rgb8, *, quality: int) -> Rgb8:
    """The image after JPEG with color at half resolution, as phones store it."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return np.array(Image.open(buffer))


def main(given: list[str]) -> None:
    """Run the script."""
    parser = arguments("Shoot clean images with a simulated phone camera.")
    parser.add_argument(
        "--electrons",
        type=float,
        nargs=2,
        default=Camera.electrons,
        metavar=("LOW", "HIGH"),
        help="of a white green pixel: the fewer, the more noise",
    )
    options = parser.parse_args(given)
    images = listed_images(options.images, options.root)
    low, high = options.electrons
    if not 0 < low <= high < np.inf:
        raise ConfigError(f"--electrons takes two numbers above 0, the lower first; got {low:g} and {high:g}.")
    camera = Camera(electrons=(low, high))
    write_shots(
        images,
        options.out,
        seed=options.seed,
        shots=options.shots,
        make=lambda image, rng: take_image(image, camera, rng),
    )


if __name__ == "__main__":
    run_script(main)
