"""Images of other color spaces as sRGB."""

import struct
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms

from ddnsr_cli.io.image import Metadata, RasterImage, to_srgb
from ddnsr_cli.io.write import write_image
from tests.helpers.image_files import SRGB
from tests.helpers.image_files import encoded as encoded_file


def p3_profile():
    image = pyvips.Image.black(4, 4, bands=3).copy(interpretation="srgb")
    return bytes(image.icc_transform("p3", input_profile="srgb").get("icc-profile-data"))


def gray_profile(gamma):
    """A gray profile of one tone curve, made by hand."""
    white = struct.pack(">3i", *(round(value * 65536) for value in (0.9642, 1, 0.8249)))
    tags = {
        b"wtpt": b"XYZ " + bytes(4) + white,
        b"kTRC": b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2),
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"gray\0" + bytes(79),
    }
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">2I", start + len(body), len(data))
        body += data
    head = struct.pack(">I4sI", start + len(body), b"lcms", 0x02100000) + b"mntrGRAYXYZ " + bytes(12) + b"acsp"
    return (head + bytes(28) + white).ljust(128, b"\0") + table + body


def linear(encoded):
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def encoded(light):
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)


P3_TO_SRGB = np.array([[1.22494, -0.22494, 0], [-0.042057, 1.042057, 0], [-0.019638, -0.078636, 1.098274]])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_display_p3_becomes_srgb(kind):
    white = np.iinfo(kind).max
    pixels = np.rint(white * np.random.default_rng(0).uniform(0.2, 0.7, (40, 50, 3))).astype(kind)
    p3 = pixels / white
    expected = encoded((linear(p3) @ P3_TO_SRGB.T).clip(0, 1))
    done = to_srgb(RasterImage(pixels=pixels, metadata=Metadata(icc=p3_profile())))
    assert done.pixels.dtype == kind
    error = 255 * np.abs(done.pixels / white - expected)
    assert error.mean() < 0.35
    assert error.max() < 3  # dark values of saturated colors, where the curve is steep
    assert np.abs(p3 - expected).max() > 0.05


def test_the_result_says_that_it_is_srgb_and_is_left_alone_then():
    done = to_srgb(RasterImage(pixels=np.full((4, 4, 3), 99, np.uint8), metadata=Metadata(icc=p3_profile())))
    assert done.metadata.icc not in (None, p3_profile())
    assert to_srgb(done) is done


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_gray_stays_gray_and_gets_the_tone_curve(kind):
    white = np.iinfo(kind).max
    ramp = np.linspace(0, white, 64).round().astype(kind)[None, :, None]
    done = to_srgb(RasterImage(pixels=ramp, metadata=Metadata(icc=gray_profile(1.8), exif=b"kept")))
    expected = encoded((ramp / white) ** 1.8)
    assert done.pixels.shape == ramp.shape
    assert 255 * np.abs(done.pixels / white - expected).max() < 1.5  # near black, where the curve is steep
    assert done.metadata == Metadata(exif=b"kept")


def test_without_a_profile_nothing_happens():
    image = RasterImage(pixels=np.zeros((2, 2, 3), np.uint8))
    assert to_srgb(image) is image


def as_linear(icc):
    """The same primaries, under the same name, for amounts of light."""
    table = [icc[at : at + 12] for at in range(132, 132 + 12 * int.from_bytes(icc[128:132], "big"), 12)]
    for at in {int.from_bytes(entry[4:8], "big") for entry in table if entry[:4] in (b"rTRC", b"gTRC", b"bTRC")}:
        icc = icc[:at] + b"curv" + bytes(8) + icc[at + 12 :]
    return icc


def test_what_a_profile_does_counts_not_that_it_is_called_srgb():
    linear_icc = as_linear(SRGB)
    assert ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(BytesIO(linear_icc))).startswith("sRGB")
    pixels = np.linspace(20, 255, 60).round().astype(np.uint8).reshape(4, 5, 3)
    done = to_srgb(RasterImage(pixels=pixels, metadata=Metadata(icc=linear_icc)))
    assert np.abs(done.pixels - 255 * encoded(pixels / 255)).max() < 1.5
    of_srgb = RasterImage(pixels=pixels, metadata=Metadata(icc=SRGB))
    assert to_srgb(of_srgb) is of_srgb


def adobe_exif():
    """EXIF as a camera writes it with Adobe RGB."""
    exif = Image.Exif()
    exif[0x13E], exif[0x10F] = (0.313, 0.329), "Camera"
    exif.get_ifd(0x8769).update({0xA001: 65535, 0xA500: 2.2, 0x8827: 100, 0xA005: {1: "R03", 2: "0100"}})
    return exif.tobytes()


ADOBE_XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" photoshop:ColorMode="4"
photoshop:City="Bern" xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:ColorSpace="65535">
<photoshop:ICCProfile>Adobe RGB (1998)</photoshop:ICCProfile></rdf:Description></rdf:RDF></x:xmpmeta>"""


def told_of_color(path):
    """EXIF and XMP of a file: color space, gamma, white, interoperability, ISO; the packet."""
    with Image.open(path) as image:
        exif, xmp = image.getexif(), image.info["xmp"]
        inner, interop = exif.get_ifd(0x8769), exif.get_ifd(0xA005)
    tags = inner.get(0xA001), inner.get(0xA500), exif.get(0x13E), interop.get(1), inner.get(0x8827)
    return tags, xmp


def test_exif_and_xmp_of_converted_colors_say_srgb(tmp_path):
    image = RasterImage(
        pixels=np.full((4, 4, 3), 99, np.uint8),
        metadata=Metadata(icc=p3_profile(), exif=adobe_exif()[6:], xmp=ADOBE_XMP),
    )
    for raster, tags in (
        (image, (65535, 2.2, (0.313, 0.329), "R03", 100)),
        (to_srgb(image), (1, None, None, "R98", 100)),
    ):
        write_image(raster, tmp_path / "a.png")
        told, xmp = told_of_color(tmp_path / "a.png")
        assert told == tags
        assert (b"ColorMode" in xmp, b"ICCProfile" in xmp, b'exif:ColorSpace="1"' in xmp) == (
            (True, True, False) if raster is image else (False, False, True)
        )
        assert b"Bern" in xmp


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_exif_and_xmp_of_inks_say_srgb(read, tmp_path, file_format):
    image = read(encoded_file(Image.new("CMYK", (8, 8)), file_format, exif=adobe_exif()))
    write_image(replace(image, metadata=replace(image.metadata, xmp=ADOBE_XMP)), tmp_path / "a.png")
    (space, *_), xmp = told_of_color(tmp_path / "a.png")
    assert space == 1
    assert b"ColorMode" not in xmp


P3_CHRM = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
SRGB_CHRM = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


@pytest.mark.parametrize(
    "chunks", [{b"cICP": bytes((12, 13, 0, 1))}, {b"gAMA": struct.pack(">I", 45455), b"cHRM": P3_CHRM}]
)
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_colors_that_a_png_tells_without_a_profile_become_srgb(kind, chunks):
    white = np.iinfo(kind).max
    pixels = np.rint(white * np.random.default_rng(0).uniform(0.2, 0.7, (40, 50, 3))).astype(kind)
    expected = encoded((linear(pixels / white) @ P3_TO_SRGB.T).clip(0, 1))
    done = to_srgb(RasterImage(pixels=pixels, metadata=Metadata(png_color=tuple(chunks.items()))))
    error = 255 * np.abs(done.pixels / white - expected)
    assert error.mean() < 0.35
    assert error.max() < 3
    assert (done.metadata.png_color, done.notes) == ((), ())
    assert to_srgb(done) is done


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("chunk", "power"), [((b"gAMA", struct.pack(">I", 100_000)), 1), ((b"cICP", bytes((1, 4, 0, 1))), 2.2)]
)
def test_a_tone_curve_that_a_png_tells_is_applied(channels, chunk, power):
    ramp = np.linspace(20, 255, 48).round().astype(np.uint8)[None, :, None].repeat(channels, axis=2)
    done = to_srgb(RasterImage(pixels=ramp, metadata=Metadata(png_color=(chunk,))))
    assert done.pixels.shape == ramp.shape
    assert np.abs(done.pixels - 255 * encoded((ramp / 255) ** power)).max() < 1.5
    assert (done.metadata.icc is None) == (channels == 1)


@pytest.mark.parametrize(
    "chunks",
    [
        {b"gAMA": struct.pack(">I", 45455), b"cHRM": SRGB_CHRM},
        {b"sRGB": b"\1", b"gAMA": struct.pack(">I", 100_000)},
        {b"cICP": bytes((1, 13, 0, 1)), b"gAMA": struct.pack(">I", 100_000)},
    ],
)
def test_a_png_that_tells_srgb_stays_as_it_is(chunks):
    image = RasterImage(pixels=np.full((2, 2, 3), 77, np.uint8), metadata=Metadata(png_color=tuple(chunks.items())))
    assert to_srgb(image) is image


@pytest.mark.parametrize(
    "chunk",
    [
        (b"cICP", bytes((9, 16, 0, 1))),
        (b"cICP", bytes((12, 13, 0, 0))),
        (b"cICP", bytes((3, 13, 0, 1))),
        (b"cHRM", bytes(32)),
        (b"gAMA", bytes(4)),
    ],
)
def test_colors_that_cannot_be_converted_are_reported_and_stay(chunk):
    image = RasterImage(pixels=np.full((2, 2, 3), 77, np.uint8), metadata=Metadata(png_color=(chunk,)))
    done = to_srgb(image)
    assert np.array_equal(done.pixels, image.pixels)
    assert done.metadata == image.metadata
    assert done.notes == (f"its colors are told by {chunk[0].decode()} and were not converted",)


def test_a_damaged_profile_is_reported_and_the_colors_stay():
    icc = p3_profile()[:200] + bytes(300)
    image = RasterImage(pixels=np.full((2, 2, 3), 77, np.uint8), metadata=Metadata(icc=icc))
    done = to_srgb(image)
    assert np.array_equal(done.pixels, image.pixels)
    assert done.metadata.icc == icc
    assert "profile" in done.notes[0]


def table(levels):
    """An 8-bit table from RGB to Lab: gray of lightness levels[0] for black to levels[1] for white."""
    head = b"mft1\0\0\0\0" + bytes((3, 3, 2, 0))
    head += struct.pack(">9i", *(65536 if index % 4 == 0 else 0 for index in range(9)))
    corners = (bin(index).count("1") / 3 for index in range(8))
    lightness = [round(2.55 * (levels[0] + (levels[1] - levels[0]) * share)) for share in corners]
    return (
        head + bytes(range(256)) * 3 + b"".join(bytes((level, 128, 128)) for level in lightness) + bytes(range(256)) * 3
    )


def scanner_profile():
    """Every intent of it gives something else: black is a dark gray, white is yellowish, perceptually all is gray."""
    white = b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in (0.9, 0.95, 0.4)))
    tags = {b"wtpt": white, b"A2B0": table((50, 50)), b"A2B1": table((20, 100))}
    listed, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        listed += name + struct.pack(">2I", start + len(body), len(data))
        body += data
    head = struct.pack(">I4sI", start + len(body), b"lcms", 0x02400000) + b"scnrRGB Lab " + bytes(12) + b"acsp"
    pcs_white = struct.pack(">3i", *(round(value * 65536) for value in (0.9642, 1, 0.8249)))
    return (head + bytes(28) + pcs_white).ljust(128, b"\0") + listed + body


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_the_intent_is_relative_colorimetric_with_black_point_compensation(kind):
    white = np.iinfo(kind).max
    ramp = np.linspace(0, white, 33).round().astype(kind)[None, :, None].repeat(3, axis=2)
    done = to_srgb(RasterImage(pixels=ramp, metadata=Metadata(icc=scanner_profile())))
    lightness = 20 + 80 * (ramp / white)
    light = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    darkest = light.min()  # becomes black, and what is lighter moves along
    expected = encoded((light - darkest) / (1 - darkest))
    assert 255 * np.abs(done.pixels / white - expected).max() < 2.5
