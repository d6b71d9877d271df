"""LR crops as the web and phones give them, of photos and of drawn twigs and words: sharp at the pixel, then spoiled.

    python recipes/web_crops.py --images data/train_hr --out taught --seed 1 --count 2600
    for kind in web drawn; do ddnsr upscale taught/$kind/lr -m ddnsr-photo -o taught/$kind/hr --suffix ""; done

What a large network makes of an image needs no truth, so a small one can be taught on any image at all. Of rules that
blur before they shrink hardly a crop is sharp at the pixel; photos of phones and of the web are, often too sharp, and
compressed. Writes `web/lr` and `drawn/lr`, crops of 48 pixels.
"""

import argparse
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from image_files import Rgb8, listed_images, run_script
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from ddnsr_cli.errors import DataError
from ddnsr_cli.files import atomic_path
from ddnsr_cli.io.read import read_rgb

CROP_PX = 48
MARGIN_PX = 8
"""Around a crop until it is compressed: blocks begin anywhere."""

SIDE_PX = CROP_PX + 2 * MARGIN_PX
DRAWN_AT = 8
"""Times as large as its LR size a picture is drawn."""

DRAWN_SHARE = 0.2
LETTERS = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,-&%()")

_R = Image.Resampling
KERNELS = (_R.BICUBIC, _R.LANCZOS, _R.BOX, _R.BILINEAR, _R.HAMMING)
SCALES = (0.2, 0.4, 0.75, 1.0)
"""Bounds of how much a photo is shrunk: nearly half of them by three to five, one of seven hardly."""

SCALE_SHARES = (0.45, 0.4, 0.15)

Color = tuple[int, int, int]


def shrunk_part(photo: Rgb8, rng: np.random.Generator) -> Image.Image:
    """The busiest of up to six random places of a photo, shrunk: SIDE_PX a side. Shrinks less where it is too small."""
    place = int(rng.choice(len(SCALE_SHARES), p=SCALE_SHARES))
    height, width = photo.shape[:2]
    times = max(rng.uniform(SCALES[place], SCALES[place + 1]), (SIDE_PX + 1) / min(height, width))
    size = (max(SIDE_PX, round(width * times)), max(SIDE_PX, round(height * times)))
    small = Image.fromarray(photo).resize(size, KERNELS[rng.integers(len(KERNELS))])
    gray = np.asarray(small, np.float32).mean(axis=2)
    places = [tuple(int(rng.integers(0, side - SIDE_PX + 1)) for side in gray.shape) for _ in range(rng.integers(1, 7))]
    top, left = max(places, key=lambda at: _busy(gray[at[0] : at[0] + SIDE_PX, at[1] : at[1] + SIDE_PX]))
    return small.crop((left, top, left + SIDE_PX, top + SIDE_PX))


def _busy(gray: NDArray[np.float32]) -> float:
    return float(np.abs(np.diff(gray, axis=0)).mean() + np.abs(np.diff(gray, axis=1)).mean())


def drawn(photos: Sequence[Rgb8], rng: np.random.Generator) -> Image.Image:
    """Twigs or words before a sky or a blurred photo, SIDE_PX a side."""
    side = DRAWN_AT * SIDE_PX
    picture = _sky(photos, side, rng)
    picture = _with_twigs(picture, rng) if rng.random() < 0.65 else _with_words(picture, rng)
    if rng.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(1, 6))))
    sharp = (_R.BOX, _R.BICUBIC, _R.LANCZOS, _R.HAMMING)
    return picture.resize((SIDE_PX, SIDE_PX), sharp[rng.integers(len(sharp))])


def _sky(photos: Sequence[Rgb8], side: int, rng: np.random.Generator) -> Image.Image:
    if rng.random() < 0.4:
        photo, half = photos[int(rng.integers(len(photos)))], side // 2
        top, left = (int(rng.integers(0, max(1, length - half))) for length in photo.shape[:2])
        part = Image.fromarray(photo[top : top + half, left : left + half]).resize((side, side), _R.BICUBIC)
        return part.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 14))))
    light = rng.uniform(90, 235)
    ends = rng.normal(light, 25, (2, 3)).clip(0, 255)
    angle = rng.uniform(0, 2 * math.pi)
    rows, cols = np.mgrid[0:side, 0:side] / side
    share = (np.cos(angle) * cols + np.sin(angle) * rows)[..., None] % 1
    levels = (ends[0] * share + ends[1] * (1 - share)).round().astype(np.uint8)
    return Image.fromarray(levels).filter(ImageFilter.GaussianBlur(8))


@dataclass(frozen=True, kw_only=True)
class Branch:
    """One to be drawn."""

    x: float
    y: float
    angle: float
    width: float
    orders: int
    """How many branches of branches it may have."""


def _with_twigs(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    side, pen = picture.width, ImageDraw.Draw(picture)
    bark = rng.uniform(5, 80, 3) if rng.random() < 0.8 else rng.uniform(150, 255, 3)
    waiting = []
    for _ in range(int(rng.integers(2, 8))):
        upright = rng.random() < 0.6
        angle = rng.uniform(-2.6, -0.5) if upright else rng.uniform(0, 2 * math.pi)
        y = side if upright else rng.uniform(0, side)
        waiting.append(Branch(x=rng.uniform(0, side), y=y, angle=angle, width=rng.uniform(3, 26), orders=4))
    while waiting:
        waiting += _grown(waiting.pop(), pen, bark, rng)
    return picture


def _grown(
    branch: Branch, pen: ImageDraw.ImageDraw, bark: NDArray[np.float64], rng: np.random.Generator
) -> list[Branch]:
    """Draws a branch, crooked and ever thinner, and gives those that spring from it."""
    x, y, angle, width = branch.x, branch.y, branch.angle, branch.width
    springing = []
    for _ in range(int(rng.integers(5, 18))):
        if width < 0.8:
            break
        length = rng.uniform(15, 55)
        end = (x + length * math.cos(angle), y + length * math.sin(angle))
        pen.line((x, y, *end), fill=_color(bark + rng.normal(0, 10)), width=max(1, round(width)))
        (x, y), angle, width = end, angle + rng.normal(0, 0.25), width * rng.uniform(0.86, 0.99)
        if branch.orders and rng.random() < 0.4:
            turned = angle + rng.choice([-1, 1]) * rng.uniform(0.4, 1.2)
            thinner = width * rng.uniform(0.4, 0.85)
            springing.append(Branch(x=x, y=y, angle=turned, width=thinner, orders=branch.orders - 1))
    return springing


def _with_words(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    side, pen = picture.width, ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(3, 12))):
        font = ImageFont.load_default(float(rng.uniform(40, 150)))
        ink = rng.integers(0, 256, 3) if rng.random() < 0.5 else np.full(3, 15 if rng.random() < 0.6 else 240)
        word = "".join(rng.choice(LETTERS, int(rng.integers(3, 16))))
        pen.text((rng.uniform(-60, 0.7 * side), rng.uniform(-20, side)), word, fill=_color(ink), font=font)
    return picture.rotate(float(rng.uniform(-25, 25)), _R.BICUBIC) if rng.random() < 0.5 else picture


def _color(levels: NDArray[np.generic]) -> Color:
    red, green, blue = (int(level) for level in np.clip(levels, 0, 255))
    return red, green, blue


def spoiled(image: Image.Image, rng: np.random.Generator) -> Rgb8:
    """Sharpened, noisy and compressed, each at times; then a crop, turned at random."""
    if rng.random() < 0.4:
        mask = ImageFilter.UnsharpMask(
            float(rng.uniform(0.5, 1.4)), int(rng.integers(30, 180)), int(rng.choice([0, 0, 2]))
        )
        image = image.filter(mask)
    if rng.random() < 0.4:
        levels = np.asarray(image, np.float32)
        image = Image.fromarray((levels + _noise(levels.shape[:2], rng)).round().clip(0, 255).astype(np.uint8))
    if rng.random() < 0.75:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(rng.integers(40, 97)), subsampling=int(rng.choice([2, 2, 0])))
        image = Image.open(file).convert("RGB")
    top, left = (int(at) for at in rng.integers(0, 2 * MARGIN_PX + 1, 2))
    crop: Rgb8 = np.asarray(image)[top : top + CROP_PX, left : left + CROP_PX]
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    return np.ascontiguousarray(crop.transpose(1, 0, 2) if rng.random() < 0.5 else crop)


def _noise(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Of up to some ten levels, gray and in colors, in half of the cases correlated with the neighbors'."""
    sigma = rng.uniform(0.8, 7)
    noise = rng.normal(0, sigma, (*shape, 1)) * rng.uniform(0.3, 1)
    noise = noise + rng.normal(0, sigma, (*shape, 3)) * rng.uniform(0, 0.9)
    if rng.random() < 0.5:
        noise = (noise + 0.4 * np.roll(noise, 1, axis=0) + 0.4 * np.roll(noise, 1, axis=1)) / 1.15
    return noise


def crops(photos: Sequence[Rgb8], count: int, rng: np.random.Generator) -> Iterator[tuple[str, Rgb8]]:
    """The kind of each crop, `web` or `drawn`, and the crop: (CROP_PX, CROP_PX, 3)."""
    for _ in range(count):
        if rng.random() < DRAWN_SHARE:
            yield "drawn", spoiled(drawn(photos, rng), rng)
        else:
            yield "web", spoiled(shrunk_part(photos[int(rng.integers(len(photos)))], rng), rng)


def main(given: list[str]) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of photos, or a list of them")
    parser.add_argument("--root", type=Path, default=Path(), help="folder that the names in a list are below")
    parser.add_argument("--out", type=Path, required=True, help="folder for the crops")
    parser.add_argument("--count", type=int, default=1000, help="crops of both kinds together")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same bytes")
    options = parser.parse_args(given)
    photos = [
        photo for photo in map(read_rgb, listed_images(options.images, options.root)) if min(photo.shape[:2]) > SIDE_PX
    ]
    if not photos:
        raise DataError(f"{options.images}: no photo has more than {SIDE_PX} pixels a side. Give others.")
    out: Path = options.out
    for kind in ("web", "drawn"):
        (out / kind / "lr").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(options.seed)
    for number, (kind, crop) in enumerate(crops(photos, options.count, rng)):
        with atomic_path(out / kind / "lr" / f"{options.seed}_{number:05d}.png") as temporary:
            Image.fromarray(crop).save(temporary, "PNG")


if __name__ == "__main__":
    run_script(main)
