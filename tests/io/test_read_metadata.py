"""What travels with the pixels from file to file."""

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.io.image import Metadata, RasterImage
from ddnsr_cli.io.metadata.exif import orientation_of
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
