"""Reading an image: recognized by content, bounded in size, upright, in gray or RGB with straight alpha."""

import math
import mmap
import os
import re
import shutil
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ddnsr_cli.errors import ImageReadError, printable, shown
from ddnsr_cli.files import StorePath, is_folder, temporary_folder
from ddnsr_cli.io.codecs.bitmaps import (
    decode_bmp,
    decode_gif,
    decode_ico,
    decode_pnm,
    decode_qoi,
    decode_tga,
    decode_webp,
)
from ddnsr_cli.io.codecs.heif import decode_avif, decode_heic
from ddnsr_cli.io.codecs.jpeg import decode_jpeg
from ddnsr_cli.io.codecs.jpeg2000 import decode_jp2
from ddnsr_cli.io.codecs.pillow import Decoded, alone_with_pillow, pillow_size
from ddnsr_cli.io.codecs.png import decode_png, png_size, stored_png_size
from ddnsr_cli.io.codecs.tiff import decode_tiff, tiff_size
from ddnsr_cli.io.codecs.wholeness import left_out
from ddnsr_cli.io.formats import MODEL_EXTENSIONS, READABLE, foreign_kind, is_tga, sniff
from ddnsr_cli.io.image import MAX_PIXELS, Metadata, Pixels, RasterImage, profile_fits, rgb8, to_8_bits
from ddnsr_cli.io.metadata.exif import dpi_of, mend_exif, thumbnail_of
from ddnsr_cli.io.metadata.places import Change, mend_xmp, move_places

MAX_FILE_BYTES = 1 << 31
"""Of files that their decoder takes into memory whole. Images do not come near; files with holes cost nothing."""

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
    "BMP": decode_bmp,
    "TGA": decode_tga,
    "WEBP": decode_webp,
    "QOI": decode_qoi,
}
_MEASURES: dict[str, Callable[[BinaryIO], tuple[int, int, int]]] = {  # the other formats are rare
    "PNG": png_size,
    "TIFF": tiff_size,
    **{name: partial(pillow_size, file_format=name) for name in ("JPEG", "WEBP", "AVIF", "BMP", "GIF")},
}

_MOST_SEARCHED_BYTES = 1 << 28
_CREDENTIALS = b"jumdc2pa" + bytes.fromhex("00110010800000aa00389b71")
_ALL_CLEAR = "its alpha channel is clear everywhere, and so is the result"
_OTHER_THUMBNAIL = "its thumbnail shows another image, and was left out"
_LEAST_LIKENESS, _LEAST_CONTRAST, _COMPARED_PX = 0.6, 8, 24
_FIRST_SIDEWAYS = 5  # of the orientations
_FOREIGN_HEAD_BYTES = 1024  # an SVG may begin with a long comment
_LIBRARY_PLACE = re.compile(r"^\w*(vips|VIPS|Vips)\w*: ")  # libvips says first which of its functions speaks


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> RasterImage:
    """Read the first frame of an image file.

    The format goes by the content, whatever the name says. The EXIF orientation is applied; gray stays gray,
    palettes become RGB, CMYK and Lab become sRGB; 16-bit samples keep their bits. Size is checked before decoding. An
    object of a store is fetched first.
    Raises ImageReadError, naming the file, where it is missing, no image, damaged or larger than `max_pixels`.
    """
    if isinstance(path, StorePath):
        return _read_object(path, max_pixels=max_pixels)
    decode = _DECODERS[_format_of(path)]
    try:
        with path.open("rb") as file:
            decoded = decode(path, file, max_pixels=max_pixels)
            return upright(replace(decoded, notes=(*decoded.notes, *_credentials(file))))
    except ImageReadError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageReadError(
            f"{shown(path)} has more pixels than the limit of {max_pixels:,}. "
            f"If you trust it, raise the limit: --max-pixels {_pixels_stated(error)}."
        ) from error
    except MemoryError as error:
        raise ImageReadError(f"{shown(path)} needs more memory than there is. Free some, or shrink it.") from error
    except Exception as error:  # damaged files raise anything, from KeyError to struct.error
        raise ImageReadError(
            f"{shown(path)} is damaged or of a kind that cannot be read ({_reason(error)}). "
            "Get a fresh copy, or save it again as PNG with another program."
        ) from error


def _credentials(file: BinaryIO) -> tuple[str, ...]:
    """A note on signed claims on where an image comes from, which are true of its old bytes only; or none."""
    if os.fstat(file.fileno()).st_size > _MOST_SEARCHED_BYTES:
        return ()
    with (
        suppress(OSError),
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):  # not every disk can be mapped
        if data.find(_CREDENTIALS) >= 0:
            return left_out(["content credentials (C2PA)"])
    return ()


def _read_object(address: StorePath, *, max_pixels: int) -> RasterImage:
    with temporary_folder("ddnsr-") as folder:
        file = fetched(address, folder)
        try:
            return read_image(file, max_pixels=max_pixels)
        except ImageReadError as error:
            raise ImageReadError(str(error).replace(str(file), str(address))) from error.__cause__


def fetched(source: Path, folder: Path) -> Path:
    """An object as a file of the folder; a file as it is. Raises ImageReadError."""
    file = folder / source.name
    if not isinstance(source, StorePath):
        return source
    try:
        if is_folder(source):
            source.names()  # one that could not be listed: it tells why
        size, free = source.stat().st_size, shutil.disk_usage(folder).free
        if size > free:
            place = shown(folder.parent)
            raise ImageReadError(
                f"{shown(source)} has {size} bytes and {place} room for {free}. Set TMPDIR to another."
            )
        source.fetch(file)
    except FileNotFoundError as error:
        raise ImageReadError(f"{shown(source)} does not exist. Check the name.") from error
    except OSError as error:
        reason = printable(error.strerror or str(error))
        raise ImageReadError(f"{shown(source)} cannot be fetched ({reason}). Check address and permissions.") from error
    return file


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """The pixels of an image file as 8-bit RGB, (H, W, 3): what training, metrics and pages look at.

    16 bits are rounded to 8, gray is repeated, alpha is dropped and the color below it kept. Raises as `read_image`.
    """
    return np.require(rgb8(read_image(path)), requirements="W")  # PyTorch wants no array that is not to be written


def image_size(path: Path, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) of the upright image; of the usual formats nothing is decoded. Raises as `read_image`."""
    return _measured(path, _MEASURES, max_pixels)


def stored_size(path: Path) -> tuple[int, int]:
    """(height, width), perhaps not upright: of the usual formats nothing but the first bytes is read, so it is quick.

    Raises as `read_image`.
    """
    return _measured(path, _MEASURES | {"PNG": stored_png_size}, MAX_PIXELS)


def pixels_by_head(path: Path) -> int | None:
    """How many pixels the first bytes of a file speak of; None where they do not tell, or cannot be read."""
    with suppress(Exception):  # what is wrong with a file, reading it tells
        measure = (_MEASURES | {"PNG": stored_png_size}).get(_format_of(path))
        if measure is not None:
            with path.open("rb") as file:
                width, height, _ = measure(file)
            return width * height
    return None


def _measured(
    path: Path, measures: dict[str, Callable[[BinaryIO], tuple[int, int, int]]], max_pixels: int
) -> tuple[int, int]:
    measure = measures.get(_format_of(path))
    if measure is not None:
        with suppress(Exception), path.open("rb") as file:  # what is wrong with a file, reading it tells
            width, height, orientation = measure(file)
            if 0 < width * height <= max_pixels:
                return (width, height) if orientation >= 5 else (height, width)
    image = read_image(path, max_pixels=max_pixels)
    return image.height, image.width


def _format_of(path: Path) -> str:
    """The format of a file, by its first bytes. Raises ImageReadError where it is none that can be read."""
    name = shown(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            next(path.iterdir(), None)  # a folder that may not be listed says so here
            raise ImageReadError(f"{name} is a folder, not an image. Name an image in it.")
        if not stat.S_ISREG(status.st_mode):
            raise ImageReadError(f"{name} is not a regular file. Name an image file.")
        with path.open("rb") as file:
            head = file.read(_FOREIGN_HEAD_BYTES)
    except FileNotFoundError as error:
        raise ImageReadError(f"{name} does not exist. Check the name.") from error
    except (OSError, ValueError) as error:
        raise ImageReadError(f"{name} could not be opened ({_reason(error)}). Check its permissions.") from error
    if not head:
        raise ImageReadError(f"{name} is empty (0 bytes). Get a fresh copy.")
    file_format = sniff(head) or ("TGA" if is_tga(path, head) else None)
    if file_format is None:
        if path.suffix.lower() in MODEL_EXTENSIONS:
            raise ImageReadError(f"{name} is the file of a model, not an image. Name an image, and the model with -m.")
        stranger = foreign_kind(head)
        if stranger is None:
            raise ImageReadError(f"{name} is not an image we can read. Save it as one of: {READABLE}.")
        raise ImageReadError(f"{name} is {stranger[0]}, which cannot be read. {stranger[1]}")
    if file_format in _TAKEN_WHOLE and status.st_size > MAX_FILE_BYTES:
        raise ImageReadError(
            f"{name} has {status.st_size / 1e9:.1f} GB; no {file_format} image is that large. Save it as TIFF."
        )
    return file_format


def upright(decoded: Decoded) -> RasterImage:
    """The image turned as its orientation says, with metadata that say so."""
    pixels = _turned(decoded.pixels, decoded.orientation)
    alpha = None if decoded.alpha is None else _turned(decoded.alpha, decoded.orientation)
    height, width = decoded.pixels.shape[:2]
    if decoded.turned >= _FIRST_SIDEWAYS:
        height, width = width, height
    turn = decoded.turned if decoded.turned != 1 else decoded.orientation
    change = Change(width=width, height=height, orientation=turn)
    metadata, notes = _mended(decoded.metadata, pixels, change)
    if decoded.metadata.exif and _thumbnail_is_another(decoded.metadata.exif, decoded.pixels):
        notes = (*notes, _OTHER_THUMBNAIL)
    clear = () if alpha is None or alpha.any() else (_ALL_CLEAR,)
    told = (*filter(None, (decoded.damage,)), *decoded.notes, *notes, *clear)
    return RasterImage(pixels=pixels, alpha=alpha, metadata=metadata, notes=told, damage=decoded.damage)


def _thumbnail_is_another(exif: bytes, pixels: Pixels) -> bool:
    """Whether a thumbnail is like the stored pixels in none of the eight turns: what was cropped away, or covered, can
    still be seen in such. Black bars, which many cameras put around it, are cut off."""
    thumbnail = thumbnail_of(exif)
    if thumbnail is None:
        return False
    step = max(1, min(pixels.shape[:2]) // (8 * _COMPARED_PX))
    image = Image.fromarray(to_8_bits(pixels[::step, ::step]).mean(axis=2).astype(np.uint8))
    try:
        with alone_with_pillow(MAX_PIXELS), Image.open(BytesIO(thumbnail), formats=["JPEG"]) as opened:
            small = opened.convert("L")
    except Exception:  # noqa: BLE001 - a damaged thumbnail raises anything, and shows nothing
        return False
    whole = _compared(image)
    aspect = image.width / image.height
    views = [_compared(view) for view in (small, *(_without_bars(small, ratio) for ratio in (aspect, 1 / aspect)))]
    if min(view.std() for view in (whole, *views)) < _LEAST_CONTRAST:
        return False
    turns = (np.rot90(each, count) for view in views for each in (view, view.T) for count in range(4))
    return bool(max(np.corrcoef(whole.ravel(), turn.ravel())[0, 1] for turn in turns) < _LEAST_LIKENESS)


def _compared(image: Image.Image) -> NDArray[np.float64]:
    return np.asarray(image.resize((_COMPARED_PX, _COMPARED_PX), Image.Resampling.BOX), np.float64)


def _without_bars(image: Image.Image, aspect: float) -> Image.Image:
    """The middle of an image, of another ratio of width to height."""
    width, height = min(image.width, round(image.height * aspect)), min(image.height, round(image.width / aspect))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + max(1, width), top + max(1, height)))


def _turned(samples: Pixels, orientation: int) -> Pixels:
    """Samples (H, W, ...) as they are to be seen; orientation: 1 to 8 as in EXIF."""
    view: NDArray[Any] = samples
    if orientation >= _FIRST_SIDEWAYS:
        view = view.swapaxes(0, 1)
    if orientation in {2, 3, 6, 7}:
        view = view[:, ::-1]
    if orientation in {3, 4, 7, 8}:
        view = view[::-1]
    return np.ascontiguousarray(view)


def _mended(metadata: Metadata, pixels: Pixels, change: Change) -> tuple[Metadata, tuple[str, ...]]:
    """Metadata true of the upright pixels, and what had to be left out."""
    height, width, channels = pixels.shape
    notes: list[str] = []
    icc, exif = metadata.icc, metadata.exif
    if icc is not None and not profile_fits(icc, channels):
        icc = None
        notes.append("its color profile does not fit its pixels and was left out")
    if exif is not None:
        exif = mend_exif(exif, width=width, height=height)
        if exif is None:
            notes.append("its EXIF data are damaged and were left out")
    xmp = None if metadata.xmp is None else mend_xmp(metadata.xmp, width=width, height=height)
    dpi = sane_dpi(metadata.dpi) or sane_dpi(dpi_of(metadata.exif or b""))
    dpi = (dpi[1], dpi[0]) if dpi and change.swaps_axes else dpi
    mended = replace(metadata, icc=icc, exif=exif, xmp=xmp, dpi=dpi, size=(width, height))
    moved, lost = move_places(mended, change)
    return moved, (*notes, *lost)


def sane_dpi(dpi: tuple[float, float] | None) -> tuple[float, float] | None:
    """A resolution as two finite, positive numbers; None where it is anything else."""
    if dpi is None:
        return None
    x, y = (float(value) for value in dpi)
    return (x, y) if all(math.isfinite(value) and 0 < value < 1e6 for value in (x, y)) else None


def _pixels_stated(error: Image.DecompressionBombError) -> str:
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
