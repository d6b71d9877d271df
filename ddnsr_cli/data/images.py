"""Folders of photos."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddnsr_cli.errors import DataError
from ddnsr_cli.files import is_folder
from ddnsr_cli.io.discovery import find_images
from ddnsr_cli.io.formats import READABLE, READABLE_EXTENSIONS


def list_photos(folder: Path) -> list[Path]:
    """Every photo under `folder` that `upscale` would find, sorted by its path below it: the same on every machine.

    Links are followed, to folders too. Raises DataError when a folder is missing, cannot be looked into, or there is
    no photo.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. Give a folder of photos.")
    found = {one.relative.as_posix(): one.source for one in find_images([folder])}
    if not found:
        raise DataError(f"{folder} holds no photos. What can be read: {READABLE}.")
    for path in found.values():
        if path.suffix.lower() not in READABLE_EXTENSIONS and is_folder(path):
            raise _closed(path)
    return [found[name] for name in sorted(found)]


def _closed(folder: Path) -> DataError:
    """Why a folder was found in the place of its photos."""
    try:
        os.scandir(folder).close()
        reason = "it could not be listed"
    except OSError as error:
        reason = error.strerror or str(error)
    return DataError(f"{folder} cannot be looked into ({reason}). Allow it, or move it away.")


def shrunk(photo: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    """The photo shrunk by antialiased bicubic. Rows and columns beyond a multiple of `times` are cut off first."""
    if times == 1:
        return photo
    height, width = (length // times for length in photo.shape[:2])
    image = Image.fromarray(photo[: height * times, : width * times])
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC))  # widens its kernel: antialiased
