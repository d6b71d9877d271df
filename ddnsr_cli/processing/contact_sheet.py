"""Sheets of images side by side under captions; the one beside a result: parts enlarged plainly and by the network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ddnsr_cli.io.image import Metadata, RasterImage, to_8_bits
from ddnsr_cli.processing.resize import spread

Rgb8 = NDArray[np.uint8]

GAP_PX = 8
GROUND = (245, 245, 245)
INK = (25, 25, 25)
LEAST_FONT_PX, MOST_FONT_PX = 12, 28
LEAST_CELL_PX = 128
"""Narrower cells leave no room for their captions, so a sheet of them is enlarged."""

CELL_PX = 512
"""Side of a part, pixels of the result."""

LABELS = ("before: enlarged plainly (bicubic)", "after: {model}")
UNDER_ALPHA_LEVEL = 200  # gray behind what is transparent


def sheet(rows: Sequence[Sequence[Rgb8]], labels: Sequence[str]) -> Rgb8:
    """A grid of images with a caption over each column. Same input, same pixels.

    rows: a row a scene, an image a column; images (H, W, 3), RGB, uint8. Every image is enlarged by a whole
    factor, each pixel becoming a square, to the size of the largest: LR beside SR shows what each pixel became.
    labels: a caption a column; one too wide for its column is cut short.
    Returns (h, w, 3). Raises ValueError when the rows have another number of images than there are labels, or when
    an image does not fit the largest by a whole factor.
    """
    if not rows or not labels or any(len(row) != len(labels) for row in rows):
        raise ValueError(f"{len(labels)} labels need rows of as many images, got {[len(row) for row in rows]}.")
    cells = _same_size([image for row in rows for image in row])
    height, width = cells[0].shape[:2]
    font = ImageFont.load_default(size=min(MOST_FONT_PX, max(LEAST_FONT_PX, width // 16)))
    band = _captions(labels, cell_px=width, font=font)
    canvas = np.empty((len(band) + len(rows) * (height + GAP_PX), band.shape[1], 3), np.uint8)
    canvas[:] = GROUND
    canvas[: len(band)] = band
    for index, cell in enumerate(cells):
        row, column = divmod(index, len(labels))
        top, left = len(band) + row * (height + GAP_PX), GAP_PX + column * (width + GAP_PX)
        canvas[top : top + height, left : left + width] = cell
    return canvas


def _same_size(images: Sequence[Rgb8]) -> list[Rgb8]:
    """All images at the size of the largest, or larger by a whole factor when that is small."""
    for image in images:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(f"A sheet takes uint8 images (H, W, 3), got {image.dtype} {image.shape}.")
    height, width = max((image.shape[:2] for image in images), key=lambda size: size[0] * size[1])
    zoom = -(-LEAST_CELL_PX // width)
    return [_enlarged(image, height, width, zoom) for image in images]


def _enlarged(image: Rgb8, height: int, width: int, zoom: int) -> Rgb8:
    factor = width // image.shape[1]
    if (image.shape[0] * factor, image.shape[1] * factor) != (height, width):
        raise ValueError(f"{image.shape[1]} x {image.shape[0]} is no whole fraction of {width} x {height} pixels.")
    return np.asarray(spread(image, factor * zoom), np.uint8)


def _captions(labels: Sequence[str], *, cell_px: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> Rgb8:
    """The band above the images: (h, w, 3), each caption over the middle of its column."""
    _, top, _, bottom = font.getbbox("Ag")
    size = (GAP_PX + len(labels) * (cell_px + GAP_PX), int(bottom - top) + 2 * GAP_PX)
    band = Image.new("RGB", size, GROUND)
    draw = ImageDraw.Draw(band)
    for column, label in enumerate(labels):
        text = _cut_to(label, cell_px, font)
        left = GAP_PX + column * (cell_px + GAP_PX) + (cell_px - font.getlength(text)) / 2
        draw.text((round(left), GAP_PX - int(top)), text, fill=INK, font=font)
    return np.array(band)


def _cut_to(label: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    text = " ".join(label.split())  # a line break would leave the band
    cut = text
    while cut and font.getlength(cut if cut == text else f"{cut}...") > width:
        cut = cut[:-1]
    return cut if cut == text else f"{cut}..."


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A rectangle of the result, pixels."""

    left: int
    top: int
    width: int
    height: int


def comparison(before: RasterImage, after: RasterImage, model: str) -> RasterImage:
    """Up to three parts of an image, before and after: the one with most detail, a middling one, a flat one.

    before: the input. after: its result, of any size. The sheet carries the color profile, if that is of colors.
    """
    small, size = _rgb(before), after.pixels.shape
    rows = [[_enlarged_part(small, part, size), _rgb(_cut(after, part))] for part in _parts(small, size)]
    icc = None if after.is_gray else after.metadata.icc
    return RasterImage(pixels=sheet(rows, [label.format(model=model) for label in LABELS]), metadata=Metadata(icc=icc))


def _rgb(image: RasterImage) -> Rgb8:
    """8-bit colors over a plain ground."""
    samples = to_8_bits(image.pixels)
    if image.alpha is not None:
        share = to_8_bits(image.alpha)[..., None].astype(np.float32) / 255
        samples = np.rint(UNDER_ALPHA_LEVEL + share * (samples.astype(np.float32) - UNDER_ALPHA_LEVEL)).astype(np.uint8)
    return samples if samples.shape[2] == 3 else samples.repeat(3, axis=2)


def _parts(small: Rgb8, shape: tuple[int, ...]) -> list[_Part]:
    """Parts of a result of `shape` (H, W, 3), chosen by how much the input changes within them."""
    height, width = min(CELL_PX, shape[0]), min(CELL_PX, shape[1])
    parts = [
        _Part(left=left, top=top, width=width, height=height)
        for top in range(0, shape[0] - height + 1, height)
        for left in range(0, shape[1] - width + 1, width)
    ]
    ordered = sorted(parts, key=lambda part: _detail(small, part, shape))
    chosen = (ordered[-1], ordered[len(ordered) // 2], ordered[len(ordered) // 10])
    return list(dict.fromkeys(chosen))


def _detail(small: Rgb8, part: _Part, shape: tuple[int, ...]) -> float:
    """Mean difference between neighbors in the part of the input that a part of the result shows."""
    left, top, right, bottom = _box(small, part, shape)
    green = small[int(top) : math.ceil(bottom), int(left) : math.ceil(right), 1].astype(np.int16)
    return sum(float(np.abs(np.diff(green, axis=axis)).mean()) for axis in (0, 1) if green.shape[axis] > 1)


def _box(small: Rgb8, part: _Part, shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a part in pixels of the input, within the input."""
    down, across = small.shape[0] / shape[0], small.shape[1] / shape[1]
    right, bottom = (part.left + part.width) * across, (part.top + part.height) * down
    return part.left * across, part.top * down, min(right, small.shape[1]), min(bottom, small.shape[0])


def _enlarged_part(small: Rgb8, part: _Part, shape: tuple[int, ...]) -> Rgb8:
    box = _box(small, part, shape)
    image = Image.fromarray(small).resize((part.width, part.height), Image.Resampling.BICUBIC, box=box)
    return np.asarray(image)


def _cut(after: RasterImage, part: _Part) -> RasterImage:
    down, across = slice(part.top, part.top + part.height), slice(part.left, part.left + part.width)
    alpha = None if after.alpha is None else after.alpha[down, across]
    return RasterImage(pixels=after.pixels[down, across], alpha=alpha)
