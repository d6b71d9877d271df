"""Sheets: pictures side by side under captions, for a person to compare."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ddnsr_cli.images.edges import spread

Rgb8 = NDArray[np.uint8]

GAP_PX = 8
GROUND = (245, 245, 245)
INK = (25, 25, 25)
LEAST_FONT_PX, MOST_FONT_PX = 12, 28
LEAST_CELL_PX = 128
"""Narrower cells leave no room for their captions, so a sheet of them is enlarged."""


def sheet(rows: Sequence[Sequence[Rgb8]], labels: Sequence[str]) -> Rgb8:
    """A grid of pictures with a caption over each column. Same input, same pixels.

    rows: a row a scene, a picture a column; pictures (H, W, 3), RGB, uint8. Every picture is enlarged by a whole
    factor, each pixel becoming a square, to the size of the largest: LR beside SR shows what each pixel became.
    labels: a caption a column; one too wide for its column is cut short.
    Returns (h, w, 3). Raises ValueError when the rows have another number of pictures than there are labels, or when
    a picture does not fit the largest by a whole factor.
    """
    if not rows or not labels or any(len(row) != len(labels) for row in rows):
        raise ValueError(f"{len(labels)} labels need rows of as many pictures, got {[len(row) for row in rows]}.")
    cells = _same_size([picture for row in rows for picture in row])
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


def _same_size(pictures: Sequence[Rgb8]) -> list[Rgb8]:
    """All pictures at the size of the largest, or larger by a whole factor when that is small."""
    for picture in pictures:
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
            raise ValueError(f"A sheet takes uint8 pictures (H, W, 3), got {picture.dtype} {picture.shape}.")
    height, width = max((picture.shape[:2] for picture in pictures), key=lambda size: size[0] * size[1])
    zoom = -(-LEAST_CELL_PX // width)
    return [_enlarged(picture, height, width, zoom) for picture in pictures]


def _enlarged(picture: Rgb8, height: int, width: int, zoom: int) -> Rgb8:
    factor = width // picture.shape[1]
    if (picture.shape[0] * factor, picture.shape[1] * factor) != (height, width):
        raise ValueError(f"{picture.shape[1]} x {picture.shape[0]} is no whole fraction of {width} x {height} pixels.")
    return np.asarray(spread(picture, factor * zoom), np.uint8)


def _captions(labels: Sequence[str], *, cell_px: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> Rgb8:
    """The band above the pictures: (h, w, 3), each caption over the middle of its column."""
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
