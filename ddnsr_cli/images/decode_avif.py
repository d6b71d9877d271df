"""AVIF of 8, 10 and 12 bits."""

import struct
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from ddnsr_cli.images.colour import coded_colours
from ddnsr_cli.images.decode import Decoded, decode_with_pillow, with_samples
from ddnsr_cli.images.decode_vips import vips_samples

_CODED_COLOURS = b"colrnclx"
_CONFIG, _HIGH_BIT_DEPTH, _GRAY = b"av1C", 0x40, 0x10
_HEADER_BYTES = 1 << 16


def decode_avif(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """The first picture of an AVIF. Damage raises whatever the decoders raise."""
    head = file.read(_HEADER_BYTES)
    coded = _coding(head)
    file.seek(0)
    decoded = decode_with_pillow(path, file, file_format="AVIF", max_pixels=max_pixels)
    if any(flags & _HIGH_BIT_DEPTH for flags in coded):
        samples, _ = vips_samples(file, "AVIF")
        # libvips has turned the picture already, as the format wants it
        decoded = replace(with_samples(decoded, samples), orientation=1)
    if coded and all(flags & _GRAY for flags in coded):  # gray with alpha comes as three equal channels
        decoded = replace(decoded, pixels=decoded.pixels[..., :1])
    if decoded.metadata.icc is None:
        decoded = replace(decoded, metadata=replace(decoded.metadata, png_colour=_colours(head)))
    return decoded


def _colours(head: bytes) -> tuple[tuple[bytes, bytes], ...]:
    at = head.find(_CODED_COLOURS)
    code_points = head[at + len(_CODED_COLOURS) :][:4]
    return coded_colours(*struct.unpack(">HH", code_points)) if at >= 0 and len(code_points) == 4 else ()


def _coding(head: bytes) -> list[int]:
    """For each of the pictures in an AVIF (colours, alpha, ...) the flags that tell how it is coded."""
    return [settings[2] for settings in head.split(_CONFIG)[1:] if len(settings) > 2]
