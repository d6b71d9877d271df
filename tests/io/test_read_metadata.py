"""What travels with the pixels from file to file."""

import struct

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.io.image import Metadata, RasterImage
from ddnsr_cli.io.metadata.exif import dpi_of, orientation_of
from ddnsr_cli.io.read import read_image
from ddnsr_cli.io.write import write_image
from tests.helpers.image_files import GRAY, SRGB, encoded, exif_block, noise

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6">caption</x:xmpmeta>'


def drawn_image(channels=3, dtype=np.uint8, *, alpha=False, size=(37, 53), **metadata):
    return RasterImage(
        pixels=noise(*size, channels, dtype),
        alpha=noise(*size, 1, dtype, seed=1)[..., 0] if alpha else None,
        metadata=Metadata(**metadata),
    )


@pytest.mark.parametrize(
    ("extension", "kept"),
    [
        (".png", {"icc", "exif", "xmp", "dpi", "text"}),
        (".jpg", {"icc", "exif", "xmp", "dpi"}),
        (".tif", {"icc", "exif", "xmp", "dpi"}),
        (".webp", {"icc", "exif", "xmp"}),
        (".avif", {"icc", "exif", "xmp"}),
        (".bmp", {"dpi"}),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_metadata_are_kept_where_the_format_has_a_place(tmp_path, extension, kept, dtype):
    text = {"Title": "a view", "Ort": "Zürich", "地": "東京"}
    made = drawn_image(dtype=dtype, icc=SRGB, exif=exif_block(), xmp=XMP, dpi=(300, 150), text=text)
    path = tmp_path / f"a{extension}"
    notes = write_image(made, path)
    read = read_image(path).metadata
    assert read.icc == (SRGB if "icc" in kept else None)
    assert read.xmp == (XMP.replace(b'"6"', b'"1"') if "xmp" in kept else None)
    assert read.dpi == (pytest.approx((300, 150), abs=0.02) if "dpi" in kept else None)
    assert list(read.text.values()) == (list(text.values()) if "text" in kept else [])
    assert bool(notes) == ("text" not in kept)
    if "exif" in kept:
        check_exif(read.exif)
    else:
        assert read.exif is None


def check_exif(block):
    exif = Image.Exif()
    exif.load(block)
    assert exif[0x10F] == "Camera"
    assert "Zoë".encode() in block
    assert exif.get(0x112, 1) == 1
    inner = exif.get_ifd(0x8769)
    assert inner[0x927C].startswith(b"MAKER\0\1\2\3")
    assert (inner[0xA002], inner[0xA003]) == (53, 37)
    assert exif.get_ifd(0x8825) == {1: "N", 3: "E"}
    assert b"thumb" not in block


@pytest.mark.parametrize("source", [".png", ".jpg", ".tif", ".webp", ".avif"])
@pytest.mark.parametrize("target", [".png", ".jpg", ".tif", ".webp", ".avif"])
def test_exif_and_xmp_survive_from_every_format_to_every_other(tmp_path, source, target):
    write_image(drawn_image(exif=exif_block(">"), xmp=XMP, icc=SRGB), tmp_path / f"a{source}")
    write_image(read_image(tmp_path / f"a{source}"), tmp_path / f"b{target}")
    read = read_image(tmp_path / f"b{target}").metadata
    check_exif(read.exif)
    assert b"caption" in read.xmp
    assert read.icc == SRGB
    assert orientation_of(read.exif, read.xmp) == 1


def exif_resolution(across, down, unit=2):
    fields = [(0x11A, 5, 50), (0x11B, 5, 58), (0x128, 3, unit)]
    table = struct.pack("<H", 3) + b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in fields)
    return b"II*\0\x08\0\0\0" + table + bytes(4) + struct.pack("<4I", across, 1, down, 1)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize(("unit", "factor"), [(2, 1), (3, 2.54)])
def test_the_resolution_may_be_told_by_exif_alone(tmp_path, kind, unit, factor):
    path = tmp_path / "a"
    path.write_bytes(encoded(Image.new("RGB", (8, 6)), kind, exif=exif_resolution(300, 150, unit)))
    assert read_image(path).metadata.dpi == pytest.approx((300 * factor, 150 * factor))


def test_the_resolution_is_turned_with_the_pixels(tmp_path):
    path = tmp_path / "a"
    exif = exif_resolution(300, 150).replace(b"\x28\1\3\0\1\0\0\0\2", b"\x12\1\3\0\1\0\0\0\6")
    for dpi in ({}, {"dpi": (300, 150)}):
        path.write_bytes(encoded(Image.new("RGB", (8, 6)), "PNG", exif=exif, **dpi))
        metadata = read_image(path).metadata
        assert metadata.dpi == pytest.approx((150, 300), abs=0.02)
        assert dpi_of(metadata.exif) == (150, 300)


@pytest.mark.parametrize("extension", [".webp", ".avif"])
def test_a_resolution_that_a_format_cannot_say_is_told_unless_it_is_the_usual(tmp_path, extension):
    path = tmp_path / f"a{extension}"
    assert "no place for the resolution (300 dpi)" in " ".join(write_image(drawn_image(dpi=(300, 300)), path))
    assert write_image(drawn_image(dpi=(72, 72)), path) == ()
    assert write_image(drawn_image(dpi=(300, 300), exif=exif_resolution(300, 300)), path) == ()


def test_profile_and_xmp_of_a_gif_are_read(tmp_path):
    data, path = encoded(Image.new("P", (8, 6), 3), "GIF"), tmp_path / "a.gif"
    parts = [SRGB[at : at + 255] for at in range(0, len(SRGB), 255)]
    profile = b"!\xff\x0bICCRGBG1012" + b"".join(bytes((len(part),)) + part for part in parts) + b"\0"
    xmp = b"!\xff\x0bXMP DataXMP" + XMP + b"\x01" + bytes(range(255, -1, -1)) + b"\0"
    path.write_bytes(data[:-1] + profile + xmp + b";")
    metadata = read_image(path).metadata
    assert (metadata.icc, b"caption" in metadata.xmp, b"\xff" in metadata.xmp) == (None, True, False)
    colors = Image.fromarray(noise(6, 8, 3)).quantize(8)
    data = encoded(colors, "GIF")
    path.write_bytes(data[:-1] + profile + b";")
    assert read_image(path).metadata.icc == SRGB


def test_a_profile_that_no_longer_fits_is_not_written(tmp_path):
    write_image(drawn_image(channels=3, icc=GRAY), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert "icc_profile" not in image.info


def test_blocks_too_long_for_jpeg_are_left_out_and_it_is_said(tmp_path):
    made = drawn_image(exif=exif_block(thumbnail=bytes(70_000)), xmp=b"x" * 70_000)
    notes = write_image(made, tmp_path / "a.jpg")
    assert len(notes) == 2
    assert read_image(tmp_path / "a.jpg").metadata == Metadata()


def test_long_profiles_are_kept(tmp_path):
    profile = SRGB + bytes(200_000)
    for extension in (".jpg", ".png", ".tif", ".webp"):
        write_image(drawn_image(icc=profile), tmp_path / f"a{extension}")
        assert read_image(tmp_path / f"a{extension}").metadata.icc == profile


def shapes(seed):
    """(H, W, 3): some rectangles, so that two of them are unlike."""
    rng = np.random.default_rng(seed)
    image = np.full((120, 160, 3), 128, np.uint8)
    for _ in range(12):
        top, left = rng.integers(0, 100), rng.integers(0, 130)
        image[top : top + 40, left : left + 50] = rng.integers(0, 255, 3)
    return image


@pytest.mark.parametrize("turns", [0, 1, 2])
@pytest.mark.parametrize("bars", [0, 12])
def test_a_thumbnail_of_another_image_is_told(tmp_path, turns, bars):
    for seed, notes in ((1, ()), (2, ("its thumbnail shows another image, and was left out",))):
        small = np.pad(shapes(seed)[::2, ::2], ((bars, bars), (0, 0), (0, 0)))
        thumbnail = encoded(Image.fromarray(np.ascontiguousarray(np.rot90(small, turns))), "JPEG")
        block = exif_block(orientation=1, thumbnail=thumbnail)
        (tmp_path / "a.jpg").write_bytes(encoded(Image.fromarray(shapes(1)), "JPEG", exif=b"Exif\0\0" + block))
        assert read_image(tmp_path / "a.jpg").notes == notes
