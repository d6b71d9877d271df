from pathlib import Path

import pytest
from PIL import Image

from ddnsr_cli.io.formats import format_of, sniff
from tests.helpers.image_files import FORMATS, encoded


@pytest.mark.parametrize("name", [*FORMATS, "PPM"])
def test_formats_are_told_by_their_first_bytes(name):
    data = encoded(Image.new("RGB", (8, 8)), name)
    assert sniff(data[:64]) == name
    assert sniff(data[:1]) is None


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"MZ",
        b"P6",
        b"P5x",
        b"\xff\xd8",
        b"%PDF-1.4",
        bytes(64),
        b"RIFF\0\0\0\0WAVE",
        b"\x89PNG\n\x1a\n",
        b"BM is how this text begins, and it is long",
        b"BM\0\0\0\0text\0\0\0\0\x28\0\0\0" + bytes(40),
        b"\0\0\0\x18ftypisom\0\0\0\0isommp42",
    ],
)
def test_other_bytes_are_not(head):
    assert sniff(head) is None


def test_avif_is_told_by_a_compatible_brand_and_goes_before_heic():
    assert sniff(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif") == "AVIF"
    assert sniff(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic") == "HEIC"
    assert sniff(b"\0\0\0\x14ftypmif1\0\0\0\0mif1avif") == "HEIC"  # the box ends before "avif"


def test_extensions_go_by_small_letters():
    assert format_of(Path("A.JpEg")) == "JPEG"
    assert format_of(Path("a.tiff")) == format_of(Path("a.TIF")) == "TIFF"
    assert format_of(Path("png")) is None
