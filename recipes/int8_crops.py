"""Makes the small image on which `ddnsr` measures how large the values of a network become, for int8.

Crops of photos that anyone may use, out of scikit-image, whose credits are in NOTICE: shrunk, with noise, as JPEG.
Below them what is drawn: values of writing and of pure colors go far beyond those of such photos. The same
versions of scikit-image and Pillow give the same bytes.
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

BLACK, WHITE, BLUE, YELLOW = (0, 0, 0), (255, 255, 255), (0, 0, 255), (255, 255, 0)
STROKES = ((WHITE, BLACK), (BLACK, WHITE), (BLUE, YELLOW))
"""Paper and ink of crops like writing."""

STROKES_EACH = 14
STROKE_PX = (4, 9)
CELLS_PX = (7, 14)
"""Of crops of squares in pure colors."""


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args(words)
    crops = [_crop(index, np.random.default_rng(index)) for index in range(ROWS * COLUMNS)]
    crops += [_strokes(*colors, np.random.default_rng(seed)) for seed, colors in enumerate(STROKES)]
    crops += [_cells(side, np.random.default_rng(side)) for side in CELLS_PX]
    rows = [np.concatenate(crops[first : first + COLUMNS], axis=1) for first in range(0, len(crops), COLUMNS)]
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


def _strokes(paper: Sequence[int], ink: Sequence[int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Lines of one pixel, down and across by turns."""
    crop = np.full((CROP_PX, CROP_PX, 3), paper, np.uint8)
    for index in range(STROKES_EACH):
        top, left = rng.integers(0, CROP_PX - STROKE_PX[0], 2)
        length = rng.integers(*STROKE_PX)
        stroke = crop[top, left : left + length] if index % 2 else crop[top : top + length, left]
        stroke[:] = ink
    return crop


def _cells(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    cells = 255 * rng.integers(0, 2, (CROP_PX // side, CROP_PX // side, 3))
    return cells.repeat(side, 0).repeat(side, 1).astype(np.uint8)


def _as_jpeg(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    file = io.BytesIO()
    Image.fromarray(crop).save(file, "JPEG", quality=JPEG_QUALITY)
    return np.asarray(Image.open(file))


if __name__ == "__main__":
    main()
