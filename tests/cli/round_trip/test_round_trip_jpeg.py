"""JPEG of every color space, order and orientation."""

import numpy as np
import pytest
from PIL import Image

from tests.helpers.image_files import UNDO_TURN, cmyk_profile, encoded, exif_block, pillow, smooth, ycck_jpeg
from tests.helpers.round_trip import check

IMAGE = smooth(24, 40)
LOSS = 6  # levels: what JPEG itself changes


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}, {"optimize": True}])
def test_color(enlarged, options, subsampling):
    data = encoded(pillow(IMAGE), "JPEG", quality=97, subsampling=subsampling, **options)
    check(enlarged(data), IMAGE, tolerance=LOSS)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_gray_stays_gray(enlarged, options):
    data = encoded(pillow(IMAGE[..., :1]), "JPEG", quality=97, **options)
    check(enlarged(data), IMAGE[..., :1], tolerance=LOSS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_upright_and_says_so(enlarged, orientation):
    stored = pillow(np.ascontiguousarray(UNDO_TURN[orientation](IMAGE)))
    exif = b"Exif\0\0" + exif_block(orientation=orientation)
    result = enlarged(encoded(stored, "JPEG", quality=97, subsampling="4:4:4", exif=exif), to="out.jpg")
    check(result, IMAGE, tolerance=LOSS)
    assert result.image.getexif()[0x112] == 1


def inks():
    """(H, W, 4): smooth amounts of ink."""
    return np.dstack([IMAGE, IMAGE[..., 0] // 3])


def seen(amounts):
    """What inks look like by rule of thumb."""
    light = 255 - amounts.astype(float)
    return np.rint(light[..., :3] * light[..., 3:] / 255).astype(np.uint8)


RULE_OF_THUMB = "CMYK without a usable profile was converted to RGB by rule of thumb"


def test_cmyk_as_photoshop_stores_it(enlarged):
    image = Image.frombytes("CMYK", (40, 24), inks().tobytes())
    check(enlarged(encoded(image, "JPEG", quality=97)), seen(inks()), note=RULE_OF_THUMB, tolerance=LOSS)


def test_ycck(enlarged):
    check(enlarged(ycck_jpeg(inks())), seen(inks()), note=RULE_OF_THUMB, tolerance=LOSS)


def test_cmyk_without_a_word_of_adobe_is_taken_as_browsers_take_it(enlarged):
    image = Image.frombytes("CMYK", (40, 24), inks().tobytes())
    data = encoded(image, "JPEG", quality=97)
    at = data.index(b"\xff\xee")
    check(enlarged(data[:at] + data[at + 16 :]), seen(inks()), note=RULE_OF_THUMB, tolerance=LOSS)


def test_cmyk_goes_by_its_profile(enlarged):
    image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    result = enlarged(encoded(image, "JPEG", quality=97, icc_profile=cmyk_profile()))
    assert "CMYK was converted to sRGB by its profile" in result.err
    red, green, blue = result.samples[8, 8]
    assert (red > 200, max(green, blue) < 100) == (True, True)  # that profile shows cyan ink as red
    assert "icc_profile" not in result.image.info


def test_what_ends_behind_the_last_pixel_is_read_and_it_is_said(enlarged):
    data = encoded(pillow(IMAGE), "JPEG", quality=97)
    for cut in (1, 2):
        check(enlarged(data[:-cut]), IMAGE, note="its end is missing, but all its pixels are there", tolerance=LOSS)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("missing", [3, 5, 20, 300])
def test_what_ends_before_the_last_pixel_is_refused(enlarged, missing, progressive):
    data = encoded(pillow(smooth(80, 80)), "JPEG", quality=97, progressive=progressive)
    result = enlarged(data[:-missing], "cut.jpg")
    assert (result.code, result.err.count("\n")) == (3, 1)
    assert "cut.jpg is damaged" in result.err


@pytest.mark.parametrize("kind", ["RGB", "L"])
@pytest.mark.parametrize("missing", [5, 11, 20, 50])
def test_pixels_that_are_missing_in_the_last_rows_only_are_refused(enlarged, missing, kind):
    """These are decoded last, by some libraries behind the last look at warnings."""
    image = np.random.default_rng(0).integers(0, 256, (18, 22, 3), np.uint8)
    data = encoded(pillow(image).convert(kind), "JPEG", quality=97, subsampling="4:4:4")
    result = enlarged(data[:-missing], "cut.jpg")
    assert (result.code, result.err.count("\n")) == (3, 1), result.err
    cut = enlarged(data[:-missing] + b"\xff\xd9", "cut.jpg")
    assert (cut.code, "look at the result" in cut.err) == (0, True)


def test_a_progressive_file_that_ends_between_two_rounds_may_be_coarse(enlarged):
    data = encoded(pillow(smooth(80, 80)), "JPEG", quality=97, progressive=True)
    tables = data.rindex(b"\xff\xc4")
    result = enlarged(data[:tables])
    assert (result.code, "but not all their detail" in result.err) == (0, True), result.err


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c", "a JPEG of 12 bits a sample"),
        (b"\xff\xc0", b"\xff\xc3", "a lossless JPEG"),
        (b"\xff\xc0", b"\xff\xf7", "a JPEG-LS image"),
    ],
)
def test_codings_that_nobody_reads_are_called_by_name(enlarged, old, new, said):
    result = enlarged(encoded(pillow(IMAGE), "JPEG").replace(old, new, 1), "odd.jpg")
    assert (result.code, result.err.count("\n")) == (3, 1)
    assert said in result.err


def test_damage_that_decoders_pass_over_is_reported(enlarged):
    data = bytearray(encoded(pillow(smooth(120, 160)), "JPEG", quality=97))
    middle = len(data) * 2 // 3
    data[middle : middle + 40] = bytes(range(1, 41))
    result = enlarged(bytes(data))
    assert result.code == 0
    assert "damaged in places (Corrupt JPEG data" in result.err


def test_what_lies_behind_the_image_is_no_matter(enlarged):
    check(enlarged(encoded(pillow(IMAGE), "JPEG", quality=97) + b"trailer" * 99), IMAGE, tolerance=LOSS)


def test_thousands_of_scans_are_refused_at_once(enlarged):
    data = encoded(pillow(IMAGE), "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    result = enlarged(data[:at] + data[at:-2] * 600 + data[-2:], "scans.jpg")
    assert result.code == 3
    assert "scans.jpg" in result.err
    assert "scans)" in result.err


def test_two_images_in_one_file(enlarged):
    image = pillow(IMAGE)
    data = encoded(image, "MPO", save_all=True, append_images=[image.rotate(180)], quality=97, subsampling=0)
    check(enlarged(data), IMAGE, note="only the first of 2 frames was read", tolerance=LOSS)
