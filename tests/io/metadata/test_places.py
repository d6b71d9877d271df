"""What EXIF and XMP tell in pixels, bytes and places of the original has one of three fates."""

import struct
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import tifffile
from PIL import Image

from ddnsr_cli.io.image import Metadata, RasterImage
from ddnsr_cli.io.metadata.places import Change, move_exif
from ddnsr_cli.io.read import read_image
from ddnsr_cli.io.write import write_image
from tests.helpers.image_files import UNDO_TURN, encoded, noise, pillow

WIDTH, HEIGHT = 64, 48


def exif(orientation=1, area=(10, 20, 6, 4), location=(10, 20), focal=((5000, 1), (4000, 3)), order="<"):
    """EXIF with an inner directory that counts pixels."""
    fields, tail = [], b""
    inner_at = 8 + 2 + 2 * 12 + 4
    end = inner_at + 2 + 4 * 12 + 4
    for tag, kind, values in ((0x9214, 3, area), (0xA20E, 5, focal[0]), (0xA20F, 5, focal[1]), (0xA214, 3, location)):
        data = struct.pack(order + ("H" if kind == 3 else "I") * len(values), *values)
        count = 1 if kind == 5 else len(values)
        place = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack(order + "I", end + len(tail))
        fields.append(struct.pack(order + "HHI", tag, kind, count) + place)
        tail += data if len(data) > 4 else b""
    first = struct.pack(order + "H", 2) + struct.pack(order + "HHIHH", 0x112, 3, 1, orientation, 0)
    first += struct.pack(order + "HHII", 0x8769, 4, 1, inner_at) + bytes(4)
    inner = struct.pack(order + "H", 4) + b"".join(fields) + bytes(4)
    return (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8) + first + inner + tail


def inner_of(block):
    read = Image.Exif()
    read.load(block)
    return read.get_ifd(0x8769)


def enlarged(tmp_path, data, times=4):
    """Through a file and back, as `upscale` does: the metadata of the result, and all notes."""
    (tmp_path / "in").write_bytes(data)
    image = read_image(tmp_path / "in")
    larger = replace(image, pixels=image.pixels.repeat(times, 0).repeat(times, 1))
    notes = write_image(larger, tmp_path / "out.png")
    return read_image(tmp_path / "out.png").metadata, (*image.notes, *notes)


@pytest.mark.parametrize("order", ["<", ">"])
def test_pixels_of_exif_are_scaled(tmp_path, order):
    metadata, notes = enlarged(tmp_path, encoded(pillow(noise(HEIGHT, WIDTH, 3)), "PNG", exif=exif(order=order)))
    inner = inner_of(metadata.exif)
    assert notes == ()
    assert inner[0x9214] == (40, 80, 24, 16)
    assert inner[0xA214] == (40, 80)
    assert (inner[0xA20E], inner[0xA20F]) == (20000, pytest.approx(16000 / 3))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_places_are_turned_with_the_pixels(tmp_path, orientation):
    seen = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    seen[30, 12] = 255
    stored = UNDO_TURN[orientation](seen)
    (y,), (x,) = np.nonzero(stored[..., 0])
    size = (6, 4) if orientation < 5 else (4, 6)
    block = exif(orientation, (x, y, *size), (x, y), ((5000, 1), (4000, 1)))
    metadata, notes = enlarged(tmp_path, encoded(pillow(np.ascontiguousarray(stored)), "PNG", exif=block), times=2)
    inner = inner_of(metadata.exif)
    assert notes == ()
    assert inner[0x9214] == (24, 60, 12, 8)
    assert inner[0xA214] == (24, 60)
    assert (inner[0xA20E], inner[0xA20F]) == ((10000, 8000) if orientation < 5 else (8000, 10000))


def test_what_cannot_be_said_is_dropped_and_told(tmp_path):
    block = exif(area=(40_000, 20, 6, 4), location=(1, 2), focal=((5, 0), (5, 1)))
    image = pillow(noise(HEIGHT, WIDTH, 3))
    metadata, notes = enlarged(tmp_path, encoded(image, "JPEG", exif=b"Exif\0\0" + block))
    assert set(inner_of(metadata.exif)) == {0xA214}
    assert any("SubjectArea" in note for note in notes)
    assert any("FocalPlaneResolution" in note for note in notes)


def test_damaged_exif_stays_as_it_is():
    assert move_exif(b"II*\0\xff\xff\xff\xff", Change(width=1, height=1, across=Fraction(2))) == (
        b"II*\0\xff\xff\xff\xff",
        (),
    )


def test_an_image_made_by_code_is_of_its_own_size(tmp_path):
    image = RasterImage(pixels=noise(HEIGHT, WIDTH, 3), metadata=Metadata(exif=exif()))
    write_image(image, tmp_path / "a.png")
    assert inner_of(read_image(tmp_path / "a.png").metadata.exif)[0x9214] == (10, 20, 6, 4)


@pytest.mark.parametrize("kind", ["TIFF", "TIFF 16"])
def test_turns_that_a_decoder_makes_count_as_well(tmp_path, kind):
    regions = b'<x xmlns:acd="http://ns.acdsee.com/regions/"><acd:Regions>a</acd:Regions></x>'
    dtype = np.uint16 if kind == "TIFF 16" else np.uint8
    for orientation, told in ((1, False), (6, True)):
        tags = [(700, 1, len(regions), regions, True), (274, 3, 1, orientation, True)]
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, noise(HEIGHT, WIDTH, 3, dtype), photometric="rgb", metadata=None, extratags=tags)
        image = read_image(path)
        assert any("acd:Regions" in note for note in image.notes) == told
        assert (image.width < image.height) == told
