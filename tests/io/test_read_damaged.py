import os
import random
import struct
import sys

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.errors import ImageReadError
from ddnsr_cli.io.image import RasterImage
from ddnsr_cli.io.read import read_image
from tests.helpers.image_files import FORMATS, deep_png, encoded, exif_block, noise, pillow, png, smooth, vips_image


def front_tiff(samples):
    """A 16-bit TIFF with its directory in front, so that one cut short still has it."""
    strips = samples.astype("<u2").tobytes()
    fields = [(256, samples.shape[1]), (257, samples.shape[0]), (258, 16), (259, 1), (262, 1), (273, 134), (277, 1)]
    fields += [(278, samples.shape[0]), (279, len(strips)), (339, 1)]
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields)
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + table + bytes(4) + strips


def files():
    """A file of every kind, with metadata."""
    image = pillow(smooth(40, 48))
    made = {name: encoded(image, name, **({"exif": exif_block()} if name == "JPEG" else {})) for name in FORMATS}
    deep = noise(40, 48, 3, np.uint16)
    made["PNG 16"] = deep_png(deep, [(b"eXIf", exif_block()), (b"tEXt", b"Title\0x")])
    made["TIFF 16"] = vips_image(deep, "rgb16").tiffsave_buffer(compression="lzw")
    made["TIFF LZW"] = encoded(image, "TIFF", compression="tiff_lzw")
    made["AVIF 10"] = vips_image(deep, "rgb16").heifsave_buffer(compression="av1", bitdepth=10)
    made["TIFF front"] = front_tiff(deep[..., :1])
    made["PPM"] = encoded(image, "PPM")
    made["PPM 16"] = b"P6 48 40 65535\n" + deep.astype(">u2").tobytes()
    return made


FILES = files()


def read_or_error(path, data):
    """None for an image, else the message. Anything but ImageReadError goes on and fails the test."""
    path.write_bytes(data)
    try:
        assert isinstance(read_image(path, max_pixels=1 << 22), RasterImage)
    except ImageReadError as error:
        return str(error)
    return None


def check_message(message, path):
    assert str(path) in message
    assert "\n" not in message
    assert message.endswith(".")


@pytest.mark.parametrize("kind", FILES)
def test_whole_files_are_read_in_silence(tmp_path, capfd, kind):
    assert read_or_error(tmp_path / "image", FILES[kind]) is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_files_cut_short_are_named(tmp_path, capfd, kind, share):
    path, data = tmp_path / "image", FILES[kind]
    message = read_or_error(path, data[: int(len(data) * share)])
    assert message is not None
    check_message(message, path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", FILES)
def test_flipped_bytes_give_an_image_or_a_message_and_no_noise(tmp_path, capfd, kind):
    path, chance = tmp_path / "image", random.Random(kind)
    for _ in range(25):
        data = bytearray(FILES[kind])
        for _ in range(chance.choice((1, 3, 10))):
            near = chance.choice((len(data), min(len(data), 200)))  # headers matter most
            data[chance.randrange(near)] = chance.randrange(256)
        message = read_or_error(path, bytes(data))
        if message is not None:
            check_message(message, path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", FILES)
def test_a_header_with_zeros_behind_it_is_no_crash(tmp_path, capfd, kind):
    path, data = tmp_path / "image", FILES[kind]
    read_or_error(path, data[:60] + bytes(len(data) - 60))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"hello, this is no image at all", r"fake\.png is not an image we can read\. Save it as one of: PNG"),
        (b"<?xml version='1.0'?><!--" + b" " * 500 + b"--><svg", "is an SVG drawing, which cannot be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9", "is a PostScript document, which cannot be read"),
        (b"\n\r\n \n%!PS-Adobe-3.0 EPSF-3.0\n", "is a PostScript document, which cannot be read"),
        (b"\xef\xbb\xbf%!\n/x 1 def", "is a PostScript document, which cannot be read"),
        (b"\x1b%-12345X@PJL\n%!PS-Adobe-3.0\n", "is a PostScript document, which cannot be read"),
    ],
)
def test_what_is_no_image_is_refused_whatever_its_name(tmp_path, data, words):
    path = tmp_path / "fake.png"
    path.write_bytes(data)
    with pytest.raises(ImageReadError, match=words):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.onnx", b"\x08\x07\x12\x07pytorch"),
        ("x.pth", b"PK\3\4"),
        ("x.PARAM", b"7767517\n"),
        ("x.pt2", b"PK\3\4"),
    ],
)
def test_the_file_of_a_model_is_named_as_one(tmp_path, name, data):
    (tmp_path / name).write_bytes(data + bytes(50))
    with pytest.raises(ImageReadError, match=rf"{name} is the file of a model, not an image\."):
        read_image(tmp_path / name)


def test_a_wrong_extension_does_no_harm(tmp_path):
    path = tmp_path / "really_a_jpeg.png"
    path.write_bytes(FILES["JPEG"])
    assert read_image(path).width == 48


def test_heic_is_called_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "phone.jpg"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    with pytest.raises(ImageReadError, match="HEIC"):
        read_image(path)


def test_an_empty_file_is_named(tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageReadError, match=r"empty\.png is empty"):
        read_image(tmp_path / "empty.png")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ImageReadError, match=r"missing\.png does not exist"):
        read_image(tmp_path / "missing.png")


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(ImageReadError, match="is a folder"):
        read_image(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageReadError, match="not a regular file"):
        read_image(tmp_path / "pipe.png")


def test_a_file_without_permission_is_named(tmp_path, monkeypatch):
    path = tmp_path / "secret.png"
    path.write_bytes(FILES["PNG"])
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read everything
        monkeypatch.setattr(
            type(path), "open", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
        )
    with pytest.raises(ImageReadError, match=r"secret\.png could not be opened \(Permission denied\)"):
        read_image(path)


def test_a_name_with_a_line_break_stays_on_one_line(tmp_path):
    path = tmp_path / "two\nlines.png"
    path.write_bytes(b"no image")
    with pytest.raises(ImageReadError, match=r"two\?lines"):
        read_image(path)


def test_names_that_are_not_text_can_be_read(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9[1].png")
    path.write_bytes(FILES["PNG 16"])
    assert read_image(path).depth_bits == 16
    path.write_bytes(FILES["PNG 16"][:900])
    with pytest.raises(ImageReadError) as caught:
        read_image(path)
    assert str(caught.value).encode()  # no surrogates that a terminal could not show


@pytest.mark.parametrize(
    "data",
    [
        png(60_000, 60_000, bits=1, color_type=0, rows=[b""]),
        b"P6 50000 50000 255\n",
        vips_image(noise(10, 10, 3, np.uint16), "rgb16").tiffsave_buffer(compression="none"),
    ],
)
def test_bombs_are_refused_by_their_header(tmp_path, data):
    path = tmp_path / "bomb"
    path.write_bytes(data)
    with pytest.raises(ImageReadError, match=r"raise the limit: --max-pixels"):
        read_image(path, max_pixels=99)


@pytest.mark.parametrize("kind", FILES)
def test_the_limit_is_exact(tmp_path, kind):
    path = tmp_path / "image"
    path.write_bytes(FILES[kind])
    assert read_image(path, max_pixels=40 * 48).width in {40, 48}  # two are turned
    with pytest.raises(ImageReadError):
        read_image(path, max_pixels=40 * 48 - 1)


def test_pillows_own_limit_is_as_it_was_afterwards(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    read_or_error(tmp_path / "image", FILES["PNG"])
    read_or_error(tmp_path / "image", FILES["PNG"][:300])
    assert before == Image.MAX_IMAGE_PIXELS


def test_limits_above_pillows_own_are_possible(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # above twice this many Pillow refuses by itself
    assert read_or_error(tmp_path / "image", FILES["PNG"]) is None


def test_camera_raw_is_refused(tmp_path):
    path = tmp_path / "raw.tif"
    for tag, value in ((254, 1), (262, 32803), (50706, 1)):  # thumbnail first, sensor data, DNG
        path.write_bytes(encoded(pillow(smooth(8, 8)), "TIFF", tiffinfo={tag: value} if tag != 262 else {}))
        data = path.read_bytes()
        if tag == 262:
            at = data.index(b"\x06\x01\x03\0\1\0\0\0")
            path.write_bytes(data[: at + 8] + b"\x23\x80" + data[at + 10 :])
        with pytest.raises(ImageReadError, match="camera raw"):
            read_image(path)


def test_damaged_exif_is_left_out_and_it_is_said(tmp_path):
    path = tmp_path / "image.png"
    image = pillow(smooth(8, 8))
    path.write_bytes(encoded(image, "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"))
    raster = read_image(path)
    assert raster.metadata.exif is None
    assert raster.notes == ("its EXIF data are damaged and were left out",)


PLACES = np.array([[0, 1, 2, 3]] * 4, np.uint8)
COLORS = bytes((10, 20, 30, 200, 100, 50))


def short_palette(file_format, places=PLACES, **options):
    """A file of places 0 to 3 whose palette has two colors."""
    bgr = COLORS[2::-1], COLORS[:2:-1]
    if file_format == "PNG":
        return png(4, 4, bits=8, color_type=3, rows=[row.tobytes() for row in PLACES], chunks=[(b"PLTE", COLORS)])
    if file_format == "BMP":
        head = struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, 8, 0, 0, 0, 0, 2, 0)
        body = b"".join(color + b"\0" for color in bgr) + PLACES[::-1].tobytes()
        return b"BM" + struct.pack("<IHHI", 54 + len(body), 0, 0, 62) + head + body
    if file_format == "TGA":
        return struct.pack("<BBBHHBHHHHBB", 0, 1, 1, 0, 2, 24, 0, 0, 4, 4, 8, 0x20) + b"".join(bgr) + PLACES.tobytes()
    image = Image.fromarray(places)
    image.putpalette(COLORS * 2)
    data = bytearray(encoded(image, "GIF", **options))
    del data[13 + len(COLORS) : 13 + 2 * len(COLORS)]
    data[10] &= ~7
    return bytes(data)


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TGA", "GIF"])
def test_places_beyond_the_palette_are_told(tmp_path, file_format):
    path = tmp_path / f"a.{file_format.lower()}"
    path.write_bytes(short_palette(file_format))
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels[0], [[10, 20, 30], [200, 100, 50], [0, 0, 0], [0, 0, 0]])
    assert image.damage == image.notes[0] == "some of its pixels are places beyond its palette and became black"


def test_a_clear_place_beyond_the_palette_of_a_gif_is_no_damage(read):
    image = read(short_palette("GIF", np.minimum(PLACES, 2), transparency=2))
    assert (image.alpha[0].tolist(), image.damage) == ([255, 255, 0, 0], "")
