"""PGM and PPM of any depth, binary and plain."""

import re
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.io.codecs.pillow import Decoded, check_size, decode_with_pillow
from ddnsr_cli.io.codecs.wholeness import hole_in
from ddnsr_cli.io.image import Metadata, Pixels

_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"  # white space and comments
_HEADER = re.compile(rb"P([2356])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,5})\s")
_HEADER_BYTES = 1 << 14
_WORD_BYTES = 32  # of a plain sample, with the space and the comments around it: usual ones have 4
_PLAIN_GRAY, _PLAIN_RGB, _RGB = 2, 3, 6


def decode_pnm(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """A PBM, PGM or PPM. Samples are scaled so that the file's largest is white. Damage raises ValueError."""
    head = file.read(_HEADER_BYTES)
    if head[:2] in {b"P1", b"P4"}:
        file.seek(0)
        return decode_with_pillow(path, file, file_format="PPM", max_pixels=max_pixels)
    match = _HEADER.match(head)
    if match is None:
        raise ValueError("its header makes no sense")
    kind, width, height, largest = (int(group) for group in match.groups())
    if min(width, height) == 0 or not 0 < largest < 65536:
        raise ValueError("its header makes no sense")
    check_size(path, width, height, max_pixels)
    channels = 3 if kind in {_PLAIN_RGB, _RGB} else 1
    file.seek(match.end())
    read = _plain_samples if kind in {_PLAIN_GRAY, _PLAIN_RGB} else _binary_samples
    samples = read(file, width * height * channels, largest).reshape(height, width, channels)
    hole = "" if kind in {_PLAIN_GRAY, _PLAIN_RGB} else hole_in(samples.astype(np.uint8) if largest < 256 else samples)
    return Decoded(pixels=_stretched(samples, largest), alpha=None, metadata=Metadata(), damage=hole)


def _binary_samples(file: BinaryIO, count: int, largest: int) -> NDArray[np.uint16]:
    kind = np.dtype(np.uint8 if largest < 256 else ">u2")
    raw = file.read(count * kind.itemsize)
    if len(raw) < count * kind.itemsize:
        raise ValueError("it is cut short")
    return np.frombuffer(raw, kind).astype(np.uint16)


def _plain_samples(file: BinaryIO, count: int, _largest: int) -> NDArray[np.uint16]:
    text = file.read(count * _WORD_BYTES + _HEADER_BYTES)
    words = re.sub(rb"#[^\r\n]*", b"", text).split(maxsplit=count)[:count]
    if len(words) < count:
        raise ValueError("it is cut short")
    levels = np.array(words, dtype="S10").astype(np.int64)
    if levels.min() < 0:
        raise ValueError("it has samples below zero")
    return np.minimum(levels, 65535).astype(np.uint16)


def _stretched(samples: NDArray[np.uint16], largest: int) -> Pixels:
    """Samples of 0 to `largest` as full 8 or 16 bits, rounded; what lies above is white."""
    white = 255 if largest < 256 else 65535
    clipped = np.minimum(samples, largest).astype(np.uint32)
    scaled = (clipped * white + largest // 2) // largest
    return scaled.astype(np.uint8) if white == 255 else scaled.astype(np.uint16)
