"""Holes among raw samples, beside black or not: how many pass in silence, and how many sound images are taken for them.

    python tests/fuzz/holes.py --count 2000 --seed 1            a block of zeros each, at a border of blocks in the file
    python tests/fuzz/holes.py --count 2000 --seed 1 --sound    the same images, sound

Photos (of scikit-image) and scenes, as they are, dark, and with black of every shape: borders, letterboxes with
subtitles, columns, circles, corners of turned images, rectangles, lines, letters, masks, stars. As BMP, TGA, PPM, PGM
and TIFF of 8 and 16 bits. Only what is wrong in more than 2 of 100 pixels counts.
"""

import argparse
import random
import struct
import tempfile
from collections import Counter, defaultdict
from io import BytesIO
from pathlib import Path

import numpy as np
import skimage.data
import tifffile
from PIL import Image, ImageDraw

from tests.fuzz.truth import BLOCKS, MOST_WRONG, read, saved, scene, wrong_share

PHOTOS = ("astronaut", "coffee", "cat", "rocket", "camera", "coins")
LEAST_SIDE, MOST_HEIGHT, MOST_WIDTH = 60, 260, 300
WORDS = "What do you say? The quick brown fox jumps over the lazy dog. "


def photo(chance):
    """Rows and columns of a photo or a scene, (H, W, 3)."""
    height, width = chance.randrange(LEAST_SIDE, MOST_HEIGHT), chance.randrange(LEAST_SIDE, MOST_WIDTH)
    if chance.random() < 0.3:
        return np.array(scene(chance, height, width))
    whole = Image.fromarray(getattr(skimage.data, chance.choice(PHOTOS))()).convert("RGB").resize((400, 300))
    left, top = chance.randrange(401 - width), chance.randrange(301 - height)
    return np.array(whole.crop((left, top, left + width, top + height)))


def dark(samples, chance):
    return (samples * chance.uniform(0.05, 0.3)).astype(np.uint8)


def night(samples, chance):
    noise = np.random.default_rng(chance.randrange(1 << 30)).normal(0, chance.uniform(0, 4), samples.shape)
    return np.clip(samples * chance.uniform(0.1, 0.5) - chance.uniform(5, 40) + noise, 0, 255).astype(np.uint8)


def border(samples, chance):
    top, left = chance.randrange(2, samples.shape[0] // 3), chance.randrange(2, samples.shape[1] // 3)
    samples[:top] = samples[-top:] = samples[:, :left] = samples[:, -left:] = 0
    return samples


def subtitles(samples, chance):
    top = chance.randrange(4, samples.shape[0] // 3)
    samples[:top] = samples[-top:] = 0
    image = Image.fromarray(samples)
    if chance.random() < 0.5:
        place = chance.randrange(samples.shape[1] // 2), samples.shape[0] - top + 1
        ImageDraw.Draw(image).text(place, WORDS, fill=(250, 250, 250))
    return np.array(image)


def columns(samples, chance):
    for _ in range(chance.randrange(1, 4)):
        left = chance.randrange(samples.shape[1])
        samples[:, left : left + chance.randrange(5, samples.shape[1] // 2)] = 0
    return samples


def circle(samples, _chance):
    height, width = samples.shape[:2]
    y, x = np.mgrid[:height, :width]
    samples[(y - height / 2) ** 2 + (x - width / 2) ** 2 > (min(height, width) / 2) ** 2] = 0
    return samples


def turned(samples, chance):
    return np.array(Image.fromarray(samples).rotate(chance.uniform(-45, 45), resample=chance.choice((0, 2))))


def rectangles(samples, chance):
    height, width = samples.shape[:2]
    for _ in range(chance.randrange(1, 6)):
        top, left = chance.randrange(height), chance.randrange(width)
        samples[top : top + chance.randrange(1, height), left : left + chance.randrange(1, width)] = 0
    return samples


def lines(samples, chance):
    height, width = samples.shape[:2]
    for _ in range(chance.randrange(1, 30)):
        top, left = chance.randrange(height), chance.choice((0, chance.randrange(width)))
        samples[top : top + chance.randrange(1, 4), left : left + chance.randrange(10, width)] = 0
    return samples


def letters(samples, chance):
    image = Image.new("RGB", samples.shape[1::-1], chance.choice(("white", "black")))
    for top in range(0, samples.shape[0], 12):
        color = (chance.choice((0, 200, 255)),) * 3
        ImageDraw.Draw(image).text((chance.randrange(9), top), WORDS[chance.randrange(40) :], fill=color)
    return np.array(image)


def mask(samples, chance):
    gray = np.asarray(Image.fromarray(samples).convert("L"))
    return ((gray > chance.randrange(60, 200)) * np.uint8(255))[..., None].repeat(3, 2)


def stars(samples, chance):
    rng = np.random.default_rng(chance.randrange(1 << 30))
    count, sky = chance.randrange(5, 400), np.zeros_like(samples)
    sky[rng.integers(0, len(sky), count), rng.integers(0, len(sky[0]), count)] = rng.integers(1, 255, (count, 3))
    return sky


KINDS = {
    "as it is": lambda samples, _: samples,
    **{
        make.__name__: make
        for make in (
            dark, night, border, subtitles, columns, circle, turned, rectangles, lines, letters, mask, stars,
        )
    },
}  # fmt: skip


def by_tifffile(samples, **options):
    file = BytesIO()
    tifffile.imwrite(file, samples, photometric="rgb", metadata=None, **options)
    return file.getvalue()


def by_palette(samples, chance):
    """In few colors or many, as the places of a palette; that of zeros is any color."""
    dither = chance.choice((Image.Dither.NONE, Image.Dither.FLOYDSTEINBERG))
    return Image.fromarray(samples).quantize(chance.choice((2, 4, 16, 64, 256)), dither=dither)


def spare_byte(samples, spare):
    """A BMP of 32 bits a pixel without alpha."""
    header = b"BM" + struct.pack("<I4xI", 54 + 4 * samples[..., 0].size, 54)
    header += struct.pack("<IiiHHI20x", 40, samples.shape[1], samples.shape[0], 1, 32, 0)
    stored = np.full((*samples.shape[:2], 4), spare, np.uint8)
    stored[..., :3] = samples[::-1, :, ::-1]
    return header + stored.tobytes()


FORMATS = {
    "bmp": lambda samples, _: saved(Image.fromarray(samples), "BMP"),
    "tga": lambda samples, _: saved(Image.fromarray(samples), "TGA"),
    "ppm": lambda samples, _: saved(Image.fromarray(samples), "PPM"),
    "pgm": lambda samples, _: saved(Image.fromarray(samples).convert("L"), "PPM"),
    "gray.bmp": lambda samples, _: saved(Image.fromarray(samples).convert("L"), "BMP"),
    "tif": lambda samples, _: saved(Image.fromarray(samples), "TIFF"),
    "strips.tif": lambda samples, chance: by_tifffile(samples, rowsperstrip=chance.randrange(3, 40)),
    "deep.tif": lambda samples, _: by_tifffile(samples.astype(np.uint16) * 257),
    "palette.bmp": lambda samples, chance: saved(by_palette(samples, chance), "BMP"),
    "palette.tga": lambda samples, chance: saved(by_palette(samples, chance), "TGA"),
    "palette.tif": lambda samples, chance: saved(by_palette(samples, chance), "TIFF"),
    "two levels.bmp": lambda samples, _: saved(Image.fromarray(samples).convert("1"), "BMP"),
    "32 bits.bmp": lambda samples, chance: spare_byte(samples, chance.choice((0, 255))),
}


def holed(data, chance):
    block = chance.choice(BLOCKS)
    start = chance.randrange(512, max(513, len(data) - block)) // 512 * 512
    return data[:start] + bytes(min(block, len(data) - start)) + data[start + block :]


def outcome(number, seed, folder, formats, *, sound):
    """(kind of image, what became of it, name of the format)."""
    chance = random.Random(f"{seed}/{number}")
    kind, name = list(KINDS)[number % len(KINDS)], chance.choice(formats)
    data = FORMATS[name](KINDS[kind](photo(chance), chance), chance)
    path = folder / f"image.{name}"
    truth, notes = read(path, data)
    if truth is None or any("zeros" in note for note in notes):
        return kind, "sound, and called damaged", name
    if sound:
        return kind, "sound", name
    pixels, notes = read(path, holed(data, chance))
    is_told = pixels is None or any("zeros" in note for note in notes)
    if pixels is not None and wrong_share(pixels, truth) <= MOST_WRONG:
        return kind, "up to 2 % wrong", name
    return kind, "told" if is_told else "silent", name


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sound", action="store_true")
    parser.add_argument("--formats", nargs="*", default=list(FORMATS), help="Only these.")
    given = parser.parse_args()
    tally, whole = defaultdict(Counter), Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(given.count):
            kind, what, name = outcome(number, given.seed, Path(folder), given.formats, sound=given.sound)
            tally[kind][what] += 1
            tally[name][what] += 1
            whole[what] += 1
    for kind, counts in tally.items():
        print(f"{kind}: {dict(counts)}")
    print(f"all: {dict(whole)}")


if __name__ == "__main__":
    main()
