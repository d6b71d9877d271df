"""Image files for Python programs, read and written as the command does."""

import os
from pathlib import Path

from ddnsr_cli.api.kinds import AnyImage, take_apart
from ddnsr_cli.errors import ImageWriteError
from ddnsr_cli.io import read, write
from ddnsr_cli.io.image import MAX_PIXELS, RasterImage

PathText = str | os.PathLike[str]


def read_image(path: PathText, *, max_pixels: int = MAX_PIXELS) -> RasterImage:
    """The image of a file, upright, with its alpha channel and metadata; `numpy.asarray` gives its samples.

    max_pixels: larger ones are refused. Raises ImageReadError.
    """
    return read.read_image(Path(path), max_pixels=max_pixels)


def write_image(image: AnyImage, path: PathText, *, quality: int = 95, compression: int = 6) -> tuple[str, ...]:
    """Write one image in the format of the extension, whole or not at all; a file of that name is replaced.

    An alpha channel that is opaque everywhere is left out where the format holds none.
    quality: 1 to 100, of JPEG, WebP and AVIF. compression: 0 to 9, of PNG and TIFF. Gives sentences about what the
    format could not hold. Raises ImageWriteError, and ImageReadError for what is no image.
    """
    images, _ = take_apart(image)
    if len(images) != 1:
        raise ImageWriteError(f"{path}: a file holds one image, and this is a batch of {len(images)}. Write each.")
    raster = write.without_idle_alpha(images[0], Path(path))
    return write.write_image(raster, Path(path), write.WriteOptions(quality=quality, compression=compression))
