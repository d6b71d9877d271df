from dataclasses import replace

import numpy as np
import pytest
import pyvips
from PIL import Image, PngImagePlugin

from ddnsr_cli.io.image import Metadata, RasterImage
from ddnsr_cli.io.metadata.exif import orientation_of
from ddnsr_cli.io.read import read_image
from ddnsr_cli.io.write import write_image
from tests.helpers.image_files import UNDO_TURN, deep_png, encoded, exif_block, pillow, smooth, vips_image

UPRIGHT = smooth(24, 40)
LOSSY = {"JPEG": {"quality": 95}, "WEBP": {"quality": 95}, "AVIF": {"quality": 95}}


def stored(orientation):
    return np.ascontiguousarray(UNDO_TURN[orientation](UPRIGHT))


def check(path):
    image = read_image(path)
    assert (image.width, image.height) == (40, 24)
    assert np.abs(image.pixels * (255 / np.iinfo(image.pixels.dtype).max) - UPRIGHT).mean() < 2
    assert orientation_of(image.metadata.exif, image.metadata.xmp) == 1


@pytest.mark.parametrize("orientation", UNDO_TURN)
@pytest.mark.parametrize("file_format", [*LOSSY, "PNG"])
def test_exif_orientation_is_applied_once(tmp_path, file_format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "image"
    options = LOSSY.get(file_format, {})
    path.write_bytes(encoded(pillow(stored(orientation)), file_format, exif=exif.tobytes(), **options))
    check(path)


@pytest.mark.parametrize("orientation", UNDO_TURN)
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg"])
def test_tiff_orientation_is_applied_once(tmp_path, compression, orientation):
    path = tmp_path / "image"
    image = pillow(stored(orientation))
    path.write_bytes(encoded(image, "TIFF", compression=compression, tiffinfo={274: orientation}))
    check(path)


@pytest.mark.parametrize("orientation", UNDO_TURN)
def test_orientation_of_deep_files_is_applied_once(tmp_path, orientation):
    deep = stored(orientation).astype(np.uint16) * 257
    image = vips_image(deep, "rgb16").copy()
    image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    block = exif_block(orientation=orientation)
    for data in (image.tiffsave_buffer(), deep_png(deep, [(b"eXIf", block)])):
        path = tmp_path / "image"
        path.write_bytes(data)
        check(path)


@pytest.mark.parametrize("quote", ['tiff:Orientation="8"', "<tiff:Orientation>8</tiff:Orientation>"])
def test_xmp_orientation_counts_where_exif_tells_none(tmp_path, quote):
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", f"<x:xmpmeta {quote}/>")
    path = tmp_path / "image"
    path.write_bytes(encoded(pillow(stored(8)), "PNG", pnginfo=info))
    check(path)


@pytest.mark.parametrize("deep", [False, True])
def test_xmp_orientation_of_a_tiff_is_applied_once(tmp_path, deep):
    path, samples = tmp_path / "a.tif", stored(8)
    made = RasterImage(pixels=samples.astype(np.uint16) * 257 if deep else samples)
    write_image(replace(made, metadata=Metadata(xmp=b'<x tiff:Orientation="1"/>')), path)
    data = path.read_bytes().replace(b'Orientation="1"', b'Orientation="8"')
    at = data.index(b"\x12\x01\x03\0\1\0\0\0\1")  # the TIFF tag itself: take it out by calling it something else
    path.write_bytes(data[:at] + b"\x13\x01" + data[at + 2 :])
    check(path)


def test_exif_goes_before_xmp():
    assert orientation_of(exif_block(orientation=3), b'tiff:Orientation="8"') == 3
    assert orientation_of(exif_block(orientation=99), b'tiff:Orientation="8"') == 8
    assert orientation_of(b"junk", None) == 1
