"""Images that come in rows, written as images that are whole."""

from dataclasses import replace
from functools import partial
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.errors import ImageWriteError
from ddnsr_cli.io.codecs.encoders import save_jpeg, save_png
from ddnsr_cli.io.image import COMMENT, ImageRows, Metadata, RasterImage, bands_of
from ddnsr_cli.io.write import WriteOptions, takes_rows, write_image
from tests.helpers.image_files import SRGB, noise, smooth

METADATA = Metadata(icc=SRGB, dpi=(300.0, 150.0), xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>", text={COMMENT: "ei"})


def in_rows(image, heights):
    """The same image in bands of these heights by turns."""
    return ImageRows(
        width=image.width,
        height=image.height,
        channels=image.channels,
        depth_bits=image.depth_bits,
        bands=cut(image.pixels, heights),
        metadata=image.metadata,
    )


def cut(pixels, heights):
    top, turn = 0, 0
    while top < len(pixels):
        yield pixels[top : top + heights[turn % len(heights)]]
        top, turn = top + heights[turn % len(heights)], turn + 1


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [(".png", np.uint8), (".png", np.uint16), (".tif", np.uint8), (".tif", np.uint16), (".jpg", np.uint8)],
)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "heights"), [(100, (7, 40)), (1, (1,)), (33, (500,))])
def test_rows_give_the_file_of_the_whole_image(tmp_path, suffix, kind, channels, height, heights):
    image = RasterImage(pixels=noise(height, 41, channels, kind), metadata=METADATA)
    whole, rows = tmp_path / f"whole{suffix}", tmp_path / f"rows{suffix}"
    lost = write_image(image, whole)
    assert write_image(in_rows(image, heights), rows) == lost
    assert rows.read_bytes() == whole.read_bytes()


def test_bands_are_cut_anew():
    pixels = noise(50, 4, 3)
    image = RasterImage(pixels=pixels)
    for heights in [(1,), (16,), (3, 30), (50,)]:
        bands = list(bands_of(in_rows(image, heights), 16))
        assert [len(band) for band in bands] == [16, 16, 16, 2]
        assert np.array_equal(np.concatenate(bands), pixels)


@pytest.mark.parametrize(
    ("suffix", "takes"), [("png", True), ("tif", True), ("jpg", True), ("webp", False), ("avif", False), ("bmp", False)]
)
def test_formats_from_top_to_bottom_take_rows(tmp_path, suffix, takes):
    assert takes_rows(tmp_path / f"a.{suffix}") is takes


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_an_error_in_the_making_of_rows_leaves_no_file(tmp_path, suffix):
    def bands():
        yield noise(20, 30, 3)
        raise LookupError("no more")

    rows = replace(in_rows(RasterImage(pixels=noise(60, 30, 3)), (1,)), bands=bands())
    with pytest.raises(LookupError, match="no more"):
        write_image(rows, tmp_path / f"a{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("save", [partial(save_png, level=0), partial(save_jpeg, quality=90)])
def test_nothing_is_made_up_for_rows_that_an_error_ended(save):
    def bands():
        yield noise(16, 30, 3)
        raise LookupError("no more")

    rows, file = replace(in_rows(RasterImage(pixels=noise(60, 30, 3)), (1,)), height=20_000, bands=bands()), BytesIO()
    with pytest.raises(LookupError, match="no more"):
        save(rows, file)
    assert file.tell() < 5_000  # black rows instead are 12 kB as a JPEG and 1.8 MB as such a PNG


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_rows_that_stop_too_early_are_no_image(tmp_path, suffix):
    rows = replace(in_rows(RasterImage(pixels=noise(60, 30, 3)), (1,)), bands=cut(noise(40, 30, 3), (8,)))
    with pytest.raises(ImageWriteError, match="40 instead of 60"):
        write_image(rows, tmp_path / f"a{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("quality", [1, 60, 95, 100])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_has_the_pixels_that_pillow_would_give_it(tmp_path, quality, channels):
    pixels = np.ascontiguousarray(smooth(70, 90)[..., :channels])
    write_image(RasterImage(pixels=pixels), tmp_path / "a.jpg", WriteOptions(quality=quality))
    theirs = BytesIO()
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(
        theirs, "JPEG", quality=quality, subsampling="4:4:4"
    )
    with Image.open(tmp_path / "a.jpg") as ours, Image.open(theirs) as other:
        assert np.array_equal(np.asarray(ours), np.asarray(other))


def test_a_long_profile_is_cut_into_segments(tmp_path):
    profile = SRGB + bytes(150_000)
    write_image(RasterImage(pixels=smooth(20, 20), metadata=Metadata(icc=profile)), tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.info["icc_profile"] == profile


def test_a_jpeg_of_less_than_a_dot_an_inch_says_one(tmp_path):
    image = RasterImage(pixels=np.zeros((8, 8, 3), np.uint8), metadata=Metadata(dpi=(0.4, 0.4)))
    write_image(image, tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as written:
        assert written.info["dpi"] == (1, 1)
