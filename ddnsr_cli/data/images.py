"""Folders of photos as 8-bit RGB arrays."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ddnsr_cli.errors import DataError, ImageReadError

PHOTO_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".avif", ".bmp"})


def list_photos(folder: Path) -> list[Path]:
    """Every photo under `folder`, by suffix, sorted by its path below the folder: the same list on every machine.

    Links are followed, to folders too. Raises DataError when a folder is missing, cannot be looked into, or there is
    no photo.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. Give a folder of photos.")
    found = [
        Path(root) / name
        for root, names in _walk(folder)
        for name in names
        if Path(name).suffix.lower() in PHOTO_SUFFIXES and not name.startswith(".")
    ]
    if not found:
        raise DataError(f"{folder} holds no photos. Supported: {' '.join(sorted(PHOTO_SUFFIXES))}.")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _walk(top: Path) -> Iterator[tuple[str, list[str]]]:
    """The folders below, each with the names of its files; each once, so links in circles do no harm."""
    seen: set[tuple[int, int]] = set()
    for root, folders, names in os.walk(top, onerror=_refuse, followlinks=True):
        status = Path(root).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()  # which of two ways to a folder is taken must not hang on the disk
        yield root, names


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be looked into ({error.strerror}). Allow it, or move it away.") from error


def decode_rgb(path: Path) -> NDArray[np.uint8]:
    """The photo upright (EXIF orientation applied) as (H, W, 3); gray is repeated, alpha is dropped.

    16 bits are rounded to 8. Raises ImageReadError for a file that cannot be decoded, or whose pixels have no
    known white (32 bits, floats).
    """
    try:
        with Image.open(path) as image:
            return np.array(_rgb8(ImageOps.exif_transpose(image)))
    except Exception as cause:  # Pillow's decoders raise a dozen unrelated classes on damaged files
        raise ImageReadError(f"{path} cannot be read as a photo ({cause}). Remove or replace it.") from cause


def _rgb8(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow would cut every level above 255 to white
        levels = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((levels + 128) // 257).astype(np.uint8))
    if image.mode in {"I", "F"}:
        raise ValueError(f"pixels of mode {image.mode}")
    if image.mode == "P":
        image = image.convert("RGBA")  # straight to RGB, Pillow warns about a palette with transparency
    return image.convert("RGB")


def photo_size(path: Path) -> tuple[int, int]:
    """(height, width) of the upright photo, from the header alone.

    Raises ImageReadError as `decode_rgb`.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8) and image.format != "TIFF"
    except Exception as cause:  # Pillow's headers do too
        raise ImageReadError(f"{path} cannot be read as a photo ({cause}). Remove or replace it.") from cause
    return (width, height) if turned else (height, width)


def stored_size(path: Path) -> tuple[int, int]:
    """(height, width) as stored, whatever the EXIF orientation: never decodes, as `photo_size` must for a PNG.

    Raises ImageReadError as `decode_rgb`.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except Exception as cause:  # Pillow's headers do too
        raise ImageReadError(f"{path} cannot be read as a photo ({cause}). Remove or replace it.") from cause


def split_by_size(paths: Sequence[Path], least_px: int) -> tuple[list[Path], list[Path]]:
    """(large enough, too small): photos whose shorter side has, or has not, `least_px` pixels, by their headers.

    Raises ImageReadError as `decode_rgb`.
    """
    large: list[Path] = []
    small: list[Path] = []
    for path in paths:
        (large if min(stored_size(path)) >= least_px else small).append(path)
    return large, small


def shrunk(photo: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    """The photo shrunk by antialiased bicubic. Rows and columns beyond a multiple of `times` are cut off first."""
    if times == 1:
        return photo
    height, width = (length // times for length in photo.shape[:2])
    image = Image.fromarray(photo[: height * times, : width * times])
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC))  # widens its kernel: antialiased
