"""PNG of any depth and colour type, with everything that its chunks tell."""

from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from ddnsr_cli.images.decode import Decoded, check_size, decode_with_pillow, first_of, with_samples
from ddnsr_cli.images.decode_vips import vips_samples
from ddnsr_cli.images.png_chunks import take_apart
from ddnsr_cli.images.png_metadata import read_chunks

_DEEP_COLOUR = (2, 4, 6)  # RGB, gray with alpha, RGB with alpha; Pillow is exact for plain gray


def decode_png(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """The first picture of a PNG. Damage raises ValueError, or whatever the decoders raise."""
    parts = take_apart(file, lambda width, height: check_size(path, width, height, max_pixels))
    metadata, notes = read_chunks(parts.chunks)
    decoded = decode_with_pillow(path, parts.pixels, file_format="PNG", max_pixels=max_pixels, metadata=metadata)
    if parts.bits == 16 and parts.colour_type in _DEEP_COLOUR:
        samples, _ = vips_samples(parts.pixels.getvalue(), "PNG")
        decoded = with_samples(decoded, samples)
    frames = (first_of(parts.frames),) if parts.frames > 1 else ()
    return replace(decoded, notes=(*frames, *parts.notes, *notes, *decoded.notes))
