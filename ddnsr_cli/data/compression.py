"""JPEG and WebP as degradations: what an image looks like after it was a file."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BLOCK_PX = 16  # of JPEG with color at half resolution, and of WebP
HALF_CHROMA, FULL_CHROMA = "4:2:0", "4:4:4"


@dataclass(frozen=True, kw_only=True)
class Compression:
    """A format and its settings."""

    quality: int
    """Pillow's, 0 to 100."""

    webp: bool = False
    """WebP instead of JPEG."""

    chroma: str = HALF_CHROMA
    """Resolution of JPEG's color, as Pillow's `subsampling`."""

    phase: tuple[int, int] = (0, 0)
    """Rows and columns before the image that belong to its first blocks, below 16."""

    def of(self, levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image (3, H, W) compressed and read again."""
        top, left = self.phase
        padded = np.pad(levels.transpose(1, 2, 0), ((top, 0), (left, 0), (0, 0)), mode="edge")
        buffer = io.BytesIO()
        image = Image.fromarray(padded)
        if self.webp:
            image.save(buffer, "WEBP", quality=self.quality, method=2)
        else:
            image.save(buffer, "JPEG", quality=self.quality, subsampling=self.chroma)
        with Image.open(buffer) as read:
            pixels = np.asarray(read.convert("RGB"))
        return np.ascontiguousarray(pixels[top:, left:].transpose(2, 0, 1))
