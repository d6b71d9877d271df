"""Folders and lists of images in, folders of PNG files out; shared by the scripts beside it."""

import argparse
import hashlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddnsr_cli.data.images import list_images
from ddnsr_cli.errors import DataError, DdnsrError
from ddnsr_cli.files import atomic_path
from ddnsr_cli.io.read import read_rgb

Rgb8 = NDArray[np.uint8]
Shot = Callable[[Rgb8, np.random.Generator], Rgb8]


def read_list(path: Path) -> dict[str, str]:
    """A list as `sha256sum` writes it: file name -> hash. Raises DataError for a line of another shape."""
    rows = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name:
            raise DataError(f"{path}, line {number}, is not '<sha256>  <file>'. Write it with make_lists.py.")
        rows[name] = digest
    return rows


def listed_images(images: Path, root: Path) -> list[Path]:
    """The images of a folder, or those named in a list, below `root`. Raises DataError when there is none."""
    if images.is_file():
        return [root / name for name in sorted(read_list(images))]
    return list_images(images)


def image_rng(seed: int, name: str, shot: int) -> np.random.Generator:
    """The draws of one shot of one image: they follow from its name, not from its place among the others."""
    word = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.default_rng([seed, word, shot])


def write_shots(images: list[Path], out: Path, *, seed: int, shots: int, make: Shot) -> list[Path]:
    """`shots` shots of every image, each with its own draws, as `<name>_<shot>.png`. Same seed, same bytes.

    Raises as `write_made`.
    """
    return write_made(images, out, range(shots), lambda image, name, shot: make(image, image_rng(seed, name, shot)))


def write_made(
    images: list[Path], out: Path, numbers: Iterable[int], make: Callable[[Rgb8, str, int], Rgb8]
) -> list[Path]:
    """What `make` makes of every image, its name and each number, as `<name>_<number>.png`.

    Raises ImageReadError for an image that cannot be read, DataError when two have one name.
    """
    if len({path.stem for path in images}) < len(images):
        raise DataError("Two of the images have one name, but for folder and suffix. Rename one.")
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for path in images:
        image = read_rgb(path)
        for number in numbers:
            target = out / f"{path.stem}_{number}.png"
            with atomic_path(target) as temporary:
                Image.fromarray(make(image, path.stem, number)).save(temporary, "PNG")
            written.append(target)
    return written


def arguments(about: str) -> argparse.ArgumentParser:
    """The options that every script that makes a source set has."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--images", type=Path, required=True, help="folder of clean images, or a list of them")
    parser.add_argument("--root", type=Path, default=Path(), help="folder that the names in a list are below")
    parser.add_argument("--out", type=Path, required=True, help="folder for the images")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same bytes")
    parser.add_argument("--shots", type=int, default=1, help="shots of each image")
    return parser


def run_script(main: Callable[[list[str]], None]) -> None:
    """Run a script; what it cannot do is one line on stderr and an exit status."""
    try:
        main(sys.argv[1:])
    except DdnsrError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except OSError as error:
        sys.stderr.write(f"error: {error.filename}: {error.strerror}. Check what was named.\n")
        sys.exit(DataError.exit_code)
