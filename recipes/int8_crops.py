"""Makes the small image on which `ddnsr` measures how large the values of a network become, for int8.

Crops of photos that anyone may use, out of scikit-image, whose credits are in NOTICE: shrunk, with noise, as JPEG. The
same versions of scikit-image and Pillow give the same bytes.
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

PHOTOS = ("coffee", "chelsea", "astronaut", "rocket", "hubble_deep_field")
CROP_PX = 28
ROWS, COLUMNS = 2, 5
TRIED = 6  # places in a photo, of which the one with the most contrast is taken
NOISE_LEVELS = (0, 4, 8, 20)
JPEG_QUALITY = 60


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args(words)
    crops = [_crop(index, np.random.default_rng(index)) for index in range(ROWS * COLUMNS)]
    rows = [np.concatenate(crops[row * COLUMNS : (row + 1) * COLUMNS], axis=1) for row in range(ROWS)]
    Image.fromarray(np.concatenate(rows)).save(given.output, optimize=True)


def _crop(index: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    photo = Image.fromarray(getattr(skimage.data, PHOTOS[index % len(PHOTOS)])())
    times = 1 + index % 3
    small = photo.resize((photo.width // times, photo.height // times), Image.Resampling.LANCZOS)
    levels = np.asarray(small).astype(np.float32)
    tops, lefts = (rng.integers(0, length - CROP_PX + 1, TRIED) for length in levels.shape[:2])
    parts = [levels[top : top + CROP_PX, left : left + CROP_PX] for top, left in zip(tops, lefts, strict=True)]
    part = max(parts, key=np.std)
    noisy = part + rng.normal(0, 1, part.shape) * NOISE_LEVELS[index % len(NOISE_LEVELS)]
    crop = noisy.clip(0, 255).round().astype(np.uint8)
    return _as_jpeg(crop) if index % 3 == 2 else crop


def _as_jpeg(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    file = io.BytesIO()
    Image.fromarray(crop).save(file, "JPEG", quality=JPEG_QUALITY)
    return np.asarray(Image.open(file))


if __name__ == "__main__":
    main()
