"""Writing an image: by extension, whole or not at all, with its metadata."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from ddnsr_cli.errors import ConfigError, ImageWriteError, shown
from ddnsr_cli.files import atomic_path
from ddnsr_cli.io.codecs.jpeg import MAX_ICC_BYTES, write_jpeg
from ddnsr_cli.io.codecs.png import write_png
from ddnsr_cli.io.codecs.tiff import write_tiff
from ddnsr_cli.io.formats import check_format, format_of, holds_alpha
from ddnsr_cli.io.image import COMMENT, Metadata, RasterImage, Writable, gray_to_rgb, profile_fits, to_8_bits
from ddnsr_cli.io.metadata.exif import (
    SEGMENT_PREFIX,
    dpi_of,
    exif_of_srgb,
    mend_exif,
    resource_block,
    without_orientation,
)
from ddnsr_cli.io.metadata.places import Change, mend_xmp, move_places, xmp_of_srgb

_JPEG_MARKER_BYTES = 65_533
_JPEG_EXIF_BYTES = _JPEG_MARKER_BYTES - 6
_JPEG_XMP_BYTES = _JPEG_MARKER_BYTES - 29
_JPEG_IPTC_BYTES = _JPEG_MARKER_BYTES - len(SEGMENT_PREFIX) - len(resource_block(b"")) - 1
_MOST_NAMED = 8
_HOLD_IPTC = ("PNG", "TIFF", "JPEG")
_USUAL_DPI = ((72.0, 72.0), (96.0, 96.0))  # what programs write that were told none
_NO_RESOLUTION, _SQUARE = ("WebP", "AVIF"), 0.01
_SRGB_GAMMA, _SRGB_CICP = range(45_000, 46_001), b"\x01\x0d\x00\x01"


def fitting_metadata(image: Writable, file_format: str) -> tuple[Metadata, tuple[str, ...]]:
    """The metadata of an image as they are to be written, mended for its size, and notes on what has no room.

    file_format: a value of `formats.WRITABLE`.
    """
    size = {"width": image.width, "height": image.height}
    metadata, lost = move_places(image.metadata, _change(image))
    fitting = replace(
        metadata,
        icc=metadata.icc if metadata.icc and profile_fits(metadata.icc, image.channels) else None,
        exif=mend_exif(metadata.exif, **size) if metadata.exif else None,
        xmp=mend_xmp(metadata.xmp, **size) if metadata.xmp else None,
        iptc=metadata.iptc if file_format in _HOLD_IPTC else None,
    )
    if metadata.is_converted:
        exif, xmp = fitting.exif, fitting.xmp
        fitting = replace(fitting, exif=exif and exif_of_srgb(exif), xmp=xmp and xmp_of_srgb(xmp))
    notes = [*lost, *_without_place(fitting, file_format)]
    if file_format == "WebP" and image.is_gray and fitting.icc:
        notes.append("WebP holds no gray: it was converted to sRGB by its profile, which was left out")
    if metadata.iptc and not fitting.iptc:
        notes.append(f"{file_format} has no place for IPTC data; they were left out")
    if file_format == "JPEG":
        fitting, too_long = _fitting_jpeg(fitting)
        notes += too_long
    return fitting, tuple(notes)


def _change(image: Writable) -> Change:
    width, height = image.metadata.size or (image.width, image.height)
    across, down = Fraction(image.width, width), Fraction(image.height, height)
    return Change(width=width, height=height, across=across, down=down)


def _without_place(metadata: Metadata, file_format: str) -> list[str]:
    """Notes on what a format cannot say at all."""
    notes = []
    blocks = {"color profile": metadata.icc, "EXIF": metadata.exif, "XMP": metadata.xmp}
    if file_format == "BMP" and (lost := [name for name, block in blocks.items() if block]):
        notes.append(f"BMP has no place for {' and '.join(lost)}; left out")
    if file_format in _NO_RESOLUTION and metadata.dpi and abs(metadata.dpi[0] / metadata.dpi[1] - 1) > _SQUARE:
        notes.append(f"{file_format} cannot say that pixels are not square ({_aspect(metadata.dpi)}); left out")
    told = (*_USUAL_DPI, dpi_of(metadata.exif or b"") or ())
    if file_format in _NO_RESOLUTION and metadata.dpi and not notes and not _is_one_of(metadata.dpi, told):
        notes.append(f"{file_format} has no place for the resolution ({metadata.dpi[0]:.4g} dpi); left out")
    kept = {COMMENT} if file_format == "JPEG" else set()
    if file_format != "PNG" and (lost := [keyword for keyword in metadata.text if keyword not in kept]):
        notes.append(f"{file_format} has no place for text ({_listed(lost)})")
    if file_format != "PNG" and not metadata.icc and _is_far_from_srgb(dict(metadata.png_color)):
        notes.append(f"{file_format} cannot say what its colors mean (no profile, not sRGB): they will look different")
    return notes


def _is_one_of(dpi: tuple[float, float], others: tuple[tuple[float, ...], ...]) -> bool:
    """Whether a resolution is, to a dot, among others."""
    return any(max(abs(one - two) for one, two in zip(dpi, other, strict=True)) < 1 for other in others if other)


def _aspect(dpi: tuple[float, float]) -> str:
    return f"{dpi[1] / dpi[0]:.3g} times as wide as high"


def _listed(keywords: list[str]) -> str:
    """Keywords for one line of a message, whatever they hold and however many they are."""
    names = ("".join(char if char.isprintable() else "?" for char in word) for word in keywords[:_MOST_NAMED])
    return ", ".join(names) + (f" and {len(keywords) - _MOST_NAMED} more" if len(keywords) > _MOST_NAMED else "")


def _is_far_from_srgb(chunks: dict[bytes, bytes]) -> bool:
    """Whether the color chunks of a PNG, of which the first in this order counts, tell other colors than sRGB."""
    if b"cICP" in chunks:
        return chunks[b"cICP"] != _SRGB_CICP
    gamma = chunks.get(b"gAMA")
    return b"sRGB" not in chunks and gamma is not None and int.from_bytes(gamma, "big") not in _SRGB_GAMMA


def _fitting_jpeg(metadata: Metadata) -> tuple[Metadata, list[str]]:
    """What fits into the segments of a JPEG, and notes on what does not."""
    exif, xmp, iptc, comment = metadata.exif, metadata.xmp, metadata.iptc, metadata.text.get(COMMENT, "")
    icc, notes = metadata.icc, []
    if icc and len(icc) > MAX_ICC_BYTES:
        icc = None
        notes.append("the color profile is too long for JPEG and was left out: the colors will look different")
    if exif and len(exif) > _JPEG_EXIF_BYTES:
        exif = None
        notes.append("the EXIF data are too long for JPEG and were left out")
    if xmp and len(xmp) > _JPEG_XMP_BYTES:
        xmp = None
        notes.append("the XMP data are too long for JPEG and were left out")
    if iptc and len(iptc) > _JPEG_IPTC_BYTES:
        iptc = None
        notes.append("the IPTC data are too long for JPEG and were left out")
    if len(comment.encode("utf-8", "replace")) > _JPEG_MARKER_BYTES:
        comment = ""
        notes.append("the comment is too long for JPEG and was left out")
    text = {COMMENT: comment} if comment else {}
    return replace(metadata, icc=icc, exif=exif, xmp=xmp, iptc=iptc, text=text), notes


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How results are compressed."""

    quality: int = 95
    """1 (smallest) to 100 (best), of JPEG, WebP and AVIF."""

    compression: int = 4
    """0 (none) to 9 (smallest, slowest), of PNG and TIFF, which lose nothing."""

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"quality must be 1 to 100, got {self.quality}.")
        if not 0 <= self.compression <= 9:
            raise ConfigError(f"compression must be 0 to 9, got {self.compression}.")


def takes_rows(path: Path) -> bool:
    """Whether the format of the extension is one that `write_image` writes from top to bottom."""
    return format_of(path) in _FROM_ROWS


def write_image(
    image: Writable, path: Path, options: WriteOptions | None = None, *, finish: Callable[[Path], None] | None = None
) -> tuple[str, ...]:
    """Write an image in the format of the extension; the file appears whole or not at all.

    An image that comes in rows is written as they come, where `takes_rows` says so.
    Profile, EXIF, XMP, resolution and text go along where the format has a place for them, mended for the size.
    Gives notes about what was left out. The folder must exist; see `check_writable` for what to ask before the
    work. finish: called with the written file before it takes its place, to add what comes behind the image.
    Raises ImageWriteError where the format cannot hold the image or the disk does not take it.
    """
    options = options or WriteOptions()
    size = {"width": image.width, "height": image.height}
    check_format(path, **size, has_alpha=image.has_alpha, depth_bits=image.depth_bits)
    file_format = format_of(path) or "PNG"
    metadata, notes = fitting_metadata(image, file_format)
    try:
        with atomic_path(path) as part:
            with part.open("wb") as file:
                _WRITERS[file_format](replace(image, metadata=metadata), file, options)
            if finish is not None:
                finish(part)
    except OSError as error:
        reason = error.strerror or error
        raise ImageWriteError(
            f"{shown(path)} could not be written ({reason}). Check the folder and the free space."
        ) from error
    except (ValueError, RuntimeError, MemoryError) as error:  # what Pillow's encoders raise
        raise ImageWriteError(f"{shown(path)} could not be written ({error}). Try .png or .tif.") from error
    return notes


def without_idle_alpha(image: RasterImage, target: Path) -> RasterImage:
    """An alpha channel that is opaque everywhere is no loss where the format holds none: screenshots have such."""
    if image.alpha is None or holds_alpha(target) or image.alpha.min() < np.iinfo(image.alpha.dtype).max:
        return image
    return replace(image, alpha=None)


def _write_png(image: Writable, file: BinaryIO, options: WriteOptions) -> None:
    write_png(image, file, level=options.compression)


def _write_tiff(image: Writable, file: BinaryIO, options: WriteOptions) -> None:
    write_tiff(image, file, level=options.compression)


def _write_jpeg(image: Writable, file: BinaryIO, options: WriteOptions) -> None:
    write_jpeg(image, file, quality=options.quality)


def _write_webp(raster: RasterImage, file: BinaryIO, options: WriteOptions) -> None:
    image, metadata = to_pillow(raster), raster.metadata
    if raster.is_gray:  # WebP knows no gray, and a gray profile must not lie over colors
        gray = image.getchannel(0)
        image = gray_to_rgb(gray, metadata.icc) if metadata.icc else gray.convert("RGB")
        metadata = replace(metadata, icc=None)
        if raster.alpha is not None:
            image.putalpha(Image.fromarray(to_8_bits(raster.alpha)))
    _save(image, file, "WEBP", metadata, {"quality": options.quality})


def _write_avif(image: RasterImage, file: BinaryIO, options: WriteOptions) -> None:
    subsampling = "4:0:0" if image.is_gray else "4:4:4"  # 4:0:0 is gray
    exif = image.metadata.exif
    # upright needs no tag, and where there is one Pillow takes the block apart and puts it together its own way
    metadata = replace(image.metadata, exif=without_orientation(exif) if exif else None)
    # speed 8 takes a quarter of the time of the usual 6 for a tenth more bytes, at the same error
    settings = {"quality": options.quality, "subsampling": subsampling, "speed": 8}
    _save(to_pillow(image), file, "AVIF", metadata, settings)


def _write_bmp(image: RasterImage, file: BinaryIO, _options: WriteOptions) -> None:
    dpi = image.metadata.dpi
    _save(to_pillow(image), file, "BMP", Metadata(), {"dpi": dpi} if dpi else {})


def to_pillow(image: RasterImage) -> Image.Image:
    """The image for Pillow: 8 bits, mode L, LA, RGB or RGBA."""
    samples = to_8_bits(image.pixels)
    if image.alpha is not None:
        samples = np.concatenate((samples, to_8_bits(image.alpha)[..., None]), axis=2)
    return Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)


def _save(image: Image.Image, file: BinaryIO, file_format: str, metadata: Metadata, settings: dict[str, Any]) -> None:
    """Encode in memory, then write: a full disk is then told by the system's own error, not by the encoder's."""
    blocks = {"icc_profile": metadata.icc, "exif": metadata.exif, "xmp": metadata.xmp}
    encoded = BytesIO()
    image.save(encoded, file_format, **settings, **{name: block for name, block in blocks.items() if block})
    file.write(encoded.getbuffer())


_FROM_ROWS = ("PNG", "TIFF", "JPEG")  # the others take a `RasterImage` alone

_WRITERS: dict[str, Callable[[Any, BinaryIO, WriteOptions], None]] = {
    "PNG": _write_png,
    "TIFF": _write_tiff,
    "JPEG": _write_jpeg,
    "WebP": _write_webp,
    "AVIF": _write_avif,
    "BMP": _write_bmp,
}
