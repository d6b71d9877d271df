"""The sheet beside a result: parts of the picture, enlarged plainly and by the network."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ddnsr_cli.images.picture import Metadata, Picture, to_8_bits
from ddnsr_cli.images.sheet import Rgb8, sheet

CELL_PX = 512
"""Side of a part, pixels of the result."""

LABELS = ("before: enlarged plainly (bicubic)", "after: {model}")
GROUND = 200  # gray behind what is transparent


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A rectangle of the result, pixels."""

    left: int
    top: int
    width: int
    height: int


def comparison(before: Picture, after: Picture, model: str) -> Picture:
    """Up to three parts of a picture, before and after: the one with most detail, a middling one, a flat one.

    before: the input. after: its result, of any size. The sheet carries the colour profile, if that is of colours.
    """
    small, size = _rgb(before), after.pixels.shape
    rows = [[_enlarged(small, part, size), _rgb(_cut(after, part))] for part in _parts(small, size)]
    icc = None if after.is_gray else after.metadata.icc
    return Picture(pixels=sheet(rows, [label.format(model=model) for label in LABELS]), metadata=Metadata(icc=icc))


def _rgb(picture: Picture) -> Rgb8:
    """8-bit colours over a plain ground."""
    samples = to_8_bits(picture.pixels)
    if picture.alpha is not None:
        share = to_8_bits(picture.alpha)[..., None].astype(np.float32) / 255
        samples = np.rint(GROUND + share * (samples.astype(np.float32) - GROUND)).astype(np.uint8)
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
    """Mean difference between neighbours in the part of the input that a part of the result shows."""
    left, top, right, bottom = _box(small, part, shape)
    green = small[int(top) : math.ceil(bottom), int(left) : math.ceil(right), 1].astype(np.int16)
    return sum(float(np.abs(np.diff(green, axis=axis)).mean()) for axis in (0, 1) if green.shape[axis] > 1)


def _box(small: Rgb8, part: _Part, shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a part in pixels of the input, within the input."""
    down, across = small.shape[0] / shape[0], small.shape[1] / shape[1]
    right, bottom = (part.left + part.width) * across, (part.top + part.height) * down
    return part.left * across, part.top * down, min(right, small.shape[1]), min(bottom, small.shape[0])


def _enlarged(small: Rgb8, part: _Part, shape: tuple[int, ...]) -> Rgb8:
    box = _box(small, part, shape)
    image = Image.fromarray(small).resize((part.width, part.height), Image.Resampling.BICUBIC, box=box)
    return np.asarray(image)


def _cut(after: Picture, part: _Part) -> Picture:
    down, across = slice(part.top, part.top + part.height), slice(part.left, part.left + part.width)
    alpha = None if after.alpha is None else after.alpha[down, across]
    return Picture(pixels=after.pixels[down, across], alpha=alpha)
