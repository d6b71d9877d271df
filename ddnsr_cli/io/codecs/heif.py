"""AVIF of 8, 10 and 12 bits; HEIC where the library for it is installed."""

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.errors import ImageReadError, shown
from ddnsr_cli.io.codecs.isobmff import items
from ddnsr_cli.io.codecs.pillow import (
    Decoded,
    alone_with_pillow,
    check_size,
    decode_with_pillow,
    first_of,
    with_samples,
)
from ddnsr_cli.io.codecs.vips import stretched, vips_samples
from ddnsr_cli.io.codecs.wholeness import check_no_zeros
from ddnsr_cli.io.formats import READABLE
from ddnsr_cli.io.image import Metadata, coded_colors
from ddnsr_cli.io.metadata.exif import bare_exif

_CODED_COLORS = b"colrnclx"
_CONFIG, _HIGH_BIT_DEPTH, _GRAY = b"av1C", 0x40, 0x10
_HEADER_BYTES = 1 << 16

_MODES = ("L", "LA", "RGB", "RGBA")  # also with ";16" behind; alpha multiplied into the colors is not among them


def decode_avif(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """The first image of an AVIF. Damage raises whatever the decoders raise."""
    data = file.read()
    _check_items(data, b"av01")
    head = data[:_HEADER_BYTES]
    coded = _coding(head)
    file.seek(0)
    decoded = decode_with_pillow(path, file, file_format="AVIF", max_pixels=max_pixels)
    if any(flags & _HIGH_BIT_DEPTH for flags in coded):
        samples, _ = vips_samples(file, "AVIF")
        # libvips has turned the image already, as the format wants it
        decoded = replace(with_samples(decoded, samples), orientation=1)
    if coded and all(flags & _GRAY for flags in coded):  # gray with alpha comes as three equal channels
        decoded = replace(decoded, pixels=decoded.pixels[..., :1])
    if decoded.metadata.icc is None:
        decoded = replace(decoded, metadata=replace(decoded.metadata, png_color=_colors(head)))
    return decoded


def _check_items(data: bytes, kind: bytes) -> None:
    """Raises ValueError where the data of an image hold long runs of zeros, which no coder of either format makes."""
    for item in items(data):
        for start, end in item.places if item.kind == kind else ():
            check_no_zeros(data, start, end)


def _colors(head: bytes) -> tuple[tuple[bytes, bytes], ...]:
    at = head.find(_CODED_COLORS)
    code_points = head[at + len(_CODED_COLORS) :][:4]
    return coded_colors(*struct.unpack(">HH", code_points)) if at >= 0 and len(code_points) == 4 else ()


def _coding(head: bytes) -> list[int]:
    """For each of the images in an AVIF (colors, alpha, ...) the flags that tell how it is coded."""
    return [settings[2] for settings in head.split(_CONFIG)[1:] if len(settings) > 2]


def decode_heic(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """The main image of a HEIC. Raises ImageReadError where pillow-heif is missing; damage raises what it raises."""
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageReadError(
            f"{shown(path)} is a HEIC image. To read those: pip install pillow-heif. Or save it as: {READABLE}."
        ) from error
    _check_items(file.read(), b"hvc1")
    file.seek(0)
    with alone_with_pillow(max_pixels):  # it warns as Pillow does
        heif = pillow_heif.open_heif(file, convert_hdr_to_8bit=False)
        width, height = heif.size
        check_size(path, width, height, max_pixels)
        if heif.mode.removesuffix(";16") not in _MODES:
            raise ValueError(f"pixels of the kind {heif.mode} are not supported")
        samples: NDArray[Any] = np.asarray(heif)
    if samples.dtype == np.uint16:  # 10 or 12 bits, in the upper ones
        samples = stretched(samples, int(heif.info["bit_depth"]))
    if samples.ndim == 2:
        samples = samples[..., None]
    has_alpha = samples.shape[2] in {2, 4}
    exif, xmp, icc = (heif.info.get(name) or None for name in ("exif", "xmp", "icc_profile"))
    coded = heif.info.get("nclx_profile") if icc is None else None
    colors = coded_colors(coded["color_primaries"], coded["transfer_characteristics"]) if coded else ()
    return Decoded(
        pixels=samples[..., :-1] if has_alpha else samples,
        alpha=samples[..., -1] if has_alpha else None,
        # it lies upright already
        metadata=Metadata(icc=icc, exif=bare_exif(exif) if exif else None, xmp=xmp, png_color=colors),
        notes=(first_of(len(heif)),) if len(heif) > 1 else (),
    )
