"""Pixels and metadata of one image file through Pillow, alone with the settings that it has for the whole process."""

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from ddnsr_cli.errors import ImageReadError, shown
from ddnsr_cli.io.image import MAX_PIXELS, Metadata, Pixels, cmyk_to_rgb, lab_to_rgb, rounded
from ddnsr_cli.io.metadata.exif import bare_exif, orientation_of

_KEPT_MODES = ("L", "LA", "RGB", "RGBA", "I;16")
_WIDENED, _WHITE = {"L;2": 85, "L;4": 17}, 255
_BEYOND_PALETTE = "some of its pixels are places beyond its palette and became black"
_STDERR = 2
_ALONE = threading.RLock()


@contextmanager
def alone_with_pillow(max_pixels: int) -> Iterator[None]:
    """Pillow's size limit at `max_pixels`, and no warnings: one thread at a time.

    Both are of the whole process. What matters of the warnings becomes a note or an error.
    """
    with _ALONE, _pillow_limit(max_pixels), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _pillow_limit(max_pixels: int) -> Iterator[None]:
    """Pillow refuses above twice its limit and warns above the limit: make the former happen at `max_pixels`."""
    kept = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = max(1, (max_pixels + 1) // 2)
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = kept


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Throw away what is written to the process's standard error inside the block, by C code too.

    libtiff prints there before Python sees an error, and Pillow logs there of a TIFF; no other decoder does. It is
    process-wide: what another thread writes in the meantime is lost as well, so keep the block short.
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


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """An image as it lies in its file, before it is turned upright."""

    pixels: Pixels
    """(H, W, C) as in `RasterImage`."""

    alpha: Pixels | None
    """(H, W), straight."""

    metadata: Metadata
    """As stored; its sizes and orientation are those of the file."""

    orientation: int = 1
    """The turn still to be made, 1 to 8 as in EXIF."""

    turned: int = 1
    """The turn that the decoder has made, of which EXIF and XMP do not know."""

    notes: tuple[str, ...] = ()
    """What had to be changed or left out."""

    damage: str = ""
    """What is wrong with its pixels, though they could be decoded; empty: nothing."""


def check_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    """Refuse an image that is too large to be decoded, by what its header says. Raises ImageReadError."""
    if width * height > max_pixels:
        raise ImageReadError(
            f"{shown(path)} has {width} x {height} pixels, more than the limit of {max_pixels:,}. "
            f"If you trust it, raise the limit: --max-pixels {width * height}."
        )


def undeclared_alpha(decoded: Decoded, channel: Pixels) -> Decoded:
    """`decoded` with a channel beyond its colors of which the file does not say that it is alpha; (H, W).

    Where it is the same everywhere, 0 or full, it is padding. What varies is transparency: writers that forget to
    declare it are many, and who sees the note can tell.
    """
    if channel.min() == channel.max() and channel.flat[0] in (0, np.iinfo(channel.dtype).max):
        return decoded
    note = "its last channel, which it does not declare as alpha, was read as alpha"
    return replace(decoded, alpha=channel, notes=(*decoded.notes, note))


def divided(pixels: Pixels, alpha: Pixels) -> Pixels:
    """Colors (H, W, C) that alpha (H, W) was multiplied into, without it."""
    white = np.iinfo(pixels.dtype).max
    return rounded(pixels.astype(np.float32) * white / np.maximum(alpha, 1).astype(np.float32)[..., None], pixels)


def first_of(frames: int) -> str:
    """The note for a file of several frames or pages."""
    return f"only the first of {frames} frames was read"


def with_samples(decoded: Decoded, samples: Pixels) -> Decoded:
    """`decoded` with its pixels replaced; samples: (H, W, bands), gray or RGB, then perhaps alpha."""
    bands = samples.shape[2]
    has_alpha = bands in {2, 4}
    return replace(decoded, pixels=samples[..., : bands - has_alpha], alpha=samples[..., -1] if has_alpha else None)


def decode_with_pillow(
    path: Path, file: BinaryIO, *, file_format: str, max_pixels: int, metadata: Metadata | None = None
) -> Decoded:
    """Decode the first frame of a file whose format is known. Damage raises whatever Pillow raises.

    file_format: Pillow's name of the only format that is tried, so that a lie in the extension does no harm.
    metadata: what is known of it already; None: as Pillow finds them.
    """
    quiet = quiet_stderr() if file_format == "TIFF" else nullcontext()
    with alone_with_pillow(max_pixels), quiet, Image.open(file, formats=[file_format]) as image:
        check_size(path, *image.size, max_pixels)
        # counting pages takes Pillow time by their square, and of a JPEG it believes the header: their decoders count
        frames = 1 if file_format in {"TIFF", "JPEG"} else int(getattr(image, "n_frames", 1))
        decoded = decode_image(image, find=pillow_metadata if metadata is None else lambda _: metadata)
    notes = (first_of(frames),) if frames > 1 else ()
    return replace(decoded, notes=notes + decoded.notes)


def pillow_size(file: BinaryIO, *, file_format: str) -> tuple[int, int, int]:
    """(width, height, orientation) as stored, from the header. Damage raises whatever Pillow raises."""
    with alone_with_pillow(MAX_PIXELS), Image.open(file, formats=[file_format]) as image:
        known = pillow_metadata(image)
        return *image.size, orientation_of(known.exif, known.xmp)


def decode_image(image: Image.Image, *, find: Callable[[Image.Image], Metadata]) -> Decoded:
    """The present frame of an image that Pillow holds. Damage raises whatever Pillow raises.

    find: what tells its metadata once it is loaded.
    """
    key = _key_color(image)
    image.load()
    known = find(image)
    # Pillow turns a TIFF while it loads it, and only a TIFF
    orientation = orientation_of(known.exif, known.xmp)
    decoded = replace(_decoded(image, known, key), damage=beyond_palette(image))
    return replace(decoded, turned=orientation) if image.format == "TIFF" else replace(decoded, orientation=orientation)


def _decoded(image: Image.Image, metadata: Metadata, key: tuple[int, ...] | None) -> Decoded:
    """Split a loaded image into colors and alpha, in gray or RGB; `key` is the color that is transparent."""
    image, notes = _simple_mode(image, metadata.icc)
    if notes:  # the colors are sRGB now, whatever the profile says
        metadata = replace(metadata, icc=None, is_converted=True)
    samples: Pixels = np.asarray(image)
    if samples.ndim == 2:
        samples = samples[..., None]
    has_alpha = samples.shape[2] in {2, 4}
    pixels = samples[..., :-1] if has_alpha else samples
    alpha = samples[..., -1] if has_alpha else None
    if key is not None and max(key) <= np.iinfo(pixels.dtype).max:  # deep color comes from elsewhere, key and all
        opaque = (pixels != np.array(key, dtype=pixels.dtype)).any(axis=2)
        alpha = opaque.astype(pixels.dtype) * np.iinfo(pixels.dtype).max
    return Decoded(pixels=pixels, alpha=alpha, metadata=metadata, notes=notes)


def _simple_mode(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, tuple[str, ...]]:
    """The image in one of the modes that need no further thought, and a note if colors were converted."""
    if image.mode in _KEPT_MODES:
        return image, ()
    if image.mode == "1":
        return image.convert("L"), ()
    if image.mode == "CMYK":
        image, note = cmyk_to_rgb(image, icc)
        return image, (note,)
    if image.mode == "LAB":
        image, note = lab_to_rgb(image)
        return image, (note,)
    if image.mode in {"P", "PA", "YCbCr", "HSV", "RGBX", "RGBa"}:
        gray = image.mode == "P" and icc is None and _has_gray_palette(image)  # a profile of such a file is for RGB
        plain = image.convert("RGBA" if image.has_transparency_data else "RGB")
        return (plain.convert("LA" if plain.mode == "RGBA" else "L") if gray else plain), ()
    if image.mode == "La":
        return image.convert("LA"), ()
    raise ValueError(f"pixels of the kind {image.mode} are not supported")


def _key_color(image: Image.Image) -> tuple[int, ...] | None:
    """The one color that a PNG or GIF declares transparent, as a loaded sample has it; None: there is none.

    Best called before loading. Pillow's own conversion loses that color in gray of 2, 4 and 16 bits.
    """
    key: Any = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple):
        return key
    if image.mode == "1" and isinstance(key, int):
        return (255 if key else 0,)
    if image.mode in {"L", "I;16"} and isinstance(key, int):
        tiles = getattr(image, "tile", ())
        # gray of 2 or 4 bits is widened to 8 by Pillow, the color that goes with it is not
        return (key * (_WIDENED.get(str(tiles[0].args), 1) if tiles else _widened(image, key)),)
    return None


def _widened(image: Image.Image, key: int) -> int:
    """By how much Pillow has widened the gray of a loaded image, which no longer tells how many bits were stored.

    Where all levels are multiples, a small key is none of them unless it is multiplied as well.
    """
    if image.mode != "L" or image.format not in {"PNG", None}:
        return 1
    levels = np.flatnonzero(image.histogram())
    return next((by for by in _WIDENED.values() if key <= _WHITE // by and not (levels % by).any()), 1)


def beyond_palette(image: Image.Image) -> str:
    """A word on pixels of a loaded image that are places beyond its palette; empty: there are none."""
    if image.mode != "P":
        return ""
    places = np.flatnonzero(image.histogram())
    beyond = places[places >= len(image.getpalette("RGB") or ()) // 3]
    clear = image.info.get("transparency")  # a GIF may take a place for it that has no color
    return _BEYOND_PALETTE if any(place != clear for place in beyond.tolist()) else ""


def _has_gray_palette(image: Image.Image) -> bool:
    """Whether all colors in use are gray: a GIF knows no other way to be so."""
    colors = np.array(image.getpalette("RGB") or (), np.uint8).reshape(-1, 3)
    used = colors[np.flatnonzero(image.histogram()[: len(colors)])]
    return bool((used == used[:, :1]).all())


def pillow_metadata(image: Image.Image) -> Metadata:
    """What Pillow tells of an opened image."""
    info: dict[str | tuple[int, int], Any] = image.info
    exif, xmp = info.get("exif"), info.get("xmp")
    return Metadata(
        icc=info.get("icc_profile") or None,
        exif=bare_exif(exif) or None if exif else None,
        xmp=xmp.encode() if isinstance(xmp, str) else xmp or None,
        dpi=info.get("dpi"),
    )
