import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms

from tests.helpers.image_files import (
    GRAY,
    SRGB,
    cmyk_profile,
    encoded,
    pillow,
    smooth,
    vips_image,
)


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk_goes_through_its_profile(read, file_format):
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    image = read(encoded(cyan, file_format, icc_profile=cmyk_profile()))
    red, green, blue = image.pixels[8, 8].astype(int)
    assert red > green + 100
    assert red > blue + 100
    assert image.metadata.icc is None
    assert image.notes == ("CMYK was converted to sRGB by its profile",)


@pytest.mark.parametrize("profile", [None, b"junk", SRGB, cmyk_profile()[:300]])
def test_cmyk_without_a_good_profile_is_converted_by_rule_of_thumb(read, profile):
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    image = read(encoded(cyan, "TIFF", **({"icc_profile": profile} if profile else {})))
    np.testing.assert_array_equal(image.pixels[8, 8], [0, 255, 255])
    assert image.metadata.icc is None
    assert "rule of thumb" in image.notes[0]


def deep_cyan(profile):
    samples = np.zeros((8, 8, 4), np.uint16)
    samples[..., 0] = 65535
    image = vips_image(samples, "cmyk").copy()
    if profile:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return image.tiffsave_buffer(keep="icc")


@pytest.mark.parametrize("profile", [None, SRGB, cmyk_profile()[:300]])
def test_16_bit_cmyk_without_a_good_profile_keeps_its_depth_by_rule_of_thumb(read, profile):
    image = read(deep_cyan(profile))
    np.testing.assert_array_equal(image.pixels[4, 4], [0, 65535, 65535])
    assert "rule of thumb" in image.notes[0]


def test_16_bit_cmyk_goes_by_its_profile(read):
    image = read(deep_cyan(cmyk_profile()))
    assert image.depth_bits == 16
    red, green, blue = (int(value) for value in image.pixels[4, 4])
    assert red > 50_000  # that profile shows cyan ink as red
    assert max(green, blue) < 25_000
    assert image.notes == ("CMYK was converted to sRGB by its profile",)
    assert image.metadata.icc is None


@pytest.mark.parametrize("mode", ["LAB", "YCbCr"])
def test_other_color_spaces_become_rgb(read, mode):
    image = pillow(smooth(32, 32))
    if mode == "LAB":
        spaces = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
        image = ImageCms.profileToProfile(image, *spaces, outputMode="LAB")
    else:
        image = image.convert("YCbCr")
    raster = read(encoded(image, "TIFF", compression="jpeg" if mode == "YCbCr" else "raw"))
    assert np.abs(raster.pixels.astype(int) - smooth(32, 32)).mean() < 4


@pytest.mark.parametrize("bits", [8, 16])
def test_multiplied_alpha_is_divided_out(read, bits):
    white = (1 << bits) - 1
    dtype = np.uint8 if bits == 8 else np.uint16
    samples = np.full((4, 4, 4), (white // 2, white // 4, 0, white // 2), dtype)
    samples[0] = 0
    data = vips_image(samples, "srgb" if bits == 8 else "rgb16").tiffsave_buffer(compression="none")
    extra = data.index(b"\x52\x01\x03\0")  # ExtraSamples, little-endian
    assert data[extra + 8] == 2
    image = read(data[: extra + 8] + b"\1" + data[extra + 9 :])
    np.testing.assert_array_equal(image.alpha, samples[..., 3])
    assert np.abs(image.pixels[1:] / white - [1, 0.5, 0]).max() < 0.01


def test_profiles_are_kept_byte_for_byte_if_they_fit(read):
    assert read(encoded(pillow(smooth(8, 8)), "PNG", icc_profile=SRGB)).metadata.icc == SRGB
    assert read(encoded(Image.new("L", (8, 8)), "PNG", icc_profile=GRAY)).metadata.icc == GRAY


@pytest.mark.parametrize("profile", [GRAY, cmyk_profile(), b"junk" * 50])
def test_profiles_that_do_not_fit_are_left_out_and_it_is_said(read, profile):
    image = read(encoded(pillow(smooth(8, 8)), "JPEG", icc_profile=profile))
    assert image.metadata.icc is None
    assert image.notes == ("its color profile does not fit its pixels and was left out",)
