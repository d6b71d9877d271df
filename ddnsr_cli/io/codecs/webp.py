"""WebP: samples through Pillow; whether its data are data, looked at before."""

import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from ddnsr_cli.io.codecs.pillow import Decoded, alone_with_pillow, decode_with_pillow
from ddnsr_cli.io.codecs.wholeness import check_no_zeros, zeros_in

_FRAME, _FRAME_HEAD_BYTES = b"ANMF", 16
_LOSSY, _LOSSLESS = b"VP8 ", b"VP8L"
_SLACK_BYTES = 4


def decode_webp(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """The first image of a WebP. Damage raises ValueError, or whatever Pillow raises."""
    data = file.read()
    decoded = decode_with_pillow(path, BytesIO(data), file_format="WEBP", max_pixels=max_pixels)
    for kind, start, stop in _chunks(data, 12, len(data)):
        if kind == _LOSSY:
            check_no_zeros(data, start, stop)
        elif kind == _LOSSLESS and zeros_in(data, start, stop) and _is_readable(data, start, stop, max_pixels):
            raise ValueError("its data go on behind its last pixel: some are zeros")
    return decoded


def _chunks(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of what is in each chunk of the first image."""
    while start + 8 <= end:
        kind, length = data[start : start + 4], struct.unpack_from("<I", data, start + 4)[0]
        stop = min(start + 8 + length, end)
        if kind == _FRAME:
            yield from _chunks(data, start + 8 + _FRAME_HEAD_BYTES, stop)
            return
        yield kind, start + 8, stop
        start = stop + length % 2


def _is_readable(data: bytes, start: int, stop: int, max_pixels: int) -> bool:
    """Whether lossless data can be decoded without their end: then a decoder got out of step before it came there."""
    payload = data[start : max(start, stop - _SLACK_BYTES)]
    short = b"WEBP" + _LOSSLESS + struct.pack("<I", len(payload)) + payload + bytes(len(payload) % 2)
    file = BytesIO(b"RIFF" + struct.pack("<I", len(short)) + short)
    try:
        with alone_with_pillow(max_pixels), Image.open(file, formats=["WEBP"]) as image:
            image.load()
    except Exception:  # noqa: BLE001 - a damaged file raises anything; here it is the good sign
        return False
    return True
