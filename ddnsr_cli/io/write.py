"""Writing a picture: by extension, whole or not at all, with its metadata."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from ddnsr_cli.errors import ConfigError, ImageWriteError
from ddnsr_cli.files import atomic_path
from ddnsr_cli.io.codecs.png import write_png
from ddnsr_cli.io.codecs.tiff import write_tiff
from ddnsr_cli.io.formats import check_format, format_of, holds_alpha, shown
from ddnsr_cli.io.image import COMMENT, Metadata, Picture, gray_to_rgb, to_8_bits
from ddnsr_cli.io.metadata.exif import without_orientation
from ddnsr_cli.io.metadata.iptc import SEGMENT_PREFIX, resource_block
from ddnsr_cli.io.metadata_policy import fitting_metadata

EXIF_PREFIX = b"Exif\0\0"
_APP13 = b"\xff\xed"


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How results are compressed."""

    quality: int = 95
    """1 (smallest) to 100 (best), of JPEG, WebP and AVIF."""

    compression: int = 6
    """0 (none) to 9 (smallest, slowest), of PNG and TIFF, which lose nothing."""

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"quality must be 1 to 100, got {self.quality}.")
        if not 0 <= self.compression <= 9:
            raise ConfigError(f"compression must be 0 to 9, got {self.compression}.")


def write_picture(
    picture: Picture, path: Path, options: WriteOptions | None = None, *, finish: Callable[[Path], None] | None = None
) -> tuple[str, ...]:
    """Write a picture in the format of the extension; the file appears whole or not at all.

    Profile, EXIF, XMP, resolution and text go along where the format has a place for them, mended for the size.
    Gives notes about what was left out. The folder must exist; see `check_writable` for what to ask before the
    work. finish: called with the written file before it takes its place, to add what comes behind the picture.
    Raises ImageWriteError where the format cannot hold the picture or the disk does not take it.
    """
    options = options or WriteOptions()
    size = {"width": picture.width, "height": picture.height}
    check_format(path, **size, has_alpha=picture.has_alpha, depth_bits=picture.depth_bits)
    file_format = format_of(path) or "PNG"
    metadata, notes = fitting_metadata(picture, file_format)
    try:
        with atomic_path(path) as part:
            with part.open("wb") as file:
                _WRITERS[file_format](replace(picture, metadata=metadata), file, options)
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


def without_idle_alpha(picture: Picture, target: Path) -> Picture:
    """An alpha channel that is opaque everywhere is no loss where the format holds none: screenshots have such."""
    if picture.alpha is None or holds_alpha(target) or picture.alpha.min() < np.iinfo(picture.alpha.dtype).max:
        return picture
    return replace(picture, alpha=None)


def _write_png(picture: Picture, file: BinaryIO, options: WriteOptions) -> None:
    write_png(picture, file, level=options.compression)


def _write_tiff(picture: Picture, file: BinaryIO, options: WriteOptions) -> None:
    write_tiff(picture, file, level=options.compression)


def _write_jpeg(picture: Picture, file: BinaryIO, options: WriteOptions) -> None:
    # 4:4:4: the usual halving of the colours would take away what the network made
    settings: dict[str, Any] = {"quality": options.quality, "subsampling": "4:4:4"}
    if picture.metadata.dpi:
        settings["dpi"] = picture.metadata.dpi
    if comment := picture.metadata.text.get(COMMENT):
        settings["comment"] = comment.encode("utf-8", "replace")
    if iptc := picture.metadata.iptc:
        segment = SEGMENT_PREFIX + resource_block(iptc)
        settings["extra"] = _APP13 + (len(segment) + 2).to_bytes(2, "big") + segment
    exif = picture.metadata.exif
    metadata = replace(picture.metadata, exif=EXIF_PREFIX + exif if exif else None)
    _save(to_pillow(picture), file, "JPEG", metadata, settings)


def _write_webp(picture: Picture, file: BinaryIO, options: WriteOptions) -> None:
    image, metadata = to_pillow(picture), picture.metadata
    if picture.is_gray:  # WebP knows no gray, and a gray profile must not lie over colours
        gray = image.getchannel(0)
        image = gray_to_rgb(gray, metadata.icc) if metadata.icc else gray.convert("RGB")
        metadata = replace(metadata, icc=None)
        if picture.alpha is not None:
            image.putalpha(Image.fromarray(to_8_bits(picture.alpha)))
    _save(image, file, "WEBP", metadata, {"quality": options.quality})


def _write_avif(picture: Picture, file: BinaryIO, options: WriteOptions) -> None:
    subsampling = "4:0:0" if picture.is_gray else "4:4:4"  # 4:0:0 is gray
    exif = picture.metadata.exif
    # upright needs no tag, and where there is one Pillow takes the block apart and puts it together its own way
    metadata = replace(picture.metadata, exif=without_orientation(exif) if exif else None)
    # speed 8 takes a quarter of the time of the usual 6 for a tenth more bytes, at the same error
    settings = {"quality": options.quality, "subsampling": subsampling, "speed": 8}
    _save(to_pillow(picture), file, "AVIF", metadata, settings)


def _write_bmp(picture: Picture, file: BinaryIO, _options: WriteOptions) -> None:
    dpi = picture.metadata.dpi
    _save(to_pillow(picture), file, "BMP", Metadata(), {"dpi": dpi} if dpi else {})


def to_pillow(picture: Picture) -> Image.Image:
    """The picture for Pillow: 8 bits, mode L, LA, RGB or RGBA."""
    samples = to_8_bits(picture.pixels)
    if picture.alpha is not None:
        samples = np.concatenate((samples, to_8_bits(picture.alpha)[..., None]), axis=2)
    return Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)


def _save(image: Image.Image, file: BinaryIO, file_format: str, metadata: Metadata, settings: dict[str, Any]) -> None:
    """Encode in memory, then write: a full disk is then told by the system's own error, not by the encoder's."""
    blocks = {"icc_profile": metadata.icc, "exif": metadata.exif, "xmp": metadata.xmp}
    encoded = BytesIO()
    image.save(encoded, file_format, **settings, **{name: block for name, block in blocks.items() if block})
    file.write(encoded.getbuffer())


_WRITERS: dict[str, Callable[[Picture, BinaryIO, WriteOptions], None]] = {
    "PNG": _write_png,
    "TIFF": _write_tiff,
    "JPEG": _write_jpeg,
    "WebP": _write_webp,
    "AVIF": _write_avif,
    "BMP": _write_bmp,
}
