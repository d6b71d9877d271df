"""Images made by code, and what happens to images."""

import io

import numpy as np
from PIL import Image, ImageDraw


def drawn_image(seed, side=256):
    """A clean, sharp image of sorts: discs of all sizes on a soft gradient, drawn at four times the size."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(40, 216, (2, 2, 3)).astype(np.uint8)
    canvas = Image.fromarray(corners).resize((4 * side, 4 * side), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(canvas)
    for _ in range(60):
        x, y = rng.integers(0, 4 * side, 2)
        radius = int(4 * rng.uniform(1, 0.16 * side) ** rng.uniform(0.3, 1))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tuple(rng.integers(20, 236, 3).tolist()))
    return np.array(canvas.resize((side, side), Image.Resampling.BOX))


def noisy(image, sigma, seed=0):
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)


def jpeg(image, quality):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.array(Image.open(buffer))


def resized(image, times):
    height, width = (round(length * times) for length in image.shape[:2])
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
