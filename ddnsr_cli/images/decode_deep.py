"""Pictures of more than 8 bits: samples through libvips, metadata as for any other file of their format."""

from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddnsr_cli.errors import ImageReadError
from ddnsr_cli.images.colour import cmyk_to_rgb
from ddnsr_cli.images.decode import Decoded, check_size, decode_with_pillow, first_of
from ddnsr_cli.images.decode_vips import deep_samples
from ddnsr_cli.images.formats import shown
from ddnsr_cli.images.picture import Metadata, Pixels, to_8_bits
from ddnsr_cli.images.tiff_header import TiffHeader, read_tiff_header

_PNG_DEEP_COLOUR = (2, 4, 6)  # RGB, gray with alpha, RGB with alpha; Pillow is exact for plain gray
_AVIF_CONFIG, _AVIF_HIGH_BIT_DEPTH, _AVIF_GRAY = b"av1C", 0x40, 0x10
_AVIF_HEADER_BYTES = 1 << 16


def decode_png(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """A PNG of any depth. Damage raises whatever the decoders raise."""
    head = file.read(26)
    file.seek(0)
    decoded = decode_with_pillow(path, file, file_format="PNG", max_pixels=max_pixels)
    if head[24] < 16 or head[25] not in _PNG_DEEP_COLOUR:
        return decoded
    samples, _, _ = deep_samples(file, "PNG")
    return _with_deep_samples(decoded, samples)


def decode_avif(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """An AVIF of 8, 10 or 12 bits. Damage raises whatever the decoders raise."""
    coded = _avif_coding(file.read(_AVIF_HEADER_BYTES))
    file.seek(0)
    decoded = decode_with_pillow(path, file, file_format="AVIF", max_pixels=max_pixels)
    if any(flags & _AVIF_HIGH_BIT_DEPTH for flags in coded):
        samples, _, _ = deep_samples(file, "AVIF")
        # libvips has turned the picture already, as the format wants it
        decoded = replace(_with_deep_samples(decoded, samples), orientation=1)
    if coded and all(flags & _AVIF_GRAY for flags in coded):  # gray with alpha comes as three equal channels
        decoded = replace(decoded, pixels=decoded.pixels[..., :1])
    return decoded


def decode_tiff(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """A TIFF of any depth; camera raw is refused. Damage raises whatever the decoders raise."""
    header = read_tiff_header(file)
    if header.is_camera_raw:
        raise ImageReadError(f"{shown(path)} is a camera raw file. Develop it first, to TIFF or PNG.")
    check_size(path, header.width, header.height, max_pixels)
    metadata = Metadata(icc=header.icc, exif=header.exif, xmp=header.xmp, dpi=header.dpi)
    if header.bits > 8:
        return _decode_deep_tiff(file, header, metadata)
    file.seek(0)
    decoded = decode_with_pillow(path, file, file_format="TIFF", max_pixels=max_pixels)
    return replace(decoded, metadata=replace(metadata, icc=decoded.metadata.icc))


def _avif_coding(head: bytes) -> list[int]:
    """For each of the pictures in an AVIF (colours, alpha, ...) the flags that tell how it is coded."""
    return [settings[2] for settings in head.split(_AVIF_CONFIG)[1:] if len(settings) > 2]


def _decode_deep_tiff(file: BinaryIO, header: TiffHeader, metadata: Metadata) -> Decoded:
    if header.colour_channels == 0:
        raise ValueError("its colours are of an unknown kind")
    samples, pages, notes = deep_samples(file, "TIFF")
    alpha: Pixels | None = None
    if header.alpha_channel is not None and header.alpha_channel < samples.shape[2]:
        alpha = samples[..., header.alpha_channel]
    pixels: Pixels = samples[..., : header.colour_channels]
    if header.colour_channels == 4:
        pixels, note = _rgb_of_cmyk(pixels, metadata.icc)
        alpha = None if alpha is None else to_8_bits(alpha)
        metadata, notes = replace(metadata, icc=None), (*notes, note)
    if pages > 1:
        notes = (first_of(pages), *notes)
    return Decoded(pixels=pixels, alpha=alpha, metadata=metadata, orientation=header.orientation, notes=notes)


def _with_deep_samples(decoded: Decoded, samples: NDArray[np.uint16]) -> Decoded:
    """`decoded` with its 8-bit pixels replaced; samples: (H, W, bands), gray or RGB, then perhaps alpha."""
    bands = samples.shape[2]
    has_alpha = bands in {2, 4}
    return replace(
        decoded,
        pixels=samples[..., : bands - has_alpha],
        alpha=samples[..., -1] if has_alpha else None,
    )


def _rgb_of_cmyk(pixels: Pixels, icc: bytes | None) -> tuple[Pixels, str]:
    """Deep CMYK as 8-bit RGB: the colour engine at hand takes no more."""
    height, width, _ = pixels.shape
    cmyk = Image.frombytes("CMYK", (width, height), to_8_bits(pixels).tobytes())
    image, note = cmyk_to_rgb(cmyk, icc)
    return np.asarray(image), f"{note}, at 8 bits"
