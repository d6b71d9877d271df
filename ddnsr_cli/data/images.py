"""Folders of photos, listed."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddnsr_cli.errors import DataError, shown
from ddnsr_cli.files import is_folder
from ddnsr_cli.io.discovery import find_images
from ddnsr_cli.io.formats import READABLE, READABLE_EXTENSIONS
from ddnsr_cli.io.selection import OwnResults


def list_photos(folder: Path, *, note: Callable[[str], None] = lambda _text: None) -> list[Path]:
    """Every photo under `folder` that `upscale` would find, sorted by its path below it: the same on every machine.

    Links are followed, to folders too. Results of ddnsr itself are left out, which `note` is told, unless there is
    nothing else: then they are meant. Raises DataError when a folder is missing, cannot be looked into, or there is no
    photo.
    """
    if not folder.is_dir():
        raise DataError(f"{shown(folder)} is not a folder. Give a folder of photos.")
    own = OwnResults(again=False)
    photos = list(own.without(find_images([folder], on_own=own.leave_out)))
    if photos and own.left_out:
        note(f"{own.listed} made by ddnsr and left out; a folder of nothing else is taken as it is")
    found = {one.relative.as_posix(): one.source for one in photos or find_images([folder])}
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


def photos_by_name(folder: Path, *, note: Callable[[str], None] = lambda _text: None) -> dict[str, Path]:
    """The photos of a folder by their path below it, without the suffix, sorted. note: as `list_photos`.

    Raises DataError when two have the same name, or there is none.
    """
    names: dict[str, Path] = {}
    for path in list_photos(folder, note=note):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in names:
            raise DataError(f"{shown(path)} and {shown(names[name])} have the same name. Keep one of them.")
        names[name] = path
    return names
