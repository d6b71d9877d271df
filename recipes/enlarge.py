"""Clean images as soft as those of a camera at its own resolution: each as it is, and parts of it enlarged by 2 and 3.

    python recipes/enlarge.py --images sets/grainless --out sets/soft

An image that is shrunk by 4 for training is full of detail; one that comes out of a camera has flat parts and, by lens,
sensor and software, nothing finer than two pixels. A network that knows shrunk images only takes weak, coarse noise for
texture. Enlarged first, they look to it like those that it will meet.
"""

import argparse
from pathlib import Path

import numpy as np
from image_files import Rgb8, run_script, write_made
from PIL import Image

from ddnsr_cli.data.images import list_images

SIDES_PX = {2: 384, 3: 256}
"""Times enlarged: side of the middle that is."""


def enlarge(images: list[Path], out: Path) -> list[Path]:
    """Three sizes of every image, as `<name>_<times>.png`. Raises as `write_made`."""
    return write_made(images, out, (1, *SIDES_PX), lambda image, _name, times: enlarged(image, times))


def enlarged(image: Rgb8, times: int) -> Rgb8:
    """The middle of an image, (H, W, 3), bicubic; all of it where it is smaller than that, or not to be enlarged."""
    if times == 1:
        return image
    height, width = image.shape[:2]
    side = min(SIDES_PX[times], height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = Image.fromarray(image[top : top + side, left : left + side])
    return np.asarray(middle.resize((side * times, side * times), Image.Resampling.BICUBIC))


def main(given: list[str]) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description="Clean images, and parts of them enlarged by 2 and 3.")
    parser.add_argument("--images", type=Path, required=True, help="folder of clean images")
    parser.add_argument("--out", type=Path, required=True, help="folder for the images")
    options = parser.parse_args(given)
    enlarge(list_images(options.images), options.out)


if __name__ == "__main__":
    run_script(main)
