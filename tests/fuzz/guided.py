"""The parsers of our own under atheris, which looks for inputs that reach new code.

    pip install atheris
    python tests/fuzz/guided.py -max_total_time=600 -rss_limit_mb=2048

The decoders in C are not instrumented: fuzz.py is for them.
"""

import contextlib
import struct
import sys
import zlib
from io import BytesIO
from pathlib import Path

import atheris
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a script, too

with atheris.instrument_imports(include=["ddnsr_cli.io"]):
    from ddnsr_cli.errors import ImageReadError
    from ddnsr_cli.io.codecs.bitmaps import decode_pnm
    from ddnsr_cli.io.codecs.jpeg2000 import component_bits, metadata_of_boxes
    from ddnsr_cli.io.codecs.png_chunks import check_rows, orientation_chunks, read_chunks, take_apart
    from ddnsr_cli.io.codecs.tiff import read_tiff_header
    from ddnsr_cli.io.formats import foreign_kind, is_tga, sniff
    from ddnsr_cli.io.metadata.exif import iptc_of, mend_exif, orientation_of, without_orientation
    from ddnsr_cli.io.metadata.places import mend_xmp
    from tests.fuzz import seed_files

MOST_PIXELS = 1 << 20


def refuse_large(width, height):
    if width * height > MOST_PIXELS:
        raise ValueError("too large")


def png(data):
    parts = take_apart(BytesIO(data), refuse_large)
    read_chunks(parts.chunks)
    orientation_chunks(BytesIO(data))
    check_rows(parts)


def chunks(data):
    """Any number of chunks, so that no checksum stands in the way."""
    found, at = [], 0
    while at + 6 < len(data):
        (length,) = struct.unpack_from(">H", data, at + 4)
        found.append((data[at : at + 4], data[at + 6 : at + 6 + length]))
        at += 6 + length
    read_chunks(found)


def exif(data):
    mended = mend_exif(data, width=70_000, height=3)
    assert mended is None or len(mended) == len(data)
    without_orientation(data)
    mend_xmp(data, width=1, height=2)
    assert 1 <= orientation_of(data, data) <= 8


def pnm(data):
    decode_pnm(Path("a.ppm"), BytesIO(data), max_pixels=MOST_PIXELS)


def boxes(data):
    component_bits(data)
    metadata_of_boxes(BytesIO(data))


def small(data):
    sniff(data[:64])
    foreign_kind(data[:64])
    is_tga(Path("a.tga"), data[:64])
    iptc_of(data)


TARGETS = (png, chunks, exif, lambda data: read_tiff_header(BytesIO(data)), pnm, boxes, small)
REFUSALS = (
    ValueError,
    struct.error,
    zlib.error,
    OSError,
    ImageReadError,
    Image.DecompressionBombError,
)  # as read_image lets pass


def one_input(data):
    with contextlib.suppress(*REFUSALS):
        if data:
            TARGETS[data[0] % len(TARGETS)](data[1:])


def corpus(folder):
    """Sound files to begin with."""
    folder.mkdir(exist_ok=True)
    for name, data in seed_files.images().items():
        for number in range(len(TARGETS)):
            (folder / f"{number}-{name}").write_bytes(bytes([number]) + data)
    return str(folder)


if __name__ == "__main__":
    atheris.Setup([*sys.argv, corpus(Path("fuzz_corpus"))], one_input)
    atheris.Fuzz()
