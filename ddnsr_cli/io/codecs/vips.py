"""Samples through libvips, which is quick, strict, and keeps all bits of deep files."""

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.io.image import INTENT, Pixels, is_for_cmyk, libvips, to_8_bits

WHITE = 65535
"""The largest sample of 16 bits."""

_MOST_BANDS = 8
_STRIP_ROWS, _STRIP_BYTES = 64, 1 << 18
_TYPES = {
    "uchar": np.uint8,
    "char": np.int8,
    "ushort": np.uint16,
    "short": np.int16,
    "uint": np.uint32,
    "int": np.int32,
    "float": np.float32,
    "double": np.float64,
    "complex": np.complex64,
    "dpcomplex": np.complex128,
}
_LOADERS = {"TIFF": "tiffload_source", "AVIF": "heifload_source"}
_STRICT = {"PNG": "error", "JPEG": "warning"}


def vips_samples(file: BinaryIO | bytes, file_format: str) -> tuple[Pixels, tuple[str, ...]]:
    """The first page of a file as (H, W, bands), uint8 or uint16; and what to tell the user.

    file: a real file, with a descriptor, or all its bytes. file_format: "TIFF" or "AVIF", no other is tried. Lab
    becomes RGB, CMYK stays CMYK. Damage raises pyvips.Error, samples of a kind that has no agreed white raise
    ValueError.
    """
    vips = libvips()
    if isinstance(file, bytes):
        source = vips.Source.new_from_memory(file)
    else:
        source = vips.Source.new_from_descriptor(file.fileno())
    # fail_on: without it a file cut short comes back half black and no word is said
    image = getattr(vips.Image, _LOADERS[file_format])(source, access="sequential", fail_on="error")
    if image.interpretation in {"lab", "labs"}:
        return _samples(image.colourspace("rgb16")), ("Lab was converted to sRGB",)
    samples, notes = _whole_numbers(_samples(image))
    if file_format == "AVIF":  # 10 or 12 bits, put into the upper ones
        samples = stretched(samples, int(image.get("bits-per-sample")))
    return samples, notes


def whole_samples(data: bytes, file_format: str) -> Pixels | None:
    """The samples of a file, (H, W, bands), uint8 or uint16, when nothing at all is wrong with it; else None.

    file_format: "PNG", whose palette and transparent color become bands, or "JPEG".
    """
    vips = libvips()
    load = {"PNG": vips.Image.pngload_buffer, "JPEG": vips.Image.jpegload_buffer}[file_format]
    with _complaints() as heard:
        try:
            samples = _samples(load(data, access="sequential", fail_on=_STRICT[file_format]))
        except (vips.Error, ValueError):
            return None
    return None if _damage(heard) else samples


def jpeg_complaint(data: bytes) -> str | None:
    """What the JPEG library has to say against the pixels of a file: they stop early, make no sense. None: nothing.

    Decoders show such an image all the same, in part gray or out of place. What is merely odd is no matter.
    """
    vips = libvips()
    with _complaints() as heard:
        try:
            vips.Image.jpegload_buffer(data, access="sequential", fail_on="warning").avg()
        except vips.Error as error:
            heard.append(str(error))
    return _damage(heard)


def first_difference(data: bytes, other: bytes) -> int | None:
    """The first row in which two JPEGs of one size differ, from 0, however damaged they are; None: they do not."""
    vips = libvips()
    with _complaints():
        try:
            one, two = (_samples(vips.Image.jpegload_buffer(each, access="sequential")) for each in (data, other))
        except (vips.Error, ValueError):
            return None
    rows = np.flatnonzero((one != two).any(axis=(1, 2)))
    return int(rows[0]) if rows.size else None


def _damage(heard: list[str]) -> str | None:
    said = re.findall(r"(?:Corrupt JPEG data|Premature end)[^\n]*", "\n".join(heard))
    return said[-1] if said else None


def inks_to_rgb(inks: Pixels, icc: bytes | None) -> tuple[Pixels, str]:
    """CMYK (H, W, 4), the largest sample full ink, as sRGB (H, W, 3) of the same type; and what to tell the user.

    Through the profile if it is a good one for CMYK; of a bad one libvips would take another, without a word.
    """
    deep: NDArray[np.uint16] = inks.astype(np.uint16) * (257 if inks.dtype == np.uint8 else 1)
    rgb = _by_profile(deep, icc) if icc and is_for_cmyk(icc) else None
    note = "CMYK was converted to sRGB by its profile"
    if rgb is None:
        rgb, note = _by_rule_of_thumb(deep), "CMYK without a usable profile was converted to RGB by rule of thumb"
    return (to_8_bits(rgb) if inks.dtype == np.uint8 else rgb), note


def _by_profile(inks: NDArray[np.uint16], icc: bytes) -> NDArray[np.uint16] | None:
    """Inks as sRGB; None where the profile is damaged."""
    vips = libvips()
    height, width, bands = inks.shape
    image = vips.Image.new_from_memory(np.ascontiguousarray(inks), width, height, bands, "ushort")
    image = image.copy(interpretation="cmyk")
    image.set_type(vips.GValue.blob_type, "icc-profile-data", icc)
    try:
        # by way of Lab in floating point: straight from 16 bits to 16 bits dark saturated colors are some levels off
        lab = image.icc_import(embedded=True, **INTENT)
        return _samples(lab.icc_export(output_profile="srgb", depth=16, **INTENT))
    except vips.Error:
        return None


def _by_rule_of_thumb(inks: NDArray[np.uint16]) -> NDArray[np.uint16]:
    rgb = np.empty((*inks.shape[:2], 3), np.uint16)
    for row, row_inks in zip(rgb, inks, strict=True):  # by rows: products of 32 bits take twice the room
        light = WHITE - row_inks.astype(np.uint32)
        row[:] = (light[:, :3] * light[:, 3:] + WHITE // 2) // WHITE
    return rgb


def _whole_numbers(samples: NDArray[Any]) -> tuple[Pixels, tuple[str, ...]]:
    if samples.dtype in (np.uint8, np.uint16):
        return samples, ()
    if samples.dtype == np.uint32:
        return np.rint(samples / 65537).astype(np.uint16), ("32-bit samples were rounded to 16 bits",)
    if samples.dtype in (np.float32, np.float64):
        finite = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=0.0)
        scaled = np.rint(np.clip(finite, 0, 1) * WHITE).astype(np.uint16)
        return scaled, ("floating point samples were read as 0 = black, 1 = white, and clipped to that range",)
    raise ValueError(f"samples of the type {samples.dtype} have no agreed white")


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """What libvips logs inside the block, in this thread.

    A warning in the last rows of a JPEG is no error of any call: it is logged when the image is let go.
    """
    handler, logger = _Heard(), logging.getLogger(libvips().__name__)
    logger.addHandler(handler)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)


class _Heard(logging.Handler):
    """Keeps what one thread logs."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """One message."""
        if record.thread == self._thread:
            self.lines.append(record.getMessage())


def stretched(samples: NDArray[Any], bits: int) -> NDArray[np.uint16]:
    """Samples of 16 bits that lie in the upper `bits` bits, scaled so that the largest becomes 65,535."""
    largest = (1 << bits) - 1
    levels = samples.astype(np.uint32) >> (16 - bits)
    return ((levels * WHITE + largest // 2) // largest).astype(np.uint16)


def _samples(image: Any) -> NDArray[Any]:  # noqa: ANN401 - pyvips has no types to name
    """All samples, (H, W, bands), computed in this thread.

    libvips keeps threads for whole images, and a process forked from this one, as the data loaders of training are,
    would wait for ever for those that it has not got.
    """
    bands = image.bands
    if bands > _MOST_BANDS:
        raise ValueError(f"it has {bands} channels")
    height, width = image.height, image.width  # each look at it goes through the library
    samples = np.empty((height, width, bands), _TYPES[image.format])
    region = libvips().Region.new(image)
    rows = max(_STRIP_ROWS, _STRIP_BYTES // samples[0].nbytes)
    for top in range(0, height, rows):
        strip = samples[top : top + rows]
        strip[:] = np.frombuffer(region.fetch(0, top, width, len(strip)), strip.dtype).reshape(strip.shape)
    return samples
