"""Reading a picture: recognised by content, bounded in size, upright, in gray or RGB with straight alpha."""

import math
import os
import re
import struct
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ddnsr_cli.errors import ImageReadError
from ddnsr_cli.io.codecs.heif import decode_avif, decode_heic
from ddnsr_cli.io.codecs.jpeg import decode_jpeg
from ddnsr_cli.io.codecs.jpeg2000 import decode_jp2
from ddnsr_cli.io.codecs.pillow import Decoded, decode_gif, decode_ico, decode_with_pillow
from ddnsr_cli.io.codecs.png import decode_png
from ddnsr_cli.io.codecs.pnm import decode_pnm
from ddnsr_cli.io.codecs.tiff import decode_tiff
from ddnsr_cli.io.formats import READABLE, foreign_kind, is_tga, shown, sniff
from ddnsr_cli.io.image import MAX_PIXELS, Metadata, Picture, Pixels, profile_fits
from ddnsr_cli.io.metadata.exif import mend_exif, mend_xmp

_STDERR = 2

MAX_FILE_BYTES = 1 << 31
"""Of files that their decoder takes into memory whole. Pictures do not come near; files with holes cost nothing."""

_TAKEN_WHOLE = ("JPEG", "WEBP", "AVIF", "HEIC", "JPEG2000", "GIF", "ICO", "QOI")
_DECODERS: dict[str, Callable[..., Decoded]] = {
    "PNG": decode_png,
    "TIFF": decode_tiff,
    "AVIF": decode_avif,
    "PPM": decode_pnm,
    "JPEG": decode_jpeg,
    "JPEG2000": decode_jp2,
    "HEIC": decode_heic,
    "GIF": decode_gif,
    "ICO": decode_ico,
    **{name: partial(decode_with_pillow, file_format=name) for name in ("WEBP", "BMP", "TGA", "QOI")},
}

_FOREIGN_HEAD_BYTES = 1024  # an SVG may begin with a long comment
_LIBRARY_PLACE = re.compile(r"^\w*(vips|VIPS|Vips)\w*: ")  # libvips says first which of its functions speaks

# Warning filters, Pillow's size limit and the standard error are of the whole process: one decode at a time.
_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Throw away what is written to the process's standard error inside the block, by C code too.

    libtiff prints there before Python sees an error, and Pillow logs there. It is process-wide: what another thread
    writes in the meantime is lost as well, so keep the block short.
    """
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        kept = os.dup(_STDERR)
    except OSError:  # no standard error: nothing to keep quiet
        yield
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, _STDERR)
        os.close(nowhere)
        yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)


def read_picture(path: Path, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read the first frame of a picture file.

    The format goes by the content, whatever the name says. The EXIF orientation is applied; gray stays gray,
    palettes become RGB, CMYK and Lab become sRGB; 16-bit samples keep their bits. Size is checked before decoding.
    Raises ImageReadError, naming the file, where it is missing, no picture, damaged or larger than `max_pixels`.
    """
    decode = _decoder_for(path)
    with _ONE_AT_A_TIME, _pillow_limit(max_pixels), quiet_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters becomes a note or an error
        try:
            with path.open("rb") as file:
                return upright(decode(path, file, max_pixels=max_pixels))
        except ImageReadError:
            raise
        except Image.DecompressionBombError as error:
            raise ImageReadError(
                f"{shown(path)} has more pixels than the limit of {max_pixels:,}. "
                f"If you trust it, raise the limit: --max-pixels {_pixels_told(error)}."
            ) from error
        except MemoryError as error:
            raise ImageReadError(f"{shown(path)} needs more memory than there is. Free some, or shrink it.") from error
        except Exception as error:  # damaged files raise anything, from KeyError to struct.error
            raise ImageReadError(
                f"{shown(path)} is damaged or of a kind that cannot be read ({_reason(error)}). "
                "Get a fresh copy, or save it again as PNG with another program."
            ) from error


def _decoder_for(path: Path) -> Callable[..., Decoded]:
    """What decodes a file, by its first bytes. Raises ImageReadError where nothing does."""
    name = shown(path)
    try:
        if path.is_dir():
            next(path.iterdir(), None)  # a folder that may not be listed says so here
            raise ImageReadError(f"{name} is a folder, not a picture. Name a picture in it.")
        if path.exists() and not path.is_file():
            raise ImageReadError(f"{name} is not a regular file. Name a picture file.")
        with path.open("rb") as file:
            head = file.read(_FOREIGN_HEAD_BYTES)
            size = file.seek(0, 2)
    except FileNotFoundError as error:
        raise ImageReadError(f"{name} does not exist. Check the name.") from error
    except (OSError, ValueError) as error:
        raise ImageReadError(f"{name} could not be opened ({_reason(error)}). Check its permissions.") from error
    if not head:
        raise ImageReadError(f"{name} is empty (0 bytes). Get a fresh copy.")
    file_format = sniff(head) or ("TGA" if is_tga(path, head) else None)
    if file_format is None:
        kind = foreign_kind(head)
        what = f"is {kind}, which cannot be read" if kind else "is not a picture we can read"
        raise ImageReadError(f"{name} {what}. Save it as one of: {READABLE}.")
    if file_format in _TAKEN_WHOLE and size > MAX_FILE_BYTES:
        raise ImageReadError(
            f"{name} has {size / 1e9:.1f} GB; no {file_format} picture is that large. Save it as TIFF."
        )
    return _DECODERS[file_format]


@contextmanager
def _pillow_limit(max_pixels: int) -> Iterator[None]:
    """Pillow refuses above twice its limit and warns above the limit: make the former happen at `max_pixels`."""
    kept = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = max(1, (max_pixels + 1) // 2)
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = kept


def upright(decoded: Decoded) -> Picture:
    """The picture turned as its orientation says, with metadata that say so."""
    pixels = _turned(decoded.pixels, decoded.orientation)
    alpha = None if decoded.alpha is None else _turned(decoded.alpha, decoded.orientation)
    metadata, notes = _mended(decoded.metadata, pixels)
    return Picture(pixels=pixels, alpha=alpha, metadata=metadata, notes=decoded.notes + notes)


def _turned(samples: Pixels, orientation: int) -> Pixels:
    """Samples (H, W, ...) as they are to be seen; orientation: 1 to 8 as in EXIF."""
    view: NDArray[Any] = samples
    if orientation >= 5:
        view = view.swapaxes(0, 1)
    if orientation in {2, 3, 6, 7}:
        view = view[:, ::-1]
    if orientation in {3, 4, 7, 8}:
        view = view[::-1]
    return np.ascontiguousarray(view)


def _mended(metadata: Metadata, pixels: Pixels) -> tuple[Metadata, tuple[str, ...]]:
    """Metadata true of the upright pixels, and what had to be left out."""
    height, width, channels = pixels.shape
    notes: list[str] = []
    icc, exif = metadata.icc, metadata.exif
    if icc is not None and not profile_fits(icc, channels):
        icc = None
        notes.append("its colour profile does not fit its pixels and was left out")
    if exif is not None:
        exif = mend_exif(exif, width=width, height=height)
        if exif is None:
            notes.append("its EXIF data are damaged and were left out")
    xmp = None if metadata.xmp is None else mend_xmp(metadata.xmp, width=width, height=height)
    return replace(metadata, icc=icc, exif=exif, xmp=xmp, dpi=sane_dpi(metadata.dpi)), tuple(notes)


def sane_dpi(dpi: tuple[float, float] | None) -> tuple[float, float] | None:
    """A resolution as two finite, positive numbers; None where it is anything else."""
    if dpi is None:
        return None
    x, y = (float(value) for value in dpi)
    return (x, y) if all(math.isfinite(value) and 0 < value < 1e6 for value in (x, y)) else None


def _pixels_told(error: Image.DecompressionBombError) -> str:
    """How many pixels Pillow found, in digits."""
    found = re.search(r"\((\d+) pixels\)", str(error))
    return found[1] if found else "NUMBER"


def _reason(error: Exception) -> str:
    """An error of a library in a few words on one line."""
    # what these say is for programmers, and of a file it is always this
    if isinstance(error, (UnidentifiedImageError, AssertionError, AttributeError, IndexError, KeyError, TypeError)):
        return "its header makes no sense"
    if isinstance(error, (struct.error, EOFError)):
        return "it is cut short, or its header makes no sense"
    lines = str(getattr(error, "strerror", None) or error).strip().split("\n")
    deepest = _LIBRARY_PLACE.sub("", lines[-1].strip())
    if deepest.startswith("decoder error"):  # of Pillow; all that follows is a number
        return "its pixels are damaged, or compressed in a rare way"
    words = "".join(char if char.isprintable() else "?" for char in deepest).strip(" .")
    return words[:120] or type(error).__name__
