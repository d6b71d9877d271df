"""Fuzzing with the truth at hand: what is damaged must not pass in silence, and what is sound must not be refused.

    python tests/fuzz/truth.py --count 2000 --seed 1

Files of every format are damaged as cards, transfers and recoveries do: zeros in the place of 512 or 4,096 bytes, zeros
to the end with and without the end mark, ends cut off, trailers. Each goes through the reader. A find is a file whose
pixels differ from those of the sound one in more than 2 of 100, without a note or a refusal; a sound file, or one with
nothing but a trailer, that is refused or noted as damaged; and anything but ImageReadError.
"""

import argparse
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pyvips
import tifffile
from PIL import Image

from ddnsr_cli.errors import ImageReadError
from ddnsr_cli.io.read import read_image

MOST_WRONG = 0.02
BLOCKS = (512, 4096)
DAMAGES = ("zeros 512", "zeros 4096", "zero tail", "zero tail, end kept", "cut", "trailer")
_DAMAGE_WORDS = ("damaged", "zeros", "missing")


def scene(chance: random.Random, height: int = 192, width: int = 256) -> Image.Image:
    """Areas, gradients and shapes with some noise: neither flat nor random."""
    rng = np.random.default_rng(chance.randrange(1 << 30))
    y, x = np.mgrid[:height, :width] / np.array([[[height]], [[width]]])
    waves = sum(
        rng.normal(0, 30, 3) * np.sin(rng.uniform(3, 40) * x + rng.uniform(3, 40) * y + rng.uniform(0, 6))[..., None]
        for _ in range(6)
    )
    samples = 120 + 60 * (y[..., None] - 0.5) + waves
    for _ in range(8):
        top, left = rng.integers(0, height), rng.integers(0, width)
        samples[top : top + rng.integers(8, 80), left : left + rng.integers(8, 80)] = rng.uniform(20, 235, 3)
    return Image.fromarray(np.clip(samples + rng.normal(0, rng.uniform(1, 8), samples.shape), 1, 255).astype(np.uint8))


def drawing(chance: random.Random) -> Image.Image:
    """What compresses to next to nothing: one color, two, a gradient, lines, a letterbox, black and white noise."""
    height, width = chance.choice((16, 64, 200, 333)), chance.choice((16, 64, 250, 640))
    color, other = (tuple(chance.choice((0, 255, chance.randrange(256))) for _ in range(3)) for _ in range(2))
    samples = np.empty((height, width, 3), np.uint8)
    samples[:] = color
    kind = chance.randrange(6)
    if kind == 1:
        samples[height // 3 :] = other
    elif kind == 2:
        samples[:] = np.linspace(255, 0, width)[:, None]
    elif kind == 3:
        samples[:: chance.choice((2, 9, 40))] = other
    elif kind == 4:
        samples[:] = 0
        samples[height // 4 : -height // 4] = np.asarray(scene(chance).resize((width, height)))[
            height // 4 : -height // 4
        ]
    elif kind == 5:
        samples[:] = np.random.default_rng(chance.randrange(99)).integers(0, 2, (height, width, 1)) * 255
    return Image.fromarray(samples)


def saved(image: Image.Image, file_format: str, **options: object) -> bytes:
    """Through Pillow."""
    file = BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def by_vips(image: Image.Image, save: str, **options: object) -> bytes:
    """Through libvips."""
    samples = np.asarray(image)
    kind = {"L": "b-w", "RGB": "srgb", "CMYK": "cmyk"}[image.mode]
    raster = pyvips.Image.new_from_memory(
        samples.tobytes(), *image.size, samples.size // samples[..., :1].size if samples.ndim == 3 else 1, "uchar"
    )
    return bytes(getattr(raster.copy(interpretation=kind), save)(**options))


def by_tifffile(image: Image.Image, **options: object) -> bytes:
    """Through tifffile."""
    file = BytesIO()
    tifffile.imwrite(file, np.asarray(image), photometric="rgb", metadata=None, **options)
    return file.getvalue()


def _quality(chance: random.Random) -> int:
    return chance.choice((30, 60, 75, 90, 95, 100))


Encode = Callable[[Image.Image, random.Random], bytes]
ENCODERS: dict[str, Encode] = {
    "JPEG 4:2:0": lambda image, chance: saved(image, "JPEG", quality=_quality(chance)),
    "JPEG 4:4:4": lambda image, chance: saved(image, "JPEG", quality=_quality(chance), subsampling=0),
    "JPEG optimized": lambda image, chance: saved(image, "JPEG", quality=_quality(chance), optimize=True),
    "JPEG progressive": lambda image, chance: saved(image, "JPEG", quality=_quality(chance), progressive=True),
    "JPEG restart": lambda image, chance: saved(image, "JPEG", quality=_quality(chance), restart_marker_blocks=7),
    "JPEG gray": lambda image, chance: saved(image.convert("L"), "JPEG", quality=_quality(chance)),
    "JPEG CMYK": lambda image, chance: saved(image.convert("CMYK"), "JPEG", quality=_quality(chance)),
    "JPEG libvips": lambda image, chance: by_vips(
        image, "jpegsave_buffer", Q=_quality(chance), optimize_coding=True, interlace=chance.random() < 0.5,
        trellis_quant=True, overshoot_deringing=True, optimize_scans=True,
    ),
    "WebP lossy": lambda image, chance: saved(image, "WEBP", quality=_quality(chance), method=chance.randrange(5)),
    "WebP lossless": lambda image, chance: saved(image, "WEBP", lossless=True, method=chance.randrange(5)),
    "AVIF": lambda image, chance: saved(image, "AVIF", quality=_quality(chance), speed=9),
    "JPEG 2000": lambda image, _: saved(image, "JPEG2000", irreversible=False),
    "JPEG 2000 lossy": lambda image, chance: saved(
        image, "JPEG2000", irreversible=True, quality_mode="rates", quality_layers=[chance.choice((5, 20))]
    ),
    "PNG": lambda image, chance: saved(image, "PNG", compress_level=chance.randrange(10)),
    "PNG palette": lambda image, _: saved(image.quantize(64), "PNG"),
    "GIF": lambda image, _: saved(image.quantize(64), "GIF"),
    "QOI": lambda image, _: saved(image, "QOI"),
    "TIFF LZW": lambda image, _: saved(image, "TIFF", compression="tiff_lzw"),
    "TIFF deflate": lambda image, _: saved(image, "TIFF", compression="tiff_adobe_deflate"),
    "TIFF JPEG": lambda image, chance: saved(image, "TIFF", compression="jpeg", quality=_quality(chance)),
    "TIFF packbits": lambda image, _: saved(image, "TIFF", compression="packbits"),
    "TIFF LZW tiles": lambda image, _: by_vips(
        image, "tiffsave_buffer", compression="lzw", predictor="horizontal", tile=True, tile_width=64, tile_height=64
    ),
    "TIFF deflate tiles": lambda image, _: by_vips(
        image, "tiffsave_buffer", compression="deflate", predictor="horizontal", tile=True, tile_width=64
    ),
    "TIFF JPEG tiles": lambda image, chance: by_vips(
        image, "tiffsave_buffer", compression="jpeg", Q=_quality(chance), tile=True, tile_width=64, tile_height=64
    ),
    "TIFF deflate tifffile": lambda image, _: by_tifffile(image, compression="zlib", rowsperstrip=32),
    "TIFF none": lambda image, _: saved(image, "TIFF"),
}  # fmt: skip
RAW = ("TIFF none",)
"""Whose samples stand in the file as they are: nothing in them tells zeros from black."""

_END_BYTES = {"JPEG": 2, "PNG": 12, "GIF": 1, "JPEG 2000": 2, "QOI": 8}


def damaged(data: bytes, damage: str, kind: str, chance: random.Random) -> bytes:
    """A file as the damage leaves it."""
    if damage == "trailer":
        return data + chance.choice(
            (bytes(4096), b"\0\0\x01\x0a\x0e\0\0\0Image_UTC_Data1600000000SEFH" + bytes(30) + b"SEFT")
        )
    if damage == "cut":
        return data[: chance.randrange(len(data) // 4, len(data))]
    if damage.startswith("zero tail"):
        kept = _END_BYTES.get(kind, _END_BYTES.get(kind.split(maxsplit=1)[0], 8)) if damage.endswith("kept") else 0
        start = chance.randrange(len(data) // 4, len(data) - kept)
        return data[:start] + bytes(len(data) - kept - start) + data[len(data) - kept :]
    block = int(damage.split()[1])
    start = chance.randrange(max(1, len(data) - block))
    start -= start % chance.choice((1, 512))
    return data[:start] + bytes(min(block, len(data) - start)) + data[start + block :]


@dataclass(frozen=True)
class Find:
    """What must not be."""

    number: int
    kind: str
    damage: str
    what: str


def read(path: Path, data: bytes) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Pixels and notes; None, and the message, where the file is refused."""
    path.write_bytes(data)
    try:
        image = read_image(path)
    except ImageReadError as error:
        return None, (str(error),)
    return np.asarray(image), image.notes


def wrong_share(one: np.ndarray, other: np.ndarray) -> float:
    """The share of pixels that differ."""
    if one.shape != other.shape:
        return 1.0
    return float((one != other).reshape(*one.shape[:2], -1).any(axis=2).mean())


def examine(
    number: int, seed: int, path: Path, tally: Counter[tuple[str, str]], *, size: tuple[int, int] = (192, 256)
) -> Iterator[Find]:
    """One file, of a scene of so many rows and columns: what became of it is counted."""
    chance = random.Random(f"{seed}/{number}")
    kind, damage = chance.choice(list(ENCODERS)), chance.choice(DAMAGES)
    sound = ENCODERS[kind](scene(chance, *size), chance)
    truth, said = read(path, sound)
    if truth is None or any(word in note for note in said for word in _DAMAGE_WORDS):
        yield Find(number, kind, "sound", str(said))
        return
    pixels, notes = read(path, damaged(sound, damage, kind, chance))
    if pixels is None:
        tally[damage, "refused"] += 1
        if damage == "trailer":
            yield Find(number, kind, damage, notes[0])
    elif set(notes) - set(said):
        tally[damage, "noted"] += 1
        if damage == "trailer" and any(word in note for note in notes for word in _DAMAGE_WORDS):
            yield Find(number, kind, damage, str(notes))
    else:
        share = wrong_share(pixels, truth)
        tally[damage, "right" if share == 0 else "silent, up to 2 %" if share <= MOST_WRONG else "silent"] += 1
        if share > MOST_WRONG:
            yield Find(number, kind, damage, f"{100 * share:.0f} % of the pixels are wrong, and nothing was said")


def check_sound(kind: str, number: int, seed: int, path: Path) -> Iterator[Find]:
    """A sound file, of a drawing or a scene."""
    chance = random.Random(f"{seed}/{kind}/{number}")
    image = drawing(chance) if number % 4 else scene(chance)
    pixels, notes = read(path, ENCODERS[kind](image, chance))
    if pixels is None or any(word in note for note in notes for word in _DAMAGE_WORDS):
        yield Find(number, kind, "sound", str(notes))


def main() -> int:
    """Exit status 1 where there are finds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="Damaged files.")
    parser.add_argument("--sound", type=int, default=0, help="Sound files of each encoder.")
    parser.add_argument("--seed", type=int, default=1, help="Of the files.")
    parser.add_argument("--kinds", default="", help="Beginnings of names of encoders, for sound files.")
    parser.add_argument("--only", type=int, help="One damaged file again.")
    options = parser.parse_args()
    tally: Counter[tuple[str, str]] = Counter()
    finds: list[Find] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        for number in [options.only] if options.only is not None else range(options.count):
            finds += examine(number, options.seed, path, tally)
        for kind in [kind for kind in ENCODERS if kind.startswith(tuple(options.kinds.split(",")))]:
            for number in range(options.sound):
                finds += check_sound(kind, number, options.seed, path)
    for damage in DAMAGES:
        print(f"{damage}: " + ", ".join(f"{what} {tally[at, what]}" for at, what in sorted(tally) if at == damage))
    for find in finds:
        print(find)
    print(f"{len(finds)} finds, {sum(find.kind in RAW for find in finds)} of them among raw samples")
    return 1 if finds else 0


if __name__ == "__main__":
    raise SystemExit(main())
